//! Devices that know nothing but a hub, and hubs that go, come back, or are somebody else.
#![allow(clippy::unwrap_used)]

mod p2p_support;

use std::time::Duration;

use p2p_support::{
    Device, Proxy, config, free_port, hub_config, key, round_trip, soon, spec, start_hub, within,
};
use rustory_net::p2p::{
    DialFailure, FoundBy, HubError, HubHandle, IdentityKey, NodeEvent, OpenError, Path,
    RelayRefusal, ServiceState, SwarmKey,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn hub() -> (HubHandle, SwarmKey, u16) {
    let (key, port) = (key(), free_port());
    let hub = start_hub(hub_config(key, port)).await;
    (hub, key, port)
}

/// A device that knows only the hub at this port of the loopback.
fn device(key: SwarmKey, name: &str, port: u16) -> Device {
    let mut config = config(key, name);
    config.hubs = vec![spec(format!("localhost:{port}"))];
    Device::start(config)
}

/// The same, but reachable through the relay only.
fn hidden(key: SwarmKey, name: &str, port: u16) -> Device {
    let mut config = config(key, name);
    config.hubs = vec![spec(format!("localhost:{port}"))];
    config.listen.clear();
    Device::start(config)
}

#[tokio::test]
async fn two_devices_that_know_only_the_hub_find_each_other_and_talk_directly() {
    let (hub, key, port) = hub().await;
    let mut a = device(key, "a", port);
    a.until_tracker("a is announced", ServiceState::Up).await;
    let mut b = device(key, "b", port);
    let (addrs, info) = b.until_found(a.id()).await;
    assert_eq!(info.unwrap().device_name, "a");
    assert!(!addrs.is_empty());
    assert_eq!(b.talk(a.id()).await, Path::Lan);
    b.until_relay("b has a reservation", ServiceState::Up).await;
    assert!(hub.is_ready());
    let metrics = hub.metrics();
    assert!(
        metrics.contains("rustory_hub_devices_online 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_device_is_told_of_changes_and_of_who_leaves() {
    let (_hub, key, port) = hub().await;
    let mut a = device(key, "a", port);
    a.until_tracker("a is announced", ServiceState::Up).await;
    let b = device(key, "b", port);
    // a hears of b at its next heartbeat, or when it asks again.
    soon("a hears of b", async {
        loop {
            a.handle.network_changed().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let status = a.handle.status().await.unwrap();
            if status.peers.iter().any(|peer| peer.peer == b.id()) {
                return;
            }
        }
    })
    .await;
    let id = b.id();
    b.handle.stop().await;
    let offline = async {
        loop {
            a.handle.network_changed().await;
            let found = a.until("b changed", |event| match event {
                NodeEvent::PeerDiscovered {
                    peer, online, by, ..
                } if *peer == id => Some((*online, *by)),
                _ => None,
            });
            let next = tokio::time::timeout(Duration::from_secs(1), found).await;
            if next == Ok((false, FoundBy::Tracker)) {
                return;
            }
        }
    };
    soon("b is offline", offline).await;
}

#[tokio::test]
async fn devices_that_nobody_can_reach_talk_through_the_relay() {
    let (hub, key, port) = hub().await;
    let mut a = hidden(key, "a", port);
    let mut b = hidden(key, "b", port);
    a.until_relay("a has a reservation", ServiceState::Up).await;
    b.until_relay("b has a reservation", ServiceState::Up).await;
    assert_eq!(a.talk(b.id()).await, Path::Relay);
    // Far beyond what a relay allows by default.
    let stream = b.open(a.id()).await.unwrap();
    assert_eq!(stream.path(), Path::Relay);
    soon("3 MB", round_trip(stream, 3_000_000)).await;
    assert!(hub.metrics().contains("rustory_hub_reservations 2"));
}

#[tokio::test]
async fn a_stream_on_the_worse_of_two_relayed_connections_is_told_to_move() {
    let (hub, key, port) = hub().await;
    let far = Proxy::far_to(port, Duration::from_millis(150)).await;
    let (mut a, mut b) = (hidden(key, "a", far.port), hidden(key, "b", port));
    // Of connections that cross, the one that the lower id dialled stays.
    if b.id() < a.id() {
        std::mem::swap(&mut a, &mut b);
    }
    a.until_relay("a has a reservation", ServiceState::Up).await;
    b.until_relay("b has a reservation", ServiceState::Up).await;
    // The lower one dials while the other's connection is on its way, which takes five times the
    // delay, and gets its stream on that.
    let later = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        a.open(b.id()).await
    };
    let (theirs, stream) = tokio::join!(b.open(a.id()), later);
    let (theirs, mut stream) = (theirs.unwrap(), stream.unwrap());
    assert_eq!(stream.path(), Path::Relay);
    let moved = |event: &NodeEvent| match event {
        NodeEvent::PeerPath { link, .. } => Some(*link),
        _ => None,
    };
    let better = a.until("a moves", moved).await;
    assert_ne!(better, stream.link());
    b.until("b moves", moved).await;
    // Nothing is lost meanwhile, and what is opened now is on the better one.
    stream.write_all(b"x").await.unwrap();
    let mut byte = [0];
    soon("an echo", stream.read_exact(&mut byte)).await.unwrap();
    assert_eq!(a.open(b.id()).await.unwrap().link(), better);
    // The worse one is closed once nothing runs on it.
    drop((stream, theirs));
    soon("one circuit", async {
        while !hub.metrics().contains("rustory_hub_circuits 1\n") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    round_trip(a.open(b.id()).await.unwrap(), 1000).await;
}

#[tokio::test]
async fn a_stream_opened_while_the_hub_is_still_being_connected_waits_for_it() {
    let (_hub, key, port) = hub().await;
    let mut a = hidden(key, "a", port);
    a.until_relay("a has a reservation", ServiceState::Up).await;
    let b = hidden(key, "b", port);
    let stream = b.open(a.id()).await.unwrap();
    round_trip(stream, 1000).await;
}

#[tokio::test]
async fn reservations_come_back_with_the_relay() {
    let (key, port) = (key(), free_port());
    let of_hub = hub_config(key, port);
    let first = start_hub(of_hub.clone()).await;
    let mut a = hidden(key, "a", port);
    let mut b = hidden(key, "b", port);
    a.until_relay("a has a reservation", ServiceState::Up).await;
    b.until_relay("b has a reservation", ServiceState::Up).await;
    assert_eq!(a.talk(b.id()).await, Path::Relay);
    within(Duration::from_secs(5), "the hub stops", first.stop()).await;
    let lost = ServiceState::Down(HubError::Lost);
    a.until_relay("a notices", lost.clone()).await;
    b.until_relay("b notices", lost).await;
    let _second = start_hub(of_hub).await;
    a.until_relay("a has one again", ServiceState::Up).await;
    b.until_relay("b has one again", ServiceState::Up).await;
    a.until_tracker("a is announced again", ServiceState::Up)
        .await;
    assert_eq!(a.talk(b.id()).await, Path::Relay);
}

#[tokio::test]
async fn devices_that_met_before_need_no_hub() {
    let key = key();
    let dead = free_port();
    let mut a = device(key, "a", dead);
    let mut of_b = config(key, "b");
    of_b.hubs = vec![spec(format!("127.0.0.1:{dead}"))];
    of_b.peer_book.insert(a.id(), a.addrs().await);
    let mut b = Device::start(of_b);
    let refused = ServiceState::Down(HubError::Dial(DialFailure::Refused));
    a.until_tracker("a says so", refused.clone()).await;
    b.until_tracker("b says so", refused).await;
    assert_eq!(b.talk(a.id()).await, Path::Lan);
}

#[tokio::test]
async fn one_hub_of_two_is_enough() {
    let (_hub, key, port) = hub().await;
    let dead = free_port();
    let start = |name: &str| {
        let mut config = config(key, name);
        config.hubs = vec![
            spec(format!("127.0.0.1:{dead}")),
            spec(format!("127.0.0.1:{port}")),
            // The same again, under another name.
            spec(format!("/dns4/localhost/tcp/{port}")),
        ];
        Device::start(config)
    };
    let mut a = start("a");
    a.until_tracker("a is announced", ServiceState::Up).await;
    let mut b = start("b");
    b.until_found(a.id()).await;
    assert_eq!(b.talk(a.id()).await, Path::Lan);
    soon("all three are told", async {
        loop {
            let hubs = b.handle.status().await.unwrap().hubs;
            let up = |at: usize| hubs[at].relay == ServiceState::Up;
            if !up(0) && up(1) && up(2) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_behind_a_bare_address_is_learned_and_a_change_is_told() {
    let (key, port) = (key(), free_port());
    let first = start_hub(hub_config(key, port)).await;
    let mut a = device(key, "a", port);
    let learned = a
        .until("learned", |event| match event {
            NodeEvent::HubIdLearned { peer, .. } => Some(*peer),
            _ => None,
        })
        .await;
    assert_eq!(learned, first.peer_id());
    let was = first.peer_id();
    first.stop().await;
    let second = start_hub(hub_config(key, port)).await;
    let changed = |event: &NodeEvent| match event {
        NodeEvent::HubIdChanged { was, now, .. } => Some((*was, *now)),
        _ => None,
    };
    let told = a.until("changed", changed).await;
    assert_eq!(told, (was, second.peer_id()));
    a.until_tracker("it is used", ServiceState::Up).await;

    // The same when it changed while the device was off.
    let mut of_b = config(key, "b");
    of_b.hubs = vec![spec(format!("127.0.0.1:{port}"))];
    of_b.hubs[0].learned = Some(was);
    let mut b = Device::start(of_b);
    assert_eq!(b.until("changed", changed).await, told);
}

#[tokio::test]
async fn an_address_with_a_peer_id_leads_to_nobody_else() {
    let (hub, key, port) = hub().await;
    let other = IdentityKey::generate().unwrap().peer_id();
    let mut of_a = config(key, "a");
    of_a.hubs = vec![spec(format!("/ip4/127.0.0.1/tcp/{port}/p2p/{other}"))];
    let mut a = Device::start(of_a);
    let found = hub.peer_id();
    let wrong = HubError::Dial(DialFailure::WrongPeer { found });
    a.until_tracker("a says so", ServiceState::Down(wrong))
        .await;
    let mut of_b = config(key, "b");
    of_b.hubs = vec![spec(format!("/ip4/127.0.0.1/tcp/{port}/p2p/{found}"))];
    let mut b = Device::start(of_b);
    b.until_tracker("b is announced", ServiceState::Up).await;
}

#[tokio::test]
async fn a_hub_of_another_swarm_is_named_as_such() {
    let (_hub, _, port) = hub().await;
    let ours = key();
    let mut a = device(ours, "a", port);
    let error = a
        .until("told", |event| match event {
            NodeEvent::HubState {
                tracker: ServiceState::Down(HubError::Dial(error)),
                ..
            } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert!(matches!(error, DialFailure::WrongSwarmKey(_)), "{error:?}");
}

#[tokio::test]
async fn a_relay_that_is_no_tracker_still_relays() {
    let (key, port) = (key(), free_port());
    let mut of_hub = hub_config(key, port);
    of_hub.no_tracker = true;
    let _hub = start_hub(of_hub).await;
    let mut a = hidden(key, "a", port);
    let mut of_b = config(key, "b");
    of_b.listen.clear();
    of_b.relays = vec![spec(format!("127.0.0.1:{port}"))];
    let mut b = Device::start(of_b);
    a.until_tracker("a says so", ServiceState::Down(HubError::NoTracker))
        .await;
    a.until_relay("a has a reservation", ServiceState::Up).await;
    b.until_relay("b has a reservation", ServiceState::Up).await;
    assert_eq!(b.talk(a.id()).await, Path::Relay);
    assert_eq!(a.talk(b.id()).await, Path::Relay);
}

#[tokio::test]
async fn a_hub_that_knows_no_address_of_its_own_says_so_and_hands_out_nothing() {
    let (key, port) = (key(), free_port());
    let mut of_hub = hub_config(key, port);
    of_hub.external.clear();
    let hub = start_hub(of_hub.clone()).await;
    assert!(!hub.is_ready());
    let mut a = device(key, "a", port);
    let nothing = HubError::Relay(RelayRefusal::NotOffered);
    a.until_relay("a says so", ServiceState::Down(nothing))
        .await;
    a.until_tracker("its tracker works", ServiceState::Up).await;
    hub.stop().await;
    of_hub.no_relay = true;
    assert!(start_hub(of_hub).await.is_ready());
}

#[tokio::test]
async fn a_peer_without_a_reservation_is_told_as_refused_by_the_relay() {
    let (_hub, key, port) = hub().await;
    let mut a = device(key, "a", port);
    a.until_relay("a has a reservation", ServiceState::Up).await;
    let absent = IdentityKey::generate().unwrap().peer_id();
    match a.open(absent).await.unwrap_err() {
        OpenError::RefusedByRelay { refusal, .. } => {
            assert_eq!(refusal, RelayRefusal::NoReservation);
        }
        other => panic!("{other:?}"),
    }
    // And that costs us nothing of our own.
    let status = a.handle.status().await.unwrap();
    assert_eq!(status.hubs[0].relay, ServiceState::Up);
    assert_eq!(status.circuits.len(), 1);
}

#[tokio::test]
async fn a_relayed_connection_gives_way_to_a_direct_one() {
    let (hub, key, port) = hub().await;
    let start = |name: &str| {
        let mut config = config(key, name);
        // Only the relay: no tracker tells them where the other listens.
        config.relays = vec![spec(format!("127.0.0.1:{port}"))];
        Device::start(config)
    };
    let (mut a, mut b) = (start("a"), start("b"));
    a.until_relay("a has a reservation", ServiceState::Up).await;
    b.until_relay("b has a reservation", ServiceState::Up).await;
    let early = a.open(b.id()).await.unwrap();
    assert_eq!(early.path(), Path::Relay);
    // Hole punching; each side is told, so that it can move.
    for device in [&mut a, &mut b] {
        let path = device
            .until("moves", |event| match event {
                NodeEvent::PeerPath { path, .. } => Some(*path),
                _ => None,
            })
            .await;
        assert_eq!(path, Path::Lan);
    }
    // What runs over the relay goes on, and what is new runs directly.
    assert_eq!(a.talk(b.id()).await, Path::Lan);
    assert_eq!(b.talk(a.id()).await, Path::Lan);
    round_trip(early, 100_000).await;
    // Not only after the 30 s that one may last whose streams never end.
    within(Duration::from_secs(15), "the circuit ends", async {
        while !hub.metrics().contains("rustory_hub_circuits 0") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(a.talk(b.id()).await, Path::Lan);
}
