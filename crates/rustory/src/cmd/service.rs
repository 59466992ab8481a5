//! `rr service`: the daemon in the care of systemd or launchd.

use serde_json::json;

use crate::ctx::Ctx;
use crate::daemon;
use crate::error::CommandError;
use crate::service::Service;
use crate::ui::{Output, say};

/// Have the daemon started when you log in: a systemd user unit or a launchd agent
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Have the daemon started when you log in, and again when it fails: as a systemd user unit, or as a launchd \
                  agent on macOS. It is the same `rr daemon`, and needs nobody's rights but yours.\n\n\
                  Where there is neither, as in most containers, `rr daemon --detach` in ~/.profile does for it.",
    after_help = "Examples:\n  \
        rr service install\n  \
        rr service install --dry-run   # the file that it would write\n  \
        rr service status"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write the unit and start it; again, repair it
    Install {
        /// Print the file that would be written; change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop it and take the unit away
    Uninstall,
    /// Whether it is installed, started at login, and runs
    Status {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Start it again, with the settings and the program as they are now
    Restart,
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let service = Service::of(ctx)?;
    let mut out = Output::new();
    match args.what {
        What::Install { dry_run: true } => {
            out.line(format_args!("# {}", service.path().display()))?;
            out.bytes(service.text()?.as_bytes())?;
        }
        What::Install { dry_run: false } => install(&service, ctx)?,
        What::Uninstall => match service.uninstall()? {
            true => {
                ctx.note("the service is stopped and taken away; `rr daemon` still works by hand")
            }
            false => ctx.note("there is no service here; nothing was changed"),
        },
        What::Restart if !service.is_installed() => {
            return Err(CommandError::failed("the service is not installed")
                .hint("`rr service install` installs and starts it"));
        }
        What::Restart => {
            service.restart()?;
            daemon::control::ensure(ctx, false)?;
            ctx.note("the service runs");
        }
        What::Status { json } => status(&service, json, &mut out)?,
    }
    out.finish()
}

fn install(service: &Service<'_>, ctx: &Ctx) -> Result<(), CommandError> {
    // Else it would fail, be started again, and fail again.
    crate::keys::swarm(&ctx.settings.swarm_key_path)?;
    let changed = service.install()?;
    daemon::control::ensure(ctx, false)?;
    let path = service.path().display();
    ctx.note(match changed {
        true => format!("the service is installed ({path}) and runs"),
        false => format!("the service is installed ({path}) and runs; nothing was changed"),
    });
    if let Some(advice) = service.advice().filter(|_| !ctx.quiet) {
        say(advice);
    }
    Ok(())
}

fn status(service: &Service<'_>, as_json: bool, out: &mut Output) -> Result<(), CommandError> {
    let state = service.state();
    if as_json {
        return out.line(json!({
            "manager": service.manager(),
            "path": service.path().display().to_string(),
            "installed": state.installed,
            "enabled": state.enabled,
            "active": state.active,
        }));
    }
    if !state.installed {
        return out.line("not installed; `rr service install` does that");
    }
    let yes = |yes: bool, what: &str| match yes {
        true => what.to_owned(),
        false => format!("not {what}"),
    };
    out.line(format_args!(
        "{} of {}: {}, {}",
        service.path().display(),
        service.manager(),
        yes(state.enabled, "started at login"),
        yes(state.active, "running"),
    ))
}
