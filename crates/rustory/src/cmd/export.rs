//! `rr export`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// Write entries as JSON lines
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr export` is not there yet"))
}
