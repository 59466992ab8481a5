//! How long to wait before the next attempt: longer each time, and never in step with others.

use std::time::Duration;

use super::limits::{HUB_BACKOFF_MAX, HUB_BACKOFF_MIN};

/// Growing waits for one thing that keeps failing.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure: half to all of [`HUB_BACKOFF_MIN`], twice that, and so on
    /// up to [`HUB_BACKOFF_MAX`].
    pub(super) fn next(&mut self) -> Duration {
        self.next_within(HUB_BACKOFF_MIN, HUB_BACKOFF_MAX)
    }

    /// The same with other bounds.
    pub(super) fn next_within(&mut self, first: Duration, most: Duration) -> Duration {
        let doubled = first.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        let most = doubled.min(most);
        most / 2 + jitter(most / 2)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Some time below `most`.
pub(super) fn jitter(most: Duration) -> Duration {
    // Without randomness all would wait as long, which is polite enough for once.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        for most in [2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = backoff.next();
            let most = Duration::from_secs(most);
            assert!(wait >= most / 2 && wait <= most, "{wait:?} {most:?}");
        }
        for _ in 0..1000 {
            assert!(backoff.next() <= HUB_BACKOFF_MAX);
        }
        backoff.reset();
        assert!(backoff.next() <= HUB_BACKOFF_MIN);
    }

    #[test]
    fn two_devices_do_not_wait_equally_long() {
        let waits: std::collections::HashSet<_> =
            (0..16).map(|_| jitter(HUB_BACKOFF_MAX)).collect();
        assert!(waits.len() > 8);
    }
}
