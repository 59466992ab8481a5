//! `rr status`: what is here, what waits, and how this device stands with the others. It reads and
//! changes nothing, and asks nobody who could make it wait.

use rustory_core::sync::Summary;
use rustory_core::{Tally, Timestamp};
use rustory_store::{PeerState, Store, spool_dir};
use serde_json::{Value, json};

use crate::ctx::{Ctx, now};
use crate::daemon;
use crate::drain;
use crate::error::CommandError;
use crate::text::{Breaks, visible};
use crate::ui::{Output, grouped};
use crate::when;

/// What is here, what waits, and how this device stands with the others
#[derive(Debug, clap::Args)]
#[command(
    long_about = "What is here, what waits, and how this device stands with the others: a line for each device, with when it \
                  was last met, by which way, and whether both are proven to hold the same.\n\n\
                  `identical` means that the counts and digests of both were compared and are equal, and that nothing was \
                  added here since.",
    after_help = "Examples:\n  \
        rr status\n  \
        rr status --check || echo 'something needs a look'"
)]
pub(crate) struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
    /// Exit with 1 when a device is not identical or could not be reached, or something is wrong here
    #[arg(long)]
    check: bool,
}

/// What status knows.
struct Status {
    device_id: String,
    log_id: String,
    tally: Tally,
    bytes: u64,
    head: u64,
    conflicts: u64,
    pending_bytes: u64,
    pending: usize,
    damaged_bytes: u64,
    daemon: Option<u32>,
    network: Option<daemon::State>,
    peers: Vec<Peer>,
    at: Timestamp,
}

/// One other device.
struct Peer {
    state: PeerState,
    /// What the daemon says of it: its id in the network, and how it stands now.
    network: Option<(String, daemon::PeerState)>,
    /// So many of ours it lacks at most.
    behind_ours: Option<u64>,
    identical: Option<bool>,
}

impl Status {
    fn read(ctx: &Ctx, store: &Store) -> Result<Status, CommandError> {
        let spool = ctx.spool_dir();
        let damaged = std::fs::metadata(spool.join(spool_dir::DAMAGED));
        let summary = store.summary()?;
        let daemon = daemon::running(ctx.settings.data_dir());
        let network = daemon.and_then(|_| daemon::State::read(ctx.settings.data_dir()));
        let peers = store.peers()?.into_iter();
        let tally = summary.tally();
        Ok(Status {
            device_id: store.identity().device_id.clone(),
            log_id: store.identity().log_id.to_string(),
            tally,
            bytes: store.bytes()?,
            head: store.head()?.get(),
            conflicts: store.conflicts()?,
            pending_bytes: spool_dir::pending_bytes(store, &spool)?,
            pending: drain::peek(ctx, store)?.len(),
            damaged_bytes: damaged.map_or(0, |meta| meta.len()),
            peers: peers
                .map(|state| Peer::new(state, &summary, network.as_ref()))
                .collect(),
            daemon,
            network,
            at: now(),
        })
    }

    /// What `--check` looks at.
    fn is_well(&self) -> bool {
        let network_is_well = self.network.as_ref().is_none_or(|network| {
            network.problem.is_none() && network.hubs.iter().all(|hub| hub.error.is_none())
        });
        self.conflicts == 0
            && self.damaged_bytes == 0
            && network_is_well
            && self
                .peers
                .iter()
                .all(|peer| peer.identical == Some(true) && peer.error().is_none())
    }

    fn json(&self, ctx: &Ctx) -> Value {
        let settings = &ctx.settings;
        let network = self.network.as_ref();
        let hubs = network.map_or(&[][..], |network| &network.hubs);
        json!({
            "device": {
                "device_id": self.device_id,
                "name": settings.device_name,
                "peer_id": network.map(|network| &network.peer_id),
            },
            "user_id": settings.user_id,
            "db": {
                "path": settings.db_path.display().to_string(),
                "entries": self.tally.count,
                "digest": self.tally.digest.to_string(),
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
            "daemon": {
                "running": self.daemon.is_some(),
                "pid": self.daemon,
                "problem": network.and_then(|network| network.problem.as_ref()),
            },
            "peers": self.peers.iter().map(Peer::json).collect::<Vec<_>>(),
            "hubs": hubs.iter().map(|hub| json!({
                "addr": hub.addr,
                "tracker": hub.tracker,
                "relay": hub.relay,
                "error": hub.error,
            })).collect::<Vec<_>>(),
            "problems": settings.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
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
            grouped(self.tally.count),
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
        self.print_network(out)?;
        self.print_peers(out)
    }

    fn print_network(&self, out: &mut Output) -> Result<(), CommandError> {
        match self.daemon {
            Some(pid) => out.line(format_args!("daemon    runs, process {pid}"))?,
            None => out.line("daemon    does not run")?,
        }
        let Some(network) = &self.network else {
            return Ok(());
        };
        if let Some(problem) = &network.problem {
            out.line(format_args!("          {problem}"))?;
        }
        for hub in &network.hubs {
            let error = hub.error.as_ref().map(|err| format!(": {err}"));
            let (tracker, relay) = (&hub.tracker, &hub.relay);
            let how = match tracker == relay {
                true => tracker.clone(),
                false => format!("tracker {tracker}, relay {relay}"),
            };
            let error = error.unwrap_or_default();
            out.line(format_args!("hub       {}  {how}{error}", hub.addr))?;
        }
        Ok(())
    }

    fn print_peers(&self, out: &mut Output) -> Result<(), CommandError> {
        let names: Vec<String> = self.peers.iter().map(Peer::name).collect();
        let width = |name: &String| unicode_width::UnicodeWidthStr::width(name.as_str());
        let widest = names.iter().map(width).max().unwrap_or(0);
        for (peer, name) in self.peers.iter().zip(&names) {
            let pad = " ".repeat(widest - width(name));
            let seen = peer.last_seen();
            let ago = seen.map_or_else(|| "never".to_owned(), |at| when::age(at, self.at));
            out.line(format_args!(
                "peer      {name}{pad}  {:6}  {ago:>8}  {}",
                peer.path().unwrap_or("-"),
                peer.how()
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

impl Peer {
    fn new(state: PeerState, ours: &Summary, network: Option<&daemon::State>) -> Peer {
        let tally = ours.tally();
        let device_id = state.device_id.as_ref().unwrap_or(&state.peer);
        let network = network.and_then(|network| {
            let found = network
                .peers
                .iter()
                .find(|(_, peer)| peer.device_id.as_ref() == Some(device_id));
            found.map(|(id, peer)| (id.clone(), peer.clone()))
        });
        let identical = state.compared.map(|_| state.is_identical(tally));
        let behind_ours = match identical {
            Some(true) => Some(0),
            _ => state
                .compared
                .map(|found| tally.count.saturating_sub(found.compared.theirs.count)),
        };
        Peer {
            state,
            network,
            behind_ours,
            identical,
        }
    }

    /// So many of theirs are missing here at most.
    fn behind_theirs(&self) -> Option<u64> {
        match self.identical {
            Some(true) => Some(0),
            _ => self.state.behind_theirs(),
        }
    }

    fn name(&self) -> String {
        let name = self.state.name.as_deref().unwrap_or(&self.state.peer);
        visible(name.into(), Breaks::Mark)
            .chars()
            .take(40)
            .collect()
    }

    fn path(&self) -> Option<&str> {
        match &self.network {
            Some((_, network)) => network.path.as_deref(),
            None => self.state.path.map(rustory_store::PeerPath::as_str),
        }
    }

    /// Now, where the daemon is in touch with it.
    fn last_seen(&self) -> Option<Timestamp> {
        match &self.network {
            Some((_, network)) if network.live => Some(now()),
            _ => self.state.last_seen,
        }
    }

    fn error(&self) -> Option<&str> {
        match &self.network {
            Some((_, network)) => network.error.as_deref(),
            None => self
                .state
                .failure
                .as_ref()
                .map(|failure| failure.text.as_str()),
        }
    }

    /// Whether it holds the same, and if not, what is known of why.
    fn how(&self) -> String {
        let mut parts = Vec::new();
        if self.identical == Some(true) {
            parts.push("identical".to_owned());
        } else {
            let count = |what: &str, n: Option<u64>| {
                n.filter(|n| *n > 0)
                    .map(|n| format!("{} {what}", grouped(n)))
            };
            parts.extend(count("of theirs not here yet", self.behind_theirs()));
            parts.extend(count("of ours not there yet", self.behind_ours));
            if parts.is_empty() {
                parts.push("not compared yet".to_owned());
            }
        }
        if self.state.unreadable > 0 {
            let unreadable = grouped(self.state.unreadable);
            parts.push(format!("{unreadable} can't be read by this version"));
        }
        if let Some(error) = self.error() {
            parts.push(visible(error.into(), Breaks::Mark));
        }
        parts.join(", ")
    }

    fn json(&self) -> Value {
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
        json!({
            "device_id": self.state.peer,
            "name": self.state.name,
            "peer_id": self.network.as_ref().map(|(id, _)| id),
            "last_seen": time(self.last_seen()),
            "last_sync": time(self.state.last_sync),
            "behind": {"ours": self.behind_ours, "theirs": self.behind_theirs()},
            "path": self.path(),
            "identical": self.identical,
            "unreadable": self.state.unreadable,
            "unsendable": self.state.unsendable,
            "error": self.error(),
        })
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
    out.finish()?;
    match args.check && !status.is_well() {
        true => Err(CommandError::failed("not everything is well")
            .hint("`rr status` without --check says what; `rr sync` meets the devices now")),
        false => Ok(()),
    }
}
