//! `rr generate`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// Print shell completions or the man page
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr generate` is not there yet"))
}
