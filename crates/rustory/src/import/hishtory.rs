//! hishtory's `.hishtory.db`, read while hishtory may be writing to it.
//!
//! Its table has grown over the versions; what an older one lacks is empty. Every field follows
//! from the row alone, as with atuin.

use bstr::BString;
use rusqlite::Row;
use rustory_core::{Entry, EntryId, Extra, Timestamp};
use xxhash_rust::xxh3::xxh3_128;

use super::Format;
use super::database::{Database, Found};
use super::run;

/// hishtory's database.
pub(super) const DATABASE: Database = Database {
    format: Format::Hishtory,
    table: "history_entries",
    overlaps: &["atuin"],
    query,
    entry,
};

/// `None`: the table is not there, or not hishtory's.
fn query(columns: &[String]) -> Option<String> {
    let has = |name: &str| columns.iter().any(|column| column == name);
    if !["hostname", "command", "start_time"]
        .iter()
        .all(|name| has(name))
    {
        return None;
    }
    let optional = [
        "local_username",
        "current_working_directory",
        "home_directory",
        "exit_code",
        "end_time",
        "entry_id",
    ];
    let optional: Vec<&str> = optional
        .into_iter()
        .map(|name| if has(name) { name } else { "NULL" })
        .collect();
    Some(format!(
        "SELECT hostname, command, start_time, {} FROM history_entries ORDER BY rowid",
        optional.join(", ")
    ))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Found> {
    let Some(ts) = time(&run::label(row, 2)?) else {
        return Ok(Found::Unreadable("its start time is not one"));
    };
    let end = time(&run::label(row, 7)?);
    let hostname = run::label(row, 0)?;
    let cmd = run::text_bytes(row, 1)?;
    let cwd = with_home(run::text_bytes(row, 4)?, &run::text_bytes(row, 5)?);
    Ok(Found::Entry(Box::new(Entry {
        id: id(&run::label(row, 8)?, ts, &hostname, &cmd),
        device_id: format!("hishtory:{hostname}"),
        user_id: run::label(row, 3)?,
        ts,
        cmd: BString::from(cmd),
        cwd: BString::from(cwd),
        exit_code: row.get(6)?,
        duration_ms: end
            .map(|end| end.as_micros() - ts.as_micros())
            .and_then(|us| u64::try_from(us).ok())
            .filter(|&us| us > 0)
            .map(|us| us / 1_000),
        shell: String::new(),
        hostname,
        version: String::new(),
        device_seq: None,
        session: format!("{}hishtory", rustory_store::IMPORT_SESSION),
        extra: Extra::new(),
    })))
}

/// hishtory writes the home directory as `~`.
fn with_home(cwd: Vec<u8>, home: &[u8]) -> Vec<u8> {
    match cwd.strip_prefix(b"~") {
        Some(rest) if !home.is_empty() && (rest.is_empty() || rest.starts_with(b"/")) => {
            [home, rest].concat()
        }
        _ => cwd,
    }
}

/// hishtory's own id where the row has one.
fn id(text: &str, ts: Timestamp, hostname: &str, cmd: &[u8]) -> EntryId {
    text.parse().unwrap_or_else(|_| {
        let named = [
            b"hishtory\0",
            hostname.as_bytes(),
            b"\0",
            text.as_bytes(),
            b"\0",
            cmd,
        ]
        .concat();
        EntryId::from_time_and_hash(ts, xxh3_128(&named))
    })
}

/// `2022-10-17 21:43:21.1234 -0700 -0700`, with or without the blank and the zone's name, or with
/// a `T` in the middle: as Go's libraries for SQLite write times.
fn time(text: &str) -> Option<Timestamp> {
    let mut words = text.split_ascii_whitespace();
    let first = words.next()?;
    let mut instant = first.replacen('t', "T", 1);
    if !first.contains('T') {
        instant = format!("{first}T{}", words.next()?);
    }
    let clock = &instant[instant.find('T')? + 1..];
    if !clock.contains(['Z', '+', '-']) {
        instant.push_str(words.next().unwrap_or("Z"));
    }
    let ts: Timestamp = instant.parse().ok()?;
    // Year 1: Go's zero.
    (ts.as_micros() > 0).then_some(ts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_way_that_they_are_written() {
        let expected: Timestamp = "2022-10-18T04:43:21.1234Z".parse().unwrap();
        for text in [
            "2022-10-17 21:43:21.1234-07:00",
            "2022-10-17 21:43:21.1234 -0700 PDT",
            "2022-10-17 21:43:21.1234 -0700 -0700",
            "2022-10-18T04:43:21.1234Z",
            "2022-10-18 04:43:21.1234",
            "2022-10-18 04:43:21.1234+00:00",
        ] {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        for text in ["", "soon", "0001-01-01 00:00:00+00:00", "2022-10-17"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn the_home_directory_is_written_out() {
        assert_eq!(with_home(b"~/src".to_vec(), b"/home/me"), b"/home/me/src");
        assert_eq!(with_home(b"~".to_vec(), b"/home/me"), b"/home/me");
        assert_eq!(with_home(b"~me".to_vec(), b"/home/me"), b"~me");
        assert_eq!(with_home(b"~/src".to_vec(), b""), b"~/src");
    }
}
