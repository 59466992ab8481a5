//! What an import came to, for people and for programs.

use crate::ui::grouped;
use std::path::{Path, PathBuf};

use rustory_core::rules::Skip;
use serde::Serialize;

use super::Format;

/// What one source gave.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) format: Format,
    pub(crate) path: PathBuf,
    pub(crate) new: u64,
    pub(crate) known: u64,
    /// Of the new ones: with secrets that are not stored.
    pub(crate) masked: u64,
    pub(crate) skipped: Skipped,
    /// The first few lines that could not be read, and why.
    pub(crate) unreadable: Vec<(u64, String)>,
}

/// Commands of the source that did not become entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Skipped {
    /// A leading blank.
    hidden: u64,
    /// An `ignore` pattern or an ignored directory.
    ignored: u64,
    /// Nothing but blanks.
    empty: u64,
    /// More bytes than an entry may have.
    too_long: u64,
    /// Deleted in the database that they came from.
    pub(crate) deleted: u64,
    /// Not a command at all.
    unreadable: u64,
}

impl Skipped {
    fn parts(&self) -> [(u64, &'static str); 6] {
        [
            (self.hidden, "hidden"),
            (self.ignored, "ignored"),
            (self.empty, "empty"),
            (self.too_long, "too long"),
            (self.deleted, "deleted"),
            (self.unreadable, "unreadable"),
        ]
    }

    fn total(&self) -> u64 {
        self.parts().iter().map(|(count, _)| count).sum()
    }
}

/// How many unreadable lines are told one by one.
const UNREADABLE_SHOWN: usize = 5;

impl Report {
    pub(super) fn new(format: Format, path: &Path) -> Report {
        Report {
            format,
            path: path.to_owned(),
            new: 0,
            known: 0,
            masked: 0,
            skipped: Skipped::default(),
            unreadable: Vec::new(),
        }
    }

    pub(super) fn skip(&mut self, skip: Skip) {
        let count = match skip {
            Skip::LeadingSpace => &mut self.skipped.hidden,
            Skip::Pattern | Skip::Directory => &mut self.skipped.ignored,
            Skip::Empty => &mut self.skipped.empty,
            Skip::TooLong => &mut self.skipped.too_long,
        };
        *count += 1;
    }

    pub(super) fn unreadable(&mut self, line: u64, why: impl std::fmt::Display) {
        self.skipped.unreadable += 1;
        if self.unreadable.len() < UNREADABLE_SHOWN {
            self.unreadable.push((line, why.to_string()));
        }
    }

    /// How many commands the source has, as far as it was gone through.
    pub(super) fn seen(&self) -> u64 {
        self.new + self.known + self.skipped.total()
    }

    /// `zsh: 12,345 new, 100 known, 3 skipped (2 hidden, 1 unreadable) from ~/.zsh_history`
    pub(crate) fn sentence(&self, home: &Path, dry_run: bool) -> String {
        let skipped = match self.skipped.total() {
            0 => String::new(),
            total => {
                let parts: Vec<String> = self
                    .skipped
                    .parts()
                    .iter()
                    .filter(|(count, _)| *count > 0)
                    .map(|(count, why)| format!("{} {why}", grouped(*count)))
                    .collect();
                format!(", {} skipped ({})", grouped(total), parts.join(", "))
            }
        };
        let masked = match self.masked {
            0 => String::new(),
            masked => format!(" ({} with secrets masked)", grouped(masked)),
        };
        format!(
            "{}: {} new{}{masked}, {} known{skipped} from {}",
            self.format.name(),
            grouped(self.new),
            if dry_run { " (not written)" } else { "" },
            grouped(self.known),
            shown_path(&self.path, home),
        )
    }

    pub(crate) fn json(&self, dry_run: bool) -> serde_json::Value {
        let unreadable: Vec<_> = self
            .unreadable
            .iter()
            .map(|(line, why)| serde_json::json!({ "line": line, "why": why }))
            .collect();
        serde_json::json!({
            "format": self.format.name(),
            "path": self.path.to_string_lossy(),
            "new": self.new,
            "known": self.known,
            "masked": self.masked,
            "skipped": self.skipped,
            "unreadable": unreadable,
            "dry_run": dry_run,
        })
    }
}

/// With the home directory as `~`.
pub(super) fn shown_path(path: &Path, home: &Path) -> String {
    match path.strip_prefix(home) {
        Ok(rest) if !home.as_os_str().is_empty() => format!("~/{}", rest.display()),
        _ => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_what_was_skipped_and_why() {
        let mut report = Report::new(Format::Zsh, Path::new("/home/me/.zsh_history"));
        report.new = 12_345;
        report.known = 100;
        let home = Path::new("/home/me");
        assert_eq!(
            report.sentence(home, false),
            "zsh: 12,345 new, 100 known from ~/.zsh_history"
        );
        report.masked = 2;
        report.skip(Skip::LeadingSpace);
        report.skip(Skip::LeadingSpace);
        report.unreadable(7, "x");
        assert_eq!(
            report.sentence(home, true),
            "zsh: 12,345 new (not written) (2 with secrets masked), 100 known, 3 skipped (2 hidden, 1 unreadable) from \
             ~/.zsh_history"
        );
    }
}
