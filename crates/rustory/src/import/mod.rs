//! Taking over existing history. `docs/import.md` says what is read and what "again" means.
//!
//! One file per format turns bytes (or somebody else's database) into commands and knows nothing
//! of the log: `bash`, `zsh`, `fish`, `atuin`, `hishtory`, `jsonl`. The rest decides what of it is
//! new: `identity` makes ids, `known` finds what is in the log by another way, `align` finds what
//! is new in a file without times, and `run` writes.

mod align;
mod atuin;
mod bash;
mod database;
mod files;
mod fish;
mod hishtory;
mod identity;
mod jsonl;
mod known;
mod progress;
mod report;
mod run;
mod sources;
mod zsh;

pub(crate) use report::Report;
pub(crate) use run::Run;
pub(crate) use sources::{Source, default_path, found};

use std::borrow::Cow;
use std::path::Path;

use clap::ValueEnum;
use rustory_core::Timestamp;

use crate::error::CommandError;

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Format {
    /// bash's history file, with or without timestamps
    Bash,
    /// zsh's history file, extended or plain
    Zsh,
    /// fish's history file
    Fish,
    /// atuin's database
    Atuin,
    /// hishtory's database
    Hishtory,
    /// JSON lines, as `rr export` writes them
    Jsonl,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Bash => "bash",
            Format::Zsh => "zsh",
            Format::Fish => "fish",
            Format::Atuin => "atuin",
            Format::Hishtory => "hishtory",
            Format::Jsonl => "jsonl",
        }
    }

    /// Imports `path`, of which everything that is not in the log yet becomes an entry.
    pub(crate) fn import(self, run: &mut Run<'_>, path: &Path) -> Result<Report, CommandError> {
        run.progress.begin(self.name());
        let report = match self {
            Format::Bash | Format::Zsh | Format::Fish => files::import(run, self, path),
            Format::Atuin => database::import(run, path, &atuin::DATABASE),
            Format::Hishtory => database::import(run, path, &hishtory::DATABASE),
            Format::Jsonl => jsonl::import(run, path),
        };
        run.progress.end();
        report
    }
}

/// One command as a shell's history file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found<'a> {
    /// The line it begins on, from 1.
    line: u64,
    cmd: Cow<'a, [u8]>,
    /// `None`: the file does not say.
    ts: Option<Timestamp>,
    /// Milliseconds; `None`: the file does not say.
    duration_ms: Option<u64>,
}

impl<'a> Found<'a> {
    fn untimed(line: u64, cmd: &'a [u8]) -> Found<'a> {
        Found {
            line,
            cmd: Cow::Borrowed(cmd),
            ts: None,
            duration_ms: None,
        }
    }
}

/// The lines of a file with their numbers, without their line ends.
///
/// A file that was edited elsewhere and whose first line ends in CR LF has such line ends
/// throughout; in any other file a CR belongs to its command.
#[derive(Clone, Debug)]
struct Lines<'a> {
    rest: &'a [u8],
    number: u64,
    crlf: bool,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Lines<'a> {
        let first = memchr::memchr(b'\n', bytes);
        Lines {
            rest: bytes,
            number: 0,
            crlf: first.is_some_and(|at| bytes[..at].ends_with(b"\r")),
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<(u64, &'a [u8])> {
        if self.rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len());
        let mut line = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        self.number += 1;
        if self.crlf {
            line = line.strip_suffix(b"\r").unwrap_or(line);
        }
        Some((self.number, line))
    }
}

/// Digits, all of them, as a number.
fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<(u64, &[u8])> {
        Lines::new(bytes).collect()
    }

    #[test]
    fn the_last_line_needs_no_line_end() {
        assert_eq!(lines(b"a\n\nb"), [(1, &b"a"[..]), (2, b""), (3, b"b")]);
        assert_eq!(lines(b"a\n"), [(1, &b"a"[..])]);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn carriage_returns_go_only_where_the_whole_file_has_them() {
        assert_eq!(lines(b"a\r\nb\r\n"), [(1, &b"a"[..]), (2, b"b")]);
        assert_eq!(lines(b"a\nb\r\n"), [(1, &b"a"[..]), (2, b"b\r")]);
    }
}
