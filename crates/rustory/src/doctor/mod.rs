//! What `rr doctor` looks at, a file for each kind of thing, and how it is said.
//!
//! Everything here looks and changes nothing: the database is opened for reading, shells run with
//! a data directory of their own, and a hub is asked under a name that is thrown away.

mod device;
mod judge;
mod network;
mod program;
pub(crate) mod pty;
mod report;
mod shell;
mod storage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustory_store::Store;

pub(crate) use report::{Level, Report};

use crate::cmd::init::{Shell, own_path, quoted};
use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::ui::Progress;

/// What to look at, and how long.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// Read every entry.
    pub(crate) full: bool,
    /// Start shells: all that are in use, or these.
    pub(crate) shells: Option<Vec<Shell>>,
    /// What a shell or a hub may take.
    pub(crate) timeout: Duration,
}

/// What every check needs to know.
struct Doctor<'a> {
    ctx: &'a Ctx,
    scope: &'a Scope,
    home: PathBuf,
    /// This binary.
    own: PathBuf,
    path_var: Vec<PathBuf>,
}

/// Looks at everything.
pub(crate) fn look(ctx: &Ctx, scope: &Scope) -> Result<Report, CommandError> {
    let doctor = Doctor {
        ctx,
        scope,
        home: std::env::home_dir().unwrap_or_else(|| PathBuf::from("/")),
        own: own_path()?,
        path_var: std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect(),
    };
    let mut report = Report::default();
    let mut progress = Progress::new(ctx.quiet);
    report.add(doctor.program());
    if let Some(shells) = &scope.shells {
        doctor.shells(shells, &mut report, &mut progress);
    }
    progress.update(|| "reading the database".to_owned());
    let (database, store) = doctor.database(&mut progress);
    report.add(database);
    report.add(doctor.spool(store.as_ref()));
    let known = doctor.known(store.as_ref());
    report.add(doctor.keys(&known));
    report.add(doctor.daemon(&known));
    progress.clear();
    report.add(doctor.network(&known, &mut progress));
    report.add(doctor.devices(&known));
    progress.clear();
    Ok(report)
}

/// What is known of the other devices, and what the daemon says.
struct Known {
    running: Option<crate::daemon::Running>,
    state: Option<crate::daemon::State>,
    peers: Vec<rustory_store::PeerState>,
    last: Vec<rustory_store::LastOfDevice>,
    own_id: Option<String>,
}

impl Known {
    /// Whether this device has others to meet.
    fn has_company(&self, ctx: &Ctx) -> bool {
        let settings = &ctx.settings;
        !self.peers.is_empty() || !settings.trackers.is_empty() || !settings.relays.is_empty()
    }
}

impl Doctor<'_> {
    fn known(&self, store: Option<&Store>) -> Known {
        let running = crate::daemon::running(self.ctx.settings.data_dir());
        let state = running.as_ref().and_then(|running| {
            crate::daemon::State::read(self.ctx.settings.data_dir(), running.pid)
        });
        Known {
            running,
            state,
            peers: store.and_then(|it| it.peers().ok()).unwrap_or_default(),
            last: store
                .and_then(|it| it.last_of_devices().ok())
                .unwrap_or_default(),
            own_id: store.map(|it| it.identity().device_id.clone()),
        }
    }

    /// With `~` for the home directory.
    fn short(&self, path: &Path) -> String {
        match path.strip_prefix(&self.home) {
            Ok(rest) => format!("~/{}", rest.display()),
            Err(_) => path.display().to_string(),
        }
    }

    /// This program as it can be typed: by a name where one leads here, else by its path.
    fn rr(&self) -> String {
        let names = ["rr", "rustory"];
        match names.into_iter().find(|name| self.leads_here(name)) {
            Some(name) => name.to_owned(),
            None => in_shell(&self.own),
        }
    }

    /// Whether a name in `PATH` is this program.
    fn leads_here(&self, name: &str) -> bool {
        let same = |path: PathBuf| std::fs::canonicalize(path).ok() == self.own.canonicalize().ok();
        self.in_path(name).is_some_and(same)
    }

    /// What a name in `PATH` is.
    fn in_path(&self, name: &str) -> Option<PathBuf> {
        let mut found = self.path_var.iter().map(|dir| dir.join(name));
        found.find(|path| path.is_file())
    }
}

/// A path as a shell takes it.
fn in_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => String::from_utf8_lossy(&quoted(path)).into_owned(),
    }
}
