//! `rr daemon`: keeps this device in touch with the others.

use crate::ctx::Ctx;
use crate::daemon;
use crate::error::CommandError;

/// Keep this device in touch with the others
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Keep this device in touch with the others, in the foreground, until it is stopped.\n\n\
                  It meets them on the local network, at addresses where they were before, and through the hubs in \
                  `trackers`; takes in what shells typed; sends it at once and stores what comes. Recording and ctrl+r \
                  never depend on it. There is one for each database.",
    after_help = "Examples:\n  \
        rr key swarm && rr daemon          # the first device\n  \
        rr status                          # what it does"
)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, ctx: &Ctx) -> Result<(), CommandError> {
    daemon::run(ctx)
}
