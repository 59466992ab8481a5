//! Notices that something was typed or stored: the kernel tells when a file in the spool or the
//! database's write-ahead log changes, so that nothing is looked at without a cause.

use std::path::Path;

/// Calls `changed` on a thread of its own whenever a shell wrote to its spool file or a process to
/// the database, until `changed` returns false.
#[cfg(target_os = "linux")]
pub(crate) fn watch(
    db: &Path,
    changed: impl FnMut() -> bool + Send + 'static,
) -> std::io::Result<()> {
    let watcher = linux::Watcher::new(db)?;
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || watcher.run(changed))?;
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CStr;
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fd::OwnedFd;
    use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

    /// Watches the directory of the database, and the spool in it.
    pub(super) struct Watcher {
        fd: OwnedFd,
        spool: PathBuf,
        /// What the database's own files begin with.
        db: Vec<u8>,
    }

    const TYPED: WatchFlags = WatchFlags::MODIFY
        .union(WatchFlags::CREATE)
        .union(WatchFlags::MOVED_TO);

    impl Watcher {
        pub(super) fn new(db: &Path) -> std::io::Result<Watcher> {
            let dir = db.parent().unwrap_or(Path::new("."));
            let watcher = Watcher {
                fd: inotify::init(CreateFlags::CLOEXEC)?,
                spool: dir.join("spool"),
                db: db.file_name().unwrap_or_default().as_bytes().to_vec(),
            };
            inotify::add_watch(&watcher.fd, dir, WatchFlags::MODIFY | WatchFlags::CREATE)?;
            watcher.watch_spool()?;
            Ok(watcher)
        }

        fn watch_spool(&self) -> std::io::Result<()> {
            inotify::add_watch(&self.fd, &self.spool, TYPED)?;
            Ok(())
        }

        pub(super) fn run(&self, mut changed: impl FnMut() -> bool) {
            let mut buffer = [MaybeUninit::uninit(); 4_096];
            let mut events = Reader::new(&self.fd, &mut buffer);
            // Of `AGAIN`, those that are still to come.
            let mut again: &[Duration] = &[];
            loop {
                if events.is_buffer_empty() && self.is_quiet_for(again.first().copied()) {
                    again = again.get(1..).unwrap_or_default();
                    if !changed() {
                        return;
                    }
                    continue;
                }
                let Ok(event) = events.next() else { return };
                let name = event.file_name().map(CStr::to_bytes).unwrap_or_default();
                // Removed and made again: a watch is on a directory, not on its name.
                let made_again = name == b"spool" && self.watch_spool().is_ok();
                let stored = name.starts_with(&self.db);
                if stored {
                    again = &AGAIN;
                }
                let typed = name.is_empty() || name.ends_with(b".spool");
                if (made_again || stored || typed) && !changed() {
                    return;
                }
            }
        }

        /// Waits for an event, at most so long. Whether there was none.
        fn is_quiet_for(&self, wait: Option<Duration>) -> bool {
            let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            matches!(poll(&mut fds, wait.as_ref()), Ok(0))
        }
    }

    /// SQLite writes a transaction to the log first, which is what the kernel tells, and makes it
    /// visible a moment later in shared memory, which it does not tell. So the database is looked at
    /// again: at once for a writer that goes on, and later for one that had to wait for a processor.
    const AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
}

/// Where the kernel has no such thing for us, it is looked at once a second.
#[cfg(not(target_os = "linux"))]
pub(crate) fn watch(
    _: &Path,
    mut changed: impl FnMut() -> bool + Send + 'static,
) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || {
            while changed() {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        })?;
    Ok(())
}
