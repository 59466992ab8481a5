//! One `rr import`: the log it writes to, batch by batch.
//!
//! A batch is one transaction. Whatever ends the import, ctrl-c or a power cut, leaves whole
//! batches, and the next import goes on behind them.

use std::path::Path;

use bstr::BString;
use rustory_core::time::UNKNOWN_BEFORE;
use rustory_core::{Entry, EntryId, Extra, Timestamp};
use rustory_store::{Appended, IMPORT_SESSION, Store, StoreError, TypedFilter, Writer};

use super::Format;
use super::known::Known;
use super::progress::Progress;
use super::report::Report;
use crate::ctx::Ctx;
use crate::drain;
use crate::error::CommandError;

/// Commands in one transaction.
///
/// Large enough that the cost of a commit does not matter, small enough that other writers (who
/// wait for up to ten seconds) and memory do not notice.
const BATCH_COMMANDS: u32 = 50_000;

/// What the imports of one `rr import` share.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) store: &'a mut Store,
    pub(super) hostname: String,
    pub(super) dry_run: bool,
    pub(super) progress: Progress,
}

/// Why a batch was not committed.
pub(super) enum Stop {
    Store(StoreError),
    Source(CommandError),
    /// A dry run: all of it worked, and is taken back. Whether there is more to come.
    Rehearsed(bool),
}

impl From<StoreError> for Stop {
    fn from(err: StoreError) -> Stop {
        Stop::Store(err)
    }
}

impl From<Stop> for CommandError {
    fn from(stop: Stop) -> CommandError {
        match stop {
            Stop::Store(err) => err.into(),
            Stop::Source(err) => err,
            Stop::Rehearsed(_) => CommandError::failed("a dry run ended early"),
        }
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(ctx: &'a Ctx, store: &'a mut Store, dry_run: bool) -> Run<'a> {
        Run {
            ctx,
            store,
            hostname: drain::hostname(),
            dry_run,
            progress: Progress::new(ctx.quiet),
        }
    }

    /// What was typed up to now is in the log or will be found by a peek: called after a file was
    /// read, so that nothing in it that a hook recorded is missed.
    pub(super) fn drain(&mut self) -> Result<(), CommandError> {
        drain::drain(self.ctx, self.store)?;
        Ok(())
    }

    pub(super) fn device_id(&self) -> &str {
        &self.store.identity().device_id
    }

    /// Calls `step` until it returns false, [`BATCH_COMMANDS`] times a transaction, and `seal` at
    /// the end of each with whether it is the last.
    pub(super) fn in_batches<S>(
        &mut self,
        report: &mut Report,
        state: &mut S,
        mut step: impl FnMut(&mut S, &mut Writer<'_>, &mut Report) -> Result<bool, Stop>,
        mut seal: impl FnMut(&mut S, &mut Writer<'_>, bool) -> Result<(), Stop>,
    ) -> Result<(), CommandError> {
        let dry_run = self.dry_run;
        loop {
            let written = self.store.write(|writer| {
                let mut more = true;
                for _ in 0..BATCH_COMMANDS {
                    more = step(state, writer, report)?;
                    if !more {
                        break;
                    }
                }
                seal(state, writer, !more)?;
                if dry_run {
                    Err(Stop::Rehearsed(more))
                } else {
                    Ok(more)
                }
            });
            let more = match written {
                Ok(more) | Err(Stop::Rehearsed(more)) => more,
                Err(stop) => return Err(stop.into()),
            };
            self.progress.show(report.seen());
            if !more {
                return Ok(());
            }
        }
    }

    /// An entry of this device with everything that all commands of a file share.
    pub(super) fn template(&self, format: Format) -> Entry {
        Entry {
            id: EntryId::from_bytes([0; 16]),
            device_id: self.device_id().to_owned(),
            user_id: self.ctx.settings.user_id.clone(),
            ts: Timestamp::default(),
            cmd: BString::default(),
            cwd: BString::default(),
            exit_code: None,
            duration_ms: None,
            shell: format.name().to_owned(),
            hostname: self.hostname.clone(),
            version: String::new(),
            device_seq: None,
            session: format!("{IMPORT_SESSION}{}", format.name()),
            extra: Extra::new(),
        }
    }
}

/// Appends an entry of this device; counts it. Whether it is new.
pub(super) fn append(
    writer: &mut Writer<'_>,
    entry: &Entry,
    report: &mut Report,
) -> Result<bool, Stop> {
    let new = writer.append(entry)? != Appended::Known;
    count(new, report);
    Ok(new)
}

/// Whether there is such an id, and an entry of it.
pub(super) fn is_stored(writer: &Writer<'_>, id: Option<EntryId>) -> Result<bool, Stop> {
    Ok(match id {
        Some(id) => writer.contains(id)?,
        None => false,
    })
}

/// Entries of this device and of these others, imported ones too, which rows of another program's
/// database may be doubles of.
pub(super) fn known_of(run: &Run<'_>, others: &[&str]) -> Result<Known, CommandError> {
    let mut devices = vec![run.device_id().to_owned()];
    devices.extend(others.iter().map(|tool| format!("{tool}:{}", run.hostname)));
    let filter = TypedFilter {
        devices,
        imported: true,
        since: Some(UNKNOWN_BEFORE),
        until: None,
    };
    let mut known = Known::default();
    run.store
        .scan_typed(&filter, |row| known.add(row.ts, row.cmd))?;
    Ok(known)
}

/// Inserts an entry of another program's database, unless it is there by another way. Whether it
/// is new.
pub(super) fn insert_unless_known(
    writer: &mut Writer<'_>,
    entry: &Entry,
    known: &mut Known,
    report: &mut Report,
) -> Result<bool, Stop> {
    if let Some(double) = known.find(entry.ts, &entry.cmd) {
        if !writer.contains(entry.id)? {
            known.take(double);
        }
        report.known += 1;
        return Ok(false);
    }
    insert(writer, entry, report)
}

/// Inserts an entry as it came; counts it. Whether it is new.
pub(super) fn insert(
    writer: &mut Writer<'_>,
    entry: &Entry,
    report: &mut Report,
) -> Result<bool, Stop> {
    let new = writer.insert(entry)?;
    count(new, report);
    Ok(new)
}

fn count(new: bool, report: &mut Report) {
    if new {
        report.new += 1;
    } else {
        report.known += 1;
    }
}

/// Opens what is to be read; says clearly when it is no file.
pub(super) fn regular_file(path: &Path) -> Result<std::fs::File, CommandError> {
    let shown = path.display();
    let cannot = |err: std::io::Error| CommandError::failed(format!("`{shown}`: {err}"));
    let meta = std::fs::metadata(path).map_err(cannot)?;
    if meta.is_dir() {
        return Err(CommandError::failed(format!(
            "`{shown}` is a directory, not a history file"
        )));
    }
    if !meta.is_file() {
        return Err(CommandError::failed(format!(
            "`{shown}` is not a regular file"
        )));
    }
    std::fs::File::open(path).map_err(cannot)
}

/// Opens another program's SQLite database, which it may have open for writing meanwhile.
pub(super) fn foreign_database(path: &Path) -> Result<rusqlite::Connection, CommandError> {
    regular_file(path)?;
    let flags =
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<rusqlite::Connection> {
        let conn = rusqlite::Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(std::time::Duration::from_secs(10))?;
        Ok(conn)
    };
    open().map_err(|err| foreign_error(path, &err))
}

pub(super) fn foreign_error(path: &Path, err: &rusqlite::Error) -> CommandError {
    CommandError::failed(format!("`{}`: {err}", path.display()))
}

/// The columns of a table; none when it is not there.
pub(super) fn columns(conn: &rusqlite::Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    conn.prepare("SELECT name FROM pragma_table_info(?1)")?
        .query_map([table], |row| row.get(0))?
        .collect()
}

/// The bytes of a text, whatever type SQLite holds it in.
pub(super) fn text_bytes(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Vec<u8>> {
    use rusqlite::types::ValueRef;
    Ok(match row.get_ref(at)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        ValueRef::Null => Vec::new(),
        ValueRef::Integer(number) => number.to_string().into_bytes(),
        ValueRef::Real(number) => number.to_string().into_bytes(),
    })
}

/// The same as text, for labels.
pub(super) fn label(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(&text_bytes(row, at)?).into_owned())
}
