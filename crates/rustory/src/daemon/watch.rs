//! Notices that something was typed or stored: the kernel tells when a file in the spool or the
//! database's write-ahead log changes, so that nothing is looked at without a cause.

use std::path::Path;

/// Calls `changed` on a thread of its own whenever a shell wrote to its spool file or a process to
/// the database, until `changed` returns false.
#[cfg(target_os = "linux")]
pub(crate) fn watch(
    data_dir: &Path,
    changed: impl FnMut() -> bool + Send + 'static,
) -> std::io::Result<()> {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    let fd = inotify::init(CreateFlags::CLOEXEC)?;
    let typed = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    inotify::add_watch(&fd, data_dir.join("spool"), typed)?;
    inotify::add_watch(&fd, data_dir, WatchFlags::MODIFY)?;
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || read(&fd, changed))?;
    Ok(())
}

#[cfg(target_os = "linux")]
fn read(fd: &rustix::fd::OwnedFd, mut changed: impl FnMut() -> bool) {
    use std::mem::MaybeUninit;

    let mut buffer = [MaybeUninit::uninit(); 4_096];
    let mut events = rustix::fs::inotify::Reader::new(fd, &mut buffer);
    while let Ok(event) = events.next() {
        // Of the data directory only the write-ahead log matters, and not what we write ourselves.
        let name = event.file_name().map(std::ffi::CStr::to_bytes);
        let ours = name.is_some_and(|name| name.starts_with(b"daemon."));
        if !ours && !changed() {
            return;
        }
    }
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
