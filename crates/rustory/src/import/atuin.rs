//! atuin's `history.db`, read while atuin may be writing to it.
//!
//! atuin's own ids are kept and every field follows from its row alone, so that a history which
//! atuin had synced to several machines is the same entries whichever of them imports it.

use bstr::BString;
use rusqlite::Row;
use rustory_core::{Entry, EntryId, Extra, Timestamp};
use xxhash_rust::xxh3::xxh3_128;

use super::Format;
use super::database::{Database, Found};
use super::run;

/// atuin's database.
pub(super) const DATABASE: Database = Database {
    format: Format::Atuin,
    table: "history",
    overlaps: &["hishtory"],
    query,
    entry,
};

/// `None`: the table is not there, or not atuin's. Columns that some versions lack are empty.
fn query(columns: &[String]) -> Option<String> {
    let has = |name: &str| columns.iter().any(|column| column == name);
    let all = [
        "id",
        "timestamp",
        "duration",
        "exit",
        "command",
        "cwd",
        "session",
        "hostname",
    ];
    if !all.iter().all(|name| has(name)) {
        return None;
    }
    let deleted = if has("deleted_at") {
        "deleted_at IS NOT NULL"
    } else {
        "0"
    };
    let shell = if has("shell") { "shell" } else { "NULL" };
    Some(format!(
        "SELECT id, timestamp, duration, exit, command, cwd, session, hostname, {deleted}, {shell}
         FROM history ORDER BY timestamp, id"
    ))
}

/// What atuin writes for a directory that it does not know.
const UNKNOWN_CWD: &[u8] = b"unknown";

fn entry(row: &Row<'_>) -> rusqlite::Result<Found> {
    if row.get(8).unwrap_or(false) {
        return Ok(Found::Deleted);
    }
    let nanos: i64 = row.get(1)?;
    let duration: i64 = row.get(2)?;
    let exit: i64 = row.get(3)?;
    let cwd = run::text_bytes(row, 5)?;
    let host_user = run::label(row, 7)?;
    let (host, user) = host_user.split_once(':').unwrap_or((&host_user, ""));
    let Some(ts) = Timestamp::from_micros(nanos.div_euclid(1_000)) else {
        return Ok(Found::Unreadable("its time is out of range"));
    };
    Ok(Found::Entry(Box::new(Entry {
        id: id(&run::label(row, 0)?, ts),
        device_id: format!("atuin:{host}"),
        user_id: user.to_owned(),
        ts,
        cmd: BString::from(run::text_bytes(row, 4)?),
        cwd: BString::from(if cwd == UNKNOWN_CWD { Vec::new() } else { cwd }),
        // -1: it did not end, or came into atuin by an import.
        exit_code: (exit != -1).then_some(exit),
        duration_ms: u64::try_from(duration)
            .ok()
            .filter(|&nanos| nanos > 0)
            .map(|nanos| nanos / 1_000_000),
        shell: run::label(row, 9)?,
        hostname: host.to_owned(),
        version: String::new(),
        device_seq: None,
        session: run::label(row, 6)?,
        extra: Extra::new(),
    })))
}

/// atuin's own id; its first versions had some that are no UUIDs.
fn id(text: &str, ts: Timestamp) -> EntryId {
    text.parse().unwrap_or_else(|_| {
        EntryId::from_time_and_hash(ts, xxh3_128(format!("atuin\0{text}").as_bytes()))
    })
}
