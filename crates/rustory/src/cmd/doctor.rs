//! `rr doctor`: what is wrong, why it matters, and the command that mends it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use crate::cmd::init::Shell;
use crate::ctx::Ctx;
use crate::doctor::{self, Level, Scope, pty};
use crate::error::CommandError;
use crate::ui::Output;

/// Find what is wrong with shells, database, daemon and network, and how to mend it
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Look at everything that recording, searching and syncing need, and say for each thing that is not well what it \
                  is, why it matters, and the command that mends it.\n\n\
                  Your shells are started in a terminal of their own, with your own rc files, and asked at their first prompt \
                  whether the hook is loaded, what has displaced it, and how long it takes. Nothing of that is recorded, and \
                  nothing is changed.\n\n\
                  Exit code 1: something needs to be done.",
    after_help = "Examples:\n  \
        rr doctor\n  \
        rr doctor --full --json | jq '.checks[] | select(.level == \"problem\")'\n  \
        rr doctor --shell zsh --timeout 60"
)]
pub(crate) struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
    /// Read every entry, as `rr verify` does, and not only the structure of the database
    #[arg(long)]
    full: bool,
    /// Start only this shell [default: your login shell and those whose rc files load the hook]
    #[arg(long, value_name = "SHELL")]
    shell: Vec<Shell>,
    /// Start no shell
    #[arg(long, conflicts_with = "shell")]
    no_shell: bool,
    /// Give up on a shell or a hub after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Become PROGRAM, in the terminal that standard input is: for doctor's own use
    #[arg(long, hide = true)]
    in_terminal: bool,
    #[arg(last = true, hide = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    if args.in_terminal {
        let err = pty::become_program(&args.program);
        return Err(CommandError::failed(format!(
            "the program can't be started: {err}"
        )));
    }
    let scope = Scope {
        full: args.full,
        shells: (!args.no_shell).then_some(args.shell),
        timeout: Duration::from_secs(args.timeout),
    };
    let report = doctor::look(ctx, &scope)?;
    let mut out = Output::new();
    match args.json {
        true => out.line(report.json(settings(ctx)))?,
        false => report.print(
            &mut out,
            if ctx.quiet {
                Level::Problem
            } else {
                Level::Well
            },
        )?,
    }
    out.finish()?;
    match report.count(Level::Problem) {
        0 => Ok(()),
        1 => Err(CommandError::failed("1 thing needs to be done")),
        n => Err(CommandError::failed(format!("{n} things need to be done"))),
    }
}

/// Which settings are not at their default, and where each comes from.
fn settings(ctx: &Ctx) -> serde_json::Value {
    let origins = ctx.settings.origins.iter();
    let origins: BTreeMap<_, _> = origins
        .map(|(key, origin)| (*key, origin.to_string()))
        .collect();
    serde_json::json!(origins)
}
