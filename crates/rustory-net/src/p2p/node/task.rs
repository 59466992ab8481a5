//! The task that owns the swarm: it waits for whatever comes next and hands it to `servers` (hubs
//! and relays) or `peers` (devices).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::{ConnectionId, ListenError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, dcutr, identify, mdns, relay};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::behaviour::{Behaviour, BehaviourEvent, swarm};
use super::clocks::{Clocks, Jumps};
use super::peers::Peers;
use super::servers::{Resolved, Servers};
use super::{Command, DeviceInfo, NodeConfig, NodeEvent, NodeStatus};
use crate::p2p::addr::{Path, ip_of, is_circuit, without_peer};
use crate::p2p::failure::{DialFailure, StartError, dial_failure};
use crate::p2p::keycheck::SwarmKeyMismatch;
use crate::p2p::limits::{
    DOUBT_PATIENCE, EVENTS_WAITING_MAX, LISTEN_WAIT, MISMATCH_QUIET, MISMATCH_REMEMBERED_MAX,
};
use crate::p2p::pulse::NoPulse;

pub(super) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) me: PeerId,
    pub(super) device: DeviceInfo,
    pub(super) servers: Servers,
    pub(super) peers: Peers,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<NodeEvent>,
    /// Events that the channel has no room for yet.
    outbox: VecDeque<NodeEvent>,
    resolved: mpsc::UnboundedReceiver<Resolved>,
    mismatches: HashMap<IpAddr, Instant>,
    /// Connections with nobody in between, and whether they run over IPv4.
    direct: HashMap<ConnectionId, bool>,
    /// Whether the first address to listen on was ready.
    listens: bool,
    clocks: Clocks,
}

/// One end of a connection, as far as it matters.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) path: Path,
    /// The other end, or the way through the relay; without a peer id at its end.
    pub(super) addr: Multiaddr,
    /// We dialled it, and from our listening port.
    pub(super) outgoing: bool,
}

impl Link {
    fn new(id: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint) -> Link {
        let (addr, outgoing) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (address.clone(), true),
            // The sender of a circuit has no address but its relay's.
            ConnectedPoint::Listener { local_addr, .. } if is_circuit(local_addr) => {
                (local_addr.clone(), false)
            }
            ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr.clone(), false),
        };
        let addr = without_peer(addr, &peer);
        Link {
            id,
            path: Path::of(&addr),
            addr,
            outgoing,
        }
    }
}

impl Task {
    pub(super) fn new(
        config: NodeConfig,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<NodeEvent>,
    ) -> Result<Task, StartError> {
        let mut swarm = swarm(&config)?;
        for addr in &config.listen {
            swarm
                .listen_on(addr.clone())
                .map_err(|err| StartError::listen(addr, err))?;
        }
        let wait = match config.listen.is_empty() {
            true => Duration::ZERO,
            false => LISTEN_WAIT,
        };
        let dial_at = Instant::now() + wait;
        let (resolver, resolved) = mpsc::unbounded_channel();
        Ok(Task {
            me: *swarm.local_peer_id(),
            swarm,
            device: config.device,
            servers: Servers::new(config.hubs, config.relays, dial_at, resolver),
            peers: Peers::new(config.peer_book),
            commands,
            events,
            outbox: VecDeque::new(),
            resolved,
            mismatches: HashMap::new(),
            direct: HashMap::new(),
            listens: false,
            clocks: Clocks::now(),
        })
    }

    /// Runs until it is told to stop, or nobody is left to tell it.
    pub(super) async fn run(mut self) {
        let events = self.events.clone();
        let jumps = Jumps::new();
        loop {
            let now = Instant::now();
            self.tick(now);
            let timer = tokio::time::sleep_until(self.next_deadline(now));
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = self.commands.recv() => match command {
                    None => return,
                    Some(Command::Stop(reply)) => {
                        self.stop().await;
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.on_command(command),
                },
                Some(resolved) = self.resolved.recv() => self.on_resolved(resolved),
                permit = events.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.outbox.pop_front() {
                            permit.send(event);
                        }
                    }
                    // Nobody reads events any more; the handle may still open streams.
                    Err(_) => self.outbox.clear(),
                },
                // What follows is in `tick`.
                () = jumps.next() => {}
                () = timer => {}
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        if self.clocks.suspended(now) {
            tracing::info!("this machine was suspended");
            self.doubt(now);
        }
        self.tick_servers(now);
        self.tick_peers(now);
        self.tell_hub_states();
    }

    /// The network is not what it was: connections may be dead, and what was out of reach may not be.
    fn doubt(&mut self, now: Instant) {
        self.kick_servers(now);
        self.retry_direct_soon(now);
        let connections = self.peers.direct().chain(self.servers.links());
        for (peer, connection) in connections.collect::<Vec<_>>() {
            let pulse = &mut self.swarm.behaviour_mut().pulse;
            pulse.ask(peer, connection, DOUBT_PATIENCE);
        }
    }

    fn next_deadline(&self, now: Instant) -> Instant {
        let idle = now + Duration::from_secs(3600);
        let servers = self.servers.next_deadline();
        let peers = self.peers.next_deadline(now);
        [servers, peers]
            .into_iter()
            .flatten()
            .fold(idle, Instant::min)
    }

    fn on_command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Open { peer, reply } => self.open(peer, reply, now),
            Command::AddAddresses { peer, addrs } => self.peers.add_to_book(peer, addrs),
            Command::NetworkChanged => self.doubt(now),
            Command::Status(reply) => {
                let _ = reply.send(self.status());
            }
            // Handled where it ends the loop.
            Command::Stop(_) => {}
        }
    }

    /// Closes what is open, so that peers see an end and not a silence.
    async fn stop(&mut self) {
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
    }

    fn status(&self) -> NodeStatus {
        let tcp = self.swarm.listeners().filter(|addr| !is_circuit(addr));
        NodeStatus {
            peer_id: self.me,
            listening: tcp.cloned().collect(),
            circuits: self.circuits().collect(),
            peers: self.peers.status(),
            hubs: self.servers.status(),
        }
    }

    /// Where relays let us be reached.
    pub(super) fn circuits(&self) -> impl Iterator<Item = Multiaddr> {
        let all = self.swarm.external_addresses();
        all.filter(|addr| is_circuit(addr)).cloned()
    }

    /// Tells the caller, later if it must wait. What is told again anyway is dropped when the
    /// caller has not read for long; streams too, which resets them.
    pub(super) fn tell(&mut self, event: NodeEvent) {
        let lasting = matches!(
            event,
            NodeEvent::PeerConnected { .. } | NodeEvent::PeerGone { .. }
        );
        if self.outbox.len() >= EVENTS_WAITING_MAX && !lasting {
            tracing::warn!("an event was dropped: nobody reads them");
            return;
        }
        self.outbox.push_back(event);
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event, now),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                let link = Link::new(connection_id, peer_id, &endpoint);
                if let (Some(ip), false) = (ip_of(&link.addr), endpoint.is_relayed()) {
                    self.direct.insert(connection_id, ip.is_ipv4());
                }
                tracing::debug!(peer = %peer_id, path = %link.path, addr = %link.addr, "connected");
                if !self.server_connected(peer_id, &link, now) {
                    self.peer_connected(peer_id, link, now);
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                cause,
                ..
            } => {
                tracing::debug!(peer = %peer_id, ?cause, "disconnected");
                self.direct.remove(&connection_id);
                if !self.server_disconnected(peer_id, connection_id, now) {
                    self.peer_disconnected(peer_id, connection_id, now);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                tracing::debug!(error = &error as &dyn std::error::Error, "dial");
                if !self.server_dial_failed(connection_id, &error, now) {
                    self.peer_dial_failed(connection_id, &error, now);
                }
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error: ListenError::Transport(error),
                ..
            } => {
                if let DialFailure::WrongSwarmKey(mismatch) = dial_failure(&error, false) {
                    self.tell_mismatch(send_back_addr, mismatch, now);
                }
            }
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => self.on_listening(listener_id, &address, now),
            SwarmEvent::ExpiredListenAddr { address, .. } if !is_circuit(&address) => {
                self.tell(NodeEvent::Listening);
                self.address_gone(&address, now);
                self.addresses_changed(now);
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason,
                ..
            } => self.listener_closed(listener_id, &reason, now),
            SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } => {
                self.announce_soon(now);
            }
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent, now: Instant) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            }) => self.on_identified(peer_id, connection_id, info, now),
            BehaviourEvent::Pulse(NoPulse { peer, connection }) => {
                tracing::debug!(%peer, "no sign of life");
                self.close(connection, now);
            }
            BehaviourEvent::Relay(event) => self.on_relay(&event, now),
            BehaviourEvent::Dcutr(dcutr::Event {
                remote_peer_id,
                result,
            }) => {
                // One side's failure may be the other's success: only connections count.
                tracing::debug!(peer = %remote_peer_id, ok = result.is_ok(), "hole punching");
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.mdns_found(found),
            BehaviourEvent::Mdns(mdns::Event::Expired(gone)) => self.peers.mdns_expired(gone),
            BehaviourEvent::Tracker(event) => self.on_tracker(event, now),
            BehaviourEvent::Streams(event) => self.on_stream(event, now),
            _ => {}
        }
    }

    fn on_identified(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        info: identify::Info,
        now: Instant,
    ) {
        if !self.server_identified(peer, connection, &info, now) {
            self.peer_identified(peer, connection, info);
        }
    }

    fn on_relay(&mut self, event: &relay::client::Event, now: Instant) {
        match event {
            relay::client::Event::ReservationReqAccepted { relay_peer_id, .. } => {
                self.reserved(*relay_peer_id, now);
            }
            // A foreign relay may end circuits early; nothing else will say why.
            relay::client::Event::OutboundCircuitEstablished { limit, .. }
            | relay::client::Event::InboundCircuitEstablished { limit, .. } => {
                tracing::debug!(?limit, "circuit");
            }
        }
    }

    fn on_listening(&mut self, listener: ListenerId, addr: &Multiaddr, now: Instant) {
        tracing::debug!(%addr, "listening");
        self.tell(NodeEvent::Listening);
        match is_circuit(addr) {
            true => self.circuit_listening(listener, now),
            false if !self.listens => {
                self.listens = true;
                self.start_servers(now);
            }
            false => self.addresses_changed(now),
        }
    }

    /// An address of this machine came or went: the network changed.
    /// The machine has left a network. Connections over it would be found dead only when nobody
    /// answers a ping, half a minute later; which of them ran over it is not known, and whoever is
    /// still there is connected again within a second.
    fn address_gone(&mut self, address: &Multiaddr, now: Instant) {
        let Some(ip) = ip_of(address).filter(|ip| !ip.is_loopback()) else {
            return;
        };
        let same_family = |(id, v4): (&ConnectionId, &bool)| (*v4 == ip.is_ipv4()).then_some(*id);
        let lost: Vec<ConnectionId> = self.direct.iter().filter_map(same_family).collect();
        tracing::debug!(%address, connections = lost.len(), "an address of this machine is gone");
        for id in lost {
            self.close(id, now);
        }
    }

    fn addresses_changed(&mut self, now: Instant) {
        self.kick_servers(now);
        self.retry_direct_soon(now);
    }

    pub(super) fn tell_mismatch(
        &mut self,
        addr: Multiaddr,
        mismatch: SwarmKeyMismatch,
        now: Instant,
    ) {
        self.mismatches
            .retain(|_, told| now.duration_since(*told) < MISMATCH_QUIET);
        let Some(ip) = ip_of(&addr) else { return };
        let full = self.mismatches.len() >= MISMATCH_REMEMBERED_MAX;
        if full || self.mismatches.contains_key(&ip) {
            return;
        }
        self.mismatches.insert(ip, now);
        self.tell(NodeEvent::SwarmKeyMismatch { addr, mismatch });
    }
}
