//! `rr status`: what is here, what waits, and when other devices were last met.

use rustory_store::{PeerState, Store, spool_dir};
use serde_json::{Value, json};

use crate::ctx::Ctx;
use crate::drain;
use crate::error::CommandError;
use crate::ui::Output;
use crate::when;

/// What is here, what waits, and when other devices were last met
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// What status knows, read without changing anything.
struct Status {
    device_id: String,
    log_id: String,
    entries: u64,
    bytes: u64,
    head: u64,
    conflicts: u64,
    pending_bytes: u64,
    pending: usize,
    damaged_bytes: u64,
    peers: Vec<PeerState>,
}

impl Status {
    fn read(ctx: &Ctx, store: &Store) -> Result<Status, CommandError> {
        let spool = ctx.spool_dir();
        let damaged = std::fs::metadata(spool.join(spool_dir::DAMAGED));
        Ok(Status {
            device_id: store.identity().device_id.clone(),
            log_id: store.identity().log_id.to_string(),
            entries: store.count()?,
            bytes: store.bytes()?,
            head: store.head()?.get(),
            conflicts: store.conflicts()?,
            pending_bytes: spool_dir::pending_bytes(store, &spool)?,
            pending: drain::peek(ctx, store)?.len(),
            damaged_bytes: damaged.map_or(0, |meta| meta.len()),
            peers: store.peers()?,
        })
    }

    fn json(&self, ctx: &Ctx) -> Value {
        let settings = &ctx.settings;
        let peers: Vec<Value> = self.peers.iter().map(|peer| self.peer_json(peer)).collect();
        json!({
            "device": {"device_id": self.device_id, "name": settings.device_name},
            "user_id": settings.user_id,
            "db": {
                "path": settings.db_path.display().to_string(),
                "entries": self.entries,
                "bytes": self.bytes,
                "log_id": self.log_id,
                "head": self.head,
                "conflicts": self.conflicts,
            },
            "spool": {
                "pending": self.pending,
                "pending_bytes": self.pending_bytes,
                "damaged_bytes": self.damaged_bytes,
            },
            "daemon": {"running": false, "pid": null},
            "peers": peers,
            "hubs": [],
            "problems": settings.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    fn peer_json(&self, peer: &PeerState) -> Value {
        json!({
            "device_id": peer.device_id,
            "name": null,
            "peer_id": null,
            "last_seen": peer.last_seen.map(|at| at.to_string()),
            "last_sync": peer.last_sync.map(|at| at.to_string()),
            "behind": {"ours": self.head.saturating_sub(peer.pushed.get()), "theirs": null},
            "path": "http",
            "identical": null,
            "error": null,
        })
    }

    fn print(&self, ctx: &Ctx, out: &mut Output) -> Result<(), CommandError> {
        let settings = &ctx.settings;
        out.line(format_args!(
            "device    {}  {}",
            settings.device_name, self.device_id
        ))?;
        out.line(format_args!("user      {}", settings.user_id))?;
        out.line(format_args!(
            "database  {}  {} entries, {:.1} MB",
            settings.db_path.display(),
            self.entries,
            self.bytes as f64 / 1e6
        ))?;
        if self.conflicts > 0 {
            out.line(format_args!(
                "          {} times two entries claimed one id",
                self.conflicts
            ))?;
        }
        out.line(format_args!("spool     {}", self.spool_line()))?;
        if self.damaged_bytes > 0 {
            out.line(format_args!(
                "          {} unreadable bytes set aside in {}",
                self.damaged_bytes,
                ctx.spool_dir().join(spool_dir::DAMAGED).display()
            ))?;
        }
        let zone = jiff::tz::TimeZone::system();
        for peer in &self.peers {
            out.line(format_args!(
                "peer      {}  last sync {}, {} of ours not sent yet",
                peer.device_id.as_deref().unwrap_or(&peer.peer),
                peer.last_sync
                    .map_or_else(|| "never".to_owned(), |at| when::local(at, &zone)),
                self.head.saturating_sub(peer.pushed.get()),
            ))?;
        }
        Ok(())
    }

    fn spool_line(&self) -> String {
        match (self.pending, self.pending_bytes) {
            (0, 0) => "empty".to_owned(),
            (0, _) => "a command runs".to_owned(),
            (1, _) => "1 command waits; the next search takes it in".to_owned(),
            (n, _) => format!("{n} commands wait; the next search takes them in"),
        }
    }
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    if !ctx.settings.db_path.exists() {
        return Err(CommandError::failed(format!(
            "there is no history database at `{}` yet",
            ctx.settings.db_path.display()
        ))
        .hint("`rr setup` makes it"));
    }
    let status = Status::read(ctx, &ctx.open_for_search()?)?;
    let mut out = Output::new();
    if args.json {
        out.line(status.json(ctx))?;
    } else {
        status.print(ctx, &mut out)?;
    }
    out.finish()
}
