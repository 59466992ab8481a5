//! `rr stats`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// Counts, top commands, by device and day
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr stats` is not there yet"))
}
