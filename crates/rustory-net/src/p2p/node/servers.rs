//! Hubs and relays, as a device uses them: finding them, staying connected, announcing ourselves,
//! and holding a reservation.
//!
//! The library does none of this again once it ended: a reservation whose relay restarts is gone
//! without a word. So each address in the settings is a [`Slot`] that dials until it is attached to
//! a [`Server`], and each server asks for its services until they are up.
//!
//! Three rules come from traps of the library. The relay is connected, and has said who it is,
//! before it is asked for a reservation: dialling and listening at once cancels both, and hole
//! punching takes our address from what the relay says. There is one circuit listener for each relay.
//! And none is ever removed: removing one whose request is under way panics.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use libp2p::core::multiaddr::Protocol;
use libp2p::core::transport::ListenerId;
use libp2p::request_response::{self, OutboundFailure, OutboundRequestId};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId, identify, relay};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::task::{Link, Task};
use super::{HubSpec, HubStatus, NodeEvent, ServiceState};
use crate::p2p::addr::{HubAddr, Unresolved, circuit, is_circuit, worth_telling};
use crate::p2p::backoff::{Backoff, jitter};
use crate::p2p::failure::{DialFailure, HubError, RelayRefusal, dial_failures};
use crate::p2p::limits::{
    ADDR_BYTES_MAX, ADDRS_PER_PEER_MAX, ANNOUNCE_AGAIN, ANNOUNCE_DEBOUNCE, FOREIGN_RETRY,
    HANDSHAKE_TIMEOUT, HUB_BACKOFF_MAX, HUB_BACKOFF_MIN, HUB_RETURN_MAX, HUB_RETURNS_FOR,
    IDENTIFY_WAIT, KICK_JITTER, LISTEN_SETTLE, PULSE_EVERY, PULSE_PATIENCE, TRACKER_TTL,
};
use crate::p2p::tracker::{Announce, Listing, Reply, TRACKER_PROTOCOL, TRACKER_VERSION};

/// Circuit addresses that an announcement has room for; the rest are direct ones.
const CIRCUITS_ANNOUNCED_MAX: usize = 4;

/// What the name in slot number `0` resolved to.
pub(super) type Resolved = (usize, Result<Vec<Multiaddr>, Unresolved>);

/// All hubs and relays.
pub(super) struct Servers {
    slots: Vec<Slot>,
    connected: HashMap<PeerId, Server>,
    /// Circuit listeners that have not closed yet.
    listeners: HashMap<ListenerId, PeerId>,
    resolver: mpsc::UnboundedSender<Resolved>,
}

/// One hub or relay of the settings.
struct Slot {
    addr: HubAddr,
    /// Who was found there last; for an address without a peer id.
    learned: Option<PeerId>,
    is_tracker: bool,
    state: SlotState,
    /// Dials that have not ended, and what each tries.
    dials: Vec<(ConnectionId, Vec<Multiaddr>)>,
    dialled_at: Instant,
    backoff: Backoff,
    /// When it was last connected.
    served: Option<Instant>,
    error: Option<HubError>,
    told: (ServiceState, ServiceState),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Waiting { until: Instant },
    Resolving,
    Dialling,
    Attached(PeerId),
}

/// A hub or relay that is connected.
struct Server {
    links: Vec<Link>,
    since: Instant,
    /// Whether it offers to relay; `None`: it has not said who it is yet.
    relays: Option<bool>,
    /// Where it sees us.
    observed: Option<Multiaddr>,
    reservation: Reservation,
    reserving: Backoff,
    relay: ServiceState,
    announcing: Option<Announcing>,
    tracker: ServiceState,
    /// When to ask for a sign of life.
    pulse: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reservation {
    Wanted { at: Instant },
    Asked(ListenerId),
    Held(ListenerId),
}

struct Announcing {
    at: Instant,
    in_flight: Option<OutboundRequestId>,
    /// Something changed while a request was under way.
    outdated: bool,
    /// It was answered over this connection.
    answered: bool,
    failures: Backoff,
}

impl Servers {
    pub(super) fn new(
        hubs: Vec<HubSpec>,
        relays: Vec<HubSpec>,
        dial_at: Instant,
        resolver: mpsc::UnboundedSender<Resolved>,
    ) -> Servers {
        let hubs = hubs.into_iter().map(|spec| Slot::new(spec, true, dial_at));
        let relays = relays
            .into_iter()
            .map(|spec| Slot::new(spec, false, dial_at));
        Servers {
            slots: hubs.chain(relays).collect(),
            connected: HashMap::new(),
            listeners: HashMap::new(),
            resolver,
        }
    }

    /// Whether the peer is a hub or relay, connected or not.
    pub(super) fn is_server(&self, peer: PeerId) -> bool {
        self.connected.contains_key(&peer)
            || self.slots.iter().any(|slot| slot.expected() == Some(peer))
    }

    /// Ways to a peer through the relays that are ready.
    pub(super) fn circuits_to(&self, peer: PeerId) -> Vec<Multiaddr> {
        let ready = self.connected.iter();
        ready
            .filter(|(_, server)| server.relays == Some(true))
            .filter_map(|(relay, server)| {
                let link = server.links.first()?;
                Some(circuit(&link.addr, *relay, peer))
            })
            .collect()
    }

    /// Connections to hubs and relays.
    pub(super) fn links(&self) -> impl Iterator<Item = (PeerId, ConnectionId)> {
        self.connected.iter().flat_map(|(peer, server)| {
            let links = server.links.iter();
            links.map(|link| (*peer, link.id))
        })
    }

    /// Whether it is worth waiting for a hub that is still being connected for the first time.
    pub(super) fn settling(&self, now: Instant) -> bool {
        let young = |server: &Server| now.duration_since(server.since) < IDENTIFY_WAIT;
        self.slots.iter().any(|slot| match slot.state {
            SlotState::Attached(peer) => self.connected.get(&peer).is_some_and(|server| {
                young(server)
                    && (server.relays.is_none() || server.tracker == ServiceState::Connecting)
            }),
            _ => slot.error.is_none(),
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let slots = self.slots.iter().filter_map(|slot| match slot.state {
            SlotState::Waiting { until } => Some(until),
            _ => None,
        });
        let servers = self.connected.values();
        slots.chain(servers.filter_map(Server::next_deadline)).min()
    }

    pub(super) fn status(&self) -> Vec<HubStatus> {
        self.slots
            .iter()
            .map(|slot| {
                let (tracker, relay) = self.states(slot);
                let peer = match slot.state {
                    SlotState::Attached(peer) => Some(peer),
                    _ => slot.expected(),
                };
                HubStatus {
                    addr: slot.addr.clone(),
                    peer,
                    tracker,
                    relay,
                }
            })
            .collect()
    }

    fn states(&self, slot: &Slot) -> (ServiceState, ServiceState) {
        let (tracker, relay) = match slot.state {
            SlotState::Attached(peer) => match self.connected.get(&peer) {
                Some(server) => (server.tracker.clone(), server.relay.clone()),
                None => (ServiceState::Connecting, ServiceState::Connecting),
            },
            _ => {
                let state = match &slot.error {
                    Some(error) => ServiceState::Down(error.clone()),
                    None => ServiceState::Connecting,
                };
                (state.clone(), state)
            }
        };
        match slot.is_tracker {
            true => (tracker, relay),
            false => (ServiceState::Off, relay),
        }
    }
}

impl Slot {
    fn new(spec: HubSpec, is_tracker: bool, dial_at: Instant) -> Slot {
        Slot {
            learned: spec.learned.filter(|_| spec.addr.peer().is_none()),
            addr: spec.addr,
            is_tracker,
            state: SlotState::Waiting { until: dial_at },
            dials: Vec::new(),
            dialled_at: dial_at,
            backoff: Backoff::default(),
            served: None,
            error: None,
            told: (ServiceState::Connecting, ServiceState::Connecting),
        }
    }

    fn expected(&self) -> Option<PeerId> {
        self.addr.peer().or(self.learned)
    }

    fn fail(&mut self, error: HubError, now: Instant) {
        tracing::debug!(hub = %self.addr, error = &error as &dyn std::error::Error, "hub");
        self.error = Some(error);
        let returns = |served: Instant| now.duration_since(served) < HUB_RETURNS_FOR;
        let most = match self.served.is_some_and(returns) {
            true => HUB_RETURN_MAX,
            false => HUB_BACKOFF_MAX,
        };
        self.state = SlotState::Waiting {
            until: now + self.backoff.next_within(HUB_BACKOFF_MIN, most),
        };
    }
}

impl Server {
    fn new(link: Link, is_tracker: bool, now: Instant) -> Server {
        let mut server = Server {
            links: vec![link],
            since: now,
            relays: None,
            observed: None,
            reservation: Reservation::Wanted {
                at: now + IDENTIFY_WAIT,
            },
            reserving: Backoff::default(),
            relay: ServiceState::Connecting,
            announcing: None,
            tracker: ServiceState::Off,
            pulse: now + PULSE_EVERY,
        };
        if is_tracker {
            server.use_tracker(now);
        }
        server
    }

    fn use_tracker(&mut self, now: Instant) {
        if self.announcing.is_none() {
            self.tracker = ServiceState::Connecting;
            self.announcing = Some(Announcing {
                at: now,
                in_flight: None,
                outdated: false,
                answered: false,
                failures: Backoff::default(),
            });
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let reserve = match self.reservation {
            Reservation::Wanted { at } => Some(at),
            _ => None,
        };
        let announce = self
            .announcing
            .as_ref()
            .filter(|it| it.in_flight.is_none())
            .map(|it| it.at);
        reserve
            .into_iter()
            .chain(announce)
            .chain([self.pulse])
            .min()
    }

    fn no_reservation(&mut self, refusal: RelayRefusal, now: Instant) {
        self.relay = ServiceState::Down(HubError::Relay(refusal));
        let wait = match refusal {
            // It has to be set up first; asking more often changes nothing.
            RelayRefusal::NotOffered => HUB_BACKOFF_MAX,
            _ => self.reserving.next(),
        };
        self.reservation = Reservation::Wanted { at: now + wait };
    }
}

// --- finding and keeping them ---

impl Task {
    pub(super) fn tick_servers(&mut self, now: Instant) {
        for index in 0..self.servers.slots.len() {
            if matches!(self.servers.slots[index].state, SlotState::Waiting { until } if until <= now)
            {
                self.resolve(index);
            }
        }
        let connected: Vec<PeerId> = self.servers.connected.keys().copied().collect();
        for peer in connected {
            self.reserve_if_due(peer, now);
            self.announce_if_due(peer, now);
            self.feel_if_due(peer, now);
        }
    }

    fn feel_if_due(&mut self, peer: PeerId, now: Instant) {
        let Some(server) = self.servers.connected.get_mut(&peer) else {
            return;
        };
        if server.pulse > now {
            return;
        }
        server.pulse = now + PULSE_EVERY;
        for link in &server.links {
            let pulse = &mut self.swarm.behaviour_mut().pulse;
            pulse.ask(peer, link.id, PULSE_PATIENCE);
        }
    }

    fn resolve(&mut self, index: usize) {
        let slot = &mut self.servers.slots[index];
        slot.state = SlotState::Resolving;
        let addr = slot.addr.clone();
        let resolver = self.servers.resolver.clone();
        tokio::spawn(async move {
            let found = addr.resolve().await;
            // The node may have ended meanwhile.
            let _ = resolver.send((index, found));
        });
    }

    pub(super) fn on_resolved(&mut self, (index, found): Resolved) {
        let now = Instant::now();
        let pinned = self.servers.slots[index].addr.peer();
        // Another address in the settings led to it already.
        if let Some(peer) = pinned.filter(|peer| self.servers.connected.contains_key(peer)) {
            self.attach(index, peer, now);
            return;
        }
        match found {
            Ok(addrs) => self.dial_slot(index, addrs, now),
            Err(Unresolved) => self.servers.slots[index].fail(HubError::Unresolved, now),
        }
    }

    /// With a peer id, whoever else answers is refused. Without, whoever answers is asked who it
    /// is; then each address is a dial of its own, because the library has it so.
    fn dial_slot(&mut self, index: usize, addrs: Vec<Multiaddr>, now: Instant) {
        let slot = &mut self.servers.slots[index];
        slot.state = SlotState::Dialling;
        slot.dialled_at = now;
        let dials: Vec<(DialOpts, Vec<Multiaddr>)> = match slot.addr.peer() {
            Some(peer) => {
                let opts = DialOpts::peer_id(peer)
                    .condition(PeerCondition::Always)
                    .addresses(addrs.clone())
                    .build();
                vec![(opts, addrs)]
            }
            None => addrs
                .into_iter()
                .map(|addr| {
                    let opts = DialOpts::unknown_peer_id().address(addr.clone()).build();
                    (opts, vec![addr])
                })
                .collect(),
        };
        for (opts, addrs) in dials {
            let id = opts.connection_id();
            self.servers.slots[index].dials.push((id, addrs));
            if let Err(err) = self.swarm.dial(opts) {
                self.server_dial_failed(id, &err, now);
            }
        }
    }

    /// Whether it was a dial of ours.
    pub(super) fn server_dial_failed(
        &mut self,
        id: ConnectionId,
        err: &DialError,
        now: Instant,
    ) -> bool {
        let mut slots = self.servers.slots.iter_mut();
        let found = slots.find_map(|slot| {
            let at = slot.dials.iter().position(|(dial, _)| *dial == id)?;
            let (_, addrs) = slot.dials.swap_remove(at);
            Some((slot, addrs))
        });
        let Some((slot, addrs)) = found else {
            return false;
        };
        let slow = now.duration_since(slot.dialled_at) >= HANDSHAKE_TIMEOUT;
        let failures = dial_failures(err, &addrs, slow);
        let (addr, failure) = most_telling(failures);
        if slot.dials.is_empty() && slot.state == SlotState::Dialling {
            slot.fail(HubError::Dial(failure.clone()), now);
        }
        if let (Some(addr), DialFailure::WrongSwarmKey(mismatch)) = (addr, failure) {
            self.tell_mismatch(addr, mismatch, now);
        }
        true
    }

    /// Whether it leads to a hub or relay.
    pub(super) fn server_connected(&mut self, peer: PeerId, link: &Link, now: Instant) -> bool {
        let ours = self.servers.slots.iter_mut().position(|slot| {
            let before = slot.dials.len();
            slot.dials.retain(|(id, _)| *id != link.id);
            slot.dials.len() < before
        });
        let known = self.servers.connected.get_mut(&peer);
        if ours.is_none() && known.is_none() {
            return false;
        }
        match known {
            // Another of its addresses was faster, or it is in the settings twice.
            Some(server) if ours.is_some() => {
                server.links.push(link.clone());
                self.swarm.close_connection(link.id);
            }
            Some(server) => server.links.push(link.clone()),
            None => {
                let server = Server::new(link.clone(), false, now);
                self.servers.connected.insert(peer, server);
            }
        }
        if let Some(index) = ours {
            self.attach(index, peer, now);
        }
        true
    }

    fn attach(&mut self, index: usize, peer: PeerId, now: Instant) {
        let slot = &mut self.servers.slots[index];
        slot.state = SlotState::Attached(peer);
        slot.error = None;
        if let Some(server) = self
            .servers
            .connected
            .get_mut(&peer)
            .filter(|_| slot.is_tracker)
        {
            server.use_tracker(now);
        }
        if slot.addr.peer().is_some() || slot.learned == Some(peer) {
            return;
        }
        let addr = slot.addr.clone();
        match slot.learned.replace(peer) {
            None => self.tell(NodeEvent::HubIdLearned { addr, peer }),
            Some(was) => {
                tracing::warn!(hub = %addr, %was, now = %peer, "somebody else is there");
                self.tell(NodeEvent::HubIdChanged {
                    addr,
                    was,
                    now: peer,
                });
            }
        }
    }

    /// Whether it led to a hub or relay.
    pub(super) fn server_disconnected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        now: Instant,
    ) -> bool {
        let Some(server) = self.servers.connected.get_mut(&peer) else {
            return false;
        };
        server.links.retain(|link| link.id != id);
        if !server.links.is_empty() {
            return true;
        }
        // One that closes at once is not asked faster and faster.
        let lasted = now.duration_since(server.since) >= HUB_BACKOFF_MAX / 2;
        self.servers.connected.remove(&peer);
        let attached = self.servers.slots.iter_mut();
        for slot in attached.filter(|slot| slot.state == SlotState::Attached(peer)) {
            if lasted {
                slot.backoff.reset();
            }
            slot.served = Some(now);
            slot.fail(HubError::Lost, now);
        }
        self.forget_listing(peer);
        true
    }

    /// Whether it came from a hub or relay.
    pub(super) fn server_identified(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        info: &identify::Info,
        now: Instant,
    ) -> bool {
        let listening = self.swarm.listeners().any(|addr| !is_circuit(addr));
        let Some(server) = self.servers.connected.get_mut(&peer) else {
            return false;
        };
        let first = server.relays.is_none();
        let relays = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
        let tracks = info.protocols.contains(&TRACKER_PROTOCOL);
        if !tracks && let Some(announcing) = &mut server.announcing {
            announcing.in_flight = None;
            announcing.at = now + FOREIGN_RETRY;
            server.tracker = ServiceState::Down(HubError::NoTracker);
        }
        if server.relays != Some(relays) {
            server.relays = Some(relays);
            if let Reservation::Wanted { at } = &mut server.reservation {
                *at = now;
            }
        }
        let from_our_port = server
            .links
            .iter()
            .any(|link| link.id == id && link.outgoing);
        if from_our_port && listening {
            let observed = info.observed_addr.clone();
            self.swarm.behaviour_mut().candidates.add(observed.clone());
            let changed = server.observed.replace(observed.clone()) != Some(observed);
            if changed && !first {
                self.announce_soon(now);
            }
        }
        true
    }

    /// The node listens: hubs that were never dialled need not wait longer.
    pub(super) fn start_servers(&mut self, now: Instant) {
        for slot in &mut self.servers.slots {
            if let SlotState::Waiting { until } = &mut slot.state {
                *until = (now + LISTEN_SETTLE).min(*until);
            }
        }
    }

    /// Dials absent hubs soon, and asks the others for a sign of life.
    pub(super) fn kick_servers(&mut self, now: Instant) {
        let soon = now + jitter(KICK_JITTER);
        for slot in &mut self.servers.slots {
            if let SlotState::Waiting { until } = &mut slot.state {
                *until = soon.min(*until);
            }
        }
        for server in self.servers.connected.values_mut() {
            if let Reservation::Wanted { at } = &mut server.reservation {
                *at = soon.min(*at);
            }
        }
        self.announce_soon(now);
    }

    pub(super) fn tell_hub_states(&mut self) {
        for index in 0..self.servers.slots.len() {
            let slot = &self.servers.slots[index];
            let states = self.servers.states(slot);
            if slot.told == states {
                continue;
            }
            let addr = slot.addr.clone();
            self.servers.slots[index].told = states.clone();
            let (tracker, relay) = states;
            self.tell(NodeEvent::HubState {
                addr,
                tracker,
                relay,
            });
        }
    }
}

/// What says most about why a dial failed.
fn most_telling(failures: Vec<(Multiaddr, DialFailure)>) -> (Option<Multiaddr>, DialFailure) {
    let rank = |failure: &DialFailure| match failure {
        DialFailure::WrongSwarmKey(_) => 0,
        DialFailure::WrongPeer { .. } | DialFailure::Ourselves => 1,
        DialFailure::Refused => 2,
        _ => 3,
    };
    let best = failures.into_iter().min_by_key(|(_, it)| rank(it));
    match best {
        Some((addr, failure)) => (Some(addr), failure),
        None => (None, DialFailure::NoRoute),
    }
}

// --- reservations ---

impl Task {
    fn reserve_if_due(&mut self, peer: PeerId, now: Instant) {
        let held = self.servers.listeners.values().any(|relay| *relay == peer);
        let Some(server) = self.servers.connected.get_mut(&peer) else {
            return;
        };
        let Reservation::Wanted { at } = &mut server.reservation else {
            return;
        };
        if *at > now {
            return;
        }
        if server.relays == Some(false) {
            server.no_reservation(RelayRefusal::NotOffered, now);
            return;
        }
        if held {
            // The listener of an earlier connection has not closed yet.
            *at = now + HUB_BACKOFF_MAX / 60;
            return;
        }
        let Some(link) = server.links.first() else {
            return;
        };
        let mut through = link.addr.clone();
        through.push(Protocol::P2p(peer));
        through.push(Protocol::P2pCircuit);
        match self.swarm.listen_on(through) {
            Ok(listener) => {
                server.reservation = Reservation::Asked(listener);
                self.servers.listeners.insert(listener, peer);
            }
            Err(_) => server.no_reservation(RelayRefusal::NotOffered, now),
        }
    }

    /// A relay took our request, or renewed it.
    pub(super) fn reserved(&mut self, relay: PeerId, now: Instant) {
        let Some(server) = self.servers.connected.get_mut(&relay) else {
            return;
        };
        if let Reservation::Asked(listener) | Reservation::Held(listener) = server.reservation {
            server.reservation = Reservation::Held(listener);
            server.reserving.reset();
            server.relay = ServiceState::Up;
            self.announce_soon(now);
        }
    }

    /// The listener of a reservation has an address: the same news, which comes even where the
    /// event above is lost.
    pub(super) fn circuit_listening(&mut self, listener: ListenerId, now: Instant) {
        if let Some(relay) = self.servers.listeners.get(&listener).copied() {
            self.reserved(relay, now);
        }
    }

    /// A reservation was refused, or ended: by its listener, because the addresses and the reason
    /// are missing when the relay just went away.
    pub(super) fn listener_closed(
        &mut self,
        listener: ListenerId,
        reason: &Result<(), io::Error>,
        now: Instant,
    ) {
        let Some(relay) = self.servers.listeners.remove(&listener) else {
            tracing::warn!(?reason, "a listener closed");
            return;
        };
        self.announce_soon(now);
        let Some(server) = self.servers.connected.get_mut(&relay) else {
            return;
        };
        if let Reservation::Asked(of) | Reservation::Held(of) = server.reservation
            && of == listener
        {
            server.no_reservation(RelayRefusal::of_listener(reason), now);
        }
    }
}

// --- announcing ---

impl Task {
    /// Announces ourselves to all trackers, once what changes together has changed.
    pub(super) fn announce_soon(&mut self, now: Instant) {
        let soon = now + ANNOUNCE_DEBOUNCE;
        for server in self.servers.connected.values_mut() {
            let foreign = server.tracker == ServiceState::Down(HubError::NoTracker);
            if let Some(announcing) = server.announcing.as_mut().filter(|_| !foreign) {
                announcing.at = soon.min(announcing.at);
                announcing.outdated = announcing.in_flight.is_some();
            }
        }
    }

    fn announce_if_due(&mut self, peer: PeerId, now: Instant) {
        let due = |it: &Announcing| it.in_flight.is_none() && it.at <= now;
        let server = self.servers.connected.get(&peer);
        if !server.is_some_and(|it| it.announcing.as_ref().is_some_and(due)) {
            return;
        }
        let announce = self.announcement();
        let tracker = &mut self.swarm.behaviour_mut().tracker;
        let request = tracker.send_request(&peer, announce);
        if let Some(announcing) = self.announcing(peer) {
            announcing.in_flight = Some(request);
        }
    }

    fn announcing(&mut self, peer: PeerId) -> Option<&mut Announcing> {
        self.servers.connected.get_mut(&peer)?.announcing.as_mut()
    }

    /// Who and where we are.
    fn announcement(&self) -> Announce {
        let ports: Vec<_> = self.swarm.listeners().filter_map(port_of).collect();
        let seen = self.servers.connected.values();
        // Where a hub sees us, if that is our own port: right for a machine whose public address
        // is not on its interface, and for routers that keep ports.
        let observed = seen
            .filter_map(|server| server.observed.clone())
            .filter(|addr| port_of(addr).is_some_and(|port| ports.contains(&port)));
        let listening = self.swarm.listeners().filter(|addr| !is_circuit(addr));
        let mut direct = worth_telling(listening.cloned().chain(observed));
        direct.sort();
        direct.dedup();
        direct.truncate(ADDRS_PER_PEER_MAX - CIRCUITS_ANNOUNCED_MAX);
        let circuits = self.circuits().take(CIRCUITS_ANNOUNCED_MAX);
        let all = direct.into_iter().chain(circuits);
        Announce {
            protocol: TRACKER_VERSION,
            user_id: self.device.user_id.clone(),
            device_id: self.device.device_id.clone(),
            device_name: self.device.device_name.clone(),
            addrs: all
                .map(|addr| addr.to_string())
                .filter(|addr| addr.len() <= ADDR_BYTES_MAX)
                .collect(),
            ttl_secs: TRACKER_TTL.as_secs(),
        }
    }

    pub(super) fn on_tracker(
        &mut self,
        event: request_response::Event<Announce, Reply>,
        now: Instant,
    ) {
        match event {
            request_response::Event::Message {
                peer,
                message: request_response::Message::Response { response, .. },
                ..
            } => self.on_reply(peer, response, now),
            request_response::Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => self.announce_failed(peer, request_id, &error, now),
            _ => {}
        }
    }

    fn on_reply(&mut self, peer: PeerId, reply: Reply, now: Instant) {
        let Some(server) = self.servers.connected.get_mut(&peer) else {
            return;
        };
        let Some(announcing) = server.announcing.as_mut() else {
            return;
        };
        announcing.in_flight = None;
        let outdated = std::mem::take(&mut announcing.outdated);
        let first = !std::mem::replace(&mut announcing.answered, true);
        server.pulse = now + PULSE_EVERY;
        let mut wait = ANNOUNCE_AGAIN - jitter(ANNOUNCE_AGAIN / 10);
        match (reply.listing, reply.refusal) {
            (Some(listing), None) => {
                announcing.failures.reset();
                server.tracker = ServiceState::Up;
                let half = Duration::from_secs(listing.ttl_secs.max(2)) / 2;
                let half = half - jitter(half / 10);
                wait = match first {
                    true => wait.min(half),
                    false => half,
                };
                if outdated {
                    wait = ANNOUNCE_DEBOUNCE;
                }
                announcing.at = now + wait;
                self.on_listing(peer, listing, now);
            }
            (_, refusal) => {
                let refusal = refusal.unwrap_or_default();
                announcing.at = now + wait;
                server.tracker = ServiceState::Down(HubError::Refused {
                    reason: refusal.reason(),
                    text: refusal.text,
                });
            }
        }
    }

    fn announce_failed(
        &mut self,
        peer: PeerId,
        request: OutboundRequestId,
        error: &OutboundFailure,
        now: Instant,
    ) {
        tracing::debug!(%peer, error = error as &dyn std::error::Error, "announcement");
        let Some(server) = self.servers.connected.get_mut(&peer) else {
            return;
        };
        let Some(announcing) = server.announcing.as_mut() else {
            return;
        };
        if announcing.in_flight != Some(request) {
            return;
        }
        announcing.in_flight = None;
        announcing.at = now + announcing.failures.next();
        match error {
            OutboundFailure::UnsupportedProtocols => {
                announcing.at = now + FOREIGN_RETRY;
                server.tracker = ServiceState::Down(HubError::NoTracker);
            }
            // Whoever does not answer this does not answer anything: a host that sleeps, or a
            // network that changed. Found here, it costs 10 s and not minutes.
            OutboundFailure::Timeout => {
                server.tracker = ServiceState::Down(HubError::Lost);
                let links: Vec<_> = server.links.iter().map(|link| link.id).collect();
                for link in links {
                    self.close(link, now);
                }
            }
            _ => server.tracker = ServiceState::Down(HubError::Lost),
        }
    }

    fn on_listing(&mut self, tracker: PeerId, listing: Listing, now: Instant) {
        let me = self.me;
        let mut listed = Vec::new();
        for entry in listing.peers {
            let Ok(peer) = entry.peer_id.parse::<PeerId>() else {
                continue;
            };
            if peer != me && !self.servers.is_server(peer) {
                listed.push((peer, entry));
            }
        }
        self.listed(tracker, listed, now);
    }
}

fn port_of(addr: &Multiaddr) -> Option<u16> {
    if is_circuit(addr) {
        return None;
    }
    addr.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}
