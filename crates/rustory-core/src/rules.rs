//! What is recorded: the one home of the capture rules, for every shell.
//!
//! Whatever makes entries (the drain, `rr record`, imports) gets the text to store from
//! [`Rules::recorded`] and from nowhere else, so that no way around the rules or past the masking
//! of secrets is open.
//!
//! Shells apply their own rules first (`HISTCONTROL`, `HISTIGNORE`, `HISTORY_IGNORE`): what a
//! shell keeps out of its own history never reaches the spool.

use std::borrow::Cow;

use bstr::{BStr, BString, ByteSlice as _};
use regex_lite::Regex;

use crate::limits::CMD_BYTES_MAX;
use crate::secrets;

/// The user's rules, resolved from the settings.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Commands that match any of these are not recorded (`ignore`).
    pub ignore: Vec<Regex>,
    /// Commands typed in one of these directories or below are not recorded (`ignore_dirs`).
    pub ignore_dirs: Vec<BString>,
    /// Secrets are stored as they were typed (`record_secrets`).
    pub record_secrets: bool,
}

/// Why a command is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// Nothing but white space.
    #[error("the command is empty")]
    Empty,
    /// A leading blank: the user's own way to say "not this one".
    #[error("the command begins with a blank")]
    LeadingSpace,
    /// An `ignore` pattern matches.
    #[error("an `ignore` pattern matches the command")]
    Pattern,
    /// Typed in one of `ignore_dirs`.
    #[error("the directory is one of `ignore_dirs`")]
    Directory,
    /// Longer than [`CMD_BYTES_MAX`].
    #[error("the command has more than {CMD_BYTES_MAX} bytes")]
    TooLong,
}

impl Rules {
    /// What is stored of one command typed in `cwd`: all of it, but for the secrets.
    ///
    /// # Errors
    /// The reason why it is not recorded.
    pub fn recorded<'a>(&self, cmd: &'a [u8], cwd: &[u8]) -> Result<Cow<'a, [u8]>, Skip> {
        self.check(cmd.into(), cwd.into())?;
        let text = self.masked(cmd);
        // Masks may be longer than what they stand for.
        match text.len() > CMD_BYTES_MAX {
            true => Err(Skip::TooLong),
            false => Ok(text),
        }
    }

    /// The command without its secrets, unless they are recorded, whether or not it is itself.
    #[must_use]
    pub fn masked<'a>(&self, cmd: &'a [u8]) -> Cow<'a, [u8]> {
        match self.record_secrets {
            true => Cow::Borrowed(cmd),
            false => secrets::mask(cmd),
        }
    }

    fn check(&self, cmd: &BStr, cwd: &BStr) -> Result<(), Skip> {
        if cmd.trim_ascii().is_empty() {
            return Err(Skip::Empty);
        }
        if cmd.starts_with(b" ") || cmd.starts_with(b"\t") {
            return Err(Skip::LeadingSpace);
        }
        if cmd.len() > CMD_BYTES_MAX {
            return Err(Skip::TooLong);
        }
        if self
            .ignore_dirs
            .iter()
            .any(|dir| lies_in(cwd, dir.as_ref()))
        {
            return Err(Skip::Directory);
        }
        if !self.ignore.is_empty() {
            let text = cmd.to_str_lossy();
            if self.ignore.iter().any(|pattern| pattern.is_match(&text)) {
                return Err(Skip::Pattern);
            }
        }
        Ok(())
    }
}

/// Whether `path` is `dir` or lies below it.
fn lies_in(path: &BStr, dir: &BStr) -> bool {
    let dir = dir.strip_suffix(b"/").unwrap_or(dir);
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cmd: &str, cwd: &str) -> Result<(), Skip> {
        let rules = Rules {
            ignore: vec![Regex::new("^pass ").unwrap()],
            ignore_dirs: vec!["/secret/".into()],
            record_secrets: false,
        };
        rules.check(cmd.into(), cwd.into())
    }

    #[test]
    fn ordinary_commands_are_recorded_exactly_as_they_are() {
        for cmd in ["ls", "rr list", "echo ' x'", "a\n  b", "ls  "] {
            assert_eq!(check(cmd, "/home"), Ok(()), "{cmd:?}");
        }
    }

    #[test]
    fn hidden_empty_and_ignored_commands_are_not() {
        assert_eq!(check(" ls", "/"), Err(Skip::LeadingSpace));
        assert_eq!(check("\tls", "/"), Err(Skip::LeadingSpace));
        assert_eq!(check(" \n ", "/"), Err(Skip::Empty));
        assert_eq!(check("pass show x", "/"), Err(Skip::Pattern));
        assert_eq!(
            check(&"x".repeat(CMD_BYTES_MAX + 1), "/"),
            Err(Skip::TooLong)
        );
    }

    #[test]
    fn an_ignored_directory_ends_at_its_own_name() {
        assert_eq!(check("ls", "/secret"), Err(Skip::Directory));
        assert_eq!(check("ls", "/secret/deep"), Err(Skip::Directory));
        assert_eq!(check("ls", "/secrets"), Ok(()));
    }

    #[test]
    fn secrets_are_masked_unless_the_user_wants_them() {
        let cmd = b"curl -u me:abc x";
        let stored = |rules: &Rules| rules.recorded(cmd, b"/").unwrap().into_owned();
        let mut rules = Rules::default();
        assert_eq!(stored(&rules), b"curl -u me:[masked] x");
        rules.record_secrets = true;
        assert_eq!(stored(&rules), cmd);
    }

    #[test]
    fn a_pattern_sees_what_was_typed_and_not_the_mask() {
        let rules = Rules {
            ignore: vec![Regex::new("me:abc").unwrap()],
            ..Rules::default()
        };
        assert_eq!(
            rules.recorded(b"curl -u me:abc x", b"/"),
            Err(Skip::Pattern)
        );
    }

    /// An entry that can't be stored would keep everything behind it in the spool.
    #[test]
    fn a_command_that_masking_makes_too_long_is_not_recorded() {
        let cmd = b"token=a ".repeat(CMD_BYTES_MAX / 8);
        assert_eq!(Rules::default().recorded(&cmd, b"/"), Err(Skip::TooLong));
    }

    #[test]
    fn the_root_directory_as_ignored_covers_everything() {
        let rules = Rules {
            ignore: vec![],
            ignore_dirs: vec!["/".into()],
            record_secrets: false,
        };
        assert_eq!(
            rules.check("ls".into(), "/tmp".into()),
            Err(Skip::Directory)
        );
    }
}
