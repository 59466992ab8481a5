//! Writing: one `BEGIN IMMEDIATE` transaction at a time, with everything that belongs together.

use bstr::{BStr, ByteSlice as _};
use hashbrown::{HashMap, HashSet};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use rustory_core::{Entry, EntryId, IngestSeq};

use crate::error::StoreError;
use crate::open::Store;
use crate::read::{COLUMNS, FROM, FROM_ANY, exact};
use crate::rows::{self, ROWS_AT_ONCE, Row};
use crate::tally::Changes;

/// What became of an entry of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Stored, at this place and with this number in our own count.
    New(IngestSeq, u64),
    /// An entry with its id is there already.
    Known,
}

/// How many of a batch were new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Stored now.
    pub inserted: u64,
    /// There already, by entry id.
    pub ignored: u64,
}

impl Store {
    /// Runs `work` in one transaction that holds the write lock from its start.
    ///
    /// # Errors
    /// Whatever `work` returns, and then nothing of it remains; [`StoreError::Busy`] when another
    /// process kept the lock for longer than the busy budget.
    pub fn write<T, E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = self.path.clone();
        let device_id = self.identity().device_id.clone();
        let sql = |err| StoreError::sqlite(&path, err);
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sql)?;
        let mut writer = Writer {
            path: &path,
            own_id: &device_id,
            tx,
            own: None,
            ids: Ids::default(),
            changes: Changes::default(),
        };
        let value = work(&mut writer)?;
        writer.finish().map_err(sql)?;
        Ok(value)
    }

    /// Inserts entries of other devices, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; then none of them is stored.
    pub fn insert(&mut self, entries: &[Entry]) -> Result<Inserted, StoreError> {
        self.write(|writer| writer.insert_all(entries))
    }
}

/// One write transaction.
#[derive(Debug)]
pub struct Writer<'a> {
    path: &'a std::path::Path,
    own_id: &'a str,
    tx: Transaction<'a>,
    /// Our own device's row and the last number it gave out, once needed.
    own: Option<(i64, u64)>,
    ids: Ids,
    changes: Changes,
}

/// Small integers for repeated texts, remembered for the length of one transaction.
#[derive(Debug, Default)]
struct Ids {
    devices: HashMap<String, i64>,
    contexts: HashMap<[String; 4], i64>,
    dirs: HashMap<Vec<u8>, i64>,
    sessions: HashMap<String, i64>,
}

/// The four texts of a context, to look one up without a copy of them.
#[derive(Hash)]
struct ContextKey<'a>([&'a str; 4]);

impl hashbrown::Equivalent<[String; 4]> for ContextKey<'_> {
    fn equivalent(&self, key: &[String; 4]) -> bool {
        self.0 == *key
    }
}

impl Writer<'_> {
    /// Appends an entry of this device: `device_id` and `device_seq` are set here.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is then to be given up.
    pub fn append(&mut self, entry: &Entry) -> Result<Appended, StoreError> {
        let (_, last) = self.own_device()?;
        let seq = last + 1;
        let mut entry = entry.clone();
        entry.device_id = self.own_id.to_owned();
        entry.device_seq = Some(seq);
        let row = self.row(&entry)?;
        Ok(match self.put_row(&row)? {
            Some(at) => Appended::New(IngestSeq::from_rowid(at), seq),
            None => Appended::Known,
        })
    }

    /// Inserts an entry of any device as it came. `false`: nothing changed.
    ///
    /// Two different entries under one id are a bug or a lie. Everywhere the one whose hash is
    /// smaller stays, whichever came first; replacing moves it to the head of our log, so that it
    /// travels on. [`Store::conflicts`] counts them.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is then to be given up.
    pub fn insert(&mut self, entry: &Entry) -> Result<bool, StoreError> {
        let row = self.row(entry)?;
        if self.put_row(&row)?.is_some() {
            return Ok(true);
        }
        Ok(self.replace_row(&row)?.is_some())
    }

    /// Puts an entry in the place of the one with its id, whatever that says, at the head of the
    /// log, and has the devices concerned counted anew. `false`: it is there just so.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is then to be given up.
    pub(crate) fn put(&mut self, entry: &Entry) -> Result<bool, StoreError> {
        let stored = self.run(|tx| stored(tx, entry.id))?;
        if let Some(stored) = stored {
            if stored.entry.as_ref() == Some(entry) {
                return Ok(false);
            }
            self.delete(stored.at)?;
            self.changes.recount(stored.device);
        }
        self.delete_renamed(entry)?;
        let device = self.device(&entry.device_id)?;
        self.insert(entry)?;
        self.changes.recount(device);
        Ok(true)
    }

    /// Deletes the row that says all that `entry` does under another id. Two entries share no
    /// number and no time, so it is the same one with an id that the disk changed.
    fn delete_renamed(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if entry.device_seq.is_none() {
            return Ok(());
        }
        let device = self.device(&entry.device_id)?;
        let sql = format!(
            "SELECT {COLUMNS}, e.device FROM {FROM}
             WHERE e.ts = ?1 AND +e.device = ?2 AND e.device_seq = ?3"
        );
        let seq = entry.device_seq.map(u64::cast_signed);
        let renamed = self.run(|tx| {
            let mut query = tx.prepare_cached(&sql)?;
            let mut rows = query.query(params![entry.ts.as_micros(), device, seq])?;
            let mut renamed = Vec::new();
            while let Some(row) = rows.next()? {
                let same = exact(row).is_some_and(|mut found| {
                    found.id = entry.id;
                    found == *entry
                });
                if same {
                    renamed.push(row.get(0)?);
                }
            }
            Ok(renamed)
        })?;
        renamed.into_iter().try_for_each(|at| self.delete(at))
    }

    /// Counts devices anew from their rows, at the end of this transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn recount(&mut self, device_ids: &[String]) -> Result<(), StoreError> {
        for device_id in device_ids {
            let device = self.run(|tx| crate::sync::device(tx, device_id))?;
            if let Some(device) = device {
                self.changes.recount(device);
            }
        }
        Ok(())
    }

    fn delete(&self, at: i64) -> Result<(), StoreError> {
        self.run(|tx| {
            tx.prepare_cached("DELETE FROM entries WHERE ingest_seq = ?1")?
                .execute([at])
        })?;
        Ok(())
    }

    /// Inserts entries of any devices.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is then to be given up.
    pub fn insert_all(&mut self, entries: &[Entry]) -> Result<Inserted, StoreError> {
        let (many, few) = entries.as_chunks::<ROWS_AT_ONCE>();
        let mut inserted = 0;
        for entries in many {
            inserted += self.insert_many(entries)?;
        }
        for entry in few {
            inserted += u64::from(self.insert(entry)?);
        }
        Ok(Inserted {
            inserted,
            ignored: entries.len() as u64 - inserted,
        })
    }

    /// As [`Writer::insert`] for each, with one statement: what a statement costs by itself is as
    /// much as a row. Returns how many changed something.
    fn insert_many(&mut self, entries: &[Entry; ROWS_AT_ONCE]) -> Result<u64, StoreError> {
        let before = self.head()?.as_rowid();
        let rows = entries.iter().map(|entry| self.row(entry));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        if self.run(|tx| rows::insert_many(tx, &rows))? == rows.len() {
            // Where none is passed over, places follow each other.
            let first = self.tx.last_insert_rowid() + 1 - rows.len() as i64;
            for (row, at) in rows.iter().zip(first..) {
                self.came(row, at)?;
            }
            return Ok(ROWS_AT_ONCE as u64);
        }
        let mut counted = HashSet::new();
        for row in &rows {
            let is_new = |at: &i64| *at > before && !counted.contains(at);
            let at = match self.run(|tx| rows::place(tx, row.entry.id))?.filter(is_new) {
                Some(at) => {
                    self.came(row, at)?;
                    Some(at)
                }
                None => self.replace_row(row)?,
            };
            counted.extend(at);
        }
        Ok(counted.len() as u64)
    }

    /// Puts an entry in the place of another one that has its id, if it is to go. Returns its place.
    fn replace_row(&mut self, row: &Row<'_>) -> Result<Option<i64>, StoreError> {
        match self.replaces(row.entry, row.device)? {
            true => self.put_row(row),
            false => Ok(None),
        }
    }

    /// Makes room for `entry` if another one holds its id and has the larger hash, or is no
    /// longer readable.
    fn replaces(&mut self, entry: &Entry, device: i64) -> Result<bool, StoreError> {
        let Some(stored) = self.run(|tx| stored(tx, entry.id))? else {
            return Ok(true);
        };
        let Some(old) = stored.entry else {
            self.delete(stored.at)?;
            self.changes.recount(stored.device);
            return Ok(true);
        };
        if old == *entry {
            return Ok(false);
        }
        self.run(|tx| {
            tx.prepare_cached(include_str!("sql/count_conflict.sql"))?
                .execute([])
        })?;
        let hash = old.content_hash();
        if hash <= entry.content_hash() {
            return Ok(false);
        }
        self.delete(stored.at)?;
        // A number that comes again with the new one has not gone.
        let same_number = (stored.device, old.device_seq) == (device, entry.device_seq);
        let gone = old.device_seq.filter(|_| !same_number);
        self.changes.went(stored.device, hash, gone);
        Ok(true)
    }

    /// Whether an entry with this id is stored.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn contains(&self, id: rustory_core::EntryId) -> Result<bool, StoreError> {
        self.run(|tx| {
            tx.prepare_cached("SELECT 1 FROM entries WHERE entry_id = ?1")?
                .exists([&id.as_bytes()[..]])
        })
    }

    /// Notes how far a spool file is ingested.
    pub(crate) fn set_spool_consumed(
        &mut self,
        name: &str,
        inode: u64,
        consumed: u64,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO spool_files (name, inode, consumed) VALUES (?1, ?2, ?3)
                   ON CONFLICT (name) DO UPDATE SET inode = ?2, consumed = ?3, done = 0";
        self.run(|tx| {
            tx.prepare_cached(sql)?.execute(params![
                name,
                inode.cast_signed(),
                consumed.cast_signed()
            ])
        })?;
        Ok(())
    }

    /// How far a spool file is ingested; 0 for another file of the same name.
    pub(crate) fn spool_consumed(&self, name: &str, inode: u64) -> Result<u64, StoreError> {
        let sql = "SELECT consumed FROM spool_files WHERE name = ?1 AND inode = ?2";
        self.run(|tx| {
            tx.prepare_cached(sql)?
                .query_row(params![name, inode.cast_signed()], |row| {
                    row.get::<_, i64>(0)
                })
                .optional()
        })
        .map(|consumed| consumed.map_or(0, i64::cast_unsigned))
    }

    /// The last position of the log as this transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn head(&self) -> Result<IngestSeq, StoreError> {
        self.run(crate::read::head)
    }

    pub(crate) fn run<T>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.tx).map_err(|err| StoreError::sqlite(self.path, err))
    }

    fn finish(self) -> rusqlite::Result<()> {
        self.changes.flush(&self.tx)?;
        self.tx.commit()
    }

    pub(crate) fn own_device(&mut self) -> Result<(i64, u64), StoreError> {
        if let Some(own) = self.own {
            return Ok(own);
        }
        let own_id = self.own_id;
        let device = self.device(own_id)?;
        let seq = self.run(|tx| {
            tx.query_row(
                "SELECT seq_max FROM devices WHERE id = ?1",
                [device],
                |row| row.get::<_, i64>(0),
            )
        })?;
        let own = (device, seq.cast_unsigned());
        self.own = Some(own);
        Ok(own)
    }

    /// Inserts an entry and counts it. Returns its place; `None`: its id is taken.
    fn put_row(&mut self, row: &Row<'_>) -> Result<Option<i64>, StoreError> {
        if !self.run(|tx| rows::insert_one(tx, row))? {
            return Ok(None);
        }
        let at = self.tx.last_insert_rowid();
        self.came(row, at)?;
        Ok(Some(at))
    }

    /// Counts a row that is new.
    fn came(&mut self, row: &Row<'_>, at: i64) -> Result<(), StoreError> {
        let Row { entry, device, .. } = *row;
        self.changes
            .came(device, entry.device_seq, entry.content_hash(), at);
        // Our own rows that come back (a recreated database) move our own count on.
        if entry.device_id == self.own_id
            && let Some(seq) = entry.device_seq
        {
            let (_, last) = self.own_device()?;
            self.own = Some((device, last.max(seq)));
        }
        Ok(())
    }

    /// An entry with the small integers of its texts, which are made where there are none.
    fn row<'e>(&mut self, entry: &'e Entry) -> Result<Row<'e>, StoreError> {
        Ok(Row {
            entry,
            device: self.device(&entry.device_id)?,
            context: self.context(entry)?,
            dir: self.dir(entry.cwd.as_ref())?,
            session: self.session(&entry.session)?,
        })
    }

    fn device(&mut self, device_id: &str) -> Result<i64, StoreError> {
        if let Some(&id) = self.ids.devices.get(device_id) {
            return Ok(id);
        }
        let id = self.named(
            "SELECT id FROM devices WHERE device_id = ?1",
            "INSERT INTO devices (device_id) VALUES (?1)",
            [SqlValue::from(device_id.to_owned())],
        )?;
        self.ids.devices.insert(device_id.to_owned(), id);
        Ok(id)
    }

    fn dir(&mut self, path: &BStr) -> Result<i64, StoreError> {
        if let Some(&id) = self.ids.dirs.get(path.as_bytes()) {
            return Ok(id);
        }
        let id = self.named(
            "SELECT id FROM dirs WHERE path = ?1",
            "INSERT INTO dirs (path) VALUES (?1)",
            [SqlValue::from(path.to_vec())],
        )?;
        self.ids.dirs.insert(path.to_vec(), id);
        Ok(id)
    }

    fn session(&mut self, session: &str) -> Result<i64, StoreError> {
        if let Some(&id) = self.ids.sessions.get(session) {
            return Ok(id);
        }
        let id = self.named(
            "SELECT id FROM sessions WHERE session = ?1",
            "INSERT INTO sessions (session) VALUES (?1)",
            [SqlValue::from(session.to_owned())],
        )?;
        self.ids.sessions.insert(session.to_owned(), id);
        Ok(id)
    }

    fn context(&mut self, entry: &Entry) -> Result<i64, StoreError> {
        let key = ContextKey([
            &entry.user_id,
            &entry.hostname,
            &entry.shell,
            &entry.version,
        ]);
        if let Some(&id) = self.ids.contexts.get(&key) {
            return Ok(id);
        }
        let texts = key.0.map(str::to_owned);
        let id = self.named(
            "SELECT id FROM contexts
             WHERE user_id = ?1 AND hostname = ?2 AND shell = ?3 AND version = ?4",
            "INSERT INTO contexts (user_id, hostname, shell, version) VALUES (?1, ?2, ?3, ?4)",
            key.0.map(|text| SqlValue::from(text.to_owned())),
        )?;
        self.ids.contexts.insert(texts, id);
        Ok(id)
    }

    /// The row that holds these texts, made when there is none.
    fn named<const N: usize>(
        &self,
        select: &str,
        insert: &str,
        texts: [SqlValue; N],
    ) -> Result<i64, StoreError> {
        self.run(|tx| {
            let texts = rusqlite::params_from_iter(texts.iter());
            let found = tx
                .prepare_cached(select)?
                .query_row(texts.clone(), |row| row.get(0))
                .optional()?;
            if let Some(id) = found {
                return Ok(id);
            }
            tx.prepare_cached(insert)?.execute(texts)?;
            Ok(tx.last_insert_rowid())
        })
    }
}

/// The row that has an id.
struct StoredRow {
    at: i64,
    device: i64,
    /// `None`: it does not decode.
    entry: Option<Entry>,
}

fn stored(tx: &Connection, id: EntryId) -> rusqlite::Result<Option<StoredRow>> {
    let sql = format!("SELECT {COLUMNS}, e.device FROM {FROM_ANY} WHERE e.entry_id = ?1");
    let row = |row: &rusqlite::Row<'_>| {
        Ok(StoredRow {
            at: row.get(0)?,
            device: row.get(15).unwrap_or(0),
            entry: exact(row),
        })
    };
    tx.prepare_cached(&sql)?
        .query_row([&id.as_bytes()[..]], row)
        .optional()
}
