//! A program in a pseudo-terminal that doctor types into: no more of one than a shell needs to
//! believe that a person sits there. `rustory-testkit` has the one for tests.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{InputModes, LocalModes, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize};

/// A program and its terminal. Dropping it closes the terminal and ends the program.
pub(super) struct Terminal {
    master: OwnedFd,
    child: Child,
    pid: Pid,
    output: Vec<u8>,
    /// The program has closed its side.
    closed: bool,
}

/// Who has the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Foreground {
    /// The program itself, and a line editor reads keys.
    LineEditor,
    /// The program itself.
    Program,
    /// Another program that it started; its name.
    Other(String),
    /// Nobody any more.
    Ended,
}

/// The size that every terminal has had.
const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// How long a program may take to end after it was told that its terminal is gone.
const GRACE: Duration = Duration::from_millis(500);

/// So much of what it wrote is kept.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// Runs in the new process, before the program: the terminal on its standard input becomes its own,
/// so that ctrl+c, job control and hanging up work. Safe Rust can't do this between fork and exec, so
/// `rr` starts itself for it. Returns only if the program can't be started.
pub(crate) fn become_program(argv: &[OsString]) -> io::Error {
    let Some((program, args)) = argv.split_first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    let own = rustix::process::setsid().and_then(|_| rustix::process::ioctl_tiocsctty(io::stdin()));
    match own {
        Ok(()) => Command::new(program).args(args).exec(),
        Err(err) => err.into(),
    }
}

/// The hidden option that leads to [`become_program`].
pub(crate) const IN_TERMINAL: &str = "--in-terminal";

impl Terminal {
    /// Starts `argv` with what `change` does to its environment.
    pub(super) fn start(
        argv: &[&OsStr],
        change: impl FnOnce(&mut Command),
    ) -> io::Result<Terminal> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        // Not every system can do this in one step.
        fcntl_setfd(&master, FdFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
        tcsetwinsize(&slave, SIZE)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--quiet", "doctor", IN_TERMINAL, "--"])
            .args(argv);
        command
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave));
        change(&mut command);
        let child = command.spawn()?;
        // The command holds the far end as well, until it is dropped.
        drop(command);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Terminal {
            master,
            pid: pid.ok_or(io::ErrorKind::InvalidData)?,
            child,
            output: Vec::new(),
            closed: false,
        })
    }

    /// Types.
    pub(super) fn send(&self, text: &str) -> io::Result<()> {
        let mut left = text.as_bytes();
        while !left.is_empty() {
            let sent = rustix::io::write(&self.master, left)?;
            left = &left[sent..];
        }
        Ok(())
    }

    /// Reads what the program writes, until it is silent for as long as this, or `end` has come.
    pub(super) fn read(&mut self, silence: Duration, end: Instant) {
        let mut buffer = [0; 4096];
        while !self.closed && Instant::now() < end && self.is_readable(silence) {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(read) if read > 0 => self.take(&buffer[..read]),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // EIO is how Linux tells that the last program has closed the terminal.
                _ => self.closed = true,
            }
        }
        if self.closed {
            std::thread::sleep(silence);
        }
    }

    fn is_readable(&self, wait: Duration) -> bool {
        let wait = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        poll(&mut fds, Some(&wait)).is_ok_and(|ready| ready > 0)
    }

    /// Keeps it, and answers what programs ask a terminal for: some wait for that.
    fn take(&mut self, bytes: &[u8]) {
        for (question, answer) in [
            (b"\x1b[6n".as_slice(), "\x1b[1;1R"),
            (b"\x1b[5n", "\x1b[0n"),
            (b"\x1b[c", "\x1b[?62;22c"),
            (b"\x1b[0c", "\x1b[?62;22c"),
        ] {
            if bytes.windows(question.len()).any(|it| it == question) {
                let _ = self.send(answer);
            }
        }
        let room = OUTPUT_BYTES_MAX.saturating_sub(self.output.len());
        self.output.extend(bytes.iter().take(room));
    }

    /// Everything that the program wrote, up to a limit.
    pub(super) fn output(&self) -> &[u8] {
        &self.output
    }

    /// What this process runs now; a shell may have replaced itself.
    pub(super) fn program(&self) -> Option<PathBuf> {
        program_of(self.pid)
    }

    /// Who has the terminal.
    pub(super) fn foreground(&mut self) -> Foreground {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return Foreground::Ended;
        }
        match tcgetpgrp(self.master.as_fd()) {
            Ok(group) if group != self.pid => Foreground::Other(name_of(group)),
            _ if self.has_line_editor() => Foreground::LineEditor,
            _ => Foreground::Program,
        }
    }

    /// A line editor has the terminal give it every key, shows them itself, and tells Enter from
    /// ctrl+j, for which readline turns the translation off and zsh has both exchanged. A question
    /// for one key (`read -sn1`) leaves that as it was, and must get no answer from us.
    fn has_line_editor(&self) -> bool {
        tcgetattr(self.master.as_fd()).is_ok_and(|modes| {
            let cooked = LocalModes::ICANON | LocalModes::ECHO;
            let input = modes.input_modes;
            let tells_enter =
                !input.contains(InputModes::ICRNL) || input.contains(InputModes::INLCR);
            !modes.local_modes.intersects(cooked) && tells_enter
        })
    }

    /// A program that was started in this terminal and still runs: the last one. A shell that reads
    /// its rc files starts them in its own group, so the terminal does not tell them apart.
    pub(super) fn started(&self) -> Option<String> {
        let last = in_session(self.pid)
            .into_iter()
            .max_by_key(|pid| pid.as_raw_nonzero())?;
        Some(name_of(last))
    }

    /// Ends the program at once, so that it does nothing more.
    pub(super) fn kill(&mut self) {
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        let _ = self.child.wait();
        self.hang_up_others();
    }

    /// What happens when a window is closed: whatever runs in it is told, and given a moment.
    pub(super) fn close(&mut self) {
        self.hang_up_others();
        let _ = rustix::process::kill_process(self.pid, Signal::HUP);
        let told = Instant::now();
        while told.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            self.read(Duration::from_millis(10), told + GRACE);
        }
        self.kill();
    }

    /// Tells whatever else was started in this terminal that it is gone.
    fn hang_up_others(&self) {
        if let Ok(group) = tcgetpgrp(self.master.as_fd())
            && group != self.pid
        {
            let _ = rustix::process::kill_process_group(group, Signal::HUP);
        }
        for pid in in_session(self.pid) {
            let _ = rustix::process::kill_process(pid, Signal::HUP);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// The other processes of a session; none where there is no `/proc`.
fn in_session(session: Pid) -> Vec<Pid> {
    let listed = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw)
        .filter(|pid| *pid != session && session_of(*pid) == Some(session.as_raw_nonzero().get()))
        .collect()
}

/// Read, since asking the kernel by `getsid` fails on processes of other namespaces.
fn session_of(pid: Pid) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name, in parentheses, may hold anything; the session is the fourth field behind it.
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(3)?
        .parse()
        .ok()
}

fn program_of(pid: Pid) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()))
        .ok()
        .or_else(|| asked_of_ps(pid))
}

fn name_of(pid: Pid) -> String {
    let path = program_of(pid);
    let name = path.as_deref().and_then(Path::file_name);
    name.map_or("a program".to_owned(), |name| {
        name.to_string_lossy().into_owned()
    })
}

/// Where there is no `/proc`.
fn asked_of_ps(pid: Pid) -> Option<PathBuf> {
    let pid = pid.as_raw_nonzero().to_string();
    let asked = Command::new("ps")
        .args(["-o", "comm=", "-p", &pid])
        .output();
    let name = String::from_utf8(asked.ok()?.stdout).ok()?;
    // A login shell has a dash in front.
    let name = name.trim().trim_start_matches('-');
    (!name.is_empty()).then(|| name.into())
}
