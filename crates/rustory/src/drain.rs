//! From the spool into the log, with what only the operating system knows: which shells still run.

use rustory_core::spool::{Header, Typed};
use rustory_store::spool_dir::{self, Report, Sessions, Stamp};
use rustory_store::{Store, StoreError};

use crate::ctx::{Ctx, now};
use crate::error::CommandError;

/// Drains the spool. What can't be ingested now (a lock, a full or read-only disk) stays in the
/// spool and comes back as what is waiting, so that a search shows it all the same.
pub(crate) fn drain_or_peek(ctx: &Ctx, store: &mut Store) -> Result<Vec<Typed>, CommandError> {
    match drain(ctx, store) {
        Ok(_) => Ok(Vec::new()),
        Err(err) if err.is_about_writing() => Ok(peek(ctx, store)?),
        Err(err) => Err(err.into()),
    }
}

/// Drains the spool.
pub(crate) fn drain(ctx: &Ctx, store: &mut Store) -> Result<Report, StoreError> {
    let report = spool_dir::drain(
        store,
        &ctx.spool_dir(),
        &ctx.settings.rules,
        &stamp(ctx),
        &RunningShells::new(),
    )?;
    if ctx.verbose {
        crate::ui::say(format_args!(
            "spool: {} commands taken in, {} kept out by the rules",
            report.ingested, report.skipped
        ));
    }
    if report.damaged > 0 {
        ctx.note(format_args!(
            "{} unreadable records in the spool were set aside in {}",
            report.damaged,
            ctx.spool_dir().join(spool_dir::DAMAGED).display()
        ));
    }
    if report.too_long > 0 {
        ctx.note(format_args!(
            "{} commands of more than {} bytes were not kept",
            report.too_long,
            rustory_core::limits::CMD_BYTES_MAX
        ));
    }
    Ok(report)
}

/// What waits in the spool, without writing anything.
pub(crate) fn peek(ctx: &Ctx, store: &Store) -> Result<Vec<Typed>, StoreError> {
    spool_dir::peek(
        store,
        &ctx.spool_dir(),
        &ctx.settings.rules,
        &RunningShells::new(),
    )
}

/// What an entry gets that the shell does not know.
pub(crate) fn stamp(ctx: &Ctx) -> Stamp {
    Stamp {
        user_id: ctx.settings.user_id.clone(),
        hostname: hostname(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: now(),
    }
}

/// This host's name, as the kernel has it.
pub(crate) fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Which sessions are over, asked of this machine's process table.
#[derive(Debug)]
pub(crate) struct RunningShells {
    hostname: String,
    now_secs: i64,
}

/// A session of another host (a home directory on the network, a container) can't be looked up
/// here; after this long without a word it counts as over.
const FOREIGN_IDLE_SECS: i64 = 30 * 86_400;

impl RunningShells {
    pub(crate) fn new() -> RunningShells {
        RunningShells {
            hostname: hostname(),
            now_secs: now().as_micros() / 1_000_000,
        }
    }
}

impl Sessions for RunningShells {
    fn is_over(&self, header: &Header, mtime: i64) -> bool {
        match header.pid {
            Some(pid) if header.hostname == self.hostname => !runs_since(pid, mtime),
            _ => self.now_secs.saturating_sub(mtime) > FOREIGN_IDLE_SECS,
        }
    }
}

/// Whether process `pid` runs and is the one that wrote at `mtime`: one that started later only
/// carries the same number.
fn runs_since(pid: u32, mtime: i64) -> bool {
    let Some(raw) = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    match rustix::process::test_kill_process(raw) {
        Err(rustix::io::Errno::SRCH) => false,
        // It runs (or runs as another user).
        _ => started(pid).is_none_or(|start| start <= mtime + START_SLACK_SECS),
    }
}

/// Boot time and process start are known to about a second each.
const START_SLACK_SECS: i64 = 3;

/// When a process started, in seconds since 1970; `None` where there is no `/proc`.
fn started(pid: u32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; field 22 is the 20th behind it.
    let ticks: i64 = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .parse()
        .ok()?;
    let ticks_per_sec = i64::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(boot + ticks / ticks_per_sec.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_started_after_the_last_record_only_carries_its_number() {
        let own = std::process::id();
        let now = now().as_micros() / 1_000_000;
        assert!(runs_since(own, now));
        assert!(!runs_since(own, now - 365 * 86_400));
        assert!(!runs_since(u32::MAX, now));
        assert!(!runs_since(0, now));
    }

    #[test]
    fn a_session_of_another_host_is_given_a_month() {
        let shells = RunningShells {
            hostname: "here".into(),
            now_secs: 1_700_000_000,
        };
        let header = Header {
            pid: Some(u32::MAX),
            hostname: "there".into(),
            ..Header::default()
        };
        assert!(!shells.is_over(&header, shells.now_secs - 86_400));
        assert!(shells.is_over(&header, shells.now_secs - 2 * FOREIGN_IDLE_SECS));
        let here = Header {
            hostname: "here".into(),
            ..header
        };
        assert!(shells.is_over(&here, shells.now_secs));
    }
}
