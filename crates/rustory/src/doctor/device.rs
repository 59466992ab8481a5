//! This device in its swarm: its keys, and the daemon that holds it there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustory_net::p2p::{IdentityKey, KeyFileError, SwarmKey, exposed_mode};

use super::report::Group;
use super::{Doctor, Known, in_shell};
use crate::error::CommandError;
use crate::keys::readers;
use crate::service::Service;

impl Doctor<'_> {
    pub(super) fn keys(&self, known: &Known) -> Group {
        let mut group = Group::new("keys");
        let settings = &self.ctx.settings;
        let swarm = &settings.swarm_key_path;
        match SwarmKey::load(swarm) {
            Ok(key) => {
                let what = format!(
                    "swarm key {}, fingerprint {}",
                    self.short(swarm),
                    key.fingerprint().short()
                );
                self.key_file(
                    &mut group,
                    "keys.swarm",
                    swarm,
                    what,
                    "Who reads it can join your devices and read all of your history.",
                );
            }
            Err(KeyFileError::Missing { .. }) if !known.has_company(self.ctx) => {
                group
                    .note(
                        "keys.swarm",
                        "no swarm key: this device syncs with no other yet",
                    )
                    .why("`pair` makes one and shows the code with which another device joins.")
                    .mend(format!("{} pair", self.rr()));
            }
            Err(KeyFileError::Missing { .. }) => {
                group
                    .problem("keys.swarm", format!("the swarm key {} is not there", self.short(swarm)))
                    .why("Without it this device meets no other. `rr pair` on one that syncs shows a code for it; a new key would only keep this device apart.")
                    .mend(format!("{} join", self.rr()));
            }
            Err(err) => self.key_error(
                &mut group,
                "keys.swarm",
                swarm,
                err,
                "Copy it once more from a device that syncs.",
            ),
        }
        let identity = &settings.identity_key_path;
        match IdentityKey::load(identity) {
            Ok(_) => {
                let what = format!("identity key {}", self.short(identity));
                self.key_file(
                    &mut group,
                    "keys.identity",
                    identity,
                    what,
                    "Who has it is taken for this device.",
                );
            }
            // The daemon makes it.
            Err(KeyFileError::Missing { .. }) => {}
            Err(err) => {
                let why = "Move it away: the daemon makes a new one, and the others see this device as a new peer.";
                self.key_error(&mut group, "keys.identity", identity, err, why);
            }
        }
        group
    }

    fn key_file(&self, group: &mut Group, id: &'static str, path: &Path, what: String, why: &str) {
        let setting = match id {
            "keys.swarm" => "swarm_key_path",
            _ => "identity_key_path",
        };
        match exposed_mode(path, readers(&self.ctx.settings, setting)) {
            Ok(Some(mode)) => {
                group
                    .problem(
                        id,
                        format!("{} is open to others (mode {mode:04o})", self.short(path)),
                    )
                    .why(why)
                    .mend(format!("chmod 600 {}", in_shell(path)));
            }
            _ => group.well(id, what),
        }
    }

    fn key_error(
        &self,
        group: &mut Group,
        id: &'static str,
        path: &Path,
        err: KeyFileError,
        why: &str,
    ) {
        let is_malformed = matches!(err, KeyFileError::Malformed { .. });
        let finding = group.problem(id, CommandError::from(err).message());
        let quoted = in_shell(path);
        match is_malformed {
            true => finding.why(why).mend(format!("mv {quoted} {quoted}.bad")),
            false => finding
                .why("Without it this device meets no other.")
                .mend(format!(
                    "sudo chown \"$(id -u)\" {quoted} && chmod 600 {quoted}"
                )),
        };
    }

    pub(super) fn daemon(&self, known: &Known) -> Group {
        let mut group = Group::new("daemon");
        let unit = self.unit();
        let Some(running) = &known.running else {
            self.daemon_is_off(&mut group, known, unit.as_ref());
            self.unit_is_sound(&mut group, unit.as_ref());
            return group;
        };
        match known.state.as_ref().map(|state| state.version.as_deref()) {
            None => {
                group
                    .note("daemon.state", format!("it runs as process {}, and has not said how it is", running.pid))
                    .why("It begins just now, or `daemon.json` beside the database can't be written.");
            }
            Some(version) if version != Some(env!("CARGO_PKG_VERSION")) => {
                let version = version.unwrap_or("an older version");
                group
                    .problem("daemon.version", format!("it runs as {version}, this is {}", env!("CARGO_PKG_VERSION")))
                    .why("The program was replaced while the daemon ran; it goes on as the old one until it is started again.")
                    .mend(self.restart(running.pid, unit.as_ref()));
            }
            Some(_) => group.well(
                "daemon.runs",
                format!("it runs as process {}, same version", running.pid),
            ),
        }
        if let Some(problem) = &running.problem {
            group
                .problem("daemon.problem", format!("it says: {problem}"))
                .why("Nothing is exchanged with other devices until that is over.")
                .mend(format!("{} status", self.rr()));
        }
        self.unit_is_sound(&mut group, unit.as_ref());
        group
    }

    fn daemon_is_off(&self, group: &mut Group, known: &Known, unit: Option<&Unit>) {
        if !known.has_company(self.ctx) {
            return group.well(
                "daemon.runs",
                "it does not run; with no other device there is nothing to exchange",
            );
        }
        let mend = match (unit, Service::of(self.ctx)) {
            (Some(unit), _) => unit.start(),
            (None, Ok(_)) => format!("{} service install", self.rr()),
            (None, Err(_)) => format!("{} daemon --detach", self.rr()),
        };
        group
            .problem("daemon.runs", "it does not run")
            .why("What is typed here reaches the other devices only by `rr sync`, and the other way round.")
            .mend(mend);
    }

    fn restart(&self, pid: u32, unit: Option<&Unit>) -> String {
        match unit {
            Some(unit) => unit.restart(),
            None => format!("kill -USR1 {pid}"),
        }
    }

    /// The service that starts the daemon, if one is installed.
    fn unit(&self) -> Option<Unit> {
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config
            .filter(|dir| dir.is_absolute())
            .unwrap_or_else(|| self.home.join(".config"));
        let systemd =
            ["rustory.service", "rr.service"].map(|name| config.join("systemd/user").join(name));
        let agents = std::fs::read_dir(self.home.join("Library/LaunchAgents"));
        let launchd = agents
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let launchd = launchd.filter(|path| path.to_string_lossy().contains("rustory"));
        systemd
            .into_iter()
            .chain(launchd)
            .find(|path| path.is_file())
            .map(Unit)
    }

    /// That what it starts is there.
    fn unit_is_sound(&self, group: &mut Group, unit: Option<&Unit>) {
        let Some(unit) = unit else { return };
        let name = self.short(&unit.0);
        let gone = unit.program().filter(|program| {
            let meta = std::fs::metadata(program);
            !meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        });
        match gone {
            Some(program) => {
                group
                    .problem(
                        "daemon.unit",
                        format!("{name} starts {}, which is not there", program.display()),
                    )
                    .why("The daemon will not come back after the next login.")
                    .mend(format!("{} service install", self.rr()));
            }
            None => group.well("daemon.unit", format!("service {name}")),
        }
    }
}

/// A service of the user's own service manager.
struct Unit(PathBuf);

impl Unit {
    fn is_launchd(&self) -> bool {
        self.0.extension().is_some_and(|it| it == "plist")
    }

    fn name(&self) -> String {
        let stem = self.0.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    }

    fn start(&self) -> String {
        match self.is_launchd() {
            true => format!("launchctl load -w {}", in_shell(&self.0)),
            false => format!("systemctl --user enable --now {}", self.name()),
        }
    }

    fn restart(&self) -> String {
        match self.is_launchd() {
            true => format!("launchctl kickstart -k gui/$(id -u)/{}", self.name()),
            false => format!(
                "systemctl --user daemon-reload && systemctl --user restart {}",
                self.name()
            ),
        }
    }

    /// What it starts, as far as that can be read without the service manager's rules of quoting.
    fn program(&self) -> Option<PathBuf> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let program = match self.is_launchd() {
            true => text
                .split_once("<array>")?
                .1
                .split_once("<string>")?
                .1
                .split("</string>")
                .next()?,
            false => {
                let line = text
                    .lines()
                    .find_map(|line| line.trim().strip_prefix("ExecStart="))?;
                line.split_whitespace().next()?
            }
        };
        let program = PathBuf::from(program.trim_matches('"'));
        program.is_absolute().then_some(program)
    }
}
