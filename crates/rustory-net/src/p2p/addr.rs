//! Addresses: as people write those of hubs, as names resolve, and what an address says about the
//! path behind it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use libp2p::core::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::limits::{ADDR_BYTES_MAX, RESOLVE_TIMEOUT, RESOLVED_ADDRS_MAX};

/// Where a hub or a relay is, as it stands in the settings.
///
/// Either a multiaddr (`/dns4/hub.example/tcp/4001/p2p/12D3...`, with or without `/p2p`), or
/// `hub.example:4001`, `192.0.2.1:4001`, `[2001:db8::1]:4001`. Shown as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubAddr {
    text: String,
    host: Host,
    port: u16,
    peer: Option<PeerId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Host {
    Ip(IpAddr),
    Name(String, Family),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Family {
    Any,
    V4,
    V6,
}

/// Why a text is no address that we can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    /// Neither form.
    #[error("not an address: write `HOST:PORT` or `/dns4/HOST/tcp/PORT/p2p/ID`")]
    Malformed,
    /// A multiaddr of another transport.
    #[error("only TCP is supported: write `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/p2p/ID]`")]
    Unsupported,
}

impl FromStr for HubAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<HubAddr, AddrError> {
        if text.len() > ADDR_BYTES_MAX {
            return Err(AddrError::Malformed);
        }
        let (host, port, peer) = if text.starts_with('/') {
            from_multiaddr(text)?
        } else {
            let (host, port) = from_host_and_port(text)?;
            (host, port, None)
        };
        Ok(HubAddr {
            text: text.to_owned(),
            host,
            port,
            peer,
        })
    }
}

impl fmt::Display for HubAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn from_multiaddr(text: &str) -> Result<(Host, u16, Option<PeerId>), AddrError> {
    let addr: Multiaddr = text.parse().map_err(|_| AddrError::Malformed)?;
    let mut parts = addr.iter();
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => Host::Ip(ip.into()),
        Some(Protocol::Ip6(ip)) => Host::Ip(ip.into()),
        Some(Protocol::Dns(name)) => Host::Name(name.into_owned(), Family::Any),
        Some(Protocol::Dns4(name)) => Host::Name(name.into_owned(), Family::V4),
        Some(Protocol::Dns6(name)) => Host::Name(name.into_owned(), Family::V6),
        _ => return Err(AddrError::Unsupported),
    };
    let port = match parts.next() {
        Some(Protocol::Tcp(port)) => port,
        _ => return Err(AddrError::Unsupported),
    };
    match (parts.next(), parts.next()) {
        (None, _) => Ok((host, port, None)),
        (Some(Protocol::P2p(peer)), None) => Ok((host, port, Some(peer))),
        _ => Err(AddrError::Unsupported),
    }
}

fn from_host_and_port(text: &str) -> Result<(Host, u16), AddrError> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok((Host::Ip(addr.ip()), addr.port()));
    }
    let (name, port) = text.rsplit_once(':').ok_or(AddrError::Malformed)?;
    let named = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || !name.chars().all(named) {
        return Err(AddrError::Malformed);
    }
    let port = port.parse().map_err(|_| AddrError::Malformed)?;
    Ok((Host::Name(name.to_owned(), Family::Any), port))
}

/// Reads an address to listen on, in either form. A name is not one.
///
/// # Errors
/// [`AddrError`].
pub fn listen_addr(text: &str) -> Result<Multiaddr, AddrError> {
    let addr: HubAddr = text.parse()?;
    match addr.host {
        Host::Ip(ip) if addr.peer.is_none() => Ok(tcp_addr(ip, addr.port)),
        _ => Err(AddrError::Unsupported),
    }
}

/// Why a name did not resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unresolved;

impl HubAddr {
    /// The peer id that must be found there, if the address names one.
    #[must_use]
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// As a multiaddr, which names the peer `known` to be there if the address itself names none.
    #[must_use]
    pub fn to_multiaddr(&self, known: Option<PeerId>) -> Multiaddr {
        let host = match &self.host {
            Host::Ip(ip) => Multiaddr::from(*ip),
            Host::Name(name, family) => {
                let name = name.clone().into();
                Multiaddr::empty().with(match family {
                    Family::Any => Protocol::Dns(name),
                    Family::V4 => Protocol::Dns4(name),
                    Family::V6 => Protocol::Dns6(name),
                })
            }
        };
        let addr = host.with(Protocol::Tcp(self.port));
        match self.peer.or(known) {
            Some(peer) => addr.with(Protocol::P2p(peer)),
            None => addr,
        }
    }

    /// What to dial: the resolver of the system is asked, with its hosts file and search domains.
    pub(super) async fn resolve(&self) -> Result<Vec<Multiaddr>, Unresolved> {
        let (name, family) = match &self.host {
            Host::Ip(ip) => return Ok(vec![tcp_addr(*ip, self.port)]),
            Host::Name(name, family) => (name.as_str(), *family),
        };
        let found =
            tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name, self.port))).await;
        let Ok(Ok(found)) = found else {
            return Err(Unresolved);
        };
        let mut addrs: Vec<Multiaddr> = Vec::new();
        for ip in found.map(|addr| addr.ip()).filter(|ip| family.has(ip)) {
            let addr = tcp_addr(ip, self.port);
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        addrs.truncate(RESOLVED_ADDRS_MAX);
        match addrs.is_empty() {
            true => Err(Unresolved),
            false => Ok(addrs),
        }
    }
}

impl Family {
    fn has(self, ip: &IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
        }
    }
}

fn tcp_addr(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Tcp(port))
}

/// How a connection to a peer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Directly, within the local network (or this machine).
    Lan,
    /// Directly, through the Internet or a VPN.
    Direct,
    /// Through a relay, which sees ciphertext.
    Relay,
}

impl Path {
    /// `lan`, `direct` or `relay`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Lan => "lan",
            Path::Direct => "direct",
            Path::Relay => "relay",
        }
    }

    /// The path of a connection whose other end has this address.
    pub(super) fn of(addr: &Multiaddr) -> Path {
        if is_circuit(addr) {
            return Path::Relay;
        }
        match ip_of(addr) {
            Some(ip) if is_local(ip) => Path::Lan,
            _ => Path::Direct,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The IP address that an address starts with.
pub(super) fn ip_of(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Whether it leads through a relay.
pub(super) fn is_circuit(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Addresses of the local network and of this machine. 100.64/10 is not: it is used by carriers'
/// NAT and by VPNs.
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => local_v4(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => local_v4(ip),
            None => local_v6(ip),
        },
    }
}

fn local_v4(ip: Ipv4Addr) -> bool {
    ip.is_private() || ip.is_loopback() || ip.is_link_local()
}

fn local_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
}

/// Whether a dial to it can work at all: `/ip4|ip6/.../tcp/...`, alone or the way to a relay, and
/// not one that only the other side itself could use.
pub(super) fn is_dialable(addr: &Multiaddr) -> bool {
    let mut parts = addr.iter();
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified() && !ip.is_multicast(),
        // Of no use without the interface, which only the other side knows.
        Some(Protocol::Ip6(ip)) => {
            !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local()
        }
        _ => false,
    };
    let port = matches!(parts.next(), Some(Protocol::Tcp(port)) if port != 0);
    host && port
        && match parts.next() {
            None => true,
            Some(Protocol::P2p(_)) => match parts.next() {
                None => true,
                Some(Protocol::P2pCircuit) => parts.all(|part| matches!(part, Protocol::P2p(_))),
                _ => false,
            },
            _ => false,
        }
        && addr.len() <= ADDR_BYTES_MAX
}

/// The address without the `/p2p/PEER` at its end: addresses are compared and kept without.
pub(super) fn without_peer(mut addr: Multiaddr, peer: &PeerId) -> Multiaddr {
    if addr.iter().last() == Some(Protocol::P2p(*peer)) {
        addr.pop();
    }
    addr
}

/// The address of `peer` through a relay.
pub(super) fn circuit(relay_addr: &Multiaddr, relay: PeerId, peer: PeerId) -> Multiaddr {
    without_peer(relay_addr.clone(), &relay)
        .with(Protocol::P2p(relay))
        .with(Protocol::P2pCircuit)
        .with(Protocol::P2p(peer))
}

/// The relay that a circuit address leads through.
pub(super) fn relay_of(addr: &Multiaddr) -> Option<PeerId> {
    if !is_circuit(addr) {
        return None;
    }
    addr.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

/// What is worth telling others of the addresses we listen on: those of this machine alone only
/// where there are no others, which is a test or a machine without a network.
pub fn worth_telling(addrs: impl IntoIterator<Item = Multiaddr>) -> Vec<Multiaddr> {
    let loopback = |addr: &Multiaddr| ip_of(addr).is_some_and(|ip| ip.is_loopback());
    let dialable = addrs.into_iter().filter(is_dialable);
    let (own, wide): (Vec<_>, Vec<_>) = dialable.partition(loopback);
    match wide.is_empty() {
        true => own,
        false => wide,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

    #[test]
    fn both_forms_of_an_address_are_read() {
        let check = |text: &str, host: Host, peer: bool| {
            let addr: HubAddr = text.parse().unwrap();
            assert_eq!((addr.host, addr.port), (host, 4001), "{text}");
            assert_eq!(addr.peer.is_some(), peer, "{text}");
            assert_eq!(addr.text, text);
        };
        let name = |family| Host::Name("hub.example".into(), family);
        check("hub.example:4001", name(Family::Any), false);
        check("192.0.2.1:4001", Host::Ip([192, 0, 2, 1].into()), false);
        check("[::1]:4001", Host::Ip(Ipv6Addr::LOCALHOST.into()), false);
        check("/dns/hub.example/tcp/4001", name(Family::Any), false);
        check("/dns6/hub.example/tcp/4001", name(Family::V6), false);
        let full = format!("/dns4/hub.example/tcp/4001/p2p/{ID}");
        check(&full, name(Family::V4), true);
    }

    #[test]
    fn a_hub_s_address_names_the_peer_that_is_known_there() {
        let shown = |text: &str, known: Option<PeerId>| {
            let addr: HubAddr = text.parse().unwrap();
            let shown = addr.to_multiaddr(known).to_string();
            assert!(shown.parse::<HubAddr>().is_ok(), "{shown}");
            shown
        };
        let full = format!("/dns4/hub.example/tcp/4001/p2p/{ID}");
        assert_eq!(shown(&full, None), full);
        assert_eq!(shown("[::1]:4001", None), "/ip6/::1/tcp/4001");
        assert_eq!(
            shown("hub.example:4001", ID.parse().ok()),
            format!("/dns/hub.example/tcp/4001/p2p/{ID}")
        );
    }

    #[test]
    fn what_is_no_address_is_told_apart_from_what_is_not_supported() {
        let check = |text: &str, wrong: AddrError| {
            assert_eq!(text.parse::<HubAddr>(), Err(wrong), "{text}");
        };
        for text in [
            "",
            "hub",
            "hub:",
            "hub:port",
            ":4001",
            "a b:1",
            "/tcp",
            "hub:70000",
        ] {
            check(text, AddrError::Malformed);
        }
        check("/ip4/192.0.2.1/udp/4001/quic-v1", AddrError::Unsupported);
        check("/ip4/192.0.2.1/tcp/4001/ws", AddrError::Unsupported);
        check(&format!("{}:1", "a".repeat(300)), AddrError::Malformed);
    }

    #[test]
    fn a_path_is_read_from_the_address_of_the_other_end() {
        let check = |addr: &str, path: Path| {
            assert_eq!(Path::of(&addr.parse().unwrap()), path, "{addr}");
        };
        check("/ip4/192.168.1.4/tcp/1", Path::Lan);
        check("/ip4/127.0.0.1/tcp/1", Path::Lan);
        check("/ip6/fd00::1/tcp/1", Path::Lan);
        check("/ip6/fe80::1/tcp/1", Path::Lan);
        check("/ip4/192.0.2.1/tcp/1", Path::Direct);
        check("/ip4/100.64.0.1/tcp/1", Path::Direct);
        let relayed = format!("/ip4/192.168.1.4/tcp/1/p2p/{ID}/p2p-circuit");
        check(&relayed, Path::Relay);
        check(&format!("/p2p/{ID}"), Path::Direct);
    }

    #[test]
    fn only_addresses_that_can_work_are_dialled() {
        let dialable = |addr: &str| is_dialable(&addr.parse().unwrap());
        assert!(dialable("/ip4/192.168.1.4/tcp/4001"));
        let circuit = format!("/ip4/192.0.2.1/tcp/1/p2p/{ID}/p2p-circuit/p2p/{ID}");
        assert!(dialable(&circuit));
        assert_eq!(relay_of(&circuit.parse().unwrap()), ID.parse().ok());
        for addr in [
            "/ip4/0.0.0.0/tcp/4001",
            "/ip4/192.168.1.4/tcp/0",
            "/ip6/fe80::1/tcp/4001",
            "/ip4/192.168.1.4/udp/4001/quic-v1",
            "/dns4/hub.example/tcp/1",
            &format!("/p2p/{ID}"),
        ] {
            assert!(!dialable(addr), "{addr}");
        }
    }

    #[tokio::test]
    async fn a_name_resolves_through_the_system() {
        let addr: HubAddr = "/dns4/localhost/tcp/4001".parse().unwrap();
        let found = addr.resolve().await.unwrap();
        assert_eq!(found, ["/ip4/127.0.0.1/tcp/4001".parse().unwrap()]);
        let addr: HubAddr = "no-such-host.invalid:1".parse().unwrap();
        assert_eq!(addr.resolve().await, Err(Unresolved));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            let _ = text.parse::<HubAddr>();
            let _ = format!("/{text}").parse::<HubAddr>();
        }
    }
}
