//! The streams that sync runs over, and the behaviour that opens and accepts them.
//!
//! An own behaviour and not `libp2p-stream` (0.5.0-alpha), because that one picks any of several
//! connections to a peer at random, so that half of all sessions would stay on the relay after a
//! direct connection was made; does not say over which connection a stream came; drops incoming
//! streams while one waits to be taken; and never forgets the channels of closed connections.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use futures::{AsyncRead as _, AsyncWrite as _};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, NegotiationError, OutboundUpgrade, UpgradeInfo};
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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::addr::Path;
use super::transport::cause;

/// What a sync stream is asked for by.
pub(super) const SYNC_PROTOCOL: StreamProtocol = StreamProtocol::new("/rustory/sync/2");

/// An ordered byte stream to a peer, both ways. Dropping it before [`AsyncWrite::poll_shutdown`]
/// resets it.
pub struct SyncStream {
    inner: Stream,
    peer: PeerId,
    path: Path,
    link: LinkId,
    fate: Arc<Fate>,
}

/// Names a connection to a peer, for as long as the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId(ConnectionId);

impl LinkId {
    pub(super) fn new(connection: ConnectionId) -> LinkId {
        LinkId(connection)
    }
}

/// Whether the connection of a stream is closed from this side. The multiplexer then tells only those
/// who write: whoever waits for something to read would wait for ever.
#[derive(Debug, Default)]
pub(super) struct Fate {
    cut: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Fate {
    fn check(&self, waker: &AtomicWaker, cx: &Context<'_>) -> Poll<io::Error> {
        waker.register(cx.waker());
        match self.cut.load(Ordering::Acquire) {
            true => Poll::Ready(io::ErrorKind::ConnectionAborted.into()),
            false => Poll::Pending,
        }
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }
}

/// The streams of one connection that somebody holds. They end when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Held(Vec<Weak<Fate>>);

impl Held {
    pub(super) fn count(&self) -> usize {
        self.0.iter().filter(|it| it.strong_count() > 0).count()
    }

    /// One more.
    pub(super) fn add(&mut self) -> Arc<Fate> {
        self.0.retain(|it| it.strong_count() > 0);
        let fate = Arc::new(Fate::default());
        self.0.push(Arc::downgrade(&fate));
        fate
    }

    /// Ends them all.
    pub(super) fn cut(&self) {
        for fate in self.0.iter().filter_map(Weak::upgrade) {
            fate.cut();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.cut();
    }
}

impl fmt::Debug for SyncStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SyncStream({} over {})", self.peer, self.path)
    }
}

impl SyncStream {
    pub(super) fn new(
        inner: Stream,
        peer: PeerId,
        path: Path,
        link: LinkId,
        fate: Arc<Fate>,
    ) -> SyncStream {
        SyncStream {
            inner,
            peer,
            path,
            link,
            fate,
        }
    }

    /// Who is at the other end, proven by the handshake.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// How it runs. A stream stays on its connection; a better one needs a new stream.
    #[must_use]
    pub fn path(&self) -> Path {
        self.path
    }

    /// The connection that it is on.
    #[must_use]
    pub fn link(&self) -> LinkId {
        self.link
    }

    /// What the connection's end makes of something that has to wait.
    fn unless_cut<T>(&self, waker: &AtomicWaker, cx: &Context<'_>) -> Poll<io::Result<T>> {
        self.fate.check(waker, cx).map(Err)
    }
}

/// What the other side does not speak is only told when something is read.
fn named(err: io::Error) -> io::Error {
    match cause::<NegotiationError>(&err) {
        Some(NegotiationError::Failed) => {
            let text = format!("the other side does not speak {SYNC_PROTOCOL}");
            io::Error::new(io::ErrorKind::Unsupported, text)
        }
        _ => err,
    }
}

impl AsyncRead for SyncStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unfilled = buf.initialize_unfilled();
        let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(cx, unfilled) else {
            return self.unless_cut(&self.fate.reader, cx);
        };
        buf.advance(read.map_err(named)?);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SyncStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(cx, buf) {
            Poll::Pending => self.unless_cut(&self.fate.writer, cx),
            wrote => wrote,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Pending => self.unless_cut(&self.fate.writer, cx),
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_close(cx) {
            Poll::Pending => self.unless_cut(&self.fate.writer, cx),
            closed => closed,
        }
    }
}

/// Names one request to open a stream.
pub(super) type OpenId = u64;

/// Why no stream was opened over a connection.
#[derive(Debug)]
pub(super) enum StreamError {
    /// The other side does not speak the protocol.
    Unsupported,
    /// The connection ended, or took too long.
    Lost,
}

/// What happened.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// The peer opened a stream.
    Incoming {
        peer: PeerId,
        connection: ConnectionId,
        stream: Stream,
    },
    /// A stream that was asked for is there, or never will be.
    Opened {
        id: OpenId,
        peer: PeerId,
        connection: ConnectionId,
        result: Result<Stream, StreamError>,
    },
}

/// Opens and accepts sync streams on connections that the caller chooses.
#[derive(Debug, Default)]
pub(super) struct Streams {
    queue: VecDeque<ToSwarm<StreamEvent, Ask>>,
    /// Asked for, not answered yet.
    opening: Vec<(OpenId, PeerId, ConnectionId)>,
    /// A request to any other connection would never be answered.
    connections: HashSet<ConnectionId>,
}

impl Streams {
    /// Opens a stream over this very connection. Answered by [`StreamEvent::Opened`]; with
    /// `confirmed`, not before the other side has.
    pub(super) fn open(
        &mut self,
        id: OpenId,
        peer: PeerId,
        connection: ConnectionId,
        confirmed: bool,
    ) {
        self.opening.push((id, peer, connection));
        if !self.connections.contains(&connection) {
            return self.answer(id, Err(StreamError::Lost));
        }
        self.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: Ask { id, confirmed },
        });
    }

    /// Whether streams are being opened over the connection.
    pub(super) fn is_opening(&self, connection: ConnectionId) -> bool {
        self.opening.iter().any(|(_, _, on)| *on == connection)
    }

    /// A connection has ended, or is being closed: nothing is opened over it any more.
    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        let on_it = self.opening.iter().filter(|(_, _, on)| *on == connection);
        for id in on_it.map(|(id, ..)| *id).collect::<Vec<_>>() {
            self.answer(id, Err(StreamError::Lost));
        }
    }

    fn answer(&mut self, id: OpenId, result: Result<Stream, StreamError>) {
        let Some(index) = self.opening.iter().position(|(open, ..)| *open == id) else {
            return;
        };
        let (id, peer, connection) = self.opening.swap_remove(index);
        self.queue
            .push_back(ToSwarm::GenerateEvent(StreamEvent::Opened {
                id,
                peer,
                connection,
                result,
            }));
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = StreamEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.connections.insert(established.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => self.closed(closed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            HandlerEvent::Incoming(stream) => {
                self.queue
                    .push_back(ToSwarm::GenerateEvent(StreamEvent::Incoming {
                        peer,
                        connection,
                        stream,
                    }));
            }
            HandlerEvent::Opened(id, result) => self.answer(id, result),
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.queue.pop_front() {
            Some(action) => Poll::Ready(action),
            None => Poll::Pending,
        }
    }
}

/// A stream is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    id: OpenId,
    confirmed: bool,
}

/// What one connection tells.
#[derive(Debug)]
pub(super) enum HandlerEvent {
    Incoming(Stream),
    Opened(OpenId, Result<Stream, StreamError>),
}

/// Opens and accepts streams on one connection.
#[derive(Debug, Default)]
pub(super) struct Handler {
    queue: VecDeque<ConnectionHandlerEvent<Sync2, OpenId, HandlerEvent>>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Ask;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = Sync2;
    type OutboundProtocol = Sync2;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenId;

    fn listen_protocol(&self) -> SubstreamProtocol<Sync2> {
        SubstreamProtocol::new(Sync2 { confirmed: false }, ())
    }

    fn on_behaviour_event(&mut self, Ask { id, confirmed }: Ask) {
        self.queue
            .push_back(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Sync2 { confirmed }, id),
            });
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Sync2, Sync2, (), OpenId>) {
        let event = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => HandlerEvent::Incoming(protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => HandlerEvent::Opened(info, Ok(protocol)),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                HandlerEvent::Opened(info, Err(stream_error(&error)))
            }
            _ => return,
        };
        self.queue
            .push_back(ConnectionHandlerEvent::NotifyBehaviour(event));
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Sync2, OpenId, HandlerEvent>> {
        match self.queue.pop_front() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }
}

fn stream_error(error: &StreamUpgradeError<Infallible>) -> StreamError {
    match error {
        StreamUpgradeError::NegotiationFailed => StreamError::Unsupported,
        _ => StreamError::Lost,
    }
}

/// Negotiates [`SYNC_PROTOCOL`] and hands out the bare stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sync2 {
    confirmed: bool,
}

/// Nobody speaks it. Offered after another one, which is then not taken for granted.
const NO_PROTOCOL: StreamProtocol = StreamProtocol::new("/rustory/none");

impl UpgradeInfo for Sync2 {
    type Info = StreamProtocol;
    type InfoIter =
        std::iter::Chain<std::iter::Once<StreamProtocol>, std::option::IntoIter<StreamProtocol>>;

    fn protocol_info(&self) -> Self::InfoIter {
        let second = self.confirmed.then_some(NO_PROTOCOL);
        std::iter::once(SYNC_PROTOCOL).chain(second)
    }
}

impl InboundUpgrade<Stream> for Sync2 {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Sync2 {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}
