//! This device as its sessions see it: who it is, and its log on a thread of its own.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread::JoinHandle;

use rustory_core::sync::session::Local;
use rustory_net::session::{Host, LeaseLink, LogLink, work};
use rustory_store::Store;

use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::memory;

/// How a device takes part in sessions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Stay connected and exchange what is newly typed.
    pub(crate) stays: bool,
    /// Compare entry by entry, from the rows.
    pub(crate) verifies: bool,
}

/// A log at work on its thread.
#[derive(Debug)]
pub(crate) struct LogThread {
    thread: JoinHandle<Store>,
}

impl LogThread {
    /// Hands a log to a thread that does what sessions ask of it, `before` each of which it may do
    /// something else.
    pub(crate) fn start(
        ctx: &Ctx,
        mut store: Store,
        manner: Manner,
        before: impl FnMut(&mut Store) + Send + 'static,
    ) -> Result<(Host, LogThread), CommandError> {
        let local = local(ctx, &store, manner);
        let (log, jobs) = LogLink::new();
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                work(&mut store, &jobs, before, rest);
                store
            })
            .map_err(|err| CommandError::failed(format!("no thread for the database: {err}")))?;
        let host = Host {
            local,
            log,
            lease: LeaseLink::default(),
        };
        Ok((host, LogThread { thread }))
    }

    /// Waits until everything that sessions handed over is done, once all of their links are
    /// dropped, and gives the log back.
    pub(crate) fn finish(self) -> Result<Store, CommandError> {
        let gone = |_| CommandError::failed("the database's thread ended early; this is a bug");
        self.thread.join().map_err(gone)
    }
}

/// After much work: a daemon is to be small while it waits.
fn rest(store: &mut Store) {
    store.rest();
    memory::give_back();
}

/// Who this device says it is.
pub(crate) fn local(ctx: &Ctx, store: &Store, manner: Manner) -> Local {
    let settings = &ctx.settings;
    let identity = store.identity();
    Local {
        device_id: identity.device_id.clone(),
        device_name: settings.device_name.clone(),
        user_id: settings
            .origins
            .contains_key("user_id")
            .then(|| settings.user_id.clone()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        log_id: identity.log_id,
        place: place(store.path()),
        stays: manner.stays,
        verifies: manner.verifies,
    }
}

/// This machine's own name for itself, which a copied home directory does not bring along. `None`
/// where there is none, and where several machines share the directory over a network: there the
/// database would be taken for a copy at each turn.
pub(crate) fn machine(data_dir: &Path) -> Option<[u8; 16]> {
    if is_shared(data_dir) {
        return None;
    }
    let read = |path| std::fs::read_to_string(path).ok();
    let id = read("/etc/machine-id").or_else(|| read("/var/lib/dbus/machine-id"))?;
    let id = id.trim();
    if id.is_empty() || id == "uninitialized" {
        return None;
    }
    // It identifies the machine elsewhere too, and is not to be told to anybody.
    Some(xxhash_rust::xxh3::xxh3_128(format!("rustory {id}").as_bytes()).to_be_bytes())
}

/// Whether a directory lies on a file system that other machines may use at the same time.
#[cfg(target_os = "linux")]
fn is_shared(dir: &Path) -> bool {
    /// Of NFS, SMB (two numbers), AFS, 9p, Ceph, Lustre, and FUSE (sshfs); see statfs(2).
    const SHARED: [i64; 8] = [
        0x6969,
        0xff53_4d42,
        0xfe53_4d42,
        0x5346_414f,
        0x0102_1997,
        0x00c3_6400,
        0x0bd0_0bd0,
        0x6573_5546,
    ];
    #[allow(
        clippy::unnecessary_cast,
        reason = "its type differs from machine to machine"
    )]
    rustix::fs::statfs(dir).is_ok_and(|found| SHARED.contains(&(found.f_type as i64 & 0xffff_ffff)))
}

#[cfg(not(target_os = "linux"))]
fn is_shared(_: &Path) -> bool {
    false
}

/// Tells two copies of one database apart: on which machine and in which file it is.
fn place(db: &Path) -> u64 {
    let file = std::fs::metadata(db).map_or((0, 0), |meta| (meta.dev(), meta.ino()));
    let dir = db.parent().unwrap_or(db);
    let bytes = format!("{:?} {file:?}", machine(dir));
    xxhash_rust::xxh3::xxh3_64(bytes.as_bytes())
}
