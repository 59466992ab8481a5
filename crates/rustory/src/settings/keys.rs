//! Every key, what it accepts, and what it sets. `docs/configuration.md` describes them.

use std::path::PathBuf;
use std::time::Duration;

use bstr::{BString, ByteVec as _};
use regex_lite::Regex;

use super::{Finder, Settings, Theme, expand_tilde};

/// One setting.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(super) set: fn(&mut Settings, Value<'_>) -> Result<(), String>,
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Number(i64),
    Bool(bool),
    List(Vec<&'a str>),
    /// From the environment, where everything is text: the key knows what it should be.
    Env(&'a str),
    /// A table, a date, a list of something else ...
    Other,
}

type Set = Result<(), String>;

/// All of them, in the order of the documentation.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "db_path",
        set: |s, v| v.path().map(|path| s.db_path = path),
    },
    Key {
        name: "device_id",
        set: |s, v| v.label().map(|id| s.device_id = Some(id)),
    },
    Key {
        name: "device_name",
        set: |s, v| v.label().map(|name| s.device_name = name),
    },
    Key {
        name: "user_id",
        set: |s, v| v.label().map(|id| s.user_id = id),
    },
    Key {
        name: "search_limit_default",
        set: search_limit,
    },
    Key {
        name: "finder",
        set: finder,
    },
    Key {
        name: "theme",
        set: theme,
    },
    Key {
        name: "ignore",
        set: ignore,
    },
    Key {
        name: "ignore_dirs",
        set: ignore_dirs,
    },
    Key {
        name: "http_token",
        set: |s, v| v.label().map(|token| s.http_token = Some(token)),
    },
    Key {
        name: "trackers",
        set: |s, v| v.texts().map(|list| s.trackers = list),
    },
    Key {
        name: "relays",
        set: |s, v| v.texts().map(|list| s.relays = list),
    },
    Key {
        name: "listen",
        set: |s, v| v.texts().map(|list| s.listen = list),
    },
    Key {
        name: "swarm_key_path",
        set: |s, v| v.path().map(|path| s.swarm_key_path = path),
    },
    Key {
        name: "identity_key_path",
        set: |s, v| v.path().map(|path| s.identity_key_path = path),
    },
    Key {
        name: "sync_interval",
        set: sync_interval,
    },
    Key {
        name: "mdns",
        set: |s, v| v.flag().map(|flag| s.mdns = flag),
    },
    Key {
        name: "record_secrets",
        set: |s, v| v.flag().map(|flag| s.rules.record_secrets = flag),
    },
];

/// Less would keep everybody's network busy with nothing.
const SYNC_INTERVAL_MIN: Duration = Duration::from_secs(1);

fn sync_interval(settings: &mut Settings, value: Value<'_>) -> Set {
    let interval = value.duration()?;
    if interval < SYNC_INTERVAL_MIN {
        return Err("expected at least one second, such as `30s`".to_owned());
    }
    settings.sync_interval = interval;
    Ok(())
}

/// More would not fit the finder's memory.
const SEARCH_LIMIT_MAX: usize = 10_000_000;

fn search_limit(settings: &mut Settings, value: Value<'_>) -> Set {
    let number = match value {
        Value::Number(number) => usize::try_from(number).ok(),
        Value::Env(text) => text.parse().ok(),
        _ => None,
    };
    settings.search_limit_default = number
        .filter(|number| (1..=SEARCH_LIMIT_MAX).contains(number))
        .ok_or_else(|| format!("expected a whole number from 1 to {SEARCH_LIMIT_MAX}"))?;
    Ok(())
}

fn finder(settings: &mut Settings, value: Value<'_>) -> Set {
    settings.finder = match value.text() {
        Some("auto") => Finder::Auto,
        Some("fzf") => Finder::Fzf,
        Some("builtin") => Finder::Builtin,
        _ => return Err("expected `auto`, `fzf` or `builtin`".to_owned()),
    };
    Ok(())
}

fn theme(settings: &mut Settings, value: Value<'_>) -> Set {
    settings.theme = match value.text() {
        Some("auto") => Theme::Auto,
        Some("dark") => Theme::Dark,
        Some("light") => Theme::Light,
        _ => return Err("expected `auto`, `dark` or `light`".to_owned()),
    };
    Ok(())
}

/// The good patterns count even beside a bad one: they keep things out of the history.
fn ignore(settings: &mut Settings, value: Value<'_>) -> Set {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for pattern in value.list()? {
        match Regex::new(pattern) {
            Ok(regex) => good.push(regex),
            Err(err) => bad.push(format!("`{pattern}` is no regular expression: {err}")),
        }
    }
    if bad.is_empty() || !good.is_empty() {
        settings.rules.ignore = good;
    }
    if bad.is_empty() {
        Ok(())
    } else {
        Err(bad.join(", "))
    }
}

fn ignore_dirs(settings: &mut Settings, value: Value<'_>) -> Set {
    settings.rules.ignore_dirs = value
        .list()?
        .into_iter()
        .map(|dir| {
            Vec::from_path_buf(expand_tilde(dir))
                .map(BString::from)
                .map_err(|_| format!("`{dir}` is no path"))
        })
        .collect::<Result<_, _>>()?;
    Ok(())
}

impl<'a> Value<'a> {
    fn text(&self) -> Option<&'a str> {
        match self {
            Value::Text(text) | Value::Env(text) => Some(text),
            _ => None,
        }
    }

    /// A text of at least one character without control characters.
    fn label(&self) -> Result<String, String> {
        self.text()
            .filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
            .map(str::to_owned)
            .ok_or_else(|| "expected a text that is not empty".to_owned())
    }

    fn path(&self) -> Result<PathBuf, String> {
        self.text()
            .filter(|text| !text.is_empty())
            .map(expand_tilde)
            .ok_or_else(|| "expected a path".to_owned())
    }

    fn flag(&self) -> Result<bool, String> {
        match self {
            Value::Bool(flag) => Ok(*flag),
            Value::Env("true" | "1") => Ok(true),
            Value::Env("false" | "0") => Ok(false),
            _ => Err("expected `true` or `false`".to_owned()),
        }
    }

    /// In the environment, one item a line.
    fn list(self) -> Result<Vec<&'a str>, String> {
        match self {
            Value::List(items) => Ok(items),
            Value::Env(text) => Ok(text.lines().filter(|line| !line.is_empty()).collect()),
            _ => Err("expected a list of texts such as `[\"a\", \"b\"]`".to_owned()),
        }
    }

    fn texts(self) -> Result<Vec<String>, String> {
        Ok(self.list()?.into_iter().map(str::to_owned).collect())
    }

    fn duration(&self) -> Result<Duration, String> {
        let secs = match self {
            Value::Number(secs) => u64::try_from(*secs).ok().map(Duration::from_secs),
            Value::Text(text) | Value::Env(text) => text
                .parse::<jiff::SignedDuration>()
                .ok()
                .and_then(|span| Duration::try_from(span).ok()),
            _ => None,
        };
        secs.ok_or_else(|| "expected a time such as `30s` or `5m`".to_owned())
    }
}
