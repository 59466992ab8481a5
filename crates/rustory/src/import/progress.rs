//! One line on the terminal that says how far an import is.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::report::grouped;

/// Rewritten in place; says nothing where stderr is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    format: &'static str,
    started: Instant,
    last: Option<Instant>,
}

/// At most ten times a second.
const INTERVAL: Duration = Duration::from_millis(100);

impl Progress {
    pub(super) fn new(quiet: bool) -> Progress {
        Progress {
            shown: !quiet && std::io::stderr().is_terminal(),
            format: "",
            started: Instant::now(),
            last: None,
        }
    }

    /// Begins anew with another source.
    pub(super) fn begin(&mut self, format: &'static str) {
        self.format = format;
        self.started = Instant::now();
    }

    /// `seen` commands were gone through so far.
    pub(super) fn show(&mut self, seen: u64) {
        if !self.shown || self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return;
        }
        self.last = Some(Instant::now());
        let rate = seen as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let line = format!(
            "\r\x1b[K{}: {} commands, {} a second",
            self.format,
            grouped(seen),
            grouped(rate as u64)
        );
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    /// Leaves an empty line for what is said next.
    pub(super) fn end(&mut self) {
        if self.last.take().is_some() {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
