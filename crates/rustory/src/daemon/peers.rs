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

/// One in which we lead, one in which the peer does, and one of each that is about to end.
const SESSIONS_PER_PEER_MAX: usize = 4;

/// As many as the network part knows.
const PEERS_MAX: usize = 512;

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
    /// The user knows that it has our device id.
    pub(super) same_id_told: bool,
    sessions: HashMap<u64, Active>,
}

/// A session that runs.
pub(super) struct Active {
    role: Role,
    pub(super) control: UnboundedSender<Control>,
    /// Once the stream is there.
    pub(super) path: Option<Path>,
    /// The peer said who it is.
    pub(super) met: bool,
    /// Told to end because there is a better way; another one is to follow.
    moving: bool,
}

impl Active {
    pub(super) fn new(role: Role, control: UnboundedSender<Control>) -> Active {
        Active {
            role,
            control,
            path: None,
            met: false,
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
            version: self.hello.as_ref().map(|hello| hello.version.clone()),
            path: self.path.map(|path| path.as_str().to_owned()),
            live: self.sessions.values().any(|active| active.met),
            sessions: self.sessions.len(),
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

    /// Room for a session in which the peer leads, or none.
    ///
    /// A peer leads in one at a time: when it begins another, the one before is dead and we don't
    /// know it yet, or it does what it should not. So there are never more than those that are
    /// about to end.
    pub(super) fn make_room(&self, peer: PeerId) -> bool {
        let Some(known) = self.peers.get(&peer) else {
            return true;
        };
        for active in known.sessions.values() {
            if active.role == Role::Answerer {
                let _ = active.control.send(Control::Stop);
            }
        }
        known.sessions.len() < SESSIONS_PER_PEER_MAX
    }

    /// All of them are met anew, over new connections.
    pub(super) fn disconnected(&mut self) {
        for peer in self.peers.values_mut() {
            peer.path = None;
        }
    }

    pub(super) fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    /// Somebody who was never met, when there are too many of them: any program on the local
    /// network can call itself anything.
    pub(super) fn superfluous(&self, but: PeerId) -> Option<PeerId> {
        if self.peers.len() < PEERS_MAX {
            return None;
        }
        let mut all = self.peers.iter();
        let found = all.find(|(id, peer)| {
            **id != but && peer.hello.is_none() && peer.sessions.is_empty() && peer.path.is_none()
        });
        found.map(|(id, _)| *id)
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
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

    /// New streams run another way than this peer's sessions do: those that we lead end, to be
    /// begun again, so that the connection they are on can be closed. Also from one direct
    /// connection to another: two that dialled each other at once would keep both for ever.
    pub(super) fn move_to(&mut self, peer: PeerId, path: Path) {
        for active in self.get(peer).sessions.values_mut() {
            if path != Path::Relay && active.role == Role::Asker && !active.moving {
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
