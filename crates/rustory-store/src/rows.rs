//! Rows of the log as they are put in: many with one statement, where there are many.

use std::fmt::Write as _;
use std::sync::LazyLock;

use bstr::{BStr, ByteSlice as _};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Statement};
use rustory_core::{Entry, EntryId};

/// Rows put in by one statement where there are enough. Starting one costs about as much as a row.
pub(crate) const ROWS_AT_ONCE: usize = 64;

/// An entry with the small integers of its repeated texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'e> {
    pub(crate) entry: &'e Entry,
    pub(crate) device: i64,
    pub(crate) context: i64,
    pub(crate) dir: i64,
    pub(crate) session: i64,
}

const COLUMNS: usize = 11;

static ONE: LazyLock<String> = LazyLock::new(|| insert_sql(1));
static MANY: LazyLock<String> = LazyLock::new(|| insert_sql(ROWS_AT_ONCE));

fn insert_sql(rows: usize) -> String {
    let mut sql = "INSERT INTO entries (entry_id, ts, device, device_seq, context, dir, session,
        exit_code, duration_ms, cmd, extra) VALUES "
        .to_owned();
    for row in 0..rows {
        let comma = if row == 0 { "" } else { ", " };
        let _ = write!(sql, "{comma}(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    }
    sql + " ON CONFLICT (entry_id) DO NOTHING"
}

/// Inserts one row; `false`: its id is taken.
pub(crate) fn insert_one(tx: &Connection, row: &Row<'_>) -> rusqlite::Result<bool> {
    let mut insert = tx.prepare_cached(&ONE)?;
    bind(&mut insert, 0, row)?;
    Ok(insert.raw_execute()? == 1)
}

/// Inserts [`ROWS_AT_ONCE`] rows in their order. Those whose ids are taken, also by one before, are passed
/// over. Returns how many were not.
pub(crate) fn insert_many(tx: &Connection, rows: &[Row<'_>]) -> rusqlite::Result<usize> {
    debug_assert_eq!(rows.len(), ROWS_AT_ONCE);
    let mut insert = tx.prepare_cached(&MANY)?;
    for (at, row) in rows.iter().enumerate() {
        bind(&mut insert, at, row)?;
    }
    insert.raw_execute()
}

/// Binds a row as the one at `at` of a statement.
fn bind(insert: &mut Statement<'_>, at: usize, row: &Row<'_>) -> rusqlite::Result<()> {
    let entry = row.entry;
    let extra = (!entry.extra.is_empty())
        .then(|| serde_json::to_string(&entry.extra))
        .transpose()
        .expect("a map of JSON values is JSON");
    let first = at * COLUMNS + 1;
    insert.raw_bind_parameter(first, &entry.id.as_bytes()[..])?;
    insert.raw_bind_parameter(first + 1, entry.ts.as_micros())?;
    insert.raw_bind_parameter(first + 2, row.device)?;
    insert.raw_bind_parameter(first + 3, entry.device_seq.map(u64::cast_signed))?;
    insert.raw_bind_parameter(first + 4, row.context)?;
    insert.raw_bind_parameter(first + 5, row.dir)?;
    insert.raw_bind_parameter(first + 6, row.session)?;
    insert.raw_bind_parameter(first + 7, entry.exit_code)?;
    insert.raw_bind_parameter(first + 8, entry.duration_ms.map(u64::cast_signed))?;
    insert.raw_bind_parameter(first + 9, text_or_bytes(entry.cmd.as_ref()))?;
    insert.raw_bind_parameter(first + 10, extra)
}

/// Where the entry with this id is.
pub(crate) fn place(tx: &Connection, id: EntryId) -> rusqlite::Result<Option<i64>> {
    tx.prepare_cached("SELECT ingest_seq FROM entries WHERE entry_id = ?1")?
        .query_row([&id.as_bytes()[..]], |row| row.get(0))
        .optional()
}

/// Text where it is text, so that any SQLite tool shows it.
fn text_or_bytes(cmd: &BStr) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match cmd.to_str() {
        Ok(text) => ValueRef::Text(text.as_bytes()),
        Err(_) => ValueRef::Blob(cmd.as_bytes()),
    })
}
