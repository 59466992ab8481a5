//! Why something could not be reached, as fields and never as text to be parsed.

use std::error::Error;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::relay::outbound::hop::{ConnectError, ReserveError};
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId, noise};

use super::keycheck::SwarmKeyMismatch;
use super::tracker::RefusalReason;
use super::transport::cause;

/// Why a node or a hub could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on: taken, not ours, or not TCP.
    #[error("`{addr}` can't be listened on")]
    Listen {
        /// The address.
        addr: Multiaddr,
        /// What the system said.
        source: io::Error,
    },
    /// The health port can't be listened on.
    #[error("`{addr}` can't be listened on")]
    Health {
        /// The address.
        addr: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The identity key can't be used for Noise.
    #[error("the identity key can't be used")]
    Identity(#[from] noise::Error),
}

impl StartError {
    pub(super) fn listen(addr: &Multiaddr, err: TransportError<io::Error>) -> StartError {
        let source = match err {
            TransportError::Other(source) => source,
            TransportError::MultiaddrNotSupported(_) => io::ErrorKind::Unsupported.into(),
        };
        StartError::Listen {
            addr: addr.clone(),
            source,
        }
    }
}

/// Why one address did not lead to a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFailure {
    /// The host answered, but nothing listens there.
    #[error("connection refused")]
    Refused,
    /// No way to the host.
    #[error("no route to the host")]
    NoRoute,
    /// No answer in time.
    #[error("no answer")]
    TimedOut,
    /// The other side holds another swarm key.
    #[error(transparent)]
    WrongSwarmKey(SwarmKeyMismatch),
    /// Somebody else answers there.
    #[error("peer `{found}` answers there")]
    WrongPeer {
        /// Who.
        found: PeerId,
    },
    /// We answer there ourselves.
    #[error("it is our own address")]
    Ourselves,
    /// A relay did not connect us.
    #[error("the relay refused: {0}")]
    Relay(RelayRefusal),
    /// A limit of ours: too many connections or dials.
    #[error("too many connections")]
    Limit,
    /// The connection ended before it was ready.
    #[error("the connection broke off")]
    Broken,
}

/// Why a relay did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayRefusal {
    /// The peer is not connected to this relay.
    #[error("the peer has no reservation there")]
    NoReservation,
    /// The relay could not get through to the peer, whose host may be asleep.
    #[error("the peer does not answer it")]
    PeerSilent,
    /// The relay has no more room for us.
    #[error("a limit of the relay is reached")]
    Limit,
    /// The relay does not want us.
    #[error("not permitted")]
    NotPermitted,
    /// It is no relay, or one that hands out nothing because it knows no address of its own.
    #[error("it offers no relaying")]
    NotOffered,
    /// The relay did not answer, or not in the protocol.
    #[error("it does not answer")]
    Silent,
}

impl RelayRefusal {
    fn of_connect(err: &ConnectError) -> RelayRefusal {
        match err {
            ConnectError::ResourceLimitExceeded => RelayRefusal::Limit,
            ConnectError::ConnectionFailed => RelayRefusal::PeerSilent,
            ConnectError::NoReservation => RelayRefusal::NoReservation,
            ConnectError::PermissionDenied => RelayRefusal::NotPermitted,
            ConnectError::Unsupported => RelayRefusal::NotOffered,
            ConnectError::Io(_) | ConnectError::Protocol(_) => RelayRefusal::Silent,
        }
    }

    fn of_reserve(err: &ReserveError) -> RelayRefusal {
        match err {
            ReserveError::Refused => RelayRefusal::NotPermitted,
            ReserveError::ResourceLimitExceeded => RelayRefusal::Limit,
            ReserveError::Unsupported => RelayRefusal::NotOffered,
            ReserveError::Io(_) | ReserveError::Protocol(_) => RelayRefusal::Silent,
        }
    }

    /// Why a circuit's listener closed.
    pub(super) fn of_listener(reason: &Result<(), io::Error>) -> RelayRefusal {
        let err = reason.as_ref().err();
        err.and_then(|err| cause::<ReserveError>(err))
            .map_or(RelayRefusal::Silent, RelayRefusal::of_reserve)
    }
}

/// Why no stream to a peer was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody told us where the peer is: no address, and no relay to try.
    #[error("no address of the peer is known")]
    NoAddress,
    /// No address led to the peer.
    #[error("the peer is not reachable at any of {} known addresses", attempts.len())]
    Unreachable {
        /// What became of each.
        attempts: Vec<(Multiaddr, DialFailure)>,
    },
    /// The peer holds another swarm key. Retrying will not help.
    #[error(transparent)]
    WrongSwarmKey(SwarmKeyMismatch),
    /// No address worked, and the relays refused.
    #[error("the peer is not reachable directly, and its relay refused: {refusal}")]
    RefusedByRelay {
        /// What a relay said.
        refusal: RelayRefusal,
        /// What became of each address.
        attempts: Vec<(Multiaddr, DialFailure)>,
    },
    /// Nothing answered in time.
    #[error("the peer does not answer")]
    Timeout,
    /// The peer is there but does not speak the sync protocol of this version.
    #[error("the peer does not speak this version of the sync protocol")]
    Unsupported,
    /// The connection ended while the stream was being opened.
    #[error("the connection to the peer was lost")]
    Lost,
    /// It is the id of this very node, or of a hub.
    #[error("the peer is no other device")]
    NotADevice,
    /// The node has stopped.
    #[error("the network is shut down")]
    Stopped,
}

impl OpenError {
    /// Whether it may work later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            OpenError::NoAddress
            | OpenError::Unreachable { .. }
            | OpenError::RefusedByRelay { .. }
            | OpenError::Timeout
            | OpenError::Lost => true,
            OpenError::WrongSwarmKey(_)
            | OpenError::Unsupported
            | OpenError::NotADevice
            | OpenError::Stopped => false,
        }
    }

    /// Sums up what became of each address.
    pub(super) fn of(attempts: Vec<(Multiaddr, DialFailure)>) -> OpenError {
        let all = |kind: DialFailure| attempts.iter().all(|(_, failure)| *failure == kind);
        let silent = |failure: &DialFailure| {
            use DialFailure::{NoRoute, Refused, TimedOut};
            matches!(failure, NoRoute | Refused | TimedOut)
        };
        // Only where nobody answered in another way: at an old address of the peer there may be
        // any program today, and none of them speaks our protocol.
        let mut answers = attempts.iter().filter(|(_, failure)| !silent(failure));
        let mismatch = match answers.next() {
            Some((_, DialFailure::WrongSwarmKey(mismatch))) => answers
                .all(|(_, failure)| matches!(failure, DialFailure::WrongSwarmKey(_)))
                .then(|| mismatch.clone()),
            _ => None,
        };
        let refusal = attempts.iter().find_map(|(_, failure)| match failure {
            DialFailure::Relay(refusal) => Some(*refusal),
            _ => None,
        });
        match (mismatch, refusal) {
            _ if attempts.is_empty() => OpenError::NoAddress,
            (Some(mismatch), _) => OpenError::WrongSwarmKey(mismatch),
            (None, Some(refusal)) => OpenError::RefusedByRelay { refusal, attempts },
            (None, None) if all(DialFailure::TimedOut) => OpenError::Timeout,
            (None, None) => OpenError::Unreachable { attempts },
        }
    }
}

/// Why a hub or a relay does not serve us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// Its name does not resolve.
    #[error("its name can't be resolved")]
    Unresolved,
    /// No connection came about.
    #[error(transparent)]
    Dial(DialFailure),
    /// The connection ended, or an answer did not come.
    #[error("the connection was lost")]
    Lost,
    /// It does not know the tracker protocol: a relay of another program, or `--no-tracker`.
    #[error("it is no tracker")]
    NoTracker,
    /// It refused the announcement.
    #[error("the tracker refused: {text}")]
    Refused {
        /// Why.
        reason: RefusalReason,
        /// In the tracker's words.
        text: String,
    },
    /// It handed out no reservation.
    #[error("no reservation: {0}")]
    Relay(RelayRefusal),
}

/// What became of one address; `slow`: the attempt took as long as one may.
pub(super) fn dial_failure(err: &TransportError<io::Error>, slow: bool) -> DialFailure {
    let TransportError::Other(err) = err else {
        return DialFailure::NoRoute;
    };
    if let Some(mismatch) = cause::<SwarmKeyMismatch>(err) {
        return DialFailure::WrongSwarmKey(mismatch.clone());
    }
    if let Some(refused) = cause::<ConnectError>(err) {
        return DialFailure::Relay(RelayRefusal::of_connect(refused));
    }
    match innermost_kind(err) {
        io::ErrorKind::ConnectionRefused => DialFailure::Refused,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => DialFailure::NoRoute,
        io::ErrorKind::TimedOut => DialFailure::TimedOut,
        _ if slow => DialFailure::TimedOut,
        _ => DialFailure::Broken,
    }
}

/// What became of each address of a dial. `addrs`: those that were dialled, for errors that name
/// none.
pub(super) fn dial_failures(
    err: &DialError,
    addrs: &[Multiaddr],
    slow: bool,
) -> Vec<(Multiaddr, DialFailure)> {
    let all = |failure: DialFailure| {
        let each = addrs.iter().cloned();
        each.map(|addr| (addr, failure.clone())).collect()
    };
    match err {
        DialError::Transport(errors) => errors
            .iter()
            .map(|(addr, err)| (addr.clone(), dial_failure(err, slow)))
            .collect(),
        DialError::WrongPeerId { obtained, address } => {
            vec![(address.clone(), DialFailure::WrongPeer { found: *obtained })]
        }
        DialError::LocalPeerId { address } => vec![(address.clone(), DialFailure::Ourselves)],
        DialError::Denied { .. } => all(DialFailure::Limit),
        DialError::NoAddresses => Vec::new(),
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => all(DialFailure::Broken),
    }
}

/// The kind of the innermost `io::Error` that has one.
fn innermost_kind(err: &io::Error) -> io::ErrorKind {
    let mut kind = err.kind();
    let mut next: Option<&(dyn Error + 'static)> = Some(err);
    while let Some(err) = next {
        let io = err.downcast_ref::<io::Error>();
        if let Some(io) = io.filter(|io| io.kind() != io::ErrorKind::Other) {
            kind = io.kind();
        }
        next = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => err.source(),
        };
    }
    kind
}
