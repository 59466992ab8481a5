//! Programs that run on a host of the lab: their log, their end, and what they cost.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;

/// A program that runs. It is killed when this is dropped, and its last words are shown then when
/// the test has failed.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Memory it holds now.
    pub(crate) rss_kib: u64,
    /// Most memory it ever held.
    pub(crate) peak_kib: u64,
    /// Processor time.
    pub(crate) cpu: Duration,
}

/// How much of a log is shown.
const LAST_WORDS: usize = 30;

impl Process {
    /// Starts it; what it says goes to the file.
    pub(crate) fn start(name: &str, mut command: Command, log: PathBuf) -> Process {
        let file = File::options().create(true).append(true).open(&log);
        let file = file.unwrap();
        let child = command
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Process {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn assert_runs(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{} has ended: {ended:?}", self.name);
    }

    /// Asks it to end, as a service manager does, and expects it to end well.
    pub(crate) fn stop(mut self) {
        self.assert_runs();
        self.signal(Signal::TERM);
        let what = format!("{} ends", self.name);
        let (status, _) = until(&what, Duration::from_secs(15), || {
            self.child.try_wait().unwrap()
        });
        assert!(status.success(), "{}: {status}", self.name);
    }

    /// Kills it, as a power cut does.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn usage(&self) -> Usage {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let kib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).unwrap()
        };
        Usage {
            rss_kib: kib("VmRSS:"),
            peak_kib: kib("VmHWM:"),
            cpu: cpu(&proc),
        }
    }
}

fn cpu(proc: &Path) -> Duration {
    let stat = fs::read_to_string(proc.join("stat")).unwrap();
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th behind it.
    let behind_name = &stat[stat.rfind(')').unwrap() + 1..];
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut next = || fields.next().unwrap().parse::<u64>().unwrap();
    let ticks = next() + next();
    let a_second = rustix::param::clock_ticks_per_second();
    Duration::from_millis(ticks * 1_000 / a_second)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
            eprintln!("--- {} said last:\n{}", self.name, last.join("\n"));
        }
    }
}
