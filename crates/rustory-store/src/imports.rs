//! What an import asks of the log: which commands are there by another way, and how far a history
//! file without times was read.
//!
//! Apart from `read` and `write` because nothing but `rr import` needs it.

use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{OptionalExtension as _, params, params_from_iter};
use rustory_core::time::UNKNOWN_BEFORE;
use rustory_core::{IngestSeq, Timestamp};

use bstr::BStr;

use crate::error::StoreError;
use crate::open::Store;
use crate::write::Writer;

/// The beginning of the session of every imported entry.
pub const IMPORT_SESSION: &str = "import:";

/// How far a history file without times is imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportSource {
    /// Small and never used again; 0: not stored yet.
    pub id: i64,
    /// Where the file lies.
    pub path: Vec<u8>,
    /// How many lines without a time were gone through.
    pub lines: u64,
    /// Keys of the last of them.
    pub anchor: Vec<u64>,
    /// Entries of hooks up to here were in the file, or never will be.
    pub floor: u64,
}

/// Whose entries a search for doubles goes through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypedFilter {
    /// Entries of these devices.
    pub devices: Vec<String>,
    /// Imported ones too.
    pub imported: bool,
    /// Started at or after.
    pub since: Option<Timestamp>,
    /// Started at or before.
    pub until: Option<Timestamp>,
}

/// What a search for doubles needs of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypedRow<'a> {
    /// Its place in our log.
    pub seq: IngestSeq,
    /// When it started.
    pub ts: Timestamp,
    /// The session that typed it.
    pub session: &'a str,
    /// Its shell; empty when not known.
    pub shell: &'a str,
    /// The command.
    pub cmd: &'a BStr,
}

impl Store {
    /// The files without times of one format that were imported before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn import_sources(&self, format: &str) -> Result<Vec<ImportSource>, StoreError> {
        let sql = "SELECT id, path, lines, anchor, floor FROM import_sources WHERE format = ?1
                   ORDER BY id";
        let read = || -> rusqlite::Result<Vec<ImportSource>> {
            self.conn
                .prepare_cached(sql)?
                .query_map([format], source)?
                .collect()
        };
        read().map_err(|err| self.err(err))
    }

    /// Calls `each` with the entries that pass, in ingest order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn scan_typed(
        &self,
        filter: &TypedFilter,
        mut each: impl FnMut(TypedRow<'_>),
    ) -> Result<(), StoreError> {
        let mut read = || -> rusqlite::Result<()> {
            let devices = self.ids("devices", "device_id", &filter.devices)?;
            let imports = if filter.imported {
                String::new()
            } else {
                self.import_sessions()?
            };
            // The unary `+` keeps SQLite from going through the table in an index's order.
            let sql = format!(
                "SELECT e.ingest_seq, e.ts, e.cmd, s.session, c.shell
                 FROM entries e CROSS JOIN sessions s ON s.id = e.session
                   CROSS JOIN contexts c ON c.id = e.context
                 WHERE +e.device IN ({devices}) AND +e.session NOT IN ({imports})
                   AND +e.ts BETWEEN ?1 AND ?2 ORDER BY e.ingest_seq"
            );
            let since = filter.since.unwrap_or(Timestamp::MIN).as_micros();
            let until = filter.until.unwrap_or(Timestamp::MAX).as_micros();
            let mut query = self.conn.prepare(&sql)?;
            let mut rows = query.query([since, until])?;
            while let Some(row) = rows.next()? {
                each(TypedRow {
                    seq: IngestSeq::from_rowid(row.get(0)?),
                    ts: Timestamp::from_micros(row.get(1)?).unwrap_or_default(),
                    cmd: BStr::new(match row.get_ref(2)? {
                        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
                        _ => b"",
                    }),
                    session: row.get_ref(3)?.as_str()?,
                    shell: row.get_ref(4)?.as_str()?,
                });
            }
            Ok(())
        };
        read().map_err(|err| self.err(err))
    }

    /// The small integers of these texts, as a list for SQL.
    fn ids(&self, table: &str, column: &str, texts: &[String]) -> rusqlite::Result<String> {
        let marks = vec!["?"; texts.len()].join(", ");
        let sql = format!("SELECT id FROM {table} WHERE {column} IN ({marks})");
        let mut query = self.conn.prepare(&sql)?;
        let texts = params_from_iter(texts.iter().map(|text| SqlValue::from(text.clone())));
        list(query.query_map(texts, |row| row.get(0))?)
    }

    fn import_sessions(&self) -> rusqlite::Result<String> {
        let sql = "SELECT id FROM sessions WHERE substr(session, 1, ?2) = ?1";
        let mut query = self.conn.prepare(sql)?;
        let len = i64::try_from(IMPORT_SESSION.len()).unwrap_or(0);
        list(query.query_map(params![IMPORT_SESSION, len], |row| row.get(0))?)
    }
}

fn list(ids: impl Iterator<Item = rusqlite::Result<i64>>) -> rusqlite::Result<String> {
    let ids: Vec<String> = ids
        .map(|id| id.map(|id| id.to_string()))
        .collect::<rusqlite::Result<_>>()?;
    Ok(ids.join(", "))
}

fn source(row: &rusqlite::Row<'_>) -> rusqlite::Result<ImportSource> {
    let anchor: Vec<u8> = row.get(3)?;
    Ok(ImportSource {
        id: row.get(0)?,
        path: row.get(1)?,
        lines: row.get::<_, i64>(2)?.cast_unsigned(),
        anchor: anchor
            .as_chunks::<8>()
            .0
            .iter()
            .map(|key| u64::from_le_bytes(*key))
            .collect(),
        floor: row.get::<_, i64>(4)?.cast_unsigned(),
    })
}

impl Writer<'_> {
    /// The state of one source as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn import_source(
        &self,
        format: &str,
        path: &[u8],
    ) -> Result<Option<ImportSource>, StoreError> {
        let sql = "SELECT id, path, lines, anchor, floor FROM import_sources
                   WHERE format = ?1 AND path = ?2";
        self.run(|tx| {
            tx.prepare_cached(sql)?
                .query_row(params![format, path], source)
                .optional()
        })
    }

    /// Stores the state of a source and gives its id; with id 0 it is made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_import_source(
        &self,
        format: &str,
        source: &ImportSource,
    ) -> Result<i64, StoreError> {
        let id = (source.id != 0).then_some(source.id);
        let anchor: Vec<u8> = source
            .anchor
            .iter()
            .flat_map(|key| key.to_le_bytes())
            .collect();
        let sql = "INSERT INTO import_sources (id, format, path, lines, anchor, floor)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT (id) DO UPDATE
                   SET path = ?3, lines = ?4, anchor = ?5, floor = ?6
                   RETURNING id";
        self.run(|tx| {
            tx.prepare_cached(sql)?.query_row(
                params![
                    id,
                    format,
                    source.path,
                    source.lines.cast_signed(),
                    anchor,
                    source.floor.cast_signed()
                ],
                |row| row.get(0),
            )
        })
    }

    /// The first time that source `id` has not given away yet to a line without one.
    ///
    /// Each source has a day of 1970 to itself, which is as many microseconds as no file has
    /// lines; so its own lines are found again by their times.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn next_untimed(&mut self, id: i64) -> Result<Timestamp, StoreError> {
        let (first, end) = untimed_day(id);
        let (device, _) = self.own_device()?;
        let sql = "SELECT ts FROM entries WHERE ts >= ?1 AND ts < ?2 AND +device = ?3
                   ORDER BY ts DESC LIMIT 1";
        let last: Option<i64> = self.run(|tx| {
            tx.prepare_cached(sql)?
                .query_row(params![first.as_micros(), end.as_micros(), device], |row| {
                    row.get(0)
                })
                .optional()
        })?;
        Ok(last
            .and_then(Timestamp::from_micros)
            .map_or(first, |last| last.saturating_add_micros(1)))
    }
}

const DAY_US: i64 = 86_400_000_000;

/// The times that lines without one get in source `id`: from the first to before the second.
#[must_use]
pub fn untimed_day(id: i64) -> (Timestamp, Timestamp) {
    let days = UNKNOWN_BEFORE.as_micros() / DAY_US;
    let start = id.rem_euclid(days) * DAY_US;
    let at = |us| Timestamp::from_micros(us).expect("a day of 1970 is in range");
    (at(start), at(start + DAY_US))
}
