//! A log in memory: what the store does, in the fewest words.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound::{Excluded, Included};
use std::rc::Rc;

use rustory_core::cursor::{Cursor, IngestSeq, LogId};
use rustory_core::digest::Tally;
use rustory_core::entry::{Entry, EntryId};
use rustory_core::sync::{
    Claim, Compared, Have, HaveWhat, Item, Items, Known, Log, LogIdentity, Origin, Piece, Stored,
    Summary,
};

use crate::log::{DeviceLog, Row};

/// A log in memory.
#[derive(Clone, Debug)]
pub struct MemLog {
    identity: LogIdentity,
    /// Makes the ids of two copies differ.
    place: u64,
    identities: u64,
    rows: BTreeMap<u64, Kept>,
    by_id: BTreeMap<EntryId, u64>,
    origins: BTreeMap<String, Counted>,
    known: BTreeMap<String, Known>,
    head: u64,
    /// The last number this device gave.
    own_seq: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    entry: Rc<Entry>,
    /// Of the row as it is now.
    hash: u128,
}

/// What was counted of an origin as its entries were stored.
#[derive(Clone, Debug, Default)]
struct Counted {
    tally: Tally,
    /// How many entries carry each number.
    numbers: BTreeMap<u64, u32>,
    through: u64,
}

impl Counted {
    fn add(&mut self, entry: &Entry, hash: u128) {
        self.tally.add(hash);
        if let Some(number) = entry.device_seq {
            *self.numbers.entry(number).or_default() += 1;
        }
        self.rise();
    }

    fn rise(&mut self) {
        while self.numbers.contains_key(&(self.through + 1)) {
            self.through += 1;
        }
    }

    fn remove(&mut self, entry: &Entry, hash: u128) {
        self.tally.remove(hash);
        let Some(number) = entry.device_seq else {
            return;
        };
        if let Some(count) = self.numbers.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.numbers.remove(&number);
                self.through = self.through.min(number - 1);
            }
        }
    }
}

impl MemLog {
    fn insert(&mut self, entry: Entry, hash: u128) {
        self.head += 1;
        self.by_id.insert(entry.id, self.head);
        let counted = self.origins.entry(entry.device_id.clone()).or_default();
        counted.add(&entry, hash);
        if entry.device_id == self.identity.device_id {
            self.own_seq = self.own_seq.max(entry.device_seq.unwrap_or(0));
        }
        let entry = Rc::new(entry);
        self.rows.insert(self.head, Kept { entry, hash });
    }

    /// Takes an entry out as it was counted.
    fn take_out(&mut self, id: EntryId) {
        let Some(at) = self.by_id.remove(&id) else {
            return;
        };
        if let Some(row) = self.rows.remove(&at)
            && let Some(counted) = self.origins.get_mut(&row.entry.device_id)
        {
            counted.remove(&row.entry, row.hash);
            if counted.tally.count == 0 {
                self.origins.remove(&row.entry.device_id);
            }
        }
    }

    fn recount(&mut self, device_id: &str) {
        let mut counted = Counted::default();
        for row in self.rows.values() {
            if row.entry.device_id == device_id {
                counted.add(&row.entry, row.hash);
            }
        }
        match counted.tally.count {
            0 => self.origins.remove(device_id),
            _ => self.origins.insert(device_id.to_owned(), counted),
        };
    }

    fn put(&mut self, entry: &Entry) -> Stored {
        let hash = entry.content_hash();
        let there = self.by_id.get(&entry.id).map(|at| self.rows[at].hash);
        // The smaller hash stays, wherever the two meet.
        if there.is_some_and(|there| there <= hash) {
            return Stored {
                inserted: 0,
                ignored: 1,
            };
        }
        if there.is_some() {
            self.take_out(entry.id);
        }
        self.insert(entry.clone(), hash);
        Stored {
            inserted: 1,
            ignored: 0,
        }
    }
}

fn seq(n: u64) -> IngestSeq {
    IngestSeq::new(n).expect("a small number")
}

impl Log for MemLog {
    type Error = Infallible;

    fn summary(&mut self) -> Result<Summary, Infallible> {
        let origins = self.origins.iter().map(|(device_id, counted)| Origin {
            device_id: device_id.clone(),
            through: counted.through,
            tally: counted.tally,
        });
        Ok(Summary {
            head: seq(self.head),
            origins: origins.collect(),
        })
    }

    fn known(&mut self) -> Result<Vec<Known>, Infallible> {
        Ok(self.known.values().cloned().collect())
    }

    fn read(
        &mut self,
        after: IngestSeq,
        until: IngestSeq,
        have: &[Have],
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Piece, Infallible> {
        let (after, until) = (after.get(), until.get().max(after.get()));
        let mut piece = Piece {
            entries: Vec::new(),
            last: seq(until),
            at_end: true,
        };
        let mut bytes = 0;
        for (at, row) in self.rows.range((Excluded(after), Included(until))) {
            let has = have
                .iter()
                .find(|have| have.device_id == row.entry.device_id);
            let left_out = has.is_some_and(|have| match have.what {
                HaveWhat::Everything => true,
                HaveWhat::Through(through) => {
                    row.entry.device_seq.is_some_and(|number| number <= through)
                }
            });
            if left_out {
                continue;
            }
            if piece.entries.len() >= entries_max || bytes >= bytes_max {
                piece.at_end = false;
                break;
            }
            bytes += row.entry.text_bytes();
            piece.entries.push((*row.entry).clone());
            piece.last = seq(*at);
        }
        if piece.at_end {
            piece.last = seq(until);
        }
        Ok(piece)
    }

    fn news(
        &mut self,
        after: IngestSeq,
        others: &[String],
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Piece, Infallible> {
        let mut bytes = 0;
        let mut piece = Piece {
            entries: Vec::new(),
            last: after.max(seq(self.head)),
            at_end: true,
        };
        for (at, row) in self.rows.range(after.get() + 1..) {
            let device_id = &row.entry.device_id;
            if *device_id != self.identity.device_id && !others.contains(device_id) {
                piece.at_end = false;
                continue;
            }
            bytes += row.entry.text_bytes();
            piece.entries.push((*row.entry).clone());
            if piece.entries.len() == entries_max || bytes >= bytes_max {
                piece.last = seq(*at);
                break;
            }
        }
        Ok(piece)
    }

    fn read_ids(
        &mut self,
        ids: &[EntryId],
        bytes_max: usize,
    ) -> Result<(Vec<Entry>, usize), Infallible> {
        let (mut entries, mut bytes, mut looked_up) = (Vec::new(), 0, 0);
        for id in ids {
            if bytes >= bytes_max {
                break;
            }
            looked_up += 1;
            if let Some(at) = self.by_id.get(id) {
                let entry = &self.rows[at].entry;
                bytes += entry.text_bytes();
                entries.push((**entry).clone());
            }
        }
        Ok((entries, looked_up))
    }

    fn store(
        &mut self,
        peer: &str,
        entries: &[Entry],
        claim: Option<Claim>,
    ) -> Result<Stored, Infallible> {
        let mut all = Stored::default();
        for entry in entries {
            let stored = self.put(entry);
            all.inserted += stored.inserted;
            all.ignored += stored.ignored;
        }
        if let Some(claim) = claim {
            let known = self.known.get(peer);
            let before = known.map(|known| known.cursor);
            if let Some(cursor) = claim.cursor_after(before) {
                let same_log = before.is_some_and(|before| before.log_id == cursor.log_id);
                let compared = known.filter(|_| same_log).and_then(|known| known.compared);
                let peer = peer.to_owned();
                let known = Known {
                    peer: peer.clone(),
                    cursor,
                    compared,
                };
                self.known.insert(peer, known);
            }
        }
        Ok(all)
    }

    fn repair(&mut self, entries: &[Entry], recount: &[String]) -> Result<Stored, Infallible> {
        let mut stored = Stored::default();
        let mut touched: Vec<String> = recount.to_vec();
        for entry in entries {
            let hash = entry.content_hash();
            touched.push(entry.device_id.clone());
            match self.by_id.get(&entry.id) {
                Some(at) => {
                    let row = self.rows.get_mut(at).expect("both list the same rows");
                    touched.push(row.entry.device_id.clone());
                    stored.inserted += u64::from(row.hash != hash);
                    stored.ignored += u64::from(row.hash == hash);
                    row.entry = Rc::new(entry.clone());
                    row.hash = hash;
                }
                None => {
                    self.insert(entry.clone(), hash);
                    stored.inserted += 1;
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for origin in touched {
            self.recount(&origin);
        }
        Ok(stored)
    }

    fn forget_cursor(&mut self, peer: &str, _: LogId) -> Result<(), Infallible> {
        self.known.remove(peer);
        Ok(())
    }

    fn compared(
        &mut self,
        peer: &str,
        log_id: LogId,
        compared: Compared,
    ) -> Result<(), Infallible> {
        let there = Cursor {
            log_id,
            seq: compared.their_head,
        };
        let before = self.known.get(peer).map(|known| known.cursor);
        let cursor = match before {
            Some(cursor) if cursor.log_id == log_id => match compared.identical() {
                true if there.seq > cursor.seq => there,
                _ => cursor,
            },
            _ if compared.identical() => there,
            _ => Cursor {
                log_id,
                seq: IngestSeq::ZERO,
            },
        };
        let known = Known {
            peer: peer.to_owned(),
            cursor,
            compared: Some(compared),
        };
        self.known.insert(peer.to_owned(), known);
        Ok(())
    }

    fn items(&mut self, origins: Option<&[String]>) -> Result<Items, Infallible> {
        let wanted = |device_id: &String| origins.is_none_or(|origins| origins.contains(device_id));
        let mut items = Items::default();
        let mut tallies: BTreeMap<&String, Tally> = BTreeMap::new();
        for row in self.rows.values() {
            if wanted(&row.entry.device_id) {
                items.set.push(Item {
                    ts: row.entry.ts.as_micros(),
                    id: row.entry.id,
                    hash: row.hash,
                });
                tallies
                    .entry(&row.entry.device_id)
                    .or_default()
                    .add(row.hash);
            }
        }
        let counted = self.origins.iter().filter(|(name, _)| wanted(name));
        let mut damaged: Vec<String> = counted
            .filter(|(name, counted)| tallies.get(name).copied() != Some(counted.tally))
            .map(|(name, _)| name.clone())
            .collect();
        let uncounted = tallies
            .keys()
            .filter(|name| !self.origins.contains_key(**name));
        damaged.extend(uncounted.map(|name| (*name).clone()));
        items.damaged = damaged;
        Ok(items)
    }

    fn take_new_identity(&mut self) -> Result<LogIdentity, Infallible> {
        self.identities += 1;
        let text = format!(
            "{} {} {:x}",
            self.identity.log_id, self.identities, self.place
        );
        let hash = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
        self.identity = LogIdentity {
            device_id: format!("{:032x}", hash.rotate_left(64)),
            log_id: LogId::from_bytes(hash.to_be_bytes()),
        };
        self.own_seq = 0;
        Ok(self.identity.clone())
    }
}

impl DeviceLog for MemLog {
    type Snapshot = MemLog;

    fn create(identity: LogIdentity, place: u64) -> MemLog {
        MemLog {
            identity,
            place,
            identities: 0,
            rows: BTreeMap::new(),
            by_id: BTreeMap::new(),
            origins: BTreeMap::new(),
            known: BTreeMap::new(),
            head: 0,
            own_seq: 0,
        }
    }

    fn restore(snapshot: &MemLog, place: u64) -> MemLog {
        MemLog {
            place,
            ..snapshot.clone()
        }
    }

    fn snapshot(&mut self) -> MemLog {
        self.clone()
    }

    fn identity(&self) -> LogIdentity {
        self.identity.clone()
    }

    fn append(&mut self, mut entry: Entry, numbered: bool) -> Entry {
        entry.device_id.clone_from(&self.identity.device_id);
        entry.device_seq = numbered.then_some(self.own_seq + 1);
        let hash = entry.content_hash();
        self.insert(entry.clone(), hash);
        entry
    }

    fn rows(&mut self) -> Vec<Row> {
        let rows = self.rows.iter().map(|(at, row)| Row {
            at: *at,
            id: row.entry.id,
            hash: row.hash,
            sendable: row.entry.validate().is_ok(),
        });
        rows.collect()
    }

    fn len(&mut self) -> usize {
        self.rows.len()
    }

    fn lose(&mut self, ids: &[EntryId], recounts: bool) {
        let mut touched = Vec::new();
        for id in ids {
            if let Some(at) = self.by_id.remove(id)
                && let Some(row) = self.rows.remove(&at)
            {
                touched.push(row.entry.device_id.clone());
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for origin in touched.iter().filter(|_| recounts) {
            self.recount(origin);
        }
    }

    fn rot(&mut self, entry: &Entry) {
        if let Some(at) = self.by_id.get(&entry.id)
            && let Some(row) = self.rows.get_mut(at)
        {
            row.hash = entry.content_hash();
            row.entry = Rc::new(entry.clone());
        }
    }
}
