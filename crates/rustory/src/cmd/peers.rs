//! `rr peers`: what is remembered of other devices, for when one of them is gone for good.

use rustory_store::{Access, PeerState, Store};
use serde_json::json;

use crate::ctx::Ctx;
use crate::daemon;
use crate::error::CommandError;
use crate::text::{Breaks, visible};
use crate::ui::Output;

/// Forget a device that is gone for good
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Forget a device that is gone for good, so that `rr status` does not tell of it any more.\n\n\
                  What was typed on it stays. It comes back when it is met again: to keep a device out, give the others \
                  another swarm key.",
    after_help = "Examples:\n  \
        rr peers forget old-laptop\n  \
        rr peers forget 3f9a6c02            # the beginning of a device id, where two have one name"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Remove devices from what is remembered; what was typed on them stays
    Forget {
        /// Each a name, or a device id or its beginning, as `rr status` and `rr status --json` show them
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<String>,
        /// As one JSON object for each
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let What::Forget { devices, json } = args.what;
    let mut store = ctx.open(Access::PATIENT)?;
    let peers = store.peers()?;
    // All are found before the first is forgotten.
    let found = devices
        .iter()
        .map(|device| find(&peers, device))
        .collect::<Result<Vec<_>, _>>()?;
    for peer in &found {
        refuse_live(ctx, peer)?;
    }
    let mut out = Output::new();
    for peer in found {
        forget(&mut store, peer, json, &mut out)?;
    }
    out.finish()
}

fn forget(
    store: &mut Store,
    peer: &PeerState,
    json: bool,
    out: &mut Output,
) -> Result<(), CommandError> {
    store.forget_peer(&peer.peer)?;
    match json {
        true => out.line(json!({"device_id": peer.peer, "name": peer.name}))?,
        false => out.line(format_args!("forgot {}", shown(peer)))?,
    }
    Ok(())
}

/// The one device of that name, or whose id begins so.
fn find<'a>(peers: &'a [PeerState], wanted: &str) -> Result<&'a PeerState, CommandError> {
    if let Some(exact) = peers.iter().find(|peer| peer.peer == wanted) {
        return Ok(exact);
    }
    let named: Vec<_> = peers
        .iter()
        .filter(|peer| peer.name.as_deref() == Some(wanted))
        .collect();
    let found = match named.is_empty() {
        true => peers
            .iter()
            .filter(|peer| peer.peer.starts_with(wanted))
            .collect(),
        false => named,
    };
    match found[..] {
        [one] => Ok(one),
        [] => Err(
            CommandError::usage(format!("no device `{wanted}` is known"))
                .hint("`rr status` shows those that are"),
        ),
        _ => {
            let all: Vec<String> = found.iter().map(|peer| shown(peer)).collect();
            Err(CommandError::usage(format!(
                "`{wanted}` is more than one device: {}",
                all.join(", ")
            ))
            .hint("name the one by its device id, or the beginning of that"))
        }
    }
}

/// A device that is connected would be back at once.
fn refuse_live(ctx: &Ctx, peer: &PeerState) -> Result<(), CommandError> {
    let dir = ctx.settings.data_dir();
    let state = daemon::running(dir).and_then(|daemon| daemon::State::read(dir, daemon.pid));
    let is_live = state.is_some_and(|state| {
        let mut all = state.peers.values();
        let is_there = |it: &daemon::PeerState| it.live || it.path.is_some();
        all.any(|it| is_there(it) && it.device_id.as_ref() == Some(&peer.peer))
    });
    match is_live {
        false => Ok(()),
        true => Err(CommandError::failed(format!(
            "{} is connected now and would be back at once",
            shown(peer)
        ))
        .hint("stop its daemon first; to keep a device out, give the others another swarm key")),
    }
}

fn shown(peer: &PeerState) -> String {
    let id = visible(peer.peer.as_str().into(), Breaks::Mark);
    match &peer.name {
        Some(name) => format!("{} ({id})", visible(name.as_str().into(), Breaks::Mark)),
        None => id,
    }
}
