//! Programs in a pseudo-terminal, for the tests of every crate: real shells, the finder, `rr` itself.
//!
//! A program starts in an empty environment and a home directory of its own, so that nothing of
//! the machine leaks into a test. A thread reads what it draws into a [`vt100`] screen; tests send
//! keys and [wait](Terminal::wait_for) until the screen agrees. Nothing sleeps for a fixed time: a
//! wait ends when its condition holds, and after a generous deadline it panics with the screen.
//!
//! ```no_run
//! use rustory_testkit::{Program, key};
//!
//! let mut terminal = Program::new("bash").args(["--norc"]).start();
//! terminal.send("echo $((6 * 7))");
//! terminal.send(key::ENTER);
//! terminal.wait_for("the answer", |screen| screen.contents().contains("\n42"));
//! ```

mod program;
mod terminal;

use std::path::{Path, PathBuf};

pub use portable_pty::ExitStatus;
pub use program::{Program, SEARCH_PATH};
pub use terminal::{DEADLINE, Terminal};
pub use vt100::Screen;

/// What keys send, in the form that terminals give to shells and full-screen programs.
pub mod key {
    #![allow(missing_docs)]
    pub const ENTER: &str = "\r";
    pub const ESCAPE: &str = "\x1b";
    pub const TAB: &str = "\t";
    pub const BACKSPACE: &str = "\x7f";
    pub const UP: &str = "\x1b[A";
    pub const DOWN: &str = "\x1b[B";
    pub const RIGHT: &str = "\x1b[C";
    pub const LEFT: &str = "\x1b[D";
    pub const HOME: &str = "\x1b[H";
    pub const END: &str = "\x1b[F";
    pub const PAGE_UP: &str = "\x1b[5~";
    pub const PAGE_DOWN: &str = "\x1b[6~";
    pub const PASTE_START: &str = "\x1b[200~";
    pub const PASTE_END: &str = "\x1b[201~";

    /// Control and a letter: `ctrl('r')`.
    #[must_use]
    pub fn ctrl(letter: char) -> String {
        char::from((letter as u8) & 0x1f).to_string()
    }
}

/// A home directory for one test, gone when it is dropped. Several programs may share it.
#[must_use]
pub fn home() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("rustory-test-")
        .tempdir()
        .expect("the temporary directory is writable")
}

/// Where the built `rr` is.
///
/// Integration tests of the crate `rustory` pass `option_env!("CARGO_BIN_EXE_rr")`; others pass
/// `None`, and the binary is looked for beside the running test (`target/debug/rr`), where only a
/// build of the whole workspace puts it.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn rr_binary(given: Option<&str>) -> PathBuf {
    let found = match given {
        Some(path) => PathBuf::from(path),
        None => beside_this_test().join("rr"),
    };
    assert!(
        found.is_file(),
        "`{}` is not built: run `cargo build -p rustory` first",
        found.display()
    );
    found
}

/// `target/debug`, from `target/debug/deps/this_test-0123abcd`.
fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    test.parent()
        .and_then(Path::parent)
        .expect("tests lie two levels deep")
        .to_owned()
}
