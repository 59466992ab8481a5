//! Looking for damage: the file's structure, and every row against what was counted of it.

use hashbrown::HashMap;
use rusqlite::{Connection, ErrorCode};
use rustory_core::{IngestSeq, Tally};

use crate::error::StoreError;
use crate::open::Store;
use crate::runs::Runs;
use crate::sync::stored_tallies;
use crate::tally::{Counted, rows_of, walk};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Rows that were read.
    pub rows: u64,
    /// What SQLite found wrong with the file, in its words; at most 100.
    pub problems: Vec<String>,
    /// By origin, ascending by device id.
    pub origins: Vec<VerifiedOrigin>,
    /// Rows that do not decode, with their origin as far as the row says it.
    pub unreadable: Vec<(IngestSeq, Option<String>)>,
}

/// One origin, as counted when its entries were stored and as its rows say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedOrigin {
    /// The device it was typed on.
    pub device_id: String,
    /// As counted.
    pub stored: Tally,
    /// As its rows say.
    pub found: Tally,
    /// Whether the numbers that are there are those that were noted.
    pub numbers_match: bool,
}

impl VerifiedOrigin {
    /// Whether its rows are what they were.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.stored == self.found && self.numbers_match
    }
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
            && self.unreadable.is_empty()
            && self.origins.iter().all(VerifiedOrigin::is_sound)
    }

    /// The origins whose rows are not what was counted.
    #[must_use]
    pub fn damaged(&self) -> Vec<String> {
        let damaged = self.origins.iter().filter(|origin| !origin.is_sound());
        damaged.map(|origin| origin.device_id.clone()).collect()
    }
}

/// Rows between two calls of the callback.
const ROWS_A_CALL: u64 = 10_000;

impl Store {
    /// Reads everything and compares it with what was counted. Changes nothing.
    ///
    /// `progress` is called now and then with the rows read and those there are.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read at all. A damaged file is no error but in the report.
    pub fn verify(&self, progress: impl FnMut(u64, u64)) -> Result<VerifyReport, StoreError> {
        self.snapshot(|conn| verify(conn, progress))
    }
}

impl Store {
    /// What SQLite finds wrong with the file's structure; nothing when all is well. Far quicker than
    /// [`Store::verify`], and blind to values that changed in place.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read at all.
    pub fn quick_check(&self) -> Result<Vec<String>, StoreError> {
        self.snapshot(|conn| {
            let mut problems = Vec::new();
            match quick_check(conn, &mut problems) {
                Err(err) if err.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                    problems.push(err.to_string());
                }
                checked => checked?,
            }
            Ok(problems)
        })
    }
}

fn verify(conn: &Connection, progress: impl FnMut(u64, u64)) -> rusqlite::Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let checked = quick_check(conn, &mut report.problems);
    let checked = checked.and_then(|()| origins(conn, &mut report, progress));
    match checked {
        Err(err) if err.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            report.problems.push(err.to_string());
            Ok(report)
        }
        checked => checked.map(|()| report),
    }
}

fn quick_check(conn: &Connection, problems: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut query = conn.prepare("PRAGMA quick_check(100)")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let problem: String = row.get(0)?;
        if problem != "ok" {
            problems.push(problem);
        }
    }
    Ok(())
}

fn origins(
    conn: &Connection,
    report: &mut VerifyReport,
    mut progress: impl FnMut(u64, u64),
) -> rusqlite::Result<()> {
    let devices = stored_tallies(conn, None)?;
    let total = rows_of(conn, None)?;
    let mut found: HashMap<i64, Counted> = HashMap::new();
    let mut unreadable = Vec::new();
    let rows = &mut report.rows;
    walk(conn, None, |row| {
        *rows += 1;
        if rows.is_multiple_of(ROWS_A_CALL) {
            progress(*rows, total);
        }
        match &row.entry {
            Some(entry) => {
                let counted = found.entry(row.device).or_default();
                counted.add(row.at, entry, entry.content_hash());
            }
            None => unreadable.push((row.at, row.device)),
        }
    })?;
    progress(report.rows, total);
    let names: HashMap<i64, &String> = devices.iter().map(|d| (d.id, &d.device_id)).collect();
    report.unreadable = unreadable
        .into_iter()
        .map(|(at, device)| (at, names.get(&device).map(|name| (*name).clone())))
        .collect();
    for device in &devices {
        let counted = found.remove(&device.id).unwrap_or_default();
        let numbers_match = counted.runs == Runs::read(conn, device.id)?;
        if counted == Counted::default() && device.tally == Tally::default() && numbers_match {
            continue;
        }
        report.origins.push(VerifiedOrigin {
            device_id: device.device_id.clone(),
            stored: device.tally,
            found: counted.tally,
            numbers_match,
        });
    }
    Ok(())
}
