//! The daemon as a service of its user: a systemd user unit, or a launchd agent.
//!
//! There is one, for the database of the configuration. Managers are asked through their own
//! programs, so that what happens here can be done again by hand.

mod launchd;
mod systemd;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::cmd::init::own_path;
use crate::ctx::Ctx;
use crate::daemon::control;
use crate::error::CommandError;
use crate::settings::{Origin, create, login_name};
use crate::setup::rc_file::RcFile;

/// Who watches over services here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Systemd,
    Launchd,
}

/// Why there is no service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceError {
    /// Nobody here starts services for a user; why.
    NoManager(String),
    /// The database was named for this one command.
    OtherDatabase,
}

impl From<ServiceError> for CommandError {
    fn from(err: ServiceError) -> Self {
        match err {
            ServiceError::NoManager(why) => CommandError::failed(format!(
                "nobody starts services for you here: {why}"
            ))
            .hint(INSTEAD),
            ServiceError::OtherDatabase => CommandError::usage(
                "the service is for the database of the configuration, not for one named by --db-path or RUSTORY_DB_PATH",
            )
            .hint("set `db_path` in the configuration, or use `rr --db-path FILE daemon --detach`"),
        }
    }
}

/// What to do where nobody starts services,
pub(crate) const INSTEAD: &str = "`rr daemon --detach` starts the daemon now; `rr daemon --detach --quiet` in ~/.profile does so when you log in";

/// and once the daemon runs.
pub(crate) const AT_LOGIN: &str =
    "`rr daemon --detach --quiet` in ~/.profile starts it when you log in";

/// The daemon as a service on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Service<'a> {
    ctx: &'a Ctx,
    manager: Manager,
    /// The file that describes it to its manager.
    path: PathBuf,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Its file is there.
    pub(crate) installed: bool,
    /// It is started at login.
    pub(crate) enabled: bool,
    /// It runs.
    pub(crate) active: bool,
}

impl<'a> Service<'a> {
    /// As far as there is somebody to run it.
    pub(crate) fn of(ctx: &'a Ctx) -> Result<Service<'a>, ServiceError> {
        let named = ctx.settings.origins.get("db_path");
        if matches!(named, Some(Origin::Flag(_) | Origin::Env(_))) {
            return Err(ServiceError::OtherDatabase);
        }
        let manager = match cfg!(target_os = "macos") {
            true => Manager::Launchd,
            false => systemd::is_there().map(|()| Manager::Systemd)?,
        };
        let path = match manager {
            Manager::Systemd => systemd::path(),
            Manager::Launchd => launchd::path(),
        };
        let path = path.ok_or_else(|| ServiceError::NoManager("HOME is not set".to_owned()))?;
        Ok(Service { ctx, manager, path })
    }

    /// The file that describes it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What its manager is called.
    pub(crate) fn manager(&self) -> &'static str {
        match self.manager {
            Manager::Systemd => "systemd",
            Manager::Launchd => "launchd",
        }
    }

    /// What belongs into the file.
    pub(crate) fn text(&self) -> Result<String, CommandError> {
        let (program, config) = (own_path()?, config_home());
        Ok(match self.manager {
            Manager::Systemd => systemd::unit(&program, config.as_deref()),
            Manager::Launchd => {
                let log = self.ctx.settings.data_dir().join("daemon.log");
                launchd::agent(&program, config.as_deref(), &log)
            }
        })
    }

    /// Whether it was installed here.
    pub(crate) fn is_installed(&self) -> bool {
        self.path.exists()
    }

    /// How it stands.
    pub(crate) fn state(&self) -> State {
        let installed = self.is_installed();
        let says = |args: &[&str]| {
            installed && self.call(args).is_ok_and(|output| output.status.success())
        };
        match self.manager {
            Manager::Systemd => State {
                installed,
                enabled: says(&["is-enabled", "--quiet", systemd::NAME]),
                active: says(&["is-active", "--quiet", systemd::NAME]),
            },
            // What is known to launchd is started at login.
            Manager::Launchd => State {
                installed,
                enabled: installed,
                active: says(&["print", &launchd::target()]),
            },
        }
    }

    /// Whether it is installed as it would be now, and runs.
    pub(crate) fn is_current(&self) -> Result<bool, CommandError> {
        let text = self.text()?;
        let state = self.state();
        let is_written = fs::read_to_string(&self.path).is_ok_and(|there| there == text);
        Ok(is_written && state.enabled && state.active)
    }

    /// Installs and starts it, in the place of a daemon that runs otherwise. Whether that changed
    /// anything.
    pub(crate) fn install(&self) -> Result<bool, CommandError> {
        if self.is_current()? {
            return Ok(false);
        }
        let state = self.state();
        self.write(&self.text()?)?;
        if !state.active {
            // One that was started by hand would keep it from the database.
            control::stop(self.ctx)?;
        }
        match self.manager {
            Manager::Systemd => {
                self.run(&["daemon-reload"])?;
                self.run(&["enable", systemd::NAME])?;
                self.run(&["restart", systemd::NAME])?;
            }
            Manager::Launchd => {
                // Whether or not an older one is there.
                let _ = self.call(&["bootout", &launchd::target()]);
                self.run(&[
                    "bootstrap",
                    &launchd::domain(),
                    &self.path.to_string_lossy(),
                ])?;
            }
        }
        Ok(true)
    }

    fn write(&self, text: &str) -> Result<(), CommandError> {
        let cannot = |err| CommandError::failed(format!("`{}`: {err}", self.path.display()));
        match RcFile::read(&self.path).map_err(cannot)? {
            file if file.text.is_some() => file.replace(Some(text.into())),
            _ => create(&self.path, text),
        }
        .map_err(cannot)
    }

    /// Stops it and takes its file away. Whether there was one.
    pub(crate) fn uninstall(&self) -> Result<bool, CommandError> {
        if !self.is_installed() {
            return Ok(false);
        }
        match self.manager {
            Manager::Systemd => self.run(&["disable", "--now", systemd::NAME])?,
            Manager::Launchd => {
                let _ = self.call(&["bootout", &launchd::target()]);
            }
        }
        fs::remove_file(&self.path)
            .map_err(|err| CommandError::failed(format!("`{}`: {err}", self.path.display())))?;
        if self.manager == Manager::Systemd {
            self.run(&["daemon-reload"])?;
        }
        Ok(true)
    }

    /// Starts it, if it does not run.
    pub(crate) fn start(&self) -> Result<(), CommandError> {
        match self.manager {
            Manager::Systemd => self.run(&["start", systemd::NAME]),
            Manager::Launchd => self.run(&["kickstart", &launchd::target()]),
        }
    }

    /// Starts it again.
    pub(crate) fn restart(&self) -> Result<(), CommandError> {
        match self.manager {
            Manager::Systemd => self.run(&["restart", systemd::NAME]),
            Manager::Launchd => self.run(&["kickstart", "-k", &launchd::target()]),
        }
    }

    /// It was started and does not come to work.
    pub(crate) fn did_not_start(&self) -> CommandError {
        let log = match self.manager {
            Manager::Systemd => format!("journalctl --user -u {} -n 20", systemd::NAME),
            Manager::Launchd => format!(
                "cat {}",
                self.ctx.settings.data_dir().join("daemon.log").display()
            ),
        };
        CommandError::failed("the service was started, but the daemon does not begin its work")
            .hint(format!("what it said: `{log}`"))
    }

    /// What else is good to know: a user's services end when the user logs out, unless told otherwise.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        // As logind keeps it, also for somebody who is not logged in.
        let lingers = || {
            Path::new("/var/lib/systemd/linger")
                .join(login_name())
                .exists()
        };
        (self.manager == Manager::Systemd && !lingers()).then_some(
            "it runs while you are logged in; `loginctl enable-linger` keeps it running after that, as on a server",
        )
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.manager {
            Manager::Systemd => systemd::systemctl(),
            Manager::Launchd => Command::new("launchctl"),
        };
        command.args(args);
        command
    }

    fn call(&self, args: &[&str]) -> io::Result<Output> {
        self.command(args).output()
    }

    fn run(&self, args: &[&str]) -> Result<(), CommandError> {
        let shown = format!("{:?}", self.command(args)).replace('"', "");
        let output = self.call(args);
        let output = output.map_err(|err| CommandError::failed(format!("`{shown}`: {err}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(
            CommandError::failed(format!("`{shown}` failed: {}", said.trim()))
                .hint("run it yourself to see more"),
        )
    }
}

/// Where the configuration lies, if not where it does by default: services don't inherit that.
fn config_home() -> Option<PathBuf> {
    let home = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from)?;
    home.is_absolute().then_some(home)
}
