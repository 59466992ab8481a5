//! What the tests of the binary share: a home of their own, and `rr` in it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use rustory_core::spool::record;

/// A home directory with nothing of the caller's environment in it.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join(".rustory")
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.data().join("history.db")
    }

    pub(crate) fn rr<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rr"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", "/usr/bin:/bin")
            .env("USER", "tester")
            .env("TZ", "UTC")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs `rr` and expects exit code 0. Returns stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        succeeded(self.rr(args).output().unwrap())
    }

    /// Runs `rr` with something on stdin.
    pub(crate) fn feed(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = self
            .rr(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that stops reading early is what some tests are about.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    /// The commands of the log in display order.
    pub(crate) fn cmds(&self) -> Vec<String> {
        self.ok(&["list", "--json", "--limit", "all"])
            .lines()
            .map(|line| {
                let entry: serde_json::Value = serde_json::from_str(line).unwrap();
                entry["cmd"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// Puts commands into the spool as a shell that is gone would have left them.
    pub(crate) fn spool(&self, session: &str, cmds: impl IntoIterator<Item = String>) {
        spool_into(&self.data().join("spool"), session, cmds);
    }
}

/// Every command has a start of its own, so that the display order is the order of the calls.
static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000_000_000);

pub(crate) fn spool_into(dir: &Path, session: &str, cmds: impl IntoIterator<Item = String>) {
    fs::create_dir_all(dir).unwrap();
    // No process has this number: the session is over.
    let mut bytes = header(session, 4_194_305);
    for cmd in cmds {
        bytes.extend(command(session, &cmd));
    }
    fs::write(dir.join(format!("{session}.spool")), bytes).unwrap();
}

/// The first record of a bash session whose shell is process `pid`.
pub(crate) fn header(session: &str, pid: u32) -> Vec<u8> {
    let hostname = rustix::system::uname().nodename().to_owned().into_bytes();
    let pid = pid.to_string();
    record(&[
        b"H1",
        session.as_bytes(),
        b"bash",
        b"5.2",
        pid.as_bytes(),
        &hostname,
    ])
}

/// One whole command.
pub(crate) fn command(session: &str, cmd: &str) -> Vec<u8> {
    let start = CLOCK.fetch_add(1, Ordering::Relaxed).to_string();
    let cmd = format!("={cmd}");
    record(&[
        b"C1",
        session.as_bytes(),
        start.as_bytes(),
        b"5",
        b"0",
        b"/tmp",
        cmd.as_bytes(),
    ])
}

pub(crate) fn succeeded(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Whether the test runs as root, who can mount and become somebody else. Says what is skipped.
pub(crate) fn root_for(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED, needs root: {what}");
    }
    root
}

/// So many different commands.
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n:06}")).collect()
}

/// A small file system of its own, gone at the end.
pub(crate) struct Disk<'a>(&'a Path);

impl Disk<'_> {
    pub(crate) fn mount<'a>(at: &'a Path, size: &str) -> Disk<'a> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .status();
        assert!(mounted.unwrap().success());
        Disk(at)
    }

    /// Makes it larger.
    pub(crate) fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let grown = Command::new("mount")
            .args(["-o", &options])
            .arg(self.0)
            .status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
