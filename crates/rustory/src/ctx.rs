//! What every command needs: the settings, and the log they point to.

use std::path::PathBuf;

use rustory_core::Timestamp;
use rustory_store::{Access, Opening, Store};

use crate::error::CommandError;
use crate::settings::Settings;

/// The settings as resolved, and how much to say.
#[derive(Clone, Debug)]
pub(crate) struct Ctx {
    pub(crate) settings: Settings,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// A line on stderr would end up in the middle of a prompt.
    pub(crate) keeps_the_screen: bool,
}

impl Ctx {
    /// Opens the log for reading and writing.
    pub(crate) fn open(&self, access: Access) -> Result<Store, CommandError> {
        let store = Store::open_as(&self.settings.db_path, &self.opening(access))?;
        self.tell_moved(&store);
        Ok(store)
    }

    /// Opens the log for a search: without waiting for another writer, and read only where it
    /// can't be written.
    pub(crate) fn open_for_search(&self) -> Result<Store, CommandError> {
        let path = &self.settings.db_path;
        match Store::open_as(path, &self.opening(Access::HASTY)) {
            Err(err) if err.is_about_writing() => {
                Ok(Store::open_as(path, &self.opening(Access::Read))?)
            }
            opened => {
                let store = opened?;
                self.tell_moved(&store);
                Ok(store)
            }
        }
    }

    fn opening(&self, access: Access) -> Opening<'_> {
        Opening {
            access,
            device_id: self.settings.device_id.as_deref(),
            machine: crate::host::machine(self.settings.data_dir()),
        }
    }

    fn tell_moved(&self, store: &Store) {
        if store.moved().is_some() && !self.keeps_the_screen {
            self.note("this database was copied from another machine: this device counts as a new one from now on");
        }
    }

    /// Where the shells' spool files lie.
    pub(crate) fn spool_dir(&self) -> PathBuf {
        self.settings.data_dir().join("spool")
    }

    /// Says something that is good to know, unless asked to be quiet.
    pub(crate) fn note(&self, line: impl std::fmt::Display) {
        if !self.quiet {
            crate::ui::say(line);
        }
    }
}

/// The system's clock, the one place that reads it.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now()).unwrap_or_default()
}
