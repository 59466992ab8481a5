//! Network namespaces: made, entered, and removed again whatever happens.
//!
//! Everything that the lab makes lives in namespaces whose names carry the process that made them.
//! One lab exists at a time: it holds a lock, which the kernel drops with the process, and whoever
//! takes the lock removes what a killed run left behind.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::wait::until_true;

const PREFIX: &str = "rrlab";
const LOCK: &str = "/run/rustory-lab.lock";
const NAMES: &str = "/run/netns";

/// Where the programs are that only an administrator has in the path.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Whether the lab can be built here; says what is skipped, and why, where it can't.
pub(crate) fn possible(what: &str) -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        Some("root")
    } else {
        let absent = |name: &&str| {
            !SEARCH_PATH
                .split(':')
                .any(|dir| Path::new(dir).join(name).exists())
        };
        ["ip", "nft", "python3"].into_iter().find(absent)
    };
    if let Some(missing) = missing {
        eprintln!("SKIPPED, needs {missing}: {what}");
    }
    missing.is_none()
}

/// The right to have namespaces; all that carry its name are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    prefix: String,
    _lock: File,
}

impl Claim {
    /// Waits for any other lab to end, and removes what is left of those that were killed.
    pub(crate) fn take() -> Claim {
        let lock = File::create(LOCK).unwrap();
        lock.lock().unwrap();
        remove_all(PREFIX);
        Claim {
            prefix: format!("{PREFIX}{}", std::process::id()),
            _lock: lock,
        }
    }

    /// A new namespace with nothing but the loopback.
    pub(crate) fn namespace(&self, name: &str) -> Namespace {
        let namespace = Namespace {
            name: format!("{}-{name}", self.prefix),
        };
        ip(&format!("netns add {namespace}"));
        namespace.ip("link set lo up");
        namespace
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        remove_all(&self.prefix);
    }
}

fn remove_all(prefix: &str) {
    let Ok(listed) = fs::read_dir(NAMES) else {
        return;
    };
    let names: Vec<String> = listed
        .filter_map(|item| item.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    for name in &names {
        for pid in pids(name) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    for name in &names {
        // A namespace with a process in it would live on without a name.
        until_true("processes end", Duration::from_secs(10), || {
            pids(name).is_empty()
        });
        let _ = Command::new("ip")
            .args(["netns", "del", name])
            .env("PATH", SEARCH_PATH)
            .status();
    }
}

fn pids(namespace: &str) -> Vec<Pid> {
    let output = Command::new("ip")
        .args(["netns", "pids", namespace])
        .env("PATH", SEARCH_PATH)
        .output()
        .unwrap();
    let ours = rustix::process::getpid();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| Pid::from_raw(line.trim().parse().ok()?))
        .filter(|pid| *pid != ours)
        .collect()
}

/// The network of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    name: String,
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Namespace {
    /// Runs `ip` in it; words are separated by spaces.
    pub(crate) fn ip(&self, args: &str) {
        ip(&format!("-n {self} {args}"));
    }

    /// A program in it, with nothing of the caller's environment.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Loads rules, or changes them.
    pub(crate) fn nft(&self, rules: &str) {
        let mut child = self
            .command(Path::new("nft"))
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let written = child.stdin.take().unwrap().write_all(rules.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert!(
            written.is_ok() && output.status.success(),
            "{}\n{rules}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// The members of a set, as `nft` lists them.
    pub(crate) fn nft_set(&self, family: &str, name: &str) -> Vec<serde_json::Value> {
        let output = self
            .command(Path::new("nft"))
            .args(["-j", "list", "set", family, "lab", name])
            .output()
            .unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut items = listed["nftables"].as_array().unwrap().iter();
        let set = items.find_map(|item| item.get("set")).unwrap();
        set["elem"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
        let value = value.to_owned();
        self.run(move || fs::write(path, value)).unwrap();
    }

    /// Runs something in it and waits; what it opens stays there.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().expect("the work does not panic")
    }

    /// Runs something in it, on a thread of its own. Threads that it starts are there as well.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = File::open(Path::new(NAMES).join(&self.name)).unwrap();
        std::thread::spawn(move || {
            use std::os::fd::AsFd as _;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }
}

fn ip(args: &str) {
    let output = Command::new("ip")
        .args(args.split_whitespace())
        .env("PATH", SEARCH_PATH)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
