//! `rr daemon`: the device as a peer. It meets the other devices over libp2p, keeps a session with
//! each, and takes in what is typed so that it travels at once.
//!
//! The network runs on this thread, the log on one of its own; nothing here waits for the disk.

mod lock;
mod peers;
mod state;
mod upkeep;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustory_core::sync::session::{Event, Role, SessionError};
use rustory_core::sync::{Ended, Plan, Reason};
use rustory_net::p2p::{
    DeviceInfo, HubAddr, HubSpec, HubStatus, Multiaddr, Node, NodeConfig, NodeEvent, NodeHandle,
    OpenError, PeerId, ServiceState, SyncStream, listen_addr,
};
use rustory_net::session::{self, Control, Host};
use rustory_store::{Access, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use lock::{Lock, LockError, running};
pub(crate) use state::{PeerState, State};

use crate::ctx::{Ctx, now};
use crate::error::CommandError;
use crate::exchange::{Round, seen};
use crate::host::{LogThread, Manner};
use crate::keys;
use peers::{Active, Peers};
use state::HubState;
use upkeep::{News, Note, Upkeep};

/// How long sessions may take to end once the daemon is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// The state file is not written more often than this.
const STATE_EVERY: Duration = Duration::from_millis(200);

/// After a network node that died, so that a bug costs no processor time.
const NODE_RESTART: Duration = Duration::from_secs(5);

/// Runs until it is told to stop.
pub(crate) fn run(ctx: &Ctx) -> Result<(), CommandError> {
    let store = ctx.open(Access::PATIENT)?;
    let _lock = Lock::take(ctx.settings.data_dir()).map_err(|err| match err {
        LockError::Taken(pid) => CommandError::failed(format!(
            "a daemon runs already on this database{}",
            pid.map_or(String::new(), |pid| format!(", as process {pid}"))
        ))
        .hint("`rr status` shows what it does; stop it first, or leave it to it"),
        LockError::Io(path, err) => CommandError::failed(format!("`{}`: {err}", path.display())),
    })?;
    std::fs::create_dir_all(ctx.spool_dir())
        .map_err(|err| CommandError::failed(format!("`{}`: {err}", ctx.spool_dir().display())))?;
    let book = book(&store)?;
    let changed = Arc::new(AtomicBool::new(true));
    let (notes, notes_rx) = mpsc::channel();
    let (news, news_rx) = unbounded_channel();
    let mut upkeep = Upkeep::new(ctx, &store, Arc::clone(&changed), notes_rx, news);
    let manner = Manner {
        stays: true,
        verifies: false,
    };
    let (host, thread) = LogThread::start(ctx, store, manner, move |store| upkeep.before(store))?;
    watch(ctx, &host, changed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| CommandError::failed(format!("no event loop: {err}")))?;
    let ended = runtime.block_on(async {
        let daemon = Daemon::start(ctx, host, notes, book)?;
        daemon.run(news_rx).await
    });
    runtime.shutdown_background();
    // The watcher's link to the log ends with the process; everything handed over is stored first.
    drop(thread);
    ended
}

fn watch(ctx: &Ctx, host: &Host, changed: Arc<AtomicBool>) -> Result<(), CommandError> {
    let log = host.log.clone();
    log.nudge();
    let told = watch::watch(ctx.settings.data_dir(), move || {
        // One nudge is enough until it is looked at.
        changed.swap(true, Ordering::AcqRel) || log.nudge()
    });
    told.map_err(|err| {
        CommandError::failed(format!("the spool can't be watched: {err}"))
            .hint("is the limit of inotify watches reached? see /proc/sys/fs/inotify")
    })
}

/// Addresses remembered from earlier: of peers, and of who is behind a hub's address.
struct Book {
    peers: HashMap<PeerId, Vec<Multiaddr>>,
    hubs: HashMap<String, PeerId>,
}

/// What a hub's address is called in the book.
fn hub_key(addr: &str) -> String {
    format!("hub:{addr}")
}

fn book(store: &Store) -> Result<Book, CommandError> {
    let mut book = Book {
        peers: HashMap::new(),
        hubs: HashMap::new(),
    };
    for entry in store.addr_book()? {
        let Ok(peer) = entry.peer.parse::<PeerId>() else {
            continue;
        };
        if let Some(hub) = entry.addr.strip_prefix("hub:") {
            // The newest comes first.
            book.hubs.entry(hub.to_owned()).or_insert(peer);
        } else if let Ok(addr) = entry.addr.parse() {
            book.peers.entry(peer).or_default().push(addr);
        }
    }
    Ok(book)
}

struct Daemon<'a> {
    ctx: &'a Ctx,
    node: NodeHandle,
    events: tokio::sync::mpsc::Receiver<NodeEvent>,
    host: Host,
    plan: Plan<PeerId>,
    peers: Peers,
    tasks: JoinSet<Finished>,
    tell: UnboundedSender<(PeerId, u64, Told)>,
    told: UnboundedReceiver<(PeerId, u64, Told)>,
    notes: mpsc::Sender<Note>,
    state: State,
    written: State,
    next_write: Instant,
    began: Instant,
    next_session: u64,
    stopping: bool,
}

/// What a session says while it runs.
enum Told {
    /// The stream is there.
    Opened(rustory_net::p2p::Path),
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
        notes: mpsc::Sender<Note>,
        book: Book,
    ) -> Result<Daemon<'a>, CommandError> {
        let config = config(ctx, &host, &book)?;
        let (node, events) = start_node(ctx, config)?;
        let (tell, told) = unbounded_channel();
        let began = Instant::now();
        let mut daemon = Daemon {
            state: State {
                peer_id: node.peer_id().to_string(),
                ..State::default()
            },
            written: State::default(),
            next_write: began,
            peers: Peers::new(node.peer_id()),
            plan: Plan::new(millis(ctx.settings.sync_interval)),
            ctx,
            node,
            events,
            host,
            tasks: JoinSet::new(),
            tell,
            told,
            notes,
            began,
            next_session: 0,
            stopping: false,
        };
        for peer in book.peers.keys() {
            daemon.plan.seen(*peer, 0, random());
        }
        ctx.note(format_args!(
            "this device is {} in the network",
            daemon.node.peer_id()
        ));
        Ok(daemon)
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    async fn run(mut self, mut news: UnboundedReceiver<News>) -> Result<(), CommandError> {
        let stop = stop_signal()?;
        let mut stop = std::pin::pin!(stop);
        loop {
            let due = self
                .plan
                .next_due()
                .map(|due| self.began + Duration::from_millis(due));
            let write = (self.state != self.written).then_some(self.next_write);
            tokio::select! {
                () = stop.as_mut() => break,
                event = self.events.recv() => match event {
                    Some(event) => self.node_event(event).await,
                    None => self.restart_node().await?,
                },
                Some((peer, id, told)) = self.told.recv() => self.session_told(peer, id, told),
                Some(finished) = self.tasks.join_next() => match finished {
                    Ok(finished) => self.finished(finished),
                    Err(err) => tracing_less(self.ctx, &err),
                },
                Some(news) = news.recv() => self.log_news(news),
                () = sleep_until(due) => self.meet_due(),
                () = sleep_until(write) => self.write_state().await,
            }
        }
        self.stop().await;
        Ok(())
    }

    async fn stop(&mut self) {
        self.stopping = true;
        for active in self.peers.sessions() {
            let _ = active.control.send(Control::Stop);
        }
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_GRACE, ended).await;
        self.node.stop().await;
    }

    /// The network library died of a bug; its sessions end by themselves.
    async fn restart_node(&mut self) -> Result<(), CommandError> {
        crate::ui::warn("the network part has failed and is started again; this is a bug");
        tokio::time::sleep(NODE_RESTART).await;
        let book = Book {
            peers: HashMap::new(),
            hubs: HashMap::new(),
        };
        let config = config(self.ctx, &self.host, &book)?;
        (self.node, self.events) = start_node(self.ctx, config)?;
        Ok(())
    }

    // ---- the network

    async fn node_event(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Incoming { peer, path, stream } => self.incoming(peer, path, stream),
            NodeEvent::PeerConnected { peer, path, .. } => {
                self.peers.get(peer).path = Some(path);
                self.seen(peer);
            }
            NodeEvent::PeerPath { peer, path, .. } => {
                self.peers.get(peer).path = Some(path);
                // It goes on where it was, over the better way.
                self.peers.move_to(peer, path);
            }
            NodeEvent::PeerGone { peer } => self.peers.get(peer).path = None,
            NodeEvent::PeerDiscovered {
                peer,
                device,
                online,
                ..
            } => {
                if let Some(device) = device {
                    self.peers
                        .get(peer)
                        .named(&device.device_id, &device.device_name);
                }
                if online {
                    self.seen(peer);
                }
            }
            NodeEvent::SwarmKeyMismatch { addr, mismatch } => {
                crate::ui::warn(format_args!("{addr}: {mismatch}"));
            }
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
            NodeEvent::HubState { .. } => {}
        }
        self.refresh().await;
    }

    fn remember(&self, peer: PeerId, addr: String) {
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
                Some(active) => {
                    let _ = active.control.send(Control::Round);
                    self.plan.ended(&peer, Ended::Well, now, random());
                }
                None if self.peers.has_session(peer) => {
                    self.plan.ended(&peer, Ended::Well, now, random());
                }
                None => self.ask(peer),
            }
        }
        // What a session's death left waiting is looked at as often.
        self.host.log.nudge();
    }

    fn ask(&mut self, peer: PeerId) {
        let (id, control, told) = self.new_session(peer, Role::Asker);
        let (node, host, tell) = (self.node.clone(), self.host.clone(), self.tell.clone());
        self.peers.add(peer, id, control);
        self.tasks.spawn(async move {
            let result = match node.open(peer).await {
                Ok(stream) => {
                    let _ = tell.send((peer, id, Told::Opened(stream.path())));
                    hold(stream, Role::Asker, &host, told, peer, id, &tell).await
                }
                Err(err) => Err(Trouble::Open(err)),
            };
            Finished { peer, id, result }
        });
    }

    fn incoming(&mut self, peer: PeerId, path: rustory_net::p2p::Path, stream: SyncStream) {
        let (id, mut control, told) = self.new_session(peer, Role::Answerer);
        control.path = Some(path);
        // Of two that ask each other, the one with the lower id goes on.
        self.peers.yield_to(peer);
        self.peers.add(peer, id, control);
        let (host, tell) = (self.host.clone(), self.tell.clone());
        self.tasks.spawn(async move {
            let result = hold(stream, Role::Answerer, &host, told, peer, id, &tell).await;
            Finished { peer, id, result }
        });
    }

    fn new_session(&mut self, _: PeerId, role: Role) -> (u64, Active, UnboundedReceiver<Control>) {
        self.next_session += 1;
        let (control, told) = unbounded_channel();
        (self.next_session, Active::new(role, control), told)
    }

    fn session_told(&mut self, peer: PeerId, id: u64, told: Told) {
        let known = self.peers.get(peer);
        let event = match told {
            Told::Opened(path) => return known.with(id, |active| active.path = Some(path)),
            Told::Event(event) => *event,
        };
        match event {
            Event::Met(hello) => {
                known.named(&hello.device_id, &hello.device_name);
                known.error = None;
                let seen = seen(&hello, known.session_path(id), now());
                let device_id = hello.device_id.clone();
                known.hello = Some(hello);
                self.note(Note::Seen(device_id, seen));
            }
            Event::Round(report) => {
                known.with(id, |active| active.live = true);
                known.error = None;
                let path = known.session_path(id);
                if let Some(hello) = &known.hello {
                    let round = Round::new(hello, path, &report, now());
                    self.note(Note::Round(Box::new(round)));
                }
                // A session that stays does another one, which is how entries of third devices go on.
                let now = self.now();
                self.plan.ended(&peer, Ended::Well, now, random());
            }
            Event::Damaged { origins } => crate::ui::warn(format_args!(
                "the disk changed or lost entries of {}; mending them from a peer",
                origins.join(", ")
            )),
            _ => {}
        }
        self.state.peers = self.peers.states();
    }

    fn finished(&mut self, finished: Finished) {
        let Finished { peer, id, result } = finished;
        let moving = self.peers.remove(peer, id);
        let now = self.now();
        let error = match &result {
            Ok(()) => None,
            Err(Trouble::Session(err)) if is_ordinary(err) => None,
            Err(Trouble::Session(err)) => Some(err.to_string()),
            Err(Trouble::Open(err)) => Some(err.to_string()),
        };
        let how = match error {
            None => Ended::Well,
            Some(_) => Ended::Badly,
        };
        if !self.peers.has_session(peer) {
            self.plan.ended(&peer, how, now, random());
        }
        if moving || matches!(result, Err(Trouble::Session(SessionError::WasCopy))) {
            self.plan.seen(peer, now, random());
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

    fn log_news(&mut self, news: News) {
        match news {
            News::Grew => {
                for active in self.peers.sessions() {
                    let _ = active.control.send(Control::LogGrew);
                }
            }
            News::Identity(identity) => {
                self.ctx.note("another device has a copy of this database: this one counts as a new device from now on");
                self.host.local.device_id = identity.device_id;
                self.host.local.log_id = identity.log_id;
            }
            News::Problem(problem) => {
                if let Some(problem) = &problem {
                    crate::ui::warn(problem);
                }
                self.state.problem = problem;
            }
        }
    }

    async fn write_state(&mut self) {
        self.next_write = Instant::now() + STATE_EVERY;
        self.written = self.state.clone();
        let (state, dir) = (self.state.clone(), self.ctx.settings.data_dir().to_owned());
        // A full disk is told elsewhere.
        let _ = tokio::task::spawn_blocking(move || state.write(&dir)).await;
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

fn config(ctx: &Ctx, host: &Host, book: &Book) -> Result<NodeConfig, CommandError> {
    let settings = &ctx.settings;
    let keys = keys::load(ctx)?;
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
        identity: keys.identity,
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

/// Where the port is taken, on another one: without it the device is still reached, though not as
/// well.
fn start_node(
    ctx: &Ctx,
    config: NodeConfig,
) -> Result<(NodeHandle, tokio::sync::mpsc::Receiver<NodeEvent>), CommandError> {
    Node::start(config).map_err(|err| {
        let source =
            std::error::Error::source(&err).map_or(String::new(), |err| format!(": {err}"));
        let _ = ctx;
        CommandError::failed(format!("{err}{source}")).hint(
            "is the port taken by another program? `listen` in the configuration names another one",
        )
    })
}

fn hub_state(hub: &HubStatus) -> HubState {
    let text = |state: &ServiceState| match state {
        ServiceState::Off => "off",
        ServiceState::Connecting => "connecting",
        ServiceState::Up => "up",
        ServiceState::Down(_) => "down",
    };
    let error = [&hub.tracker, &hub.relay]
        .into_iter()
        .find_map(|state| match state {
            ServiceState::Down(err) => Some(err.to_string()),
            _ => None,
        });
    HubState {
        addr: hub.addr.to_string(),
        tracker: text(&hub.tracker).to_owned(),
        relay: text(&hub.relay).to_owned(),
        error,
    }
}

/// A session's task that panicked: its stream is gone, the daemon goes on.
fn tracing_less(ctx: &Ctx, err: &tokio::task::JoinError) {
    ctx.note(format_args!("a session failed: {err}; this is a bug"));
}

fn stop_signal() -> Result<impl Future<Output = ()>, CommandError> {
    use tokio::signal::unix::{SignalKind, signal};
    let no_signals = |err| CommandError::failed(format!("can't wait for signals: {err}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
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
