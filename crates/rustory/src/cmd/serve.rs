//! `rr serve`: lets another device read this log, and add to it.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustory_core::sync::session::{Event, Role, SessionError};
use rustory_core::{Entry, IngestSeq};
use rustory_net::http::{Hello, Log, LogError, Pushed, Served, Server, ServerConfig};
use rustory_net::session::{self, Host};
use rustory_store::{Access, Store, StoreError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::unbounded_channel;

use crate::cmd::sync::display_name;
use crate::ctx::Ctx;
use crate::drain;
use crate::error::CommandError;
use crate::host::{LogThread, Manner, local};
use crate::ui::Output;

/// Serve this device's log to another one: one exchange over stdin and stdout, or over HTTP
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Serve this device's log to another one.\n\n\
                  With --stdio, one exchange on stdin and stdout: what `rr sync ssh:HOST` runs at the far end.\n\n\
                  With --http, over the debug HTTP transport, until it is stopped. \
                  It listens on this machine alone. Other machines reach it through ssh, or, once `http_token` is \
                  set in the configuration (or RUSTORY_HTTP_TOKEN), directly: the token keeps strangers out, but \
                  nothing is encrypted.",
    after_help = "Examples:\n  \
        rr serve --http 127.0.0.1:8787\n  \
        ssh -N -L 8787:127.0.0.1:8787 desk &   # then, on the laptop:\n  \
        rr sync http://127.0.0.1:8787"
)]
pub(crate) struct Args {
    /// Where to listen: address and port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8787")]
    http: SocketAddr,
    /// One exchange on stdin and stdout instead
    #[arg(long, conflicts_with = "http")]
    stdio: bool,
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    if args.stdio {
        return serve_stdio(ctx);
    }
    let token = ctx.settings.http_token.clone();
    if token.is_none() && !args.http.ip().is_loopback() {
        return Err(CommandError::usage(format!(
            "`{}` can be reached by other machines, and there is no token to keep strangers out",
            args.http
        ))
        .hint(
            "set `http_token` in the configuration or RUSTORY_HTTP_TOKEN, or listen on 127.0.0.1",
        ));
    }
    let log = Arc::new(ServedLog::open(ctx)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| CommandError::failed(format!("no event loop: {err}")))?;
    let served = runtime.block_on(serve(
        ServerConfig {
            addr: args.http,
            token,
        },
        log,
    ));
    // A request may still wait for another program's lock. Its client will ask again, and what it
    // has not committed is rolled back.
    runtime.shutdown_background();
    served
}

/// Answers the one session that comes in over stdin. The end of it is for the asker to judge; only
/// what went wrong here is told.
fn serve_stdio(ctx: &Ctx) -> Result<(), CommandError> {
    if std::io::stdin().is_terminal() {
        return Err(CommandError::usage(
            "--stdio is for another rr at the other end of a pipe, not for a terminal",
        )
        .hint("on the other device, `rr sync ssh:HOST` runs it by itself"));
    }
    let mut store = ctx.open(Access::PATIENT)?;
    // What can't be ingested now waits in the spool for the next time.
    if let Err(err) = drain::drain(ctx, &mut store) {
        crate::ui::warn(err);
    }
    let (host, thread) = LogThread::start(ctx, store, Manner::default(), |_| {})?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| CommandError::failed(format!("no event loop: {err}")))?;
    let ended = runtime.block_on(async {
        let stream = tokio::io::join(own_file(std::io::stdin())?, own_file(std::io::stdout())?);
        let (_tell, told) = unbounded_channel();
        let mut met = None;
        let ended = session::run(stream, Role::Answerer, &host, told, |_, event| {
            if let Event::Met(hello) = event {
                met = Some(hello);
            }
        });
        Ok::<_, CommandError>((ended.await, met))
    });
    // A read that still waits for the asker must not keep the process.
    runtime.shutdown_background();
    drop(host);
    thread.finish()?;
    let (ended, met) = ended?;
    match ended {
        Ok(()) | Err(SessionError::Refused(_)) => Ok(()),
        // Nobody ever spoke to it.
        Err(err) if met.is_none() => Err(CommandError::failed(err)),
        Err(err) => Err(CommandError::failed(format!(
            "{}: {err}",
            met.map(|hello| display_name(&hello)).unwrap_or_default()
        ))),
    }
}

/// One of the standard streams as a file of our own, without the buffer in between that breaks
/// lines.
fn own_file(stream: impl AsFd) -> Result<tokio::fs::File, CommandError> {
    let fd = stream.as_fd().try_clone_to_owned();
    let fd = fd.map_err(|err| CommandError::failed(format!("no standard streams: {err}")))?;
    Ok(tokio::fs::File::from_std(std::fs::File::from(fd)))
}

async fn serve(config: ServerConfig, log: Arc<ServedLog>) -> Result<(), CommandError> {
    let addr = config.addr;
    let server = Server::bind(config).await.map_err(|err| {
        let told = CommandError::failed(format!("can't listen on `{addr}`: {err}"));
        match err.kind() {
            std::io::ErrorKind::AddrInUse => {
                told.hint("another program has that port (another `rr serve`?); choose another one")
            }
            _ => told,
        }
    })?;
    let no_signals = |err| CommandError::failed(format!("can't wait for signals: {err}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let bound = server.local_addr().unwrap_or(addr);
    let mut out = Output::new();
    out.line(format_args!("serving on http://{bound}"))?;
    out.finish()?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server.run(log, stop).await;
    Ok(())
}

/// The log as the server sees it.
struct ServedLog {
    ctx: Ctx,
    store: Mutex<Store>,
    /// Ingests what was just typed; a connection of its own, which never waits for a lock.
    drain: Mutex<(Store, Option<Instant>)>,
    /// For sync sessions: a connection and a thread of its own.
    host: Host,
}

/// Typed commands travel this soon; a pull of many pages does not look at the spool for each.
const DRAIN_EVERY: Duration = Duration::from_secs(1);

/// How long a client waits for another process's lock before it is told to try again.
const SERVE_BUSY: Duration = Duration::from_secs(2);

impl ServedLog {
    fn open(ctx: &Ctx) -> Result<ServedLog, CommandError> {
        let sessions = ctx.open(Access::PATIENT)?;
        // It ends with the process; what a session has not committed is sent again.
        let (host, _) = LogThread::start(ctx, sessions, Manner::default(), |_| {})?;
        Ok(ServedLog {
            host,
            ctx: ctx.clone(),
            store: Mutex::new(ctx.open(Access::Write { busy: SERVE_BUSY })?),
            drain: Mutex::new((ctx.open(Access::HASTY)?, None)),
        })
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, LogError> {
        // A panic in another request leaves the connection as SQLite's rollback left it.
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut store).map_err(|err| match err.is_transient() {
            true => LogError::Busy(err.to_string()),
            false => LogError::Failed(err.to_string()),
        })
    }

    /// What can't be ingested now waits in the spool for the next time.
    fn drain(&self) {
        let mut drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        let (store, last) = &mut *drain;
        if last.is_none_or(|last| last.elapsed() >= DRAIN_EVERY) {
            let _ = drain::drain(&self.ctx, store);
            *last = Some(Instant::now());
        }
    }
}

impl Log for ServedLog {
    fn hello(&self) -> Result<Hello, LogError> {
        self.drain();
        self.with(|store| {
            Ok(Hello {
                device_id: store.identity().device_id.clone(),
                device_name: self.ctx.settings.device_name.clone(),
                user_id: self.ctx.settings.user_id.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                log_id: store.identity().log_id,
                head: store.head()?,
            })
        })
    }

    fn read(&self, after: IngestSeq, limit: usize) -> Result<Served, LogError> {
        self.with(|store| {
            let batch = store.read_after(after, limit)?;
            Ok(Served {
                entries: batch.entries,
                last: batch.last,
                at_head: batch.at_head,
            })
        })
    }

    fn host(&self) -> Result<Host, LogError> {
        self.drain();
        self.with(|store| {
            // Another process may have given this log another identity since.
            store.reload_identity()?;
            Ok(Host {
                local: local(&self.ctx, store, Manner::default()),
                ..self.host.clone()
            })
        })
    }

    fn insert(&self, entries: Vec<Entry>) -> Result<Pushed, LogError> {
        self.with(|store| {
            let count = store.insert(&entries)?;
            Ok(Pushed {
                inserted: count.inserted,
                ignored: count.ignored,
            })
        })
    }
}
