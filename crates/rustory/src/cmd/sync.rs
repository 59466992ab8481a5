//! `rr sync`: one exchange with another device, both ways.

use std::time::{Duration, Instant};

use rustory_core::sync::session::{Event, Report, Role, Session, SessionError, Start};
use rustory_core::sync::{Hello, Reason};
use rustory_net::session::{self, Control, Host};
use rustory_store::{Access, Failure, PeerState, Store};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::unbounded_channel;

use crate::ctx::{Ctx, now};
use crate::drain;
use crate::error::CommandError;
use crate::exchange::Round;
use crate::host::{LogThread, Manner};
use crate::peer::{self, PeerAddr};
use crate::text::{Breaks, visible};
use crate::ui::{Output, Progress, grouped};

/// Exchange entries with another device now
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Exchange entries with another device now, both ways: read what is new in its log, send what it \
                  lacks of ours, and compare. Interrupted at any point, it goes on from there next time.\n\n\
                  Without PEER: with every device that was met before over ssh or HTTP.",
    after_help = "Examples:\n  \
        rr sync ssh:desk                  # nothing but ssh and rr needed there\n  \
        rr sync http://127.0.0.1:8787     # `rr serve --http` runs there\n  \
        rr sync desk                      # by name, once met"
)]
pub(crate) struct Args {
    /// `ssh:HOST`, `http://HOST:PORT`, or the name of a device that was met before
    #[arg(value_name = "PEER")]
    peer: Option<String>,
    /// Give up connecting after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Say what was exchanged as one JSON object a device
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let mut store = ctx.open(Access::PATIENT)?;
    drain::drain(ctx, &mut store)?;
    let addrs = addresses(&store, args.peer.as_deref())?;
    let timeout = Duration::from_secs(args.timeout);
    let mut out = Output::new();
    let mut failed = None;
    for addr in &addrs {
        let (exchange, back) = Exchange::run(ctx, store, addr, timeout, Manner::default())?;
        store = back;
        let told = match exchange {
            Ok(exchange) if args.json => out.line(exchange.json(&store)?),
            Ok(exchange) => {
                exchange.tell(ctx, &store)?;
                Ok(())
            }
            Err(err) if addrs.len() == 1 || err.is_cancelled() => return Err(err),
            // One device that can't be reached is no reason to leave out the others.
            Err(err) => {
                crate::error::complain(&err);
                failed = Some(());
                Ok(())
            }
        };
        told?;
    }
    out.finish()?;
    match failed {
        Some(()) => Err(CommandError::failed("not every device could be reached")),
        None => Ok(()),
    }
}

/// Where to go: what was given, or everything that is known.
pub(crate) fn addresses(store: &Store, peer: Option<&str>) -> Result<Vec<PeerAddr>, CommandError> {
    if let Some(addr) = peer.filter(|peer| peer.contains(':')) {
        return Ok(vec![addr.parse().map_err(CommandError::usage)?]);
    }
    let met = store.peers()?;
    let mut addrs: Vec<(&PeerState, PeerAddr)> = Vec::new();
    // The newest address of each device.
    for entry in store.addr_book()? {
        let known = met.iter().find(|peer| peer.peer == entry.peer);
        if let (Some(known), Ok(addr)) = (known, entry.addr.parse())
            && addrs.iter().all(|(peer, _)| peer.peer != known.peer)
        {
            addrs.push((known, addr));
        }
    }
    let Some(peer) = peer else {
        return match addrs.is_empty() {
            false => Ok(addrs.into_iter().map(|(_, addr)| addr).collect()),
            true => Err(CommandError::usage("no other device was met yet")
                .hint("name one: `rr sync ssh:HOST`, with rr installed there")),
        };
    };
    let is_it = |known: &PeerState| known.name.as_deref() == Some(peer) || known.peer == peer;
    if let Some((_, addr)) = addrs.iter().find(|(known, _)| is_it(known)) {
        return Ok(vec![addr.clone()]);
    }
    let names: Vec<&str> = addrs
        .iter()
        .map(|(known, _)| known.name.as_deref().unwrap_or(&known.peer))
        .collect();
    let told = CommandError::usage(format!(
        "no device called `{peer}` was met over ssh or HTTP yet"
    ));
    Err(match names.is_empty() {
        true => told.hint(format!("`rr sync ssh:{peer}` meets it through ssh")),
        false => told.hint(format!(
            "known are {}; `rr sync ssh:{peer}` meets a new one through ssh",
            names.join(", ")
        )),
    })
}

/// So that `rr status` can say why a device is stale.
fn note_failure(
    store: &mut Store,
    addr: &PeerAddr,
    err: &CommandError,
) -> Result<(), CommandError> {
    let addr = addr.to_string();
    let book = store.addr_book()?;
    if let Some(known) = book.iter().find(|entry| entry.addr == addr) {
        let failure = Failure {
            text: err.message().to_owned(),
            at: now(),
        };
        store.note_failure(&known.peer, &failure)?;
    }
    Ok(())
}

/// What was exchanged with one device.
#[derive(Debug)]
pub(crate) struct Exchange {
    peer: Hello,
    path: &'static str,
    report: Report,
    took: Duration,
}

impl Exchange {
    /// Meets the device at `addr` and exchanges everything. The log comes back whatever happens,
    /// unless its own thread breaks.
    pub(crate) fn run(
        ctx: &Ctx,
        store: Store,
        addr: &PeerAddr,
        timeout: Duration,
        manner: Manner,
    ) -> Result<(Result<Exchange, CommandError>, Store), CommandError> {
        let (met, mut store) = Exchange::once(ctx, store, addr, timeout, manner)?;
        let mut met = met;
        if let Err((_, Some(SessionError::WasCopy))) = &met {
            ctx.note(
                "the other device has a copy of this database: this one counts as a new device from now on",
            );
            (met, store) = Exchange::once(ctx, store, addr, timeout, manner)?;
        }
        let exchange = match met {
            Ok((peer, report, took)) => {
                Round::new(&peer, addr.path(), &report, now()).note(&mut store)?;
                store.note_addr(&peer.device_id, &addr.to_string(), now())?;
                Ok(Exchange {
                    peer,
                    path: addr.path().as_str(),
                    took,
                    report,
                })
            }
            Err((err, _)) => {
                note_failure(&mut store, addr, &err)?;
                Err(err)
            }
        };
        Ok((exchange, store))
    }

    fn once(
        ctx: &Ctx,
        store: Store,
        addr: &PeerAddr,
        timeout: Duration,
        manner: Manner,
    ) -> Result<(Met, Store), CommandError> {
        let (host, thread) = LogThread::start(ctx, store, manner, |_| {})?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|err| CommandError::failed(format!("no event loop: {err}")))?;
        let met = runtime.block_on(meet(ctx, &host, addr, timeout));
        // An ssh that hangs may not hold back the end.
        runtime.shutdown_background();
        drop(host);
        Ok((met, thread.finish()?))
    }

    /// For programs.
    pub(crate) fn json(&self, store: &Store) -> Result<Value, CommandError> {
        let report = &self.report;
        Ok(json!({
            "peer": {"device_id": self.peer.device_id, "name": self.peer.device_name},
            "path": self.path,
            "start": match report.start {
                Start::First => "first",
                Start::Resume => "resume",
                Start::NewLog => "new_log",
                Start::OlderCopy => "older_copy",
            },
            "received": report.received,
            "pulled": report.inserted,
            "unreadable": report.unreadable,
            "sent": report.sent,
            "pushed": report.accepted,
            "unsendable": report.unsendable,
            "reconciled": report.reconciled,
            "mended": report.mended,
            "identical": report.compared.map(|compared| compared.identical()),
            "behind": {"ours": report.ahead, "theirs": report.behind},
            "entries": store.count()?,
            // From the first byte to the last word.
            "ms": self.took.as_secs_f64() * 1e3,
        }))
    }

    /// For people.
    pub(crate) fn tell(&self, ctx: &Ctx, store: &Store) -> Result<(), CommandError> {
        let (report, name) = (&self.report, display_name(&self.peer));
        if report.unreadable > 0 {
            ctx.note(format_args!(
                "{} entries of {name} can't be read by this version and were left out",
                grouped(report.unreadable)
            ));
        }
        if report.unsendable > 0 {
            ctx.note(format_args!(
                "{} entries here are beyond the limits of the exchange and stay here alone",
                grouped(report.unsendable)
            ));
        }
        if report.mended > 0 {
            ctx.note(format_args!(
                "{} damaged entries here were replaced by those of {name}",
                grouped(report.mended)
            ));
        }
        let identical = report.compared.is_some_and(|compared| compared.identical());
        let how = match identical {
            true => "identical".to_owned(),
            false if report.declined => {
                format!("{name} is receiving from another device, try again later")
            }
            false => format!(
                "not identical yet: {} missing here, {} there",
                grouped(report.behind),
                grouped(report.ahead)
            ),
        };
        ctx.note(format_args!(
            "{name}: {} new here, {} new there; {how}; {} entries here now",
            grouped(report.inserted),
            grouped(report.accepted),
            grouped(store.count()?),
        ));
        Ok(())
    }

    /// Whether both are known to hold the same.
    pub(crate) fn is_identical(&self) -> bool {
        let compared = self.report.compared;
        compared.is_some_and(|compared| compared.identical())
    }
}

/// Whom we met and what was done, or why not.
type Met = Result<(Hello, Report, Duration), (CommandError, Option<SessionError>)>;

async fn meet(ctx: &Ctx, host: &Host, addr: &PeerAddr, timeout: Duration) -> Met {
    let token = ctx.settings.http_token.as_deref();
    let mut stream = peer::open(addr, token, timeout)
        .await
        .map_err(|err| (err, None))?;
    let (tell, told) = unbounded_channel();
    let mut watcher = Watcher::new(ctx, addr);
    let ended = {
        let exchange = session::run(&mut stream, Role::Asker, host, told, |session, event| {
            watcher.see(session, event);
        });
        let mut exchange = std::pin::pin!(exchange);
        let interrupted = interrupted();
        tokio::select! {
            ended = exchange.as_mut() => ended,
            () = interrupted => {
                let _ = tell.send(Control::Stop);
                exchange.await
            }
        }
    };
    watcher.progress.clear();
    let took = watcher.began.elapsed();
    let gone = stream.finish(addr).await;
    match (ended, watcher.met) {
        (Ok(()), Some(peer)) => Ok((peer, watcher.report, took)),
        (Ok(()), None) => Err((
            CommandError::failed("the exchange ended at once; this is a bug"),
            None,
        )),
        (Err(err), met) => {
            let told = match &err {
                SessionError::Broken(_) if met.is_none() => gone,
                _ => None,
            };
            let name = met.as_ref().map_or_else(|| addr.to_string(), display_name);
            let told = told.unwrap_or_else(|| explain(&err, &name));
            Err((told, Some(err)))
        }
    }
}

async fn interrupted() {
    match signal(SignalKind::interrupt()) {
        Ok(mut interrupt) => {
            interrupt.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// Shows what a session does.
struct Watcher<'a> {
    ctx: &'a Ctx,
    addr: &'a PeerAddr,
    progress: Progress,
    began: Instant,
    met: Option<Hello>,
    report: Report,
}

impl<'a> Watcher<'a> {
    fn new(ctx: &'a Ctx, addr: &'a PeerAddr) -> Watcher<'a> {
        Watcher {
            ctx,
            addr,
            progress: Progress::new(ctx.quiet),
            began: Instant::now(),
            met: None,
            report: Report::default(),
        }
    }

    fn name(&self) -> String {
        self.met
            .as_ref()
            .map_or_else(|| self.addr.to_string(), display_name)
    }

    fn see(&mut self, session: &Session, event: Event) {
        match event {
            Event::Met(hello) => self.met = Some(hello),
            Event::Moved => self.show(session),
            Event::Round(report) => self.report = report,
            other => {
                self.progress.clear();
                self.say(&other);
            }
        }
    }

    fn say(&self, event: &Event) {
        let (ctx, name) = (self.ctx, self.name());
        match event {
            Event::Started(Start::NewLog) => {
                ctx.note(format_args!("{name} has a new database: reading it from the start"));
            }
            Event::Started(Start::OlderCopy) => ctx.note(format_args!(
                "{name} has an older copy of its database: comparing from the start"
            )),
            Event::SameDeviceId => ctx.note(format_args!(
                "both devices call themselves `{}`: remove `device_id` from the configuration of one",
                self.met.as_ref().map_or("", |hello| &hello.device_id)
            )),
            Event::Reconciling { origins } if ctx.verbose => ctx.note(format_args!(
                "looking for what differs, entry by entry, in {origins} device{}",
                if *origins == 1 { "" } else { "s" }
            )),
            Event::Damaged { origins } => ctx.note(format_args!(
                "the disk changed or lost entries here of {}; mending them from {name}",
                origins.join(", ")
            )),
            _ => {}
        }
    }

    fn show(&mut self, session: &Session) {
        let report = session.report();
        let (received, sent) = (report.received, report.sent);
        let (expected, began) = (session.expected().max(received), self.began);
        self.progress.update(|| {
            let rate = (received + sent) as f64 / began.elapsed().as_secs_f64().max(0.001);
            if received > 0 && sent == 0 {
                format!(
                    "received {} of {} entries, {rate:.0}/s",
                    grouped(received),
                    grouped(expected)
                )
            } else {
                format!(
                    "received {}, sent {} entries, {rate:.0}/s",
                    grouped(received),
                    grouped(sent)
                )
            }
        });
    }
}

/// What a person calls the peer; its texts come from outside.
pub(crate) fn display_name(hello: &Hello) -> String {
    let name = match hello.device_name.as_str() {
        "" => &hello.device_id,
        name => name,
    };
    let shown = visible(name.into(), Breaks::Mark);
    shown.chars().take(60).collect()
}

fn explain(err: &SessionError, name: &str) -> CommandError {
    let text = visible(err.to_string().as_str().into(), Breaks::Mark);
    let told = CommandError::failed(format!("{name}: {text}"));
    match err {
        SessionError::Stopped => CommandError::cancelled(),
        SessionError::Itself => CommandError::usage(&text),
        SessionError::Broken(_) | SessionError::Silent => {
            told.hint("what came before is kept; run it again to go on from there")
        }
        SessionError::Fault(_) => {
            told.hint("what came before is kept; is it another version of rr, or not rr at all?")
        }
        SessionError::Refused(close) if close.reason == Reason::LOG => {
            told.hint("nothing is lost; try again once that device can use its database")
        }
        SessionError::OtherProtocol { .. } => told.hint("install the newer rr on both devices"),
        SessionError::OtherUser { .. } => told
            .hint("if both are yours, give both the same `user_id` in the configuration, or none"),
        SessionError::Log(_) => {
            told.hint("what came before is kept; run it again once that is mended")
        }
        SessionError::Refused(_) | SessionError::WasCopy => told,
    }
}
