//! One line on the terminal that says how far an import is.

use std::time::Instant;

use crate::ui::{self, grouped};

/// Rewritten in place; says nothing where stderr is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    quiet: bool,
    format: &'static str,
    started: Instant,
    line: Option<ui::Progress>,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Progress {
        Progress {
            quiet,
            format: "",
            started: Instant::now(),
            line: None,
        }
    }

    /// Begins anew with another source.
    pub(super) fn begin(&mut self, format: &'static str) {
        self.format = format;
        self.started = Instant::now();
        self.line = Some(ui::Progress::new(self.quiet));
    }

    /// `seen` commands were gone through so far.
    pub(super) fn show(&mut self, seen: u64) {
        let (format, started) = (self.format, self.started);
        if let Some(line) = &mut self.line {
            line.update(|| {
                let rate = seen as f64 / started.elapsed().as_secs_f64().max(0.001);
                format!(
                    "{format}: {} commands, {} a second",
                    grouped(seen),
                    grouped(rate as u64)
                )
            });
        }
    }

    /// Leaves an empty line for what is said next.
    pub(super) fn end(&mut self) {
        self.line = None;
    }
}
