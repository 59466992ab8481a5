//! Settings: flag, then environment, then the configuration file, then the default.

use std::path::{Path, PathBuf};

use rustory_core::rules::Rules;

/// Settings as resolved.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) db_path: PathBuf,
    /// `None`: the random one that the log gave itself.
    pub(crate) device_id: Option<String>,
    pub(crate) user_id: String,
    pub(crate) search_limit_default: usize,
    pub(crate) finder: Finder,
    pub(crate) rules: Rules,
    pub(crate) http_token: Option<String>,
}

/// Which finder ctrl+r opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finder {
    /// fzf where it is installed, else the built-in one.
    Auto,
    Fzf,
    Builtin,
}

/// `search_limit_default`: how many of the newest entries the finder goes through.
pub(crate) const SEARCH_LIMIT_DEFAULT: usize = 100_000;

impl Settings {
    /// Where the log, the spool and the keys lie.
    pub(crate) fn data_dir(&self) -> &Path {
        self.db_path.parent().unwrap_or(Path::new("."))
    }

    pub(crate) fn load(db_path: Option<PathBuf>) -> Settings {
        let home = std::env::home_dir().unwrap_or_default();
        let db_path = db_path
            .or_else(|| std::env::var_os("RUSTORY_DB_PATH").map(PathBuf::from))
            .unwrap_or_else(|| home.join(".rustory/history.db"));
        Settings {
            db_path,
            device_id: std::env::var("RUSTORY_DEVICE_ID").ok(),
            user_id: std::env::var("USER").unwrap_or_default(),
            search_limit_default: std::env::var("RUSTORY_SEARCH_LIMIT_DEFAULT")
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(SEARCH_LIMIT_DEFAULT),
            finder: Finder::Auto,
            rules: Rules::default(),
            http_token: std::env::var("RUSTORY_HTTP_TOKEN").ok(),
        }
    }
}
