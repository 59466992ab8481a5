//! What the daemon tells `rr status`: a small file, replaced whole, so that nobody ever waits for
//! the daemon to answer.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The daemon's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The process that wrote it.
    pub(crate) pid: u32,
    /// Of the daemon's rr; none: an older one.
    pub(crate) version: Option<String>,
    /// When it began, in microseconds since 1970: tells it from itself before it began again.
    #[serde(default)]
    pub(crate) began: i64,
    /// Who this device is in the network.
    pub(crate) peer_id: String,
    /// The fingerprint of its swarm key.
    #[serde(default)]
    pub(crate) swarm: String,
    /// Where it listens.
    pub(crate) listening: Vec<String>,
    /// By peer id.
    pub(crate) peers: BTreeMap<String, PeerState>,
    /// In the order of the settings.
    pub(crate) hubs: Vec<HubState>,
    /// Somebody who is there but holds another swarm key, and where.
    pub(crate) stranger: Option<String>,
}

/// A peer as the daemon sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerState {
    /// Once it said so.
    pub(crate) device_id: Option<String>,
    /// What its user calls it.
    pub(crate) name: Option<String>,
    /// Of its rr, once it said so.
    pub(crate) version: Option<String>,
    /// `lan`, `direct` or `relay`; none: not connected.
    pub(crate) path: Option<String>,
    /// A session with it runs.
    pub(crate) live: bool,
    /// So many entries it held when it said hello.
    #[serde(default)]
    pub(crate) entries: Option<u64>,
    /// Sessions with it that run, begin or end; more than one for moments only.
    pub(crate) sessions: usize,
    /// Why it could not be reached, or refused, the last time.
    pub(crate) error: Option<String>,
}

/// A hub as the daemon sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HubState {
    /// As it stands in the settings.
    pub(crate) addr: String,
    /// `up`, `off`, `not offered`, `connecting` or `down`.
    pub(crate) tracker: String,
    /// The same.
    pub(crate) relay: String,
    /// Why one of them is down.
    pub(crate) error: Option<String>,
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("daemon.json")
}

impl State {
    /// Replaces the file.
    pub(crate) fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        let path = path(data_dir);
        let new = path.with_extension("json.new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(new, path)
    }

    /// What the daemon with this process id wrote.
    pub(crate) fn read(data_dir: &Path, pid: u32) -> Option<State> {
        let state: State = serde_json::from_slice(&fs::read(path(data_dir)).ok()?).ok()?;
        (state.pid == pid).then_some(state)
    }

    /// Takes the file away: nobody runs any more.
    pub(crate) fn remove(data_dir: &Path) {
        let _ = fs::remove_file(path(data_dir));
    }
}
