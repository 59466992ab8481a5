//! A program running in a pseudo-terminal: its screen, its keyboard, its end.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use portable_pty::{Child, ExitStatus, MasterPty, PtySize};
use tempfile::TempDir;
use vt100::Screen;

/// How long a wait goes on before it fails. Long, since it only costs time in a test that is red:
/// a loaded machine must not turn one red.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long a wait sleeps when nothing is drawn, for conditions that look elsewhere too.
const POLL: Duration = Duration::from_millis(20);

/// A program in a pseudo-terminal. Dropping it closes the terminal and kills the program.
pub struct Terminal {
    shared: Arc<Shared>,
    keyboard: Sender<Vec<u8>>,
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    _own_home: Option<TempDir>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Terminal({:?})\n{}", self.pid(), self.dump())
    }
}

impl Terminal {
    pub(crate) fn new(
        master: Box<dyn MasterPty + Send>,
        child: Box<dyn Child + Send + Sync>,
        size: PtySize,
        own_home: Option<TempDir>,
    ) -> Self {
        let reader = master.try_clone_reader().expect("a fresh terminal is open");
        let writer = master.take_writer().expect("nobody took it before");
        let shared = Arc::new(Shared::new(size));
        let keyboard = spawn_writer(writer);
        spawn_reader(reader, Arc::clone(&shared), keyboard.clone());
        Self {
            shared,
            keyboard,
            master,
            child,
            _own_home: own_home,
        }
    }

    /// Types bytes. Never blocks, however little the program reads.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // An error means that the program is gone; the next wait tells that better.
        let _ = self.keyboard.send(bytes.as_ref().to_vec());
    }

    /// Waits until `condition` holds for the screen, checking after every change.
    ///
    /// # Panics
    /// After [`DEADLINE`], or when the program has ended and the condition still does not hold;
    /// the message has `what` and the screen.
    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl FnMut(&Screen) -> bool) {
        self.wait_for_within(DEADLINE, what, condition);
    }

    /// [`wait_for`](Self::wait_for) with another deadline.
    ///
    /// # Panics
    /// As it does.
    #[track_caller]
    pub fn wait_for_within(
        &self,
        deadline: Duration,
        what: &str,
        mut condition: impl FnMut(&Screen) -> bool,
    ) {
        self.wait(deadline, what, |seen| condition(seen.parser.screen()));
    }

    /// Waits until `condition` holds for all bytes that the program has written so far.
    ///
    /// # Panics
    /// As [`wait_for`](Self::wait_for) does.
    #[track_caller]
    pub fn wait_for_output(&self, what: &str, mut condition: impl FnMut(&[u8]) -> bool) {
        self.wait(DEADLINE, what, |seen| condition(&seen.output));
    }

    #[track_caller]
    fn wait(&self, deadline: Duration, what: &str, mut condition: impl FnMut(&Seen) -> bool) {
        let started = Instant::now();
        let mut seen = self.shared.lock();
        loop {
            if condition(&seen) {
                return;
            }
            let why = if seen.closed {
                "the program has ended"
            } else if started.elapsed() > deadline {
                "waited long enough"
            } else {
                seen = self.shared.wait(seen);
                continue;
            };
            drop(seen);
            panic!("waiting for {what}: {why}\n{}", self.dump());
        }
    }

    /// The text on the screen, lines without trailing blanks.
    #[must_use]
    pub fn screen(&self) -> String {
        self.shared.lock().parser.screen().contents()
    }

    /// A copy of the whole screen, with colours, cursor and modes.
    #[must_use]
    pub fn snapshot(&self) -> Screen {
        self.shared.lock().parser.screen().clone()
    }

    /// Row and column of the cursor, from 0.
    #[must_use]
    pub fn cursor(&self) -> (u16, u16) {
        self.shared.lock().parser.screen().cursor_position()
    }

    /// Every byte that the program has written.
    #[must_use]
    pub fn output(&self) -> Vec<u8> {
        self.shared.lock().output.clone()
    }

    /// How many bytes the program has written: a mark for looking at what comes after.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.shared.lock().output.len()
    }

    /// Gives the terminal another size; the program gets SIGWINCH.
    ///
    /// # Panics
    /// If a size is 0 or the terminal is closed.
    pub fn resize(&mut self, rows: u16, cols: u16) {
        let size = PtySize {
            rows,
            cols,
            ..PtySize::default()
        };
        let mut seen = self.shared.lock();
        seen.parser.set_size(not_zero(rows), not_zero(cols));
        self.master.resize(size).expect("the terminal is open");
    }

    /// The program's process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.process_id()
    }

    /// Waits for the program's end, and for its last output.
    ///
    /// # Panics
    /// If it does not end within [`DEADLINE`].
    #[track_caller]
    pub fn exit_status(&mut self) -> ExitStatus {
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            if let Some(status) = self.try_exit_status() {
                self.wait_until_read();
                return status;
            }
            // The end of a process makes no output to wait for.
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the program does not end\n{}", self.dump());
    }

    /// Lets the reading thread see the end; children that still hold the terminal delay that.
    fn wait_until_read(&self) {
        let ended = Instant::now();
        let mut seen = self.shared.lock();
        while !seen.closed && ended.elapsed() < Duration::from_secs(2) {
            seen = self.shared.wait(seen);
        }
    }

    /// How the program ended, or `None` while it runs.
    ///
    /// # Panics
    /// If the system does not know the program.
    pub fn try_exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// Kills the program (SIGHUP, then SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The screen in a frame, the cursor, and the last bytes written: what a failed wait prints.
    #[must_use]
    pub fn dump(&self) -> String {
        let seen = self.shared.lock();
        let screen = seen.parser.screen();
        let (rows, cols) = screen.size();
        let (row, col) = screen.cursor_position();
        let lines: String = screen
            .rows(0, cols.get())
            .map(|line| format!("|{line}\n"))
            .collect();
        let tail = &seen.output[seen.output.len().saturating_sub(400)..];
        format!(
            "--- screen {rows}x{cols}, cursor at {row},{col} ---\n{lines}--- last bytes ---\n{}\n",
            tail.escape_ascii()
        )
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the reading thread and the test both see.
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

struct Seen {
    parser: vt100::Parser<Replies>,
    output: Vec<u8>,
    closed: bool,
}

impl Shared {
    fn new(size: PtySize) -> Self {
        let parser = vt100::Parser::new_with_callbacks(
            not_zero(size.rows),
            not_zero(size.cols),
            0,
            Replies::default(),
        );
        Self {
            seen: Mutex::new(Seen {
                parser,
                output: Vec::new(),
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// A condition that panics must not hide its own message behind a poisoned lock.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|err| err.into_inner())
    }

    fn wait<'a>(&self, seen: MutexGuard<'a, Seen>) -> MutexGuard<'a, Seen> {
        match self.changed.wait_timeout(seen, POLL) {
            Ok((seen, _)) => seen,
            Err(err) => err.into_inner().0,
        }
    }
}

/// Answers to what programs ask a terminal: fzf and others wait for the cursor's position.
#[derive(Default)]
struct Replies(Vec<u8>);

impl vt100::Callbacks for Replies {
    fn unhandled_csi(
        &mut self,
        screen: &mut Screen,
        i1: Option<u8>,
        _i2: Option<u8>,
        params: &[&[u16]],
        command: char,
    ) {
        let first = params.first().and_then(|p| p.first()).copied().unwrap_or(0);
        match (i1, command, first) {
            (None, 'n', 6) => {
                let (row, col) = screen.cursor_position();
                let answer = format!("\x1b[{};{}R", row + 1, col + 1);
                self.0.extend(answer.as_bytes());
            }
            (None, 'n', 5) => self.0.extend(b"\x1b[0n"),
            (None, 'c', 0) => self.0.extend(b"\x1b[?62;22c"),
            _ => {}
        }
    }
}

fn spawn_reader(mut reader: Box<dyn Read + Send>, shared: Arc<Shared>, keyboard: Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        loop {
            // EIO is how Linux tells that the last program has closed the terminal.
            let read = reader.read(&mut buffer).unwrap_or(0);
            let mut seen = shared.lock();
            if read == 0 {
                seen.closed = true;
                shared.changed.notify_all();
                return;
            }
            seen.output.extend_from_slice(&buffer[..read]);
            seen.parser.process(&buffer[..read]);
            let answers = std::mem::take(&mut seen.parser.callbacks_mut().0);
            shared.changed.notify_all();
            drop(seen);
            if !answers.is_empty() {
                let _ = keyboard.send(answers);
            }
        }
    });
}

fn spawn_writer(mut writer: Box<dyn Write + Send>) -> Sender<Vec<u8>> {
    let (keyboard, typed) = mpsc::channel::<Vec<u8>>();
    std::thread::spawn(move || {
        for bytes in typed {
            if writer
                .write_all(&bytes)
                .and_then(|()| writer.flush())
                .is_err()
            {
                return;
            }
        }
    });
    keyboard
}

fn not_zero(cells: u16) -> NonZeroU16 {
    NonZeroU16::new(cells).expect("a terminal has at least one cell")
}
