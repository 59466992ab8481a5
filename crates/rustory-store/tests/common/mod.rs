//! What the tests of the store share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use rustory_core::{Entry, EntryId, Extra, Timestamp};
use rustory_store::{Access, Store};

pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn db(&self) -> std::path::PathBuf {
        self.dir.path().join("data/history.db")
    }

    pub(crate) fn spool(&self) -> std::path::PathBuf {
        self.dir.path().join("data/spool")
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.db(), Access::PATIENT, None).unwrap()
    }
}

/// Entry number `n` of a device: every field follows from the two.
pub(crate) fn entry(device: &str, n: u64) -> Entry {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    for (i, byte) in device.bytes().enumerate() {
        id[8 + i % 8] ^= byte.wrapping_add(i as u8);
    }
    Entry {
        id: EntryId::from_bytes(id),
        device_id: device.into(),
        user_id: "me".into(),
        ts: Timestamp::from_secs(1_700_000_000 + n.cast_signed()).unwrap(),
        cmd: format!("echo {n}").into(),
        cwd: format!("/dir/{}", n % 7).into(),
        exit_code: Some((n % 3).cast_signed()),
        duration_ms: n.is_multiple_of(2).then_some(n),
        shell: "bash".into(),
        hostname: format!("host-{device}"),
        version: "0.1.0".into(),
        device_seq: Some(n),
        session: format!("s{}", n / 10),
        extra: Extra::new(),
    }
}

pub(crate) fn all(store: &Store) -> Vec<Entry> {
    let mut all = Vec::new();
    store
        .oldest_first(&Default::default(), |_, entry| {
            all.push(entry);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    all
}
