//! What a node's swarm consists of, and how each part is set.

use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, Swarm};
use libp2p::{connection_limits, dcutr, identify, mdns, relay, request_response};

use super::{NodeConfig, parts};
use crate::p2p::candidates::Candidates;
use crate::p2p::failure::StartError;
use crate::p2p::limits::{
    CONNECTIONS_PER_PEER_MAX, DEVICE_INCOMING_MAX, DEVICE_PENDING_INCOMING_MAX,
    DEVICE_PENDING_OUTGOING_MAX, MDNS_EVERY, MDNS_TTL,
};
use crate::p2p::pulse::Pulse;
use crate::p2p::stream::Streams;
use crate::p2p::tracker::TrackerCodec;
use crate::p2p::transport;

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(super) struct Behaviour {
    // First, so that what is refused costs the others nothing.
    pub(super) limits: connection_limits::Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) pulse: Pulse,
    pub(super) relay: relay::client::Behaviour,
    pub(super) dcutr: dcutr::Behaviour,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) tracker: request_response::Behaviour<TrackerCodec>,
    pub(super) streams: Streams,
    pub(super) candidates: Candidates,
}

/// A swarm that listens nowhere yet.
pub(super) fn swarm(config: &NodeConfig) -> Result<Swarm<Behaviour>, StartError> {
    let me = config.identity.peer_id();
    let (transport, relay) = transport::with_circuits(&config.identity, config.swarm_key)?;
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(
            connection_limits::ConnectionLimits::default()
                .with_max_pending_incoming(Some(DEVICE_PENDING_INCOMING_MAX))
                .with_max_pending_outgoing(Some(DEVICE_PENDING_OUTGOING_MAX))
                .with_max_established_incoming(Some(DEVICE_INCOMING_MAX))
                .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX)),
        ),
        identify: parts::identify(&config.identity),
        pulse: Pulse::new(false),
        relay,
        dcutr: dcutr::Behaviour::new(me),
        mdns: mdns(config),
        tracker: parts::tracker(request_response::ProtocolSupport::Outbound),
        streams: Streams::default(),
        candidates: Candidates::default(),
    };
    Ok(Swarm::new(transport, behaviour, me, parts::swarm_config()))
}

/// Off also where the system has no multicast: then devices meet by tracker and peer book.
fn mdns(config: &NodeConfig) -> Toggle<mdns::tokio::Behaviour> {
    let me = config.identity.peer_id();
    let settings = mdns::Config {
        ttl: MDNS_TTL,
        query_interval: MDNS_EVERY,
        ..mdns::Config::default()
    };
    let made = config
        .mdns
        .then(|| mdns::tokio::Behaviour::new(settings, me));
    match made {
        Some(Ok(mdns)) => Some(mdns).into(),
        Some(Err(err)) => {
            tracing::warn!(error = &err as &dyn std::error::Error, "no mDNS here");
            None.into()
        }
        None => None.into(),
    }
}
