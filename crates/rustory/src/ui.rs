//! Talking to people and to pipes: data on stdout, sentences on stderr.

use std::io::{self, IsTerminal as _, Write as _};

use crate::error::CommandError;

/// Buffered stdout for which a reader that went away (`rr list | head`) is no error.
#[derive(Debug)]
pub(crate) struct Output {
    out: io::BufWriter<io::Stdout>,
    closed: bool,
}

impl Output {
    pub(crate) fn new() -> Output {
        Output {
            out: io::BufWriter::with_capacity(64 * 1024, io::stdout()),
            closed: false,
        }
    }

    /// Whether nobody reads any more; producers may stop.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        let written = self.out.write_all(bytes);
        self.settle(written)
    }

    pub(crate) fn line(&mut self, line: impl std::fmt::Display) -> Result<(), CommandError> {
        let written = writeln!(self.out, "{line}");
        self.settle(written)
    }

    pub(crate) fn finish(mut self) -> Result<(), CommandError> {
        let flushed = self.out.flush();
        self.settle(flushed)
    }

    fn settle(&mut self, result: io::Result<()>) -> Result<(), CommandError> {
        match result {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(err) => Err(CommandError::failed(format!("writing to stdout: {err}"))),
            Ok(()) => Ok(()),
        }
    }
}

/// A sentence for the user, on stderr. Failing to say it is not worth an error.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What is wrong but stops nothing.
pub(crate) fn warn(what: impl std::fmt::Display) {
    let (yellow, reset) = if colour(io::stderr().is_terminal()) {
        ("\x1b[1;33m", "\x1b[0m")
    } else {
        ("", "")
    };
    say(format_args!("{yellow}warning{reset}: {what}"));
}

/// What went wrong and what to do next.
pub(crate) fn complain(message: &str, hint: Option<&str>) {
    let (red, cyan, reset) = if colour(io::stderr().is_terminal()) {
        ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    say(format_args!("{red}error{reset}: {message}"));
    if let Some(hint) = hint {
        say(format_args!("{cyan}hint{reset}: {hint}"));
    }
}

/// Whether to colour what goes to a stream: only on a terminal and without `NO_COLOR`.
pub(crate) fn colour(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Colours for what goes to stdout; plain where there should be none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) fn stdout() -> Paint {
        Paint(colour(io::stdout().is_terminal()))
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Columns of the terminal that stdout is; `None` when it is none.
pub(crate) fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// One line on a terminal that is rewritten while long work goes on; nothing elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    next: std::time::Instant,
    on_terminal: bool,
}

/// More often only costs time.
const PROGRESS_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

impl Progress {
    pub(crate) fn new(quiet: bool) -> Progress {
        Progress {
            shown: false,
            next: std::time::Instant::now() + PROGRESS_EVERY,
            on_terminal: !quiet && io::stderr().is_terminal(),
        }
    }

    pub(crate) fn update(&mut self, line: impl FnOnce() -> String) {
        let now = std::time::Instant::now();
        if self.on_terminal && now >= self.next {
            self.next = now + PROGRESS_EVERY;
            self.shown = true;
            let _ = write!(io::stderr(), "\r\x1b[K{}", line());
        }
    }
}

impl Progress {
    /// Takes the line away, so that something else can be said.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), shown);
        }
    }
}
