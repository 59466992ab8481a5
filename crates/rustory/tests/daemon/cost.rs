//! What it costs to do nothing, and what a peer that behaves badly can cost.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustory_net::p2p::{
    DeviceInfo, IdentityKey, Node, NodeConfig, NodeHandle, PeerId, SwarmKey, SyncStream,
};
use tokio::io::AsyncReadExt as _;

use crate::common::numbered;
use crate::device::{Daemon, Device, SWARM_KEY, cost, eventually, met, ok};

/// Sessions with all peers, as the daemon tells `rr status`.
fn sessions(device: &Device) -> u64 {
    let text = std::fs::read(device.home.data().join("daemon.json")).unwrap_or_default();
    let state: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let peers = state["peers"].as_object().cloned().unwrap_or_default();
    peers
        .values()
        .map(|peer| peer["sessions"].as_u64().unwrap())
        .sum()
}

/// Of the established connections of a daemon from or to these ports: bytes sent and received.
fn connections(daemon: &Daemon, ports: &[u16]) -> Vec<(u64, u64)> {
    let text = ok(Command::new("ss").args(["-tinpHO", "state", "established"]));
    let owner = format!("pid={},", daemon.pid());
    let is_one = |line: &&str| {
        let on = |port: &u16| line.contains(&format!(":{port} "));
        line.contains(&owner) && ports.iter().any(on)
    };
    let bytes = |line: &str, name: &str| -> u64 {
        let mut found = line
            .split_whitespace()
            .filter_map(|word| word.strip_prefix(name));
        found.next().map_or(0, |bytes| bytes.parse().unwrap())
    };
    let lines = text.lines().filter(is_one);
    lines
        .map(|line| (bytes(line, "bytes_sent:"), bytes(line, "bytes_received:")))
        .collect()
}

/// A way to a port on which everything takes some time to begin.
fn slow_way_to(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            std::thread::spawn(move || {
                // Longer than daemons wait before they meet whom they know.
                std::thread::sleep(Duration::from_millis(1_500));
                let (near, far) = (
                    near.unwrap(),
                    TcpStream::connect(("127.0.0.1", port)).unwrap(),
                );
                let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                let (mut from, mut to) = (far, near);
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    own
}

#[test]
fn two_that_dial_each_other_at_once_keep_one_connection_and_one_session() {
    let (a, b) = (Device::new("alpha"), Device::new("beta"));
    let (to_a, to_b) = (slow_way_to(a.port), slow_way_to(b.port));
    a.knows_at(&b, to_b);
    b.knows_at(&a, to_a);
    let (of_a, of_b) = (a.start(), b.start());
    let ports = [a.port, b.port, to_a, to_b];
    let mut crossed = 0;
    eventually("they dial each other", || {
        crossed = crossed.max(connections(&of_a, &ports).len());
        crossed >= 2
    });
    eventually("one session, one connection", || {
        let count = |daemon| connections(daemon, &ports).len();
        (sessions(&a), sessions(&b), count(&of_a), count(&of_b)) == (1, 1, 1, 1)
    });
    let before = [cost(of_a.pid()), cost(of_b.pid())];
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!((sessions(&a), sessions(&b)), (1, 1));
    for (daemon, before) in [&of_a, &of_b].into_iter().zip(before) {
        let wakes = cost(daemon.pid()).wakes_since(&before);
        println!("{wakes} wake-ups in 5 s");
        assert!(wakes <= 40, "{wakes}");
    }
    assert_eq!(connections(&of_a, &ports).len(), 1);
}

#[test]
fn an_idle_pair_costs_nothing() {
    let (a, b, of_a, of_b) = met(&[]);
    eventually("one session, one connection", || {
        sessions(&a) == 1 && sessions(&b) == 1 && connections(&of_a, &[a.port, b.port]).len() == 1
    });
    std::thread::sleep(Duration::from_secs(3));
    let secs = 20;
    let before = [cost(of_a.pid()), cost(of_b.pid())];
    std::thread::sleep(Duration::from_secs(secs));
    for (daemon, before) in [&of_a, &of_b].into_iter().zip(before) {
        let after = cost(daemon.pid());
        let (cpu, wakes) = (after.cpu - before.cpu, after.wakes_since(&before));
        println!(
            "idle for {secs} s: {cpu:?} of processor time, {wakes} wake-ups, {} KiB",
            after.rss_kib
        );
        assert!(cpu <= Duration::from_millis(100), "{cpu:?}");
        assert!(wakes <= 60, "{wakes}");
    }
}

/// Memory of a process that no file holds.
fn own_kib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let words = line.unwrap().split_whitespace();
    words.rev().nth(1).unwrap().parse().unwrap()
}

#[test]
fn after_a_first_sync_its_memory_is_given_back() {
    let (a, b) = (Device::new("alpha"), Device::new("beta"));
    let pad = "x".repeat(400);
    let cmds = numbered("echo ", 30_000).into_iter();
    a.home.spool("s", cmds.map(|cmd| cmd + &pad));
    a.home.ok(&["list"]);
    a.knows(&b);
    let (of_a, of_b) = (a.start(), b.start());
    eventually("beta has everything", || {
        b.identical("alpha") && a.identical("beta")
    });
    // Else they keep 19 and 36 MB.
    eventually("alpha is small again", || own_kib(&of_a) < 8_000);
    eventually("beta is small again", || own_kib(&of_b) < 8_000);
    a.shell("t").types("after the rest");
    eventually("they go on", || b.has("after the rest"));
}

#[test]
fn a_round_that_finds_nothing_costs_less_than_a_kilobyte() {
    let (a, b, of_a, _of_b) = met(&["sync_interval = 1"]);
    eventually("one connection", || {
        connections(&of_a, &[a.port, b.port]).len() == 1
    });
    let last_sync = |device: &Device, name: &str| device.peer(name)["last_sync"].clone();
    std::thread::sleep(Duration::from_secs(1));
    let before = connections(&of_a, &[a.port, b.port])[0];
    let (mut rounds, started, mut last) = (0, Instant::now(), last_sync(&a, "beta"));
    while started.elapsed() < Duration::from_secs(10) {
        let now = last_sync(&a, "beta");
        rounds += u64::from(now != last);
        last = now;
        std::thread::sleep(Duration::from_millis(20));
    }
    let after = connections(&of_a, &[a.port, b.port])[0];
    let bytes = after.0 - before.0 + after.1 - before.1;
    // They become rare while nothing is found.
    assert!(rounds >= 2, "{rounds}");
    println!("{rounds} rounds, {bytes} bytes: {} a round", bytes / rounds);
    assert!(bytes / rounds < 1_000, "{bytes} bytes in {rounds} rounds");
    assert_ne!(last_sync(&b, "alpha"), serde_json::Value::Null);
}

/// A peer that does what it likes.
struct Rogue {
    runtime: tokio::runtime::Runtime,
    identity: IdentityKey,
    swarm_key: SwarmKey,
}

impl Rogue {
    fn new() -> Rogue {
        Rogue {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            identity: IdentityKey::generate().unwrap(),
            swarm_key: SwarmKey::parse(&SWARM_KEY).unwrap(),
        }
    }

    fn node(&self, device: &Device) -> (NodeHandle, PeerId) {
        let peer: PeerId = device.peer_id.parse().unwrap();
        let addr = format!("/ip4/127.0.0.1/tcp/{}", device.port)
            .parse()
            .unwrap();
        let config = NodeConfig {
            identity: self.identity.clone(),
            swarm_key: Some(self.swarm_key),
            listen: Vec::new(),
            hubs: Vec::new(),
            relays: Vec::new(),
            mdns: false,
            peer_book: HashMap::from([(peer, vec![addr])]),
            device: DeviceInfo::default(),
        };
        let (node, mut events) = Node::start(config).unwrap();
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        (node, peer)
    }
}

#[test]
fn a_peer_that_comes_and_goes_leaves_nothing_behind() {
    let device = Device::new("alpha");
    let daemon = device.start();
    eventually("the daemon runs", || {
        device.status()["device"]["peer_id"] != serde_json::Value::Null
    });
    let rogue = Rogue::new();
    let come_and_go = |times: u32| {
        for _ in 0..times {
            rogue.runtime.block_on(async {
                let (node, peer) = rogue.node(&device);
                drop(node.open(peer).await.unwrap());
                node.stop().await;
            });
        }
    };
    // RUSTORY_TEST_VISITS=1000 for a longer look.
    let visits = std::env::var("RUSTORY_TEST_VISITS").map_or(150, |visits| visits.parse().unwrap());
    come_and_go(50);
    let before = cost(daemon.pid()).rss_kib;
    come_and_go(visits);
    let after = cost(daemon.pid()).rss_kib;
    println!("{visits} visits: from {before} to {after} KiB");
    assert!(
        after < before + 2_000,
        "from {before} to {after} KiB in {visits} visits"
    );
}

#[test]
fn a_peer_that_floods_sessions_holds_a_few_and_hinders_nobody() {
    let (a, b, of_a, _of_b) = met(&[]);
    let rogue = Rogue::new();
    let before = cost(of_a.pid()).rss_kib;
    let most = rogue.runtime.block_on(async {
        let (node, peer) = rogue.node(&a);
        let mut streams: Vec<SyncStream> = Vec::new();
        let mut most = 0;
        for n in 0..100 {
            if let Ok(stream) = node.open(peer).await {
                streams.push(stream);
            }
            if n % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(250)).await;
                most = most.max(sessions(&a));
            }
        }
        // Those that were closed end at once.
        let mut open = 0;
        for mut stream in streams {
            let mut bytes = Vec::new();
            let ended = stream.read_to_end(&mut bytes);
            open += u32::from(
                tokio::time::timeout(Duration::from_millis(50), ended)
                    .await
                    .is_err(),
            );
        }
        println!("{open} of 100 streams stayed open");
        assert!(open <= 4, "{open}");
        a.shell("s").types("in the middle of it");
        eventually("the others go on", || b.has("in the middle of it"));
        node.stop().await;
        most
    });
    assert!(most <= 5, "{most} sessions, of which one is beta's");
    let grown = cost(of_a.pid()).rss_kib.saturating_sub(before);
    assert!(grown < 20_000, "{grown} KiB");
    eventually("only beta's session is left", || sessions(&a) == 1);
}
