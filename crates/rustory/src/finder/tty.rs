//! The terminal: opened, put into raw mode, and given back whatever happens.
//!
//! The finder talks to the terminal itself and not to stdin and stdout, since those belong to the
//! shell widget. The alternate screen keeps what was on the screen, also on one of ten rows and
//! after a resize. One `poll` waits for keys, for signals and for the finder's own threads, and
//! the terminal is read byte by byte, so that keys behind the last one stay for the shell.

use std::fs::File;
use std::io::{self, PipeWriter, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};

/// Alternate screen, bracketed paste (so that a pasted line break is no Enter), no line wrap.
const ENTER: &str = "\x1b[?1049h\x1b[?2004h\x1b[?7l\x1b[H\x1b[2J";
pub(crate) const CLEAR: &str = "\x1b[m\x1b[H\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?1049l\x1b[?25h\x1b[m";
/// For those who started the finder from a prompt, where nobody else switches it off.
const PASTE_OFF: &str = "\x1b[?2004l";

/// What ends the finder from outside.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGTERM, SIGQUIT];

/// How to put the terminal back, for whoever comes first: the end, a panic, a signal.
static RESTORE: Mutex<Option<Restore>> = Mutex::new(None);

struct Restore {
    file: File,
    termios: Termios,
    paste_off: bool,
}

/// The terminal while the finder has it.
#[derive(Debug)]
pub(crate) struct Tty {
    file: File,
    wake: io::PipeReader,
    waker: Waker,
    resized: Arc<AtomicBool>,
    ending: Vec<(i32, Arc<AtomicBool>)>,
    /// Bytes that were typed before the terminal was in raw mode.
    ahead: u64,
}

/// Wakes the terminal's wait from another thread.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<PipeWriter>);

impl Waker {
    pub(crate) fn wake(&self) {
        // Nobody reads any more when the finder is closed.
        let _ = (&*self.0).write(&[0]);
    }
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// A byte from the keyboard.
    Byte(u8),
    /// The terminal has another size.
    Resized,
    /// One of our own threads has something.
    Woken,
    /// The time is over.
    TimedOut,
    /// The terminal is gone.
    Closed,
    /// This signal asks us to end.
    Signal(i32),
}

impl Tty {
    /// Opens the terminal and prepares the screen.
    ///
    /// `within_widget`: the shell's line editor is around us and has bracketed paste on.
    pub(crate) fn open(within_widget: bool) -> io::Result<Tty> {
        let file = open()?;
        let (wake, waker) = io::pipe()?;
        let mut tty = Tty {
            resized: flag(SIGWINCH, &waker)?,
            ending: ENDING
                .into_iter()
                .map(|signal| Ok((signal, flag(signal, &waker)?)))
                .collect::<io::Result<_>>()?,
            waker: Waker(Arc::new(waker)),
            file,
            wake,
            ahead: 0,
        };
        tty.take_over(within_widget)?;
        Ok(tty)
    }

    fn take_over(&mut self, within_widget: bool) -> io::Result<()> {
        let termios = rustix::termios::tcgetattr(&self.file)?;
        let mut raw = termios.clone();
        raw.make_raw();
        *restore_slot() = Some(Restore {
            file: self.file.try_clone()?,
            termios,
            paste_off: !within_widget,
        });
        restore_on_panic();
        rustix::termios::tcsetattr(&self.file, OptionalActions::Now, &raw)?;
        self.ahead = rustix::io::ioctl_fionread(&self.file).unwrap_or(0);
        (&self.file).write_all(ENTER.as_bytes())
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Empties the screen.
    pub(crate) fn clear(&self) -> io::Result<()> {
        (&self.file).write_all(CLEAR.as_bytes())
    }

    /// For drawing.
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Columns and rows; never 0.
    pub(crate) fn size(&self) -> (u16, u16) {
        size(&self.file)
    }

    /// Waits for the next thing to happen; keys are left where they are unless `keyboard`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, keyboard: bool) -> io::Result<Wake> {
        if let Some(&(signal, _)) = self
            .ending
            .iter()
            .find(|(_, is)| is.load(Ordering::Relaxed))
        {
            return Ok(Wake::Signal(signal));
        }
        if self.resized.swap(false, Ordering::Relaxed) {
            return Ok(Wake::Resized);
        }
        let timeout = timeout.map(|time| Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let listen = match keyboard {
            true => PollFlags::IN,
            false => PollFlags::empty(),
        };
        let (keys, woken) = {
            let mut fds = [
                PollFd::from_borrowed_fd(self.file.as_fd(), listen),
                PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(Wake::TimedOut),
                Ok(_) => (fds[0].revents(), fds[1].revents()),
                Err(rustix::io::Errno::INTR) => return Ok(Wake::Woken),
                Err(err) => return Err(err.into()),
            }
        };
        if !keys.is_empty() {
            return self.read_byte();
        }
        debug_assert!(!woken.is_empty());
        // However often it was woken, once is enough.
        let _ = self.wake.read(&mut [0; 64])?;
        Ok(Wake::Woken)
    }

    fn read_byte(&mut self) -> io::Result<Wake> {
        let mut byte = [0];
        match self.file.read(&mut byte) {
            Ok(1) => Ok(Wake::Byte(self.as_typed(byte[0]))),
            // EIO: hung up.
            Ok(_) => Ok(Wake::Closed),
            Err(err) if err.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                Ok(Wake::Closed)
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => Ok(Wake::Woken),
            Err(err) => Err(err),
        }
    }
}

impl Tty {
    /// Outside raw mode the terminal had made a line feed of Enter.
    fn as_typed(&mut self, byte: u8) -> u8 {
        let was_ahead = self.ahead > 0;
        self.ahead = self.ahead.saturating_sub(1);
        if was_ahead && byte == b'\n' {
            b'\r'
        } else {
            byte
        }
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        restore();
    }
}

/// Columns and rows; never 0.
pub(crate) fn size(terminal: &File) -> (u16, u16) {
    let size = rustix::termios::tcgetwinsize(terminal);
    let (cols, rows) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
    match (cols, rows) {
        // Serial lines do not know.
        (0, _) | (_, 0) => (80, 24),
        known => known,
    }
}

/// Waits for any key and takes it from a terminal that is otherwise somebody else's.
pub(crate) fn wait_for_key(mut terminal: &File) -> io::Result<()> {
    let before = rustix::termios::tcgetattr(terminal)?;
    let mut raw = before.clone();
    raw.make_raw();
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw)?;
    // One read takes all bytes of a key.
    let pressed = terminal.read(&mut [0; 64]);
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &before)?;
    pressed.map(drop)
}

/// Opens the terminal that we were started from, wherever stdin and stdout go.
pub(crate) fn open() -> io::Result<File> {
    let open = |path: &std::path::Path| {
        File::options()
            .read(true)
            .write(true)
            .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
            .open(path)
    };
    // macOS can't poll /dev/tty, but the device itself.
    #[cfg(target_os = "macos")]
    for fd in [rustix::stdio::stdin(), rustix::stdio::stderr()] {
        if let Ok(name) = rustix::termios::ttyname(fd, Vec::new()) {
            use std::os::unix::ffi::OsStrExt as _;
            let path = std::ffi::OsStr::from_bytes(name.as_bytes());
            if let Ok(file) = open(path.as_ref()) {
                return Ok(file);
            }
        }
    }
    open("/dev/tty".as_ref())
}

/// A flag that the signal sets; the pipe ends the wait.
fn flag(signal: i32, waker: &PipeWriter) -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal, Arc::clone(&flag))?;
    signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
    Ok(flag)
}

/// Ends the process as the signal does when nobody handles it.
pub(crate) fn die_of(signal: i32) {
    restore();
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

/// Gives the terminal back; the second time, nothing happens.
fn restore() {
    let Some(mut restore) = restore_slot().take() else {
        return;
    };
    let paste_off = if restore.paste_off { PASTE_OFF } else { "" };
    // A terminal that is gone needs nothing back.
    let _ = write!(restore.file, "{paste_off}{LEAVE}");
    let _ = rustix::termios::tcsetattr(&restore.file, OptionalActions::Now, &restore.termios);
}

fn restore_slot() -> std::sync::MutexGuard<'static, Option<Restore>> {
    RESTORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A panic, on whatever thread, first gives the terminal back, so that its message can be read
/// when it ends the process.
fn restore_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        tell(panic);
    }));
}
