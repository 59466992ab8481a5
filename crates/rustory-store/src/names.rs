//! Whole entries from the rows of `entries` alone: the texts that repeat are looked up once for each
//! walk and not once a row, which is what joining them costs.

use bstr::BString;
use hashbrown::HashMap;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row};
use rustory_core::{Entry, EntryId, Extra, Timestamp};

use crate::read::bytes;

/// What [`Names::entry`] reads, in this order.
pub(crate) const OWN_COLUMNS: &str = "ingest_seq, entry_id, ts, device, context, dir, session,
    device_seq, exit_code, duration_ms, cmd, extra";

/// Texts by their small integers, as far as they were needed. `None`: there is none.
pub(crate) struct Names<'a> {
    conn: &'a Connection,
    devices: HashMap<i64, Option<String>>,
    contexts: HashMap<i64, Option<[String; 4]>>,
    dirs: HashMap<i64, Option<BString>>,
    sessions: HashMap<i64, Option<String>>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(conn: &'a Connection) -> Names<'a> {
        Names {
            conn,
            devices: HashMap::new(),
            contexts: HashMap::new(),
            dirs: HashMap::new(),
            sessions: HashMap::new(),
        }
    }

    /// The entry of a row, if every field of it decodes; as `read::exact`, but without a join.
    pub(crate) fn entry(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<Entry>> {
        let (Some(device), Some(context), Some(dir), Some(session)) = (
            self.device(row)?,
            self.context(row)?,
            self.dir(row)?,
            self.session(row)?,
        ) else {
            return Ok(None);
        };
        let [user_id, hostname, shell, version] = context;
        let own = || -> Option<Entry> {
            let cmd = match row.get_ref(10).ok()? {
                cmd @ (ValueRef::Text(_) | ValueRef::Blob(_)) => bytes(cmd).into(),
                _ => return None,
            };
            Some(Entry {
                id: EntryId::from_bytes(row.get(1).ok()?),
                device_id: device,
                user_id,
                ts: Timestamp::from_micros(row.get(2).ok()?)?,
                cmd,
                cwd: dir,
                exit_code: row.get(8).ok()?,
                duration_ms: row.get::<_, Option<i64>>(9).ok()?.map(i64::cast_unsigned),
                shell,
                hostname,
                version,
                device_seq: row.get::<_, Option<i64>>(7).ok()?.map(i64::cast_unsigned),
                session,
                extra: extra(row)?,
            })
        };
        Ok(own())
    }

    fn device(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<String>> {
        let sql = "SELECT device_id FROM devices WHERE id = ?1";
        named(self.conn, &mut self.devices, row, 3, sql, |row| row.get(0))
    }

    fn context(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<[String; 4]>> {
        let sql = "SELECT user_id, hostname, shell, version FROM contexts WHERE id = ?1";
        named(self.conn, &mut self.contexts, row, 4, sql, |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
        })
    }

    fn dir(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<BString>> {
        let sql = "SELECT path FROM dirs WHERE id = ?1";
        named(self.conn, &mut self.dirs, row, 5, sql, |row| {
            match row.get_ref(0)? {
                path @ (ValueRef::Text(_) | ValueRef::Blob(_)) => Ok(bytes(path).into()),
                other => Err(rusqlite::Error::InvalidColumnType(
                    0,
                    "path".to_owned(),
                    other.data_type(),
                )),
            }
        })
    }

    fn session(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<String>> {
        let sql = "SELECT session FROM sessions WHERE id = ?1";
        named(self.conn, &mut self.sessions, row, 6, sql, |row| row.get(0))
    }
}

fn extra(row: &Row<'_>) -> Option<Extra> {
    match row.get::<_, Option<String>>(11).ok()? {
        None => Some(Extra::new()),
        Some(json) => serde_json::from_str(&json).ok(),
    }
}

/// The text that a row's column names. `None`: there is none, or it does not decode.
fn named<T: Clone>(
    conn: &Connection,
    known: &mut HashMap<i64, Option<T>>,
    row: &Row<'_>,
    column: usize,
    sql: &str,
    decode: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let ValueRef::Integer(id) = row.get_ref(column)? else {
        return Ok(None);
    };
    if let Some(found) = known.get(&id) {
        return Ok(found.clone());
    }
    let found = conn
        .prepare_cached(sql)?
        .query_row([id], |row| Ok(decode(row).ok()))
        .optional()?
        .flatten();
    known.insert(id, found.clone());
    Ok(found)
}
