//! `rr list`.

use crate::ctx::Ctx;
use crate::error::CommandError;

/// List entries, newest last
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    Err(CommandError::failed("`rr list` is not there yet"))
}
