//! `rr daemon`: the device as a peer. It meets the other devices over libp2p, keeps a session with
//! each, and takes in what is typed so that it travels at once.
//!
//! The network runs on this thread, the log on one of its own; nothing here waits for the disk.

pub(crate) mod control;
mod lock;
mod peers;
mod state;
mod upkeep;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustory_core::sync::session::{Event, Role, SessionError};
use rustory_core::sync::{Ended, LogIdentity, Plan, Reason};
use rustory_net::p2p::{
    DeviceInfo, HubAddr, HubError, HubSpec, HubStatus, Multiaddr, Node, NodeConfig, NodeEvent,
    NodeHandle, OpenError, PeerId, RelayRefusal, ServiceState, SwarmKeyMismatch, SyncStream,
    listen_addr,
};
use rustory_net::session::{self, Control, Host};
use rustory_store::{Access, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use lock::{Lock, LockError, Running, running};
pub(crate) use state::{PeerState, State};

use crate::cmd::init::own_path;
use crate::crash;
use crate::ctx::{Ctx, now};
use crate::error::CommandError;
use crate::exchange::{Round, seen};
use crate::host::{LogThread, Manner};
use crate::keys::{self, Keys};
use peers::{Active, Peer, Peers, Way};
use state::HubState;
use upkeep::{News, Note, Upkeep};

/// How long sessions may take to end once the daemon is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// The state file is not written more often than this,
const STATE_EVERY: Duration = Duration::from_millis(200);

/// and where it could not be, tried again after this long.
const STATE_RETRY: Duration = Duration::from_secs(5);

/// The spool is looked at this often even if nobody wrote to it: the death of a shell makes an entry
/// of the command that it ran, and no file changes.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Another program may hold the database for so long before that is told and sessions are put off.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// While something is wrong with the database it is tried this often.
const PROBLEM_RETRY: Duration = Duration::from_secs(2);

/// Somebody with another swarm key who is not heard of for so long is not told of any more.
const STRANGER_FOR: Duration = Duration::from_secs(180);

/// Once nothing came to the log for so long, this device settles with those that it asks that both
/// hold the same. Whoever types goes on for a while; each settling is a round with everybody.
const SETTLE_AFTER: Duration = Duration::from_secs(5);

/// And so much later with those that ask it, if they did not.
const SETTLE_THEN: Duration = Duration::from_secs(2);

/// It does not settle more often than this: rounds find the rest.
const SETTLE_EVERY: Duration = Duration::from_secs(20);

/// Addresses kept of one peer.
const ADDRS_PER_PEER_MAX: usize = 16;

/// After a network node that died, so that a bug costs no processor time.
const NODE_RESTART: Duration = Duration::from_secs(5);

/// What a daemon is told by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGUSR1: to begin again, with the settings, keys and program as they are now.
    BeginAgain,
}

/// Runs until it is told to stop, or to begin again.
pub(crate) fn run(ctx: &Ctx) -> Result<(), CommandError> {
    // Found now: it can't be once an upgrade has put another file in its place.
    let program = own_path()?;
    crash::begins_again()?;
    match run_once(ctx)? {
        Ending::Stop => Ok(()),
        // The same process, for whoever watches over it.
        Ending::BeginAgain => {
            let err = crash::exec(&program, 0);
            let program = program.display();
            Err(CommandError::failed(format!(
                "`{program}` can't be started again: {err}"
            )))
        }
    }
}

fn run_once(ctx: &Ctx) -> Result<Ending, CommandError> {
    let mut store = ctx.open(Access::Write {
        busy: LOCK_PATIENCE,
    })?;
    let data_dir = ctx.settings.data_dir();
    let lock = Lock::take(data_dir).map_err(|err| match err {
        LockError::Taken(pid) => CommandError::failed(format!(
            "a daemon runs already on this database{}",
            pid.map_or(String::new(), |pid| format!(", as process {pid}"))
        ))
        .hint("`rr status` shows what it does; stop it first, or leave it to it"),
        LockError::Io(path, err) => CommandError::failed(format!("`{}`: {err}", path.display())),
    })?;
    rustory_store::spool_dir::create(&ctx.spool_dir())?;
    let keys = keys::load(ctx, &mut store)?;
    // What can't be tidied up now is the next time.
    let _ = store.forget_replaced(now());
    let book = book(&store)?;
    let changed = Arc::new(AtomicBool::new(true));
    let (notes, notes_rx) = mpsc::channel();
    let (news, news_rx) = unbounded_channel();
    let mut upkeep = Upkeep::new(ctx, &store, Arc::clone(&changed), notes_rx, news);
    let manner = Manner {
        stays: true,
        verifies: false,
    };
    let (host, _thread) = LogThread::start(ctx, store, manner, move |store| upkeep.before(store))?;
    watch(ctx, &host, Arc::clone(&changed))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| CommandError::failed(format!("no event loop: {err}")))?;
    let ended = runtime.block_on(async {
        #[cfg(debug_assertions)]
        tokio::spawn(crash::when_asked());
        let daemon = Daemon::start(ctx, host, keys, book, &lock, changed, notes)?;
        daemon.run(news_rx).await
    });
    // A transaction that is under way is undone; what it held is still in the spool or at the peer.
    runtime.shutdown_background();
    State::remove(data_dir);
    ended
}

fn watch(ctx: &Ctx, host: &Host, changed: Arc<AtomicBool>) -> Result<(), CommandError> {
    let log = host.log.clone();
    log.nudge();
    let told = watch::watch(&ctx.settings.db_path, move || {
        // One nudge is enough until it is looked at.
        changed.swap(true, Ordering::AcqRel) || log.nudge()
    });
    told.map_err(|err| {
        CommandError::failed(format!("the spool can't be watched: {err}"))
            .hint("is the limit of inotify watches reached? see /proc/sys/fs/inotify")
    })
}

/// What is remembered from earlier: addresses of peers, which device each is, and who is behind a
/// hub's address.
#[derive(Default)]
struct Book {
    peers: HashMap<PeerId, Vec<Multiaddr>>,
    devices: HashMap<PeerId, String>,
    hubs: HashMap<String, PeerId>,
}

/// What a hub's address is called in the book.
fn hub_key(addr: &str) -> String {
    format!("hub:{addr}")
}

fn book(store: &Store) -> Result<Book, CommandError> {
    let mut book = Book::default();
    for entry in store.addr_book()? {
        let Ok(peer) = entry.peer.parse::<PeerId>() else {
            continue;
        };
        if let Some(hub) = entry.addr.strip_prefix("hub:") {
            // The newest comes first.
            book.hubs.entry(hub.to_owned()).or_insert(peer);
        } else if let Some(device) = entry.addr.strip_prefix("device:") {
            book.devices.entry(peer).or_insert(device.to_owned());
        } else if let Ok(addr) = entry.addr.parse() {
            book.peers.entry(peer).or_default().push(addr);
        }
    }
    Ok(book)
}

struct Daemon<'a> {
    ctx: &'a Ctx,
    lock: &'a Lock,
    keys: Keys,
    book: Book,
    node: NodeHandle,
    events: tokio::sync::mpsc::Receiver<NodeEvent>,
    /// When to start the network part again, which is not there until then.
    restart: Option<Instant>,
    host: Host,
    changed: Arc<AtomicBool>,
    /// When to look at the spool unasked.
    look: Instant,
    /// When to settle, and with whom: those that we ask, or those that ask us.
    settle: Option<(Instant, Role)>,
    /// Not before.
    settle_again: Instant,
    problem: Option<String>,
    plan: Plan<PeerId>,
    peers: Peers,
    tasks: JoinSet<Finished>,
    tell: UnboundedSender<(PeerId, u64, Told)>,
    told: UnboundedReceiver<(PeerId, u64, Told)>,
    notes: mpsc::Sender<Note>,
    state: State,
    written: State,
    next_write: Instant,
    /// When somebody with another swarm key was last seen.
    stranger: Option<Instant>,
    began: Instant,
    next_session: u64,
}

/// What a session says while it runs.
enum Told {
    /// The stream is there.
    Opened(Way),
    Event(Box<Event>),
}

/// How a session ended.
struct Finished {
    peer: PeerId,
    id: u64,
    result: Result<(), Trouble>,
}

/// Why a session did not come about, or broke off.
enum Trouble {
    Open(OpenError),
    Session(SessionError),
}

impl<'a> Daemon<'a> {
    fn start(
        ctx: &'a Ctx,
        host: Host,
        keys: Keys,
        book: Book,
        lock: &'a Lock,
        changed: Arc<AtomicBool>,
        notes: mpsc::Sender<Note>,
    ) -> Result<Daemon<'a>, CommandError> {
        let (node, events) = start_node(config(ctx, &keys, &host, &book)?)?;
        let (tell, told) = unbounded_channel();
        let began = Instant::now();
        let mut daemon = Daemon {
            state: State {
                pid: std::process::id(),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                began: now().as_micros(),
                peer_id: node.peer_id().to_string(),
                swarm: keys.swarm.fingerprint().to_string(),
                ..State::default()
            },
            written: State::default(),
            next_write: began,
            peers: Peers::new(node.peer_id()),
            plan: Plan::new(millis(ctx.settings.sync_interval)),
            ctx,
            lock,
            keys,
            book,
            node,
            events,
            restart: None,
            host,
            changed,
            look: began + LOOK_EVERY,
            settle: None,
            settle_again: began,
            problem: None,
            tasks: JoinSet::new(),
            tell,
            told,
            notes,
            stranger: None,
            began,
            next_session: 0,
        };
        // So that it can be said of whom that it is not reached.
        for (peer, device) in &daemon.book.devices {
            daemon.peers.get(*peer).named(device, "");
        }
        daemon.meet_all();
        ctx.note(format_args!(
            "this device is {} in the network",
            daemon.node.peer_id()
        ));
        Ok(daemon)
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    async fn run(mut self, mut news: UnboundedReceiver<News>) -> Result<Ending, CommandError> {
        let told = end_signal()?;
        let mut told = std::pin::pin!(told);
        let ending = loop {
            let due = self
                .plan
                .next_due()
                .map(|due| self.began + Duration::from_millis(due));
            let due = due.filter(|_| self.restart.is_none());
            let write = (self.state != self.written).then_some(self.next_write);
            let settle = self.settle.map(|(at, _)| at);
            let forget = self.stranger.map(|seen| seen + STRANGER_FOR);
            tokio::select! {
                ending = told.as_mut() => break ending,
                event = self.events.recv(), if self.restart.is_none() => match event {
                    Some(event) => self.node_event(event).await,
                    None => self.node_died(),
                },
                Some((peer, id, told)) = self.told.recv() => self.session_told(peer, id, told),
                Some(finished) = self.tasks.join_next() => match finished {
                    Ok(finished) => self.finished(finished),
                    Err(err) => self.ctx.note(format_args!("a session failed: {err}; this is a bug")),
                },
                news = news.recv() => match news {
                    Some(news) => self.log_news(news).await,
                    None => {
                        return Err(CommandError::failed("the database's thread ended early; this is a bug"));
                    }
                },
                () = sleep_until(self.restart) => self.restart_node(),
                () = sleep_until(due) => self.meet_due(),
                () = sleep_until(Some(self.look)) => self.look(),
                () = sleep_until(settle) => self.settle(),
                () = sleep_until(write) => self.write_state().await,
                () = sleep_until(forget) => {
                    self.stranger = None;
                    self.state.stranger = None;
                }
            }
        };
        self.stop().await;
        Ok(ending)
    }

    async fn stop(&mut self) {
        for active in self.peers.sessions() {
            let _ = active.control.send(Control::Stop);
        }
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_GRACE, ended).await;
        self.node.stop().await;
    }

    /// The network library died of a bug; its sessions end by themselves.
    fn node_died(&mut self) {
        crate::ui::warn("the network part has failed and is started again; this is a bug");
        self.restart = Some(Instant::now() + NODE_RESTART);
        self.peers.disconnected();
    }

    fn restart_node(&mut self) {
        let config = config(self.ctx, &self.keys, &self.host, &self.book);
        match config.and_then(start_node) {
            Ok((node, events)) => {
                (self.node, self.events) = (node, events);
                self.restart = None;
                self.meet_all();
            }
            Err(err) => {
                crate::ui::warn(err.message());
                self.restart = Some(Instant::now() + NODE_RESTART);
            }
        }
    }

    /// Everybody who is known, soon.
    fn meet_all(&mut self) {
        let now = self.now();
        let known = self.book.peers.keys().copied().chain(self.peers.ids());
        for peer in known.collect::<Vec<_>>() {
            if peer != self.node.peer_id() && !self.peers.has_session(peer) {
                self.plan.seen(peer, now, random());
            }
        }
    }

    // ---- the network

    async fn node_event(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Incoming { peer, stream, .. } => self.incoming(peer, stream),
            NodeEvent::PeerConnected {
                peer, path, link, ..
            } => {
                self.known(peer).way = Some((path, link));
                self.seen(peer);
            }
            NodeEvent::PeerPath {
                peer, path, link, ..
            } => {
                let known = self.peers.get(peer);
                known.way = Some((path, link));
                // It goes on where it was, over the better way.
                known.move_sessions();
            }
            NodeEvent::PeerGone { peer } => self.peers.get(peer).way = None,
            NodeEvent::PeerDiscovered {
                peer,
                device,
                online,
                ..
            } => {
                let known = self.known(peer);
                if let Some(device) = device {
                    known.named(&device.device_id, &device.device_name);
                }
                if online {
                    self.seen(peer);
                }
            }
            NodeEvent::SwarmKeyMismatch { addr, mismatch } => self.stranger(&addr, &mismatch),
            NodeEvent::HubIdLearned { addr, peer } => {
                self.remember(peer, hub_key(&addr.to_string()))
            }
            NodeEvent::HubIdChanged { addr, was, now } => {
                crate::ui::warn(format_args!(
                    "the hub at `{addr}` is another one now: it was {was}, it is {now}; if you did not change its \
                     key, somebody with your swarm key poses as it"
                ));
                self.remember(now, hub_key(&addr.to_string()));
            }
            NodeEvent::AddressLearned { peer, addr } => self.remember(peer, addr.to_string()),
            NodeEvent::HubState { .. } | NodeEvent::Listening => {}
        }
        self.refresh().await;
    }

    fn stranger(&mut self, addr: &Multiaddr, mismatch: &SwarmKeyMismatch) {
        let told = format!("{addr}: {mismatch}");
        crate::ui::warn(&told);
        self.state.stranger = Some(told);
        self.stranger = Some(Instant::now());
    }

    fn known(&mut self, peer: PeerId) -> &mut Peer {
        if let Some(other) = self.peers.superfluous(peer) {
            self.peers.forget(other);
            self.plan.forget(&other);
        }
        self.peers.get(peer)
    }

    /// For the next start, and for a restart of the network part.
    fn remember(&mut self, peer: PeerId, addr: String) {
        if let Some(hub) = addr.strip_prefix("hub:") {
            self.book.hubs.insert(hub.to_owned(), peer);
        } else if let Ok(addr) = addr.parse() {
            let known = self.book.peers.entry(peer).or_default();
            known.insert(0, addr);
            known.truncate(ADDRS_PER_PEER_MAX);
        }
        let peer = peer.to_string();
        self.note(Note::Address { peer, addr });
    }

    fn note(&self, note: Note) {
        // Its receiver lives as long as the log's thread.
        let _ = self.notes.send(note);
        self.host.log.nudge();
    }

    /// What the node knows goes into the state.
    async fn refresh(&mut self) {
        let Some(status) = self.node.status().await else {
            return;
        };
        self.state.listening = status.listening.iter().map(ToString::to_string).collect();
        self.state.hubs = status.hubs.iter().map(hub_state).collect();
        self.state.peers = self.peers.states();
    }

    fn seen(&mut self, peer: PeerId) {
        if !self.peers.has_session(peer) {
            let now = self.now();
            self.plan.seen(peer, now, random());
        }
    }

    // ---- sessions

    /// Meets whoever is due: with a new session, or another round of the one that runs.
    fn meet_due(&mut self) {
        let now = self.now();
        for peer in self.plan.due(now) {
            match self.peers.asked_by_us(peer) {
                // Its end, or that of the session, says when the next one is due.
                Some(active) => {
                    let _ = active.control.send(Control::Round);
                }
                None if self.peers.has_session(peer) => {
                    self.plan.ended(&peer, Ended::Well, now, random());
                }
                None => self.ask(peer),
            }
        }
    }

    fn ask(&mut self, peer: PeerId) {
        let (id, control, told) = self.new_session(Role::Asker);
        let (node, host, tell) = (self.node.clone(), self.host.clone(), self.tell.clone());
        self.peers.add(peer, id, control);
        self.tasks.spawn(async move {
            let result = match node.open(peer).await {
                Ok(stream) => {
                    let way = (stream.path(), stream.link());
                    let _ = tell.send((peer, id, Told::Opened(way)));
                    hold(stream, Role::Asker, &host, told, peer, id, &tell).await
                }
                Err(err) => Err(Trouble::Open(err)),
            };
            Finished { peer, id, result }
        });
    }

    fn incoming(&mut self, peer: PeerId, stream: SyncStream) {
        self.known(peer);
        if !self.peers.make_room(peer) {
            // Dropping the stream tells the peer.
            return;
        }
        let (id, mut control, told) = self.new_session(Role::Answerer);
        control.way = Some((stream.path(), stream.link()));
        // Of two that ask each other, the one with the lower id goes on.
        self.peers.yield_to(peer);
        self.peers.add(peer, id, control);
        let (host, tell) = (self.host.clone(), self.tell.clone());
        self.tasks.spawn(async move {
            let result = hold(stream, Role::Answerer, &host, told, peer, id, &tell).await;
            Finished { peer, id, result }
        });
    }

    fn new_session(&mut self, role: Role) -> (u64, Active, UnboundedReceiver<Control>) {
        self.next_session += 1;
        let (control, told) = unbounded_channel();
        (self.next_session, Active::new(role, control), told)
    }

    fn session_told(&mut self, peer: PeerId, id: u64, told: Told) {
        let now_ms = self.now();
        let known = self.peers.get(peer);
        let event = match told {
            Told::Opened(way) => {
                known.with(id, |active| active.way = Some(way));
                return known.move_sessions();
            }
            Told::Event(event) => *event,
        };
        match event {
            Event::Met(hello) => {
                known.named(&hello.device_id, &hello.device_name);
                known.with(id, |active| active.met = Some(Instant::now()));
                known.error = None;
                let seen = seen(&hello, known.session_path(id), now());
                let device_id = hello.device_id.clone();
                // A copy of this database is about to be another device.
                let is_copy = hello.log_id == self.host.local.log_id;
                known.hello = Some(hello);
                if !is_copy {
                    let addr = format!("device:{device_id}");
                    self.book.devices.insert(peer, device_id.clone());
                    self.note(Note::Seen(device_id, seen));
                    let peer = peer.to_string();
                    self.note(Note::Address { peer, addr });
                }
            }
            Event::Round(report) | Event::FoundSame(report) => {
                // A session that stays does another one, which is how entries of third devices go on.
                let moved = report.received + report.sent + report.mended > 0;
                let identical = report.compared.is_some_and(|found| found.identical());
                let how = match identical && !moved {
                    true => Ended::Quietly,
                    false => Ended::Well,
                };
                self.plan.ended(&peer, how, now_ms, random());
                known.error = None;
                let path = known.session_path(id);
                if let Some(hello) = &known.hello {
                    let round = Round::new(hello, path, &report, now());
                    self.note(Note::Round(Box::new(round)));
                }
            }
            // As good as a round.
            Event::Agreed(_) => self.plan.ended(&peer, Ended::Well, now_ms, random()),
            Event::SameDeviceId if !known.same_id_told => {
                known.same_id_told = true;
                let id = &self.host.local.device_id;
                crate::ui::warn(format_args!(
                    "{peer} is another device that calls itself `{id}` as well: give one of the two another `device_id`; \
                     both get everything, but nobody can tell who typed what"
                ));
            }
            Event::Damaged { origins } => crate::ui::warn(format_args!(
                "the disk changed or lost entries of {}; mending them from a peer",
                origins.join(", ")
            )),
            _ => {}
        }
        self.state.peers = self.peers.states();
    }

    /// Whether the last session with a peer ended although both would stay in touch, so that another
    /// one is to follow at once.
    fn goes_on(&mut self, peer: PeerId, session: &Active, result: &Result<(), Trouble>) -> bool {
        let known = self.peers.get(peer);
        if !known.hello.as_ref().is_some_and(|hello| hello.stays) {
            return false;
        }
        match result {
            // The connection was lost.
            Ok(()) => session.lasted(),
            Err(Trouble::Session(SessionError::Broken(_) | SessionError::Silent)) => {
                session.lasted()
            }
            // One of the two moved it or gave way. A peer that stops altogether is called in vain once.
            Err(Trouble::Session(SessionError::Stopped)) => known.way.is_some(),
            Err(Trouble::Session(SessionError::Refused(close))) => {
                close.reason == Reason::STOPPING && known.way.is_some()
            }
            Err(_) => false,
        }
    }

    fn finished(&mut self, finished: Finished) {
        let Finished { peer, id, result } = finished;
        let ended = self.peers.remove(peer, id);
        let now = self.now();
        let error = match &result {
            Ok(()) => None,
            Err(Trouble::Session(err)) if is_ordinary(err) => None,
            Err(Trouble::Session(err)) => Some(err.to_string()),
            Err(Trouble::Open(err)) => Some(err.to_string()),
        };
        let stays = |known: &Peer| known.hello.as_ref().is_some_and(|hello| hello.stays);
        // Nobody ends a session that stays without a word: its connection was lost.
        let was_lost = result.is_ok() && stays(self.peers.get(peer));
        let how = match error.is_none() && !was_lost {
            true => Ended::Well,
            false => Ended::Badly,
        };
        if !self.peers.has_session(peer) {
            self.plan.ended(&peer, how, now, random());
            if ended.is_some_and(|session| self.goes_on(peer, &session, &result)) {
                self.plan.seen(peer, now, random());
            }
        }
        if matches!(result, Err(Trouble::Session(SessionError::WasCopy))) {
            // The log's thread tells the new identity, and then all are met with it.
            self.look();
        }
        if let Err(Trouble::Session(SessionError::Log(failed))) = &result {
            // Not only this peer's matter. The log's thread tells when it is over.
            self.problem(Some(failed.text.clone()));
            self.note(Note::Probe);
        }
        let known = self.peers.get(peer);
        let news = error.is_some() && known.error != error;
        known.error.clone_from(&error);
        let device_id = known.device_id.clone();
        if let (true, Some(error)) = (news, error) {
            if self.ctx.verbose {
                self.ctx.note(format_args!("{peer}: {error}"));
            }
            if let Some(device_id) = device_id {
                self.note(Note::Failed(device_id, error));
            }
        }
        self.state.peers = self.peers.states();
    }

    // ---- the log

    async fn log_news(&mut self, news: News) {
        match news {
            News::Grew => self.log_changed(Control::LogGrew),
            News::Came => self.log_changed(Control::Came),
            News::Forgot(remembered) => self.forget_others(&remembered),
            News::Identity(identity) => self.renew(identity).await,
            News::Problem(problem) => self.problem(problem),
        }
    }

    /// Devices that the user had forgotten and that are not there.
    fn forget_others(&mut self, remembered: &HashSet<String>) {
        for peer in self.peers.absent_but(remembered) {
            self.book.peers.remove(&peer);
            // Else it is known from a tracker alone, and was never to be forgotten.
            if self.book.devices.remove(&peer).is_some() {
                self.peers.forget(peer);
                self.plan.forget(&peer);
            }
        }
        self.state.peers = self.peers.states();
    }

    fn log_changed(&mut self, how: Control) {
        self.plan.stirred(self.now());
        for active in self.peers.sessions() {
            let _ = active.control.send(how);
        }
        let at = (Instant::now() + SETTLE_AFTER).max(self.settle_again);
        self.settle = Some((at, Role::Asker));
    }

    /// Has sessions find out whether both still hold the same, where that is not known.
    fn settle(&mut self) {
        let Some((_, role)) = self.settle.take() else {
            return;
        };
        for active in self.peers.sessions().filter(|active| active.role == role) {
            let _ = active.control.send(Control::Settle);
        }
        if role == Role::Asker {
            let now = Instant::now();
            self.settle_again = now + SETTLE_EVERY;
            self.settle = Some((now + SETTLE_THEN, Role::Answerer));
        }
    }

    /// Another device has a copy of this database; the sessions that run call this one by its old
    /// name, and so do the trackers.
    async fn renew(&mut self, identity: LogIdentity) {
        self.ctx.note("another device has a copy of this database: this one counts as a new device from now on");
        self.host.local.device_id = identity.device_id;
        self.host.local.log_id = identity.log_id;
        self.node.stop().await;
        self.peers.disconnected();
        self.restart = Some(Instant::now());
    }

    fn problem(&mut self, problem: Option<String>) {
        match &problem {
            Some(problem) => crate::ui::warn(problem),
            None => {
                self.ctx.note("the database can be written again");
                // Whoever was put off is not left to a long wait.
                self.meet_all();
            }
        }
        let _ = self.lock.tell(problem.as_deref());
        self.problem = problem;
        self.look = self.look.min(Instant::now() + PROBLEM_RETRY);
    }

    /// Has the log's thread look at the spool.
    fn look(&mut self) {
        let wait = match self.problem {
            Some(_) => PROBLEM_RETRY,
            None => LOOK_EVERY,
        };
        self.look = Instant::now() + wait;
        self.changed.store(true, Ordering::Release);
        self.host.log.nudge();
    }

    async fn write_state(&mut self) {
        let (state, dir) = (self.state.clone(), self.ctx.settings.data_dir().to_owned());
        let wrote = tokio::task::spawn_blocking(move || state.write(&dir)).await;
        let wait = match wrote {
            Ok(Ok(())) => {
                self.written = self.state.clone();
                STATE_EVERY
            }
            // Why is told elsewhere.
            _ => STATE_RETRY,
        };
        self.next_write = Instant::now() + wait;
    }
}

/// Runs one end of a session over a stream of the network.
async fn hold(
    stream: SyncStream,
    role: Role,
    host: &Host,
    told: UnboundedReceiver<Control>,
    peer: PeerId,
    id: u64,
    tell: &UnboundedSender<(PeerId, u64, Told)>,
) -> Result<(), Trouble> {
    session::run(stream, role, host, told, |_, event| {
        if !matches!(event, Event::Moved) {
            let _ = tell.send((peer, id, Told::Event(Box::new(event))));
        }
    })
    .await
    .map_err(Trouble::Session)
}

/// Ends that say nothing about how well the peer can be reached.
fn is_ordinary(err: &SessionError) -> bool {
    match err {
        SessionError::Stopped | SessionError::WasCopy => true,
        SessionError::Refused(close) => matches!(close.reason, Reason::STOPPING | Reason::COPY),
        _ => false,
    }
}

fn config(ctx: &Ctx, keys: &Keys, host: &Host, book: &Book) -> Result<NodeConfig, CommandError> {
    let settings = &ctx.settings;
    let hub = |text: &String| -> Result<HubSpec, CommandError> {
        let addr: HubAddr = text
            .parse()
            .map_err(|err| CommandError::usage(format!("`{text}`: {err}")))?;
        let learned = book.hubs.get(text).copied();
        Ok(HubSpec { addr, learned })
    };
    let listen = settings.listen.iter().map(|text| {
        listen_addr(text).map_err(|err| CommandError::usage(format!("`listen`: `{text}`: {err}")))
    });
    Ok(NodeConfig {
        identity: keys.identity.clone(),
        swarm_key: Some(keys.swarm),
        listen: listen.collect::<Result<_, _>>()?,
        hubs: settings
            .trackers
            .iter()
            .map(hub)
            .collect::<Result<_, _>>()?,
        relays: settings.relays.iter().map(hub).collect::<Result<_, _>>()?,
        mdns: settings.mdns,
        peer_book: book.peers.clone(),
        device: DeviceInfo {
            device_id: host.local.device_id.clone(),
            device_name: host.local.device_name.clone(),
            user_id: host.local.user_id.clone().unwrap_or_default(),
        },
    })
}

/// Where a port is taken, on another one: the device is still reached, though not as well.
fn start_node(
    mut config: NodeConfig,
) -> Result<(NodeHandle, tokio::sync::mpsc::Receiver<NodeEvent>), CommandError> {
    for addr in &mut config.listen {
        if let Some(other) = on_another_port(addr) {
            crate::ui::warn(format_args!(
                "`listen`: another program uses the port of `{addr}`, so it is any port until the next start"
            ));
            *addr = other;
        }
    }
    Node::start(config).map_err(|err| {
        let source =
            std::error::Error::source(&err).map_or(String::new(), |err| format!(": {err}"));
        CommandError::failed(format!("{err}{source}"))
            .hint("`listen` in the configuration names where to listen")
    })
}

/// The same address with any port, if its own is taken. Asked of the system, because the network
/// library lets two programs of one user share a port and take each other's connections.
fn on_another_port(addr: &Multiaddr) -> Option<Multiaddr> {
    let text = addr.to_string();
    let mut parts = text.split('/').skip(1);
    let (_, host, _, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let socket = SocketAddr::new(host.parse().ok()?, port.parse().ok()?);
    match std::net::TcpListener::bind(socket) {
        Err(err) if err.kind() == std::io::ErrorKind::AddrInUse => {
            text.replace(&format!("/tcp/{port}"), "/tcp/0").parse().ok()
        }
        _ => None,
    }
}

fn hub_state(hub: &HubStatus) -> HubState {
    let text = |state: &ServiceState| match state {
        ServiceState::Off => "off",
        ServiceState::Connecting => "connecting",
        ServiceState::Up => "up",
        ServiceState::Down(err) if is_not_offered(err) => "not offered",
        ServiceState::Down(_) => "down",
    };
    let error = [&hub.tracker, &hub.relay]
        .into_iter()
        .find_map(|state| match state {
            ServiceState::Down(err) if !is_not_offered(err) => Some(err.to_string()),
            _ => None,
        });
    HubState {
        addr: hub.addr.to_string(),
        tracker: text(&hub.tracker).to_owned(),
        relay: text(&hub.relay).to_owned(),
        error,
    }
}

/// Half a hub is as its owner wants it: a relay of another program, `--no-relay`, `--no-tracker`.
fn is_not_offered(err: &HubError) -> bool {
    matches!(
        err,
        HubError::NoTracker | HubError::Relay(RelayRefusal::NotOffered)
    )
}

fn end_signal() -> Result<impl Future<Output = Ending>, CommandError> {
    use tokio::signal::unix::{SignalKind, signal};
    let no_signals = |err| CommandError::failed(format!("can't wait for signals: {err}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut again = signal(SignalKind::user_defined1()).map_err(no_signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => Ending::Stop,
            _ = interrupt.recv() => Ending::Stop,
            _ = again.recv() => Ending::BeginAgain,
        }
    })
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn random() -> u64 {
    u64::from_ne_bytes(rustory_store::random())
}

/// For the state file, in an order that does not change.
type States = BTreeMap<String, state::PeerState>;
