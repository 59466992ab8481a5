//! Waiting: for a condition and not for a time, so that a slow machine only takes longer.

use std::time::{Duration, Instant};

/// Far more than anything here takes on an idle machine.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(50);

/// Looks until there is something to see, and says how long that took.
///
/// # Panics
/// When there is nothing after `most`.
pub(crate) fn until<T>(
    what: &str,
    most: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return (seen, begun.elapsed());
        }
        assert!(begun.elapsed() < most, "not within {most:?}: {what}");
        std::thread::sleep(STEP);
    }
}

/// Waits for a condition, and says how long that took.
///
/// # Panics
/// When it does not hold after `most`.
pub(crate) fn until_true(what: &str, most: Duration, mut look: impl FnMut() -> bool) -> Duration {
    until(what, most, || look().then_some(())).1
}
