//! `rr import`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// Take over existing history; again adds only what is new
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr import` is not there yet"))
}
