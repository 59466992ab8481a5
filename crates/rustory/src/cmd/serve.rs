//! `rr serve`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// Serve this device's log to others
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr serve` is not there yet"))
}
