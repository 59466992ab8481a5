//! `rr hub`: where devices find each other, and what they reach each other through.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustory_net::p2p::{Hub, HubConfig, Multiaddr, StartError, listen_addr};
use tokio::signal::unix::{SignalKind, signal};

use crate::crash;
use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::keys;
use crate::ui::Output;

/// Be a hub: where devices find each other, and what they reach each other through
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Be a hub, in the foreground, until it is stopped: tracker and relay in one process on one port, for a small \
                  server that devices can reach.\n\n\
                  It keeps nothing but its key, reads nothing of what it relays, and may be down: devices that know each \
                  other go on without it.",
    after_help = "Examples:\n  \
        rr key identity hub.key\n  \
        rr hub --identity-key hub.key --swarm-key swarm.key --external /dns4/hub.example/tcp/4001"
)]
pub(crate) struct Args {
    /// Where to listen; may be given more than once
    #[arg(long, value_name = "ADDR", default_values = ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"], value_parser = address)]
    listen: Vec<Multiaddr>,
    /// Where devices reach it: needed for relaying; several with commas in between, or given again
    #[arg(
        long,
        value_name = "ADDR",
        value_parser = external,
        value_delimiter = ',',
        env = "RUSTORY_HUB_EXTERNAL"
    )]
    external: Vec<Multiaddr>,
    /// The hub's own key [default: the one of `identity_key_path`]
    #[arg(long, value_name = "FILE", env = "RUSTORY_IDENTITY_KEY_PATH")]
    identity_key: Option<PathBuf>,
    /// The swarm's key [default: the one of `swarm_key_path`]
    #[arg(long, value_name = "FILE", env = "RUSTORY_SWARM_KEY_PATH")]
    swarm_key: Option<PathBuf>,
    /// Only be a tracker
    #[arg(long, conflicts_with = "no_tracker")]
    no_relay: bool,
    /// Only be a relay
    #[arg(long)]
    no_tracker: bool,
    /// Where to answer /livez, /readyz and /metrics; keep it local
    #[arg(long, value_name = "ADDR")]
    health: Option<SocketAddr>,
}

fn address(text: &str) -> Result<Multiaddr, String> {
    listen_addr(text).map_err(|err| err.to_string())
}

fn external(text: &str) -> Result<Multiaddr, String> {
    match text.starts_with('/') {
        true => text.parse().map_err(|err| format!("{err}")),
        false => listen_addr(text).map_err(|err| err.to_string()),
    }
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    crash::begins_again()?;
    let settings = &ctx.settings;
    let keys = keys::of_hub(
        args.identity_key
            .as_ref()
            .unwrap_or(&settings.identity_key_path),
        args.swarm_key.as_ref().unwrap_or(&settings.swarm_key_path),
    )?;
    let config = HubConfig {
        identity: keys.identity,
        swarm_key: Some(keys.swarm),
        listen: args.listen,
        external: args.external,
        no_relay: args.no_relay,
        no_tracker: args.no_tracker,
        health: args.health,
    };
    if config.external.is_empty() && !config.no_relay {
        crate::ui::warn(
            "without --external the relay can hand out no reservations, and devices behind routers can't be reached \
             through it; give the address under which devices reach this hub, or --no-relay",
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| CommandError::failed(format!("no event loop: {err}")))?;
    runtime.block_on(serve(config))
}

async fn serve(config: HubConfig) -> Result<(), CommandError> {
    #[cfg(debug_assertions)]
    tokio::spawn(crash::when_asked());
    let no_signals = |err| CommandError::failed(format!("can't wait for signals: {err}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let external = config.external.clone();
    let hub = Hub::start(config).await.map_err(start_error)?;
    let mut out = Output::new();
    out.line(format_args!("hub {}", hub.peer_id()))?;
    for addr in &external {
        out.line(format_args!(
            "trackers = [\"{addr}/p2p/{}\"]",
            hub.peer_id()
        ))?;
    }
    if let Some(addr) = hub.health_addr() {
        out.line(format_args!("health http://{addr}/readyz"))?;
    }
    out.finish()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    hub.stop().await;
    Ok(())
}

fn start_error(err: StartError) -> CommandError {
    let source = std::error::Error::source(&err).map_or(String::new(), |err| format!(": {err}"));
    CommandError::failed(format!("{err}{source}"))
        .hint("is the port taken by another program? --listen names another one")
}
