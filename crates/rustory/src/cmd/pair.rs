//! `rr pair`: the code that brings another device into this one's swarm.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustory_core::pairing::Invitation;
use rustory_net::p2p::SwarmKey;
use rustory_store::Access;
use serde_json::json;

use crate::ctx::Ctx;
use crate::daemon::{self, control};
use crate::error::CommandError;
use crate::keys;
use crate::pairing;
use crate::peer::{ssh_command, ssh_told};
use crate::qr::Qr;
use crate::service::AT_LOGIN;
use crate::text::{Breaks, visible};
use crate::ui::{self, Output, grouped, say};

/// Show the code that brings another device into this one's swarm
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show the code that brings another device into this one's swarm: run `rr join` there and paste it. \
                  Makes the swarm's key when there is none yet, and has the daemon run.\n\n\
                  Who has the code has the swarm's key and reads everything, also after the code has expired: that only \
                  keeps an old one from being used by mistake. Show it to nobody, and send it only where you would send \
                  a password.",
    after_help = "Examples:\n  \
        rr pair                        # then `rr join` on the other device\n  \
        rr pair --ssh desk             # sets up what ssh reaches, with nothing to copy\n  \
        rr pair | ssh desk rr join -   # the same by hand: a pipe gets the code alone"
)]
pub(crate) struct Args {
    /// For how long the code is good, such as 10m or 1h
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = lifetime)]
    expires: Duration,
    /// Set up this host through ssh, on which rr is installed
    #[arg(long, value_name = "HOST", value_parser = host, conflicts_with = "json")]
    ssh: Option<String>,
    /// With --ssh: leave the swarm in which that host may be, without asking
    #[arg(short, long, requires = "ssh")]
    yes: bool,
    /// No QR code
    #[arg(long)]
    no_qr: bool,
    /// Don't wait for the other device to appear
    #[arg(long)]
    no_wait: bool,
    /// Start the daemon in the background rather than as a service
    #[arg(long)]
    no_service: bool,
    /// The code and what is in it, as one JSON object
    #[arg(long)]
    json: bool,
}

/// A code lasts from this long
const LASTS_MIN: Duration = Duration::from_secs(10);

/// to this long: one that lies about is a danger.
const LASTS_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

fn lifetime(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::SignedDuration>().ok();
    span.and_then(|span| Duration::try_from(span).ok())
        .filter(|lasts| (LASTS_MIN..=LASTS_MAX).contains(lasts))
        .ok_or_else(|| "expected a time from 10s to 168h, such as `10m`".to_owned())
}

fn host(text: &str) -> Result<String, String> {
    // Else ssh would take it for one of its options.
    let is_one = !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace);
    is_one
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is no host for ssh"))
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let new_swarm = make_swarm(ctx)?;
    let mut store = ctx.open(Access::PATIENT)?;
    let came = match new_swarm {
        true => control::renew(ctx, !args.no_service)?,
        false => control::ensure(ctx, !args.no_service)?,
    };
    tell_came(ctx, came);
    let keys = keys::load(ctx, &mut store)?;
    let daemon = listening(ctx, &keys.swarm)?;
    let invitation = pairing::invite(ctx, &store, &keys, &daemon, args.expires)?;
    tell_unreachable(ctx, &invitation)?;
    drop(store);
    let code = invitation.to_code();
    if let Some(host) = &args.ssh {
        return join_there(ctx, host, &code, args.yes);
    }
    if args.json {
        let mut out = Output::new();
        out.line(json!({
            "code": code,
            "expires": timestamp(&invitation).to_string(),
            "swarm": keys.swarm.fingerprint().to_string(),
            "peer_id": daemon.peer_id,
            "listening": daemon.listening,
            "hubs": ctx.settings.trackers,
        }))?;
        return out.finish();
    }
    show(ctx, &code, &invitation, &args)?;
    let watched = io::stdout().is_terminal() && io::stderr().is_terminal();
    match watched && !args.no_wait && !ctx.quiet {
        true => wait(ctx, &invitation),
        false => Ok(()),
    }
}

/// Makes the swarm's key where there is none. Whether it did.
pub(crate) fn make_swarm(ctx: &Ctx) -> Result<bool, CommandError> {
    let path = &ctx.settings.swarm_key_path;
    if keys::swarm_if_any(path)?.is_some() {
        return Ok(false);
    }
    keys::make_private_dir(path)?;
    let key = SwarmKey::generate()?;
    key.create(path)?;
    ctx.note(format_args!(
        "✓ new swarm {}: the key is {}",
        key.fingerprint().short(),
        path.display()
    ));
    Ok(true)
}

/// Says how the daemon came to run, where that is news.
pub(crate) fn tell_came(ctx: &Ctx, came: control::Came) {
    match came {
        control::Came::Ran => {}
        control::Came::Service { new: false } => ctx.note("✓ daemon started"),
        control::Came::Service { new: true } => {
            ctx.note("✓ daemon installed as a service (`rr service uninstall` takes it away)");
        }
        control::Came::Detached { no_manager } => {
            ctx.note("✓ daemon started in the background, until this machine stops");
            if let Some(why) = no_manager {
                ctx.note(format_args!("  {why}. {AT_LOGIN}"));
            }
        }
    }
}

/// The daemon of this swarm, once it knows where it listens.
fn listening(ctx: &Ctx, swarm: &SwarmKey) -> Result<daemon::State, CommandError> {
    let fingerprint = swarm.fingerprint().to_string();
    let mut state = daemon::State::default();
    for _ in 0..LISTENING_TRIES {
        state = control::state(ctx).unwrap_or_default();
        // One of an older version says nothing of its swarm.
        if !state.listening.is_empty() && (state.swarm == fingerprint || state.swarm.is_empty()) {
            return Ok(state);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    if !state.swarm.is_empty() && state.swarm != fingerprint {
        return Err(
            CommandError::failed("the daemon still works with another swarm key")
                .hint("stop it and start it again: `rr service restart`"),
        );
    }
    Ok(state)
}

/// How often the daemon's state is looked at,
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// and how many times before it is taken for one that listens nowhere.
const LISTENING_TRIES: u32 = 50;

/// Says it where the other device will hardly find this one.
fn tell_unreachable(ctx: &Ctx, invitation: &Invitation) -> Result<(), CommandError> {
    let no_hub = invitation.hubs.is_empty() && invitation.relays.is_empty();
    if invitation.addrs.is_empty() && no_hub {
        return Err(CommandError::failed(
            "this device listens nowhere and knows no hub, so that nobody can reach it",
        )
        .hint("`listen` and `trackers` in the configuration say where devices meet; `rr status` shows what is wrong"));
    }
    if no_hub && pairing::leads_nowhere_else(invitation) {
        ctx.note("! this device has no network: only this very machine can reach it");
    }
    Ok(())
}

fn timestamp(invitation: &Invitation) -> Timestamp {
    let secs = i64::try_from(invitation.expires).unwrap_or(i64::MAX);
    Timestamp::from_second(secs).unwrap_or(Timestamp::MAX)
}

fn show(ctx: &Ctx, code: &str, invitation: &Invitation, args: &Args) -> Result<(), CommandError> {
    let until = timestamp(invitation).to_zoned(TimeZone::system());
    let day = match args.expires > Duration::from_secs(12 * 3600) {
        true => until.strftime("%F %R").to_string(),
        false => until.strftime("%R").to_string(),
    };
    ctx.note(format_args!(
        "On the new device, run `rr join` and paste this. It is good until {day}, and as secret as a password:\n"
    ));
    let mut out = Output::new();
    out.line(code)?;
    out.finish()?;
    if io::stdout().is_terminal() {
        ctx.note("");
        if !args.no_qr {
            show_qr(ctx, code)?;
        }
    }
    Ok(())
}

/// Lines around the code as text: two of explanation, blank ones, and the waiting.
const TEXT_LINES: u16 = 6;

/// Where it fits beside the text: half of one is of no use to a camera, and pasting is what most do.
fn show_qr(ctx: &Ctx, code: &str) -> Result<(), CommandError> {
    let screen = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
    let (Some(qr), Ok(screen)) = (Qr::of(code), screen) else {
        return Ok(());
    };
    let (rows, cols) = qr.size();
    let code_lines = u16::try_from(code.len())
        .unwrap_or(u16::MAX)
        .div_ceil(screen.ws_col.max(1));
    let rows = rows.saturating_add(code_lines).saturating_add(TEXT_LINES);
    if screen.ws_row < rows || screen.ws_col < cols {
        ctx.note(format_args!(
            "(the QR code needs {} lines and {cols} columns; this terminal has {} and {})\n",
            rows, screen.ws_row, screen.ws_col
        ));
        return Ok(());
    }
    let mut out = Output::new();
    for line in qr.lines(ui::colour(true)) {
        out.line(line)?;
    }
    out.finish()
}

/// Until a device appears that was not there, or the code has expired. Ctrl+c ends only the waiting.
fn wait(ctx: &Ctx, invitation: &Invitation) -> Result<(), CommandError> {
    let live = || -> BTreeSet<String> {
        let peers = control::state(ctx).unwrap_or_default().peers;
        let live = peers.into_iter().filter(|(_, peer)| peer.live);
        live.map(|(id, _)| id).collect()
    };
    let before = live();
    // Without a line end: on a screen of 24 lines the code above has to stay whole.
    let _ = write!(
        io::stderr(),
        "Waiting for it (ctrl+c ends that; the code stays good) ..."
    );
    while !invitation.is_expired(pairing::seconds_now()) {
        let state = control::state(ctx).unwrap_or_default();
        let new = state
            .peers
            .iter()
            .find(|(id, peer)| peer.live && !before.contains(*id));
        if let Some((id, peer)) = new {
            let name = peer.name.as_deref().unwrap_or(id);
            let entries = peer.entries.map_or(String::new(), |count| {
                format!(", with {} entries", grouped(count))
            });
            let name = visible(name.into(), Breaks::Mark);
            say(format_args!(
                "\r\x1b[K✓ {name} is here{entries}. `rr status` shows all devices."
            ));
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    say("\r\x1b[KThe code has expired; `rr pair` makes a new one.");
    Ok(())
}

/// Runs `rr join -` at the far end of ssh, which tells what came of it.
fn join_there(ctx: &Ctx, host: &str, code: &str, yes: bool) -> Result<(), CommandError> {
    let mut join = "join -".to_owned();
    for (flag, on) in [(" --yes", yes), (" --quiet", ctx.quiet)] {
        join.push_str(if on { flag } else { "" });
    }
    let (program, mut command) = ssh_command(host, Duration::from_secs(30), &join);
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|err| crate::peer::no_ssh(&program, &err))?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it ended early, its exit code says why.
        let _ = writeln!(stdin, "{code}");
    }
    let status = child
        .wait()
        .map_err(|err| CommandError::failed(format!("waiting for ssh: {err}")))?;
    if status.success() {
        ctx.note(format_args!(
            "✓ `{host}` is in the swarm. `ssh -t {host} rustory setup` adds the shell's hook there, if it is not there yet"
        ));
        return Ok(());
    }
    let told = status.code().and_then(|code| ssh_told(code, host));
    Err(told.unwrap_or_else(|| {
        CommandError::failed(format!("`{host}` did not join, see above")).hint(format!(
            "an rr there that knows no `join` is too old; `ssh {host} rustory --version` tells"
        ))
    }))
}
