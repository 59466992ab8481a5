//! Changing single keys of the configuration file. Every other byte of it stays as its user wrote it.

use std::io;
use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;

use super::file::{config_path, line_of};
use crate::error::CommandError;
use crate::setup::config::TEMPLATE;
use crate::setup::rc_file::RcFile;

/// The configuration file with changes that are not written yet.
#[derive(Debug)]
pub(crate) struct Edit {
    file: RcFile,
    before: Option<String>,
    after: String,
}

impl Edit {
    /// Reads the file, or begins with the one that `rr setup` writes.
    ///
    /// # Errors
    /// It can't be read, or has a slip in it that makes changing it a gamble.
    pub(crate) fn begin() -> Result<Edit, CommandError> {
        let path = config_path().ok_or_else(|| {
            CommandError::failed("there is no home directory").hint("set HOME, then try again")
        })?;
        let cannot = |err: io::Error| cannot(&path, &err);
        let file = RcFile::read(&path).map_err(cannot)?;
        let before = match &file.text {
            Some(text) => {
                let text = String::from_utf8(text.to_vec());
                Some(text.map_err(|_| cannot(io::Error::other("it is not UTF-8")))?)
            }
            None => None,
        };
        let after = before.clone().unwrap_or_else(|| TEMPLATE.to_owned());
        if let Err(err) = DeTable::parse(&after) {
            let line = line_of(&after, err.span().map_or(0, |span| span.start));
            return Err(CommandError::failed(format!(
                "`{}:{line}` has a slip, so the file can't be changed: {}",
                path.display(),
                err.message().trim_end()
            ))
            .hint("mend that line, then try again"));
        }
        Ok(Edit {
            file,
            before,
            after,
        })
    }

    /// Sets a key to a text.
    pub(crate) fn set_text(&mut self, key: &str, value: &str) {
        self.set(key, &toml_text(value));
    }

    /// Sets a key to a list of texts; an empty one takes the key out.
    pub(crate) fn set_list(&mut self, key: &str, items: &[String]) {
        let items: Vec<String> = items.iter().map(|item| toml_text(item)).collect();
        match items.is_empty() {
            true => self.after = without(&self.after, key),
            false => self.set(key, &format!("[{}]", items.join(", "))),
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        self.after = with(&self.after, key, value);
    }

    /// Whether anything is different.
    pub(crate) fn changes(&self) -> bool {
        self.before.as_ref() != Some(&self.after)
    }

    /// Replaces the file in one step; a new one is its owner's alone.
    ///
    /// # Errors
    /// Whatever the file system says, or that somebody has changed it meanwhile.
    pub(crate) fn write(&self) -> Result<(), CommandError> {
        let Some(path) = config_path().filter(|_| self.changes()) else {
            return Ok(());
        };
        let written = match self.before {
            Some(_) => self.file.replace(Some(self.after.as_str().into())),
            None => create(&path, &self.after),
        };
        written.map_err(|err| cannot(&path, &err))
    }
}

/// Writes a file that is not there yet, whole or not at all, for its owner alone.
pub(crate) fn create(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::Builder::new()
        .prefix(".rustory-")
        .tempfile_in(dir)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|err| err.error)?;
    Ok(())
}

fn cannot(path: &Path, err: &io::Error) -> CommandError {
    CommandError::failed(format!("`{}`: {err}", path.display()))
}

/// Where a key's name and its value lie.
fn find(text: &str, key: &str) -> Option<(Range<usize>, Range<usize>)> {
    let table = DeTable::parse(text).ok()?;
    let found = table
        .get_ref()
        .iter()
        .find(|(name, _)| name.get_ref().as_ref() == key);
    found.map(|(name, value)| (name.span(), value.span()))
}

/// In the place of the old value; else behind the line in which it is explained; else at the end.
fn with(text: &str, key: &str, value: &str) -> String {
    if let Some((_, old)) = find(text, key) {
        return format!("{}{value}{}", &text[..old.start], &text[old.end..]);
    }
    let line = format!("{key} = {value}\n");
    let explained = format!("#{key} = ");
    let mut at = 0;
    let behind = text.split_inclusive('\n').find_map(|line| {
        at += line.len();
        line.starts_with(&explained).then_some(at)
    });
    let (head, tail) = text.split_at(behind.unwrap_or(text.len()));
    let gap = if head.is_empty() || head.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{head}{gap}{line}{tail}")
}

/// Without the lines of a key.
fn without(text: &str, key: &str) -> String {
    let Some((name, value)) = find(text, key) else {
        return text.to_owned();
    };
    let start = text[..name.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[value.end..]
        .find('\n')
        .map_or(text.len(), |at| value.end + at + 1);
    format!("{}{}", &text[..start], &text[end..])
}

/// A text as TOML writes it.
fn toml_text(text: &str) -> String {
    let mut written = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => written.extend(['\\', char]),
            char if char.is_control() => written.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => written.push(char),
        }
    }
    written.push('"');
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_value_changes_and_everything_beside_it_stays() {
        let text =
            "# mine\nfinder = \"fzf\"\ntrackers = [\n  \"a:1\", # old\n] # why\nmdns = false";
        let changed = with(text, "trackers", "[\"b:2\"]");
        assert_eq!(
            changed,
            "# mine\nfinder = \"fzf\"\ntrackers = [\"b:2\"] # why\nmdns = false"
        );
        assert_eq!(
            without(text, "trackers"),
            "# mine\nfinder = \"fzf\"\nmdns = false"
        );
        assert_eq!(without(text, "relays"), text);
    }

    #[test]
    fn a_new_key_stands_where_it_is_explained_or_at_the_end() {
        let changed = with(TEMPLATE, "trackers", "[\"a:1\"]");
        assert!(
            changed.contains("#trackers = []\ntrackers = [\"a:1\"]\n"),
            "{changed}"
        );
        assert_eq!(without(&changed, "trackers"), TEMPLATE);
        let at_the_end = with("mdns = false", "user_id", "\"x\"");
        assert_eq!(at_the_end, "mdns = false\nuser_id = \"x\"\n");
        assert_eq!(with("", "user_id", "\"x\""), "user_id = \"x\"\n");
    }

    #[test]
    fn whatever_the_text_is_toml_reads_it_again() {
        for text in [
            "plain",
            "it's \"so\" \\ here",
            "tab\tnew\nline",
            "한글 \u{85}",
            "",
        ] {
            let file = with("", "user_id", &toml_text(text));
            let table = DeTable::parse(&file).unwrap();
            let (_, value) = table.get_ref().iter().next().unwrap();
            assert_eq!(value.get_ref().as_str(), Some(text), "{file}");
        }
    }
}
