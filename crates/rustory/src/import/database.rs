//! The part that all foreign databases share: go through the rows, and store what is new.

use std::borrow::Cow;
use std::path::Path;

use rusqlite::Row;
use rustory_core::{Entry, secrets};

use super::Format;
use super::known::Known;
use super::report::Report;
use super::run::{self, Run, Stop};
use crate::error::CommandError;

/// Somebody else's database.
pub(super) struct Database {
    pub(super) format: Format,
    /// The table that holds the history.
    pub(super) table: &'static str,
    /// Other formats whose imports may hold this host's rows as well.
    pub(super) overlaps: &'static [&'static str],
    /// The query, given the table's columns; `None`: it is not that program's.
    pub(super) query: fn(&[String]) -> Option<String>,
    /// One row of it.
    pub(super) entry: fn(&Row<'_>) -> rusqlite::Result<Found>,
}

/// What a row holds.
pub(super) enum Found {
    Entry(Box<Entry>),
    /// Deleted in that program: it stays so.
    Deleted,
    /// Why it can't be an entry.
    Unreadable(&'static str),
}

/// Imports every row. Rows of this host that are here by another way are known.
pub(super) fn import(
    run: &mut Run<'_>,
    path: &Path,
    database: &Database,
) -> Result<Report, CommandError> {
    let conn = run::foreign_database(path)?;
    run.drain()?;
    let mut report = Report::new(database.format, path);
    let foreign = |err: rusqlite::Error| run::foreign_error(path, &err);
    let columns = run::columns(&conn, database.table).map_err(foreign)?;
    let sql = (database.query)(&columns).ok_or_else(|| {
        let (path, program) = (path.display(), database.format.name());
        CommandError::failed(format!("`{path}` is no history database of {program}"))
    })?;
    let mut query = conn.prepare(&sql).map_err(foreign)?;
    let mut rows = query.query([]).map_err(foreign)?;
    let mut known = run::known_of(run, database.overlaps)?;
    let (ctx, hostname) = (run.ctx, run.hostname.clone());
    let mut number = 0;
    run.in_batches(
        &mut report,
        &mut known,
        |known: &mut Known, writer, report| {
            let Some(row) = rows.next().map_err(|err| Stop::Source(foreign(err)))? else {
                return Ok(false);
            };
            number += 1;
            let mut entry = match (database.entry)(row) {
                Ok(Found::Entry(entry)) => entry,
                Ok(Found::Deleted) => {
                    report.skipped.deleted += 1;
                    return Ok(true);
                }
                Ok(Found::Unreadable(why)) => {
                    report.unreadable(number, why);
                    return Ok(true);
                }
                Err(err) => {
                    report.unreadable(number, err);
                    return Ok(true);
                }
            };
            let rules = &ctx.settings.rules;
            let has_secrets = matches!(secrets::mask(&entry.cmd), Cow::Owned(_));
            match rules.recorded(&entry.cmd, &entry.cwd) {
                Ok(Cow::Borrowed(_)) => {}
                Ok(Cow::Owned(masked)) => entry.cmd = masked.into(),
                Err(skip) => {
                    report.skip(skip);
                    return Ok(true);
                }
            }
            if let Err(err) = entry.validate() {
                report.unreadable(number, err);
                return Ok(true);
            }
            // Stored by an import that treated secrets otherwise, it says something else.
            if has_secrets && writer.contains(entry.id)? {
                report.known += 1;
                return Ok(true);
            }
            let new = if entry.hostname == hostname {
                run::insert_unless_known(writer, &entry, known, report)?
            } else {
                run::insert(writer, &entry, report)?
            };
            report.masked += u64::from(new && has_secrets && !rules.record_secrets);
            Ok(true)
        },
        |_, _, _| Ok(()),
    )?;
    Ok(report)
}
