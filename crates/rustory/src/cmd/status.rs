//! `rr status`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// What is here, what waits, and how far other devices are
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr status` is not there yet"))
}
