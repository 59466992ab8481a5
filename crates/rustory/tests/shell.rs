//! The shell contract of `shell/README.md`, in real shells in a pseudo-terminal.
//!
//! Every test runs for bash, zsh and fish, unless its line concerns one of them, or the language of
//! `sh`. `RUSTORY_TEST_BASH`, `RUSTORY_TEST_ZSH` and `RUSTORY_TEST_FISH` name other shells to run it
//! with, such as a bash 3.2.

#![allow(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

#[path = "shell/session.rs"]
mod session;

#[path = "shell/capture.rs"]
mod capture;
#[path = "shell/coexistence.rs"]
mod coexistence;
#[path = "shell/end_to_end.rs"]
mod end_to_end;
#[path = "shell/history_rules.rs"]
mod history_rules;
#[path = "shell/trouble.rs"]
mod trouble;
#[path = "shell/widget.rs"]
mod widget;
