//! Asks whether a hub can be reached, without becoming one of its devices: a connection as far as
//! the other side is known, and its end.

use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::transport::{DialOpts, PortUse, TransportError};
use libp2p::core::{Endpoint, Transport as _};

use super::addr::HubAddr;
use super::failure::{DialFailure, HubError, dial_failure};
use super::key::{IdentityKey, SwarmKey};
use super::transport::plain;

/// Who answers at a hub's address: the address is resolved, a connection is made, and both sides
/// have shown that they hold the swarm key. `identity` is one for this call alone, so that nobody
/// takes it for the device. `timeout` is for each of the addresses that a name has.
///
/// # Errors
/// [`HubError::Unresolved`], or [`HubError::Dial`] with what became of the last address.
pub async fn reach(
    addr: &HubAddr,
    identity: &IdentityKey,
    key: SwarmKey,
    timeout: Duration,
) -> Result<PeerId, HubError> {
    let addrs = addr.resolve().await.map_err(|_| HubError::Unresolved)?;
    let mut failure = DialFailure::NoRoute;
    for addr in addrs {
        let Ok(mut transport) = plain(identity, Some(key)) else {
            break;
        };
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let dialled = match transport.dial(addr, opts) {
            Ok(dial) => tokio::time::timeout(timeout, dial).await,
            Err(err) => {
                failure = dial_failure(&err, false);
                continue;
            }
        };
        failure = match dialled {
            Ok(Ok((peer, _))) => return Ok(peer),
            Ok(Err(err)) => dial_failure(&TransportError::Other(err), false),
            Err(_) => DialFailure::TimedOut,
        };
    }
    Err(HubError::Dial(failure))
}
