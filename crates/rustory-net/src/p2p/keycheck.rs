//! Tells a wrong swarm key at once and by name.
//!
//! The swarm key only encrypts: with two different keys both sides read noise where a protocol
//! header should be, take it for a length, and wait for the rest until a time-out. But the first
//! bytes that each side sends are known, the header of multistream-select, so they are compared.
//! Nothing changes on the wire between right keys, so other libp2p implementations do not notice.
//!
//! A listener that sees a wrong header answers with its own header before it closes. The dialer
//! can't read that either, and so knows for sure, instead of only seeing a connection that ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::Either;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::key::{Fingerprint, SwarmKey};
use super::limits::{REFUSAL_DRAIN_BYTES_MAX, REFUSAL_LINGER};
use super::psk::Psk;

/// What either side of a connection sends first.
const HEADER: &[u8; 20] = b"\x13/multistream/1.0.0\n";

/// The other side of a connection holds another swarm key than ours.
///
/// Which one is not knowable: a fingerprint in the clear would show observers who belongs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmKeyMismatch {
    /// The fingerprint of our key; `None` when we have none and the other side does.
    pub ours: Option<Fingerprint>,
}

impl std::fmt::Display for SwarmKeyMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.ours {
            Some(ours) => write!(
                f,
                "the other side holds another swarm key (fingerprint of ours: `{}`)",
                ours.short()
            ),
            None => f.write_str("the other side holds a swarm key, and we have none"),
        }
    }
}

impl std::error::Error for SwarmKeyMismatch {}

/// Why a connection was not admitted.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdmitError {
    #[error("wrong swarm key")]
    Mismatch(#[source] SwarmKeyMismatch),
    #[error("the swarm key handshake broke off")]
    Handshake(#[source] io::Error),
    #[error("the connection ended before the protocol header")]
    Header(#[source] io::Error),
}

/// A connection, encrypted with the swarm key where there is one.
type Encrypted<S> = Either<Psk<S>, S>;

/// Encrypts `stream` with the swarm key and checks that the other side has the same.
///
/// `initiator`: whether this side sends the first header; then the other's is checked when it is
/// read. No time-out of its own.
pub(super) async fn admit<S>(
    key: Option<SwarmKey>,
    stream: S,
    initiator: bool,
) -> Result<Checked<S>, AdmitError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let ours = key.map(|key| key.fingerprint());
    let mut inner: Encrypted<S> = match key {
        Some(key) => Either::Left(Psk::new(stream, key).map_err(AdmitError::Handshake)?),
        None => Either::Right(stream),
    };
    if initiator {
        return Ok(Checked::new(inner, Header::Expected, ours));
    }
    // The dialer reads nothing before it has our nonce.
    inner.flush().await.map_err(AdmitError::Handshake)?;
    let mut first = [0; HEADER.len()];
    inner
        .read_exact(&mut first)
        .await
        .map_err(AdmitError::Header)?;
    if &first == HEADER {
        return Ok(Checked::new(inner, Header::Replayed, ours));
    }
    let _ = tokio::time::timeout(REFUSAL_LINGER, refuse(&mut inner)).await;
    Err(AdmitError::Mismatch(SwarmKeyMismatch { ours }))
}

/// Sends what the other side can't read, and waits until it has.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    // Twice, because without a key on our side the other takes 24 bytes of it for a nonce.
    stream.write_all(HEADER).await?;
    stream.write_all(HEADER).await?;
    stream.close().await?;
    let mut rest = [0; 256];
    let mut drained = 0;
    while drained < REFUSAL_DRAIN_BYTES_MAX {
        match stream.read(&mut rest).await? {
            0 => break,
            read => drained += read,
        }
    }
    Ok(())
}

/// What is done about the first bytes that are read.
#[derive(Clone, Copy, Debug)]
enum Header {
    /// They have yet to be compared.
    Expected,
    /// They were compared, and are handed on.
    Replayed,
}

/// A connection whose other side is known, or will be with its first bytes, to hold our swarm key.
pub(super) struct Checked<S> {
    inner: Encrypted<S>,
    header: Header,
    /// How many bytes of the header were handed on.
    done: usize,
    ours: Option<Fingerprint>,
}

impl<S> Checked<S> {
    fn new(inner: Encrypted<S>, header: Header, ours: Option<Fingerprint>) -> Checked<S> {
        Checked {
            inner,
            header,
            done: 0,
            ours,
        }
    }

    fn compare(&mut self, read: &[u8]) -> io::Result<()> {
        let expected = &HEADER[self.done..];
        if read.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let compared = read.len().min(expected.len());
        if read[..compared] != expected[..compared] {
            let ours = self.ours.clone();
            // Two layers: errors that are passed on transparently, as Noise's are, show of what is
            // in them only the source of it.
            let mismatch = AdmitError::Mismatch(SwarmKeyMismatch { ours });
            return Err(io::Error::new(io::ErrorKind::InvalidData, mismatch));
        }
        self.done += compared;
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Checked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let rest = &HEADER[self.done..];
        match self.header {
            Header::Replayed if !rest.is_empty() && !buf.is_empty() => {
                let count = rest.len().min(buf.len());
                buf[..count].copy_from_slice(&rest[..count]);
                self.done += count;
                Poll::Ready(Ok(count))
            }
            Header::Expected if !rest.is_empty() && !buf.is_empty() => {
                let count = ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
                self.compare(&buf[..count])?;
                Poll::Ready(Ok(count))
            }
            _ => Pin::new(&mut self.inner).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Checked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
