//! What to start, and in which surroundings.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use tempfile::TempDir;

use crate::terminal::Terminal;

/// The `PATH` that programs get.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that is about to start in a pseudo-terminal.
#[derive(Debug)]
pub struct Program {
    argv: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    cwd: Option<OsString>,
    own_home: Option<TempDir>,
    rows: u16,
    cols: u16,
}

impl Program {
    /// A program by name or path, with no arguments, on a screen of 24 by 80.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let env = [
            ("PATH", SEARCH_PATH),
            ("TERM", "xterm-256color"),
            ("LANG", "C.UTF-8"),
            // Left out, it would be filled in from the system's user database.
            ("SHELL", "/bin/sh"),
        ];
        Self {
            argv: vec![program.as_ref().to_owned()],
            env: env.map(|(k, v)| (k.into(), v.into())).into(),
            cwd: None,
            own_home: None,
            rows: 24,
            cols: 80,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment, which is otherwise `HOME`, `PATH`, `TERM`,
    /// `LANG` and `SHELL`.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Takes a variable out of its environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.remove(name.as_ref());
        self
    }

    /// Uses a home directory that outlives the program. Without this it gets one of its own, which
    /// goes with the [`Terminal`].
    #[must_use]
    pub fn home(self, home: impl AsRef<Path>) -> Self {
        self.env("HOME", home.as_ref())
    }

    /// Starts it in this directory; by default in its home.
    #[must_use]
    pub fn cwd(mut self, cwd: impl AsRef<Path>) -> Self {
        self.cwd = Some(cwd.as_ref().into());
        self
    }

    /// The size of the screen.
    #[must_use]
    pub fn size(mut self, rows: u16, cols: u16) -> Self {
        (self.rows, self.cols) = (rows, cols);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut self) -> Terminal {
        if !self.env.contains_key(OsStr::new("HOME")) {
            let home = crate::home();
            self = self.home(home.path());
            self.own_home = Some(home);
        }
        let size = PtySize {
            rows: self.rows,
            cols: self.cols,
            ..PtySize::default()
        };
        let pair = native_pty_system()
            .openpty(size)
            .expect("the system has pseudo-terminals");
        let child = pair
            .slave
            .spawn_command(self.command())
            .unwrap_or_else(|err| panic!("`{:?}` does not start: {err:#}", self.argv));
        // The program alone holds the far end now, so that its end is seen.
        drop(pair.slave);
        Terminal::new(pair.master, child, size, self.own_home)
    }

    fn command(&self) -> CommandBuilder {
        let mut command = CommandBuilder::from_argv(self.argv.clone());
        command.env_clear();
        for (name, value) in &self.env {
            command.env(name, value);
        }
        let home = &self.env[OsStr::new("HOME")];
        command.cwd(self.cwd.as_ref().unwrap_or(home));
        command
    }
}
