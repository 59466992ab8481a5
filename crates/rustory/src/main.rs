//! `rr`: keeps what is typed in shells, finds it again, and exchanges it with other devices.
//!
//! `main` only parses, dispatches and turns an error into a message and an exit code. One file
//! per subcommand in `cmd/`.

#![warn(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod cmd;
mod crash;
mod ctx;
mod daemon;
mod doctor;
mod drain;
mod error;
mod exchange;
mod finder;
mod host;
mod import;
mod keys;
mod memory;
mod pairing;
mod peer;
mod qr;
mod service;
mod settings;
mod setup;
mod text;
mod ui;
mod when;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    crash::ends_the_process();
    let cli = cli::Cli::parse();
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => error::report(&err),
    }
}
