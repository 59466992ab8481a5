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
use crate::ui::{Output, grouped};

mod screen;

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
    daemon: Option<daemon::Running>,
    network: Option<daemon::State>,
    peers: Vec<Peer>,
    /// Those that the daemon knows of and that never said hello.
    unmet: Vec<(String, daemon::PeerState)>,
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

/// Peers without a log that we know: by name where a tracker tells it. Whoever else calls on the
/// local network is of no interest until it is connected.
fn unmet(network: &daemon::State, met: &[PeerState]) -> Vec<(String, daemon::PeerState)> {
    let is_met = |device_id: &str| met.iter().any(|peer| peer.peer == device_id);
    let unmet = network.peers.iter().filter(|(_, peer)| {
        let is_met = peer.device_id.as_deref().is_some_and(is_met);
        !is_met && (peer.name.is_some() || peer.path.is_some())
    });
    unmet.map(|(id, peer)| (id.clone(), peer.clone())).collect()
}

impl Status {
    fn read(ctx: &Ctx, store: &Store) -> Result<Status, CommandError> {
        let spool = ctx.spool_dir();
        let damaged = std::fs::metadata(spool.join(spool_dir::DAMAGED));
        let summary = store.summary()?;
        let daemon = daemon::running(ctx.settings.data_dir());
        let network = daemon
            .as_ref()
            .and_then(|daemon| daemon::State::read(ctx.settings.data_dir(), daemon.pid));
        let peers = store.peers()?;
        let unmet = network
            .as_ref()
            .map_or(Vec::new(), |network| unmet(network, &peers));
        let peers = peers.into_iter();
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
            unmet,
            daemon,
            network,
            at: now(),
        })
    }

    /// What `--check` looks at.
    fn is_well(&self) -> bool {
        let network_is_well = self.problem().is_none()
            && self
                .network
                .as_ref()
                .is_none_or(|network| network.hubs.iter().all(|hub| hub.error.is_none()));
        self.conflicts == 0
            && self.damaged_bytes == 0
            && network_is_well
            && self.unmet.iter().all(|(_, peer)| peer.error.is_none())
            && self
                .peers
                .iter()
                .all(|peer| peer.identical == Some(true) && peer.error().is_none())
    }

    /// What the daemon says is wrong with this device.
    fn problem(&self) -> Option<&str> {
        self.daemon.as_ref()?.problem.as_deref()
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
                "pid": self.daemon.as_ref().map(|daemon| daemon.pid),
                "problem": self.problem(),
                "stranger": network.and_then(|network| network.stranger.as_ref()),
            },
            "peers": self.peers.iter().map(Peer::json).chain(self.unmet.iter().map(unmet_json)).collect::<Vec<_>>(),
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
            "device    {}  {}, user {}",
            settings.device_name, self.device_id, settings.user_id
        ))?;
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
        screen::print(self, out, ctx.verbose)
    }

    fn print_network(&self, out: &mut Output) -> Result<(), CommandError> {
        match &self.daemon {
            Some(daemon) => {
                let connected = self.connected();
                out.line(format_args!(
                    "daemon    runs, process {}{connected}",
                    daemon.pid
                ))?;
            }
            None => out.line("daemon    does not run; `rr daemon` keeps the devices in touch")?,
        }
        if let Some(problem) = self.problem() {
            out.line(format_args!("          {problem}"))?;
        }
        let Some(network) = &self.network else {
            return Ok(());
        };
        if let Some(stranger) = &network.stranger {
            out.line(format_args!("          {stranger}"))?;
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

    /// How many of those that it knows the daemon is connected with.
    fn connected(&self) -> String {
        let met = self.peers.iter().map(Peer::path_now);
        let all: Vec<_> = met
            .chain(self.unmet.iter().map(|(_, peer)| peer.path.as_deref()))
            .collect();
        match (all.len(), all.iter().flatten().count()) {
            (0, _) => String::new(),
            (all, connected) => format!("; connected with {connected} of {all}"),
        }
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
            // A device that has another key now is there twice.
            let found = network
                .peers
                .iter()
                .filter(|(_, peer)| peer.device_id.as_ref() == Some(device_id))
                .max_by_key(|(_, peer)| (peer.live, peer.path.is_some(), peer.error.is_none()));
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

    /// As it called itself, or as a tracker tells.
    fn name(&self) -> Option<&str> {
        let told = self
            .network
            .as_ref()
            .and_then(|(_, peer)| peer.name.as_deref());
        self.state.name.as_deref().or(told)
    }

    /// How it is connected now; none: it is not, or no daemon says.
    fn path_now(&self) -> Option<&str> {
        self.network.as_ref()?.1.path.as_deref()
    }

    fn path(&self) -> Option<&str> {
        match &self.network {
            Some(_) => self.path_now(),
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

    /// A session with it runs.
    fn is_live(&self) -> bool {
        self.network.as_ref().is_some_and(|(_, peer)| peer.live)
    }

    /// What was typed on either side since both were identical, while they are in touch: it goes
    /// over at once, and whether it arrived is known from the next comparison on.
    fn just_typed(&self) -> Option<u64> {
        let was_identical = |found: rustory_store::Comparison| found.compared.identical();
        let is_so = self.is_live() && self.state.compared.is_some_and(was_identical);
        self.behind_ours.filter(|added| is_so && *added > 0)
    }

    fn json(&self) -> Value {
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
        json!({
            "device_id": self.state.peer,
            "name": self.name(),
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

/// The same fields as of a peer that was met.
fn unmet_json((id, peer): &(String, daemon::PeerState)) -> Value {
    json!({
        "device_id": peer.device_id,
        "name": peer.name,
        "peer_id": id,
        "last_seen": null,
        "last_sync": null,
        "behind": {"ours": null, "theirs": null},
        "path": peer.path,
        "identical": null,
        "unreadable": 0,
        "unsendable": 0,
        "error": peer.error,
    })
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
