//! The log as a sync session sees it: [`Log`] for [`Store`].
//!
//! Every write is one `BEGIN IMMEDIATE` transaction, every answer one snapshot. A row that does
//! not decode is passed over and never an error: it must not hold back those behind it.

use std::time::SystemTime;

use hashbrown::HashMap;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, params};
use rustory_core::sync::{
    Batched, Claim, Compared, Have, HaveWhat, Item, ItemSet, Items, Known, Log, LogFailure,
    LogIdentity, Origin, Piece, Stored, Summary,
};
use rustory_core::{Entry, EntryId, IngestSeq, LogId, Tally, Timestamp};

use crate::error::StoreError;
use crate::names::{Names, OWN_COLUMNS};
use crate::open::Store;
use crate::peers::read_cursor;
use crate::read::{COLUMNS, FROM_ANY, exact, head};
use crate::tally::{self, Counted, blob, walk};
use crate::write::Writer;

impl Store {
    /// Head, tallies and what is there of each origin, in one snapshot: a few rows, however long
    /// the log is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn summary(&self) -> Result<Summary, StoreError> {
        self.snapshot(summary)
    }

    /// How far the logs of peers are read, and what was found when they were compared.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn known(&self) -> Result<Vec<Known>, StoreError> {
        let peers = self.peers()?.into_iter().filter_map(|peer| {
            Some(Known {
                peer: peer.device_id.unwrap_or(peer.peer),
                cursor: peer.cursor?,
                compared: peer.compared.map(|comparison| comparison.compared),
            })
        });
        Ok(peers.collect())
    }

    /// The rows of these origins, or of all, read and hashed afresh. 40 bytes an entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn items(&self, origins: Option<&[String]>) -> Result<Items, StoreError> {
        self.snapshot(|conn| items(conn, origins))
    }

    /// Counts these origins anew from their rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn recount(&mut self, origins: &[String]) -> Result<(), StoreError> {
        self.write(|writer| writer.recount(origins))
    }

    /// Runs `work` on one state of the log.
    pub(crate) fn snapshot<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.conn
            .unchecked_transaction()
            .and_then(|tx| work(&tx))
            .map_err(|err| self.err(err))
    }
}

impl Log for Store {
    type Error = StoreError;

    fn summary(&mut self) -> Result<Summary, StoreError> {
        Store::summary(self)
    }

    fn known(&mut self) -> Result<Vec<Known>, StoreError> {
        Store::known(self)
    }

    fn store_many(&mut self, batches: &[Batched]) -> Result<Vec<Stored>, StoreError> {
        self.write(|writer| {
            batches
                .iter()
                .map(|batch| writer.deliver(&batch.peer, &batch.entries, batch.claim))
                .collect()
        })
    }

    fn read(
        &mut self,
        after: IngestSeq,
        until: IngestSeq,
        have: &[Have],
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Piece, StoreError> {
        self.snapshot(|conn| read(conn, after, until, have, Room::new(entries_max, bytes_max)))
    }

    fn news(
        &mut self,
        after: IngestSeq,
        others: &[String],
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Piece, StoreError> {
        let own = &self.identity().device_id;
        let room = Room::new(entries_max, bytes_max);
        self.snapshot(|conn| news(conn, own, others, after, room))
    }

    fn read_ids(
        &mut self,
        ids: &[EntryId],
        bytes_max: usize,
    ) -> Result<(Vec<Entry>, usize), StoreError> {
        self.snapshot(|conn| read_ids(conn, ids, bytes_max))
    }

    fn store(
        &mut self,
        peer: &str,
        entries: &[Entry],
        claim: Option<Claim>,
    ) -> Result<Stored, StoreError> {
        if entries.is_empty() && claim.is_none() {
            return Ok(Stored::default());
        }
        self.write(|writer| writer.deliver(peer, entries, claim))
    }

    fn repair(&mut self, entries: &[Entry], recount: &[String]) -> Result<Stored, StoreError> {
        self.write(|writer| {
            let mut stored = Stored::default();
            for entry in entries {
                match writer.put(entry)? {
                    true => stored.inserted += 1,
                    false => stored.ignored += 1,
                }
            }
            writer.recount(recount)?;
            Ok(stored)
        })
    }

    fn forget_cursor(&mut self, peer: &str, log_id: LogId) -> Result<(), StoreError> {
        self.write(|writer| writer.forget_cursor(peer, log_id))
    }

    fn compared(
        &mut self,
        peer: &str,
        log_id: LogId,
        compared: Compared,
    ) -> Result<(), StoreError> {
        self.write(|writer| writer.compared(peer, log_id, compared))
    }

    fn items(&mut self, origins: Option<&[String]>) -> Result<Items, StoreError> {
        Store::items(self, origins)
    }

    fn take_new_identity(&mut self) -> Result<LogIdentity, StoreError> {
        Store::take_new_identity(self)
    }
}

impl LogFailure for StoreError {
    fn is_transient(&self) -> bool {
        StoreError::is_transient(self)
    }
}

impl Writer<'_> {
    /// Entries and the cursor that covers them.
    fn deliver(
        &mut self,
        peer: &str,
        entries: &[Entry],
        claim: Option<Claim>,
    ) -> Result<Stored, StoreError> {
        let count = self.insert_all(entries)?;
        if let Some(claim) = claim {
            self.cover(peer, claim)?;
        }
        Ok(Stored {
            inserted: count.inserted,
            ignored: count.ignored,
        })
    }

    /// Moves the peer's cursor as far as `claim` allows.
    fn cover(&self, peer: &str, claim: Claim) -> Result<(), StoreError> {
        let before = self.run(|tx| read_cursor(tx, peer))?;
        let after = claim.cursor_after(before);
        let Some(to) = after.filter(|_| after != before) else {
            return Ok(());
        };
        self.run(|tx| {
            tx.prepare_cached(include_str!("sql/move_cursor.sql"))?
                .execute(params![peer, &to.log_id.as_bytes()[..], to.seq.as_rowid()])
        })?;
        Ok(())
    }

    /// Begins a peer's log anew; what is read again is told by its ids.
    pub(crate) fn forget_cursor(&self, peer: &str, log_id: LogId) -> Result<(), StoreError> {
        self.run(|tx| {
            tx.prepare_cached(include_str!("sql/forget_cursor.sql"))?
                .execute(params![peer, &log_id.as_bytes()[..]])
        })?;
        Ok(())
    }

    fn compared(
        &mut self,
        peer: &str,
        log_id: LogId,
        compared: Compared,
    ) -> Result<(), StoreError> {
        if compared.identical() {
            // Everything in its log up to there is here.
            let claim = Claim {
                log_id,
                after: IngestSeq::ZERO,
                last: compared.their_head,
            };
            self.cover(peer, claim)?;
        }
        self.run(|tx| {
            tx.prepare_cached(include_str!("sql/compared.sql"))?
                .execute(params![
                    peer,
                    &log_id.as_bytes()[..],
                    compared.their_head.as_rowid(),
                    clock().as_micros(),
                    compared.ours.count.cast_signed(),
                    blob(compared.ours.digest),
                    compared.theirs.count.cast_signed(),
                    blob(compared.theirs.digest),
                ])
        })?;
        Ok(())
    }
}

/// The wall clock, for what people are shown. Nothing is decided by it.
fn clock() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_micros())
        .ok()
        .and_then(Timestamp::from_micros)
        .unwrap_or_default()
}

/// The small integer of a device; `None`: it is not known here.
pub(crate) fn device(conn: &Connection, device_id: &str) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT id FROM devices WHERE device_id = ?1")?
        .query_row([device_id], |row| row.get(0))
        .optional()
}

fn summary(conn: &Connection) -> rusqlite::Result<Summary> {
    if crate::migrations::version(conn)? < 2 {
        return summary_of_rows(conn);
    }
    let sql = "SELECT d.device_id, coalesce(r.last, 0), d.count, d.digest FROM devices d
               LEFT JOIN runs r ON r.device = d.id AND r.first = 1
               WHERE d.count <> 0 ORDER BY d.device_id";
    let origin = |row: &rusqlite::Row<'_>| {
        Ok(Origin {
            device_id: row.get(0)?,
            through: row.get::<_, i64>(1)?.cast_unsigned(),
            tally: tally::tally(row, 2)?,
        })
    };
    Ok(Summary {
        head: head(conn)?,
        origins: conn
            .prepare_cached(sql)?
            .query_map([], origin)?
            .collect::<rusqlite::Result<_>>()?,
    })
}

/// Of a database on a disk that can't be written, and so not be brought up to date either.
fn summary_of_rows(conn: &Connection) -> rusqlite::Result<Summary> {
    let mut found = std::collections::BTreeMap::<String, Counted>::new();
    walk(conn, None, |row| {
        if let Some(entry) = row.entry {
            let hash = entry.content_hash();
            let counted = found.entry(entry.device_id.clone()).or_default();
            counted.add(row.at, &entry, hash);
        }
    })?;
    let origins = found.into_iter().map(|(device_id, counted)| Origin {
        device_id,
        through: counted.runs.through(),
        tally: counted.tally,
    });
    Ok(Summary {
        head: head(conn)?,
        origins: origins.collect(),
    })
}

/// How much a piece may hold. It always holds one entry.
#[derive(Clone, Copy)]
struct Room {
    entries: usize,
    bytes: usize,
    is_fresh: bool,
}

impl Room {
    fn new(entries: usize, bytes: usize) -> Room {
        Room {
            entries: entries.max(1),
            bytes,
            is_fresh: true,
        }
    }

    /// Whether another one of so many bytes fits, and then it is taken in.
    fn take(&mut self, bytes: usize) -> bool {
        if self.entries == 0 || (bytes > self.bytes && !self.is_fresh) {
            return false;
        }
        self.entries -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_fresh = false;
        true
    }
}

/// Which entries a reader has, by the small integers of their devices.
struct Skip(HashMap<i64, HaveWhat>);

impl Skip {
    fn new(conn: &Connection, have: &[Have]) -> rusqlite::Result<Skip> {
        let mut known = HashMap::with_capacity(have.len());
        for have in have {
            if let Some(device) = device(conn, &have.device_id)? {
                known.insert(device, have.what);
            }
        }
        Ok(Skip(known))
    }

    fn skips(&self, device: i64, seq: Option<i64>) -> bool {
        match self.0.get(&device) {
            None => false,
            Some(HaveWhat::Everything) => true,
            Some(HaveWhat::Through(through)) => {
                seq.is_some_and(|seq| seq > 0 && seq.cast_unsigned() <= *through)
            }
        }
    }
}

fn integer(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<i64>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(value) => Some(value),
        _ => None,
    })
}

/// Skips what the reader has before anything of a row but its small columns is looked at.
fn read(
    conn: &Connection,
    after: IngestSeq,
    until: IngestSeq,
    have: &[Have],
    mut room: Room,
) -> rusqlite::Result<Piece> {
    let skip = Skip::new(conn, have)?;
    let mut piece = Piece {
        last: after,
        ..Piece::default()
    };
    let sql = format!(
        "SELECT {OWN_COLUMNS} FROM entries
         WHERE ingest_seq > ?1 AND ingest_seq <= ?2 ORDER BY ingest_seq"
    );
    let mut names = Names::new(conn);
    let mut query = conn.prepare_cached(&sql)?;
    let mut rows = query.query([after.as_rowid(), until.as_rowid()])?;
    while let Some(row) = rows.next()? {
        if !skip.skips(integer(row, 3)?.unwrap_or(0), integer(row, 7)?)
            && let Some(entry) = names.entry(row)?
        {
            if !room.take(entry.text_bytes()) {
                return Ok(piece);
            }
            piece.entries.push(entry);
        }
        piece.last = IngestSeq::from_rowid(row.get(0)?);
    }
    piece.last = after.max(until);
    piece.at_end = true;
    Ok(piece)
}

fn news(
    conn: &Connection,
    own: &str,
    others: &[String],
    after: IngestSeq,
    mut room: Room,
) -> rusqlite::Result<Piece> {
    let mut piece = Piece {
        last: after,
        ..Piece::default()
    };
    let mut whose = Vec::with_capacity(1 + others.len());
    for device_id in std::iter::once(own).chain(others.iter().map(String::as_str)) {
        // A device without entries has no number yet, and none has 0.
        whose.push(device(conn, device_id)?.unwrap_or(0));
    }
    let mut by_place = ByPlace::new(conn)?;
    for at in places_of(conn, &whose, after, room.entries)? {
        let entry = by_place.entry(at)?;
        if !room.take(entry.as_ref().map_or(0, Entry::text_bytes)) {
            return Ok(piece);
        }
        piece.entries.extend(entry);
        piece.last = IngestSeq::from_rowid(at);
    }
    piece.last = after.max(head(conn)?);
    piece.at_end = !has_others(conn, &whose, after)?;
    Ok(piece)
}

/// Where the entries of these devices are, in the log's order: one more than `entries_max` at most.
fn places_of(
    conn: &Connection,
    whose: &[i64],
    after: IngestSeq,
    entries_max: usize,
) -> rusqlite::Result<Vec<i64>> {
    let mut query = conn.prepare_cached(
        "SELECT ingest_seq FROM entries WHERE device = ?1 AND ingest_seq > ?2
         ORDER BY ingest_seq LIMIT ?3",
    )?;
    let limit = i64::try_from(entries_max.saturating_add(1)).unwrap_or(i64::MAX);
    let mut places = Vec::new();
    for device in whose {
        let rows = query.query_map(params![device, after.as_rowid(), limit], |row| row.get(0))?;
        for at in rows {
            places.push(at?);
        }
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

/// Whether there is an entry of anybody else. Ends at the first one, so it looks at no more rows
/// than are sent.
fn has_others(conn: &Connection, whose: &[i64], after: IngestSeq) -> rusqlite::Result<bool> {
    let mut query = conn
        .prepare_cached("SELECT device FROM entries WHERE ingest_seq > ?1 ORDER BY ingest_seq")?;
    let mut rows = query.query([after.as_rowid()])?;
    while let Some(row) = rows.next()? {
        if !whose.contains(&row.get(0)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks up whole entries by their place.
struct ByPlace<'a>(rusqlite::CachedStatement<'a>);

impl<'a> ByPlace<'a> {
    fn new(conn: &'a Connection) -> rusqlite::Result<ByPlace<'a>> {
        let sql = format!("SELECT {COLUMNS} FROM {FROM_ANY} WHERE e.ingest_seq = ?1");
        conn.prepare_cached(&sql).map(ByPlace)
    }

    /// `None`: it does not decode.
    fn entry(&mut self, at: i64) -> rusqlite::Result<Option<Entry>> {
        let found = self.0.query_row([at], |row| Ok(exact(row))).optional()?;
        Ok(found.flatten())
    }
}

fn read_ids(
    conn: &Connection,
    ids: &[EntryId],
    bytes_max: usize,
) -> rusqlite::Result<(Vec<Entry>, usize)> {
    let mut room = Room::new(ids.len(), bytes_max);
    let mut entries = Vec::new();
    let sql = format!("SELECT {COLUMNS} FROM {FROM_ANY} WHERE e.entry_id = ?1");
    let mut query = conn.prepare_cached(&sql)?;
    for (looked_up, id) in ids.iter().enumerate() {
        let found = query
            .query_row([&id.as_bytes()[..]], |row| Ok(exact(row)))
            .optional()?;
        if let Some(entry) = found.flatten() {
            if !room.take(entry.text_bytes()) {
                return Ok((entries, looked_up));
            }
            entries.push(entry);
        }
    }
    Ok((entries, ids.len()))
}

fn items(conn: &Connection, origins: Option<&[String]>) -> rusqlite::Result<Items> {
    let devices = stored_tallies(conn, origins)?;
    let only: Option<Vec<i64>> = origins.map(|_| devices.iter().map(|d| d.id).collect());
    let rows = tally::rows_of(conn, only.as_deref())?;
    let mut set = ItemSet::with_capacity(usize::try_from(rows).unwrap_or(0));
    let mut found: HashMap<i64, Tally> = HashMap::new();
    walk(conn, only.as_deref(), |row| {
        let Some(entry) = row.entry else { return };
        let hash = entry.content_hash();
        found.entry(row.device).or_default().add(hash);
        set.push(Item {
            ts: entry.ts.as_micros(),
            id: entry.id,
            hash,
        });
    })?;
    let damaged = devices.into_iter().filter(|device| {
        let found = found.get(&device.id).copied().unwrap_or_default();
        found != device.tally
    });
    Ok(Items {
        set,
        damaged: damaged.map(|device| device.device_id).collect(),
    })
}

pub(crate) struct StoredTally {
    pub(crate) id: i64,
    pub(crate) device_id: String,
    pub(crate) tally: Tally,
}

/// What is counted of these origins, or of all. Those that are not known here are left out.
pub(crate) fn stored_tallies(
    conn: &Connection,
    origins: Option<&[String]>,
) -> rusqlite::Result<Vec<StoredTally>> {
    let mut query =
        conn.prepare_cached("SELECT id, device_id, count, digest FROM devices ORDER BY device_id")?;
    let all = query.query_map([], |row| {
        Ok(StoredTally {
            id: row.get(0)?,
            device_id: row.get(1)?,
            tally: tally::tally(row, 2)?,
        })
    })?;
    let wanted: Option<std::collections::HashSet<&String>> =
        origins.map(|origins| origins.iter().collect());
    all.filter(|device| match (device, &wanted) {
        (Ok(device), Some(wanted)) => wanted.contains(&device.device_id),
        _ => true,
    })
    .collect()
}
