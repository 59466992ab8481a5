//! A device in the network: what it is given, what it tells, and the handle that commands it.
//!
//! Everything runs in one task, which owns the swarm; the handle and the events are channels to it.

mod behaviour;
mod clocks;
pub(super) mod parts;
mod peers;
mod servers;
mod task;

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

use super::addr::{HubAddr, Path};
use super::failure::{HubError, OpenError, StartError};
use super::key::{IdentityKey, SwarmKey};
use super::keycheck::SwarmKeyMismatch;
use super::stream::{LinkId, SyncStream};

/// What a node is told about its device and its surroundings.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The device's own key.
    pub identity: IdentityKey,
    /// The swarm's key. `None`: anybody can connect; for tests and for trying things out.
    pub swarm_key: Option<SwarmKey>,
    /// Where to listen; see [`listen_addr`](super::listen_addr). A fixed port makes hole punching
    /// work and survives restarts; none at all makes a node that others reach through relays only.
    pub listen: Vec<Multiaddr>,
    /// Tracker and relay in one.
    pub hubs: Vec<HubSpec>,
    /// Relays alone, also those of other programs.
    pub relays: Vec<HubSpec>,
    /// Whether to look for devices on the local network, and be found there.
    pub mdns: bool,
    /// Where peers were last reached, the most recent first.
    pub peer_book: HashMap<PeerId, Vec<Multiaddr>>,
    /// What others are told about this device.
    pub device: DeviceInfo,
}

/// A hub or a relay, and what is remembered of it.
#[derive(Clone, Debug)]
pub struct HubSpec {
    /// As it stands in the settings.
    pub addr: HubAddr,
    /// Who was found there before, for an address that does not name a peer id. See
    /// [`NodeEvent::HubIdLearned`].
    pub learned: Option<PeerId>,
}

/// What a device tells about itself: opaque here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The origin of its entries.
    pub device_id: String,
    /// Its name for people.
    pub device_name: String,
    /// Whose history it keeps.
    pub user_id: String,
}

/// How a peer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// On the local network. Any libp2p program is found so, not only devices of the swarm.
    Mdns,
    /// A tracker lists it.
    Tracker,
}

/// What a node tells its caller.
#[derive(Debug)]
pub enum NodeEvent {
    /// Where the node listens has changed: [`NodeHandle::status`] says where.
    Listening,
    /// A peer opened a stream. Any member of the swarm can.
    Incoming {
        /// Who, proven by the handshake.
        peer: PeerId,
        /// How the stream runs.
        path: Path,
        /// The stream.
        stream: SyncStream,
    },
    /// The first connection to a peer is there.
    PeerConnected {
        /// The peer.
        peer: PeerId,
        /// How it runs.
        path: Path,
        /// The other end, or the way through the relay.
        addr: Multiaddr,
        /// The connection.
        link: LinkId,
    },
    /// New streams to a connected peer run over another connection from now on, maybe of the same
    /// kind. Streams on another than this have [`limits::DRAIN_MAX`](super::limits) (30 s) to end,
    /// if they have not ended already: open a new one at the next boundary.
    PeerPath {
        /// The peer.
        peer: PeerId,
        /// How new streams run.
        path: Path,
        /// The other end, or the way through the relay.
        addr: Multiaddr,
        /// The connection.
        link: LinkId,
    },
    /// The last connection to a peer ended.
    PeerGone {
        /// The peer.
        peer: PeerId,
    },
    /// A peer was found, or what is known of it changed. Worth opening a stream to.
    PeerDiscovered {
        /// The peer.
        peer: PeerId,
        /// Where it says that it is.
        addrs: Vec<Multiaddr>,
        /// What it tells about itself; only trackers know.
        device: Option<DeviceInfo>,
        /// Whether it is connected to the tracker; on the local network it was there just now.
        online: bool,
        /// How it was found.
        by: FoundBy,
    },
    /// How well a hub or relay serves us has changed.
    HubState {
        /// As it stands in the settings.
        addr: HubAddr,
        /// Its tracker.
        tracker: ServiceState,
        /// Its relay.
        relay: ServiceState,
    },
    /// Somebody holds another swarm key. Told once a minute for an address.
    SwarmKeyMismatch {
        /// Where.
        addr: Multiaddr,
        /// Whose key is whose.
        mismatch: SwarmKeyMismatch,
    },
    /// Who is behind a hub's address that names no peer id: remember it, and pass it as
    /// [`HubSpec::learned`] the next time.
    HubIdLearned {
        /// As it stands in the settings.
        addr: HubAddr,
        /// Who is there.
        peer: PeerId,
    },
    /// Somebody else is behind a hub's address than before. It holds the swarm key, so it is used;
    /// but it may be a member that only poses as the hub: warn, and remember the new one.
    HubIdChanged {
        /// As it stands in the settings.
        addr: HubAddr,
        /// Who was there.
        was: PeerId,
        /// Who is there now.
        now: PeerId,
    },
    /// A peer was reached directly at this address, or says on a direct connection that it listens
    /// there: remember it, and pass it in [`NodeConfig::peer_book`] the next time.
    AddressLearned {
        /// The peer.
        peer: PeerId,
        /// Where.
        addr: Multiaddr,
    },
}

/// How well one service of a hub serves us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// It is not used there.
    Off,
    /// Not known yet.
    Connecting,
    /// The tracker took our announcement; the relay holds our reservation.
    Up,
    /// It does not, and is asked again by itself.
    Down(HubError),
}

/// How things are, for people.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Who we are.
    pub peer_id: PeerId,
    /// Where we listen.
    pub listening: Vec<Multiaddr>,
    /// Where relays let us be reached.
    pub circuits: Vec<Multiaddr>,
    /// All peers that we know.
    pub peers: Vec<PeerStatus>,
    /// The hubs, then the relays, in the order of the settings.
    pub hubs: Vec<HubStatus>,
}

/// What is known of one peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub peer: PeerId,
    /// How new streams to it would run, and over which address; `None`: not connected.
    pub path: Option<(Path, Multiaddr)>,
    /// What it tells about itself.
    pub device: Option<DeviceInfo>,
    /// Sync streams to and from it.
    pub streams: usize,
}

/// How one hub or relay serves us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubStatus {
    /// As it stands in the settings.
    pub addr: HubAddr,
    /// Who is there.
    pub peer: Option<PeerId>,
    /// Its tracker.
    pub tracker: ServiceState,
    /// Its relay.
    pub relay: ServiceState,
}

/// Starts nodes.
#[derive(Debug)]
pub struct Node;

/// Commands that may wait for the node's task.
const COMMANDS_WAITING_MAX: usize = 64;

impl Node {
    /// Listens, and runs until the last handle is dropped or [`NodeHandle::stop`] is called.
    ///
    /// Must be called within a tokio runtime. The events must be read: news that is told again
    /// later is dropped when too many wait, and streams of peers are reset. When the receiver
    /// yields `None` without a stop, the node has died of a bug in the network library; start a
    /// new one.
    ///
    /// Two nodes can listen on the same port without an error, and then steal each other's
    /// connections: hold a lock for each data directory.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        config: NodeConfig,
    ) -> Result<(NodeHandle, mpsc::Receiver<NodeEvent>), StartError> {
        let (commands, commands_rx) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (events, events_rx) = mpsc::channel(COMMANDS_WAITING_MAX);
        let handle = NodeHandle {
            commands,
            peer_id: config.identity.peer_id(),
        };
        let task = task::Task::new(config, commands_rx, events)?;
        tokio::spawn(task.run());
        Ok((handle, events_rx))
    }
}

/// Commands a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    commands: mpsc::Sender<Command>,
    peer_id: PeerId,
}

/// What a handle asks of the task.
#[derive(Debug)]
enum Command {
    Open {
        peer: PeerId,
        reply: oneshot::Sender<Result<SyncStream, OpenError>>,
    },
    AddAddresses {
        peer: PeerId,
        addrs: Vec<Multiaddr>,
    },
    NetworkChanged,
    Status(oneshot::Sender<NodeStatus>),
    Stop(oneshot::Sender<()>),
}

impl NodeHandle {
    /// Who this node is to others.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Opens a stream to a peer, over the best connection there is, or else over the first that
    /// comes about: addresses on the LAN and those that worked last, then what trackers tell, then
    /// relays, each with a short head start.
    ///
    /// Takes at most [`OPEN_TIMEOUT`](super::limits::OPEN_TIMEOUT). Dropping the future gives up.
    /// How long to wait before trying an absent peer again is the caller's decision.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, peer: PeerId) -> Result<SyncStream, OpenError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Open { peer, reply }).await;
        answer.await.unwrap_or(Err(OpenError::Stopped))
    }

    /// Adds addresses of a peer, as from [`NodeConfig::peer_book`].
    pub async fn add_addresses(&self, peer: PeerId, addrs: Vec<Multiaddr>) {
        self.send(Command::AddAddresses { peer, addrs }).await;
    }

    /// Dials absent hubs now and asks the others for a sign of life, as after a change of the
    /// network. Changes of addresses, and waking from suspension, are noticed without it.
    pub async fn network_changed(&self) {
        self.send(Command::NetworkChanged).await;
    }

    /// How things are; `None` when the node has stopped.
    pub async fn status(&self) -> Option<NodeStatus> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Status(reply)).await;
        answer.await.ok()
    }

    /// Closes all connections and ends the node.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Stop(reply)).await;
        // An error means that it had ended already.
        let _ = answer.await;
    }

    async fn send(&self, command: Command) {
        // When the node has ended, the reply's sender is dropped with the command.
        let _ = self.commands.send(command).await;
    }
}
