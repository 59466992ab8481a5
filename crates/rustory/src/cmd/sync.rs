//! `rr sync`: one exchange with another device, both ways.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustory_core::limits::BATCH_ENTRIES_DEFAULT;
use rustory_core::sync::{Effect, Input, Page, Pull, PullError, Start};
use rustory_core::{Cursor, Entry, IngestSeq};
use rustory_net::http::{Client, ClientError, Hello, Pushed, Url, UrlError};
use rustory_store::{Access, Have, Store, StoreError};
use serde_json::json;

use crate::ctx::{Ctx, now};
use crate::drain;
use crate::error::CommandError;
use crate::text::{Breaks, visible};
use crate::ui::{Output, Progress, grouped};

/// Exchange entries with another device now
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Exchange entries with another device now, both ways: read what is new in its log, then send what it \
                  lacks of ours. Interrupted at any point, it goes on from there next time.",
    after_help = "Examples:\n  \
        rr sync http://127.0.0.1:8787\n  \
        RUSTORY_HTTP_TOKEN=... rr sync http://desk:8787"
)]
pub(crate) struct Args {
    /// Where the other device serves its log (`rr serve --http` there)
    #[arg(value_name = "URL", value_parser = parse_url)]
    peer: Url,
    /// Give up on a request after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Say what was exchanged as one JSON object
    #[arg(long)]
    json: bool,
}

fn parse_url(text: &str) -> Result<Url, String> {
    text.parse().map_err(|err| match err {
        UrlError::Https => {
            format!("{err}; reach the other device through ssh: ssh -N -L 8787:127.0.0.1:8787 HOST")
        }
        UrlError::Malformed(_) => err.to_string(),
    })
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let mut store = ctx.open(Access::PATIENT)?;
    drain::drain(ctx, &mut store)?;
    let timeout = Duration::from_secs(args.timeout);
    let mut client = Client::new(args.peer, ctx.settings.http_token.clone(), timeout)
        .map_err(|err| CommandError::failed(format!("no event loop: {err}")))?;
    let mut round = Round::begin(ctx, store, &mut client)?;
    client = round.pull(client)?;
    round.push(&mut client)?;
    round.report(args.json)
}

/// One exchange with one peer.
struct Round<'a> {
    ctx: &'a Ctx,
    store: Store,
    hello: Hello,
    start: Start,
    cursor: Cursor,
    /// Our log up to here is known to be there.
    pushed: IngestSeq,
    /// Pieces of our log, behind `pushed`, that came from this very peer.
    theirs: Vec<(IngestSeq, IngestSeq)>,
    /// Each side leaves out what the other typed itself. Not before a first exchange is complete:
    /// until then either of us may be a device that lost its database and needs just that.
    spares_own: bool,
    done: Done,
    progress: Progress,
    began: Instant,
}

#[derive(Default)]
struct Done {
    received: u64,
    pulled: u64,
    unreadable: u64,
    sent: u64,
    accepted: u64,
    unsendable: u64,
}

impl<'a> Round<'a> {
    fn begin(
        ctx: &'a Ctx,
        mut store: Store,
        client: &mut Client,
    ) -> Result<Round<'a>, CommandError> {
        let mut hello = client.hello()?;
        if hello.log_id == store.identity().log_id {
            return Err(CommandError::usage(
                "that is this very database: there is nothing to exchange",
            ));
        }
        let decide = |store: &Store, hello: &Hello| -> Result<_, StoreError> {
            let peer = store.peer(&hello.device_id)?;
            let known = peer.as_ref().and_then(|peer| peer.cursor);
            Ok((Start::decide(known, hello.log_id, hello.head), peer))
        };
        let ((mut start, mut from), mut peer) = decide(&store, &hello)?;
        if start == Start::OlderCopy {
            // Or another sync of ours has pushed since it told its head: then it has more now.
            hello = client.hello()?;
            ((start, from), peer) = decide(&store, &hello)?;
        }
        // Each side leaves out what the other typed itself: not if they can't be told apart.
        let same_id = hello.device_id == store.identity().device_id;
        if same_id {
            ctx.note(format_args!(
                "both devices call themselves `{}`: remove `device_id` from the configuration of one",
                hello.device_id
            ));
        }
        let name = display_name(&hello);
        match start {
            Start::NewLog => ctx.note(format_args!(
                "{name} has a new database: reading it from the start"
            )),
            Start::OlderCopy => ctx.note(format_args!(
                "{name} has an older copy of its database: reading it from the start"
            )),
            Start::First | Start::Resume => {}
        }
        if start != Start::Resume {
            store.write(|writer| writer.reset_cursor(&hello.device_id, hello.log_id, now()))?;
        }
        let resumes = start == Start::Resume;
        Ok(Round {
            ctx,
            start,
            cursor: Cursor {
                log_id: hello.log_id,
                seq: from,
            },
            pushed: peer
                .as_ref()
                .filter(|_| resumes)
                .map_or(IngestSeq::ZERO, |peer| peer.pushed),
            theirs: Vec::new(),
            spares_own: resumes && !same_id && peer.is_some_and(|peer| peer.complete),
            done: Done::default(),
            progress: Progress::new(ctx.quiet),
            began: Instant::now(),
            store,
            hello,
        })
    }

    /// Reads the peer's log up to its head. A thread of its own fetches the next page while this
    /// one is stored; it gives the client back at the end.
    fn pull(&mut self, mut client: Client) -> Result<Client, CommandError> {
        let (ask, asked) = mpsc::channel::<(IngestSeq, usize)>();
        let (answer, answers) = mpsc::sync_channel::<Result<Page, ClientError>>(1);
        let have = match self.spares_own {
            true => Some((
                self.store.identity().device_id.clone(),
                self.store.own_seq()?,
            )),
            false => None,
        };
        std::thread::scope(|scope| {
            let fetcher = scope.spawn(move || {
                for (after, limit) in asked {
                    let page = client.page(after, limit, have.as_ref());
                    if answer.send(page).is_err() {
                        break;
                    }
                }
                client
            });
            let pulled = self.run_pull(ask, &answers);
            // Lets a fetcher go that still wants to hand over a page.
            drop(answers);
            let client = fetcher.join().map_err(|_| {
                CommandError::failed("the fetching thread ended early; this is a bug")
            });
            pulled?;
            client
        })
    }

    fn run_pull(
        &mut self,
        ask: mpsc::Sender<(IngestSeq, usize)>,
        answers: &mpsc::Receiver<Result<Page, ClientError>>,
    ) -> Result<(), CommandError> {
        let gone = || CommandError::failed("the fetching thread ended early; this is a bug");
        let (mut pull, first) = Pull::begin(
            self.cursor.log_id,
            self.cursor.seq,
            self.hello.head,
            BATCH_ENTRIES_DEFAULT,
        );
        let mut effects = VecDeque::from([first]);
        loop {
            let input = match effects.pop_front() {
                Some(Effect::Fetch { after, limit }) => {
                    ask.send((after, limit)).map_err(|_| gone())?;
                    continue;
                }
                Some(Effect::Store { entries, cursor }) => {
                    self.commit(&entries, cursor)?;
                    Input::Stored
                }
                Some(Effect::Done) => return Ok(()),
                None => {
                    let page = answers.recv().map_err(|_| gone())??;
                    self.done.unreadable += page.unreadable as u64;
                    Input::Page(page)
                }
            };
            effects.extend(pull.handle(input).map_err(|err| self.distrust(err))?);
        }
    }

    fn distrust(&self, err: PullError) -> CommandError {
        let name = display_name(&self.hello);
        let told = CommandError::failed(format!("the exchange with {name} ended early: {err}"));
        match err {
            PullError::LogChanged => told.hint("run `rr sync` again"),
            _ => told
                .hint("what came before is kept; is it another version of rr, or not rr at all?"),
        }
    }

    /// Entries, cursor, and what is known to be there, in one transaction.
    fn commit(&mut self, entries: &[Entry], cursor: Cursor) -> Result<(), CommandError> {
        let (peer, pushed) = (&self.hello.device_id, self.pushed);
        let count = self.store.write(|writer| -> Result<_, StoreError> {
            let count = writer.insert_all(entries)?;
            // Under the write lock, all between the two heads came from this peer.
            let pushed = if pushed == count.heads.0 {
                count.heads.1
            } else {
                pushed
            };
            writer.set_cursor(peer, Some(peer), cursor, pushed, now())?;
            Ok(count)
        })?;
        let (before, after) = count.heads;
        if self.pushed == before {
            self.pushed = after;
        } else if before < after {
            self.theirs.push((before, after));
        }
        self.cursor = cursor;
        self.done.received += entries.len() as u64;
        self.done.pulled += count.inserted;
        let (done, head, began) = (&self.done, self.hello.head.get(), self.began);
        self.progress.update(|| {
            let percent = 100 * u128::from(cursor.seq.get()) / u128::from(head.max(1));
            let rate = done.received as f64 / began.elapsed().as_secs_f64().max(0.001);
            format!(
                "receiving {} entries, {}%, {rate:.0}/s",
                grouped(done.received),
                percent.min(100)
            )
        });
        Ok(())
    }

    /// Sends what the peer does not have of our log, piece by piece.
    fn push(&mut self, client: &mut Client) -> Result<(), CommandError> {
        let head = self.store.head()?;
        for (from, until) in std::mem::take(&mut self.theirs) {
            self.push_until(client, from)?;
            self.pushed = self.pushed.max(until);
        }
        self.push_until(client, head)?;
        self.remember_pushed()?;
        let peer = &self.hello.device_id;
        self.store.write(|writer| writer.complete_exchange(peer))?;
        Ok(())
    }

    fn push_until(&mut self, client: &mut Client, until: IngestSeq) -> Result<(), CommandError> {
        let have = self.spares_own.then(|| Have {
            device_id: self.hello.device_id.clone(),
            through: self.hello.device_seq,
        });
        while self.pushed < until {
            let batch = self.store.read_between(
                self.pushed,
                until,
                BATCH_ENTRIES_DEFAULT,
                have.as_ref(),
            )?;
            let Some(last) = batch.last else { break };
            let mut entries = batch.entries;
            let all = entries.len();
            // Every peer refuses what is beyond the protocol's limits, and the rest of the batch
            // with it. Whatever else one refuses ends the exchange: it may be the peer's fault.
            entries.retain(|entry| entry.validate().is_ok());
            self.done.unsendable += (all - entries.len()) as u64;
            if !entries.is_empty() {
                let answer = client.push(&entries)?;
                self.done.sent += entries.len() as u64;
                self.done.accepted += answer.inserted;
                self.skip_own(answer, entries.len());
            }
            self.pushed = last;
            if all > 0 {
                self.remember_pushed()?;
            }
            let sent = self.done.sent;
            self.progress
                .update(|| format!("sending {} entries", grouped(sent)));
        }
        Ok(())
    }

    /// What we have just sent stands at the end of the peer's log now: no need to read it back,
    /// provided that everything before it is read.
    fn skip_own(&mut self, answer: Pushed, sent: usize) {
        // Two positions an entry at most: one for replacing, one for trying to insert.
        if let Some((before, after)) = answer.stored_as
            && before == self.cursor.seq.get()
            && after.saturating_sub(before) <= 2 * sent as u64
            && let Some(after) = IngestSeq::new(after)
        {
            self.cursor.seq = self.cursor.seq.max(after);
        }
    }

    fn remember_pushed(&mut self) -> Result<(), CommandError> {
        let (peer, cursor, pushed) = (&self.hello.device_id, self.cursor, self.pushed);
        self.store
            .write(|writer| writer.set_cursor(peer, Some(peer), cursor, pushed, now()))?;
        Ok(())
    }

    fn report(self, as_json: bool) -> Result<(), CommandError> {
        drop(self.progress);
        let (done, name) = (&self.done, display_name(&self.hello));
        if done.unreadable > 0 {
            self.ctx.note(format_args!(
                "{} entries of {name} can't be read by this version and were left out",
                done.unreadable
            ));
        }
        if done.unsendable > 0 {
            self.ctx.note(format_args!(
                "{} entries here are beyond the limits of the exchange and stay here alone",
                done.unsendable
            ));
        }
        if as_json {
            let mut out = Output::new();
            out.line(json!({
                "peer": {"device_id": self.hello.device_id, "name": self.hello.device_name},
                "start": match self.start {
                    Start::First => "first",
                    Start::Resume => "resume",
                    Start::NewLog => "new_log",
                    Start::OlderCopy => "older_copy",
                },
                "received": done.received,
                "pulled": done.pulled,
                "unreadable": done.unreadable,
                "sent": done.sent,
                "pushed": done.accepted,
                "unsendable": done.unsendable,
                "entries": self.store.count()?,
            }))?;
            return out.finish();
        }
        self.ctx.note(format_args!(
            "{name}: {} new here, {} new there; {} entries here now",
            grouped(done.pulled),
            grouped(done.accepted),
            grouped(self.store.count()?),
        ));
        Ok(())
    }
}

/// What a person calls the peer; its texts come from outside.
fn display_name(hello: &Hello) -> String {
    let name = match hello.device_name.as_str() {
        "" => &hello.device_id,
        name => name,
    };
    let shown = visible(name.into(), Breaks::Mark);
    shown.chars().take(60).collect()
}

impl From<ClientError> for CommandError {
    fn from(err: ClientError) -> Self {
        // It may hold what the peer said.
        let message = visible(err.to_string().as_str().into(), Breaks::Mark);
        let hint = match &err {
            ClientError::Unreachable { .. } => {
                "does `rr serve --http` run there, and is the port right?"
            }
            ClientError::TimedOut { .. } => {
                "is the machine asleep, or the network slow? --timeout waits longer"
            }
            ClientError::Broken { .. } => {
                "what came before is kept; run it again to go on from there"
            }
            ClientError::Unauthorized { .. } => {
                "set `http_token` (or RUSTORY_HTTP_TOKEN) to the one of the other device"
            }
            ClientError::NotRustory { .. } => {
                "is that the port of `rr serve --http`, of the same version?"
            }
            ClientError::Refused { status: 503, .. } => "it is busy; try again in a moment",
            ClientError::TooLarge { .. } => "is it another version of rr?",
            ClientError::Refused { .. } => return CommandError::failed(message),
        };
        CommandError::failed(message).hint(hint)
    }
}
