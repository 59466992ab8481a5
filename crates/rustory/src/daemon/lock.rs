//! One daemon for each database: a lock on a file beside it, which the kernel gives back whatever
//! happens to the process.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The lock, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another daemon has it; its process id, if it could be read.
    Taken(Option<u32>),
    /// The file can't be used.
    Io(PathBuf, std::io::Error),
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("daemon.lock")
}

impl Lock {
    /// Takes the lock and writes our process id into it.
    pub(crate) fn take(data_dir: &Path) -> Result<Lock, LockError> {
        let path = path(data_dir);
        let io = |err| LockError::Io(path.clone(), err);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(LockError::Taken(pid(&mut file)));
        }
        file.set_len(0).map_err(io)?;
        write!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Lock { _file: file })
    }
}

/// The process id of the daemon that runs on this data directory, if one does.
pub(crate) fn running(data_dir: &Path) -> Option<u32> {
    let mut file = File::open(path(data_dir)).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        // Nobody holds it; ours goes with the file.
        Ok(()) => None,
        Err(_) => pid(&mut file),
    }
}

fn pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_daemon_is_told_who_runs_and_a_dead_one_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(running(dir.path()), None);
        let first = Lock::take(dir.path()).unwrap();
        let own = Some(std::process::id());
        assert!(matches!(Lock::take(dir.path()), Err(LockError::Taken(pid)) if pid == own));
        assert_eq!(running(dir.path()), own);
        drop(first);
        assert_eq!(running(dir.path()), None);
        assert!(Lock::take(dir.path()).is_ok());
    }
}
