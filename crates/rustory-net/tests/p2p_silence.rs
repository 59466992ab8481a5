//! Connections that fall silent without closing: suspended laptops, routers that went away.
#![allow(clippy::unwrap_used)]

mod p2p_support;

use std::time::Duration;

use p2p_support::{Device, Proxy, config, free_port, hub_config, key, spec, start_hub};
use rustory_net::p2p::{HubError, NodeEvent, Path, ServiceState, listen_addr};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn a_hub_that_fell_silent_is_left_and_found_again_after_a_change_of_the_network() {
    let (key, port) = (key(), free_port());
    let _hub = start_hub(hub_config(key, port)).await;
    let proxy = Proxy::to(port).await;
    let mut of_a = config(key, "a");
    of_a.listen.clear();
    of_a.hubs = vec![spec(format!("127.0.0.1:{}", proxy.port))];
    let mut a = Device::start(of_a);
    a.until_tracker("a is announced", ServiceState::Up).await;
    a.until_relay("a has a reservation", ServiceState::Up).await;
    proxy.freeze().await;
    // What the node does by itself when an address of the machine comes or goes, or it wakes up.
    a.handle.network_changed().await;
    a.until_relay("a notices", ServiceState::Down(HubError::Lost))
        .await;
    proxy.thaw();
    a.until_relay("a has one again", ServiceState::Up).await;
    a.until_tracker("a is announced again", ServiceState::Up)
        .await;
}

#[tokio::test]
async fn a_peer_that_fell_silent_is_reached_another_way() {
    let key = key();
    let port = free_port();
    let mut of_a = config(key, "a");
    of_a.listen = vec![listen_addr(&format!("127.0.0.1:{port}")).unwrap()];
    let a = Device::start(of_a);
    a.addrs().await;
    let proxy = Proxy::to(port).await;
    let way = |port: u16| listen_addr(&format!("127.0.0.1:{port}")).unwrap();
    let mut of_b = config(key, "b");
    of_b.peer_book.insert(a.id(), vec![way(proxy.port)]);
    let b = Device::start(of_b);
    assert_eq!(b.talk(a.id()).await, Path::Lan);
    proxy.freeze().await;
    b.handle.add_addresses(a.id(), vec![way(port)]).await;
    // Within one call: the dead connection is found out while the stream is opened.
    let opened = b.open(a.id()).await.unwrap();
    p2p_support::within(
        Duration::from_secs(5),
        "a round trip",
        p2p_support::round_trip(opened, 1000),
    )
    .await;
}

#[tokio::test]
async fn connections_are_doubted_after_a_change_of_the_network() {
    let key = key();
    let a = Device::start(config(key, "a"));
    let port = p2p_support::port_of(&a.addrs().await[0]);
    let (proxy, living) = (Proxy::to(port).await, Device::start(config(key, "c")));
    let way = listen_addr(&format!("127.0.0.1:{}", proxy.port)).unwrap();
    let mut of_b = config(key, "b");
    of_b.peer_book.insert(a.id(), vec![way]);
    of_b.peer_book.insert(living.id(), living.addrs().await);
    let mut b = Device::start(of_b);
    let (mut silent, alive) = (b.open(a.id()).await, b.open(living.id()).await);
    proxy.freeze().await;
    b.handle.network_changed().await;
    let gone = |event: &NodeEvent| match event {
        NodeEvent::PeerGone { peer } => Some(*peer),
        _ => None,
    };
    assert_eq!(b.until("gone", gone).await, a.id());
    // What ran there has ended; the connection that answers goes on.
    let mut byte = [0];
    let read = silent.as_mut().unwrap().read(&mut byte);
    assert!(!matches!(p2p_support::soon("an end", read).await, Ok(1..)));
    p2p_support::soon(
        "a round trip",
        p2p_support::round_trip(alive.unwrap(), 1000),
    )
    .await;
}
