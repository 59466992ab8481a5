//! JSON lines, as `rr export` writes them and as other programs may. Read as a stream, from a file,
//! a pipe or stdin.
//!
//! Lines that carry an `entry_id` were entries before, somewhere: they are taken over as they are,
//! whatever this device's rules say.

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use rustory_core::json::PartialEntry;
use rustory_core::limits::{CMD_BYTES_MAX, EXTRA_BYTES_MAX};
use rustory_core::rules::{Rules, Skip};
use rustory_core::{Entry, EntryId};
use rustory_store::IMPORT_SESSION;

use super::Format;
use super::identity::Ids;
use super::report::Report;
use super::run::{self, Run};
use crate::error::CommandError;

/// Imports JSON lines; `-` is stdin.
pub(super) fn import(run: &mut Run<'_>, path: &Path) -> Result<Report, CommandError> {
    let mut lines = JsonLines {
        input: open(path)?,
        number: 0,
    };
    let mut report = Report::new(Format::Jsonl, path);
    let mut completing = Completing {
        ids: Ids::new(run.device_id()),
        own_id: run.device_id().to_owned(),
        user_id: run.ctx.settings.user_id.clone(),
        rules: run.ctx.settings.rules.clone(),
    };
    // Read first, then written: a slow pipe must not hold the log's lock.
    loop {
        let batch = completing
            .batch(&mut lines, &mut report)
            .map_err(|err| CommandError::failed(format!("`{}`: {err}", path.display())))?;
        if batch.is_empty() {
            return Ok(report);
        }
        let own_id = completing.own_id.clone();
        run.in_batches(
            &mut report,
            &mut batch.iter(),
            |entries, writer, report| {
                let Some(Read {
                    entry,
                    masked,
                    other_id,
                }) = entries.next()
                else {
                    return Ok(false);
                };
                if run::is_stored(writer, *other_id)? {
                    report.known += 1;
                    return Ok(true);
                }
                let new = if entry.device_id == own_id && entry.device_seq.is_none() {
                    run::append(writer, entry, report)?
                } else {
                    run::insert(writer, entry, report)?
                };
                report.masked += u64::from(new && *masked);
                Ok(true)
            },
            |_, _, _| Ok(()),
        )?;
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, CommandError> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    // `--path <(command)` is a pipe.
    let is_pipe = std::fs::metadata(path).is_ok_and(|meta| {
        use std::os::unix::fs::FileTypeExt as _;
        meta.file_type().is_fifo() || meta.file_type().is_char_device()
    });
    let file = if is_pipe {
        std::fs::File::open(path)
            .map_err(|err| CommandError::failed(format!("`{}`: {err}", path.display())))?
    } else {
        run::regular_file(path)?
    };
    Ok(Box::new(BufReader::with_capacity(256 * 1024, file)))
}

/// A line has at most a largest command in its longest escapes (six bytes for one) and again as
/// base64, and the rest.
const LINE_BYTES_MAX: usize = 8 * CMD_BYTES_MAX + 6 * EXTRA_BYTES_MAX + 64 * 1024;

/// Entries read before they are written, and bytes of their lines.
const BATCH_ENTRIES: usize = 20_000;
const BATCH_BYTES: usize = 16 << 20;

/// The lines of a stream, none of them longer than [`LINE_BYTES_MAX`] in memory.
struct JsonLines {
    input: Box<dyn BufRead>,
    number: u64,
}

enum Line {
    Text,
    TooLong,
    End,
}

impl JsonLines {
    fn next(&mut self, line: &mut Vec<u8>) -> std::io::Result<Line> {
        line.clear();
        let read = (&mut self.input)
            .take(LINE_BYTES_MAX as u64)
            .read_until(b'\n', line)?;
        if read == 0 {
            return Ok(Line::End);
        }
        self.number += 1;
        if read == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            self.skip_rest()?;
            return Ok(Line::TooLong);
        }
        Ok(Line::Text)
    }

    fn skip_rest(&mut self) -> std::io::Result<()> {
        loop {
            let piece = self.input.fill_buf()?;
            let end = memchr::memchr(b'\n', piece);
            let used = end.map_or(piece.len(), |at| at + 1);
            let done = end.is_some() || piece.is_empty();
            self.input.consume(used);
            if done {
                return Ok(());
            }
        }
    }
}

/// An entry that was read.
struct Read {
    entry: Entry,
    /// Without its secrets.
    masked: bool,
    /// Under which it is stored if secrets were treated otherwise then.
    other_id: Option<EntryId>,
}

/// Fills in what a line leaves out.
struct Completing {
    ids: Ids,
    own_id: String,
    user_id: String,
    rules: Rules,
}

impl Completing {
    fn batch(&mut self, lines: &mut JsonLines, report: &mut Report) -> std::io::Result<Vec<Read>> {
        let mut batch = Vec::new();
        let (mut line, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
            match lines.next(&mut line)? {
                Line::End => break,
                Line::TooLong => report.skip(Skip::TooLong),
                Line::Text if line.trim_ascii().is_empty() => {}
                Line::Text => {
                    bytes += line.len();
                    match self.entry(&line) {
                        Ok(Ok(read)) => batch.push(read),
                        Ok(Err(skip)) => report.skip(skip),
                        Err(why) => report.unreadable(lines.number, why),
                    }
                }
            }
        }
        Ok(batch)
    }

    fn entry(&mut self, line: &[u8]) -> Result<Result<Read, Skip>, String> {
        // A byte order mark at the head of the file.
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let mut partial: PartialEntry =
            serde_json::from_slice(line).map_err(|err| json_error(&err))?;
        let (mut masked, mut other_id) = (false, None);
        if partial.id.is_none()
            && let (Some(ts), Some(cmd)) = (partial.ts, &partial.cmd)
        {
            let cwd = partial.cwd.clone().unwrap_or_default();
            let ids = self.ids.timed_with_secrets(ts, cmd);
            let (id, other) = ids.stored_and_other(self.rules.record_secrets);
            let text = match self.rules.recorded(cmd, &cwd) {
                Ok(text) => text.into_owned(),
                Err(skip) => return Ok(Err(skip)),
            };
            masked = text != **cmd;
            (partial.id, other_id) = (Some(id), other);
            partial.cmd = Some(text.into());
            partial
                .session
                .get_or_insert_with(|| format!("{IMPORT_SESSION}jsonl"));
        }
        if partial.id.is_some() || partial.cmd.is_none() || partial.ts.is_none() {
            // Without an id only because the time or the command is missing: say that, not the id.
            if partial.cmd.is_none() {
                return Err("`cmd` is missing".to_owned());
            }
            if partial.ts.is_none() {
                return Err("`ts` is missing".to_owned());
            }
        }
        partial.user_id.get_or_insert_with(|| self.user_id.clone());
        partial.device_id.get_or_insert_with(|| self.own_id.clone());
        let entry = partial.into_entry().map_err(|err| err.to_string())?;
        Ok(Ok(Read {
            entry,
            masked,
            other_id,
        }))
    }
}

/// Without serde's "at line 1": the line's own number is told beside it.
fn json_error(err: &serde_json::Error) -> String {
    let text = err.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) if err.column() > 0 => format!("{what} (byte {})", err.column()),
        Some((what, _)) => what.to_owned(),
        None => text,
    }
}
