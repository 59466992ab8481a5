//! A real shell with the hook loaded by `rr init`, and what it put into its spool.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustory_core::spool::{self, Header, Typed};
use rustory_testkit::{DEADLINE, Program, Screen, Terminal, key};
use tempfile::TempDir;

/// Begins every prompt, so that prompts can be counted in the output. A terminal shows nothing.
const PROMPT_MARK: &[u8] = b"\x1b]0;prompt\x07";

/// What every prompt of these tests looks like.
pub(crate) const PROMPT: &str = "$ ";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// For lines that every shell takes.
pub(crate) const ALL: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// For lines in the language of `sh`.
pub(crate) const SHELLS: [Shell; 2] = [Shell::Bash, Shell::Zsh];

impl Shell {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }

    fn program(self) -> String {
        let variable = format!("RUSTORY_TEST_{}", self.name().to_uppercase());
        std::env::var(variable).unwrap_or_else(|_| self.name().to_owned())
    }

    fn rc_file(self) -> &'static str {
        match self {
            Shell::Bash => "bashrc",
            Shell::Zsh => ".zshrc",
            Shell::Fish => ".config/fish/config.fish",
        }
    }

    fn prompt(self) -> &'static str {
        match self {
            Shell::Bash => "PS1='\\[\\e]0;prompt\\a\\]$ ' PS2='> '\n",
            // A prompt is drawn again and again; the event comes once.
            Shell::Fish => {
                "function fish_prompt; builtin printf '$ '; end\nfunction fish_title; end\n\
                 function fish_mode_prompt; end\nset -g fish_greeting\n\
                 set -g fish_autosuggestion_enabled 0\n\
                 function mark --on-event fish_prompt; builtin printf '\\e]0;prompt\\a'; end\n"
            }
            Shell::Zsh => "PS1=$'%{\\e]0;prompt\\a%}$ ' PS2='> '\nunsetopt prompt_sp notify\n",
        }
    }

    /// As a shell is started by hand: what a terminal runs, or a nested `bash`.
    pub(crate) fn command(self) -> String {
        match self {
            Shell::Bash => format!("{} --noprofile --rcfile ~/bashrc -i", self.program()),
            Shell::Zsh => format!("{} -d -i", self.program()),
            Shell::Fish => format!("{} -i", self.program()),
        }
    }

    /// The line that sets a variable of the shell, `~` expanded.
    pub(crate) fn assign(self, name: &str, value: &str) -> String {
        match self {
            Shell::Fish => format!("set -g {name} {value}"),
            _ => format!("{name}={value}"),
        }
    }

    /// bash's version as 502; for the others a number above all of them, since no line asks for it.
    pub(crate) fn version(self) -> u32 {
        if self != Shell::Bash {
            return u32::MAX;
        }
        let out = std::process::Command::new(self.program())
            .args(["-c", "echo $((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1]))"])
            .output()
            .expect("the shell runs");
        let out = String::from_utf8(out.stdout).expect("digits");
        out.trim().parse().expect("digits")
    }
}

/// The rc files around the hook.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rc<'a> {
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
}

/// A home directory with rc files for all shells; `rc` is for those of `sh`'s language.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    pub(crate) fn new(rc: Rc<'_>) -> Home {
        let home = Home {
            dir: rustory_testkit::home(),
        };
        for shell in SHELLS {
            let hook = format!("eval \"$({} init {})\"\n", rr().display(), shell.name());
            home.write(
                shell.rc_file(),
                &[shell.prompt(), rc.before, "\n", &hook, rc.after, "\n"].concat(),
            );
        }
        home.write_fish("", "");
        home
    }

    /// fish has a language of its own, and so rc files of its own.
    pub(crate) fn write_fish(&self, before: &str, after: &str) {
        let fish = Shell::Fish;
        let hook = format!("{} init fish | source\n", rr().display());
        let text = [fish.prompt(), before, "\n", &hook, after, "\n"].concat();
        fs::create_dir_all(self.path().join(".config/fish")).expect("a home is writable");
        self.write(fish.rc_file(), &text);
        // Otherwise the first fish of a home goes through all man pages, in the background.
        let completions = self.path().join(".local/share/fish/generated_completions");
        fs::create_dir_all(completions).expect("a home is writable");
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a home is writable");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    pub(crate) fn spool_dir(&self) -> PathBuf {
        self.path().join(".rustory/spool")
    }

    /// The spool files, oldest session first as far as their names tell.
    pub(crate) fn spool_files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.spool_dir())
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("a readable directory").path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "spool"))
            .collect();
        files.sort();
        files
    }

    /// Everything in the spool, by session, in the order typed. Sessions count as over.
    ///
    /// # Panics
    /// If a record cannot be read: a hook never writes one.
    pub(crate) fn spooled(&self) -> Vec<Typed> {
        let files = self.spool_files().into_iter();
        files
            .flat_map(|path| {
                let bytes = fs::read(&path).expect("a spool file is readable");
                let header = spool::header(&bytes).unwrap_or_default();
                let drained = spool::drain(&bytes, 0, &header, true);
                assert!(drained.damaged.is_empty(), "{}", bytes.escape_ascii());
                drained.typed
            })
            .collect()
    }

    pub(crate) fn headers(&self) -> Vec<Header> {
        let files = self.spool_files().into_iter();
        files
            .filter_map(|path| spool::header(&fs::read(path).ok()?))
            .collect()
    }

    /// Runs `rr` in this home and gives its standard output.
    pub(crate) fn rr(&self, args: &[&str]) -> String {
        let out = std::process::Command::new(rr())
            .args(args)
            .env_clear()
            .env("HOME", self.path())
            .output()
            .expect("rr runs");
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).expect("UTF-8")
    }
}

pub(crate) fn rr() -> PathBuf {
    rustory_testkit::rr_binary(option_env!("CARGO_BIN_EXE_rr"))
}

/// A shell at its prompt.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) terminal: Terminal,
    shell: Shell,
}

impl Session {
    pub(crate) fn start(shell: Shell, home: &Home) -> Session {
        Session::start_with(shell, home, |program| program)
    }

    /// Starts a shell after `change`s to its surroundings, and waits for its first prompt.
    pub(crate) fn start_with(
        shell: Shell,
        home: &Home,
        change: impl FnOnce(Program) -> Program,
    ) -> Session {
        let command = format!("exec {}", shell.command());
        let program = Program::new("/bin/sh")
            .args(["-c", &command])
            .home(home.path());
        let session = Session {
            terminal: change(program).start(),
            shell,
        };
        session.wait_for_prompts(1);
        session
    }

    pub(crate) fn shell(&self) -> Shell {
        self.shell
    }

    /// Types a line, presses enter, waits for the next prompt.
    pub(crate) fn run(&mut self, line: &str) {
        let prompts = self.prompts();
        self.terminal.send(line);
        self.terminal.send(key::ENTER);
        self.wait_for_prompts(prompts + 1);
    }

    pub(crate) fn run_all(&mut self, lines: &[&str]) {
        for line in lines {
            self.run(line);
        }
    }

    /// Pastes text as terminals do, presses enter, waits for the next prompt.
    pub(crate) fn paste(&mut self, text: &str) {
        if self.shell.version() < 400 {
            // Before brackets: typed quickly, with the tab quoted.
            return self.run(&text.replace('\t', "\x16\t"));
        }
        self.run(&[key::PASTE_START, text, key::PASTE_END].concat());
    }

    /// Runs a command and gives what it wrote into the file `name` of the home directory.
    pub(crate) fn ask(&mut self, home: &Home, command: &str) -> String {
        self.run(&match self.shell {
            Shell::Fish => format!("begin; {command}; end >~/answer 2>&1"),
            _ => format!("{{ {command}; }} >| ~/answer 2>&1"),
        });
        home.read("answer")
    }

    pub(crate) fn prompts(&self) -> usize {
        count(&self.terminal.output(), PROMPT_MARK)
    }

    #[track_caller]
    pub(crate) fn wait_for_prompts(&self, prompts: usize) {
        let what = format!("prompt {prompts}");
        self.terminal
            .wait_for_output(&what, |output| count(output, PROMPT_MARK) >= prompts);
    }

    /// Waits until the line that the cursor is on reads `$ ` and `line`.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, line: &str) {
        let line = format!("{PROMPT}{line}");
        self.terminal
            .wait_for(&format!("the line {line:?}"), |screen| {
                current_line(screen) == line.trim_end()
            });
    }

    /// Presses ctrl+c until there is a new prompt: bash's line editor now and then misses a signal
    /// that comes while it draws.
    pub(crate) fn interrupt(&mut self) {
        let (prompts, started) = (self.prompts(), Instant::now());
        while self.prompts() == prompts && started.elapsed() < DEADLINE {
            self.terminal.send(key::ctrl('c'));
            let sent = Instant::now();
            while self.prompts() == prompts && sent.elapsed() < Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.wait_for_prompts(prompts + 1);
    }

    /// Waits until the line editor takes keys again, with an empty line: a widget may draw the
    /// prompt once more after it has ended.
    #[track_caller]
    pub(crate) fn settle(&mut self) {
        self.terminal.send("x");
        self.terminal.wait_for("the line editor", |screen| {
            current_line(screen).ends_with('x')
        });
        self.terminal.send(key::ctrl('u'));
        self.wait_for_line("");
    }

    /// Ends the shell.
    pub(crate) fn exit(mut self) {
        self.terminal.send("exit\r");
        self.terminal.exit_status();
    }
}

pub(crate) fn current_line(screen: &Screen) -> String {
    let (row, _) = screen.cursor_position();
    let cols = screen.size().1.get();
    let line = screen.rows(0, cols).nth(row.into()).unwrap_or_default();
    line.trim_end().to_owned()
}

/// Waits for something that does not show on the screen.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack
        .windows(needle.len())
        .filter(|window| *window == needle)
        .count()
}

/// Runs `lines` in a fresh shell of each kind and compares the commands in the spool.
#[track_caller]
pub(crate) fn check(rc: Rc<'_>, lines: &[&str], expect: &[&str]) {
    for shell in SHELLS {
        check_in(shell, rc, lines, expect);
    }
}

#[track_caller]
pub(crate) fn check_in(shell: Shell, rc: Rc<'_>, lines: &[&str], expect: &[&str]) {
    let home = Home::new(rc);
    let mut session = Session::start(shell, &home);
    session.run_all(lines);
    assert_eq!(cmds(&home), expect, "{shell:?}, {rc:?}\n{session:?}");
}

/// The commands in the spool.
pub(crate) fn cmds(home: &Home) -> Vec<String> {
    home.spooled().iter().map(|t| t.cmd.to_string()).collect()
}

/// The commands in the spool with their exit codes.
pub(crate) fn exits(home: &Home) -> Vec<(String, Option<i64>)> {
    home.spooled()
        .iter()
        .map(|t| (t.cmd.to_string(), t.exit_code))
        .collect()
}
