//! Notices that the machine was suspended.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::p2p::limits::SUSPEND_JUMP;

/// Notices that the machine was suspended: the wall clock ran on, the monotonic one stood still.
pub(super) struct Clocks {
    monotonic: Instant,
    wall: SystemTime,
}

impl Clocks {
    pub(super) fn now() -> Clocks {
        Clocks {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// Whether it was since the last call. A clock that was set forward looks the same, and costs
    /// one announcement.
    pub(super) fn suspended(&mut self, now: Instant) -> bool {
        let wall = SystemTime::now();
        let passed = now.duration_since(self.monotonic);
        let passed_on_wall = wall.duration_since(self.wall).unwrap_or_default();
        *self = Clocks {
            monotonic: now,
            wall,
        };
        passed_on_wall > passed + SUSPEND_JUMP
    }
}

/// Waits for the wall clock to jump, as it does when the machine wakes up, so that nobody has to look
/// at it: a timer of the system that never ends, but is cancelled then.
#[cfg(target_os = "linux")]
pub(super) struct Jumps(Option<Timer>);

/// Read like a pipe: tokio's own wrapper of any descriptor is not safe.
#[cfg(target_os = "linux")]
type Timer = tokio::net::unix::pipe::Receiver;

#[cfg(target_os = "linux")]
impl Jumps {
    pub(super) fn new() -> Jumps {
        let made = Jumps::timer();
        if let Err(err) = &made {
            tracing::debug!(error = err as &dyn std::error::Error, "no timer");
        }
        Jumps(made.ok())
    }

    fn timer() -> std::io::Result<Timer> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        Jumps::arm(&timer)?;
        Timer::from_owned_fd_unchecked(timer)
    }

    fn arm(timer: impl rustix::fd::AsFd) -> std::io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let never = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: NEVER_SECS,
                tv_nsec: 0,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(timer, flags, &never)?;
        Ok(())
    }

    /// Ends when it has. May be dropped before.
    pub(super) async fn next(&self) {
        if let Some(timer) = &self.0 {
            while timer.readable().await.is_ok() {
                let waits = timer.try_read(&mut [0; 8]);
                let waits = waits.is_err_and(|err| err.kind() == std::io::ErrorKind::WouldBlock);
                if !waits && Jumps::arm(timer).is_ok() {
                    return;
                }
            }
        }
        std::future::pending().await
    }
}

/// The year 2200, in seconds since 1970.
#[cfg(target_os = "linux")]
const NEVER_SECS: i64 = 7_258_118_400;

/// Where the system does not tell, it is noticed when something else wakes the node.
#[cfg(not(target_os = "linux"))]
pub(super) struct Jumps;

#[cfg(not(target_os = "linux"))]
impl Jumps {
    pub(super) fn new() -> Jumps {
        Jumps
    }

    pub(super) async fn next(&self) {
        std::future::pending().await
    }
}
