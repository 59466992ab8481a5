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
                  never depend on it. There is one for each database.\n\n\
                  SIGUSR1 has it begin again, with the settings, keys and program as they are then.",
    after_help = "Examples:\n  \
        rr pair                            # makes the first key, and has a daemon run\n  \
        rr daemon --detach                 # in the background, for ~/.profile where there is no service manager\n  \
        rr status                          # what it does"
)]
pub(crate) struct Args {
    /// In the background, away from this terminal; fine where one runs already
    #[arg(long)]
    detach: bool,
    /// In the background already: leave the terminal's session
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    if args.detach {
        return match daemon::running(ctx.settings.data_dir()) {
            Some(running) => {
                ctx.note(format_args!(
                    "the daemon runs already, as process {}",
                    running.pid
                ));
                Ok(())
            }
            None => {
                let pid = daemon::control::detach(ctx)?;
                ctx.note(format_args!(
                    "the daemon runs in the background, as process {pid}"
                ));
                Ok(())
            }
        };
    }
    if args.detached {
        // Fails where it leads a session already: when it begins again.
        let _ = rustix::process::setsid();
    }
    daemon::run(ctx)
}
