//! How bytes are carried: TCP or a relay's circuit, then the swarm key, Noise, Yamux.
//!
//! The swarm key is on circuits as well as on plain connections, as in js and go: without it no
//! peer of theirs can talk to us through a relay.

use std::error::Error;
use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::connection::ConnectedPoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::tcp::tokio::TcpStream;
use libp2p::{noise, relay, tcp, yamux};
use rustix::net::sockopt;

use super::addr::Path;
use super::key::{IdentityKey, SwarmKey};
use super::keycheck::admit;
#[cfg(target_os = "linux")]
use super::limits::UNACKNOWLEDGED_MAX;
use super::limits::{
    HANDSHAKE_TIMEOUT, KEEPALIVE_AFTER, KEEPALIVE_AFTER_ON_LAN, KEEPALIVE_EVERY, KEEPALIVE_TRIES,
    STREAMS_PER_CONNECTION_MAX,
};

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
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .map(|stream, point| {
            let after = match Path::of(point.get_remote_address()) {
                Path::Lan => KEEPALIVE_AFTER_ON_LAN,
                Path::Direct | Path::Relay => KEEPALIVE_AFTER,
            };
            if let Err(err) = keep_alive(&stream.0, after) {
                tracing::debug!(error = &err as &dyn Error, "no keepalive");
            }
            stream
        })
        .map_err(TcpError)
}

/// Has the system look after a connection, so that no process wakes up for it: it keeps routers from
/// forgetting it, and ends it when nobody is there any more.
fn keep_alive(stream: &tokio::net::TcpStream, after: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, after)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_TRIES)?;
    #[cfg(target_os = "linux")]
    {
        let millis = u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(stream, millis)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_looks_after_connections() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        keep_alive(&stream, KEEPALIVE_AFTER).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), KEEPALIVE_AFTER);
        #[cfg(target_os = "linux")]
        {
            let millis = sockopt::tcp_user_timeout(&stream).unwrap();
            assert_eq!(u128::from(millis), UNACKNOWLEDGED_MAX.as_millis());
        }
    }
}
