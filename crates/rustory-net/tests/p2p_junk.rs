//! What arrives at an open port, and what machines ask a hub.
#![allow(clippy::unwrap_used)]

mod p2p_support;

use std::time::Duration;

use p2p_support::{
    Device, config, free_port, hub_config, key, port_of, round_trip, soon, spec, start_hub, within,
};
use rustory_net::p2p::{HubHandle, Path, ServiceState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// With the hub's ends of them, below the usual 1,024 open files of a process.
const JUNK: usize = 440;

async fn junk(port: u16, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let bytes: &[u8] = match number % 4 {
        // Silent; only a nonce; garbage; another protocol.
        0 => b"",
        1 => &[7; 24],
        2 => &[0xa5; 500],
        _ => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    let _ = stream.write_all(bytes).await;
    stream
}

/// Waits until the other side has ended it.
async fn ended(stream: &mut TcpStream) {
    let mut bytes = [0; 256];
    while matches!(stream.read(&mut bytes).await, Ok(read) if read > 0) {}
}

/// Resident memory of this process, in KiB.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test]
async fn junk_is_closed_and_costs_little_and_devices_are_served_meanwhile() {
    let (key, port) = (key(), free_port());
    let hub = start_hub(hub_config(key, port)).await;
    let start = |name: &str| {
        let mut config = config(key, name);
        config.listen.clear();
        config.hubs = vec![spec(format!("127.0.0.1:{port}"))];
        Device::start(config)
    };
    let mut a = start("a");
    a.until_relay("a has a reservation", ServiceState::Up).await;
    let before = resident_kib();
    let mut streams = Vec::new();
    for number in 0..JUNK {
        streams.push(junk(port, number).await);
    }
    // A device that comes in the middle of it.
    let mut b = start("b");
    b.until_relay("b has a reservation", ServiceState::Up).await;
    assert_eq!(b.talk(a.id()).await, Path::Relay);
    if let (Some(before), Some(now)) = (before, resident_kib()) {
        assert!(now < before + 64 * 1024, "{before} {now} KiB");
    }
    within(Duration::from_secs(20), "all are closed", async {
        for stream in &mut streams {
            ended(stream).await;
        }
    })
    .await;
    assert_eq!(a.talk(b.id()).await, Path::Relay);
    let metrics = hub.metrics();
    assert!(metrics.contains("rustory_hub_connections 2"), "{metrics}");
    let counted = |name: &str| -> usize {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("rustory_hub_{name} ")));
        line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
    };
    let all = counted("broken_handshake_total")
        + counted("wrong_key_total")
        + counted("over_limit_total");
    assert_eq!(all, JUNK, "{metrics}");
    // Garbage is longer than a header and is seen at once to be no header of ours.
    assert!(counted("wrong_key_total") >= JUNK / 4, "{metrics}");
}

#[tokio::test]
async fn devices_shrug_off_junk_as_well() {
    let key = key();
    let a = Device::start(config(key, "a"));
    let addrs = a.addrs().await;
    let port = port_of(&addrs[0]);
    let mut streams = Vec::new();
    for number in 0..40 {
        streams.push(junk(port, number).await);
    }
    let mut of_b = config(key, "b");
    of_b.peer_book.insert(a.id(), addrs);
    let b = Device::start(of_b);
    round_trip(b.open(a.id()).await.unwrap(), 100_000).await;
    within(Duration::from_secs(20), "all are closed", async {
        for stream in &mut streams {
            ended(stream).await;
        }
    })
    .await;
}

async fn get(hub: &HubHandle, path: &str) -> (u16, String) {
    let addr = hub.health_addr().unwrap();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

#[tokio::test]
async fn machines_are_told_how_a_hub_is() {
    let (key, port) = (key(), free_port());
    let hub = start_hub(hub_config(key, port)).await;
    assert_eq!(get(&hub, "/livez").await.0, 200);
    assert_eq!(get(&hub, "/readyz").await.0, 200);
    assert_eq!(get(&hub, "/else").await.0, 404);
    let (status, metrics) = get(&hub, "/metrics").await;
    assert_eq!(status, 200);
    for name in ["ready 1", "connections 0", "devices 0", "circuits 0"] {
        assert!(
            metrics.contains(&format!("rustory_hub_{name}\n")),
            "{metrics}"
        );
    }
    for line in metrics.lines() {
        assert!(
            line.starts_with("# ") || line.split(' ').count() == 2,
            "{line}"
        );
    }

    let mut of_hub = hub_config(key, free_port());
    of_hub.external.clear();
    let incomplete = start_hub(of_hub).await;
    assert_eq!(get(&incomplete, "/livez").await.0, 200);
    assert_eq!(get(&incomplete, "/readyz").await.0, 503);
}

#[tokio::test]
async fn a_hub_stops_within_five_seconds_whatever_runs_over_it() {
    let (key, port) = (key(), free_port());
    let hub = start_hub(hub_config(key, port)).await;
    let start = |name: &str| {
        let mut config = config(key, name);
        config.listen.clear();
        config.hubs = vec![spec(format!("127.0.0.1:{port}"))];
        Device::start(config)
    };
    let (mut a, mut b) = (start("a"), start("b"));
    a.until_relay("a has a reservation", ServiceState::Up).await;
    b.until_relay("b has a reservation", ServiceState::Up).await;
    let held = a.open(b.id()).await.unwrap();
    let mut idle = TcpStream::connect(hub.health_addr().unwrap())
        .await
        .unwrap();
    within(Duration::from_secs(5), "it stops", hub.stop()).await;
    soon("it has ended", hub.ended()).await;
    assert!(!hub.is_ready());
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    soon("the health port is closed", ended(&mut idle)).await;
    drop(held);
}
