//! The commands and the options that all of them share. Each command's own options live with it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cmd;
use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::settings::Settings;

/// Shell history that follows its user
#[derive(Debug, Parser)]
#[command(name = "rr", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// The history database [default: ~/.rustory/history.db]
    #[arg(long, global = true, value_name = "FILE")]
    db_path: Option<PathBuf>,

    /// Say only what failed
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Say more: where settings come from, what was taken out of the spool
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Setup(cmd::setup::Args),
    Init(cmd::init::Args),
    Search(cmd::search::Args),
    List(cmd::list::Args),
    Record(cmd::record::Args),
    Import(cmd::import::Args),
    Export(cmd::export::Args),
    Stats(cmd::stats::Args),
    Pair(cmd::pair::Args),
    Join(cmd::join::Args),
    Sync(cmd::sync::Args),
    Serve(cmd::serve::Args),
    Status(cmd::status::Args),
    Verify(cmd::verify::Args),
    Doctor(cmd::doctor::Args),
    Peers(cmd::peers::Args),
    Daemon(cmd::daemon::Args),
    Service(cmd::service::Args),
    Hub(cmd::hub::Args),
    Key(cmd::key::Args),
    Generate(cmd::generate::Args),
    #[command(hide = true)]
    FzfAsk(cmd::fzf_ask::Args),
}

impl Command {
    /// Whether a warning on stderr would end up in the middle of a prompt.
    fn keeps_the_screen(&self) -> bool {
        match self {
            Command::Search(args) => args.widget,
            Command::FzfAsk(_) => true,
            _ => false,
        }
    }
}

pub(crate) fn run(cli: Cli) -> Result<(), CommandError> {
    let ctx = Ctx {
        settings: Settings::load(cli.db_path),
        quiet: cli.quiet,
        verbose: cli.verbose,
        keeps_the_screen: cli.command.keeps_the_screen(),
    };
    if !ctx.quiet && !ctx.keeps_the_screen {
        for problem in &ctx.settings.problems {
            crate::ui::warn(problem);
        }
    }
    if ctx.verbose {
        for (key, origin) in &ctx.settings.origins {
            crate::ui::say(format_args!("`{key}` is set by {origin}"));
        }
    }
    match cli.command {
        Command::Setup(args) => cmd::setup::run(args, &ctx),
        Command::Init(args) => cmd::init::run(args, &ctx),
        Command::Search(args) => cmd::search::run(args, &ctx),
        Command::List(args) => cmd::list::run(args, &ctx),
        Command::Record(args) => cmd::record::run(args, &ctx),
        Command::Import(args) => cmd::import::run(args, &ctx),
        Command::Export(args) => cmd::export::run(args, &ctx),
        Command::Stats(args) => cmd::stats::run(args, &ctx),
        Command::Pair(args) => cmd::pair::run(args, &ctx),
        Command::Join(args) => cmd::join::run(args, &ctx),
        Command::Sync(args) => cmd::sync::run(args, &ctx),
        Command::Serve(args) => cmd::serve::run(args, &ctx),
        Command::Status(args) => cmd::status::run(args, &ctx),
        Command::Doctor(args) => cmd::doctor::run(args, &ctx),
        Command::Peers(args) => cmd::peers::run(args, &ctx),
        Command::Verify(args) => cmd::verify::run(args, &ctx),
        Command::Daemon(args) => cmd::daemon::run(args, &ctx),
        Command::Service(args) => cmd::service::run(args, &ctx),
        Command::Hub(args) => cmd::hub::run(args, &ctx),
        Command::Key(args) => cmd::key::run(args, &ctx),
        Command::Generate(args) => cmd::generate::run(args, &ctx),
        Command::FzfAsk(args) => cmd::fzf_ask::run(&args),
    }
}
