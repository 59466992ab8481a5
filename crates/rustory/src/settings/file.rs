//! The configuration file: finding it, reading it, and saying on which line something is wrong.

use std::io;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::keys::{KEYS, Value};
use super::{Origin, Problem, Settings};

/// Where the configuration file is, whether or not it is there; `None` without a home directory.
pub(crate) fn config_path() -> Option<PathBuf> {
    let dir = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        // As its specification says, a relative one does not count.
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".config")))?;
    Some(dir.join("rustory/config.toml"))
}

/// `~` and `~/x` as paths in the home directory; anything else as it is.
pub(crate) fn expand_tilde(path: &str) -> PathBuf {
    let in_home = match path {
        "~" => Some(""),
        _ => path.strip_prefix("~/"),
    };
    match (in_home, std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// Applies the file's keys. A missing file says nothing.
pub(super) fn apply(settings: &mut Settings, path: &Path) {
    let at = |line| Origin::File {
        path: path.to_owned(),
        line,
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return,
        Err(err) => {
            settings.problems.push(Problem {
                origin: at(0),
                what: format!("can't be read: {err}; defaults are used"),
            });
            return;
        }
    };
    // The keys that can be read count, above all the rules of what is not recorded.
    let (table, errors) = DeTable::parse_recoverable(&text);
    let wrong_lines: Vec<usize> = errors
        .iter()
        .map(|err| line_of(&text, err.span().map_or(0, |span| span.start)))
        .collect();
    // One slip often makes several errors; the first one is where it is.
    if let (Some(err), Some(&line)) = (errors.first(), wrong_lines.first()) {
        settings.problems.push(Problem {
            origin: at(line),
            what: format!(
                "no TOML: {}; keys that can't be read keep their defaults",
                err.message().trim_end()
            ),
        });
    }
    for (name, value) in table.get_ref() {
        let first = line_of(&text, name.span().start);
        // A value that was not found at all lies nowhere.
        let last = line_of(&text, value.span().end).max(first);
        // Half a value may well be an acceptable one, and not what was meant.
        if wrong_lines.iter().any(|line| (first..=last).contains(line)) {
            continue;
        }
        let origin = at(first);
        match KEYS.iter().find(|key| key.name == name.get_ref().as_ref()) {
            Some(key) => settings.set(key, from_toml(value.get_ref()), origin),
            None => settings.problems.push(Problem {
                origin,
                what: unknown(name.get_ref()),
            }),
        }
    }
}

fn from_toml<'a>(value: &'a DeValue<'_>) -> Value<'a> {
    match value {
        DeValue::String(text) => Value::Text(text),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Other, Value::Number)
        }
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map_or(Value::Other, Value::List),
        _ => Value::Other,
    }
}

fn unknown(name: &str) -> String {
    let nearest = KEYS
        .iter()
        .map(|key| (similarity(name, key.name), key.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.75);
    match nearest {
        Some((_, key)) => format!("unknown key `{name}`; did you mean `{key}`?"),
        None => {
            let names: Vec<_> = KEYS.iter().map(|key| format!("`{}`", key.name)).collect();
            format!("unknown key `{name}`; accepted are {}", names.join(", "))
        }
    }
}

/// From 0 to 1: how much of two names is the same.
fn similarity(a: &str, b: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(a, b)
}

/// Counted from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}
