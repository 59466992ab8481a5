//! `rr sync`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// Exchange entries with other devices now
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr sync` is not there yet"))
}
