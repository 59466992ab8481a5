//! Settings: flag, then environment, then the configuration file, then the default.
//!
//! What is wrong with a value is told once, with its place and what is accepted, and never stops
//! anything: the other keys count, and the key keeps its default.

mod edit;
mod file;
mod keys;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustory_core::rules::Rules;

pub(crate) use edit::{Edit, create};
pub(crate) use file::{config_path, expand_tilde};
pub(crate) use keys::KEYS;

/// Settings as resolved.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) db_path: PathBuf,
    /// `None`: the random one that the log gave itself.
    pub(crate) device_id: Option<String>,
    /// The label of this device.
    pub(crate) device_name: String,
    pub(crate) user_id: String,
    pub(crate) search_limit_default: usize,
    pub(crate) finder: Finder,
    /// Colours of the finder.
    pub(crate) theme: Theme,
    pub(crate) rules: Rules,
    pub(crate) http_token: Option<String>,
    /// Hubs: tracker and relay in one.
    pub(crate) trackers: Vec<String>,
    /// Relays alone.
    pub(crate) relays: Vec<String>,
    /// Where the daemon listens.
    pub(crate) listen: Vec<String>,
    pub(crate) swarm_key_path: PathBuf,
    pub(crate) identity_key_path: PathBuf,
    /// How often two devices compare even if nothing was told.
    pub(crate) sync_interval: Duration,
    pub(crate) mdns: bool,
    /// What could not be used, and is replaced by the default.
    pub(crate) problems: Vec<Problem>,
    /// Where each key that is not at its default came from.
    pub(crate) origins: BTreeMap<&'static str, Origin>,
}

/// Which finder ctrl+r opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finder {
    /// fzf where it is installed, else the built-in one.
    Auto,
    Fzf,
    Builtin,
}

/// The terminal's background, as far as the finder's colours care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Colours that can be read on either.
    Auto,
    Dark,
    Light,
}

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Env(String),
    File { path: PathBuf, line: usize },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "{flag}"),
            Origin::Env(name) => write!(f, "{name}"),
            // The file as a whole.
            Origin::File { path, line: 0 } => write!(f, "{}", path.display()),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// A value that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) origin: Origin,
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.what)
    }
}

/// `search_limit_default`: how many of the newest entries the finder goes through.
pub(crate) const SEARCH_LIMIT_DEFAULT: usize = 100_000;

/// `listen`: a fixed port, so that routers show the same one to everybody.
const LISTEN_DEFAULT: [&str; 2] = ["/ip4/0.0.0.0/tcp/4747", "/ip6/::/tcp/4747"];

/// `sync_interval`: what is typed travels at once; this is for what that missed.
const SYNC_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

impl Settings {
    /// Where the log, the spool and the keys lie.
    pub(crate) fn data_dir(&self) -> &Path {
        self.db_path.parent().unwrap_or(Path::new("."))
    }

    /// Resolves everything, from the process's own environment.
    pub(crate) fn load(db_path: Option<PathBuf>) -> Settings {
        let mut settings = Settings::defaults();
        if let Some(path) = config_path() {
            file::apply(&mut settings, &path);
        }
        apply_environment(&mut settings, |name| std::env::var_os(name));
        if let Some(path) = db_path {
            settings.db_path = path;
            settings
                .origins
                .insert("db_path", Origin::Flag("--db-path"));
        }
        // Hooks run in any directory: what they are given must not depend on the current one.
        settings.db_path = std::path::absolute(&settings.db_path).unwrap_or(settings.db_path);
        settings.put_keys_beside_the_database();
        settings
    }

    fn put_keys_beside_the_database(&mut self) {
        let dir = self.data_dir().to_owned();
        for (path, name) in [
            (&mut self.swarm_key_path, "swarm.key"),
            (&mut self.identity_key_path, "identity.key"),
        ] {
            if path.as_os_str().is_empty() {
                *path = dir.join(name);
            }
        }
    }

    fn defaults() -> Settings {
        let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        Settings {
            db_path: home.join(".rustory/history.db"),
            device_id: None,
            device_name: crate::drain::hostname(),
            user_id: login_name(),
            search_limit_default: SEARCH_LIMIT_DEFAULT,
            finder: Finder::Auto,
            theme: Theme::Auto,
            rules: Rules::default(),
            http_token: None,
            trackers: Vec::new(),
            relays: Vec::new(),
            listen: LISTEN_DEFAULT.map(str::to_owned).to_vec(),
            // Beside the database, wherever that turns out to be.
            swarm_key_path: PathBuf::new(),
            identity_key_path: PathBuf::new(),
            sync_interval: SYNC_INTERVAL_DEFAULT,
            mdns: true,
            problems: Vec::new(),
            origins: BTreeMap::new(),
        }
    }

    /// Sets one key, or notes why it can't be.
    fn set(&mut self, key: &keys::Key, value: keys::Value<'_>, origin: Origin) {
        match (key.set)(self, value) {
            Ok(()) => {
                self.origins.insert(key.name, origin);
            }
            Err(what) => {
                let instead = match key.name {
                    "ignore" => "it is left out",
                    _ => "the default is used",
                };
                self.problems.push(Problem {
                    origin,
                    what: format!("`{}`: {what}; {instead}", key.name),
                });
            }
        }
    }
}

fn apply_environment(settings: &mut Settings, var: impl Fn(&str) -> Option<std::ffi::OsString>) {
    for key in KEYS {
        let name = format!("RUSTORY_{}", key.name.to_uppercase());
        let Some(value) = var(&name).filter(|value| !value.is_empty()) else {
            continue;
        };
        let origin = Origin::Env(name);
        match value.to_str() {
            Some(text) => settings.set(key, keys::Value::Env(text), origin),
            None => settings.problems.push(Problem {
                origin,
                what: "not UTF-8; the default is used".to_owned(),
            }),
        }
    }
}

/// The login name: as the environment says, else as the system knows the user.
pub(crate) fn login_name() -> String {
    let var = |name| std::env::var(name).ok().filter(|name| !name.is_empty());
    var("USER").or_else(|| var("LOGNAME")).unwrap_or_else(|| {
        let uid = rustix::process::getuid().as_raw().to_string();
        std::fs::read_to_string("/etc/passwd")
            .ok()
            .and_then(|users| name_of(&users, &uid))
            .unwrap_or(uid)
    })
}

fn name_of(passwd: &str, uid: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_env(vars: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::defaults();
        apply_environment(&mut settings, |name| {
            vars.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value.into())
        });
        settings
    }

    fn with_file(text: &str) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let mut settings = Settings::defaults();
        file::apply(&mut settings, &path);
        settings
    }

    fn problem(settings: &Settings) -> String {
        assert_eq!(settings.problems.len(), 1, "{:?}", settings.problems);
        settings.problems[0].to_string()
    }

    #[test]
    fn every_key_is_read_from_the_file() {
        let settings = with_file(
            r#"
            db_path = "/data/h.db"
            device_id = "d1"
            device_name = "desk"
            user_id = "me"
            trackers = ["/dns4/hub/tcp/4001", "hub:4001"]
            relays = []
            listen = ["/ip4/0.0.0.0/tcp/0"]
            swarm_key_path = "~/swarm.key"
            identity_key_path = "/k"
            search_limit_default = 5
            finder = "builtin"
            theme = "light"
            ignore = ["^ls$"]
            ignore_dirs = ["/tmp/x"]
            record_secrets = true
            sync_interval = "5m"
            mdns = false
            http_token = "t"
            "#,
        );
        assert_eq!(settings.problems, []);
        assert_eq!(settings.origins.len(), KEYS.len());
        assert_eq!(settings.db_path, Path::new("/data/h.db"));
        assert_eq!(settings.search_limit_default, 5);
        assert_eq!(settings.finder, Finder::Builtin);
        assert_eq!(settings.theme, Theme::Light);
        assert_eq!(settings.rules.ignore.len(), 1);
        assert_eq!(settings.rules.ignore_dirs, ["/tmp/x"]);
        assert!(settings.rules.record_secrets);
        assert_eq!(settings.http_token.as_deref(), Some("t"));
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let mut settings = with_file("finder = \"fzf\"\nuser_id = \"file\"\n");
        apply_environment(&mut settings, |name| {
            (name == "RUSTORY_FINDER").then(|| "builtin".into())
        });
        assert_eq!(settings.finder, Finder::Builtin);
        assert_eq!(settings.user_id, "file");
        assert_eq!(
            settings.origins["finder"],
            Origin::Env("RUSTORY_FINDER".into())
        );
    }

    #[test]
    fn a_bad_value_is_told_with_its_place_and_what_is_accepted_and_the_good_ones_count() {
        for (text, says) in [
            ("search_limit_default = \"many\"", "a whole number"),
            ("search_limit_default = 0", "a whole number"),
            ("search_limit_default = -1", "a whole number"),
            ("finder = \"skim\"", "`auto`, `fzf` or `builtin`"),
            ("finder = 1", "`auto`, `fzf` or `builtin`"),
            ("theme = \"blue\"", "`auto`, `dark` or `light`"),
            ("ignore = [\"(\"]", "regular expression"),
            ("ignore = \"x\"", "a list of texts"),
            ("ignore = [1]", "a list of texts"),
            ("mdns = \"yes\"", "`true` or `false`"),
            ("sync_interval = \"often\"", "30s"),
            ("db_path = 5", "a path"),
            ("http_token = \"\"", "a text"),
        ] {
            let settings = with_file(&format!("user_id = \"good\"\n{text}\n"));
            let told = problem(&settings);
            assert!(
                told.contains("config.toml:2: ") && told.contains(says),
                "{text}: {told}"
            );
            assert_eq!(settings.user_id, "good");
            assert_eq!(settings.search_limit_default, SEARCH_LIMIT_DEFAULT);
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_the_one_that_was_meant() {
        let told = problem(&with_file("\n\nserach_limit_default = 5\n"));
        assert!(
            told.contains("config.toml:3: ")
                && told.contains("did you mean `search_limit_default`")
        );
        let told = problem(&with_file("colour = 1\n"));
        assert!(told.contains("accepted are `db_path`"), "{told}");
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_with_the_line() {
        let told = problem(&with_file("user_id = \"x\"\nfinder = [\n"));
        assert!(
            told.contains("config.toml:2") || told.contains("config.toml:3"),
            "{told}"
        );
    }

    #[test]
    fn keys_beside_a_slip_in_the_toml_count() {
        let settings = with_file("user_id = \"me\"\nfinder = = 3\nignore = [\"^secret\"]\n");
        assert!(problem(&settings).contains("config.toml:2: no TOML"));
        assert_eq!(settings.user_id, "me");
        assert_eq!(settings.finder, Finder::Auto);
        assert_eq!(settings.rules.ignore.len(), 1);
    }

    #[test]
    fn half_a_value_is_not_taken_for_a_whole_one() {
        for text in [
            "user_id = \"ab\nfinder = \"fzf\"\n",
            "user_id = \"ab\" x\nfinder = \"fzf\"\n",
        ] {
            let settings = with_file(text);
            assert!(problem(&settings).contains("config.toml:1: no TOML"));
            assert_eq!(settings.user_id, Settings::defaults().user_id);
            assert_eq!(settings.finder, Finder::Fzf);
        }
    }

    #[test]
    fn good_patterns_count_beside_a_bad_one() {
        let settings = with_file("ignore = [\"^secret\", \"(\", \"token\"]\n");
        assert!(problem(&settings).contains("`(` is no regular expression"));
        assert_eq!(settings.rules.ignore.len(), 2);
    }

    #[test]
    fn patterns_of_the_file_count_while_all_of_the_environment_are_bad() {
        let mut settings = with_file("ignore = [\"^secret\"]\n");
        apply_environment(&mut settings, |name| {
            (name == "RUSTORY_IGNORE").then(|| "(".into())
        });
        assert_eq!(settings.rules.ignore.len(), 1);
    }

    #[test]
    fn values_in_the_environment_are_checked_the_same() {
        let settings = with_env(&[
            ("RUSTORY_SEARCH_LIMIT_DEFAULT", "1000000"),
            ("RUSTORY_MDNS", "maybe"),
            ("RUSTORY_IGNORE", "^ls\n^cd "),
            ("RUSTORY_USER_ID", ""),
        ]);
        assert_eq!(settings.search_limit_default, 1_000_000);
        assert_eq!(settings.rules.ignore.len(), 2);
        assert!(problem(&settings).starts_with("RUSTORY_MDNS: "));
    }

    #[test]
    fn a_user_without_a_name_in_the_environment_is_looked_up() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!(name_of(passwd, "1000").as_deref(), Some("me"));
        assert_eq!(name_of(passwd, "7"), None);
    }
}
