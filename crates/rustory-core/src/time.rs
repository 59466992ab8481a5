//! Points in time as the log keeps them: microseconds since 1970, UTC.
//!
//! A type of its own so that milliseconds, seconds and microseconds are never mixed up, and so
//! that everything a person types or a peer sends is range-checked in one place.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;

/// Microseconds since 1970-01-01T00:00:00Z, by the clock of the device that recorded it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Entries whose time is not known (a history file without timestamps) get times below this one.
///
/// They keep their file's order, one microsecond apart from 1970-01-01 on, and therefore sort
/// below everything whose time is known instead of pretending to be recent.
pub const UNKNOWN_BEFORE: Timestamp = Timestamp(365 * 86_400 * 1_000_000);

impl Timestamp {
    /// The earliest time that RFC 3339 can write: year 0.
    pub const MIN: Timestamp = Timestamp(-62_167_219_200_000_000);
    /// The latest time accepted: the end of year 9998, so that every UTC offset stays printable.
    pub const MAX: Timestamp = Timestamp(253_370_764_799_999_999);

    /// From microseconds since the epoch; `None` outside [`Timestamp::MIN`]..=[`Timestamp::MAX`].
    #[must_use]
    pub fn from_micros(us: i64) -> Option<Timestamp> {
        (Self::MIN.0..=Self::MAX.0)
            .contains(&us)
            .then_some(Timestamp(us))
    }

    /// From milliseconds since the epoch; `None` out of range.
    #[must_use]
    pub fn from_millis(ms: i64) -> Option<Timestamp> {
        ms.checked_mul(1_000).and_then(Self::from_micros)
    }

    /// From whole seconds since the epoch; `None` out of range.
    #[must_use]
    pub fn from_secs(secs: i64) -> Option<Timestamp> {
        secs.checked_mul(1_000_000).and_then(Self::from_micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Whether this stands for "time not known" (see [`UNKNOWN_BEFORE`]).
    #[must_use]
    pub fn is_unknown(self) -> bool {
        self.0 >= 0 && self < UNKNOWN_BEFORE
    }

    /// The time this much later, held within the accepted range.
    #[must_use]
    pub fn saturating_add_micros(self, us: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(us).clamp(Self::MIN.0, Self::MAX.0))
    }

    /// The same instant for calendar arithmetic and printing.
    #[must_use]
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).expect("MIN..=MAX lies inside jiff's range")
    }

    /// From a calendar instant, cut to microseconds; `None` out of range.
    #[must_use]
    pub fn from_jiff(at: jiff::Timestamp) -> Option<Timestamp> {
        Self::from_micros(at.as_microsecond())
    }

    /// How long after `earlier` this is; negative when it is before.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> SignedDuration {
        SignedDuration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 in UTC with microseconds: `2026-11-23T10:32:18.123456Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.to_jiff())
    }
}

/// A text that is no RFC 3339 time, or one out of range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an RFC 3339 time such as `2026-11-23T10:32:18.123Z`")]
pub struct TimestampError(String);

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .and_then(Self::from_jiff)
            .ok_or_else(|| TimestampError(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_keeps_microseconds_and_folds_offsets_into_utc() {
        let at: Timestamp = "2026-11-23T19:32:18.123456+09:00".parse().unwrap();
        assert_eq!(at.to_string(), "2026-11-23T10:32:18.123456Z");
        assert_eq!(at.to_string().parse(), Ok(at));
    }

    #[test]
    fn the_ends_of_the_range_print_and_parse() {
        for at in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(at.to_string().parse(), Ok(at));
        }
        assert_eq!(Timestamp::from_secs(i64::MAX), None);
        assert!("10000-01-01T00:00:00Z".parse::<Timestamp>().is_err());
    }

    #[test]
    fn words_are_refused_by_name() {
        let err = "yesterday".parse::<Timestamp>().unwrap_err();
        assert!(err.to_string().contains("`yesterday`"));
    }
}
