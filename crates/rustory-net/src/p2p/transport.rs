//! How bytes are carried: TCP or a relay's circuit, then the swarm key, Noise, Yamux.
//!
//! The swarm key is on circuits as well as on plain connections, as in js and go: without it no
//! peer of theirs can talk to us through a relay.

use std::error::Error;
use std::io;

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::connection::ConnectedPoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::tcp::tokio::TcpStream;
use libp2p::{noise, relay, tcp, yamux};

use super::key::{IdentityKey, SwarmKey};
use super::keycheck::admit;
use super::limits::{HANDSHAKE_TIMEOUT, STREAMS_PER_CONNECTION_MAX};

/// Ready connections, and whose they are.
pub(super) type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// TCP alone: what a hub needs.
pub(super) fn plain(
    identity: &IdentityKey,
    key: Option<SwarmKey>,
) -> Result<Connections, noise::Error> {
    secured(tcp(), identity, key)
}

/// TCP, and circuits through relays.
pub(super) fn with_circuits(
    identity: &IdentityKey,
    key: Option<SwarmKey>,
) -> Result<(Connections, relay::client::Behaviour), noise::Error> {
    let (circuits, client) = relay::client::new(identity.peer_id());
    let base = OrTransport::new(circuits, tcp());
    Ok((secured(base, identity, key)?, client))
}

/// What the system said of a TCP connection. A type of its own, because the choice between two
/// transports shows only the sources of their errors.
#[derive(Debug, thiserror::Error)]
#[error("TCP")]
struct TcpError(#[source] io::Error);

fn tcp() -> impl Transport<
    Output = TcpStream,
    Error = TcpError,
    ListenerUpgrade: Send + 'static,
    Dial: Send + 'static,
> + Send
+ Unpin
+ 'static {
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)).map_err(TcpError)
}

fn secured<T>(
    base: T,
    identity: &IdentityKey,
    key: Option<SwarmKey>,
) -> Result<Connections, noise::Error>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(STREAMS_PER_CONNECTION_MAX);
    Ok(base
        .and_then(move |stream, point| admit(key, stream, initiates(&point)))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(identity.pair())?)
        .multiplex(muxer)
        .timeout(HANDSHAKE_TIMEOUT)
        .boxed())
}

/// Whether this side speaks first: the dialer, unless hole punching made it the listener.
fn initiates(point: &ConnectedPoint) -> bool {
    matches!(
        point,
        ConnectedPoint::Dialer {
            role_override: Endpoint::Dialer,
            ..
        }
    )
}

/// The error of type `E` among an error and its causes.
///
/// `io::Error` hides the error that it wraps from the chain of sources, so it is opened here.
pub(super) fn cause<'a, E: Error + 'static>(err: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(err);
    while let Some(err) = next {
        if let Some(found) = err.downcast_ref::<E>() {
            return Some(found);
        }
        next = match err.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => err.source(),
        };
    }
    None
}
