//! Devices and hubs on the loopback, for the tests of the network.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustory_net::p2p::{
    DeviceInfo, Hub, HubConfig, HubHandle, HubSpec, IdentityKey, Multiaddr, Node, NodeConfig,
    NodeEvent, NodeHandle, OpenError, Path, PeerId, ServiceState, SwarmKey, SyncStream,
    listen_addr,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Far more than anything here takes.
pub const LONG: Duration = Duration::from_secs(40);

/// Ends a test that hangs.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    within(LONG, what, work).await
}

pub async fn within<T>(most: Duration, what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(most, work).await {
        Ok(done) => done,
        Err(_) => panic!("not within {most:?}: {what}"),
    }
}

pub fn key() -> SwarmKey {
    SwarmKey::generate().unwrap()
}

pub fn config(key: SwarmKey, name: &str) -> NodeConfig {
    NodeConfig {
        identity: IdentityKey::generate().unwrap(),
        swarm_key: Some(key),
        listen: vec![listen_addr("127.0.0.1:0").unwrap()],
        hubs: Vec::new(),
        relays: Vec::new(),
        mdns: false,
        peer_book: HashMap::new(),
        device: DeviceInfo {
            device_id: format!("id-{name}"),
            device_name: name.to_owned(),
            user_id: "kim".to_owned(),
        },
    }
}

pub fn spec(addr: impl std::fmt::Display) -> HubSpec {
    HubSpec {
        addr: addr.to_string().parse().unwrap(),
        learned: None,
    }
}

/// A node that echoes every stream, and keeps what it is told.
pub struct Device {
    pub handle: NodeHandle,
    events: mpsc::UnboundedReceiver<NodeEvent>,
    seen: Vec<NodeEvent>,
}

impl Device {
    pub fn start(config: NodeConfig) -> Device {
        let (handle, mut events) = Node::start(config).unwrap();
        let (tx, rx) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    NodeEvent::Incoming { stream, .. } => {
                        tokio::spawn(echo(stream));
                    }
                    other => {
                        let _ = tx.send(other);
                    }
                }
            }
        });
        Device {
            handle,
            events: rx,
            seen: Vec::new(),
        }
    }

    pub fn id(&self) -> PeerId {
        self.handle.peer_id()
    }

    /// Where it listens, as soon as it does.
    pub async fn addrs(&self) -> Vec<Multiaddr> {
        soon("listening", async {
            loop {
                let addrs = self.handle.status().await.unwrap().listening;
                if !addrs.is_empty() {
                    return addrs;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// The first event, of those not taken yet, that `pick` wants.
    pub async fn until<T>(&mut self, what: &str, pick: impl Fn(&NodeEvent) -> Option<T>) -> T {
        if let Some(at) = self.seen.iter().position(|event| pick(event).is_some()) {
            return pick(&self.seen.remove(at)).unwrap();
        }
        let waiting = async {
            while let Some(event) = self.events.recv().await {
                if let Some(found) = pick(&event) {
                    return Some(found);
                }
                self.seen.push(event);
            }
            None
        };
        match tokio::time::timeout(LONG, waiting).await {
            Ok(Some(found)) => found,
            _ => panic!("never: {what}; seen: {:#?}", self.seen),
        }
    }

    pub async fn until_relay(&mut self, what: &str, wanted: ServiceState) {
        self.until(what, |event| match event {
            NodeEvent::HubState { relay, .. } if *relay == wanted => Some(()),
            _ => None,
        })
        .await;
    }

    pub async fn until_tracker(&mut self, what: &str, wanted: ServiceState) {
        self.until(what, |event| match event {
            NodeEvent::HubState { tracker, .. } if *tracker == wanted => Some(()),
            _ => None,
        })
        .await;
    }

    pub async fn until_found(&mut self, peer: PeerId) -> (Vec<Multiaddr>, Option<DeviceInfo>) {
        self.until("found", |event| match event {
            NodeEvent::PeerDiscovered {
                peer: found,
                addrs,
                device,
                ..
            } if *found == peer => Some((addrs.clone(), device.clone())),
            _ => None,
        })
        .await
    }

    /// Opens a stream and exchanges some bytes; retries as a caller would.
    pub async fn talk(&self, peer: PeerId) -> Path {
        soon("talking", async {
            loop {
                match self.handle.open(peer).await {
                    Ok(stream) => {
                        let path = stream.path();
                        round_trip(stream, 10_000).await;
                        return path;
                    }
                    Err(err) if err.is_transient() => {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    Err(err) => panic!("{err}"),
                }
            }
        })
        .await
    }

    pub async fn open(&self, peer: PeerId) -> Result<SyncStream, OpenError> {
        soon("opening", self.handle.open(peer)).await
    }
}

async fn echo(stream: SyncStream) {
    let (mut read, mut write) = tokio::io::split(stream);
    if tokio::io::copy(&mut read, &mut write).await.is_ok() {
        let _ = write.shutdown().await;
    }
}

/// Sends bytes, ends the stream, and reads them back.
pub async fn round_trip(stream: SyncStream, bytes: usize) {
    let sent: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    let copy = sent.clone();
    let (mut read, mut write) = tokio::io::split(stream);
    let writing = async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, read) = tokio::join!(writing, read.read_to_end(&mut received));
    read.unwrap();
    assert_eq!(received.len(), sent.len());
    assert!(received == sent);
}

/// A way to a port that can fall silent without closing, like a router that went away.
pub struct Proxy {
    pub port: u16,
    frozen: Arc<AtomicBool>,
}

impl Proxy {
    pub async fn to(target: u16) -> Proxy {
        Proxy::start(target, Duration::ZERO, Duration::ZERO).await
    }

    /// One that takes its time to connect.
    pub async fn slow_to(target: u16) -> Proxy {
        Proxy::start(target, Duration::from_millis(500), Duration::ZERO).await
    }

    /// One at the end of a long line.
    pub async fn far_to(target: u16, one_way: Duration) -> Proxy {
        Proxy::start(target, Duration::ZERO, one_way).await
    }

    async fn start(target: u16, delay: Duration, one_way: Duration) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let frozen = Arc::new(AtomicBool::new(false));
        let ours = Arc::clone(&frozen);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let frozen = Arc::clone(&ours);
                tokio::time::sleep(delay).await;
                // One that was frozen once stays so; new ones work again after a thaw.
                let Ok(to) = TcpStream::connect(("127.0.0.1", target)).await else {
                    continue;
                };
                let (from_read, from_write) = from.into_split();
                let (to_read, to_write) = to.into_split();
                tokio::spawn(pass(from_read, to_write, one_way, Arc::clone(&frozen)));
                tokio::spawn(pass(to_read, from_write, one_way, frozen));
            }
        });
        Proxy { port, frozen }
    }

    /// What is connected falls silent for good.
    pub async fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// What connects from now on gets through.
    pub fn thaw(&self) {
        self.frozen.store(false, Ordering::SeqCst);
    }
}

/// Each piece arrives `one_way` later, however many are on their way.
async fn pass(
    mut read: tokio::net::tcp::OwnedReadHalf,
    mut write: tokio::net::tcp::OwnedWriteHalf,
    one_way: Duration,
    frozen: Arc<AtomicBool>,
) {
    let (sent, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, piece)) = arriving.recv().await {
            tokio::time::sleep_until(due).await;
            if write.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count) = read.read(&mut bytes).await {
        if frozen.load(Ordering::SeqCst) {
            // Neither end is told anything.
            std::future::pending::<()>().await;
        }
        let due = Instant::now() + one_way;
        if count == 0 || sent.send((due, bytes[..count].to_vec())).is_err() {
            return;
        }
    }
}

pub fn port_of(addr: &Multiaddr) -> u16 {
    let text = addr.to_string();
    text.rsplit('/').next().unwrap().parse().unwrap()
}

/// A port of the loopback that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub fn hub_config(key: SwarmKey, port: u16) -> HubConfig {
    HubConfig {
        identity: IdentityKey::generate().unwrap(),
        swarm_key: Some(key),
        listen: vec![listen_addr(&format!("127.0.0.1:{port}")).unwrap()],
        external: vec![listen_addr(&format!("127.0.0.1:{port}")).unwrap()],
        no_relay: false,
        no_tracker: false,
        health: Some("127.0.0.1:0".parse().unwrap()),
    }
}

pub async fn start_hub(config: HubConfig) -> HubHandle {
    let hub = Hub::start(config).await.unwrap();
    soon("the hub listens", async {
        while hub.listening().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    hub
}
