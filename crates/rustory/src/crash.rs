//! What a panic does: a daemon or a hub begins again, any other command ends.
//!
//! Going on with what a panic left half done would be worse than the loss of what is in memory, which
//! is nothing: what was typed is in the spool or in the log at any moment, and what a peer sent is
//! asked for again. So the release needs no tables for unwinding either, a tenth of its size.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::cmd::init::own_path;
use crate::error::CommandError;

/// In the environment of a process that began again: how many in a row panicked before it.
const PANICS: &str = "RUSTORY_PANICS";

/// Who ran for so long did not panic because it panicked before.
const CALM: Duration = Duration::from_secs(600);

/// The wait before beginning again doubles from one second up to this: a bug that comes back at
/// once costs no processor time, and whoever stops the process does not wait for long.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// As Rust itself says it of a panic.
const EXIT_CODE: i32 = 101;

static AGAIN: OnceLock<Again> = OnceLock::new();

#[derive(Debug)]
struct Again {
    program: PathBuf,
    since: Instant,
    panics: u32,
}

/// Has every panic, on whatever thread, end this process with a message.
pub(crate) fn ends_the_process() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if let Some(again) = AGAIN.get() {
            again.begin();
        }
        std::process::exit(EXIT_CODE);
    }));
}

/// Has this process begin again after a panic.
///
/// # Errors
/// [`CommandError`] when it is not known which program this is. That is found now: it can't be once
/// an upgrade has put another file in its place.
pub(crate) fn begins_again() -> Result<(), CommandError> {
    let panics = std::env::var(PANICS).ok().and_then(|n| n.parse().ok());
    let _ = AGAIN.set(Again {
        program: own_path()?,
        since: Instant::now(),
        panics: panics.unwrap_or(0),
    });
    Ok(())
}

/// Becomes the program that this process was started from, as it is now, with the same arguments.
/// Returns only if that fails.
pub(crate) fn exec(program: &std::path::Path, panics: u32) -> std::io::Error {
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1));
    match panics {
        0 => command.env_remove(PANICS),
        panics => command.env(PANICS, panics.to_string()),
    };
    command.exec()
}

impl Again {
    fn begin(&self) {
        let before = if self.since.elapsed() < CALM {
            self.panics
        } else {
            0
        };
        crate::ui::warn("this is a bug; it begins again, and nothing is lost");
        std::thread::sleep(wait(before));
        let err = exec(&self.program, before.saturating_add(1));
        crate::ui::warn(format_args!("it can't: {err}"));
    }
}

/// After how many panics in a row before this one.
fn wait(before: u32) -> Duration {
    Duration::from_secs(1 << before.min(10)).min(WAIT_MAX)
}

/// Panics when the process gets SIGUSR2: tests see what a panic does.
#[cfg(debug_assertions)]
pub(crate) async fn when_asked() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut asked = signal(SignalKind::user_defined2()).expect("a signal can be waited for");
    asked.recv().await;
    panic!("asked for by SIGUSR2");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_in_a_row_wait_longer_up_to_a_limit() {
        let waits = [0, 1, 2, 3, 4, u32::MAX].map(|before| wait(before).as_secs());
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
    }
}
