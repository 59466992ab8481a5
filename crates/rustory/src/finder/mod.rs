//! The finder: what ctrl+r opens.
//!
//! Two of them. [`fzf`] feeds the user's own fzf. [`builtin`] needs nothing installed and is made
//! for 1,000,000 entries on two cores. How it stays ahead of the fingers:
//!
//! 1. *Paint first.* The newest rows come through the index on time in a millisecond or two
//!    ([`load`]); with them the screen is drawn, and everything else happens behind it.
//! 2. *Search distinct commands.* A loader walks the whole log in ingest order, the fastest way
//!    SQLite has, and collapses duplicates into one string of text ([`corpus`]).
//! 3. *Look at less.* A query that narrows the one before searches only what that one found, on all
//!    cores, and stops as soon as the next key comes ([`matching`], [`search`]).
//! 4. *Wait in one place.* Keys, signals and the threads meet in one `poll` ([`tty`]); the thread
//!    that draws never reads a file while a key waits ([`details`]).
//!
//! What is drawn is made harmless first ([`view`]); what is picked are the entry's exact bytes.

mod app;
mod columns;
mod corpus;
mod details;
mod devices;
mod facts;
mod fzf;
mod help;
mod highlight;
mod keys;
mod line;
mod load;
mod matching;
mod palette;
mod query;
mod scope;
mod search;
mod tty;
mod view;

use std::sync::Arc;

use bstr::BString;

use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::settings::Finder;

pub(crate) use fzf::ask;
pub(crate) use load::{Here, directories};
pub(crate) use scope::{Filter, Scope};

/// How the finder starts.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) query: String,
    pub(crate) filter: Filter,
    pub(crate) here: Here,
    /// Started by a shell's line editor.
    pub(crate) widget: bool,
}

/// What a thread tells the one that draws.
#[derive(Debug)]
enum Event {
    Loaded {
        number: u64,
        corpus: Arc<corpus::Corpus>,
        complete: bool,
    },
    Found(search::Found),
    Details(Vec<(corpus::Place, details::Detail)>),
    /// A load ended before its end; what came so far stays.
    Failed {
        number: u64,
        why: String,
    },
}

/// Opens a finder. `None`: cancelled.
pub(crate) fn open(
    ctx: &Ctx,
    finder: Finder,
    options: Options,
) -> Result<Option<BString>, CommandError> {
    if finder == Finder::Builtin {
        return builtin(ctx, options);
    }
    match fzf::run(ctx, &options)? {
        fzf::Outcome::Picked(command) => Ok(Some(command)),
        fzf::Outcome::Cancelled => Ok(None),
        fzf::Outcome::Missing if finder == Finder::Auto => builtin(ctx, options),
        fzf::Outcome::Missing => Err(CommandError::failed("fzf is not installed")
            .hint("install it, or leave `finder` at `auto`: the built-in one needs nothing")),
    }
}

/// Opens the built-in finder. `None`: cancelled.
fn builtin(ctx: &Ctx, options: Options) -> Result<Option<BString>, CommandError> {
    tty::open().map_err(|_| no_terminal())?;
    let source = load::Source::open(ctx)?;
    app::run(source, options)
}

fn unreadable() -> CommandError {
    CommandError::failed("the chosen entry can't be read any more")
}

fn no_terminal() -> CommandError {
    CommandError::failed("there is no terminal to draw on")
        .hint("`rr list QUERY` searches without one")
}
