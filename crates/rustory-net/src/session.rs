//! Drives a sync session over any ordered byte stream: an ssh pipe, an upgraded HTTP connection, a
//! libp2p stream. The session decides, the log works on a thread of its own, this carries.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustory_core::sync::session::{
    Effect, Event, Input, Local, Role, Session, SessionError, StreamEnd,
};
use rustory_core::sync::{Answer, Batched, Failed, Lease, Log, LogFailure as _, Request, answer};
use rustory_core::wire::{FrameError, FrameReader, FrameWriter};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

/// What a device brings to each of its sessions.
#[derive(Clone, Debug)]
pub struct Host {
    /// Who it is.
    pub local: Local,
    /// Its log.
    pub log: LogLink,
    /// Who of its sessions may receive in bulk.
    pub lease: LeaseLink,
}

/// The way to a log that works on a thread of its own.
#[derive(Clone, Debug)]
pub struct LogLink(Sender<Job>);

/// Something to be done by a log.
#[derive(Debug)]
pub struct Job(Work);

#[derive(Debug)]
enum Work {
    /// Answer a session.
    Ask {
        request: Request,
        reply: UnboundedSender<Answer>,
    },
    /// Nothing but what the log's owner does before each job.
    Nudge,
}

/// The jobs of a log, for its thread.
pub type Jobs = Receiver<Job>;

impl LogLink {
    /// A link, and the end of it that [`work`] takes.
    #[must_use]
    pub fn new() -> (LogLink, Jobs) {
        let (send, jobs) = channel();
        (LogLink(send), jobs)
    }

    /// Has the log's thread do what its owner does before each job. `false`: it has ended.
    pub fn nudge(&self) -> bool {
        self.0.send(Job(Work::Nudge)).is_ok()
    }

    fn ask(&self, request: Request, reply: &UnboundedSender<Answer>) {
        let work = Work::Ask {
            request,
            reply: reply.clone(),
        };
        if self.0.send(Job(work)).is_err() {
            let _ = reply.send(Answer::Failed(Failed {
                transient: true,
                text: "the history database is being closed".to_owned(),
            }));
        }
    }
}

/// Entries stored in one transaction, from however many batches that wait; more would keep the
/// write lock for long.
const GROUP_ENTRIES_MAX: usize = 8_000;

/// After work of so much weight, one a job and one an entry, a log that has nothing to do gives back
/// the memory that it took. A person types less in a day.
const WORK_TIRES: usize = 2_000;

/// Nothing came for so long: whatever tired it is over, or waits for a slow line.
const REST_AFTER: Duration = Duration::from_secs(2);

/// Does jobs until nobody can send any more. `before` each one is for the log's owner: to take in
/// what was typed, say; and so is `rest`, once no job has come for a while after much work.
///
/// Batches that wait behind each other are stored in one transaction, which is what makes storing
/// as fast as the disk allows.
pub fn work<L: Log>(
    log: &mut L,
    jobs: &Jobs,
    mut before: impl FnMut(&mut L),
    mut rest: impl FnMut(&mut L),
) {
    let (mut worked, mut next) = (0, None);
    while let Some(Job(work)) = next
        .take()
        .or_else(|| wait(jobs, &mut worked, || rest(log)))
    {
        before(log);
        worked += 1;
        match work {
            Work::Nudge => {}
            Work::Ask {
                request: Request::Store { .. },
                ..
            } => {
                let (entries, other) = store_group(log, work, jobs);
                worked += entries;
                next = other;
            }
            Work::Ask { request, reply } => {
                let answer = answer(log, request);
                worked += weight(&answer);
                let _ = reply.send(answer);
            }
        }
    }
}

/// The next job; a log that is tired rests until it comes. `None`: nobody can send any more.
fn wait(jobs: &Jobs, worked: &mut usize, rest: impl FnOnce()) -> Option<Job> {
    if *worked >= WORK_TIRES {
        match jobs.recv_timeout(REST_AFTER) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Timeout) => rest(),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        *worked = 0;
    }
    jobs.recv().ok()
}

/// So many entries were read for an answer.
fn weight(answer: &Answer) -> usize {
    match answer {
        Answer::Piece(piece) => piece.entries.len(),
        Answer::Found { looked_up, .. } => *looked_up,
        // Of whole origins.
        Answer::Items(_) => WORK_TIRES,
        _ => 0,
    }
}

/// Stores this batch and those that wait behind it. Returns how many entries these were, and the
/// first job that is no batch.
fn store_group<L: Log>(log: &mut L, first: Work, jobs: &Jobs) -> (usize, Option<Job>) {
    let (mut batches, mut replies, mut entries) = (Vec::new(), Vec::new(), 0);
    let mut job = Some(Job(first));
    let next = loop {
        match job {
            Some(Job(Work::Ask {
                request:
                    Request::Store {
                        peer,
                        entries: came,
                        claim,
                    },
                reply,
            })) => {
                entries += came.len();
                replies.push(reply);
                batches.push(Batched {
                    peer,
                    entries: came,
                    claim,
                });
            }
            other => break other,
        }
        job = match entries < GROUP_ENTRIES_MAX {
            true => jobs.try_recv().ok(),
            false => None,
        };
    };
    match log.store_many(&batches) {
        Ok(stored) => {
            for (reply, stored) in replies.into_iter().zip(stored) {
                let _ = reply.send(Answer::Stored(stored));
            }
        }
        Err(err) => {
            let failed = Failed {
                transient: err.is_transient(),
                text: err.to_string(),
            };
            for reply in replies {
                let _ = reply.send(Answer::Failed(failed.clone()));
            }
        }
    }
    (entries, next)
}

/// The lease that the sessions of one device share.
#[derive(Clone, Debug, Default)]
pub struct LeaseLink(Arc<Mutex<Leases>>);

#[derive(Debug, Default)]
struct Leases {
    lease: Lease<u64>,
    sessions: HashMap<u64, UnboundedSender<()>>,
    next: u64,
}

/// One session's part in a lease. Gives it back when dropped.
struct SessionLease {
    link: LeaseLink,
    id: u64,
    granted: UnboundedReceiver<()>,
}

impl LeaseLink {
    fn join(&self) -> SessionLease {
        let (grant, granted) = unbounded_channel();
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leases.next += 1;
        let id = leases.next;
        leases.sessions.insert(id, grant);
        SessionLease {
            link: self.clone(),
            id,
            granted,
        }
    }
}

impl SessionLease {
    fn with<T>(&self, work: impl FnOnce(&mut Leases) -> T) -> T {
        let leases = &self.link.0;
        work(&mut leases.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn acquire(&self) {
        self.with(|leases| {
            if leases.lease.acquire(self.id) {
                leases.grant(self.id);
            }
        });
    }

    fn release(&self) {
        self.with(|leases| {
            if let Some(next) = leases.lease.release(&self.id) {
                leases.grant(next);
            }
        });
    }
}

impl Leases {
    fn grant(&self, id: u64) {
        if let Some(session) = self.sessions.get(&id) {
            let _ = session.send(());
        }
    }
}

impl Drop for SessionLease {
    fn drop(&mut self) {
        self.release();
        self.with(|leases| leases.sessions.remove(&self.id));
    }
}

/// What a running session is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// This device's log has new entries of its own.
    LogGrew,
    /// This device's log has new entries of other devices.
    Came,
    /// Nothing came to this device's log for a while.
    Settle,
    /// Do another round now.
    Round,
    /// End politely.
    Stop,
}

/// Read from the stream at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A peer that takes nothing is sent no more than this; then nothing more is read from it either,
/// until its silence ends the session.
const OUT_BYTES_MAX: usize = 8 << 20;

/// The log is asked for no more than this at once on behalf of one peer; the rest stays unread.
const ASKED_MAX: usize = 64;

/// How long the last words may take to leave.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs one end of a session to its end. `observe` sees every event, and the session after it.
///
/// Dropping the sender of `control` is no reason to stop. What was handed to the log before the
/// end is still stored.
///
/// # Errors
/// [`SessionError`] when it ended early; what was stored before stays.
pub async fn run<S: AsyncRead + AsyncWrite>(
    stream: S,
    role: Role,
    host: &Host,
    control: UnboundedReceiver<Control>,
    observe: impl FnMut(&Session, Event),
) -> Result<(), SessionError> {
    let (reader, writer) = tokio::io::split(stream);
    let (reply, answers) = unbounded_channel();
    let driver = Driver {
        session: Session::new(role, host.local.clone()),
        log: &host.log,
        lease: host.lease.join(),
        reply,
        asked: 0,
        inbox: FrameReader::default(),
        outbox: FrameWriter::default(),
        out: Vec::new(),
        sent: 0,
        rests: false,
        began: Instant::now(),
        result: None,
        observe,
    };
    driver.run(reader, writer, answers, control).await
}

struct Driver<'a, F> {
    session: Session,
    log: &'a LogLink,
    lease: SessionLease,
    reply: UnboundedSender<Answer>,
    /// Requests that are not answered.
    asked: usize,
    inbox: FrameReader,
    outbox: FrameWriter,
    /// Bytes to send, of which the first `sent` are sent.
    out: Vec<u8>,
    sent: usize,
    /// A round is over: room that it needed is given back once all is sent.
    rests: bool,
    began: Instant,
    result: Option<Result<(), SessionError>>,
    observe: F,
}

impl<F: FnMut(&Session, Event)> Driver<'_, F> {
    async fn run<R, W>(
        mut self,
        mut reader: R,
        mut writer: W,
        mut answers: UnboundedReceiver<Answer>,
        mut control: UnboundedReceiver<Control>,
    ) -> Result<(), SessionError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut flushed = true;
        self.take(Input::Start);
        loop {
            if let Some(result) = self.result.take() {
                let farewell = async {
                    writer.write_all(&self.out[self.sent..]).await?;
                    writer.shutdown().await
                };
                let _ = tokio::time::timeout(FAREWELL, farewell).await;
                return result;
            }
            let deadline = self.deadline();
            let unsent = self.out.len() - self.sent;
            let may_read = unsent < OUT_BYTES_MAX && self.asked < ASKED_MAX;
            tokio::select! {
                read = reader.read(&mut chunk), if may_read => self.received(read, &chunk),
                wrote = write_or_flush(&mut writer, &self.out[self.sent..]), if unsent > 0 || !flushed => {
                    flushed = unsent == 0;
                    self.wrote(wrote);
                }
                Some(answer) = answers.recv() => {
                    self.asked = self.asked.saturating_sub(1);
                    self.take(Input::Answer(answer));
                    self.read_on();
                }
                Some(()) = self.lease.granted.recv() => self.take(Input::Leased),
                Some(control) = control.recv() => self.take(match control {
                    Control::LogGrew => Input::LogGrew,
                    Control::Came => Input::Came,
                    Control::Settle => Input::Settle,
                    Control::Round => Input::Round,
                    Control::Stop => Input::Stop,
                }),
                () = sleep_until(deadline) => self.take(Input::Tick),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let after = Duration::from_millis(self.session.deadline()?);
        self.began.checked_add(after)
    }

    fn received(&mut self, read: io::Result<usize>, chunk: &[u8]) {
        match read {
            Ok(0) => {
                let noise = self.inbox.noise();
                self.take(Input::Ended(match noise.is_empty() {
                    true => StreamEnd::Closed,
                    false => StreamEnd::Broken(FrameError::NotRustory(noise).to_string()),
                }));
            }
            Ok(count) => {
                self.inbox.push(&chunk[..count]);
                self.take(Input::Received(count));
                self.read_on();
            }
            Err(err) => self.broken(&err),
        }
    }

    /// Takes the messages that have come, as long as the log can follow.
    fn read_on(&mut self) {
        while self.asked < ASKED_MAX && self.result.is_none() {
            match self.inbox.next_message() {
                Ok(Some(message)) => self.take(Input::Message(message)),
                Ok(None) => return,
                Err(err) => {
                    let text = err.to_string();
                    return self.take(Input::Ended(match err.is_the_peers_fault() {
                        true => StreamEnd::Fault(text),
                        false => StreamEnd::Broken(text),
                    }));
                }
            }
        }
    }

    fn wrote(&mut self, wrote: io::Result<usize>) {
        match wrote {
            Ok(0) if self.sent < self.out.len() => {
                self.broken(&io::ErrorKind::WriteZero.into());
            }
            Ok(count) => {
                self.sent += count;
                if self.sent == self.out.len() {
                    self.out.clear();
                    self.sent = 0;
                    self.rest();
                }
            }
            Err(err) => self.broken(&err),
        }
    }

    /// Keeps no more room than small messages need.
    fn rest(&mut self) {
        if std::mem::take(&mut self.rests) {
            self.out = Vec::new();
            self.inbox.rest();
            self.outbox.rest();
        }
    }

    fn broken(&mut self, err: &io::Error) {
        // What the peer said last may tell why.
        self.read_on();
        self.take(Input::Ended(match err.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => StreamEnd::Closed,
            _ => StreamEnd::Broken(err.to_string()),
        }));
    }

    fn take(&mut self, input: Input) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        for effect in self.session.handle(now, input) {
            match effect {
                Effect::Send(message) => {
                    if self.outbox.write(&message, &mut self.out).is_err() {
                        self.result = Some(Err(SessionError::Broken(format!(
                            "a `{}` is larger than a message may be",
                            message.name()
                        ))));
                        return;
                    }
                }
                Effect::Ask(request) => {
                    self.asked += 1;
                    self.log.ask(request, &self.reply);
                }
                Effect::Acquire => self.lease.acquire(),
                Effect::Release => self.lease.release(),
                Effect::Event(event) => {
                    if let Event::Met(peer) = &event
                        && peer.brief == Some(true)
                    {
                        self.outbox.be_brief();
                    }
                    self.rests |= matches!(event, Event::Round(_) | Event::FoundSame(_));
                    (self.observe)(&self.session, event);
                }
                Effect::End(result) => self.result = Some(result),
            }
        }
        if self.out.is_empty() {
            self.rest();
        }
    }
}

/// Writes some of `bytes`; without any, lets go of what the stream still holds.
async fn write_or_flush<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<usize> {
    match bytes {
        [] => writer.flush().await.map(|()| 0),
        bytes => writer.write(bytes).await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_rests_after_much_work_once_nothing_comes_and_only_then() {
        let (link, jobs) = LogLink::new();
        let (mut worked, mut rests) = (WORK_TIRES - 1, 0);
        assert!(link.nudge());
        assert!(wait(&jobs, &mut worked, || rests += 1).is_some());
        worked = WORK_TIRES;
        assert!(link.nudge());
        assert!(wait(&jobs, &mut worked, || rests += 1).is_some());
        assert_eq!((worked, rests), (WORK_TIRES, 0), "a job was there");
        let rest = || {
            rests += 1;
            link.nudge();
        };
        assert!(wait(&jobs, &mut worked, rest).is_some());
        assert_eq!((worked, rests), (0, 1));
        drop(link);
        assert!(wait(&jobs, &mut worked, || rests += 1).is_none());
        worked = WORK_TIRES;
        assert!(wait(&jobs, &mut worked, || rests += 1).is_none());
        assert_eq!(rests, 1, "nobody is there any more");
    }
}
