//! Two devices that reach each other directly, or not at all.
#![allow(clippy::unwrap_used)]

mod p2p_support;

use std::time::Duration;

use p2p_support::{Device, Proxy, config, free_port, key, port_of, round_trip, soon, within};
use rustory_net::p2p::{DialFailure, NodeEvent, OpenError, Path, listen_addr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn pair() -> (Device, Device) {
    let key = key();
    let a = Device::start(config(key, "a"));
    let mut of_b = config(key, "b");
    of_b.peer_book.insert(a.id(), a.addrs().await);
    (a, Device::start(of_b))
}

#[tokio::test]
async fn two_devices_with_one_key_exchange_bytes_both_ways() {
    let (mut a, mut b) = pair().await;
    let stream = b.open(a.id()).await.unwrap();
    assert_eq!(stream.path(), Path::Lan);
    assert_eq!(stream.peer(), a.id());
    round_trip(stream, 3_000_000).await;
    // Over the same connection, from the side that never dialled.
    round_trip(a.open(b.id()).await.unwrap(), 1000).await;
    let is_connected = |event: &NodeEvent| match event {
        NodeEvent::PeerConnected { peer, path, .. } => Some((*peer, *path)),
        _ => None,
    };
    assert_eq!(
        a.until("connected", is_connected).await,
        (b.id(), Path::Lan)
    );
    assert_eq!(
        b.until("connected", is_connected).await,
        (a.id(), Path::Lan)
    );
}

#[tokio::test]
async fn both_sides_learn_where_the_other_listens() {
    let (mut a, b) = pair().await;
    b.talk(a.id()).await;
    let learned = |event: &NodeEvent| match event {
        NodeEvent::AddressLearned { peer, addr } => Some((*peer, addr.clone())),
        _ => None,
    };
    let (peer, addr) = a.until("learned", learned).await;
    assert_eq!(peer, b.id());
    assert!(b.addrs().await.contains(&addr), "{addr}");
    // b was given the address and has nothing to learn.
    b.handle.stop().await;
    assert!(b.handle.status().await.is_none());
    let gone = |event: &NodeEvent| matches!(event, NodeEvent::PeerGone { .. }).then_some(());
    a.until("gone", gone).await;
}

#[tokio::test]
async fn a_wrong_swarm_key_is_named_on_both_sides_at_once() {
    let (ours, theirs) = (key(), key());
    let mut a = Device::start(config(ours, "a"));
    let mut of_b = config(theirs, "b");
    of_b.peer_book.insert(a.id(), a.addrs().await);
    let mut b = Device::start(of_b);
    let opened = within(Duration::from_secs(5), "an answer", b.handle.open(a.id())).await;
    match opened {
        Err(OpenError::WrongSwarmKey(mismatch)) => {
            assert_eq!(mismatch.ours, Some(theirs.fingerprint()));
            let said = mismatch.to_string();
            assert!(said.contains(theirs.fingerprint().short()), "{said}");
        }
        other => panic!("{other:?}"),
    }
    let told = |event: &NodeEvent| match event {
        NodeEvent::SwarmKeyMismatch { mismatch, .. } => mismatch.ours.clone(),
        _ => None,
    };
    assert_eq!(b.until("told", told).await, theirs.fingerprint());
    assert_eq!(a.until("told", told).await, ours.fingerprint());
}

#[tokio::test]
async fn a_key_on_one_side_only_is_named_too() {
    for a_has_it in [true, false] {
        let key = key();
        let (mut of_a, mut of_b) = (config(key, "a"), config(key, "b"));
        match a_has_it {
            true => of_b.swarm_key = None,
            false => of_a.swarm_key = None,
        }
        let mut a = Device::start(of_a);
        of_b.peer_book.insert(a.id(), a.addrs().await);
        let b = Device::start(of_b);
        let opened = within(Duration::from_secs(5), "an answer", b.handle.open(a.id())).await;
        assert!(
            matches!(opened, Err(OpenError::WrongSwarmKey(_))),
            "{a_has_it} {opened:?}"
        );
        let told =
            |event: &NodeEvent| matches!(event, NodeEvent::SwarmKeyMismatch { .. }).then_some(());
        a.until("told", told).await;
    }
}

#[tokio::test]
async fn why_a_peer_is_not_reached_is_told_apart() {
    let (a, b) = pair().await;
    let stranger = Device::start(config(key(), "x")).id();
    assert_eq!(b.open(stranger).await.unwrap_err(), OpenError::NoAddress);
    assert_eq!(b.open(b.id()).await.unwrap_err(), OpenError::NotADevice);

    let nobody = listen_addr(&format!("127.0.0.1:{}", free_port())).unwrap();
    b.handle.add_addresses(stranger, vec![nobody.clone()]).await;
    let expected = OpenError::Unreachable {
        attempts: vec![(nobody, DialFailure::Refused)],
    };
    assert_eq!(b.open(stranger).await.unwrap_err(), expected);

    // Where somebody else answers.
    b.handle.add_addresses(stranger, a.addrs().await).await;
    match b.open(stranger).await.unwrap_err() {
        OpenError::Unreachable { attempts } => {
            let wrong = DialFailure::WrongPeer { found: a.id() };
            assert!(attempts.iter().any(|(_, it)| *it == wrong), "{attempts:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn somebody_else_at_one_address_does_not_hide_the_peer_at_another() {
    let key = key();
    let [a, b, c] = ["a", "b", "c"].map(|name| Device::start(config(key, name)));
    // Where a was once, c is now, which answers first; b itself is at another of its addresses.
    let mut addrs = c.addrs().await;
    addrs.extend(b.addrs().await);
    let slow = Proxy::slow_to(port_of(&a.addrs().await[0])).await;
    addrs.push(listen_addr(&format!("127.0.0.1:{}", slow.port)).unwrap());
    b.handle.add_addresses(a.id(), addrs).await;
    round_trip(b.open(a.id()).await.unwrap(), 1000).await;
}

#[tokio::test]
async fn two_that_dial_each_other_at_once_keep_one_connection() {
    let key = key();
    let a = Device::start(config(key, "a"));
    let b = Device::start(config(key, "b"));
    a.handle.add_addresses(b.id(), b.addrs().await).await;
    b.handle.add_addresses(a.id(), a.addrs().await).await;
    let (one, other) = tokio::join!(a.open(b.id()), b.open(a.id()));
    let (one, other) = (one.unwrap(), other.unwrap());
    // Both work, whichever connection each of them got.
    tokio::join!(round_trip(one, 1000), round_trip(other, 1000));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(a.talk(b.id()).await, Path::Lan);
    assert_eq!(b.talk(a.id()).await, Path::Lan);
}

#[tokio::test]
async fn a_stream_ends_on_both_sides_when_either_closes_the_connection() {
    let key = key();
    let a = Device::start(config(key, "a"));
    let mut of_b = config(key, "b");
    of_b.peer_book.insert(a.id(), a.addrs().await);
    let b = Device::start(of_b);
    b.talk(a.id()).await;
    let (mut here, mut there) = (b.open(a.id()).await.unwrap(), a.open(b.id()).await.unwrap());
    let stopped = async {
        // Both wait for something to read by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        b.handle.stop().await;
    };
    let (mut first, mut second) = ([0; 1], [0; 1]);
    soon("the ends", async {
        let (here, there, ()) =
            tokio::join!(here.read(&mut first), there.read(&mut second), stopped);
        assert!(!matches!(here, Ok(1..)), "{here:?}");
        assert!(!matches!(there, Ok(1..)), "{there:?}");
    })
    .await;
    assert!(here.write_all(&first).await.is_err());
}

#[tokio::test]
async fn a_slow_stream_holds_back_no_other() {
    let (a, b) = pair().await;
    let mut slow = b.open(a.id()).await.unwrap();
    // Nobody reads the echo of this one: it stops at its window.
    let stuck = tokio::spawn(async move {
        let chunk = vec![1; 64 * 1024];
        while slow.write_all(&chunk).await.is_ok() {}
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    soon("others", async {
        round_trip(b.open(a.id()).await.unwrap(), 200_000).await;
        round_trip(a.open(b.id()).await.unwrap(), 200_000).await;
    })
    .await;
    stuck.abort();
}

#[tokio::test]
async fn a_peer_that_opens_stream_upon_stream_is_cut_off_and_others_are_not() {
    let (a, b) = pair().await;
    let mut held = Vec::new();
    for _ in 0..30 {
        held.push(b.open(a.id()).await.unwrap());
    }
    let mut alive = 0;
    for stream in &mut held {
        let mut byte = [0];
        let written = stream.write_all(b"x").await.is_ok();
        if written && soon("a byte", stream.read_exact(&mut byte)).await.is_ok() {
            alive += 1;
        }
    }
    assert!((1..=8).contains(&alive), "{alive}");
    drop(held);
    assert_eq!(b.talk(a.id()).await, Path::Lan);
}

/// Needs a network with multicast, which build machines often lack.
#[tokio::test]
#[ignore = "needs multicast"]
async fn devices_on_one_network_find_each_other_by_mdns() {
    let key = key();
    let start = |name: &str| {
        let mut config = config(key, name);
        config.mdns = true;
        config.listen = vec![listen_addr("0.0.0.0:0").unwrap()];
        Device::start(config)
    };
    let (a, mut b) = (start("a"), start("b"));
    let (addrs, device) = b.until_found(a.id()).await;
    assert!(!addrs.is_empty());
    assert_eq!(device, None);
    assert_eq!(b.talk(a.id()).await, Path::Lan);
}

#[tokio::test]
async fn a_device_that_listens_everywhere_names_its_addresses() {
    let mut of_a = config(key(), "a");
    of_a.listen = vec![listen_addr("0.0.0.0:0").unwrap()];
    let a = Device::start(of_a);
    let addrs = a.addrs().await;
    let everywhere = |addr: &rustory_net::p2p::Multiaddr| addr.to_string().contains("/0.0.0.0/");
    assert!(!addrs.iter().any(everywhere), "{addrs:?}");
}
