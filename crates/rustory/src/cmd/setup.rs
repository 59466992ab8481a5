//! `rr setup`: the first run on a device; again, it repairs; `--undo` takes out what it put in.

use std::cell::Cell;
use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use bstr::{BStr, ByteSlice as _};
use clap::ValueEnum as _;
use rustory_core::pairing::Invitation;
use rustory_store::{Access, spool_dir};

use crate::cmd;
use crate::cmd::init::{Shell, own_path};
use crate::ctx::Ctx;
use crate::daemon::{self, control};
use crate::error::CommandError;
use crate::keys;
use crate::service::{AT_LOGIN, INSTEAD, Service, ServiceError};
use crate::settings::{Origin, config_path, create};
use crate::setup::rc_file::RcFile;
use crate::setup::{block, config, shells};
use crate::ui::{self, say};

/// Set up this device: history, configuration, import, shell hook, other devices, service
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Set up this device: make the history database and a configuration file, take over the history of \
                  the shells you have, add one block to their rc files, shown as a diff first, take part in the swarm of \
                  your other devices, if there are any, and have the daemon started when you log in.\n\n\
                  Every step can be left out. Running it again repairs what is missing and changes nothing else.",
    after_help = "Examples:\n  \
        rr setup             asks before it changes a file\n  \
        rr setup --dry-run   only shows what it would do\n  \
        rr setup --join      with the code that `rr pair` shows on another device\n  \
        rr setup --undo      takes out exactly what it put in; the history stays"
)]
pub(crate) struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Show what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take out what setup put in; the history stays
    #[arg(long)]
    undo: bool,
    /// Only this shell [default: those that are installed]
    #[arg(long, value_name = "SHELL")]
    shell: Vec<Shell>,
    /// Leave the existing history of the shells alone
    #[arg(long)]
    no_import: bool,
    /// Leave the rc files of the shells alone
    #[arg(long, conflicts_with = "shell")]
    no_hook: bool,
    /// Take part in another device's swarm: asks for its code, or reads it from a pipe
    #[arg(long)]
    join: bool,
    /// Make a swarm, of which other devices can become members
    #[arg(long, conflicts_with = "join")]
    new_swarm: bool,
    /// Don't ask for other devices
    #[arg(long, conflicts_with_all = ["join", "new_swarm"])]
    no_swarm: bool,
    /// Don't have the daemon started at login
    #[arg(long)]
    no_service: bool,
}

pub(crate) fn run(mut args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let nobody_to_ask = !args.yes && !args.dry_run && !io::stdin().is_terminal();
    args.join &= !args.undo;
    args.dry_run |= nobody_to_ask;
    let setup = Setup::new(args, ctx)?;
    if setup.args.undo {
        setup.undo()?;
    } else {
        setup.set_up()?;
    }
    if nobody_to_ask {
        return Err(
            CommandError::usage("there is no terminal to ask on; nothing was changed")
                .hint("`--yes` does what is shown above, `--dry-run` only shows it"),
        );
    }
    Ok(())
}

/// What one run works with.
struct Setup<'a> {
    args: Args,
    ctx: &'a Ctx,
    home: PathBuf,
    rr: PathBuf,
    path_var: Vec<PathBuf>,
    /// Something is different from before.
    changed: Cell<bool>,
    /// This run took part in a swarm, which says itself how the daemon runs.
    joined: Cell<bool>,
}

impl<'a> Setup<'a> {
    fn new(args: Args, ctx: &'a Ctx) -> Result<Setup<'a>, CommandError> {
        let home = std::env::home_dir()
            .filter(|home| home.is_dir())
            .ok_or_else(|| {
                CommandError::failed("there is no home directory").hint("set HOME, then try again")
            })?;
        let path_var = std::env::var_os("PATH").unwrap_or_default();
        Ok(Setup {
            args,
            ctx,
            home,
            rr: own_path()?,
            path_var: std::env::split_paths(&path_var).collect(),
            changed: Cell::new(false),
            joined: Cell::new(false),
        })
    }

    fn set_up(&self) -> Result<(), CommandError> {
        self.data()?;
        self.config()?;
        self.import()?;
        let failed = match self.args.no_hook {
            true => 0,
            false => self.rc_files(Change::Put)?,
        };
        let joined = self.swarm()?;
        self.service()?;
        if let Some(other) = shells::name_clash(&self.rr, &self.path_var) {
            say(format_args!(
                "! `rr` is another program here ({}); `rustory` is the same as this one",
                other.display()
            ));
        }
        self.finish(failed, "Open a new shell and press ctrl+r.")?;
        joined
    }

    fn undo(&self) -> Result<(), CommandError> {
        self.remove_service()?;
        let failed = match self.args.no_hook {
            true => 0,
            false => self.rc_files(Change::TakeOut)?,
        };
        self.remove_config()?;
        let data = self.ctx.settings.data_dir().display().to_string();
        self.finish(failed, &format!(
            "Your history stays in {data}, with the keys; `rm -r {data}` deletes them. Shells that are open keep recording \
             until they end."
        ))
    }

    fn finish(&self, failed: usize, next: &str) -> Result<(), CommandError> {
        if failed > 0 {
            return Err(CommandError::failed(format!(
                "{failed} files could not be changed, see above"
            )));
        }
        match (self.args.dry_run, self.changed.get()) {
            (true, _) => say("\nNothing was changed."),
            (false, true) => say(format_args!("\n{next}")),
            (false, false) => say(format_args!(
                "\nEverything was so already: nothing was changed.\n{next}"
            )),
        }
        Ok(())
    }

    fn data(&self) -> Result<(), CommandError> {
        let path = &self.ctx.settings.db_path;
        let there = path.exists();
        if !self.args.dry_run {
            spool_dir::create(&self.ctx.spool_dir())?;
            self.ctx.open(Access::PATIENT)?;
        }
        self.done(
            there,
            format_args!("history database {}", self.short(path)),
            "made",
        );
        Ok(())
    }

    fn config(&self) -> Result<(), CommandError> {
        let Some(path) = config_path() else {
            return Ok(());
        };
        let there = path.exists();
        if !there && !self.args.dry_run {
            create(&path, config::TEMPLATE).map_err(|err| cannot(&path, err))?;
        }
        self.done(
            there,
            format_args!("configuration {}", self.short(&path)),
            "written",
        );
        Ok(())
    }

    fn remove_config(&self) -> Result<(), CommandError> {
        let Some(path) = config_path() else {
            return Ok(());
        };
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(());
        };
        if text != config::TEMPLATE {
            say(format_args!(
                "  {} is yours by now and stays",
                self.short(&path)
            ));
            return Ok(());
        }
        if !self.args.dry_run {
            fs::remove_file(&path).map_err(|err| cannot(&path, err))?;
            // Only if it is empty now.
            let _ = path.parent().map(fs::remove_dir);
        }
        self.done(
            false,
            format_args!("configuration {}", self.short(&path)),
            "removed",
        );
        Ok(())
    }

    fn import(&self) -> Result<(), CommandError> {
        if self.args.no_import {
            return Ok(());
        }
        if self.args.dry_run {
            say("+ existing history would be imported (`rr import auto --dry-run` counts it)");
            return Ok(());
        }
        match crate::cmd::import::auto(self.ctx) {
            Ok(new) => self.changed.set(self.changed.get() || new > 0),
            // A history that can't be read keeps nobody from recording.
            Err(err) => {
                crate::error::report(&err);
                say("  `rr import auto` tries again");
            }
        }
        Ok(())
    }

    /// The swarm of the other devices. A code that leads nowhere is told at the end: everything else
    /// is set up all the same.
    fn swarm(&self) -> Result<Result<(), CommandError>, CommandError> {
        let key = keys::swarm_if_any(&self.ctx.settings.swarm_key_path)?;
        let asks = !self.args.yes && !self.args.dry_run;
        match key {
            _ if self.args.no_swarm => {}
            _ if self.args.join && self.args.dry_run => {
                say("+ it would take part in another device's swarm")
            }
            _ if self.args.join => return Ok(self.join()),
            Some(key) => say(format_args!(
                "✓ swarm {}: this device is in it",
                key.fingerprint().short()
            )),
            None if self.args.new_swarm && self.args.dry_run => say("+ a new swarm would be made"),
            None if self.args.new_swarm => {
                self.changed.set(cmd::pair::make_swarm(self.ctx)?);
            }
            None if asks => return Ok(self.ask_for_swarm()),
            None => say(NO_SWARM),
        }
        Ok(Ok(()))
    }

    fn join(&self) -> Result<(), CommandError> {
        let invitation = cmd::join::read_code(&[])?;
        self.step(&invitation)
    }

    fn step(&self, invitation: &Invitation) -> Result<(), CommandError> {
        self.changed.set(true);
        self.joined.set(true);
        cmd::join::step(self.ctx, invitation, self.args.yes, self.args.no_service)
    }

    fn ask_for_swarm(&self) -> Result<(), CommandError> {
        say(
            "Is rr on another device of yours? Run `rr pair` there and paste its code here; else press enter.",
        );
        loop {
            match cmd::join::ask_code() {
                Ok(None) => {
                    say(NO_SWARM);
                    return Ok(());
                }
                Ok(Some(invitation)) => return self.step(&invitation),
                Err(err) => crate::error::complain(&err),
            }
        }
    }

    /// The daemon at login, once there is a swarm for it.
    fn service(&self) -> Result<(), CommandError> {
        let is_member = self.ctx.settings.swarm_key_path.exists()
            || (self.args.dry_run && (self.args.new_swarm || self.args.join));
        if self.args.no_service || !is_member {
            return Ok(());
        }
        let service = match Service::of(self.ctx) {
            Ok(service) => service,
            Err(ServiceError::OtherDatabase) => return Ok(()),
            Err(ServiceError::NoManager(_)) if self.joined.get() => return Ok(()),
            Err(ServiceError::NoManager(why)) => {
                let runs = daemon::running(self.ctx.settings.data_dir()).is_some();
                match runs {
                    true => say(format_args!("- no service: {why}. {AT_LOGIN}")),
                    false => say(format_args!("- no service: {why}. {INSTEAD}")),
                }
                return Ok(());
            }
        };
        let path = self.short(service.path());
        let there = service.is_current()?;
        if !there && !self.args.dry_run {
            if !self.args.yes && !agreed(&format!("Start the daemon when you log in ({path})?")) {
                say("- no service: `rr service install` installs it later");
                return Ok(());
            }
            service.install()?;
            control::ensure(self.ctx, false)?;
        }
        self.done(
            there,
            format_args!("service {path}"),
            "installed and started",
        );
        if let Some(advice) = service.advice().filter(|_| !there) {
            say(format_args!("  {advice}"));
        }
        Ok(())
    }

    fn remove_service(&self) -> Result<(), CommandError> {
        if let Ok(service) = Service::of(self.ctx)
            && service.is_installed()
        {
            if !self.args.dry_run {
                service.uninstall()?;
            }
            let path = self.short(service.path());
            self.done(false, format_args!("service {path}"), "stopped and removed");
        }
        if let Some(running) = daemon::running(self.ctx.settings.data_dir()) {
            if !self.args.dry_run {
                control::stop(self.ctx)?;
            }
            self.done(
                false,
                format_args!("daemon, process {}", running.pid),
                "stopped",
            );
        }
        Ok(())
    }

    /// Changes every rc file. Returns how many could not be changed; each was told.
    fn rc_files(&self, change: Change) -> Result<usize, CommandError> {
        let mut failed = 0;
        for target in self.targets(change) {
            match self.rc_file(&target, change) {
                Ok(()) => {}
                Err(Refused::Asked) => say(format_args!(
                    "- {}: left as it is",
                    self.short(&target.path)
                )),
                Err(Refused::Because(why)) => {
                    failed += 1;
                    say(format_args!("✗ {}: {why}", self.short(&target.path)));
                    if change == Change::Put {
                        let body = self.body(target.shell);
                        say(format_args!(
                            "  To load the hook, add these lines to it:\n{}",
                            indented(&body)
                        ));
                    }
                }
            }
        }
        Ok(failed)
    }

    fn targets(&self, change: Change) -> Vec<shells::Target> {
        let zdotdir = std::env::var_os("ZDOTDIR").map(PathBuf::from);
        let chosen = match (self.args.shell.is_empty(), change) {
            (false, _) => self.args.shell.clone(),
            (true, Change::Put) => shells::installed(&self.home, &self.path_var),
            (true, Change::TakeOut) => Shell::value_variants().to_vec(),
        };
        let mut targets: Vec<shells::Target> = chosen
            .into_iter()
            .flat_map(|shell| shells::targets(shell, &self.home, zdotdir.as_deref()))
            .collect();
        if change == Change::TakeOut {
            // Wherever an earlier run may have put it.
            for name in [".bash_profile", ".bash_login", ".profile", ".zshrc"] {
                let path = self.home.join(name);
                let shell = if name == ".zshrc" {
                    Shell::Zsh
                } else {
                    Shell::Bash
                };
                if !targets.iter().any(|target| target.path == path) {
                    targets.push(shells::Target { shell, path });
                }
            }
        }
        targets
    }

    fn rc_file(&self, target: &shells::Target, change: Change) -> Result<(), Refused> {
        let name = self.short(&target.path);
        let file = RcFile::read(&target.path)?;
        let before = file.text.as_ref().map(|text| text.as_bstr());
        let after = match (change, before) {
            (Change::TakeOut, None) => return Ok(()),
            (Change::TakeOut, Some(text)) if !block::is_in(text)? => return Ok(()),
            (Change::TakeOut, Some(text)) => block::take_out(text)?,
            (Change::Put, text) => {
                if let Some(line) = text.and_then(block::own_line) {
                    say(format_args!(
                        "✓ {name}: line {line}, your own, loads the hook already"
                    ));
                    return Ok(());
                }
                Some(block::put(text, &self.body(target.shell))?)
            }
        };
        if after.as_ref().map(|text| text.as_bstr()) == before {
            say(format_args!("✓ {name}: the hook is there"));
            return Ok(());
        }
        let empty = BStr::new("");
        let shown = after.as_ref().map_or(empty, |text| text.as_bstr());
        self.show_diff(&name, before.unwrap_or(empty), shown);
        if self.args.dry_run {
            return Ok(());
        }
        if !self.args.yes && !agreed(&format!("Change {name}?")) {
            return Err(Refused::Asked);
        }
        file.replace(after.as_ref().map(|text| text.as_bstr()))?;
        self.changed.set(true);
        let did = match (change, &after) {
            (Change::Put, _) => "hook added",
            (Change::TakeOut, Some(_)) => "hook taken out",
            (Change::TakeOut, None) => "removed, since setup had made it",
        };
        say(format_args!("✓ {name}: {did}"));
        Ok(())
    }

    fn body(&self, shell: Shell) -> String {
        let settings = &self.ctx.settings;
        let given = matches!(settings.origins.get("db_path"), Some(Origin::Flag(_)));
        shells::body(shell, &self.rr, given.then_some(&settings.db_path))
    }

    fn show_diff(&self, name: &str, before: &BStr, after: &BStr) {
        let (before, after) = (before.to_str_lossy(), after.to_str_lossy());
        let diff = diffy::DiffOptions::new()
            .set_context_len(2)
            .set_original_filename(name.to_owned())
            .set_modified_filename(name.to_owned())
            .create_patch(&before, &after)
            .to_string();
        let (green, red, reset) = if ui::colour(io::stderr().is_terminal()) {
            ("\x1b[32m", "\x1b[31m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        for line in diff.lines() {
            let colour = match line.as_bytes().first() {
                Some(b'+') => green,
                Some(b'-') => red,
                _ => "",
            };
            let reset = if colour.is_empty() { "" } else { reset };
            say(format_args!("  {colour}{line}{reset}"));
        }
    }

    /// One line for one step: `✓` it is so now, `+` it would be done.
    fn done(&self, there: bool, what: std::fmt::Arguments<'_>, did: &str) {
        self.changed.set(self.changed.get() || !there);
        match (there, self.args.dry_run) {
            (true, _) => say(format_args!("✓ {what}")),
            (false, false) => say(format_args!("✓ {what}: {did}")),
            (false, true) => say(format_args!("+ {what} would be {did}")),
        }
    }

    /// With `~` for the home directory.
    fn short(&self, path: &Path) -> String {
        match path.strip_prefix(&self.home) {
            Ok(rest) => format!("~/{}", rest.display()),
            Err(_) => path.display().to_string(),
        }
    }
}

/// What there is to say where nobody asked for other devices.
const NO_SWARM: &str = "- no other devices yet: `rr pair` here brings in a second one, `rr join` makes this one the second";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Put,
    TakeOut,
}

/// Why an rc file was not changed.
enum Refused {
    /// The user said no.
    Asked,
    Because(String),
}

impl From<io::Error> for Refused {
    fn from(err: io::Error) -> Self {
        Refused::Because(match err.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "it can't be written (read-only); it was left as it is".to_owned()
            }
            _ => err.to_string(),
        })
    }
}

impl From<block::BlockError> for Refused {
    fn from(err: block::BlockError) -> Self {
        Refused::Because(err.to_string())
    }
}

fn agreed(question: &str) -> bool {
    let _ = write!(io::stderr(), "{question} [Y/n] ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer).unwrap_or(0);
    read > 0 && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes")
}

fn cannot(path: &Path, err: io::Error) -> CommandError {
    CommandError::failed(format!("`{}`: {err}", path.display()))
}

fn indented(lines: &str) -> String {
    lines
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect()
}
