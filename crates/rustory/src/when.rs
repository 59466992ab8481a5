//! Times as people write them: `--since 2h`, `--until 2026-11-01`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};
use rustory_core::Timestamp;

const ACCEPTED: &str = "a time such as `2026-11-01`, `2026-11-01 10:30`, `2026-11-01T10:30:00Z`, `today`, \
                        `yesterday`, `2h`, `3 days ago`";

/// Reads a time; spans count back from `now`, dates and clock times are local.
///
/// # Errors
/// A sentence that says what is accepted.
pub(crate) fn parse(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let text = text.trim();
    absolute(text, now)
        .or_else(|| ago(text, now))
        .and_then(Timestamp::from_jiff)
        .ok_or_else(|| format!("expected {ACCEPTED}"))
}

/// For clap: relative to the moment of the call, in the local time zone.
pub(crate) fn parse_arg(text: &str) -> Result<Timestamp, String> {
    parse(text, &Zoned::now())
}

fn absolute(text: &str, now: &Zoned) -> Option<jiff::Timestamp> {
    let local =
        |at: jiff::civil::DateTime| Some(at.to_zoned(now.time_zone().clone()).ok()?.timestamp());
    match text {
        "now" => return Some(now.timestamp()),
        "today" => return local(now.date().into()),
        "yesterday" => return local(now.date().yesterday().ok()?.into()),
        _ => {}
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(at);
    }
    if let Ok(at) = text.parse::<jiff::civil::DateTime>() {
        return local(at);
    }
    local(text.parse::<Date>().ok()?.into())
}

fn ago(text: &str, now: &Zoned) -> Option<jiff::Timestamp> {
    let span: Span = text.parse().ok()?;
    // `2h` and `2h ago` both look back.
    Some(now.checked_sub(span.abs()).ok()?.timestamp())
}

/// How long ago, in the largest unit that fits: `now`, `40s ago`, `5m ago`, `3h ago`, `9d ago`.
pub(crate) fn age(at: Timestamp, now: Timestamp) -> String {
    let secs = now.as_micros().saturating_sub(at.as_micros()) / 1_000_000;
    match secs {
        ..5 => "now".to_owned(),
        5..60 => format!("{secs}s ago"),
        60..3_600 => format!("{}m ago", secs / 60),
        3_600..86_400 => format!("{}h ago", secs / 3_600),
        _ => format!("{}d ago", secs / 86_400),
    }
}

/// `2026-11-23 10:32:18` in local time; blanks of the same width when the time is not known.
pub(crate) fn local(at: Timestamp, zone: &TimeZone) -> String {
    if at.is_unknown() {
        return format!("{:19}", "(time unknown)");
    }
    at.to_jiff()
        .to_zoned(zone.clone())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// A duration in at most six columns: `12ms`, `3.4s`, `5m02s`, `2h05m`, `3d04h`.
pub(crate) fn duration(ms: u64) -> String {
    let secs = ms / 1_000;
    match secs {
        0 => format!("{ms}ms"),
        1..60 => format!("{secs}.{}s", ms % 1_000 / 100),
        60..3_600 => format!("{}m{:02}s", secs / 60, secs % 60),
        3_600..86_400 => format!("{}h{:02}m", secs / 3_600, secs % 3_600 / 60),
        _ => format!("{}d{:02}h", secs / 86_400, secs % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let now: Zoned = "2026-11-23T10:30:00+09:00[Asia/Seoul]".parse().unwrap();
        parse(text, &now).map(|at| at.to_string())
    }

    #[test]
    fn dates_are_local_and_spans_look_back() {
        for (text, expect) in [
            ("2026-11-01", "2026-10-31T15:00:00.000000Z"),
            ("2026-11-01 10:30", "2026-11-01T01:30:00.000000Z"),
            ("2026-11-01T10:30:00Z", "2026-11-01T10:30:00.000000Z"),
            ("today", "2026-11-22T15:00:00.000000Z"),
            ("yesterday", "2026-11-21T15:00:00.000000Z"),
            ("now", "2026-11-23T01:30:00.000000Z"),
            ("2h", "2026-11-22T23:30:00.000000Z"),
            ("3 days ago", "2026-11-20T01:30:00.000000Z"),
            ("1w", "2026-11-16T01:30:00.000000Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(expect), "{text}");
        }
    }

    #[test]
    fn nonsense_says_what_is_accepted() {
        for text in ["", "soon", "2026-13-01", "99999999999 years", "-"] {
            assert!(at(text).unwrap_err().contains("3 days ago"), "{text}");
        }
    }

    #[test]
    fn durations_stay_short() {
        for (ms, expect) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_010, "1.0s"),
            (62_000, "1m02s"),
            (3_600_000, "1h00m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(duration(ms), expect);
        }
    }
}
