//! `rr search`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// Find a command (what ctrl+r opens) and print it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr search` is not there yet"))
}
