//! Other devices: where they may be, how they are dialled, and which of several connections to one
//! is used.
//!
//! New streams prefer a direct connection. When a better connection comes, the others are drained:
//! kept while streams run on them, at most [`DRAIN_MAX`] for a relayed one, and then closed. The
//! library would keep a relayed connection for ever after hole punching, and close the direct one
//! instead, for being idle.

use std::collections::HashMap;

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId, Stream, identify};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::task::{Link, Task};
use super::{DeviceInfo, FoundBy, NodeEvent, PeerStatus};
use crate::p2p::addr::{
    Path, ip_of, is_circuit, is_dialable, relay_of, without_peer, worth_telling,
};
use crate::p2p::backoff::{Backoff, jitter};
use crate::p2p::failure::{DialFailure, OpenError, dial_failures};
use crate::p2p::limits::{
    ADDRS_PER_PEER_MAX, DIRECT_BACKOFF_MAX, DIRECT_BACKOFF_MIN, DIRECT_RETRY_AFTER, DIRECT_SETTLE,
    DRAIN_IDLE, DRAIN_MAX, HANDSHAKE_TIMEOUT, KICK_JITTER, OPEN_TIMEOUT, PEERS_MAX, PUNCH_MAX,
    RELAYS_AFTER, SETTLE_STEP, SYNC_STREAMS_PER_PEER_MAX, TRACKER_ADDRS_AFTER,
};
use crate::p2p::stream::{Held, LinkId, OpenId, StreamError, StreamEvent, SyncStream};
use crate::p2p::tracker::Listed;

/// Relays that are not ours, through which a peer says it can be reached, and which are tried.
const FOREIGN_CIRCUITS_MAX: usize = 4;

type Reply = oneshot::Sender<Result<SyncStream, OpenError>>;

/// All devices that are known.
#[derive(Default)]
pub(super) struct Peers {
    all: HashMap<PeerId, Peer>,
    /// Streams that are being opened.
    opening: HashMap<OpenId, Opening>,
    last_open: OpenId,
}

/// What is known of one device.
#[derive(Default)]
struct Peer {
    conns: Vec<Conn>,
    /// Direct addresses that worked, or were given, the most recent first.
    book: Vec<Multiaddr>,
    mdns: Vec<Multiaddr>,
    /// What each tracker tells.
    told: HashMap<PeerId, Told>,
    attempt: Option<Attempt>,
    waiting: Vec<Waiting>,
    /// What the caller knows of the connection that new streams run over.
    used: Option<Link>,
    direct_tried: Option<Instant>,
    /// When to look for a direct way again; only while the way used is a relayed one.
    retry: Option<Instant>,
    retries: Backoff,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    addrs: Vec<Multiaddr>,
    device: DeviceInfo,
    online: bool,
}

/// One connection to a device.
struct Conn {
    link: Link,
    since: Instant,
    held: Held,
    /// Since when a better one has replaced it.
    draining: Option<Instant>,
    /// It is being closed, which may take as long as the system has something to send: nobody waits
    /// for that, and nothing is opened on it.
    closing: bool,
}

/// Somebody waits for a stream.
struct Waiting {
    reply: Reply,
    until: Instant,
    /// A connection was lost under it before.
    again: bool,
}

struct Opening {
    peer: PeerId,
    waiting: Waiting,
}

/// Dialling a device.
struct Attempt {
    started: Instant,
    stage: Stage,
    /// When to go on even if dials are pending.
    next_at: Instant,
    /// Nothing is dialled; a hub may help soon.
    parked: bool,
    /// Another relayed connection is made although there is one: a hole is punched once for each.
    punches: bool,
    dials: Vec<(ConnectionId, Vec<Multiaddr>)>,
    tried: Vec<Multiaddr>,
    failures: Vec<(Multiaddr, DialFailure)>,
}

/// What is dialled next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The LAN, and what worked last.
    Near,
    /// What trackers tell.
    Told,
    Relays,
    /// Nothing more.
    Done,
}

impl Conn {
    /// Smaller is better; see [`Task::settle`].
    fn rank(&self, me: PeerId, peer: PeerId) -> (bool, bool, Instant) {
        let dialled_by_lower = self.link.outgoing == (me < peer);
        let relayed = self.link.path == Path::Relay;
        (relayed, !dialled_by_lower, self.since)
    }
}

impl Peer {
    /// The connection for new streams.
    fn best(&self, me: PeerId, peer: PeerId) -> Option<&Conn> {
        let open = self.open();
        open.min_by_key(|conn| (conn.draining.is_some(), conn.rank(me, peer)))
    }

    /// The connections that are not being closed.
    fn open(&self) -> impl Iterator<Item = &Conn> {
        self.conns.iter().filter(|conn| !conn.closing)
    }

    fn is_connected(&self) -> bool {
        self.open().next().is_some()
    }

    fn streams(&self) -> usize {
        self.conns.iter().map(|conn| conn.held.count()).sum()
    }

    fn told_addrs(&self) -> impl Iterator<Item = &Multiaddr> {
        self.told.values().flat_map(|told| &told.addrs)
    }

    fn device(&self) -> Option<&DeviceInfo> {
        self.told.values().next().map(|told| &told.device)
    }

    /// Those on the LAN, whoever tells them, and those that worked.
    fn near(&self) -> Vec<Multiaddr> {
        let lan = self.told_addrs().filter(|addr| Path::of(addr) == Path::Lan);
        let known = self.mdns.iter().chain(&self.book);
        known.chain(lan).cloned().collect()
    }

    fn told_direct(&self) -> Vec<Multiaddr> {
        let direct = self.told_addrs().filter(|addr| !is_circuit(addr));
        direct.cloned().collect()
    }

    fn is_forgettable(&self) -> bool {
        self.conns.is_empty()
            && self.waiting.is_empty()
            && self.attempt.is_none()
            && self.book.is_empty()
            && self.mdns.is_empty()
            && self.told.is_empty()
    }
}

impl Peers {
    pub(super) fn new(book: HashMap<PeerId, Vec<Multiaddr>>) -> Peers {
        let mut peers = Peers::default();
        for (peer, addrs) in book {
            peers.add_to_book(peer, addrs);
        }
        peers
    }

    pub(super) fn add_to_book(&mut self, peer: PeerId, addrs: Vec<Multiaddr>) {
        let Some(known) = self.found(peer) else {
            return;
        };
        for addr in addrs {
            let addr = without_peer(addr, &peer);
            if is_dialable(&addr) && !is_circuit(&addr) && !known.book.contains(&addr) {
                known.book.push(addr);
            }
        }
        known.book.truncate(ADDRS_PER_PEER_MAX);
    }

    /// A peer's entry, made if there is room.
    fn found(&mut self, peer: PeerId) -> Option<&mut Peer> {
        if self.all.len() >= PEERS_MAX && !self.all.contains_key(&peer) {
            return None;
        }
        Some(self.all.entry(peer).or_default())
    }

    pub(super) fn mdns_expired(&mut self, gone: Vec<(PeerId, Multiaddr)>) {
        for (peer, addr) in gone {
            if let Some(known) = self.all.get_mut(&peer) {
                let addr = without_peer(addr, &peer);
                known.mdns.retain(|it| *it != addr);
            }
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.all.retain(|_, peer| !peer.is_forgettable());
    }

    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let opening = self.opening.values().map(|it| it.waiting.until);
        let peers = self.all.values().flat_map(|peer| {
            let waiting = peer.waiting.iter().map(|it| it.until);
            let attempt = peer.attempt.as_ref();
            let attempt = attempt
                .filter(|it| it.stage != Stage::Done)
                .map(|it| it.next_at);
            let retry = peer.retry.filter(|_| peer.attempt.is_none());
            let draining = peer.open().any(|conn| conn.draining.is_some());
            let draining = draining.then_some(now + DRAIN_IDLE / 4);
            waiting.chain(attempt).chain(retry).chain(draining)
        });
        opening.chain(peers).min()
    }

    /// Connections with nobody in between.
    pub(super) fn direct(&self) -> impl Iterator<Item = (PeerId, ConnectionId)> {
        self.all.iter().flat_map(|(peer, known)| {
            let direct = known.open().filter(|conn| conn.link.path != Path::Relay);
            direct.map(|conn| (*peer, conn.link.id))
        })
    }

    pub(super) fn status(&self) -> Vec<PeerStatus> {
        let all = self.all.iter();
        all.map(|(peer, known)| PeerStatus {
            peer: *peer,
            path: known
                .used
                .as_ref()
                .map(|link| (link.path, link.addr.clone())),
            device: known.device().cloned(),
            streams: known.streams(),
        })
        .collect()
    }
}

// --- opening streams ---

impl Task {
    pub(super) fn open(&mut self, peer: PeerId, reply: Reply, now: Instant) {
        if peer == self.me || self.servers.is_server(peer) {
            let _ = reply.send(Err(OpenError::NotADevice));
            return;
        }
        let waiting = Waiting {
            reply,
            until: now + OPEN_TIMEOUT,
            again: false,
        };
        self.get_stream(peer, waiting, now);
    }

    /// Opens a stream over the best connection, or waits for one to come about.
    fn get_stream(&mut self, peer: PeerId, waiting: Waiting, now: Instant) {
        let me = self.me;
        let known = self.peers.all.entry(peer).or_default();
        let Some(best) = known.best(me, peer) else {
            known.waiting.push(waiting);
            self.start_attempt(peer, now);
            return;
        };
        let relayed = best.link.path == Path::Relay;
        let link = best.link.id;
        // One that came about just now leads to the peer for sure. Whether an older one does is seen
        // by the answer.
        let confirmed = best.since < now;
        self.peers.last_open += 1;
        let id = self.peers.last_open;
        let streams = &mut self.swarm.behaviour_mut().streams;
        streams.open(id, peer, link, confirmed);
        self.peers.opening.insert(id, Opening { peer, waiting });
        if relayed {
            self.try_directly(peer, now);
        }
    }

    /// Looks for a direct way to a peer that is connected through a relay only.
    fn try_directly(&mut self, peer: PeerId, now: Instant) {
        let Some(known) = self.peers.all.get(&peer) else {
            return;
        };
        let recently = known
            .direct_tried
            .is_some_and(|tried| now.duration_since(tried) < DIRECT_RETRY_AFTER);
        if !recently {
            self.start_attempt(peer, now);
        }
    }

    /// Looks for direct ways to peers that are reached through a relay, when it is time to, and
    /// punches a hole once more where it is on us.
    fn retry_direct(&mut self, now: Instant) {
        let due = self.peers.all.iter().filter(|(_, known)| {
            known.attempt.is_none() && known.retry.is_some_and(|retry| retry <= now)
        });
        for peer in due.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.start_attempt(peer, now);
            let Some(known) = self.peers.all.get_mut(&peer) else {
                continue;
            };
            let wait = known
                .retries
                .next_within(DIRECT_BACKOFF_MIN, DIRECT_BACKOFF_MAX);
            known.retry = Some(now + wait);
            let ours = known.used.as_ref().is_some_and(|link| link.outgoing);
            if let Some(attempt) = known.attempt.as_mut().filter(|_| ours) {
                attempt.punches = true;
            }
            self.advance(peer, now);
        }
    }

    /// What could not be reached directly may be now.
    pub(super) fn retry_direct_soon(&mut self, now: Instant) {
        for known in self.peers.all.values_mut() {
            if let Some(retry) = &mut known.retry {
                *retry = (now + DIRECT_SETTLE + jitter(KICK_JITTER)).min(*retry);
                known.retries.reset();
            }
        }
    }

    pub(super) fn on_stream(&mut self, event: StreamEvent, now: Instant) {
        match event {
            StreamEvent::Incoming {
                peer,
                connection,
                stream,
            } => {
                let streams = self.peers.all.get(&peer).map_or(0, Peer::streams);
                if streams >= SYNC_STREAMS_PER_PEER_MAX {
                    tracing::debug!(%peer, "too many streams");
                    return;
                }
                let Some(stream) = self.hold(peer, connection, stream) else {
                    return;
                };
                let path = stream.path();
                self.tell(NodeEvent::Incoming { peer, path, stream });
            }
            StreamEvent::Opened {
                id,
                peer,
                connection,
                result,
            } => {
                let Some(Opening { waiting, .. }) = self.peers.opening.remove(&id) else {
                    return;
                };
                let opened = result.and_then(|stream| {
                    let held = self.hold(peer, connection, stream);
                    held.ok_or(StreamError::Lost)
                });
                match opened {
                    // Nobody may want it any more.
                    Ok(stream) => drop(waiting.reply.send(Ok(stream))),
                    Err(err) => self.open_failed(peer, connection, &err, waiting, now),
                }
            }
        }
    }

    fn open_failed(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        err: &StreamError,
        waiting: Waiting,
        now: Instant,
    ) {
        let error = match err {
            StreamError::Unsupported => OpenError::Unsupported,
            StreamError::Lost => OpenError::Lost,
        };
        if error == OpenError::Unsupported || waiting.again {
            let _ = waiting.reply.send(Err(error));
            return;
        }
        // A connection that does not open a stream within seconds is dead, whatever TCP says.
        self.close(connection, now);
        let waiting = Waiting {
            again: true,
            ..waiting
        };
        self.get_stream(peer, waiting, now);
    }

    /// A stream of a connection, which counts it from now on; `None`: the connection is gone.
    fn hold(&mut self, peer: PeerId, id: ConnectionId, stream: Stream) -> Option<SyncStream> {
        let conns = &mut self.peers.all.get_mut(&peer)?.conns;
        let conn = conns.iter_mut().find(|conn| conn.link.id == id)?;
        let (path, link) = (conn.link.path, LinkId::new(id));
        (!conn.closing).then(|| SyncStream::new(stream, peer, path, link, conn.held.add()))
    }
}

// --- dialling ---

impl Task {
    fn start_attempt(&mut self, peer: PeerId, now: Instant) {
        let Some(known) = self.peers.all.get_mut(&peer) else {
            return;
        };
        let connected = known.is_connected();
        if let Some(attempt) = &mut known.attempt {
            // One that only looked for a direct way, and whose relayed connection was lost.
            if attempt.stage == Stage::Done && !connected {
                attempt.stage = Stage::Near;
                attempt.tried.retain(|addr| !is_circuit(addr));
            }
            return self.advance(peer, now);
        }
        known.direct_tried = Some(now);
        known.attempt = Some(Attempt {
            started: now,
            stage: Stage::Near,
            next_at: now,
            parked: false,
            punches: false,
            dials: Vec::new(),
            tried: Vec::new(),
            failures: Vec::new(),
        });
        self.advance(peer, now);
    }

    /// Goes through the stages: each gets its head start, and is passed at once when it has nothing
    /// (more) to dial.
    fn advance(&mut self, peer: PeerId, now: Instant) {
        loop {
            let Some(known) = self.peers.all.get_mut(&peer) else {
                return;
            };
            let Some(attempt) = &mut known.attempt else {
                return;
            };
            let waits = attempt.parked || !attempt.dials.is_empty();
            if attempt.stage == Stage::Done {
                if attempt.dials.is_empty() {
                    self.end_attempt(peer);
                }
                return;
            }
            if waits && now < attempt.next_at {
                return;
            }
            match attempt.stage {
                Stage::Near => {
                    attempt.stage = Stage::Told;
                    attempt.next_at = attempt.started + TRACKER_ADDRS_AFTER;
                    let addrs = known.near();
                    self.dial_peer(peer, addrs, now);
                }
                Stage::Told => {
                    attempt.stage = Stage::Relays;
                    attempt.next_at = attempt.started + RELAYS_AFTER;
                    let addrs = known.told_direct();
                    self.dial_peer(peer, addrs, now);
                }
                Stage::Relays | Stage::Done => self.dial_through_relays(peer, now),
            }
        }
    }

    /// The last stage. While a hub is still being connected, which may yet say where the peer is or
    /// lead to it, it is repeated.
    fn dial_through_relays(&mut self, peer: PeerId, now: Instant) {
        let settling = self.servers.settling(now);
        let relays = self.servers.circuits_to(peer);
        let servers = &self.servers;
        let Some(known) = self.peers.all.get_mut(&peer) else {
            return;
        };
        let connected = known.is_connected();
        let foreign = known
            .told_addrs()
            .filter(|addr| relay_of(addr).is_some_and(|relay| !servers.is_server(relay)));
        let foreign = foreign.take(FOREIGN_CIRCUITS_MAX).cloned();
        let mut ways: Vec<Multiaddr> = relays.into_iter().chain(foreign).collect();
        let punches = known.attempt.as_ref().is_some_and(|it| it.punches);
        if connected && !punches {
            // A relayed connection is there already: this attempt looks for a direct one.
            ways.clear();
        }
        ways.extend(known.near());
        ways.extend(known.told_direct());
        let dialled = self.dial_peer(peer, ways, now);
        let known = self.peers.all.get_mut(&peer);
        let Some(attempt) = known.and_then(|known| known.attempt.as_mut()) else {
            return;
        };
        attempt.parked = settling && !dialled && !connected;
        match attempt.parked {
            true => attempt.next_at = now + SETTLE_STEP,
            false => attempt.stage = Stage::Done,
        }
    }

    /// Dials those of the addresses that were not tried yet. Whether there were any.
    fn dial_peer(&mut self, peer: PeerId, addrs: Vec<Multiaddr>, now: Instant) -> bool {
        let ours: Vec<&Multiaddr> = self.swarm.listeners().collect();
        let known = self.peers.all.get_mut(&peer);
        let Some(attempt) = known.and_then(|known| known.attempt.as_mut()) else {
            return false;
        };
        let mut fresh = Vec::new();
        for addr in addrs {
            let addr = without_peer(addr, &peer);
            let usable = is_dialable(&addr) && !ours.contains(&&addr);
            if usable && !attempt.tried.contains(&addr) {
                attempt.tried.push(addr.clone());
                fresh.push(addr);
            }
        }
        self.dial_addrs(peer, fresh, now)
    }

    fn dial_addrs(&mut self, peer: PeerId, addrs: Vec<Multiaddr>, now: Instant) -> bool {
        if addrs.is_empty() {
            return false;
        }
        tracing::debug!(%peer, ?addrs, "dialling");
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addrs.clone())
            .build();
        let id = opts.connection_id();
        let known = self.peers.all.get_mut(&peer);
        if let Some(attempt) = known.and_then(|known| known.attempt.as_mut()) {
            attempt.dials.push((id, addrs));
        }
        if let Err(err) = self.swarm.dial(opts) {
            self.peer_dial_failed(id, &err, now);
        }
        true
    }

    pub(super) fn peer_dial_failed(&mut self, id: ConnectionId, err: &DialError, now: Instant) {
        let mut all = self.peers.all.iter_mut();
        let found = all.find_map(|(peer, known)| {
            let attempt = known.attempt.as_mut()?;
            let at = attempt.dials.iter().position(|(dial, _)| *dial == id)?;
            let (_, addrs) = attempt.dials.swap_remove(at);
            Some((*peer, attempt, addrs))
        });
        // Dials of hole punching end here too; they are nobody's.
        let Some((peer, attempt, mut addrs)) = found else {
            return;
        };
        let slow = now.duration_since(attempt.started) >= HANDSHAKE_TIMEOUT;
        let failures = dial_failures(err, &addrs, slow);
        let failures = failures
            .into_iter()
            .map(|(addr, failure)| (without_peer(addr, &peer), failure));
        let failures: Vec<_> = failures.collect();
        attempt.failures.extend(failures.iter().cloned());
        for (addr, failure) in &failures {
            if let DialFailure::WrongSwarmKey(mismatch) = failure {
                self.tell_mismatch(addr.clone(), mismatch.clone(), now);
            }
        }
        // Somebody else at one address ends the dial, although others may lead to the peer.
        if let DialError::WrongPeerId { address, .. } | DialError::LocalPeerId { address } = err {
            let wrong = without_peer(address.clone(), &peer);
            addrs.retain(|addr| *addr != wrong);
            self.dial_addrs(peer, addrs, now);
        }
        self.advance(peer, now);
    }

    /// Nothing is left to dial.
    fn end_attempt(&mut self, peer: PeerId) {
        let Some(known) = self.peers.all.get_mut(&peer) else {
            return;
        };
        let Some(attempt) = known.attempt.take() else {
            return;
        };
        let error = OpenError::of(attempt.failures);
        for waiting in known.waiting.drain(..) {
            let _ = waiting.reply.send(Err(error.clone()));
        }
        self.peers.forget();
    }
}

// --- connections ---

impl Task {
    pub(super) fn peer_connected(&mut self, peer: PeerId, mut link: Link, now: Instant) {
        let known = self.peers.all.entry(peer).or_default();
        // A local network may use public addresses, and with IPv6 mostly does.
        if link.path == Path::Direct && known.mdns.contains(&link.addr) {
            link.path = Path::Lan;
        }
        let relayed_to_us = link.path == Path::Relay && !link.outgoing;
        let learned = (link.outgoing && link.path != Path::Relay).then(|| link.addr.clone());
        if let Some(attempt) = &mut known.attempt {
            attempt.dials.retain(|(id, _)| *id != link.id);
            // What is being dialled may still give a better one.
            attempt.stage = Stage::Done;
            attempt.parked = false;
        }
        known.conns.push(Conn {
            link,
            since: now,
            held: Held::default(),
            draining: None,
            closing: false,
        });
        let waiting = std::mem::take(&mut known.waiting);
        if let Some(addr) = learned {
            self.learn(peer, addr);
        }
        self.settle(peer, now);
        for waiting in waiting {
            self.get_stream(peer, waiting, now);
        }
        // Whoever could not reach us may be reachable by us.
        if relayed_to_us {
            self.try_directly(peer, now);
        }
        self.advance(peer, now);
    }

    pub(super) fn peer_disconnected(&mut self, peer: PeerId, id: ConnectionId, now: Instant) {
        let Some(known) = self.peers.all.get_mut(&peer) else {
            return;
        };
        known.conns.retain(|conn| conn.link.id != id);
        self.settle(peer, now);
        self.peers.forget();
    }

    /// Closes a connection, to a device or to a hub. From this moment on nothing runs over it: its
    /// streams end, and those that are being opened are opened another way.
    pub(super) fn close(&mut self, id: ConnectionId, now: Instant) {
        self.swarm.close_connection(id);
        self.swarm.behaviour_mut().streams.closed(id);
        let mut all = self.peers.all.iter_mut();
        let found = all.find_map(|(peer, known)| {
            let mut conns = known.conns.iter_mut();
            Some((*peer, conns.find(|conn| conn.link.id == id)?))
        });
        if let Some((peer, conn)) = found {
            conn.closing = true;
            conn.held.cut();
            self.settle(peer, now);
        }
    }

    /// Decides which connection is used, drains the others, and tells the caller what changed.
    ///
    /// A direct connection is better than a relayed one. Of two that crossed each other, both sides
    /// keep the one dialled by the lower peer id; of two by the same dialler, it keeps the older.
    fn settle(&mut self, peer: PeerId, now: Instant) {
        let me = self.me;
        let Some(known) = self.peers.all.get_mut(&peer) else {
            return;
        };
        let best = known.open().min_by_key(|conn| conn.rank(me, peer));
        let best = best.map(|conn| conn.link.clone());
        for conn in &mut known.conns {
            let replaced = best.as_ref().is_some_and(|best| replaces(best, &conn.link));
            conn.draining = replaced.then(|| conn.draining.unwrap_or(now));
        }
        let before = std::mem::replace(&mut known.used, best.clone());
        match &best {
            Some(link) if link.path == Path::Relay => {
                if known.retry.is_none() {
                    let wait = known
                        .retries
                        .next_within(DIRECT_BACKOFF_MIN, DIRECT_BACKOFF_MAX);
                    known.retry = Some(now + wait);
                }
            }
            _ => known.retry = None,
        }
        let event = match (before, best) {
            (None, Some(Link { id, path, addr, .. })) => NodeEvent::PeerConnected {
                peer,
                path,
                addr,
                link: LinkId::new(id),
            },
            (Some(_), None) => NodeEvent::PeerGone { peer },
            (Some(before), Some(Link { id, path, addr, .. })) if before.id != id => {
                NodeEvent::PeerPath {
                    peer,
                    path,
                    addr,
                    link: LinkId::new(id),
                }
            }
            _ => return,
        };
        self.tell(event);
    }

    pub(super) fn tick_peers(&mut self, now: Instant) {
        self.give_up_late(now);
        self.close_drained(now);
        self.retry_direct(now);
        let all = self.peers.all.iter();
        let due = all.filter(|(_, known)| {
            let attempt = known.attempt.as_ref();
            attempt.is_some_and(|it| it.stage != Stage::Done && it.next_at <= now)
        });
        for peer in due.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.advance(peer, now);
        }
    }

    /// Whoever waited too long, or has gone away, waits no more.
    fn give_up_late(&mut self, now: Instant) {
        for known in self.peers.all.values_mut() {
            let late = known
                .waiting
                .extract_if(.., |it| it.until <= now || it.reply.is_closed());
            for waiting in late {
                let _ = waiting.reply.send(Err(OpenError::Timeout));
            }
        }
        let late = self
            .peers
            .opening
            .extract_if(|_, it| it.waiting.until <= now || it.waiting.reply.is_closed());
        for (_, opening) in late {
            tracing::debug!(peer = %opening.peer, "a stream was not opened in time");
            let _ = opening.waiting.reply.send(Err(OpenError::Timeout));
        }
    }

    fn close_drained(&mut self, now: Instant) {
        let mut drained = Vec::new();
        let conns = self.peers.all.values().flat_map(|known| {
            let relayed = |link: &Link| link.path == Path::Relay;
            let only_relayed = known.used.as_ref().is_some_and(relayed);
            known.conns.iter().map(move |conn| (conn, only_relayed))
        });
        for (conn, only_relayed) in conns {
            let Some(since) = conn.draining.filter(|_| !conn.closing) else {
                continue;
            };
            let id = conn.link.id;
            let idle = conn.held.count() == 0 && !self.swarm.behaviour().streams.is_opening(id);
            let relayed = conn.link.path == Path::Relay;
            let waited = now.duration_since(since);
            // A hole may be punched with its help.
            let least = match only_relayed {
                true => PUNCH_MAX,
                false => DRAIN_IDLE,
            };
            if (idle && waited >= least) || (relayed && waited >= DRAIN_MAX) {
                drained.push(id);
            }
        }
        for id in drained {
            self.close(id, now);
        }
    }
}

/// Whether `best` makes the other connection superfluous, and it is on us to close it.
fn replaces(best: &Link, other: &Link) -> bool {
    if best.id == other.id {
        return false;
    }
    let same_dialler = best.outgoing == other.outgoing;
    match (best.path, other.path) {
        (Path::Lan | Path::Direct, Path::Relay) => true,
        // Only the dialler knows which of its connections is older.
        _ => !same_dialler || other.outgoing,
    }
}

// --- finding ---

impl Task {
    /// What a tracker lists replaces what it listed before.
    pub(super) fn listed(&mut self, tracker: PeerId, listed: Vec<(PeerId, Listed)>, now: Instant) {
        for (peer, known) in &mut self.peers.all {
            if !listed.iter().any(|(it, _)| it == peer) {
                known.told.remove(&tracker);
            }
        }
        for (peer, entry) in listed {
            let addrs = entry.addrs.iter().filter_map(|addr| addr.parse().ok());
            let addrs = addrs.map(|addr| without_peer(addr, &peer));
            let told = Told {
                addrs: addrs.filter(is_dialable).take(ADDRS_PER_PEER_MAX).collect(),
                device: DeviceInfo {
                    device_id: entry.device_id,
                    device_name: entry.device_name,
                    user_id: entry.user_id,
                },
                online: entry.online,
            };
            self.told(tracker, peer, told, now);
        }
        self.peers.forget();
    }

    fn told(&mut self, tracker: PeerId, peer: PeerId, told: Told, now: Instant) {
        let Some(known) = self.peers.found(peer) else {
            return;
        };
        if known.told.insert(tracker, told.clone()).as_ref() == Some(&told) {
            return;
        }
        let only_relayed = known
            .used
            .as_ref()
            .is_some_and(|link| link.path == Path::Relay);
        self.tell(NodeEvent::PeerDiscovered {
            peer,
            addrs: told.addrs,
            device: Some(told.device),
            online: told.online,
            by: FoundBy::Tracker,
        });
        if only_relayed {
            self.try_directly(peer, now);
            if let Some(known) = self.peers.all.get_mut(&peer) {
                known.retries.reset();
            }
        }
    }

    /// The tracker is gone. What it told stays worth trying, but is told anew when it returns.
    pub(super) fn forget_listing(&mut self, tracker: PeerId) {
        for known in self.peers.all.values_mut() {
            if let Some(told) = known.told.get_mut(&tracker) {
                told.online = false;
            }
        }
    }

    pub(super) fn mdns_found(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let mut fresh: Vec<PeerId> = Vec::new();
        for (peer, addr) in found {
            let addr = without_peer(addr, &peer);
            let usable = is_dialable(&addr) && !is_circuit(&addr);
            if !usable || peer == self.me || self.servers.is_server(peer) {
                continue;
            }
            let Some(known) = self.peers.found(peer) else {
                continue;
            };
            if known.mdns.len() < ADDRS_PER_PEER_MAX && !known.mdns.contains(&addr) {
                known.mdns.push(addr);
                fresh.push(peer);
            }
        }
        fresh.sort();
        fresh.dedup();
        for peer in fresh {
            let addrs = self.peers.all.get(&peer).map(|known| known.mdns.clone());
            self.tell(NodeEvent::PeerDiscovered {
                peer,
                addrs: addrs.unwrap_or_default(),
                device: None,
                online: true,
                by: FoundBy::Mdns,
            });
        }
    }

    /// A peer that is connected directly says where it listens. What it says of the machine at the
    /// other end is remembered; the rest it could say of anybody.
    pub(super) fn peer_identified(&mut self, peer: PeerId, id: ConnectionId, info: identify::Info) {
        let conns = self.peers.all.get(&peer).map(|known| &known.conns);
        let conn = conns.and_then(|all| all.iter().find(|conn| conn.link.id == id));
        let Some(ip) = conn.and_then(|conn| ip_of(&conn.link.addr)) else {
            return;
        };
        if conn.is_some_and(|conn| conn.link.path == Path::Relay) {
            return;
        }
        let direct = info.listen_addrs.into_iter();
        let direct = direct.filter(|addr| !is_circuit(addr) && ip_of(addr) == Some(ip));
        for addr in worth_telling(direct.take(ADDRS_PER_PEER_MAX)) {
            self.learn(peer, addr);
        }
    }

    fn learn(&mut self, peer: PeerId, addr: Multiaddr) {
        let Some(known) = self.peers.found(peer) else {
            return;
        };
        let addr = without_peer(addr, &peer);
        let at = known.book.iter().position(|it| *it == addr);
        if let Some(at) = at {
            known.book.remove(at);
        }
        known.book.insert(0, addr.clone());
        known.book.truncate(ADDRS_PER_PEER_MAX);
        if at.is_none() {
            self.tell(NodeEvent::AddressLearned { peer, addr });
        }
    }
}
