//! The real store as a simulated device's log: SQLite in a directory of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use rusqlite::{Connection, params};
use rustory_core::cursor::{IngestSeq, LogId};
use rustory_core::entry::{Entry, EntryId};
use rustory_core::sync::{
    Claim, Compared, Have, Items, Known, Log, LogIdentity, Piece, Stored, Summary,
};
use rustory_store::{Access, Store, StoreError};
use tempfile::TempDir;

use crate::log::{DeviceLog, Row};

/// A log in SQLite.
#[derive(Debug)]
pub struct StoreLog {
    store: Store,
    /// For what is done behind the store's back.
    conn: Connection,
    // Last, so that it goes last.
    dir: TempDir,
}

impl StoreLog {
    fn open(bytes: Option<&[u8]>) -> StoreLog {
        let shared = PathBuf::from("/dev/shm");
        let root = match shared.is_dir() {
            true => shared,
            false => std::env::temp_dir(),
        };
        let dir = tempfile::Builder::new()
            .prefix("rr-sim-")
            .tempdir_in(root)
            .expect("a directory for a database");
        let path = dir.path().join("history.db");
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).expect("room for a database");
        }
        let store = Store::open(&path, Access::PATIENT, None).expect("a database can be opened");
        let conn = Connection::open(&path).expect("what the store opened can be opened");
        StoreLog { store, conn, dir }
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) {
        self.conn.execute(sql, params).expect("a statement of ours");
    }

    fn entries(&mut self) -> Vec<Entry> {
        let head = self.store.head().expect("a head");
        self.store
            .read(IngestSeq::ZERO, head, &[], usize::MAX, usize::MAX)
            .expect("a log can be read")
            .entries
    }
}

impl DeviceLog for StoreLog {
    type Snapshot = Rc<Vec<u8>>;

    fn create(identity: LogIdentity, _: u64) -> StoreLog {
        let mut log = StoreLog::open(None);
        let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)";
        log.execute(sql, params!["log_id", &identity.log_id.as_bytes()[..]]);
        log.execute(sql, params!["device_id", identity.device_id]);
        log.store.reload_identity().expect("it was just written");
        log
    }

    fn restore(snapshot: &Rc<Vec<u8>>, _: u64) -> StoreLog {
        StoreLog::open(Some(snapshot))
    }

    fn snapshot(&mut self) -> Rc<Vec<u8>> {
        self.conn
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .expect("nobody else writes");
        Rc::new(std::fs::read(self.dir.path().join("history.db")).expect("it is there"))
    }

    fn identity(&self) -> LogIdentity {
        self.store.identity().clone()
    }

    fn append(&mut self, mut entry: Entry, numbered: bool) -> Entry {
        entry.device_id.clone_from(&self.store.identity().device_id);
        let stored = match numbered {
            true => self
                .store
                .write::<_, StoreError>(|writer| writer.append(&entry).map(drop)),
            false => self.store.insert(std::slice::from_ref(&entry)).map(drop),
        };
        stored.expect("an entry can be stored");
        let (found, _) = self
            .store
            .read_ids(&[entry.id], usize::MAX)
            .expect("and read");
        found.into_iter().next().unwrap_or(entry)
    }

    fn rows(&mut self) -> Vec<Row> {
        let entries: BTreeMap<EntryId, Entry> = self
            .entries()
            .into_iter()
            .map(|entry| (entry.id, entry))
            .collect();
        let mut query = self
            .conn
            .prepare_cached("SELECT ingest_seq, entry_id FROM entries ORDER BY ingest_seq")
            .expect("the table is there");
        let rows = query
            .query_map([], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?))
            })
            .expect("it can be read");
        rows.filter_map(|row| {
            let (at, id) = row.ok()?;
            let entry = entries.get(&EntryId::from_bytes(id))?;
            Some(Row {
                at: at.cast_unsigned(),
                id: entry.id,
                hash: entry.content_hash(),
                sendable: entry.validate().is_ok(),
            })
        })
        .collect()
    }

    fn len(&mut self) -> usize {
        self.store.count().map_or(0, |count| count as usize)
    }

    fn lose(&mut self, ids: &[EntryId], recounts: bool) {
        for id in ids {
            let id = &id.as_bytes()[..];
            self.execute("DELETE FROM entries WHERE entry_id = ?1", [id]);
        }
        if recounts {
            let summary = self.store.summary().expect("a summary");
            let origins: Vec<String> = summary
                .origins
                .into_iter()
                .map(|origin| origin.device_id)
                .collect();
            self.store.recount(&origins).expect("rows can be counted");
        }
    }

    fn rot(&mut self, entry: &Entry) {
        let cmd = String::from_utf8_lossy(&entry.cmd);
        let seq = entry.device_seq.map(u64::cast_signed);
        let id = &entry.id.as_bytes()[..];
        self.execute(
            "UPDATE entries SET cmd = ?2, ts = ?3, device_seq = ?4 WHERE entry_id = ?1",
            params![id, cmd, entry.ts.as_micros(), seq],
        );
    }
}

impl Log for StoreLog {
    type Error = StoreError;

    fn summary(&mut self) -> Result<Summary, StoreError> {
        self.store.summary()
    }

    fn known(&mut self) -> Result<Vec<Known>, StoreError> {
        self.store.known()
    }

    fn read(
        &mut self,
        after: IngestSeq,
        until: IngestSeq,
        have: &[Have],
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Piece, StoreError> {
        self.store.read(after, until, have, entries_max, bytes_max)
    }

    fn news(
        &mut self,
        after: IngestSeq,
        others: &[String],
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Piece, StoreError> {
        self.store.news(after, others, entries_max, bytes_max)
    }

    fn read_ids(
        &mut self,
        ids: &[EntryId],
        bytes_max: usize,
    ) -> Result<(Vec<Entry>, usize), StoreError> {
        self.store.read_ids(ids, bytes_max)
    }

    fn store(
        &mut self,
        peer: &str,
        entries: &[Entry],
        claim: Option<Claim>,
    ) -> Result<Stored, StoreError> {
        self.store.store(peer, entries, claim)
    }

    fn repair(&mut self, entries: &[Entry], recount: &[String]) -> Result<Stored, StoreError> {
        self.store.repair(entries, recount)
    }

    fn forget_cursor(&mut self, peer: &str, log_id: LogId) -> Result<(), StoreError> {
        self.store.forget_cursor(peer, log_id)
    }

    fn compared(
        &mut self,
        peer: &str,
        log_id: LogId,
        compared: Compared,
    ) -> Result<(), StoreError> {
        self.store.compared(peer, log_id, compared)
    }

    fn items(&mut self, origins: Option<&[String]>) -> Result<Items, StoreError> {
        self.store.items(origins)
    }

    fn take_new_identity(&mut self) -> Result<LogIdentity, StoreError> {
        self.store.take_new_identity()
    }
}
