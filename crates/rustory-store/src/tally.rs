//! What is counted of each origin: its tally and its numbers, kept beside the rows and counted
//! anew from them.
//!
//! While a transaction runs, what it adds and takes away is held in memory; [`Changes::flush`]
//! writes it once at the end, so that an insert costs a hash and no statement.

use hashbrown::HashMap;
use rusqlite::{Connection, params};
use rustory_core::{Digest, Entry, IngestSeq, Tally};

use crate::read::{COLUMNS, FROM_ANY, exact};
use crate::runs::Runs;

/// What one transaction does to the counts, by `devices.id`.
#[derive(Debug, Default)]
pub(crate) struct Changes(HashMap<i64, Change>);

#[derive(Debug, Default)]
struct Change {
    /// What came and went, modulo 2^64 and 2^128.
    tally: Tally,
    runs: Runs,
    /// The highest number that came, and the entry that has it.
    newest: Option<(i64, i64)>,
    recount: Recount,
}

#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Recount {
    #[default]
    Nothing,
    /// A number went that other rows may have too.
    Runs,
    /// What the rows say is not what was counted.
    Everything,
}

impl Changes {
    /// Counts a row in, by the content hash of what it says.
    pub(crate) fn came(&mut self, device: i64, seq: Option<u64>, hash: u128, rowid: i64) {
        let change = self.0.entry(device).or_default();
        change.tally.add(hash);
        if let Some(seq) = seq {
            change.runs.insert(seq);
            change.newest = newer(change.newest, seq, rowid);
        }
    }

    /// Takes a row out again. `seq`: the number that may have gone with it.
    pub(crate) fn went(&mut self, device: i64, hash: u128, seq: Option<u64>) {
        let change = self.0.entry(device).or_default();
        change.tally.remove(hash);
        if seq.is_some() && change.recount < Recount::Runs {
            change.recount = Recount::Runs;
        }
    }

    /// Has a device counted from its rows at the end.
    pub(crate) fn recount(&mut self, device: i64) {
        self.0.entry(device).or_default().recount = Recount::Everything;
    }

    /// Writes it all down.
    pub(crate) fn flush(self, conn: &Connection) -> rusqlite::Result<()> {
        let mut anew = Vec::new();
        for (device, change) in self.0 {
            if change.recount == Recount::Everything {
                anew.push(device);
                continue;
            }
            let mut tally = stored_tally(conn, device)?;
            tally += change.tally;
            write_change(conn, device, tally, change.newest)?;
            match change.recount {
                Recount::Runs => numbers_of_rows(conn, device)?.write_numbers(conn, device)?,
                _ => change.runs.merge(conn, device)?,
            }
        }
        if !anew.is_empty() {
            recount(conn, Some(&anew))?;
        }
        Ok(())
    }
}

/// A device's rows, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) tally: Tally,
    pub(crate) runs: Runs,
    /// The highest number and the row that has it.
    newest: Option<(i64, i64)>,
}

impl Counted {
    pub(crate) fn add(&mut self, at: IngestSeq, entry: &Entry, hash: u128) {
        self.tally.add(hash);
        if let Some(seq) = entry.device_seq {
            self.runs.insert(seq);
            self.newest = newer(self.newest, seq, at.as_rowid());
        }
    }

    /// Writes down which numbers there are.
    fn write_numbers(&self, conn: &Connection, device: i64) -> rusqlite::Result<()> {
        self.runs.replace(conn, device)?;
        if let Some((seq, rowid)) = self.newest {
            // What was noted as the newest may be gone. The highest number given out never falls.
            conn.prepare_cached(
                "UPDATE devices SET seq_max = max(seq_max, ?2), newest = ?3 WHERE id = ?1",
            )?
            .execute(params![device, seq, rowid])?;
        }
        Ok(())
    }
}

/// The later of two numbers, with the row that has it.
fn newer(known: Option<(i64, i64)>, seq: u64, rowid: i64) -> Option<(i64, i64)> {
    match i64::try_from(seq) {
        Ok(seq) if known.is_none_or(|(known, _)| seq >= known) => Some((seq, rowid)),
        _ => known,
    }
}

/// Counts these devices, or all, from their rows and writes that down. A row that does not decode
/// is none: whoever has that entry may send it again.
pub(crate) fn recount(conn: &Connection, devices: Option<&[i64]>) -> rusqlite::Result<()> {
    let mut found: HashMap<i64, Counted> = HashMap::new();
    let all;
    let listed = match devices {
        Some(listed) => listed,
        None => {
            all = device_ids(conn)?;
            &all
        }
    };
    for device in listed {
        found.insert(*device, Counted::default());
    }
    walk(conn, devices, |row| {
        if let Some(entry) = &row.entry
            && let Some(counted) = found.get_mut(&row.device)
        {
            counted.add(row.at, entry, entry.content_hash());
        }
    })?;
    for (device, counted) in found {
        write_tally(conn, device, counted.tally)?;
        counted.write_numbers(conn, device)?;
    }
    Ok(())
}

/// A row on a walk over the log.
#[derive(Debug)]
pub(crate) struct Walked {
    /// Its place.
    pub(crate) at: IngestSeq,
    /// Its device, as the row has it.
    pub(crate) device: i64,
    /// `None`: it does not decode.
    pub(crate) entry: Option<Entry>,
}

/// Goes through the rows of these devices, or of all, in whatever order is fastest.
pub(crate) fn walk(
    conn: &Connection,
    devices: Option<&[i64]>,
    mut each: impl FnMut(Walked),
) -> rusqlite::Result<()> {
    let condition = match devices {
        None => "1".to_owned(),
        Some(devices) => format!("e.device IN ({})", list(devices)),
    };
    let sql = format!("SELECT {COLUMNS}, e.device FROM {FROM_ANY} WHERE {condition}");
    let mut query = conn.prepare(&sql)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        each(Walked {
            at: IngestSeq::from_rowid(row.get(0)?),
            device: row.get(15).unwrap_or(0),
            entry: exact(row),
        });
    }
    Ok(())
}

/// How many rows a walk will see.
pub(crate) fn rows_of(conn: &Connection, devices: Option<&[i64]>) -> rusqlite::Result<u64> {
    let sql = match devices {
        None => "SELECT count(*) FROM entries".to_owned(),
        Some(devices) => {
            let devices = list(devices);
            format!("SELECT count(*) FROM entries WHERE device IN ({devices})")
        }
    };
    conn.query_row(&sql, [], |row| row.get::<_, i64>(0))
        .map(|rows| u64::try_from(rows).unwrap_or(0))
}

fn list(devices: &[i64]) -> String {
    let devices: Vec<String> = devices.iter().map(i64::to_string).collect();
    devices.join(", ")
}

fn device_ids(conn: &Connection) -> rusqlite::Result<Vec<i64>> {
    conn.prepare_cached("SELECT id FROM devices")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Counts a device's numbers alone, which needs no look at what its rows say.
fn numbers_of_rows(conn: &Connection, device: i64) -> rusqlite::Result<Counted> {
    let sql = "SELECT device_seq, ingest_seq FROM entries
               WHERE device = ?1 AND device_seq IS NOT NULL";
    let mut counted = Counted::default();
    let mut query = conn.prepare_cached(sql)?;
    let mut rows = query.query([device])?;
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.cast_unsigned();
        counted.runs.insert(seq);
        counted.newest = newer(counted.newest, seq, row.get(1)?);
    }
    Ok(counted)
}

fn stored_tally(conn: &Connection, device: i64) -> rusqlite::Result<Tally> {
    conn.prepare_cached("SELECT count, digest FROM devices WHERE id = ?1")?
        .query_row([device], |row| tally(row, 0))
}

fn write_tally(conn: &Connection, device: i64, tally: Tally) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE devices SET count = ?2, digest = ?3 WHERE id = ?1")?
        .execute(params![
            device,
            tally.count.cast_signed(),
            blob(tally.digest)
        ])?;
    Ok(())
}

/// The tally, and the highest number with the entry that has it if it is higher than before: one
/// statement, since a transaction of one entry is the usual one.
fn write_change(
    conn: &Connection,
    device: i64,
    tally: Tally,
    newest: Option<(i64, i64)>,
) -> rusqlite::Result<()> {
    let (seq, rowid) = newest.unzip();
    conn.prepare_cached(
        "UPDATE devices SET count = ?2, digest = ?3, seq_max = max(seq_max, coalesce(?4, 0)),
           newest = CASE WHEN ?4 >= seq_max THEN ?5 ELSE newest END WHERE id = ?1",
    )?
    .execute(params![
        device,
        tally.count.cast_signed(),
        blob(tally.digest),
        seq,
        rowid
    ])?;
    Ok(())
}

/// A tally from a count and the digest in the column behind it. A digest that is none equals no
/// other, so that whoever compares finds the damage.
pub(crate) fn tally(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Tally> {
    Ok(Tally {
        count: row.get::<_, i64>(column)?.cast_unsigned(),
        digest: Digest(u128::from_be_bytes(
            row.get(column + 1).unwrap_or([0xff; 16]),
        )),
    })
}

pub(crate) fn blob(digest: Digest) -> [u8; 16] {
    digest.0.to_be_bytes()
}
