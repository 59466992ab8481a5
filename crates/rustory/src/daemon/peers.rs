//! The peers that the daemon knows, and its sessions with each.

use std::collections::HashMap;

use rustory_core::sync::Hello;
use rustory_core::sync::session::Role;
use rustory_net::p2p::{Path, PeerId};
use rustory_net::session::Control;
use rustory_store::PeerPath;
use tokio::sync::mpsc::UnboundedSender;

use super::States;
use super::state::PeerState;

/// All of them.
pub(super) struct Peers {
    own: PeerId,
    peers: HashMap<PeerId, Peer>,
}

/// One peer.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) device_id: Option<String>,
    pub(super) name: Option<String>,
    /// How new streams run; none: not connected.
    pub(super) path: Option<Path>,
    pub(super) error: Option<String>,
    /// What it said last.
    pub(super) hello: Option<Hello>,
    sessions: HashMap<u64, Active>,
}

/// A session that runs.
pub(super) struct Active {
    role: Role,
    pub(super) control: UnboundedSender<Control>,
    /// Once the stream is there.
    pub(super) path: Option<Path>,
    /// The first round is over.
    pub(super) live: bool,
    /// Told to end because there is a better way; another one is to follow.
    moving: bool,
}

impl Active {
    pub(super) fn new(role: Role, control: UnboundedSender<Control>) -> Active {
        Active {
            role,
            control,
            path: None,
            live: false,
            moving: false,
        }
    }
}

impl Peer {
    pub(super) fn named(&mut self, device_id: &str, name: &str) {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        self.device_id = known(device_id).or(self.device_id.take());
        self.name = known(name).or(self.name.take());
    }

    pub(super) fn with(&mut self, id: u64, change: impl FnOnce(&mut Active)) {
        if let Some(active) = self.sessions.get_mut(&id) {
            change(active);
        }
    }

    /// How a session runs.
    pub(super) fn session_path(&self, id: u64) -> PeerPath {
        let path = self.sessions.get(&id).and_then(|active| active.path);
        match path.or(self.path) {
            Some(Path::Lan) => PeerPath::Lan,
            Some(Path::Relay) => PeerPath::Relay,
            Some(Path::Direct) | None => PeerPath::Direct,
        }
    }

    fn state(&self) -> PeerState {
        PeerState {
            device_id: self.device_id.clone(),
            name: self.name.clone(),
            path: self.path.map(|path| path.as_str().to_owned()),
            live: !self.sessions.is_empty(),
            error: self.error.clone(),
        }
    }
}

impl Peers {
    pub(super) fn new(own: PeerId) -> Peers {
        Peers {
            own,
            peers: HashMap::new(),
        }
    }

    pub(super) fn get(&mut self, peer: PeerId) -> &mut Peer {
        self.peers.entry(peer).or_default()
    }

    pub(super) fn add(&mut self, peer: PeerId, id: u64, active: Active) {
        self.get(peer).sessions.insert(id, active);
    }

    /// Returns whether it ended to be begun again over a better way.
    pub(super) fn remove(&mut self, peer: PeerId, id: u64) -> bool {
        let removed = self.get(peer).sessions.remove(&id);
        removed.is_some_and(|active| active.moving)
    }

    pub(super) fn has_session(&self, peer: PeerId) -> bool {
        let found = self.peers.get(&peer);
        found.is_some_and(|peer| !peer.sessions.is_empty())
    }

    /// The session in which we lead.
    pub(super) fn asked_by_us(&self, peer: PeerId) -> Option<&Active> {
        let sessions = &self.peers.get(&peer)?.sessions;
        sessions.values().find(|active| active.role == Role::Asker)
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Active> {
        self.peers.values().flat_map(|peer| peer.sessions.values())
    }

    /// A peer asks us while we ask it: the one with the higher id gives way.
    pub(super) fn yield_to(&self, peer: PeerId) {
        if peer < self.own
            && let Some(active) = self.asked_by_us(peer)
        {
            let _ = active.control.send(Control::Stop);
        }
    }

    /// New streams run better than this peer's sessions do: those that we lead end, to be begun
    /// again.
    pub(super) fn move_to(&mut self, peer: PeerId, path: Path) {
        for active in self.get(peer).sessions.values_mut() {
            let better = active.path == Some(Path::Relay) && path != Path::Relay;
            if better && active.role == Role::Asker && !active.moving {
                active.moving = true;
                let _ = active.control.send(Control::Stop);
            }
        }
    }

    /// For the state file.
    pub(super) fn states(&self) -> States {
        let known = self.peers.iter();
        known
            .map(|(id, peer)| (id.to_string(), peer.state()))
            .collect()
    }
}
