//! `rr search`: opens the finder and prints what was chosen.
//!
//! The shell widgets call it with `--widget`: the line that is being typed comes in the
//! environment (an argument list can be read by everyone on the machine), and the choice goes out
//! with a dot behind it, since `$(...)` takes line breaks off the end.

use bstr::BString;

use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::finder::{self, Filter, Here, Options, Scope};
use crate::settings::Finder;
use crate::ui::Output;

/// Find a command (what ctrl+r opens) and print it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to start with; fzf's search syntax
    query: Vec<String>,

    /// Where the command was typed
    #[arg(long, value_enum, default_value_t = Scope::All)]
    scope: Scope,

    /// Only commands that failed
    #[arg(long)]
    failed: bool,

    /// Which finder to open [default: the setting `finder`]
    #[arg(long, value_enum)]
    finder: Option<FinderArg>,

    /// How many of the newest entries to go through [default: the setting `search_limit_default`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,

    /// For the shell widgets: the query in RUSTORY_QUERY, a dot behind the printed command
    #[arg(long, hide = true)]
    pub(crate) widget: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FinderArg {
    /// fzf where it is installed, else the built-in one
    Auto,
    /// The fzf in PATH
    Fzf,
    /// The one that needs nothing installed
    Builtin,
}

impl From<FinderArg> for Finder {
    fn from(arg: FinderArg) -> Finder {
        match arg {
            FinderArg::Auto => Finder::Auto,
            FinderArg::Fzf => Finder::Fzf,
            FinderArg::Builtin => Finder::Builtin,
        }
    }
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let widget = args.widget;
    let finder = args.finder.map_or(ctx.settings.finder, Finder::from);
    let options = options(args, ctx)?;
    let chosen = finder::open(ctx, finder, options)?.ok_or_else(CommandError::cancelled)?;
    print(chosen, widget)
}

fn options(args: Args, ctx: &Ctx) -> Result<Options, CommandError> {
    let session = std::env::var("RUSTORY_SESSION")
        .ok()
        .filter(|session| !session.is_empty());
    if args.scope == Scope::Session && session.is_none() {
        return Err(
            CommandError::usage("`--scope session` works in a shell that records")
                .hint("ctrl+r knows its session; `rr init` says how to set a shell up"),
        );
    }
    let query = match args.widget {
        true => std::env::var_os("RUSTORY_QUERY")
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        false => args.query.join(" "),
    };
    Ok(Options {
        query,
        filter: Filter {
            scope: args.scope,
            failed: args.failed,
        },
        widget: args.widget,
        here: Here {
            hostname: crate::drain::hostname(),
            directories: finder::directories(),
            session,
            limit: args
                .limit
                .map_or(ctx.settings.search_limit_default, |limit| limit as usize),
        },
    })
}

fn print(chosen: BString, widget: bool) -> Result<(), CommandError> {
    let mut out = Output::new();
    out.bytes(&chosen)?;
    out.bytes(if widget { b"." } else { b"\n" })?;
    out.finish()
}
