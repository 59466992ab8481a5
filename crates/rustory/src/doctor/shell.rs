//! The user's own shells, started in a terminal with their own rc files and asked at their first
//! prompt: is the hook loaded, who has displaced it, and how long does it take.
//!
//! Nothing of that is recorded. The shell gets a data directory that is thrown away; the one line
//! that is typed begins with a blank, which every history leaves out; and the shell is killed while
//! it runs, so that it saves nothing. Keys are sent only once the shell's line editor reads them:
//! never into a question of an rc file, and never into another program that took the shell's place.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bstr::ByteSlice as _;
use clap::ValueEnum as _;
use rustory_core::spool;
use serde_json::json;

use super::judge;
use super::pty::{Foreground, Terminal};
use super::report::{Group, Report};
use super::{Doctor, in_shell};
use crate::cmd::init::{Shell, quoted};
use crate::setup::{block, shells};
use crate::text::{Breaks, visible};
use crate::ui::Progress;

/// How one kind of shell is asked.
struct Driver {
    /// What is read at its prompt; answers in a form that is the same for all.
    script: &'static str,
    /// What is typed to have it read; `@DIR@` is where the script lies, as `ask`. Only characters
    /// that no line editor completes or pairs.
    line: &'static str,
    /// Options that make it interactive, and keep a line with a blank in front out of its history.
    args: &'static [&'static str],
    /// The same for a login shell, where that one reads other files.
    login_args: Option<&'static [&'static str]>,
    /// What its answers mean.
    judge: fn(&Doctor<'_>, &Asked, &mut Group),
}

fn driver(shell: Shell) -> Driver {
    match shell {
        Shell::Bash => Driver {
            script: include_str!("../../shell/doctor.bash"),
            // A file that is read doesn't see the DEBUG trap.
            line: " \\trap -p DEBUG >|@DIR@/trap; \\. @DIR@/ask\r",
            args: &["-i"],
            login_args: Some(&["-l", "-i"]),
            judge: judge::bash,
        },
        Shell::Zsh => Driver {
            script: include_str!("../../shell/doctor.zsh"),
            line: " \\. @DIR@/ask\r",
            args: &["-o", "hist_ignore_space", "-i"],
            login_args: None,
            judge: judge::zsh,
        },
        Shell::Fish => Driver {
            script: include_str!("../../shell/doctor.fish"),
            line: " builtin source @DIR@/ask\r",
            args: &["-i"],
            login_args: None,
            judge: judge::fish,
        },
    }
}

/// A shell that answered.
pub(super) struct Asked {
    pub(super) shell: Shell,
    answers: HashMap<String, String>,
    /// From its start to its first prompt.
    ready: Duration,
    /// What the hook wrote while it was measured.
    recorded: Vec<u8>,
    /// Where this shell was told to keep its spool.
    own_spool_dir: PathBuf,
    /// The file that loads the hook, or should.
    pub(super) rc: PathBuf,
}

impl Asked {
    pub(super) fn get(&self, name: &str) -> &str {
        self.answers.get(name).map_or("", String::as_str)
    }

    pub(super) fn has_line(&self, name: &str, line: &str) -> bool {
        self.get(name).lines().any(|it| it == line)
    }
}

/// Why a shell did not answer.
enum Silent {
    /// It can't be started.
    NotStarted(io::Error),
    /// It ended before its first prompt.
    Ended,
    /// Another program took its place.
    Replaced(String),
    /// A program that it started keeps the terminal.
    Busy(String),
    /// There is no prompt; the last line on its screen.
    NoPrompt(String),
    /// At its prompt, it did not do what was typed.
    Deaf,
}

/// A prompt is there once nothing more was drawn for so long: prompts with several parts are drawn
/// one after the other.
const SETTLED: Duration = Duration::from_millis(200);

/// Line editors of today say that they are ready for a paste. One that does not is taken for ready
/// after so long.
const PLAIN_EDITOR: Duration = Duration::from_millis(500);

/// A program that took the shell's place is given so long, lest it be a wrapper on the way.
const REPLACED: Duration = Duration::from_secs(1);

/// More than this is worth a look.
const PROMPT_US_MAX: i64 = 1_000;

impl Doctor<'_> {
    /// Looks at each of these shells; none: at those that are in use.
    pub(super) fn shells(&self, wanted: &[Shell], report: &mut Report, progress: &mut Progress) {
        let login = std::env::var_os("SHELL")
            .map(PathBuf::from)
            .unwrap_or_default();
        let login_name = login
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let all = Shell::value_variants();
        let chosen: Vec<Shell> = match wanted {
            [] => {
                let used =
                    |shell: &Shell| shell.name() == login_name || self.is_loaded_by_a_file(*shell);
                all.iter().copied().filter(used).collect()
            }
            _ => wanted.to_vec(),
        };
        if wanted.is_empty()
            && !login_name.is_empty()
            && all.iter().all(|shell| shell.name() != login_name)
        {
            let mut group = Group::new(login_name.clone());
            group
                .note(
                    "shell.unknown",
                    format!("your shell, {login_name}, has no hook yet"),
                )
                .why("`rr record` takes in what other shells hand to it.");
            report.add(group);
        }
        for shell in chosen {
            progress.update(|| format!("starting {} with your rc files", shell.name()));
            let program = match login_name == shell.name() && login.is_file() {
                true => Some(login.clone()),
                false => self.in_path(shell.name()),
            };
            self.shell(shell, program, report);
            progress.clear();
        }
    }

    fn shell(&self, shell: Shell, program: Option<PathBuf>, report: &mut Report) {
        let mut group = Group::new(shell.name());
        let driver = driver(shell);
        let Some(program) = &program else {
            group.note("shell.unknown", "it is not installed");
            return report.add(group);
        };
        match self.ask(shell, program, &driver, driver.args) {
            Err(silent) => self.silent(&mut group, shell, silent),
            Ok(asked) => {
                group = Group::new(format!(
                    "{} {}, {}",
                    shell.name(),
                    asked.get("version"),
                    program.display()
                ));
                match asked.get("loaded") {
                    "" => self.not_loaded(&mut group, &asked),
                    _ => self.loaded(&mut group, &asked, &driver),
                }
                self.in_login_shells(&mut group, shell, program, &driver, asked.get("loaded"));
                report.shells.push(asked.json(program));
            }
        }
        report.add(group);
    }

    /// A login bash (ssh, tmux, a console, every window on macOS) reads other files.
    fn in_login_shells(
        &self,
        group: &mut Group,
        shell: Shell,
        program: &Path,
        driver: &Driver,
        loaded: &str,
    ) {
        let Some(args) = driver.login_args else {
            return;
        };
        match self.ask(shell, program, driver, args) {
            Err(silent) => self.silent(group, shell, silent),
            Ok(asked) if asked.get("loaded").is_empty() && !loaded.is_empty() => {
                group
                    .problem("shell.login", "login shells don't load the hook")
                    .why("ssh, a console, tmux and most terminals of macOS start one: it reads the first of ~/.bash_profile, ~/.bash_login and ~/.profile, and not ~/.bashrc.")
                    .mend(format!("{} setup --shell {}", self.rr(), shell.name()));
            }
            Ok(_) if !loaded.is_empty() => {
                group.well("shell.login", "login shells load the hook too")
            }
            Ok(_) => {}
        }
    }

    fn silent(&self, group: &mut Group, shell: Shell, silent: Silent) {
        let secs = self.scope.timeout.as_secs();
        let longer = format!(
            "{} doctor --shell {} --timeout {}",
            self.rr(),
            shell.name(),
            secs * 6
        );
        let (id, what, why) = match silent {
            Silent::NotStarted(err) => ("shell.start", format!("it can't be started: {err}"), String::new()),
            Silent::Ended => (
                "shell.ends",
                "it ended before its first prompt".to_owned(),
                "An rc file ends it: look for `exit` or `exec`.".to_owned(),
            ),
            Silent::Replaced(by) => {
                group
                    .note("shell.replaced", format!("its rc files put `{by}` in its place (`exec {by}`)"))
                    .why(format!("Doctor does not look behind that, to leave your sessions alone. Run it in a shell inside `{by}`."))
                    .mend(format!("{} doctor", self.rr()));
                return;
            }
            Silent::Busy(by) => (
                "shell.hangs",
                format!("no prompt after {secs} s: its rc files run `{by}`, which does not end"),
                "It may wait for an answer, or for a network. Every new window waits for it as well.".to_owned(),
            ),
            Silent::NoPrompt(line) => (
                "shell.hangs",
                format!("no prompt after {secs} s"),
                match line.is_empty() {
                    true => "Its rc files do not come to an end, or ask something.".to_owned(),
                    false => format!("Its rc files do not come to an end, or ask something; the last line on its screen: {line}"),
                },
            ),
            Silent::Deaf => (
                "shell.deaf",
                format!("at its prompt, it did not take a command within {secs} s"),
                "Its line editor may be in a mode of its own; what the hook does there can't be told.".to_owned(),
            ),
        };
        group.problem(id, what).why(why).mend(longer);
    }

    fn not_loaded(&self, group: &mut Group, asked: &Asked) {
        let name = asked.shell.name();
        let finding = group.problem(
            "shell.hook",
            "the hook is not loaded: nothing that is typed there is kept",
        );
        let setup = format!("{} setup --shell {name}", self.rr());
        let text = std::fs::read(&asked.rc).unwrap_or_default();
        match block::loading_line(text.as_slice().into()) {
            None => finding
                .why(format!("{} does not load it.", self.short(&asked.rc)))
                .mend(setup),
            Some(line) => {
                let names_us = text.contains_str(self.own.as_os_str().as_bytes());
                let why = format!("{}:{line} loads it, but ", self.short(&asked.rc));
                match names_us {
                    true => finding
                        .why(why + "the shell does not get that far: an earlier line returns.")
                        .mend(format!("${{EDITOR:-vi}} +{line} {}", in_shell(&asked.rc))),
                    false => finding
                        .why(why + "the program that it names is gone or another one.")
                        .mend(setup),
                }
            }
        };
    }

    fn loaded(&self, group: &mut Group, asked: &Asked, driver: &Driver) {
        (driver.judge)(self, asked, group);
        self.program_of_hook(group, asked);
        self.spool_of_hook(group, asked);
        if let kind @ ("alias" | "function") = asked.get("rr_type") {
            group
                .note(
                    "shell.name",
                    format!("`rr` is a {kind} of yours there, `rustory` is this program"),
                )
                .why(
                    "The hook calls this program by its path, so only what you type is concerned.",
                );
        }
        let Some((median, least, most)) = asked.took() else {
            return;
        };
        if !asked.writes() {
            group
                .problem("shell.records", "the hook ran and wrote nothing")
                .why("Commands that are typed there are lost. This is a bug; please report it with the output of --json.");
        }
        let what = format!(
            "adds {median} µs to each prompt (median of {}; most take {least} to {most})",
            asked.samples().len()
        );
        match median > PROMPT_US_MAX {
            false => group.well("shell.latency", what),
            true => {
                group
                    .note("shell.latency", what)
                    .why("Appending to a file should take a tenth of that; the machine is busy, or the temporary directory slow.");
            }
        }
    }

    fn program_of_hook(&self, group: &mut Group, asked: &Asked) {
        let bin = Path::new(asked.get("bin"));
        let is_there = std::fs::metadata(bin)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
        if !is_there {
            group
                .problem(
                    "shell.program",
                    format!("the hook calls {}, which is not there", bin.display()),
                )
                .why("Commands are kept, but ctrl+r does not open.")
                .mend(format!(
                    "{} setup --shell {}",
                    self.rr(),
                    asked.shell.name()
                ));
        } else if bin.canonicalize().ok() != self.own.canonicalize().ok() {
            group
                .note(
                    "shell.program",
                    format!("the hook is of another rr, {}", self.short(bin)),
                )
                .why("Fine if it is meant; else the rc file names an old place.")
                .mend(format!(
                    "{} setup --shell {}",
                    self.rr(),
                    asked.shell.name()
                ));
        }
    }

    /// The rc file may name another place than the one that this program reads.
    fn spool_of_hook(&self, group: &mut Group, asked: &Asked) {
        let dir = Path::new(asked.get("dir"));
        let ours = self.ctx.spool_dir();
        if dir == asked.own_spool_dir
            || dir == ours
            || dir.canonicalize().ok() == ours.canonicalize().ok()
        {
            return;
        }
        group
            .problem("shell.spool", format!("it records for {}, and rr reads {}", self.short(dir), self.short(&ours)))
            .why("Its rc file sets `RUSTORY_DB_PATH` or gives `--db-path`; rr elsewhere does not know of it. `db_path` in the configuration counts everywhere.")
            .mend(format!("mkdir -p ~/.config/rustory && echo {} >> ~/.config/rustory/config.toml", in_quotes(&format!("db_path = '{}'", dir.with_file_name("history.db").display()))));
    }

    /// What loads the hook anew behind everything else in the rc file; twice is as good as once.
    pub(super) fn load_last(&self, asked: &Asked) -> String {
        let (own, name) = (in_shell(&self.own), asked.shell.name());
        let load = match asked.shell {
            Shell::Fish => format!("{own} init {name} | source"),
            Shell::Bash | Shell::Zsh => format!("eval \"$({own} init {name})\""),
        };
        format!("echo {} >> {}", in_quotes(&load), in_shell(&asked.rc))
    }

    /// The last line of the rc file that sets this variable to something of its own.
    pub(super) fn culprit(&self, asked: &Asked, variable: &str) -> String {
        let text = std::fs::read_to_string(&asked.rc).unwrap_or_default();
        let sets = |line: &str| {
            let line = line.trim_start();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let value = line
                .strip_prefix(variable)
                .and_then(|rest| rest.strip_prefix('='));
            value.is_some_and(|value| !value.contains(variable))
        };
        let found = text
            .lines()
            .enumerate()
            .filter(|(_, line)| sets(line))
            .last();
        found.map_or(String::new(), |(at, _)| {
            format!(" ({}:{})", self.short(&asked.rc), at + 1)
        })
    }

    /// Whether a file that a shell reads loads the hook.
    fn is_loaded_by_a_file(&self, shell: Shell) -> bool {
        let zdotdir = std::env::var_os("ZDOTDIR").map(PathBuf::from);
        let mut targets = shells::targets(shell, &self.home, zdotdir.as_deref()).into_iter();
        targets.any(|target| {
            let text = std::fs::read(&target.path).unwrap_or_default();
            block::loading_line(text.as_slice().into()).is_some()
        })
    }

    // ---- asking

    /// Starts a shell and has it answer. Whatever its rc files do, it has ended when this returns.
    fn ask(
        &self,
        shell: Shell,
        program: &Path,
        driver: &Driver,
        args: &[&str],
    ) -> Result<Asked, Silent> {
        let dir = probe_dir().map_err(Silent::NotStarted)?;
        let (script, report, spool) = (
            dir.path().join("ask"),
            dir.path().join("answers"),
            dir.path().join("probe.spool"),
        );
        let text = driver
            .script
            .replace("@REPORT@", &in_shell(&report))
            .replace("@SPOOL@", &in_shell(&spool))
            .replace("@DIR@", &in_shell(dir.path()));
        std::fs::write(&script, text).map_err(Silent::NotStarted)?;
        let mut argv = vec![program.as_os_str()];
        argv.extend(args.iter().map(OsStr::new));
        let began = Instant::now();
        let mut terminal = Terminal::start(&argv, |command| {
            command
                .current_dir(&self.home)
                .env("RUSTORY_DB_PATH", dir.path().join("history.db"));
            // rc files that start a multiplexer leave shells alone that are in one already. One that
            // is started all the same gets a place of its own, and no session of the user's.
            command.env("TMUX_TMPDIR", dir.path());
            for (name, value) in [
                ("TMUX", "/dev/null/rr-doctor,0,0"),
                ("ZELLIJ", "0"),
                ("STY", "rr-doctor"),
            ] {
                if std::env::var_os(name).is_none() {
                    command.env(name, value);
                }
            }
            if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
                command.env("TERM", "xterm-256color");
            }
        })
        .map_err(Silent::NotStarted)?;
        let ready = match wait_for_prompt(&mut terminal, program, began + self.scope.timeout) {
            Ok(()) => began.elapsed().saturating_sub(SETTLED),
            Err(silent) => {
                terminal.close();
                end_tmux(dir.path());
                return Err(silent);
            }
        };
        let line = driver.line.replace("@DIR@", &in_shell(dir.path()));
        let answered = terminal.send(&line).is_ok()
            && wait_for_answers(&mut terminal, &report, Instant::now() + self.scope.timeout);
        terminal.kill();
        let answers = answers(&std::fs::read(&report).unwrap_or_default());
        let asked = Asked {
            shell,
            answers,
            ready,
            recorded: std::fs::read(&spool).unwrap_or_default(),
            own_spool_dir: dir.path().join("spool"),
            rc: self.rc_file(shell),
        };
        remove_empty_spool(asked.get("spool"));
        match answered {
            true => Ok(asked),
            false => Err(Silent::Deaf),
        }
    }

    fn rc_file(&self, shell: Shell) -> PathBuf {
        let zdotdir = std::env::var_os("ZDOTDIR").map(PathBuf::from);
        let targets = shells::targets(shell, &self.home, zdotdir.as_deref());
        targets
            .into_iter()
            .next()
            .map_or(PathBuf::new(), |target| target.path)
    }
}

/// A directory whose name can be typed as it is.
fn probe_dir() -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("rr-doctor-");
    let dir = std::env::temp_dir();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match dir.is_absolute() && dir.display().to_string().chars().all(plain) {
        true => builder.tempdir_in(dir),
        false => builder.tempdir_in("/tmp"),
    }
}

/// Ends the servers that rc files have started in the directory of a probe.
fn end_tmux(dir: &Path) {
    let listed = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of_tmux =
        listed(dir).filter(|entry| entry.file_name().to_string_lossy().starts_with("tmux-"));
    for socket in of_tmux.flat_map(|entry| listed(&entry.path())) {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S")
            .arg(socket.path())
            .arg("kill-server")
            .env_remove("TMUX");
        let _ = tmux.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

pub(super) fn in_quotes(text: &str) -> String {
    String::from_utf8_lossy(&quoted(Path::new(text))).into_owned()
}

fn wait_for_prompt(terminal: &mut Terminal, program: &Path, end: Instant) -> Result<(), Silent> {
    let is_shell = |it: &Path| {
        it.file_name()
            == program
                .canonicalize()
                .unwrap_or(program.to_owned())
                .file_name()
    };
    // The first program is rr itself, on its way to become the shell.
    let own = std::env::current_exe().ok();
    let (mut other_since, mut editor_since) = (None, None);
    loop {
        terminal.read(Duration::from_millis(20), end);
        let foreground = terminal.foreground();
        if foreground == Foreground::Ended {
            return Err(Silent::Ended);
        }
        let running = terminal.program();
        let is_rr = running.is_some() && running == own;
        let replaced = running.filter(|it| !is_rr && !is_shell(it));
        let replaced_for = replaced
            .as_ref()
            .map(|_| other_since.get_or_insert_with(Instant::now).elapsed());
        if let (Some(by), true) = (&replaced, replaced_for.is_some_and(|it| it > REPLACED)) {
            let name = by.file_name().unwrap_or_default();
            return Err(Silent::Replaced(name.to_string_lossy().into_owned()));
        }
        if is_rr || replaced.is_some() || foreground != Foreground::LineEditor {
            editor_since = None;
        } else {
            let edits_for = editor_since.get_or_insert_with(Instant::now).elapsed();
            if takes_pastes(terminal.output()) || edits_for > PLAIN_EDITOR {
                terminal.read(SETTLED, end);
                if terminal.foreground() == Foreground::LineEditor {
                    return Ok(());
                }
            }
        }
        if Instant::now() >= end {
            let busy = match foreground {
                Foreground::Other(name) => Some(name),
                _ => terminal.started(),
            };
            let no_prompt = || Silent::NoPrompt(last_line(terminal.output()));
            return Err(busy.map_or_else(no_prompt, Silent::Busy));
        }
    }
}

/// Whether bracketed paste is on.
fn takes_pastes(output: &[u8]) -> bool {
    let last = |wanted: &[u8]| output.windows(wanted.len()).rposition(|it| it == wanted);
    match (last(b"\x1b[?2004h"), last(b"\x1b[?2004l")) {
        (Some(on), Some(off)) => on > off,
        (on, _) => on.is_some(),
    }
}

fn wait_for_answers(terminal: &mut Terminal, report: &Path, end: Instant) -> bool {
    while Instant::now() < end {
        terminal.read(Duration::from_millis(10), end);
        let so_far = std::fs::read(report).unwrap_or_default();
        if so_far.ends_with(b"\0end\0\0") {
            return true;
        }
        if terminal.foreground() == Foreground::Ended {
            return false;
        }
    }
    false
}

/// Pairs of name and value, each ended by NUL.
fn answers(report: &[u8]) -> HashMap<String, String> {
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let parts: Vec<&[u8]> = report.split(|&byte| byte == 0).collect();
    let pairs = parts.chunks_exact(2);
    pairs.map(|pair| (text(pair[0]), text(pair[1]))).collect()
}

/// The last line with something on it, without what is for the terminal alone.
fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let plain = regex_lite::Regex::new("\x1b\\[[0-9;?]*[a-zA-Z]|\x1b\\][^\x07]*\x07");
    let text = plain.map_or(text.to_string(), |plain| {
        plain.replace_all(&text, "").into_owned()
    });
    let line = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    let line = visible(line.unwrap_or_default().into(), Breaks::Mark);
    line.chars().take(200).collect()
}

/// Where the rc file itself names the data directory, the hook has made a file for this session
/// there. It holds a header and nothing else, and its shell is gone.
fn remove_empty_spool(path: &str) {
    let path = Path::new(path);
    let Ok(bytes) = std::fs::read(path) else {
        return;
    };
    let Some(header) = spool::header(&bytes) else {
        return;
    };
    let found = spool::drain(&bytes, 0, &header, true);
    let is_named_so = path
        .file_stem()
        .is_some_and(|stem| stem == OsStr::new(&header.session));
    if is_named_so && found.typed.is_empty() && found.damaged.is_empty() {
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(path.with_extension("spool~"));
    }
}

impl Asked {
    /// Microseconds that the hook added, a prompt each.
    fn samples(&self) -> Vec<i64> {
        let mut took: Vec<i64> = self
            .get("took")
            .split_whitespace()
            .filter_map(|it| it.parse().ok())
            .collect();
        took.sort_unstable();
        took
    }

    /// Median, and what nine of ten are above and below: one prompt during which the machine did
    /// something else says nothing.
    fn took(&self) -> Option<(i64, i64, i64)> {
        let took = self.samples();
        let at = |tenth: usize| took.get(took.len() * tenth / 10).copied();
        Some((at(5)?, at(1)?, at(9)?))
    }

    /// Whether the hook wrote commands while it was measured, or the shell is one in which it must not.
    fn writes(&self) -> bool {
        let header = spool::header(&self.recorded).unwrap_or_default();
        let found = spool::drain(&self.recorded, 0, &header, true);
        let mut options = self.get("shellopts").split(':');
        let keeps_none = match self.shell {
            Shell::Bash => !options.any(|it| it == "history"),
            Shell::Fish => !self.get("history").is_empty(),
            Shell::Zsh => false,
        };
        !found.typed.is_empty() || keeps_none || self.get("histsize") == "0"
    }

    fn json(&self, program: &Path) -> serde_json::Value {
        let prompt = self.took().map(|(median, least, most)| {
            json!({"median": median, "p10": least, "p90": most, "samples": self.samples().len()})
        });
        json!({
            "shell": self.shell.name(),
            "version": self.get("version"),
            "program": program.display().to_string(),
            "loaded": !self.get("loaded").is_empty(),
            "ready_ms": u64::try_from(self.ready.as_millis()).unwrap_or(u64::MAX),
            "prompt_us": prompt,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_on_the_screen_is_without_colours_and_titles() {
        let output = b"\x1b]0;title\x07one\r\n\x1b[1;32mUpdate? [y/N] \x1b[0m";
        assert_eq!(last_line(output), "Update? [y/N]");
        assert_eq!(last_line(b""), "");
    }

    #[test]
    fn a_paste_is_taken_where_the_last_word_on_it_was_yes() {
        assert!(takes_pastes(b"\x1b[?2004h$ "));
        assert!(!takes_pastes(b"\x1b[?2004h$ \x1b[?2004l"));
        assert!(!takes_pastes(b"$ "));
    }
}
