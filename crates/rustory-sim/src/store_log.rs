//! The real store, SQLite and all, as a simulated device's log. Each one is a file of its own in
//! memory where the machine has a place for that.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use rusqlite::{Connection, params};
use rustory_core::entry::{Entry, EntryId};
use rustory_core::sync::{
    Batched, Claim, Compared, Have, Items, Known, Log, LogIdentity, Piece, Stored, Summary,
};
use rustory_core::{IngestSeq, LogId};
use rustory_store::{Access, Filter, Store, StoreError};
use tempfile::TempDir;

use crate::log::{DeviceLog, Row};

/// A store in a directory that goes with it.
#[derive(Debug)]
pub struct StoreLog {
    store: Store,
    dir: TempDir,
}

impl StoreLog {
    fn open(dir: TempDir) -> StoreLog {
        let store = Store::open(&path(dir.path()), Access::PATIENT, None);
        let store = store.unwrap_or_else(|err| panic!("{err}"));
        let log = StoreLog { store, dir };
        // What a power cut does is the file system's to test.
        log.behind_its_back(|db| db.pragma_update(None, "synchronous", "off"));
        log
    }

    /// Another connection, as a disk that changes things has none.
    fn behind_its_back<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> T {
        let db = Connection::open(path(self.dir.path()));
        db.and_then(|db| work(&db))
            .unwrap_or_else(|err| panic!("{err}"))
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("history.db")
}

fn fresh_dir() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    let made = match in_memory.is_dir() {
        true => TempDir::new_in(in_memory),
        false => TempDir::new(),
    };
    made.unwrap_or_else(|err| panic!("{err}"))
}

impl DeviceLog for StoreLog {
    type Snapshot = Rc<Vec<u8>>;

    fn create(identity: LogIdentity, _: u64) -> StoreLog {
        let mut log = StoreLog::open(fresh_dir());
        log.behind_its_back(|db| {
            let set = "UPDATE meta SET value = ?2 WHERE key = ?1";
            db.execute(set, params!["device_id", identity.device_id])?;
            db.execute(set, params!["log_id", &identity.log_id.as_bytes()[..]])
        });
        let read = log.store.reload_identity();
        read.unwrap_or_else(|err| panic!("{err}"));
        log
    }

    fn restore(snapshot: &Rc<Vec<u8>>, _: u64) -> StoreLog {
        let dir = fresh_dir();
        let written = std::fs::write(path(dir.path()), &**snapshot);
        written.unwrap_or_else(|err| panic!("{err}"));
        StoreLog::open(dir)
    }

    fn snapshot(&mut self) -> Rc<Vec<u8>> {
        self.behind_its_back(|db| {
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, i64>(0)
            })
        });
        let bytes = std::fs::read(path(self.dir.path()));
        Rc::new(bytes.unwrap_or_else(|err| panic!("{err}")))
    }

    fn identity(&self) -> LogIdentity {
        self.store.identity().clone()
    }

    fn append(&mut self, mut entry: Entry, numbered: bool) -> Entry {
        entry.device_id = self.store.identity().device_id.clone();
        entry.device_seq = None;
        let appended = self.store.write(|writer| -> Result<_, StoreError> {
            match numbered {
                true => Ok(Some(writer.append(&entry)?)),
                false => writer.insert(&entry).map(|_| None),
            }
        });
        match appended.unwrap_or_else(|err| panic!("{err}")) {
            Some(rustory_store::Appended::New(_, seq)) => entry.device_seq = Some(seq),
            Some(rustory_store::Appended::Known) => panic!("an id came twice"),
            None => {}
        }
        entry
    }

    fn rows(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        let read = self.store.oldest_first(&Filter::default(), |at, entry| {
            rows.push(Row {
                at: at.get(),
                id: entry.id,
                hash: entry.content_hash(),
                sendable: entry.validate().is_ok(),
            });
            std::ops::ControlFlow::Continue(())
        });
        read.unwrap_or_else(|err| panic!("{err}"));
        rows.sort_by_key(|row| row.at);
        rows
    }

    fn len(&mut self) -> usize {
        let count = self.store.count().unwrap_or_else(|err| panic!("{err}"));
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    fn lose(&mut self, ids: &[EntryId], recounts: bool) {
        self.behind_its_back(|db| {
            for id in ids {
                let delete = "DELETE FROM entries WHERE entry_id = ?1";
                db.execute(delete, [&id.as_bytes()[..]])?;
            }
            Ok(())
        });
        if recounts {
            let origins = self.behind_its_back(|db| {
                let mut query = db.prepare("SELECT device_id FROM devices")?;
                let names = query.query_map([], |row| row.get(0))?;
                names.collect::<rusqlite::Result<Vec<String>>>()
            });
            let counted = self.store.recount(&origins);
            counted.unwrap_or_else(|err| panic!("{err}"));
        }
    }

    fn rot(&mut self, entry: &Entry) {
        self.behind_its_back(|db| {
            db.execute(
                "UPDATE entries SET cmd = ?2, exit_code = ?3 WHERE entry_id = ?1",
                params![&entry.id.as_bytes()[..], &entry.cmd[..], entry.exit_code],
            )
        });
    }
}

/// As the store does it.
impl Log for StoreLog {
    type Error = StoreError;

    fn summary(&mut self) -> Result<Summary, StoreError> {
        Store::summary(&self.store)
    }

    fn known(&mut self) -> Result<Vec<Known>, StoreError> {
        Store::known(&self.store)
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
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Piece, StoreError> {
        self.store.news(after, entries_max, bytes_max)
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

    fn store_many(&mut self, batches: &[Batched]) -> Result<Vec<Stored>, StoreError> {
        self.store.store_many(batches)
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
        Store::items(&self.store, origins)
    }

    fn take_new_identity(&mut self) -> Result<LogIdentity, StoreError> {
        Store::take_new_identity(&mut self.store)
    }
}
