//! Devices that find and reach each other: libp2p over TCP, and the hub they meet at.
//!
//! Two programs are built from this. A device runs a [`Node`]: it is told of peers, opens and
//! accepts [`SyncStream`]s, and knows nothing of what runs over them. A hub runs a [`Hub`]: tracker
//! and relay in one process. Apart from [`http`](crate::http), which is for debugging and knows
//! neither peers nor keys.
//!
//! What devices say to a hub, in which order addresses are tried, and which limits hold, stands in
//! `docs/network.md`.

pub mod limits;

mod addr;
mod backoff;
mod candidates;
mod failure;
mod health;
mod hub;
mod key;
mod keycheck;
mod node;
mod psk;
mod pulse;
mod reach;
mod registry;
mod stream;
mod tracker;
mod transport;

pub use addr::{AddrError, HubAddr, Path, listen_addr, worth_telling};
pub use failure::{DialFailure, HubError, OpenError, RelayRefusal, StartError};
pub use hub::{Hub, HubConfig, HubHandle};
pub use key::{
    Fingerprint, IdentityKey, KeyFileError, MalformedKey, Readers, SwarmKey, exposed_mode,
    peer_of_public,
};
pub use keycheck::SwarmKeyMismatch;
pub use libp2p::{Multiaddr, PeerId};
pub use node::{
    DeviceInfo, FoundBy, HubSpec, HubStatus, Node, NodeConfig, NodeEvent, NodeHandle, NodeStatus,
    PeerStatus, ServiceState,
};
pub use reach::reach;
pub use stream::{LinkId, SyncStream};
pub use tracker::RefusalReason;
