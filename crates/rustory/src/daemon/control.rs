//! The daemon from outside: starting it in the background, having it begin again, stopping it. What
//! it does is read from its files; it is never asked and never waited for longer than a few seconds.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::{Running, State, running};
use crate::cmd::init::own_path;
use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::service::{Service, ServiceError};
use crate::settings::Origin;

/// A daemon that was told to begin or to end has done so within this, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often its files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a daemon came to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// It ran already.
    Ran,
    /// The service manager started it, and will again.
    Service {
        /// It was not installed there before.
        new: bool,
    },
    /// In the background, until this machine stops.
    Detached {
        /// Why there is nobody to start it again.
        no_manager: Option<String>,
    },
}

/// Waits until something is there.
fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The daemon that runs, and what it says of itself once it has begun its work.
pub(crate) fn state(ctx: &Ctx) -> Option<State> {
    let dir = ctx.settings.data_dir();
    State::read(dir, running(dir)?.pid)
}

/// Has a daemon run that knows the settings and keys as they are now. `may_install`: as a service,
/// where this machine has a manager for them.
pub(crate) fn renew(ctx: &Ctx, may_install: bool) -> Result<Came, CommandError> {
    let dir = ctx.settings.data_dir();
    if let Some(Running { pid, .. }) = running(dir) {
        // Before it has written its state it does not know the signal, and would die of it.
        let before = wait_for(|| State::read(dir, pid).or_else(|| gone(ctx, pid)));
        send(pid, Signal::USR1);
        let before = before.map(|state| state.began);
        // It gives its lock back for a moment; one of an older version ends of that signal.
        wait_for(|| match State::read(dir, pid) {
            Some(state) if Some(state.began) != before => Some(()),
            _ => (!is_alive(pid)).then_some(()),
        });
    }
    ensure(ctx, may_install)
}

fn gone(ctx: &Ctx, pid: u32) -> Option<State> {
    let runs = running(ctx.settings.data_dir()).is_some_and(|now| now.pid == pid);
    (!runs).then(State::default)
}

/// Has a daemon run.
pub(crate) fn ensure(ctx: &Ctx, may_install: bool) -> Result<Came, CommandError> {
    if let Some(running) = running(ctx.settings.data_dir()) {
        return match wait_for(|| state(ctx)) {
            Some(_) => Ok(Came::Ran),
            None => Err(silent(running.pid)),
        };
    }
    match Service::of(ctx) {
        Ok(service) if service.is_installed() => {
            service.start()?;
            wait_for(|| state(ctx)).ok_or_else(|| service.did_not_start())?;
            Ok(Came::Service { new: false })
        }
        Ok(service) if may_install => {
            service.install()?;
            wait_for(|| state(ctx)).ok_or_else(|| service.did_not_start())?;
            Ok(Came::Service { new: true })
        }
        Err(ServiceError::NoManager(why)) => {
            let no_manager = Some(why);
            detach(ctx).map(|_| Came::Detached { no_manager })
        }
        Ok(_) | Err(ServiceError::OtherDatabase) => {
            let no_manager = None;
            detach(ctx).map(|_| Came::Detached { no_manager })
        }
    }
}

fn silent(pid: u32) -> CommandError {
    CommandError::failed(format!(
        "the daemon, process {pid}, does not begin its work"
    ))
    .hint("`rr status` says what is wrong; stop it with `kill`, and try again")
}

/// What a daemon in the background says goes here.
fn log_path(ctx: &Ctx) -> PathBuf {
    ctx.settings.data_dir().join("daemon.log")
}

/// Starts a daemon in the background, away from this terminal, and returns once it works.
pub(crate) fn detach(ctx: &Ctx) -> Result<u32, CommandError> {
    rustory_store::spool_dir::create(&ctx.spool_dir())?;
    let path = log_path(ctx);
    let cannot = |err| CommandError::failed(format!("`{}`: {err}", path.display()));
    let log = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(cannot)?;
    let mut command = Command::new(own_path()?);
    if let Some(Origin::Flag(flag)) = ctx.settings.origins.get("db_path") {
        command.arg(flag).arg(&ctx.settings.db_path);
    }
    let mut child = command
        .args(["daemon", "--detached"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(cannot)?)
        .stderr(log)
        .spawn()
        .map_err(|err| CommandError::failed(format!("the daemon can't be started: {err}")))?;
    let pid = child.id();
    let began = wait_for(|| match child.try_wait() {
        Ok(None) => State::read(ctx.settings.data_dir(), pid).map(|_| true),
        _ => Some(false),
    });
    match began {
        Some(true) => Ok(pid),
        // Two started at once, and the other one was first.
        Some(false) if running(ctx.settings.data_dir()).is_some() => Ok(pid),
        Some(false) => Err(last_words(&path)),
        None => Err(silent(pid)),
    }
}

/// What a daemon said before it ended.
fn last_words(path: &std::path::Path) -> CommandError {
    let mut said = String::new();
    // It is short; a longer one is cut.
    let _ = File::open(path).and_then(|file| file.take(64 * 1024).read_to_string(&mut said));
    let of = |kind: &str| said.lines().find_map(|line| line.strip_prefix(kind));
    let told = of("error: ").unwrap_or("it ended at once");
    let told = CommandError::failed(format!("the daemon did not start: {told}"));
    match of("hint: ") {
        Some(hint) => told.hint(hint),
        None => told.hint(format!("what it said is in `{}`", path.display())),
    }
}

/// Ends the daemon that runs, if one does. Whether one did.
pub(crate) fn stop(ctx: &Ctx) -> Result<bool, CommandError> {
    let dir = ctx.settings.data_dir();
    let Some(Running { pid, .. }) = running(dir) else {
        return Ok(false);
    };
    send(pid, Signal::TERM);
    match wait_for(|| running(dir).is_none().then_some(())) {
        Some(()) => Ok(true),
        None => Err(
            CommandError::failed(format!("the daemon, process {pid}, does not end")).hint(format!(
                "`kill -9 {pid}` ends it; nothing that was recorded is lost"
            )),
        ),
    }
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // One that has ended meanwhile is what the caller looks for next.
        let _ = kill_process(pid, signal);
    }
}
