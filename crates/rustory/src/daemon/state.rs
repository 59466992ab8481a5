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
    /// Who this device is in the network.
    pub(crate) peer_id: String,
    /// Where it listens.
    pub(crate) listening: Vec<String>,
    /// By peer id.
    pub(crate) peers: BTreeMap<String, PeerState>,
    /// In the order of the settings.
    pub(crate) hubs: Vec<HubState>,
    /// What is wrong with the device itself: a full disk, a locked database.
    pub(crate) problem: Option<String>,
}

/// A peer as the daemon sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerState {
    /// Once it said so.
    pub(crate) device_id: Option<String>,
    /// What its user calls it.
    pub(crate) name: Option<String>,
    /// `lan`, `direct` or `relay`; none: not connected.
    pub(crate) path: Option<String>,
    /// A session with it runs, and the first round is over.
    pub(crate) live: bool,
    /// Why it could not be reached, or refused, the last time.
    pub(crate) error: Option<String>,
}

/// A hub as the daemon sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HubState {
    /// As it stands in the settings.
    pub(crate) addr: String,
    /// `up`, `off`, `connecting` or `down`.
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
    /// Replaces the file. Failing to is not worth more than a word.
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

    /// What a daemon last wrote; whether it still runs is another question.
    pub(crate) fn read(data_dir: &Path) -> Option<State> {
        serde_json::from_slice(&fs::read(path(data_dir)).ok()?).ok()
    }
}
