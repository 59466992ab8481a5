//! The parts of a swarm that devices and hubs have in common, and how they are set.

use std::num::NonZeroU8;

use libp2p::core::upgrade::Version;
use libp2p::{identify, request_response};

use crate::p2p::key::IdentityKey;
use crate::p2p::limits::{
    DIAL_CONCURRENCY, IDENTIFY_INTERVAL, IDLE_TIMEOUT, STREAMS_NEGOTIATING_MAX,
    TRACKER_STREAMS_MAX, TRACKER_TIMEOUT,
};
use crate::p2p::tracker::{TRACKER_PROTOCOL, TrackerCodec};

/// Streams are negotiated lazily: what is asked leaves together with the protocol's name, which saves
/// a round trip for each. What the other side does not speak looks like a broken stream then. So
/// identify is believed in that, and where the answer matters two names are offered, which the
/// library waits for.
pub(in crate::p2p) fn swarm_config() -> libp2p::swarm::Config {
    libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_max_negotiating_inbound_streams(STREAMS_NEGOTIATING_MAX)
        .with_dial_concurrency_factor(
            NonZeroU8::new(DIAL_CONCURRENCY).expect("the constant is not zero"),
        )
}

/// Tells peers our addresses at once when they change. The cache of peers' addresses is off: they
/// are kept, and bounded, in one place only.
pub(in crate::p2p) fn identify(identity: &IdentityKey) -> identify::Behaviour {
    let key = identity.pair().public();
    let config = identify::Config::new("/rustory/1".to_owned(), key)
        .with_agent_version(concat!("rustory/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_interval(IDENTIFY_INTERVAL)
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    identify::Behaviour::new(config)
}

pub(in crate::p2p) fn tracker(
    support: request_response::ProtocolSupport,
) -> request_response::Behaviour<TrackerCodec> {
    let config = request_response::Config::default()
        .with_request_timeout(TRACKER_TIMEOUT)
        .with_max_concurrent_streams(TRACKER_STREAMS_MAX);
    request_response::Behaviour::new([(TRACKER_PROTOCOL, support)], config)
}
