//! A hub: the tracker that devices find each other by, and the relay that they reach each other
//! through, in one process on one port.
//!
//! It keeps nothing on disk but its identity key: devices announce themselves when they
//! come back. It holds the swarm key, because only members may connect; what devices say to each other
//! through it stays encrypted between them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt as _;
use libp2p::core::transport::ListenerId;
use libp2p::request_response::{self, ProtocolSupport, ResponseChannel};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{ConnectionId, ListenError, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, connection_limits, identify, relay};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::failure::{DialFailure, StartError, dial_failure};
use super::health::{Health, Shared};
use super::key::{IdentityKey, SwarmKey};
use super::limits::{
    CONNECTIONS_PER_PEER_MAX, HUB_INCOMING_MAX, HUB_PENDING_INCOMING_MAX, HUB_STOP_GRACE,
    RELAY_CIRCUIT_BYTES_MAX, RELAY_CIRCUIT_DURATION_MAX, RELAY_CIRCUITS_MAX,
    RELAY_CIRCUITS_PER_PEER_MAX, RELAY_RESERVATION_DURATION, RELAY_RESERVATIONS_MAX,
    RELAY_RESERVATIONS_PER_PEER_MAX,
};
use super::node::parts;
use super::pulse::Pulse;
use super::registry::Registry;
use super::tracker::{Announce, Refusal, Reply, TrackerCodec};
use super::transport;

/// How often the hub looks at what has expired, and shows that it lives.
const TICK: Duration = Duration::from_secs(10);

/// What a hub is told.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// The hub's own key. Devices remember its peer id: keep it.
    pub identity: IdentityKey,
    /// The swarm's key.
    pub swarm_key: Option<SwarmKey>,
    /// Where to listen; see [`listen_addr`](super::listen_addr).
    pub listen: Vec<Multiaddr>,
    /// Where devices reach it, which a hub behind a load balancer can't know. Without one it can't
    /// hand out reservations: it warns, and is not ready.
    pub external: Vec<Multiaddr>,
    /// Be no relay.
    pub no_relay: bool,
    /// Be no tracker.
    pub no_tracker: bool,
    /// Where to answer `/livez`, `/readyz` and `/metrics`, to anybody who asks: a local address.
    pub health: Option<SocketAddr>,
}

/// Starts hubs.
#[derive(Debug)]
pub struct Hub;

impl Hub {
    /// Listens, and serves until the handle is dropped or [`HubHandle::stop`] is called.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: HubConfig) -> Result<HubHandle, StartError> {
        let peer_id = config.identity.peer_id();
        let shared = Arc::new(Shared::default());
        let health = match config.health {
            Some(addr) => Some(Health::bind(addr, Arc::clone(&shared)).await?),
            None => None,
        };
        let health_addr = health.as_ref().map(Health::local_addr);
        let (stop, stopped) = mpsc::channel(1);
        let task = Task::new(config, Arc::clone(&shared), stopped)?;
        if let Some(health) = health {
            tokio::spawn(health.run());
        }
        tokio::spawn(task.run());
        Ok(HubHandle {
            peer_id,
            health_addr,
            shared,
            stop,
        })
    }
}

/// A hub that runs. Dropping it ends the hub at once.
#[derive(Debug)]
pub struct HubHandle {
    peer_id: PeerId,
    health_addr: Option<SocketAddr>,
    shared: Arc<Shared>,
    stop: mpsc::Sender<oneshot::Sender<()>>,
}

impl HubHandle {
    /// Who the hub is to devices.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Where it listens, with the ports that the system chose for port 0. Filled in a moment after
    /// the start.
    #[must_use]
    pub fn listening(&self) -> Vec<Multiaddr> {
        self.shared.listening()
    }

    /// Where health is answered, with the port that the system chose for port 0.
    #[must_use]
    pub fn health_addr(&self) -> Option<SocketAddr> {
        self.health_addr
    }

    /// Whether it serves all that it was told to.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    /// The same numbers as `/metrics`.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.shared.metrics()
    }

    /// Takes no more connections and reservations, lets circuits end for
    /// [`HUB_STOP_GRACE`] (3 s), closes the rest, and ends. Takes at most 5 s.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        // Errors mean that it had ended already.
        let _ = self.stop.send(reply).await;
        let _ = done.await;
    }

    /// Waits until the hub has ended: after [`HubHandle::stop`], or by a bug.
    pub async fn ended(&self) {
        self.stop.closed().await;
    }
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct Behaviour {
    // First, so that what is refused costs the others nothing.
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    pulse: Pulse,
    relay: Toggle<relay::Behaviour>,
    tracker: Toggle<request_response::Behaviour<TrackerCodec>>,
}

struct Task {
    swarm: Swarm<Behaviour>,
    registry: Registry,
    /// Connections of each device, and where each comes from.
    links: HashMap<PeerId, Vec<(ConnectionId, Multiaddr)>>,
    reserved: HashSet<PeerId>,
    circuits: usize,
    listeners: Vec<ListenerId>,
    shared: Arc<Shared>,
    stop: mpsc::Receiver<oneshot::Sender<()>>,
}

impl Task {
    fn new(
        config: HubConfig,
        shared: Arc<Shared>,
        stop: mpsc::Receiver<oneshot::Sender<()>>,
    ) -> Result<Task, StartError> {
        let me = config.identity.peer_id();
        let transport = transport::plain(&config.identity, config.swarm_key)?;
        let mut swarm = Swarm::new(transport, behaviour(&config), me, parts::swarm_config());
        let mut listeners = Vec::new();
        for addr in &config.listen {
            let listener = swarm.listen_on(addr.clone());
            listeners.push(listener.map_err(|err| StartError::listen(addr, err))?);
        }
        for addr in &config.external {
            swarm.add_external_address(addr.clone());
        }
        let can_relay = config.no_relay || !config.external.is_empty();
        if !can_relay {
            tracing::warn!("without an external address this hub can't hand out reservations");
        }
        shared.set_complete(can_relay);
        Ok(Task {
            swarm,
            registry: Registry::default(),
            links: HashMap::new(),
            reserved: HashSet::new(),
            circuits: 0,
            listeners,
            shared,
            stop,
        })
    }

    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _ended = shared.alive();
        let mut tick = tokio::time::interval(TICK);
        let reply = loop {
            self.publish();
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                _ = tick.tick() => {
                    self.registry.expire(std::time::Instant::now());
                    self.shared.beat();
                }
                reply = self.stop.recv() => break reply,
            }
        };
        self.drain(reply.is_some()).await;
        if let Some(reply) = reply {
            // Whoever asked may have gone away.
            let _ = reply.send(());
        }
    }

    /// Ends what runs; with patience for circuits, or without.
    async fn drain(&mut self, patient: bool) {
        self.shared.set_complete(false);
        for listener in std::mem::take(&mut self.listeners) {
            self.swarm.remove_listener(listener);
        }
        if let Some(relay) = self.swarm.behaviour_mut().relay.as_mut() {
            relay.set_status(Some(relay::Status::Disable));
        }
        let until = Instant::now() + HUB_STOP_GRACE;
        while patient && self.circuits > 0 {
            match tokio::time::timeout_at(until, self.swarm.select_next_some()).await {
                Ok(event) => self.on_swarm_event(event),
                Err(_) => break,
            }
        }
        for peer in self.links.keys() {
            let _ = self.swarm.disconnect_peer_id(*peer);
        }
        let until = Instant::now() + Duration::from_secs(1);
        while self.swarm.connected_peers().next().is_some() {
            match tokio::time::timeout_at(until, self.swarm.select_next_some()).await {
                Ok(event) => self.on_swarm_event(event),
                Err(_) => break,
            }
        }
    }

    fn publish(&self) {
        let connections = self.links.values().map(Vec::len).sum();
        self.shared.set_numbers(
            connections,
            self.registry.counts(),
            self.reserved.len(),
            self.circuits,
        );
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                let from = endpoint.get_remote_address().clone();
                let links = self.links.entry(peer_id).or_default();
                links.push((connection_id, from));
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                ..
            } => {
                if let Some(links) = self.links.get_mut(&peer_id) {
                    links.retain(|(id, _)| *id != connection_id);
                }
                if num_established == 0 {
                    self.links.remove(&peer_id);
                    self.reserved.remove(&peer_id);
                    self.registry.disconnected(peer_id);
                }
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                ..
            } => self.refused(&send_back_addr, &error),
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(addr = %address, "listening");
                self.shared.add_listening(address);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.shared.remove_listening(&address);
            }
            SwarmEvent::ListenerClosed { addresses, .. } => {
                for address in addresses {
                    self.shared.remove_listening(&address);
                }
            }
            _ => {}
        }
    }

    fn refused(&self, from: &Multiaddr, error: &ListenError) {
        tracing::debug!(%from, error = error as &dyn std::error::Error, "connection refused");
        match error {
            ListenError::Transport(error) => match dial_failure(error, false) {
                DialFailure::WrongSwarmKey(_) => self.shared.wrong_key(),
                _ => self.shared.broken_handshake(),
            },
            ListenError::Denied { .. } => self.shared.over_limit(),
            _ => self.shared.broken_handshake(),
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Relay(event) => self.on_relay(event),
            BehaviourEvent::Tracker(request_response::Event::Message {
                peer,
                connection_id,
                message:
                    request_response::Message::Request {
                        request, channel, ..
                    },
            }) => self.on_announce(peer, connection_id, request, channel),
            _ => {}
        }
    }

    /// `ReservationClosed` comes for every connection that closes, reserved or not: not counted.
    fn on_relay(&mut self, event: relay::Event) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => {
                self.reserved.insert(src_peer_id);
            }
            relay::Event::ReservationTimedOut { src_peer_id } => {
                self.reserved.remove(&src_peer_id);
            }
            relay::Event::CircuitReqAccepted { .. } => {
                self.circuits += 1;
                self.shared.circuit();
            }
            relay::Event::CircuitClosed { .. } => {
                self.circuits = self.circuits.saturating_sub(1);
            }
            relay::Event::ReservationReqDenied { .. } | relay::Event::CircuitReqDenied { .. } => {
                self.shared.relay_denied();
            }
            _ => {}
        }
    }

    fn on_announce(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        request: Announce,
        channel: ResponseChannel<Reply>,
    ) {
        let links = self.links.get(&peer);
        let link = links.and_then(|all| all.iter().find(|(id, _)| *id == connection));
        let Some((_, observed)) = link else {
            return;
        };
        let clock = SystemTime::now().duration_since(UNIX_EPOCH);
        let clock_secs = clock.unwrap_or_default().as_secs();
        let now = std::time::Instant::now();
        let answer = self
            .registry
            .announce(peer, observed, request, now, clock_secs);
        self.shared.announced(answer.is_ok());
        let reply = match answer {
            Ok(listing) => Reply {
                listing: Some(listing),
                refusal: None,
            },
            Err(reason) => Reply {
                listing: None,
                refusal: Some(Refusal::of(reason)),
            },
        };
        if let Some(tracker) = self.swarm.behaviour_mut().tracker.as_mut() {
            // An error means that the device is gone.
            let _ = tracker.send_response(channel, reply);
        }
    }
}

fn behaviour(config: &HubConfig) -> Behaviour {
    let me = config.identity.peer_id();
    let relay = (!config.no_relay).then(|| relay::Behaviour::new(me, relay_config()));
    let tracker = (!config.no_tracker).then(|| parts::tracker(ProtocolSupport::Inbound));
    Behaviour {
        limits: connection_limits::Behaviour::new(
            connection_limits::ConnectionLimits::default()
                .with_max_pending_incoming(Some(HUB_PENDING_INCOMING_MAX))
                .with_max_established_incoming(Some(HUB_INCOMING_MAX))
                .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX)),
        ),
        identify: parts::identify(&config.identity),
        pulse: Pulse::new(true),
        relay: relay.into(),
        tracker: tracker.into(),
    }
}

/// No rate limits: all devices of a home share one address, and all are the owner's.
fn relay_config() -> relay::Config {
    relay::Config {
        max_reservations: RELAY_RESERVATIONS_MAX,
        max_reservations_per_peer: RELAY_RESERVATIONS_PER_PEER_MAX,
        reservation_duration: RELAY_RESERVATION_DURATION,
        reservation_rate_limiters: Vec::new(),
        max_circuits: RELAY_CIRCUITS_MAX,
        max_circuits_per_peer: RELAY_CIRCUITS_PER_PEER_MAX,
        max_circuit_duration: RELAY_CIRCUIT_DURATION_MAX,
        max_circuit_bytes: RELAY_CIRCUIT_BYTES_MAX,
        circuit_src_rate_limiters: Vec::new(),
    }
}
