//! One daemon for each database: a lock on a file beside it, which the kernel gives back whatever
//! happens to the process. The file says who holds it and what is wrong with the device: it is
//! written in place, so that even a full disk has room for that.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another daemon has it; its process id, if it could be read.
    Taken(Option<u32>),
    /// The file can't be used.
    Io(PathBuf, std::io::Error),
}

/// A daemon that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// Its process id.
    pub(crate) pid: u32,
    /// What is wrong with the device itself: a full disk, a locked database.
    pub(crate) problem: Option<String>,
}

/// What fits the one block that the file always has.
const PROBLEM_BYTES_MAX: usize = 2_000;

/// Whoever looks whether a daemon runs holds the lock for a moment, and a daemon that just took it
/// has not written its number yet: looked at so often,
const TRIES: u32 = 25;

/// with so much time in between.
const TRY_EVERY: Duration = Duration::from_millis(20);

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("daemon.lock")
}

impl Lock {
    /// Takes the lock and writes our process id into it.
    pub(crate) fn take(data_dir: &Path) -> Result<Lock, LockError> {
        let path = path(data_dir);
        let io = |err| LockError::Io(path.clone(), err);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let mut tries = 1;
        while let Err(err) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            match err {
                Errno::WOULDBLOCK if tries < TRIES => std::thread::sleep(TRY_EVERY),
                Errno::WOULDBLOCK => return Err(LockError::Taken(read(&file).map(|it| it.pid))),
                err => return Err(io(err.into())),
            }
            tries += 1;
        }
        let lock = Lock { file };
        lock.tell(None).map_err(io)?;
        Ok(lock)
    }

    /// Says what is wrong, for [`running`].
    pub(crate) fn tell(&self, problem: Option<&str>) -> std::io::Result<()> {
        let problem = problem.unwrap_or_default();
        let fits = problem.floor_char_boundary(PROBLEM_BYTES_MAX);
        let text = format!("{}\n{}", std::process::id(), &problem[..fits]);
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }
}

/// The daemon that runs on this data directory, if one does.
pub(crate) fn running(data_dir: &Path) -> Option<Running> {
    let file = File::open(path(data_dir)).ok()?;
    for _ in 0..TRIES {
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => {}
            // Nobody holds it, and ours goes with the file; or there are no locks here.
            _ => return None,
        }
        if let Some(running) = read(&file) {
            return Some(running);
        }
        std::thread::sleep(TRY_EVERY);
    }
    None
}

fn read(file: &File) -> Option<Running> {
    let mut bytes = vec![0; PROBLEM_BYTES_MAX + 20];
    let len = file.read_at(&mut bytes, 0).ok()?;
    let text = String::from_utf8_lossy(&bytes[..len]);
    let (pid, problem) = text.split_once('\n')?;
    Some(Running {
        pid: pid.parse().ok()?,
        problem: (!problem.is_empty()).then(|| problem.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_daemon_is_told_who_runs_and_a_dead_one_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(running(dir.path()), None);
        let first = Lock::take(dir.path()).unwrap();
        let own = std::process::id();
        assert!(matches!(Lock::take(dir.path()), Err(LockError::Taken(pid)) if pid == Some(own)));
        assert_eq!(running(dir.path()).unwrap().pid, own);
        drop(first);
        assert_eq!(running(dir.path()), None);
        assert!(Lock::take(dir.path()).is_ok());
    }

    #[test]
    fn a_problem_is_told_as_long_as_it_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let problem = || running(dir.path()).unwrap().problem;
        lock.tell(Some(&"한".repeat(5_000))).unwrap();
        assert!(problem().unwrap().chars().all(|char| char == '한'));
        lock.tell(Some("the disk is full")).unwrap();
        assert_eq!(problem().as_deref(), Some("the disk is full"));
        lock.tell(None).unwrap();
        assert_eq!(problem(), None);
    }

    #[test]
    fn looking_keeps_no_daemon_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        drop(Lock::take(dir.path()).unwrap());
        let file = File::open(path(dir.path())).unwrap();
        flock(&file, FlockOperation::NonBlockingLockShared).unwrap();
        let looks = std::thread::spawn(move || {
            std::thread::sleep(TRY_EVERY * 3);
            drop(file);
        });
        assert!(Lock::take(dir.path()).is_ok());
        looks.join().unwrap();
    }
}
