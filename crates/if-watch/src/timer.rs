//! When to look, on systems other than Linux: every now and then.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// As often as peers are asked for a sign of life.
const EVERY: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Hints(Interval);

impl Hints {
    pub(crate) fn new() -> io::Result<Hints> {
        let mut interval = interval_at(Instant::now() + EVERY, EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Hints(interval))
    }

    /// Ready when it is time.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_tick(cx).map(|_| Ok(()))
    }
}
