//! `rr record`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// Add an entry from stdin
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr record` is not there yet"))
}
