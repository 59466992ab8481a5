//! Signs of life, where somebody asks for one: libp2p's ping.
//!
//! An own behaviour and not `libp2p-ping`, because that one pings every connection for ever, at an
//! interval of its own for each: ten idle connections wake a device every few seconds. Connections
//! are kept alive by the system's TCP instead, see [`limits`](super::limits); a ping is for what the
//! other side's system can't answer for, a program that hangs, and for moments of doubt.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, FutureExt as _};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, Stream};

/// What every libp2p program answers to.
const PING_PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

/// What is sent and comes back, in bytes.
const PING_BYTES: usize = 32;

/// A connection gave no sign of life within the time that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoPulse {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
}

/// Asks for signs of life, and gives them.
#[derive(Debug)]
pub(super) struct Pulse {
    queue: VecDeque<ToSwarm<NoPulse, Duration>>,
    holds: bool,
}

impl Pulse {
    /// `holds`: whoever asks us for signs of life is kept connected.
    pub(super) fn new(holds: bool) -> Pulse {
        Pulse {
            queue: VecDeque::new(),
            holds,
        }
    }

    /// Asks a peer for one over this connection, which is kept open from then on. [`NoPulse`] is told
    /// when there was none after `patience`.
    pub(super) fn ask(&mut self, peer: PeerId, connection: ConnectionId, patience: Duration) {
        self.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: patience,
        });
    }

    fn handler(&self) -> Handler {
        Handler {
            asked: None,
            asking: Asking::Not,
            answering: None,
            holds: self.holds,
        }
    }
}

impl NetworkBehaviour for Pulse {
    type ConnectionHandler = Handler;
    type ToSwarm = NoPulse;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        Silence: THandlerOutEvent<Self>,
    ) {
        let event = NoPulse { peer, connection };
        self.queue.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.queue.pop_front() {
            Some(action) => Poll::Ready(action),
            // Every call of `ask` is followed by a turn of the swarm's loop.
            None => Poll::Pending,
        }
    }
}

/// No sign of life came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence;

/// One connection's part.
pub(super) struct Handler {
    /// How long the next answer may take, while one is wanted.
    asked: Option<Duration>,
    asking: Asking,
    /// Answers the other side until it closes its stream.
    answering: Option<BoxFuture<'static, io::Result<()>>>,
    holds: bool,
}

enum Asking {
    Not,
    Opening(Duration),
    Idle(Stream),
    Waiting(BoxFuture<'static, io::Result<Stream>>),
}

type Upgrade = ReadyUpgrade<StreamProtocol>;

impl ConnectionHandler for Handler {
    type FromBehaviour = Duration;
    type ToBehaviour = Silence;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(ReadyUpgrade::new(PING_PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, patience: Duration) {
        let busy = matches!(self.asking, Asking::Opening(_) | Asking::Waiting(_));
        if !busy {
            self.asked = Some(patience);
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: mut stream,
                ..
            }) => {
                if !self.holds {
                    stream.ignore_for_keep_alive();
                }
                self.answering = Some(answer(stream).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                ..
            }) => {
                if let Asking::Opening(patience) = self.asking {
                    self.asking = Asking::Waiting(ask(stream, patience).boxed());
                }
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.asking = match error {
                    StreamUpgradeError::Timeout => {
                        Asking::Waiting(futures::future::err(timed_out()).boxed())
                    }
                    _ => Asking::Not,
                };
            }
            _ => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, (), Silence>> {
        if let Some(answering) = &mut self.answering
            && answering.poll_unpin(cx).is_ready()
        {
            self.answering = None;
        }
        if let Asking::Waiting(waiting) = &mut self.asking
            && let Poll::Ready(answered) = waiting.poll_unpin(cx)
        {
            match answered {
                Ok(stream) => self.asking = Asking::Idle(stream),
                Err(err) => {
                    self.asking = Asking::Not;
                    if err.kind() == io::ErrorKind::TimedOut {
                        return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Silence));
                    }
                    // Whoever refuses is there. What has ended is told by the swarm.
                }
            }
        }
        let Some(patience) = self.asked.take() else {
            return Poll::Pending;
        };
        match std::mem::replace(&mut self.asking, Asking::Opening(patience)) {
            Asking::Idle(stream) => {
                self.asking = Asking::Waiting(ask(stream, patience).boxed());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: self.listen_protocol().with_timeout(patience),
            }),
        }
    }
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Returns the stream when the answer came in time.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    patience: Duration,
) -> io::Result<S> {
    let mut sent = [0; PING_BYTES];
    getrandom::fill(&mut sent).map_err(io::Error::other)?;
    let mut received = [0; PING_BYTES];
    let answer = async {
        stream.write_all(&sent).await?;
        stream.flush().await?;
        stream.read_exact(&mut received).await
    };
    tokio::time::timeout(patience, answer)
        .await
        .map_err(|_| timed_out())??;
    match received == sent {
        true => Ok(stream),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Sends back what comes, until the stream ends.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut bytes = [0; PING_BYTES];
    loop {
        stream.read_exact(&mut bytes).await?;
        stream.write_all(&bytes).await?;
        stream.flush().await?;
    }
}
