//! Findings, and how they are shown: in groups, a line for what is well, and for what is not also
//! why it matters and the command that mends it.

use serde_json::{Value, json};

use crate::error::CommandError;
use crate::text::{Breaks, visible, width};
use crate::ui::{self, Output, Paint};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Well,
    /// Worth knowing; nothing has to be done.
    Note,
    /// Something does not work, or is not safe.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    /// For programs: stays the same.
    id: &'static str,
    level: Level,
    what: String,
    why: Option<String>,
    /// A command, to be typed as it is.
    mend: Option<String>,
}

/// Findings about one thing.
#[derive(Clone, Debug)]
pub(super) struct Group {
    title: String,
    findings: Vec<Finding>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Report {
    groups: Vec<Group>,
    /// What was measured of each shell.
    pub(super) shells: Vec<Value>,
}

impl Group {
    pub(super) fn new(title: impl Into<String>) -> Group {
        Group {
            title: title.into(),
            findings: Vec::new(),
        }
    }

    pub(super) fn well(&mut self, id: &'static str, what: impl Into<String>) {
        self.add(id, Level::Well, what.into());
    }

    pub(super) fn note(&mut self, id: &'static str, what: impl Into<String>) -> &mut Finding {
        self.add(id, Level::Note, what.into())
    }

    pub(super) fn problem(&mut self, id: &'static str, what: impl Into<String>) -> &mut Finding {
        self.add(id, Level::Problem, what.into())
    }

    fn add(&mut self, id: &'static str, level: Level, what: String) -> &mut Finding {
        // Names and errors come from elsewhere.
        let what = visible(what.as_str().into(), Breaks::Mark);
        self.findings.push(Finding {
            id,
            level,
            what,
            why: None,
            mend: None,
        });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    /// Adds what another group found; its commands are about `wide` instead of `narrow`.
    pub(super) fn take_over(&mut self, other: Group, narrow: &str, wide: &str) {
        self.findings
            .extend(other.findings.into_iter().map(|mut finding| {
                finding.mend = finding.mend.map(|mend| mend.replace(narrow, wide));
                finding
            }));
    }

    /// Whether nothing in it needs a hand.
    pub(super) fn is_well(&self) -> bool {
        self.findings.iter().all(|it| it.level == Level::Well)
    }
}

impl Finding {
    pub(super) fn why(&mut self, why: impl Into<String>) -> &mut Finding {
        self.why = Some(visible(why.into().as_str().into(), Breaks::Mark));
        self
    }

    pub(super) fn mend(&mut self, command: impl Into<String>) -> &mut Finding {
        self.mend = Some(command.into());
        self
    }
}

/// Longer lines are hard to read.
const COLUMNS_MAX: usize = 100;

impl Report {
    pub(super) fn add(&mut self, group: Group) {
        self.groups.push(group);
    }

    /// How many findings are of this level.
    pub(crate) fn count(&self, level: Level) -> usize {
        let findings = self.groups.iter().flat_map(|group| &group.findings);
        findings.filter(|finding| finding.level == level).count()
    }

    pub(crate) fn json(&self, settings: Value) -> Value {
        let checks = self.groups.iter().flat_map(|group| {
            group.findings.iter().map(|finding| {
                json!({
                    "group": group.title,
                    "id": finding.id,
                    "level": finding.level.as_str(),
                    "what": finding.what,
                    "why": finding.why,
                    "mend": finding.mend,
                })
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ok": self.count(Level::Problem) == 0,
            "problems": self.count(Level::Problem),
            "notes": self.count(Level::Note),
            "checks": checks.collect::<Vec<_>>(),
            "shells": self.shells,
            "settings": settings,
        })
    }

    /// Prints it; `least`: leaves out what matters less.
    pub(crate) fn print(&self, out: &mut Output, least: Level) -> Result<(), CommandError> {
        let columns = ui::columns().unwrap_or(80).clamp(40, COLUMNS_MAX);
        let paint = Paint::stdout();
        let mut first = true;
        for group in &self.groups {
            let findings: Vec<_> = group
                .findings
                .iter()
                .filter(|it| it.level >= least)
                .collect();
            if findings.is_empty() {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.line("")?;
            }
            out.line(paint.bold(&group.title))?;
            for finding in findings {
                finding.print(out, paint, columns)?;
            }
        }
        Ok(())
    }
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Well => "ok",
            Level::Note => "note",
            Level::Problem => "problem",
        }
    }

    fn mark(self, paint: Paint) -> String {
        match self {
            Level::Well => paint.green("✓"),
            Level::Note => paint.yellow("•"),
            Level::Problem => paint.red("✗"),
        }
    }
}

impl Finding {
    fn print(&self, out: &mut Output, paint: Paint, columns: usize) -> Result<(), CommandError> {
        let mut mark = self.level.mark(paint);
        for line in wrapped(&self.what, columns - 4) {
            out.line(format_args!("  {mark} {line}"))?;
            mark = " ".to_owned();
        }
        for line in self.why.iter().flat_map(|why| wrapped(why, columns - 6)) {
            out.line(format_args!("      {}", paint.dim(&line)))?;
        }
        // Never wrapped: it is to be copied.
        for line in self.mend.iter() {
            out.line(format_args!(
                "      {} {}",
                paint.dim("$"),
                paint.cyan(line)
            ))?;
        }
        Ok(())
    }
}

/// Broken between words into lines of at most so many columns; a longer word gets one of its own.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_hangul_counts_twice() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("서재 맥미니 둘", 11), ["서재 맥미니", "둘"]);
        assert_eq!(wrapped("a/very/long/path b", 5), ["a/very/long/path", "b"]);
    }
}
