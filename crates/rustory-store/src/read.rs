//! Reading: in display order for people, in ingest order for programs. The finder reads in
//! `scan.rs`, sync sessions in `sync.rs`.

use std::ops::ControlFlow;

use bstr::{BStr, BString};
use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};
use rustory_core::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use rustory_core::{Entry, EntryId, Extra, IngestSeq, Timestamp};

use crate::error::StoreError;
use crate::open::Store;

/// Which entries to read; the default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Typed on this device.
    pub device_id: Option<String>,
    /// Typed on a host of this name.
    pub hostname: Option<String>,
    /// Typed in exactly this directory.
    pub cwd: Option<BString>,
    /// Typed in this session.
    pub session: Option<String>,
    /// Ended like this.
    pub exit: Option<ExitFilter>,
    /// Started at or after.
    pub since: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// The same decision about an entry that is not in the log (yet).
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        is(self.device_id.as_ref(), &entry.device_id)
            && is(self.hostname.as_ref(), &entry.hostname)
            && is(self.cwd.as_ref(), &entry.cwd)
            && is(self.session.as_ref(), &entry.session)
            && self.exit.is_none_or(|exit| exit.matches(entry.exit_code))
            && self.since.is_none_or(|since| entry.ts >= since)
            && self.until.is_none_or(|until| entry.ts < until)
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitFilter {
    /// With exactly this status.
    Code(i64),
    /// With status 0.
    Ok,
    /// With a known status other than 0.
    Fail,
}

impl ExitFilter {
    fn matches(self, code: Option<i64>) -> bool {
        match self {
            ExitFilter::Code(wanted) => code == Some(wanted),
            ExitFilter::Ok => code == Some(0),
            ExitFilter::Fail => code.is_some_and(|code| code != 0),
        }
    }
}

/// A piece of our log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Ascending by their place in the log.
    pub entries: Vec<Entry>,
    /// The place of the last one; `None` when there was nothing behind.
    pub last: Option<IngestSeq>,
    /// Whether the log ends there.
    pub at_head: bool,
}

pub(crate) const COLUMNS: &str =
    "e.ingest_seq, e.entry_id, e.ts, d.device_id, c.user_id, c.hostname, c.shell,
    c.version, p.path, s.session, e.device_seq, e.exit_code, e.duration_ms, e.cmd, e.extra";

/// CROSS JOIN keeps `entries` the outer loop, so that its index gives the order.
pub(crate) const FROM: &str = "entries e CROSS JOIN devices d ON d.id = e.device
    CROSS JOIN contexts c ON c.id = e.context CROSS JOIN dirs p ON p.id = e.dir
    CROSS JOIN sessions s ON s.id = e.session";

/// For rows that may not decode: one whose texts are gone is a row all the same.
pub(crate) const FROM_ANY: &str = "entries e LEFT JOIN devices d ON d.id = e.device
    LEFT JOIN contexts c ON c.id = e.context LEFT JOIN dirs p ON p.id = e.dir
    LEFT JOIN sessions s ON s.id = e.session";

impl Store {
    /// The last position of the log; [`IngestSeq::ZERO`] for an empty one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn head(&self) -> Result<IngestSeq, StoreError> {
        head(&self.conn).map_err(|err| self.err(err))
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn count(&self) -> Result<u64, StoreError> {
        self.conn
            .query_row("SELECT count(*) FROM entries", [], |row| {
                row.get::<_, i64>(0)
            })
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(|err| self.err(err))
    }

    /// How often two different entries claimed one id: a bug, or a lie.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn conflicts(&self) -> Result<u64, StoreError> {
        let sql = "SELECT value FROM meta WHERE key = 'conflicts'";
        self.conn
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .optional()
            .map(|count| count.map_or(0, i64::cast_unsigned))
            .map_err(|err| self.err(err))
    }

    /// One entry by its place in our log.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entry(&self, seq: IngestSeq) -> Result<Option<Entry>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE e.ingest_seq = ?1");
        self.conn
            .prepare_cached(&sql)
            .and_then(|mut query| query.query_row([seq.as_rowid()], entry).optional())
            .map_err(|err| self.err(err))
    }

    /// Entries behind `after`, in ingest order.
    ///
    /// At most `limit` of them (held within 1..=[`BATCH_ENTRIES_MAX`]) and no more once
    /// [`BATCH_BYTES_MAX`] bytes of text are passed, so one oversized entry travels alone.
    /// Never an empty batch while there is an entry behind `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read_after(&self, after: IngestSeq, limit: usize) -> Result<Batch, StoreError> {
        let limit = limit.clamp(1, BATCH_ENTRIES_MAX);
        self.batch(after, limit).map_err(|err| self.err(err))
    }

    fn batch(&self, after: IngestSeq, limit: usize) -> rusqlite::Result<Batch> {
        let sql =
            format!("SELECT {COLUMNS} FROM {FROM} WHERE e.ingest_seq > ?1 ORDER BY e.ingest_seq");
        let mut batch = Batch {
            at_head: true,
            ..Batch::default()
        };
        let mut bytes = 0;
        let mut query = self.conn.prepare_cached(&sql)?;
        let mut rows = query.query([after.as_rowid()])?;
        while let Some(row) = rows.next()? {
            if batch.entries.len() == limit || bytes >= BATCH_BYTES_MAX {
                batch.at_head = false;
                break;
            }
            let entry = entry(row)?;
            bytes += entry.text_bytes();
            batch.last = Some(IngestSeq::from_rowid(row.get(0)?));
            batch.entries.push(entry);
        }
        Ok(batch)
    }

    /// Calls `each` with whole entries in reverse display order (newest first) until it breaks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn newest_first(
        &self,
        filter: &Filter,
        each: impl FnMut(IngestSeq, Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.entries(
            filter,
            "ORDER BY e.ts DESC, d.device_id DESC, e.entry_id DESC",
            each,
        )
    }

    /// Calls `each` with whole entries in display order (oldest first) until it breaks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn oldest_first(
        &self,
        filter: &Filter,
        each: impl FnMut(IngestSeq, Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.entries(filter, "ORDER BY e.ts, d.device_id, e.entry_id", each)
    }

    fn entries(
        &self,
        filter: &Filter,
        order: &str,
        mut each: impl FnMut(IngestSeq, Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut read = || -> rusqlite::Result<()> {
            let Some((condition, params)) = self.condition(filter)? else {
                return Ok(());
            };
            let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE {condition} {order}");
            let mut query = self.conn.prepare_cached(&sql)?;
            let mut rows = query.query(params_from_iter(params))?;
            while let Some(row) = rows.next()? {
                let seq = IngestSeq::from_rowid(row.get(0)?);
                if each(seq, entry(row)?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|err| self.err(err))
    }

    /// The filter as a condition on `entries e`; `None` when nothing can match.
    ///
    /// Names are resolved to their small integers first. The unary `+` keeps SQLite from leaving
    /// the index that gives the order for one that would need a sort of everything.
    fn condition(&self, filter: &Filter) -> rusqlite::Result<Option<(String, Vec<SqlValue>)>> {
        let mut parts = vec!["1".to_owned()];
        let mut params: Vec<SqlValue> = Vec::new();
        let ids = [
            (
                "e.device",
                "SELECT id FROM devices WHERE device_id = ?1",
                text(&filter.device_id),
            ),
            (
                "e.context",
                "SELECT id FROM contexts WHERE hostname = ?1",
                text(&filter.hostname),
            ),
            (
                "e.session",
                "SELECT id FROM sessions WHERE session = ?1",
                text(&filter.session),
            ),
            (
                "e.dir",
                "SELECT id FROM dirs WHERE path = ?1",
                filter.cwd.as_ref().map(|cwd| SqlValue::Blob(cwd.to_vec())),
            ),
        ];
        for (column, sql, wanted) in ids {
            let Some(wanted) = wanted else { continue };
            let found: Vec<i64> = self
                .conn
                .prepare_cached(sql)?
                .query_map([wanted], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            if found.is_empty() {
                return Ok(None);
            }
            let list: Vec<String> = found.iter().map(i64::to_string).collect();
            parts.push(format!("+{column} IN ({})", list.join(", ")));
        }
        match filter.exit {
            None => {}
            Some(ExitFilter::Ok) => parts.push("e.exit_code = 0".to_owned()),
            Some(ExitFilter::Fail) => parts.push("e.exit_code <> 0".to_owned()),
            Some(ExitFilter::Code(code)) => {
                parts.push("e.exit_code = ?".to_owned());
                params.push(code.into());
            }
        }
        for (bound, sql) in [(filter.since, "e.ts >= ?"), (filter.until, "e.ts < ?")] {
            if let Some(at) = bound {
                parts.push(sql.to_owned());
                params.push(at.as_micros().into());
            }
        }
        Ok(Some((parts.join(" AND "), params)))
    }
}

fn text(wanted: &Option<String>) -> Option<SqlValue> {
    wanted.clone().map(SqlValue::Text)
}

pub(crate) fn head(conn: &Connection) -> rusqlite::Result<IngestSeq> {
    // Not the counter of AUTOINCREMENT: that one also moves for inserts that were ignored.
    let head: Option<i64> =
        conn.query_row("SELECT max(ingest_seq) FROM entries", [], |row| row.get(0))?;
    Ok(IngestSeq::from_rowid(head.unwrap_or(0)))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        id: EntryId::from_bytes(row.get(1)?),
        ts: Timestamp::from_micros(row.get(2)?).unwrap_or_default(),
        device_id: row.get(3)?,
        user_id: row.get(4)?,
        hostname: row.get(5)?,
        shell: row.get(6)?,
        version: row.get(7)?,
        cwd: bytes(row.get_ref(8)?).into(),
        session: row.get(9)?,
        device_seq: row.get::<_, Option<i64>>(10)?.map(i64::cast_unsigned),
        exit_code: row.get(11)?,
        duration_ms: row.get::<_, Option<i64>>(12)?.map(i64::cast_unsigned),
        cmd: bytes(row.get_ref(13)?).into(),
        extra: row
            .get::<_, Option<String>>(14)?
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default(),
    })
}

/// The entry, if every field of it decodes. What is read for a peer, or to be compared, is the
/// entry as it was stored or none; people are shown what can be made out of it ([`entry`]).
pub(crate) fn exact(row: &Row<'_>) -> Option<Entry> {
    let is_text = |column| {
        matches!(
            row.get_ref(column),
            Ok(ValueRef::Text(_) | ValueRef::Blob(_))
        )
    };
    Timestamp::from_micros(row.get(2).ok()?)?;
    if let Some(json) = row.get::<_, Option<String>>(14).ok()? {
        serde_json::from_str::<Extra>(&json).ok()?;
    }
    (is_text(8) && is_text(13)).then(|| entry(row).ok())?
}

pub(crate) fn bytes(value: ValueRef<'_>) -> &BStr {
    BStr::new(match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        _ => b"",
    })
}
