//! `rr fzf-ask`: what the fzf that `rr search` started runs for another scope, for the preview of a
//! command, and for its help.

use crate::error::CommandError;
use crate::finder;

/// For fzf: ask the finder that started it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `scope`, `failed`, `preview PLACE` or `keys`
    #[arg(required = true, allow_hyphen_values = true)]
    request: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<(), CommandError> {
    finder::ask(&args.request)
}
