//! The swarm key's encryption: XSalsa20, where each side sends a nonce of its own first.
//!
//! On the wire the same as `libp2p-pnet`, js and go. Apart from it, because `libp2p-pnet` waits for
//! the other's nonce before it says anything, which costs each connection a round trip, and one
//! through a relay two.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};

use super::key::SwarmKey;

const NONCE_BYTES: usize = 24;

/// Encrypted and not sent yet; more waits.
const OUT_BYTES_MAX: usize = 16 * 1024;

/// A stream that is encrypted with the swarm key.
pub(super) struct Psk<S> {
    inner: S,
    key: SwarmKey,
    encrypt: XSalsa20,
    /// What is to be sent, of which the first `sent` bytes are.
    out: Vec<u8>,
    sent: usize,
    /// The other side's nonce, of which `got` bytes have come, and what it makes.
    nonce: [u8; NONCE_BYTES],
    got: usize,
    decrypt: Option<XSalsa20>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Psk<S> {
    /// Our nonce leaves with the first flush.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn new(inner: S, key: SwarmKey) -> io::Result<Psk<S>> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        Ok(Psk {
            inner,
            key,
            encrypt: cipher(&key, nonce),
            out: nonce.to_vec(),
            sent: 0,
            nonce: [0; NONCE_BYTES],
            got: 0,
            decrypt: None,
        })
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let rest = &self.out[self.sent..];
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_nonce(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.got < NONCE_BYTES {
            let rest = &mut self.nonce[self.got..];
            match ready!(Pin::new(&mut self.inner).poll_read(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                count => self.got += count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn cipher(key: &SwarmKey, nonce: [u8; NONCE_BYTES]) -> XSalsa20 {
    XSalsa20::new(&key.to_bytes().into(), &nonce.into())
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Psk<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.decrypt.is_none() {
            ready!(this.poll_nonce(cx))?;
            this.decrypt = Some(cipher(&this.key, this.nonce));
        }
        let count = ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if let Some(decrypt) = &mut this.decrypt {
            decrypt.apply_keystream(&mut buf[..count]);
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Psk<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.out.len() >= OUT_BYTES_MAX {
            ready!(this.poll_out(cx))?;
        }
        let count = buf.len().min(OUT_BYTES_MAX);
        let at = this.out.len();
        this.out.extend_from_slice(&buf[..count]);
        this.encrypt.apply_keystream(&mut this.out[at..]);
        // What can't leave now does with the next write or flush.
        if let Poll::Ready(Err(err)) = this.poll_out(cx) {
            return Poll::Ready(Err(err));
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt as _, AsyncWriteExt as _};
    use libp2p::pnet::{PnetConfig, PreSharedKey};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn sockets() -> (libp2p::tcp::tokio::TcpStream, libp2p::tcp::tokio::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        let wrap = libp2p::tcp::tokio::TcpStream;
        (wrap(dialled.unwrap()), wrap(accepted.unwrap().0))
    }

    #[tokio::test]
    async fn it_is_what_other_programs_speak() {
        let key = SwarmKey::generate().unwrap();
        let (ours, theirs) = sockets().await;
        let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let them = PnetConfig::new(PreSharedKey::new(key.to_bytes()));
        let (copy, len) = (sent.clone(), sent.len());
        let they = tokio::spawn(async move {
            let mut theirs = them.handshake(theirs).await.unwrap();
            let mut received = vec![0; len];
            theirs.read_exact(&mut received).await.unwrap();
            assert!(received == copy);
            theirs.write_all(&received).await.unwrap();
            theirs.flush().await.unwrap();
        });
        let mut ours = Psk::new(ours, key).unwrap();
        ours.write_all(&sent).await.unwrap();
        ours.flush().await.unwrap();
        let mut back = vec![0; sent.len()];
        ours.read_exact(&mut back).await.unwrap();
        assert!(back == sent);
        they.await.unwrap();
    }

    #[tokio::test]
    async fn the_first_words_need_no_answer() {
        let key = SwarmKey::generate().unwrap();
        let (ours, mut theirs) = sockets().await;
        let mut ours = Psk::new(ours, key).unwrap();
        ours.write_all(b"hello").await.unwrap();
        ours.flush().await.unwrap();
        // Nothing was sent to it.
        let mut nonce = [0; NONCE_BYTES];
        theirs.read_exact(&mut nonce).await.unwrap();
        let mut word = [0; 5];
        theirs.read_exact(&mut word).await.unwrap();
        assert_ne!(&word, b"hello");
        cipher(&key, nonce).apply_keystream(&mut word);
        assert_eq!(&word, b"hello");
    }
}
