//! The history files of shells: what of them is new, and writing that.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use hashbrown::HashSet;
use rustory_core::spool::{Header, Typed};
use rustory_core::{Entry, Timestamp};
use rustory_store::spool_dir::{self, Sessions};
use rustory_store::{ImportSource, TypedFilter, TypedRow, Writer, untimed_day};

use super::align::{self, Counts};
use super::identity::{Ids, key};
use super::known::{Known, SAME_TIME_US};
use super::report::Report;
use super::run::{self, Run, Stop};
use super::{Format, Found, bash, fish, zsh};
use crate::error::CommandError;

/// Imports a history file of bash, zsh or fish.
pub(super) fn import(
    run: &mut Run<'_>,
    format: Format,
    path: &Path,
) -> Result<Report, CommandError> {
    let bytes = read(path)?;
    // After the file: whatever is in it was typed before this.
    run.drain()?;
    let mut report = Report::new(format, path);
    let survey = Survey::new(format, &bytes);
    let recorded = Recorded::load(run, format, &survey)?;
    let mut import = Import {
        ctx: run.ctx,
        format,
        found: entries(format, &bytes),
        ids: Ids::new(run.device_id()),
        known: recorded.known,
        untimed: Untimed::plan(run, format, path, survey.untimed, recorded.hooks)?,
        entry: run.template(format),
    };
    run.in_batches(&mut report, &mut import, Import::step, Import::seal)?;
    Ok(report)
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    run::regular_file(path)?
        .read_to_end(&mut bytes)
        .map_err(|err| CommandError::failed(format!("`{}`: {err}", path.display())))?;
    Ok(bytes)
}

fn entries<'a>(format: Format, bytes: &'a [u8]) -> Box<dyn Iterator<Item = Found<'a>> + 'a> {
    match format {
        Format::Zsh => Box::new(zsh::entries(bytes)),
        Format::Fish => Box::new(fish::entries(bytes)),
        _ => Box::new(bash::entries(bytes)),
    }
}

/// The command without the NULs that a crash of the machine leaves around lines; `None` when
/// there are some within it, which no shell can have written.
fn without_nuls(cmd: &[u8]) -> Option<&[u8]> {
    if memchr::memchr(0, cmd).is_none() {
        return Some(cmd);
    }
    let start = cmd.iter().position(|&byte| byte != 0)?;
    let end = cmd.iter().rposition(|&byte| byte != 0)? + 1;
    let cmd = &cmd[start..end];
    memchr::memchr(0, cmd).is_none().then_some(cmd)
}

/// A first look through the file.
#[derive(Debug, Default)]
struct Survey {
    /// Keys of the commands without a time, in the file's order.
    untimed: Vec<u64>,
    /// From the first to the last time.
    span: Option<(Timestamp, Timestamp)>,
}

impl Survey {
    fn new(format: Format, bytes: &[u8]) -> Survey {
        let mut survey = Survey::default();
        for found in entries(format, bytes) {
            let Some(cmd) = without_nuls(&found.cmd) else {
                continue;
            };
            match found.ts {
                None => survey.untimed.push(key(cmd)),
                Some(ts) => {
                    let (first, last) = survey.span.unwrap_or((ts, ts));
                    survey.span = Some((first.min(ts), last.max(ts)));
                }
            }
        }
        survey
    }
}

/// What hooks recorded, and what came with another program's database: lines of the file that are
/// no news.
struct Recorded {
    /// For lines with a time.
    known: Known,
    /// For lines without one.
    hooks: Hooks,
}

/// Entries of hooks of one shell, by their place in the log. Those without a place wait in the
/// spool.
#[derive(Debug, Default)]
struct Hooks {
    keys: Vec<(u64, u64)>,
    /// Lines of sessions that run may still be written to the file: entries behind this.
    next_floor: u64,
}

impl Hooks {
    fn counts_behind(&self, floor: u64) -> Counts {
        let mut counts = Counts::default();
        for (seq, key) in &self.keys {
            if *seq > floor {
                *counts.entry(*key).or_insert(0) += 1;
            }
        }
        counts
    }
}

impl Recorded {
    fn load(run: &Run<'_>, format: Format, survey: &Survey) -> Result<Recorded, CommandError> {
        let mut recorded = Recorded {
            known: Known::default(),
            hooks: Hooks {
                keys: Vec::new(),
                next_floor: run.store.head()?.get(),
            },
        };
        let running = running_sessions(&run.ctx.spool_dir());
        let has_untimed = !survey.untimed.is_empty();
        let (since, until) = match survey.span {
            _ if has_untimed => (None, None),
            None => return Ok(recorded),
            Some((first, last)) => (
                Some(first.saturating_add_micros(-SAME_TIME_US)),
                Some(last.saturating_add_micros(SAME_TIME_US)),
            ),
        };
        let filter = TypedFilter {
            devices: vec![
                run.device_id().to_owned(),
                format!("atuin:{}", run.hostname),
                format!("hishtory:{}", run.hostname),
            ],
            imported: false,
            since,
            until,
        };
        run.store.scan_typed(&filter, |row| {
            recorded.add(format, survey, &row);
            if running.contains(row.session) {
                let before = row.seq.get() - 1;
                recorded.hooks.next_floor = recorded.hooks.next_floor.min(before);
            }
        })?;
        let spool_dir = run.ctx.spool_dir();
        for typed in spool_dir::peek(run.store, &spool_dir, &run.ctx.settings.rules, &AllOver)? {
            recorded.add_waiting(format, &typed);
        }
        Ok(recorded)
    }

    fn add(&mut self, format: Format, survey: &Survey, row: &TypedRow<'_>) {
        let (first, last) = survey.span.unwrap_or_default();
        let near =
            first.saturating_add_micros(-SAME_TIME_US)..=last.saturating_add_micros(SAME_TIME_US);
        if survey.span.is_some() && near.contains(&row.ts) {
            self.known.add(row.ts, row.cmd);
        }
        if !survey.untimed.is_empty() && (row.shell.is_empty() || row.shell == format.name()) {
            self.hooks.keys.push((row.seq.get(), key(row.cmd)));
        }
    }

    /// A command that still runs is in the file already, but not in the log.
    fn add_waiting(&mut self, format: Format, typed: &Typed) {
        if let Some(start) = typed.start {
            self.known.add(start, &typed.cmd);
        }
        if typed.shell == format.name() {
            self.hooks.keys.push((u64::MAX, key(&typed.cmd)));
        }
    }
}

/// For a peek that shows commands which still run.
struct AllOver;

impl Sessions for AllOver {
    fn is_over(&self, _header: &Header, _mtime: i64) -> bool {
        true
    }
}

/// A session's spool file stays for as long as its shell runs.
fn running_sessions(spool_dir: &Path) -> HashSet<String> {
    let Ok(files) = std::fs::read_dir(spool_dir) else {
        return HashSet::new();
    };
    files
        .filter_map(Result::ok)
        .map(|file| file.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|ext| ext == spool_dir::EXTENSION)
        })
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

/// The lines without a time: which of them are new, and the time that the next one gets.
struct Untimed {
    keys: Vec<u64>,
    new: Vec<bool>,
    /// How many were gone through in this import.
    at: usize,
    /// The state as last stored, which nobody else may have changed meanwhile.
    stored: ImportSource,
    /// Whether that was looked at in this transaction.
    checked: bool,
    dry_run: bool,
    source: ImportSource,
    next_floor: u64,
    /// Whether what is new is simply the rest of the file, so that a half-done import can be gone
    /// on with from its anchor.
    aligned: bool,
    next_ts: Option<Timestamp>,
}

impl Untimed {
    fn plan(
        run: &Run<'_>,
        format: Format,
        path: &Path,
        keys: Vec<u64>,
        hooks: Hooks,
    ) -> Result<Untimed, CommandError> {
        let mut new = vec![true; keys.len()];
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let before = if keys.is_empty() {
            ImportSource::default()
        } else {
            source(run, format, path.as_os_str().as_bytes(), &keys)?
        };
        let lines = usize::try_from(before.lines).unwrap_or(usize::MAX);
        let known = align::known_lines(&keys, &before.anchor, lines);
        let floor = match known {
            Some(known) => {
                new[..known].fill(false);
                before.floor
            }
            None => {
                align::strike_first(&keys, &mut new, &mut stored(run, &before)?);
                0
            }
        };
        align::strike_last(&keys, &mut new, &mut hooks.counts_behind(floor));
        Ok(Untimed {
            source: ImportSource {
                path: path.as_os_str().as_bytes().to_vec(),
                ..before.clone()
            },
            keys,
            new,
            at: 0,
            stored: before,
            checked: false,
            dry_run: run.dry_run,
            next_floor: hooks.next_floor,
            aligned: known.is_some(),
            next_ts: None,
        })
    }

    /// Whether the next line is new.
    fn next_is_new(&mut self) -> bool {
        self.at += 1;
        self.new[self.at - 1]
    }

    fn next_ts(&mut self, format: Format, writer: &mut Writer<'_>) -> Result<Timestamp, Stop> {
        self.check(format, writer)?;
        let ts = match self.next_ts {
            Some(ts) => ts,
            None => {
                if self.source.id == 0 {
                    self.source.id = writer.set_import_source(format.name(), &self.source)?;
                }
                writer.next_untimed(self.source.id)?
            }
        };
        self.next_ts = Some(ts.saturating_add_micros(1));
        Ok(ts)
    }

    /// Notes how far the file is gone through, with the entries that this gave.
    fn seal(&mut self, format: Format, writer: &Writer<'_>, last: bool) -> Result<(), Stop> {
        if self.keys.is_empty() || !(last || self.aligned) {
            return Ok(());
        }
        self.check(format, writer)?;
        self.checked = false;
        self.source.lines = self.at as u64;
        self.source.anchor = align::anchor(&self.keys[..self.at]);
        if last {
            self.source.floor = self.next_floor;
        }
        self.source.id = writer.set_import_source(format.name(), &self.source)?;
        self.stored = self.source.clone();
        Ok(())
    }

    /// Another import of the same file would give the same lines other times.
    fn check(&mut self, format: Format, writer: &Writer<'_>) -> Result<(), Stop> {
        if self.checked || self.dry_run {
            return Ok(());
        }
        let stored = writer.import_source(format.name(), &self.stored.path)?;
        let unchanged = match stored {
            None => self.stored.id == 0,
            Some(stored) => stored == self.stored,
        };
        if !unchanged {
            let busy = "another `rr import` goes through the same file at this moment";
            let hint = "run it again when the other one is done";
            return Err(Stop::Source(CommandError::failed(busy).hint(hint)));
        }
        self.checked = true;
        Ok(())
    }
}

/// What is known of this file: by its path, or because it is one that moved.
fn source(
    run: &Run<'_>,
    format: Format,
    path: &[u8],
    keys: &[u64],
) -> Result<ImportSource, CommandError> {
    let mut sources = run.store.import_sources(format.name())?;
    let at = sources
        .iter()
        .position(|source| source.path == path)
        .or_else(|| {
            sources.iter().position(|source| {
                let lines = usize::try_from(source.lines).unwrap_or(usize::MAX);
                align::surely_contains(keys, &source.anchor, lines)
            })
        });
    Ok(at.map_or_else(
        || ImportSource {
            path: path.to_vec(),
            ..ImportSource::default()
        },
        |at| sources.swap_remove(at),
    ))
}

/// How often each command is stored from this source.
fn stored(run: &Run<'_>, source: &ImportSource) -> Result<Counts, CommandError> {
    let (first, end) = untimed_day(source.id);
    let filter = TypedFilter {
        devices: vec![run.device_id().to_owned()],
        imported: true,
        since: Some(first),
        until: Some(end.saturating_add_micros(-1)),
    };
    let mut counts = Counts::default();
    run.store.scan_typed(&filter, |row| {
        *counts.entry(key(row.cmd)).or_insert(0) += 1;
    })?;
    Ok(counts)
}

/// An import on its way through the file.
struct Import<'a> {
    ctx: &'a crate::ctx::Ctx,
    format: Format,
    found: Box<dyn Iterator<Item = Found<'a>> + 'a>,
    ids: Ids,
    known: Known,
    untimed: Untimed,
    /// Filled anew for every command.
    entry: Entry,
}

impl Import<'_> {
    /// One command. False at the end of the file.
    fn step(&mut self, writer: &mut Writer<'_>, report: &mut Report) -> Result<bool, Stop> {
        let Some(found) = self.found.next() else {
            return Ok(false);
        };
        let Some(cmd) = without_nuls(&found.cmd) else {
            report.unreadable(found.line, "holds NUL bytes");
            return Ok(true);
        };
        let is_new = match found.ts {
            Some(_) => true,
            None => self.untimed.next_is_new(),
        };
        // The ids first: what is skipped has its place among its equals as well.
        let timed = found
            .ts
            .map(|ts| (ts, self.ids.timed_with_secrets(ts, cmd)));
        let rules = &self.ctx.settings.rules;
        let text = match rules.recorded(cmd, b"") {
            Ok(text) => text,
            Err(skip) => {
                report.skip(skip);
                return Ok(true);
            }
        };
        if !is_new {
            report.known += 1;
            return Ok(true);
        }
        let (ts, id) = match timed {
            Some((ts, ids)) => {
                let (id, other) = ids.stored_and_other(rules.record_secrets);
                if run::is_stored(writer, other)? {
                    report.known += 1;
                    return Ok(true);
                }
                if let Some(double) = self.known.find(ts, cmd) {
                    if !writer.contains(id)? {
                        self.known.take(double);
                    }
                    report.known += 1;
                    return Ok(true);
                }
                (ts, id)
            }
            None => {
                let ts = self.untimed.next_ts(self.format, writer)?;
                (ts, self.ids.untimed(ts, &text))
            }
        };
        self.entry.id = id;
        self.entry.ts = ts;
        self.entry.duration_ms = found.duration_ms;
        self.entry.cmd.clear();
        self.entry.cmd.extend_from_slice(&text);
        let new = run::append(writer, &self.entry, report)?;
        report.masked += u64::from(new && text != cmd);
        Ok(true)
    }

    fn seal(&mut self, writer: &mut Writer<'_>, last: bool) -> Result<(), Stop> {
        self.untimed.seal(self.format, writer, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nuls_around_a_command_go_and_nuls_within_it_condemn_it() {
        assert_eq!(without_nuls(b"\0\0ls\0"), Some(&b"ls"[..]));
        assert_eq!(without_nuls(b"l\0s"), None);
        assert_eq!(without_nuls(b"\0"), None);
    }
}
