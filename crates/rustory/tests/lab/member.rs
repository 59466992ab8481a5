//! A member of the swarm that does not behave: a node with the right keys and bad manners.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustory_core::sync::Message;
use rustory_core::wire::{FrameWriter, PREAMBLE};
use rustory_net::p2p::{
    DeviceInfo, HubSpec, IdentityKey, Node, NodeConfig, NodeEvent, NodeHandle, PeerId, SwarmKey,
    SyncStream, listen_addr,
};
use tokio::io::AsyncWriteExt as _;

use crate::topology::{Host, PORT};

/// What it does to everybody, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// As many messages as it can, each of them a right one at the wrong time.
    Floods,
    /// A byte a second of a frame that never ends.
    Stalls,
    /// Frames that claim the largest size there is, and the largest that is allowed, filled.
    Oversized,
}

/// Runs on a thread of its own until it is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    ends: Arc<AtomicBool>,
    streams: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    /// Joins the swarm and torments `victims`.
    pub(crate) fn start(
        host: &Host,
        key: &SwarmKey,
        hub: &str,
        victims: Vec<PeerId>,
        manners: Manners,
    ) -> Member {
        let config = NodeConfig {
            identity: IdentityKey::generate().unwrap(),
            swarm_key: Some(*key),
            listen: vec![listen_addr(&format!("0.0.0.0:{PORT}")).unwrap()],
            hubs: vec![HubSpec {
                addr: hub.parse().unwrap(),
                learned: None,
            }],
            relays: Vec::new(),
            mdns: false,
            peer_book: HashMap::new(),
            device: DeviceInfo {
                device_id: format!("{manners:?}"),
                device_name: format!("{manners:?}"),
                user_id: "tester".to_owned(),
            },
        };
        let (ends, streams) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (told, count) = (Arc::clone(&ends), Arc::clone(&streams));
        let thread = host.namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(run(config, victims, manners, &told, &count));
        });
        Member {
            ends,
            streams,
            thread: Some(thread),
        }
    }

    /// Streams that it got so far.
    pub(crate) fn streams(&self) -> u64 {
        self.streams.load(Ordering::Relaxed)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(
    config: NodeConfig,
    victims: Vec<PeerId>,
    manners: Manners,
    ends: &AtomicBool,
    streams: &Arc<AtomicU64>,
) {
    let (node, mut events) = Node::start(config).unwrap();
    let mut work = tokio::task::JoinSet::new();
    // More than anybody accepts of one peer.
    for victim in victims.iter().flat_map(|victim| [*victim; 12]) {
        work.spawn(torment(node.clone(), victim, manners, Arc::clone(streams)));
    }
    let mut held = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        let event = tokio::time::timeout(Duration::from_millis(100), events.recv()).await;
        // Streams of others are held, and never read.
        if let Ok(Some(NodeEvent::Incoming { stream, .. })) = event {
            held.push(stream);
        }
    }
    work.shutdown().await;
    node.stop().await;
}

async fn torment(node: NodeHandle, victim: PeerId, manners: Manners, streams: Arc<AtomicU64>) {
    loop {
        if let Ok(stream) = node.open(victim).await {
            streams.fetch_add(1, Ordering::Relaxed);
            // It ends when the victim has had enough.
            let _ = annoy(stream, manners).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn annoy(mut stream: SyncStream, manners: Manners) -> std::io::Result<()> {
    match manners {
        Manners::Floods => {
            let (mut writer, mut bytes) = (FrameWriter::default(), Vec::new());
            loop {
                bytes.clear();
                for _ in 0..1_000 {
                    writer.write(&Message::Wait, &mut bytes).unwrap();
                }
                stream.write_all(&bytes).await?;
            }
        }
        Manners::Stalls => {
            stream.write_all(PREAMBLE).await?;
            loop {
                stream.write_all(&[0]).await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Manners::Oversized => {
            let largest_allowed = 4_u32 << 20;
            for size in [u32::MAX, largest_allowed] {
                stream.write_all(PREAMBLE).await?;
                stream.write_all(&size.to_be_bytes()).await?;
                stream.write_all(&[0; 5]).await?;
                for _ in 0..(largest_allowed / 4_096) {
                    stream.write_all(&[7; 4_096]).await?;
                }
            }
            stream.flush().await
        }
    }
}
