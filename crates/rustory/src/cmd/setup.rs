//! `rr setup`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// Set up this device: configuration, import of existing history, hook line in the rc file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr setup` is not there yet"))
}
