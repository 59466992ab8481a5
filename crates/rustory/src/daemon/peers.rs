//! The peers that the daemon knows, and its sessions with each.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rustory_core::sync::Hello;
use rustory_core::sync::session::Role;
use rustory_net::p2p::{LinkId, Path, PeerId};
use rustory_net::session::Control;
use rustory_store::PeerPath;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

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

/// Over what a stream runs.
pub(super) type Way = (Path, LinkId);

/// One peer.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) device_id: Option<String>,
    pub(super) name: Option<String>,
    /// How new streams run; none: not connected.
    pub(super) way: Option<Way>,
    pub(super) error: Option<String>,
    /// What it said last.
    pub(super) hello: Option<Hello>,
    /// The user knows that it has our device id.
    pub(super) same_id_told: bool,
    sessions: HashMap<u64, Active>,
}

/// A session that runs.
pub(super) struct Active {
    pub(super) role: Role,
    pub(super) control: UnboundedSender<Control>,
    /// Once the stream is there.
    pub(super) way: Option<Way>,
    /// When the peer said who it is.
    pub(super) met: Option<Instant>,
    /// Told to end because there is a better way.
    moving: bool,
}

/// A session that broke off is begun again at once if it has run for so long: the connection under
/// it was lost. One that keeps breaking off earlier is left to the plan.
const LASTED: Duration = Duration::from_secs(5);

impl Active {
    pub(super) fn new(role: Role, control: UnboundedSender<Control>) -> Active {
        Active {
            role,
            control,
            way: None,
            met: None,
            moving: false,
        }
    }

    /// Whether it ran for long enough to be begun again at once when it breaks off.
    pub(super) fn lasted(&self) -> bool {
        self.met.is_some_and(|met| met.elapsed() >= LASTED)
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
        let way = self.sessions.get(&id).and_then(|active| active.way);
        match way.or(self.way) {
            Some((Path::Lan, _)) => PeerPath::Lan,
            Some((Path::Relay, _)) => PeerPath::Relay,
            Some((Path::Direct, _)) | None => PeerPath::Direct,
        }
    }

    /// Sessions that we lead, on another connection than the one that is used now, end, to be begun
    /// again: that connection is to be closed. Also where both are of one kind: two devices that
    /// dialled each other at once would keep both, or have the one under a session cut.
    pub(super) fn move_sessions(&mut self) {
        let Some((_, used)) = self.way else { return };
        for active in self.sessions.values_mut() {
            let elsewhere = active.way.is_some_and(|(_, link)| link != used);
            if elsewhere && active.role == Role::Asker && !active.moving {
                active.moving = true;
                let _ = active.control.send(Control::Stop);
            }
        }
    }

    fn state(&self) -> PeerState {
        PeerState {
            device_id: self.device_id.clone(),
            name: self.name.clone(),
            version: self.hello.as_ref().map(|hello| hello.version.clone()),
            path: self.way.map(|(path, _)| path.as_str().to_owned()),
            live: self.sessions.values().any(|active| active.met.is_some()),
            entries: self.hello.as_ref().map(|hello| hello.tally.count),
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
            peer.way = None;
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
            **id != but && peer.hello.is_none() && peer.sessions.is_empty() && peer.way.is_none()
        });
        found.map(|(id, _)| *id)
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    pub(super) fn remove(&mut self, peer: PeerId, id: u64) -> Option<Active> {
        self.get(peer).sessions.remove(&id)
    }

    /// Devices that are none of these, and not there now.
    pub(super) fn absent_but(&self, devices: &HashSet<String>) -> Vec<PeerId> {
        let absent = self.peers.iter().filter(|(_, peer)| {
            let device_id = peer.device_id.as_ref();
            let is_other = device_id.is_some_and(|id| !devices.contains(id));
            let is_there = peer.way.is_some() || peer.sessions.values().any(|it| it.met.is_some());
            is_other && !is_there
        });
        absent.map(|(id, _)| *id).collect()
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

    /// For the state file.
    pub(super) fn states(&self) -> States {
        let known = self.peers.iter();
        known
            .map(|(id, peer)| (id.to_string(), peer.state()))
            .collect()
    }
}
