//! Whether the lab is what it says: a test that passes on a wrong network proves nothing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::namespace::{Namespace, possible};
use crate::topology::{HUB, Host, Lab, Nat, PORT, SHIFTED, SiteSpec, Unsolicited, Weather};

const SHORT: Duration = Duration::from_millis(400);

/// A socket of a host, on the port that daemons have.
fn socket(host: &Host, port: u16) -> UdpSocket {
    host.namespace.run(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        socket
    })
}

/// Who a packet seems to come from; `None`: it did not arrive.
fn arrives(
    from: &UdpSocket,
    at: &UdpSocket,
    addr: impl Into<SocketAddr> + Copy,
) -> Option<SocketAddr> {
    // An error of an earlier packet is told here.
    for _ in 0..2 {
        if from.send_to(b"hello", addr.into()).is_ok() {
            break;
        }
    }
    loop {
        match at.recv_from(&mut [0; 16]) {
            Ok((_, source)) => return Some(source),
            Err(err) if err.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return None,
        }
    }
}

fn addr(ip: Ipv4Addr, port: u16) -> SocketAddr {
    (ip, port).into()
}

/// Mapping and filtering of one kind, as two hosts on the Internet see it.
fn check_nat(nat: Nat) {
    let mut lab = Lab::new();
    let (inside, other) = (lab.host_behind(nat), lab.host_behind(Nat::None));
    let (a, hub, stranger) = (
        socket(&inside, PORT),
        socket(lab.hub(), PORT),
        socket(&other, PORT),
    );
    let seen_by_hub = arrives(&a, &hub, (HUB, PORT)).unwrap();
    assert_eq!(seen_by_hub.ip(), lab.public(&inside));
    assert_eq!(
        arrives(&hub, &a, seen_by_hub),
        Some(addr(HUB, PORT)),
        "{nat:?}: an answer arrives"
    );
    let from_stranger = arrives(&stranger, &a, seen_by_hub);
    let open = matches!(nat, Nat::None | Nat::FullCone);
    assert_eq!(from_stranger.is_some(), open, "{nat:?}: unsolicited");
    let seen_by_other = arrives(&a, &stranger, (other.addr, PORT)).unwrap();
    match nat {
        Nat::None | Nat::Home | Nat::FullCone => assert_eq!(seen_by_hub.port(), PORT, "{nat:?}"),
        Nat::Shift => assert_eq!(seen_by_hub.port(), SHIFTED),
        Nat::Symmetric => assert_ne!(seen_by_hub.port(), PORT),
    }
    assert_eq!(
        seen_by_hub == seen_by_other,
        nat != Nat::Symmetric,
        "{nat:?}: {seen_by_hub}, {seen_by_other}"
    );
}

#[test]
fn each_kind_of_nat_maps_and_filters_as_its_name_says() {
    if !possible("the kinds of NAT") {
        return;
    }
    for nat in crate::topology::NATS {
        check_nat(nat);
    }
}

fn dial(from: &Namespace, to: SocketAddr) -> Result<Duration, ErrorKind> {
    from.run(move || {
        let begun = Instant::now();
        match TcpStream::connect_timeout(&to, SHORT) {
            Ok(_) => Ok(begun.elapsed()),
            Err(err) => Err(err.kind()),
        }
    })
}

fn listen(host: &Host) -> TcpListener {
    host.namespace
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap())
}

#[test]
fn links_can_be_blocked_cut_moved_delayed_and_lossy() {
    if !possible("what can happen to a link") {
        return;
    }
    let mut lab = Lab::new();
    let home = lab.site(Nat::Home);
    let office = lab.site(SiteSpec {
        unsolicited: Unsolicited::Reject,
        subnet: 2,
        ..Nat::Home.into()
    });
    let (mut a, b, c) = (lab.host(home), lab.host(home), lab.host_behind(Nat::None));
    let (_at_hub, _at_b, _at_c) = (listen(&lab.hub().clone()), listen(&b), listen(&c));
    let hub = addr(HUB, PORT);
    let reaches = |from: &Host, to: SocketAddr| dial(&from.namespace, to).is_ok();

    // Within a site, past the router.
    assert!(reaches(&a, addr(b.addr, PORT)));
    assert!(lab.lan_traffic(&a, &b).packets >= 3);
    // From outside: one home says nothing, the other one that the port is closed.
    let closed = |lab: &Lab, site: &Host| dial(&c.namespace, addr(lab.public(site), PORT));
    assert_eq!(closed(&lab, &a), Err(ErrorKind::TimedOut));

    assert!(reaches(&a, hub) && reaches(&c, hub));
    assert!(lab.dials(&a, lab.hub()) == 1 && lab.dials(lab.hub(), &a) == 0);
    lab.block(&a, lab.hub());
    assert!(!reaches(&a, hub) && reaches(&a, addr(c.addr, PORT)));
    lab.unblock(&a, lab.hub());
    lab.cut(&a);
    assert!(!reaches(&a, hub) && !reaches(&a, addr(c.addr, PORT)) && reaches(&c, hub));
    lab.restore(&a);
    assert!(reaches(&a, hub));
    lab.unplug(&a);
    assert!(!reaches(&a, addr(b.addr, PORT)));
    lab.plug_in(&a);
    assert!(reaches(&b, hub));

    lab.move_to(&mut a, office);
    assert!(reaches(&a, hub) && !reaches(&a, addr(b.addr, PORT)));
    assert_eq!(closed(&lab, &a), Err(ErrorKind::ConnectionRefused));

    let round_trip = Duration::from_millis(100);
    lab.weather(Weather::round_trip(round_trip));
    let took = dial(&a.namespace, hub).unwrap();
    assert!(took >= round_trip && took < round_trip * 3, "{took:?}");
    lab.weather(Weather {
        loss_percent: 50,
        ..Weather::default()
    });
    let (at_hub, from_c) = (socket(lab.hub(), 9), socket(&c, 9));
    for _ in 0..100 {
        from_c.send_to(b"hello", (HUB, 9)).unwrap();
    }
    let arrived = std::iter::repeat_with(|| at_hub.recv_from(&mut [0; 16]))
        .take_while(Result::is_ok)
        .count();
    assert!((20..80).contains(&arrived), "{arrived} of 100");
}

#[test]
fn the_counters_tell_which_way_bytes_went() {
    if !possible("the counters") {
        return;
    }
    let mut lab = Lab::new();
    let (a, b) = (lab.host_behind(Nat::Symmetric), lab.host_behind(Nat::None));
    let listener = listen(&b);
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_end(&mut bytes)
            .unwrap();
        bytes.len() as u64
    });
    let before = lab.traffic(&a, &b);
    let to = addr(b.addr, PORT);
    a.namespace.run(move || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(&[7; 1_000_000]).unwrap();
    });
    let sent = reader.join().unwrap();
    let counted = (lab.traffic(&a, &b) - before).bytes;
    assert!(counted > sent && counted < sent * 11 / 10, "{counted}");
    assert_eq!(lab.traffic(&a, lab.hub()).packets, 0);
    assert_eq!(lab.traffic(&b, lab.hub()).packets, 0);
}
