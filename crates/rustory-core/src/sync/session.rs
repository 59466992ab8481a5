//! One exchange between two devices, both ways, as a machine: inputs and the time go in, effects
//! come out. It never waits, reads no clock and touches no log; whoever drives it does.
//!
//! The one that opened the stream asks, the other one answers. The asker leads: both say hello; if
//! their tallies are equal they are identical and that was all. Else it pulls what lies behind its
//! cursor, offers what lies behind the peer's, compares again, and finds what is still different
//! entry by entry. Where both stay connected, each then sends what is newly typed on it at once.
//! `docs/protocol.md` has the picture.

use std::collections::VecDeque;

use crate::cursor::{Cursor, IngestSeq, LogId};
use crate::digest::Tally;
use crate::entry::EntryId;
use crate::limits::ORIGINS_MAX;

use super::flow::{Inflow, Outflow};
use super::log::{Answer, Claim, Compared, Failed, Have, Known, Piece, Request, Stored, Summary};
use super::message::{
    Ack, Batch, Close, Fetch, Hello, Message, News, PROTOCOL, Reason, Reconcile, Standing, Stretch,
    Wanted,
};
use super::overlap::{self, Reader};
use super::reconcile::{Difference, Reconciler, Step};

/// A session ends when a peer that should say something does not for so long, in milliseconds.
///
/// Twice what a program holding the database for 10 s (the longest that ours wait) costs, and half
/// of the time in which a person gives up.
pub const SILENCE_MS_MAX: u64 = 30_000;

/// A peer on a slow line is not silent while at least this many bytes come in that time: 1 MiB of
/// one command at 10 KB a minute would be silly, one byte a second is an attack.
const TRICKLE_BYTES_MIN: usize = 4_096;

/// Who has long work to do says so this often, in milliseconds.
const WAIT_EVERY_MS: u64 = 10_000;

/// An offer that can't be taken within this time is declined, in milliseconds.
const OFFER_MS_MAX: u64 = 5_000;

/// Whoever waits to receive while another session receives goes on after this long all the same,
/// in milliseconds: to receive twice is better than to wait for ever.
///
/// A peer that hangs is given up far earlier; this long takes a million entries on a slow line.
const LEASE_MS_MAX: u64 = 5 * 60_000;

/// A peer that says nothing but that it is at work is given up after this long, in milliseconds.
///
/// Ten times what reading a million entries from a slow disk takes.
const PATIENCE_MS_MAX: u64 = 10 * 60_000;

/// How often one round goes on because the logs grew meanwhile.
const COMPARES_MAX: u32 = 3;

/// How often one round compares entry by entry.
const RECONCILES_MAX: u32 = 2;

/// How many steps a comparison may take. Each brings about 1,800 differences; ten million of them
/// are more than a person types.
const STEPS_MAX: u32 = 20_000;

/// Most differences that one comparison collects, 32 bytes each; more are left to the next one.
const DIFFERENCES_MAX: usize = 1_000_000;

/// What this side is.
#[derive(Clone, Debug)]
pub struct Local {
    /// The device.
    pub device_id: String,
    /// What its user calls it.
    pub device_name: String,
    /// Whose history, if the user said so.
    pub user_id: Option<String>,
    /// Of rr.
    pub version: String,
    /// Names the log.
    pub log_id: LogId,
    /// See [`Hello::place`].
    pub place: u64,
    /// Stay connected after the round.
    pub stays: bool,
    /// Compare entry by entry, from the rows, even where the tallies are equal.
    pub verifies: bool,
}

/// Which end of the stream this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opened it, and leads.
    Asker,
    /// Was called.
    Answerer,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The stream is open. First of all inputs.
    Start,
    /// A message came.
    Message(Message),
    /// So many bytes came, whether or not they complete a message.
    Received(usize),
    /// The log's answer to the oldest request that is not answered.
    Answer(Answer),
    /// What [`Effect::Acquire`] asked for is granted.
    Leased,
    /// This device's log has new entries.
    LogGrew,
    /// Do another round now; for an asker that stays connected.
    Round,
    /// End politely.
    Stop,
    /// [`Session::deadline`] has passed.
    Tick,
    /// The stream is over; why, if not in order.
    Ended(StreamEnd),
}

/// How a stream came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The peer closed it.
    Closed,
    /// It broke, or what came can't be read. Not the peer's fault as far as one can tell.
    Broken(String),
    /// The peer sent what no peer may send.
    Fault(String),
}

/// What to do now, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Send a message.
    Send(Message),
    /// Ask the log; answers come in the order asked.
    Ask(Request),
    /// Wait until no other session of this device receives in bulk, then say [`Input::Leased`].
    Acquire,
    /// Another session may.
    Release,
    /// For whoever watches.
    Event(Event),
    /// It is over; close the stream once everything is sent. No effect follows.
    End(Result<(), SessionError>),
}

/// What an observer may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Who the peer is.
    Met(Hello),
    /// Why reading its log starts where it does.
    Started(Start),
    /// Both devices call themselves the same.
    SameDeviceId,
    /// Entries came or went; see [`Session::report`].
    Moved,
    /// What differs is being looked for entry by entry.
    Reconciling {
        /// In so many origins.
        origins: usize,
    },
    /// Some rows here are not what was stored: the disk lost or changed them.
    Damaged {
        /// Of these origins.
        origins: Vec<String>,
    },
    /// A round is over.
    Round(Report),
    /// For an answerer: the peer compared, and found the two to be the same.
    FoundSame(Report),
}

/// Why a pull starts where it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Never met before.
    #[default]
    First,
    /// Where the last one ended.
    Resume,
    /// The peer has another log than last time: a new or recreated database.
    NewLog,
    /// The cursor lies beyond the peer's head: its database is an older copy.
    OlderCopy,
}

impl Start {
    /// Decides from where to read a peer's log, given how far it was read before. The cursor must
    /// have been read before the peer told its head.
    ///
    /// A position means nothing in another log, and a cursor beyond the head says that the log was
    /// set back and may have grown differently since: both are read from the start. Entries that
    /// are there already are told by their ids.
    #[must_use]
    pub fn decide(known: Option<Cursor>, log_id: LogId, head: IngestSeq) -> Start {
        match known {
            None => Start::First,
            Some(cursor) if cursor.log_id != log_id => Start::NewLog,
            Some(cursor) if cursor.seq > head => Start::OlderCopy,
            Some(_) => Start::Resume,
        }
    }
}

/// What a session did so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Why reading the peer's log started where it did.
    pub start: Start,
    /// Entries that came.
    pub received: u64,
    /// Of these, new here.
    pub inserted: u64,
    /// Entries that came and can't be read by this version.
    pub unreadable: u64,
    /// Entries that were sent.
    pub sent: u64,
    /// Of these, new there.
    pub accepted: u64,
    /// Entries here that are beyond the limits of the exchange.
    pub unsendable: u64,
    /// Rows that the disk had changed and that were replaced by the peer's.
    pub mended: u64,
    /// How often what differs was looked for entry by entry.
    pub reconciled: u32,
    /// The peer took nothing now: it was receiving from another one.
    pub declined: bool,
    /// What was found when the two were last compared.
    pub compared: Option<Compared>,
    /// So many of ours are missing there, as far as known.
    pub ahead: u64,
    /// So many of theirs are missing here, as far as known.
    pub behind: u64,
}

/// Why a session ended early. What was stored before stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The peer sent what can't be true.
    #[error("the peer sent what can't be true: {0}")]
    Fault(String),
    /// The stream broke off.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The peer did not say what it should for too long.
    #[error("the peer said nothing for {} s", SILENCE_MS_MAX / 1000)]
    Silent,
    /// The peer ended the session.
    #[error("the peer ended the exchange{}", reason_text(.0))]
    Refused(Close),
    /// Our own log can't be used now.
    #[error("{0}")]
    Log(Failed),
    /// Both sides say whose history theirs is, and it is not the same person's.
    #[error("the peer's history is that of `{theirs}`, this one that of `{ours}`")]
    OtherUser {
        /// Our `user_id`.
        ours: String,
        /// The peer's.
        theirs: String,
    },
    /// No common version.
    #[error("the peer speaks version {theirs} of the protocol, this rr version {PROTOCOL}")]
    OtherProtocol {
        /// The peer's version.
        theirs: u32,
    },
    /// The peer is this very database.
    #[error("that is this very database: there is nothing to exchange")]
    Itself,
    /// The two databases are copies of one; this one has taken a new identity now.
    #[error("the peer's database is a copy of this one; this device has a new identity now")]
    WasCopy,
    /// It was asked to stop.
    #[error("the exchange was stopped")]
    Stopped,
}

fn reason_text(close: &Close) -> String {
    let what = match close.reason {
        Reason::PROTOCOL => ": it speaks another version of the protocol",
        Reason::USER => ": it belongs to another user",
        Reason::FAULT => ": it could not make sense of what this device sent",
        Reason::LOG => ": it can't use its database now",
        Reason::STOPPING => ": it is being stopped",
        Reason::COPY => ": its database is a copy of this one, and it takes a new identity",
        _ => "",
    };
    match &close.text {
        Some(text) => format!("{what} ({text})"),
        None => what.to_owned(),
    }
}

/// What an outstanding request is for.
#[derive(Debug)]
enum Want {
    /// Our peers, before the peer tells its head.
    Known,
    /// Our peers as they are now.
    KnownNow,
    /// Our summary, and what to do with it.
    Summary(Then),
    /// A piece of what is being sent.
    Read,
    /// A batch to be stored, in the place of damaged rows or not.
    Store { mends: bool },
    /// News to be stored.
    StoreNews,
    /// News to be sent.
    News,
    /// The rows to compare.
    Items,
    /// Nothing comes of it.
    Nothing,
    /// A new identity.
    Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    SayHello,
    /// The asker has a lease and wants to pull.
    Pull,
    /// The asker goes on after a pull.
    Offer,
    /// The answerer may be sent to.
    Accept,
    /// The asker offers what it has.
    SendOffer,
    /// Tell it to the peer, to compare.
    Tell,
    /// The answerer answers what the asker told.
    TellBack,
}

/// What an asker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Leasing(For),
    Pulling,
    Offering,
    Pushing,
    Comparing,
    Reconciling,
    Mending,
    /// The round is over and the two stay connected.
    Live,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Pull,
    Reconcile,
}

/// How far one round has come.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    pulled: bool,
    pushed: bool,
    /// Something went over since the two were last compared.
    moved: bool,
    compares: u32,
    reconciles: u32,
    /// What both had when rows were last compared,
    rows_of: Option<(Tally, Tally)>,
    /// and still have after that: what differs can't be exchanged.
    futile: bool,
}

type Effects = Vec<Effect>;

/// One end of a session.
#[derive(Debug)]
pub struct Session {
    role: Role,
    local: Local,
    peer: Option<Hello>,
    stage: Stage,
    round: Round,
    wants: VecDeque<Want>,
    /// What the log knew of its peers before the peer told its head.
    known: Vec<Known>,
    known_now: Vec<Known>,
    /// What each side has, as last told to the other.
    ours: Summary,
    theirs: Summary,
    /// The head of our log that the peer was told.
    told_head: IngestSeq,
    /// What the asker told last, until it is answered.
    told: Option<Standing>,
    /// How far the peer's log is read, and ours by the peer.
    read: Option<Cursor>,
    read_by_peer: Option<Cursor>,
    out: Option<Outflow>,
    incoming: Option<Inflow>,
    reconciler: Option<Reconciler>,
    steps: u32,
    differences: Step,
    /// Origins whose rows here are not what was stored.
    damaged: Vec<String>,
    they_are_damaged: bool,
    /// The answerer holds or waits for a lease; the time at which it gives up waiting.
    leased: bool,
    lease_until: Option<u64>,
    /// We said hello.
    greeted: bool,
    /// News: our log behind this is not announced; one message is under way; more came.
    news_after: IngestSeq,
    news_out: bool,
    grew: bool,
    report: Report,
    last_heard: u64,
    /// When the peer last said more than that it is at work, or we did.
    last_sense: u64,
    last_sent: u64,
    trickle: usize,
    now: u64,
    over: bool,
}

impl Session {
    /// A session that has not begun; [`Input::Start`] begins it.
    #[must_use]
    pub fn new(role: Role, local: Local) -> Session {
        Session {
            role,
            local,
            peer: None,
            stage: Stage::Greeting,
            round: Round::default(),
            wants: VecDeque::new(),
            known: Vec::new(),
            known_now: Vec::new(),
            ours: Summary::default(),
            theirs: Summary::default(),
            told_head: IngestSeq::ZERO,
            told: None,
            read: None,
            read_by_peer: None,
            out: None,
            incoming: None,
            reconciler: None,
            steps: 0,
            differences: Step::default(),
            damaged: Vec::new(),
            they_are_damaged: false,
            leased: false,
            lease_until: None,
            greeted: false,
            news_after: IngestSeq::ZERO,
            news_out: false,
            grew: false,
            report: Report::default(),
            last_heard: 0,
            last_sense: 0,
            last_sent: 0,
            trickle: 0,
            now: 0,
            over: false,
        }
    }

    /// Who the peer is, once it said so.
    #[must_use]
    pub fn peer(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }

    /// What was done so far.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// How many entries are still to come, as far as known, for whoever shows progress.
    #[must_use]
    pub fn expected(&self) -> u64 {
        overlap::behind(&self.ours, &self.theirs)
    }

    /// Whether the first round is over and the two stay connected.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self.role {
            Role::Asker => self.stage == Stage::Live,
            Role::Answerer => self.greeted && self.stays() && self.is_idle(),
        }
    }

    /// When to say [`Input::Tick`], in the driver's milliseconds; `None`: not at all.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        if self.over {
            return None;
        }
        let wait = self.last_sent + WAIT_EVERY_MS;
        match self.is_busy() {
            true => self.lease_until.into_iter().chain([wait]).min(),
            false => self.owes().then(|| self.silent_at()),
        }
    }

    /// Whether the peer is to say something.
    fn owes(&self) -> bool {
        !self.is_live() || self.news_out
    }

    /// When it has not for too long.
    fn silent_at(&self) -> u64 {
        let silent = self.last_heard.max(self.last_sent) + SILENCE_MS_MAX;
        silent.min(self.last_sense + PATIENCE_MS_MAX)
    }

    /// Takes what happened at `now`, in milliseconds of any clock that does not go back, and says
    /// what to do.
    pub fn handle(&mut self, now: u64, input: Input) -> Vec<Effect> {
        if self.over {
            return Vec::new();
        }
        self.now = now;
        let mut effects = Vec::new();
        if let Err(err) = self.take(input, &mut effects) {
            self.fail(err, &mut effects);
        }
        for effect in &effects {
            if let Effect::Send(message) = effect {
                self.last_sent = now;
                if !matches!(message, Message::Wait) {
                    self.last_sense = now;
                }
                match message {
                    Message::Hello(Hello { head, .. })
                    | Message::Standing(Standing { head, .. })
                    | Message::Origins(Summary { head, .. })
                    | Message::Offer(Summary { head, .. }) => self.told_head = *head,
                    _ => {}
                }
            }
        }
        effects
    }

    fn take(&mut self, input: Input, effects: &mut Effects) -> Result<(), SessionError> {
        let now = self.now;
        match input {
            Input::Start => {
                self.last_heard = now;
                self.last_sense = now;
                self.last_sent = now;
                if self.role == Role::Asker {
                    self.ask(Request::Known, Want::Known, effects);
                    self.ask(Request::Summary, Want::Summary(Then::SayHello), effects);
                }
                Ok(())
            }
            Input::Message(message) => {
                self.last_heard = now;
                self.trickle = 0;
                if !matches!(message, Message::Wait) {
                    self.last_sense = now;
                }
                self.message(message, effects)
            }
            Input::Received(bytes) => {
                self.trickle += bytes;
                if self.trickle >= TRICKLE_BYTES_MIN {
                    self.trickle = 0;
                    self.last_heard = now;
                    self.last_sense = now;
                }
                Ok(())
            }
            Input::Answer(answer) => {
                // What the log took its time for is not the peer's silence.
                self.last_heard = now;
                self.last_sense = now;
                self.answer(answer, effects)
            }
            Input::Leased => {
                self.leased(effects);
                Ok(())
            }
            Input::LogGrew => {
                self.grew = true;
                self.tell_news(effects);
                Ok(())
            }
            Input::Round => {
                if self.role == Role::Asker && self.stage == Stage::Live {
                    self.begin_round(effects);
                }
                Ok(())
            }
            Input::Stop => {
                let reason = match self.is_live() {
                    true => Reason::DONE,
                    false => Reason::STOPPING,
                };
                self.close(reason, None, effects);
                self.end(
                    if reason == Reason::DONE {
                        Ok(())
                    } else {
                        Err(SessionError::Stopped)
                    },
                    effects,
                );
                Ok(())
            }
            Input::Tick => self.tick(effects),
            Input::Ended(end) => self.stream_ended(end, effects),
        }
    }

    // ---- what the peer says

    fn message(&mut self, message: Message, effects: &mut Effects) -> Result<(), SessionError> {
        if let Message::Close(close) = message {
            return self.closed(close, effects);
        }
        if self.peer.is_none() {
            return match message {
                Message::Hello(hello) => self.hello(hello, effects),
                Message::Wait => Ok(()),
                other => Err(unexpected(&other)),
            };
        }
        match (self.role, message) {
            (_, Message::Wait) => Ok(()),
            (_, Message::Batch(batch)) => self.batch(batch, effects),
            (_, Message::Ack(ack)) => self.acknowledged(ack, effects),
            (_, Message::News(news)) => self.news(news, effects),
            (_, Message::Heard) => {
                self.news_out = false;
                self.tell_news(effects);
                Ok(())
            }
            (Role::Asker, Message::Origins(theirs)) if self.waits_at(Stage::Comparing) => {
                self.theirs = theirs;
                self.advance(effects);
                Ok(())
            }
            (Role::Asker, Message::Standing(theirs)) if self.waits_at(Stage::Comparing) => {
                self.same(theirs, effects)
            }
            (Role::Asker, Message::Accept(wanted)) if self.waits_at(Stage::Offering) => {
                self.accepted(wanted, effects);
                Ok(())
            }
            (Role::Asker, Message::Later) if self.waits_at(Stage::Offering) => {
                self.report.declined = true;
                self.round.pushed = true;
                self.advance(effects);
                Ok(())
            }
            (Role::Asker, Message::Reconcile(step)) if self.waits_at(Stage::Reconciling) => {
                self.learn(&step, effects)
            }
            (Role::Answerer, message) => self.asked(message, effects),
            (_, other) => Err(unexpected(&other)),
        }
    }

    /// Whether the peer's answer to what was asked at this stage is all that is waited for.
    fn waits_at(&self, stage: Stage) -> bool {
        self.stage == stage && !self.is_answering()
    }

    /// Whether a question to the log, or for a lease, has to be answered before the next message
    /// of the peer makes sense.
    fn is_answering(&self) -> bool {
        let first = |want: &Want| {
            matches!(
                want,
                Want::Known | Want::KnownNow | Want::Summary(_) | Want::Items
            )
        };
        self.lease_until.is_some() || self.wants.iter().any(first)
    }

    /// The peer's sum is the one it was told.
    fn same(&mut self, theirs: Standing, effects: &mut Effects) -> Result<(), SessionError> {
        if theirs.tally != self.ours.tally() {
            return Err(unexpected(&Message::Standing(theirs)));
        }
        self.theirs = Summary {
            head: theirs.head,
            origins: self.ours.origins.clone(),
        };
        self.advance(effects);
        Ok(())
    }

    fn hello(&mut self, hello: Hello, effects: &mut Effects) -> Result<(), SessionError> {
        if !hello.fits() {
            let what = "a device without an id, or with a text beyond the limits";
            return Err(SessionError::Fault(what.to_owned()));
        }
        if hello.protocol < PROTOCOL {
            self.close(Reason::PROTOCOL, None, effects);
            let theirs = hello.protocol;
            return Err(SessionError::OtherProtocol { theirs });
        }
        if let (Some(ours), Some(theirs)) = (&self.local.user_id, &hello.user_id)
            && ours != theirs
        {
            let (ours, theirs) = (ours.clone(), theirs.clone());
            self.close(Reason::USER, Some(&ours), effects);
            return Err(SessionError::OtherUser { ours, theirs });
        }
        effects.push(Effect::Event(Event::Met(hello.clone())));
        self.theirs.head = hello.head;
        let same_log = hello.log_id == self.local.log_id;
        let same_place = hello.place == self.local.place;
        let same_device = hello.device_id == self.local.device_id;
        self.peer = Some(hello);
        match (same_log, self.role) {
            (true, Role::Asker) if same_place => {
                self.close(Reason::DONE, None, effects);
                return Err(SessionError::Itself);
            }
            // One of two copies has to become another. It is the one that asks, so that not both do.
            (true, Role::Asker) => {
                self.close(Reason::COPY, None, effects);
                self.ask(Request::TakeNewIdentity, Want::Identity, effects);
                return Ok(());
            }
            (true, Role::Answerer) => {}
            (false, _) if same_device => effects.push(Effect::Event(Event::SameDeviceId)),
            (false, _) => {}
        }
        match self.role {
            Role::Answerer => {
                self.ask(Request::Known, Want::Known, effects);
                self.ask(Request::Summary, Want::Summary(Then::SayHello), effects);
            }
            Role::Asker => self.hello_answered(effects),
        }
        Ok(())
    }

    /// The asker knows now who the peer is and whether there is anything to do.
    fn hello_answered(&mut self, effects: &mut Effects) {
        let Some(peer) = &self.peer else { return };
        let (head, log_id, tally) = (peer.head, peer.log_id, peer.tally);
        let origins = peer.origins.clone();
        let (log_id_here, told) = (self.local.log_id, self.ours.head);
        self.read_by_peer = peer
            .read
            .filter(|cursor| cursor.log_id == log_id_here && cursor.seq <= told);
        let known = self.known_of_peer().map(|known| known.cursor);
        let start = Start::decide(known, log_id, head);
        self.report.start = start;
        effects.push(Effect::Event(Event::Started(start)));
        self.read = known.filter(|_| start == Start::Resume);
        if start == Start::OlderCopy {
            self.forget_cursor(effects);
        }
        self.stage = Stage::Comparing;
        if let Some(theirs) = origins {
            self.theirs = theirs;
            self.advance(effects);
        } else if tally == self.ours.tally() {
            // Equal tallies say all that a list of origins could say.
            self.theirs = self.ours.clone();
            self.theirs.head = head;
            self.advance(effects);
        } else {
            self.tell(effects);
        }
    }

    /// The answerer is asked for something.
    fn asked(&mut self, message: Message, effects: &mut Effects) -> Result<(), SessionError> {
        // One question at a time.
        if self.out.is_some() || self.is_answering() {
            return Err(unexpected(&message));
        }
        match message {
            Message::Standing(theirs) => {
                self.told = Some(theirs);
                self.theirs.head = theirs.head;
                self.reconciler = None;
                self.incoming = None;
                self.release(effects);
                self.recount(effects);
                self.ask(Request::Summary, Want::Summary(Then::TellBack), effects);
            }
            Message::Pull(wanted) => {
                let after = self.from(wanted.cursor);
                self.send_stretch(after, wanted.have, effects);
            }
            Message::Offer(theirs) if self.incoming.is_none() => {
                self.theirs = theirs;
                self.lease_until = Some(self.now + OFFER_MS_MAX);
                effects.push(Effect::Acquire);
            }
            Message::Reconcile(step) if step.first => self.compare_rows(step, effects),
            Message::Reconcile(step) => return self.answer_step(&step, None, effects),
            Message::Fetch(fetch) if self.reconciler.is_some() => {
                self.out = Some(Outflow::ids(fetch.ids, false));
                self.read_on(effects);
            }
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    fn closed(&mut self, close: Close, effects: &mut Effects) -> Result<(), SessionError> {
        let in_order = close.reason == Reason::DONE
            && (self.role == Role::Answerer || self.stage == Stage::Live);
        if !in_order {
            return Err(SessionError::Refused(close));
        }
        self.end(Ok(()), effects);
        Ok(())
    }

    fn stream_ended(&mut self, end: StreamEnd, effects: &mut Effects) -> Result<(), SessionError> {
        if self.wants.iter().any(|want| matches!(want, Want::Identity)) {
            return Ok(());
        }
        match end {
            StreamEnd::Fault(what) => Err(SessionError::Fault(what)),
            StreamEnd::Closed if self.peer.is_some() && self.is_live() => {
                self.end(Ok(()), effects);
                Ok(())
            }
            StreamEnd::Closed => Err(SessionError::Broken("the other end closed it".to_owned())),
            StreamEnd::Broken(text) => Err(SessionError::Broken(text)),
        }
    }

    // ---- what the log says

    fn answer(&mut self, answer: Answer, effects: &mut Effects) -> Result<(), SessionError> {
        let Some(want) = self.wants.pop_front() else {
            return Ok(());
        };
        match (want, answer) {
            (_, Answer::Failed(failed)) => return Err(SessionError::Log(failed)),
            (Want::Known, Answer::Known(known)) => {
                self.known = known;
                self.note_cursor();
            }
            (Want::KnownNow, Answer::Known(known)) => self.known_now = known,
            (Want::Summary(then), Answer::Summary(summary)) => self.summary(summary, then, effects),
            (Want::Read, Answer::Piece(piece)) => self.piece(piece, effects),
            (Want::Read, Answer::Found { entries, looked_up }) => {
                let entries = self.sendable(entries);
                if let Some(out) = &mut self.out {
                    let batch = out.found(entries, looked_up);
                    self.send_batch(batch, effects);
                }
            }
            (Want::Store { mends }, Answer::Stored(stored)) => {
                if mends {
                    self.report.mended += stored.inserted;
                }
                self.stored(stored, effects);
            }
            (Want::StoreNews, Answer::Stored(stored)) => {
                self.report.inserted += stored.inserted;
                effects.push(Effect::Send(Message::Heard));
                effects.push(Effect::Event(Event::Moved));
            }
            (Want::News, Answer::Piece(piece)) => self.send_news(piece, effects),
            (Want::Items, Answer::Items(items)) => return self.rows(items, effects),
            (Want::Identity, Answer::Identity(_)) => {
                self.end(Err(SessionError::WasCopy), effects);
            }
            (Want::Nothing, _) => {}
            (want, answer) => debug_assert!(false, "{answer:?} to {want:?}"),
        }
        Ok(())
    }

    fn summary(&mut self, ours: Summary, then: Then, effects: &mut Effects) {
        self.ours = ours;
        match then {
            Then::SayHello => self.say_hello(effects),
            Then::Pull if self.wants_pull() => self.pull(effects),
            // Another session brought it meanwhile.
            Then::Pull => self.pulled(effects),
            Then::Offer => self.advance(effects),
            Then::SendOffer => {
                self.stage = Stage::Offering;
                effects.push(Effect::Send(Message::Offer(self.ours.clone())));
            }
            Then::Accept => self.accept(effects),
            Then::Tell => self.tell(effects),
            Then::TellBack => self.tell_back(effects),
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            head: self.ours.head,
            tally: self.ours.tally(),
        }
    }

    /// The asker wants to know whether the two are the same, and how they differ if not.
    fn tell(&mut self, effects: &mut Effects) {
        self.stage = Stage::Comparing;
        effects.push(Effect::Send(Message::Standing(self.standing())));
    }

    fn tell_back(&mut self, effects: &mut Effects) {
        let ours = self.standing();
        match self.told.take() {
            Some(theirs) if theirs.tally == ours.tally => {
                self.theirs = Summary {
                    head: theirs.head,
                    origins: self.ours.origins.clone(),
                };
                effects.push(Effect::Send(Message::Standing(ours)));
                self.found_same(effects);
            }
            _ => effects.push(Effect::Send(Message::Origins(self.ours.clone()))),
        }
    }

    fn say_hello(&mut self, effects: &mut Effects) {
        let tally = self.ours.tally();
        let mut hello = Hello {
            protocol: PROTOCOL,
            device_id: self.local.device_id.clone(),
            device_name: self.local.device_name.clone(),
            user_id: self.local.user_id.clone(),
            version: self.local.version.clone(),
            log_id: self.local.log_id,
            place: self.local.place,
            head: self.ours.head,
            tally,
            stays: self.local.stays,
            origins: None,
            admission: None,
            read: None,
        };
        self.greeted = true;
        self.news_after = self.ours.head;
        let mut equal = false;
        if let (Role::Answerer, Some(peer)) = (self.role, &self.peer) {
            equal = peer.tally == tally;
            if !equal {
                hello.origins = Some(self.ours.clone());
                let cursor = self.known_of_peer().map(|known| known.cursor);
                hello.read = cursor.filter(|cursor| cursor.log_id == peer.log_id);
            }
        }
        effects.push(Effect::Send(Message::Hello(hello)));
        if equal {
            self.theirs = Summary {
                head: self.theirs.head,
                origins: self.ours.origins.clone(),
            };
            self.found_same(effects);
        }
    }

    /// As far as the answerer is concerned the round is over.
    fn found_same(&mut self, effects: &mut Effects) {
        self.remember(effects);
        let is_copy = |peer: &Hello| peer.log_id == self.local.log_id;
        if !self.peer.as_ref().is_some_and(is_copy) {
            effects.push(Effect::Event(Event::FoundSame(self.report.clone())));
        }
    }

    // ---- the asker's round

    fn begin_round(&mut self, effects: &mut Effects) {
        self.round = Round::default();
        self.report = Report {
            start: self.report.start,
            ..Report::default()
        };
        self.stage = Stage::Comparing;
        // Before the peer tells its head.
        self.ask(Request::Known, Want::Known, effects);
        self.ask(Request::Summary, Want::Summary(Then::Tell), effects);
    }

    /// Decides what to do next, once each side knows what the other has.
    fn advance(&mut self, effects: &mut Effects) {
        if self.local.verifies && self.round.reconciles == 0 {
            return self.lease(For::Reconcile, effects);
        }
        let tallies = (self.ours.tally(), self.theirs.tally());
        self.round.futile = self.round.rows_of == Some(tallies);
        if tallies.0 == tallies.1 || self.round.futile || self.was_compared() {
            return self.finish(effects);
        }
        if !self.round.pulled && self.wants_pull() {
            return self.lease(For::Pull, effects);
        }
        if !self.round.pushed && self.wants_push() {
            // The peer knew its cursor in our log before it is told this.
            return self.ask(Request::Summary, Want::Summary(Then::SendOffer), effects);
        }
        if self.round.moved {
            return self.compare_again(effects);
        }
        match self.may_reconcile() {
            true => self.lease(For::Reconcile, effects),
            false => self.finish(effects),
        }
    }

    fn compare_again(&mut self, effects: &mut Effects) {
        self.round.pulled = false;
        self.round.pushed = false;
        self.round.moved = false;
        self.round.compares += 1;
        self.stage = Stage::Comparing;
        self.ask(Request::Known, Want::Known, effects);
        self.ask(Request::Summary, Want::Summary(Then::Tell), effects);
    }

    fn our_reader(&self) -> Reader<'_> {
        Reader {
            has: &self.ours,
            from: self.read.map(|cursor| cursor.seq.get()),
        }
    }

    fn wants_pull(&self) -> bool {
        self.round.compares <= COMPARES_MAX && self.our_reader().gains(&self.theirs)
    }

    fn wants_push(&self) -> bool {
        let reader = Reader {
            has: &self.theirs,
            from: self.read_by_peer.map(|cursor| cursor.seq.get()),
        };
        self.round.compares <= COMPARES_MAX && reader.gains(&self.ours)
    }

    /// Whether to look for what differs entry by entry. Once is enough for two logs that have not
    /// changed since, and what the next round brings anyhow is not worth it.
    fn may_reconcile(&self) -> bool {
        let unfinished = self.report.declined || self.round.compares > COMPARES_MAX;
        if unfinished && overlap::is_a_matter_of_time(&self.ours, &self.theirs) {
            return false;
        }
        self.round.reconciles < RECONCILES_MAX
    }

    /// Whether the two are as they were when looking for what differs brought nothing.
    fn was_compared(&self) -> bool {
        let (ours, theirs) = (self.ours.tally(), self.theirs.tally());
        let before = self.known_of_peer().and_then(|known| known.compared);
        before.is_some_and(|was| (was.ours, was.theirs) == (ours, theirs))
    }

    fn lease(&mut self, what: For, effects: &mut Effects) {
        self.stage = Stage::Leasing(what);
        self.lease_until = Some(self.now + LEASE_MS_MAX);
        effects.push(Effect::Acquire);
    }

    fn leased(&mut self, effects: &mut Effects) {
        // A lease may come when it is not waited for any more.
        if self.lease_until.take().is_none() {
            return effects.push(Effect::Release);
        }
        self.leased = true;
        self.go_on(effects);
    }

    /// Does what a lease was waited for.
    fn go_on(&mut self, effects: &mut Effects) {
        match (self.role, self.stage) {
            (Role::Answerer, _) => {
                self.ask(Request::Known, Want::KnownNow, effects);
                self.ask(Request::Summary, Want::Summary(Then::Accept), effects);
            }
            // Another session may have brought some of it meanwhile.
            (Role::Asker, Stage::Leasing(For::Pull)) => {
                self.ask(Request::Summary, Want::Summary(Then::Pull), effects);
            }
            (Role::Asker, _) => self.compare_own_rows(effects),
        }
    }

    fn release(&mut self, effects: &mut Effects) {
        if self.leased || self.lease_until.take().is_some() {
            self.leased = false;
            effects.push(Effect::Release);
        }
    }

    fn pull(&mut self, effects: &mut Effects) {
        let Some(peer) = &self.peer else { return };
        let log_id = peer.log_id;
        let after = self.read.map_or(IngestSeq::ZERO, |cursor| cursor.seq);
        self.stage = Stage::Pulling;
        let reader = self.our_reader();
        let wanted = Wanted {
            cursor: self.read,
            have: reader.have(&self.theirs),
        };
        let whole = reader.is_whole(&self.theirs);
        self.incoming = Some(Inflow::stretch(log_id, after, self.theirs.head, whole));
        effects.push(Effect::Send(Message::Pull(wanted)));
    }

    /// Everything asked for is here and stored.
    fn received_all(&mut self, effects: &mut Effects) {
        self.incoming = None;
        match (self.role, self.stage) {
            (Role::Asker, Stage::Pulling) => {
                if let Some(peer) = &self.peer {
                    self.read = Some(Cursor {
                        log_id: peer.log_id,
                        seq: self.theirs.head,
                    });
                }
                self.pulled(effects);
            }
            (Role::Asker, Stage::Mending) => self.fetch_on(effects),
            _ => {
                self.release(effects);
                self.tell_news(effects);
            }
        }
    }

    fn pulled(&mut self, effects: &mut Effects) {
        self.round.pulled = true;
        self.round.moved = true;
        self.release(effects);
        self.ask(Request::Summary, Want::Summary(Then::Offer), effects);
    }

    fn accepted(&mut self, wanted: Wanted, effects: &mut Effects) {
        self.stage = Stage::Pushing;
        let after = self.from(wanted.cursor);
        self.send_stretch(after, wanted.have, effects);
    }

    /// Everything sent is stored there.
    fn sent_all(&mut self, effects: &mut Effects) {
        if let Some(until) = self.out.take().and_then(|out| out.until()) {
            self.news_after = self.news_after.max(until);
        }
        match self.stage {
            Stage::Pushing => {
                self.round.pushed = true;
                self.round.moved = true;
                self.read_by_peer = Some(Cursor {
                    log_id: self.local.log_id,
                    seq: self.ours.head,
                });
                self.advance(effects);
            }
            Stage::Mending => self.mended(effects),
            _ => self.tell_news(effects),
        }
    }

    /// The round is over: compared, or as far as it goes now.
    fn finish(&mut self, effects: &mut Effects) {
        self.release(effects);
        self.reconciler = None;
        self.remember(effects);
        effects.push(Effect::Event(Event::Round(self.report.clone())));
        if self.stays() {
            self.stage = Stage::Live;
            self.grew = true;
            return self.tell_news(effects);
        }
        self.close(Reason::DONE, None, effects);
        self.end(Ok(()), effects);
    }

    /// Notes how the two compare, for the status and for the next time.
    fn remember(&mut self, effects: &mut Effects) {
        let Some(peer) = &self.peer else { return };
        let compared = Compared {
            ours: self.ours.tally(),
            theirs: self.theirs.tally(),
            their_head: self.theirs.head,
        };
        self.report.compared = Some(compared);
        self.report.behind = overlap::behind(&self.ours, &self.theirs);
        self.report.ahead = overlap::behind(&self.theirs, &self.ours);
        // A copy of this log is about to be another one.
        let copy = peer.log_id == self.local.log_id;
        if !copy && (compared.identical() || self.round.futile) {
            if !compared.identical() {
                // Whatever can come of the peer's log is here.
                let request = Request::Store {
                    peer: peer.device_id.clone(),
                    entries: Vec::new(),
                    claim: Some(Claim {
                        log_id: peer.log_id,
                        after: IngestSeq::ZERO,
                        last: self.theirs.head,
                    }),
                };
                self.wants.push_back(Want::Nothing);
                effects.push(Effect::Ask(request));
            }
            let request = Request::Compared {
                peer: peer.device_id.clone(),
                log_id: peer.log_id,
                compared,
            };
            self.ask(request, Want::Nothing, effects);
        }
        if compared.identical() {
            self.news_after = self.ours.head;
        }
    }

    // ---- the answerer

    fn accept(&mut self, effects: &mut Effects) {
        let Some(peer) = self.peer.clone() else {
            return;
        };
        let of_peer = |known: &[Known]| {
            let found = known.iter().find(|known| known.peer == peer.device_id);
            found.map(|known| known.cursor)
        };
        // Decided by what was known before the peer told its head; another session may have moved
        // the cursor since.
        let start = Start::decide(of_peer(&self.known), peer.log_id, self.theirs.head);
        if start == Start::OlderCopy {
            self.forget_cursor(effects);
        }
        let cursor = of_peer(&self.known_now)
            .filter(|cursor| cursor.log_id == peer.log_id && start != Start::OlderCopy)
            // Another session may have read on beyond what this peer offers.
            .map(|cursor| Cursor {
                seq: cursor.seq.min(self.theirs.head),
                ..cursor
            });
        self.known = std::mem::take(&mut self.known_now);
        let after = cursor.map_or(IngestSeq::ZERO, |cursor| cursor.seq);
        let reader = Reader {
            has: &self.ours,
            from: cursor.map(|cursor| cursor.seq.get()),
        };
        let have = reader.have(&self.theirs);
        let whole = reader.is_whole(&self.theirs);
        let inflow = Inflow::stretch(peer.log_id, after, self.theirs.head, whole);
        self.incoming = Some(inflow);
        effects.push(Effect::Send(Message::Accept(Wanted { cursor, have })));
    }

    fn compare_rows(&mut self, step: Reconcile, effects: &mut Effects) {
        self.reconciler = None;
        // Answered once the rows are read.
        self.differences = Step {
            ask: Some(step.step),
            ..Step::default()
        };
        let origins = step.origins;
        self.ask(Request::Items { origins }, Want::Items, effects);
    }

    fn answer_step(
        &mut self,
        step: &Reconcile,
        damaged: Option<bool>,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        let Some(reconciler) = &mut self.reconciler else {
            return Err(SessionError::Fault(
                "a step of a comparison that has not begun".to_owned(),
            ));
        };
        let step = reconciler
            .answer(&step.step)
            .map_err(|err| SessionError::Fault(err.to_string()))?;
        // Whatever the peer finds us to lack may come at any time from now on.
        self.incoming = Some(Inflow::any());
        effects.push(Effect::Send(Message::Reconcile(Reconcile {
            origins: None,
            first: false,
            step,
            damaged,
        })));
        Ok(())
    }

    // ---- comparing entry by entry

    fn compare_own_rows(&mut self, effects: &mut Effects) {
        self.stage = Stage::Reconciling;
        self.steps = 0;
        self.round.rows_of = Some((self.ours.tally(), self.theirs.tally()));
        self.round.reconciles += 1;
        self.report.reconciled += 1;
        self.differences = Step::default();
        let origins = self.origins_to_compare();
        let count = origins.as_ref().map_or(self.ours.origins.len(), Vec::len);
        effects.push(Effect::Event(Event::Reconciling { origins: count }));
        self.ask(Request::Items { origins }, Want::Items, effects);
    }

    /// `None`: all of them.
    fn origins_to_compare(&self) -> Option<Vec<String>> {
        let differing = overlap::differing(&self.ours, &self.theirs);
        (!self.local.verifies && differing.len() <= ORIGINS_MAX).then_some(differing)
    }

    fn rows(
        &mut self,
        items: super::log::Items,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        if !items.damaged.is_empty() {
            let origins = items.damaged.clone();
            effects.push(Effect::Event(Event::Damaged { origins }));
        }
        self.damaged = items.damaged;
        if self.role == Role::Answerer {
            self.reconciler = Some(Reconciler::answering(items.set));
            let asked = Reconcile {
                origins: None,
                first: true,
                step: self.differences.ask.take().unwrap_or_default(),
                damaged: None,
            };
            let damaged = !self.damaged.is_empty();
            return self.answer_step(&asked, Some(damaged), effects);
        }
        let (reconciler, step) = Reconciler::ask(items.set);
        self.reconciler = Some(reconciler);
        effects.push(Effect::Send(Message::Reconcile(Reconcile {
            origins: self.origins_to_compare(),
            first: true,
            step,
            damaged: None,
        })));
        Ok(())
    }

    fn learn(&mut self, step: &Reconcile, effects: &mut Effects) -> Result<(), SessionError> {
        if let Some(damaged) = step.damaged {
            self.they_are_damaged = damaged;
        }
        let Some(reconciler) = &mut self.reconciler else {
            return Ok(());
        };
        self.steps += 1;
        if self.steps > STEPS_MAX {
            let text = "a comparison without end".to_owned();
            return Err(SessionError::Fault(text));
        }
        let learned = reconciler
            .learn(&step.step)
            .map_err(|err| SessionError::Fault(err.to_string()))?;
        self.differences.have.extend(learned.have);
        self.differences.need.extend(learned.need);
        let found = self.differences.have.len() + self.differences.need.len();
        match learned.ask.filter(|_| found < DIFFERENCES_MAX) {
            Some(step) => effects.push(Effect::Send(Message::Reconcile(Reconcile {
                origins: None,
                first: false,
                step,
                damaged: None,
            }))),
            None => self.mend(effects),
        }
        Ok(())
    }

    /// Fetches what is missing here and sends what is missing there, at the same time.
    fn mend(&mut self, effects: &mut Effects) {
        self.stage = Stage::Mending;
        self.reconciler = None;
        let (push, mut fetch) = self.share_out();
        fetch.sort_unstable();
        fetch.dedup();
        self.differences.need = fetch;
        if !push.is_empty() {
            let mends = self.they_are_damaged && self.damaged.is_empty();
            self.out = Some(Outflow::ids(push, mends));
            self.read_on(effects);
        }
        self.fetch_on(effects);
    }

    /// Which of the differences to send and which to fetch.
    ///
    /// An id under which the two have different entries is exchanged both ways, and each side keeps
    /// the same one of the two; but a side whose disk changed its rows takes the other's.
    fn share_out(&mut self) -> (Vec<EntryId>, Vec<Difference>) {
        let Step { have, need, .. } = std::mem::take(&mut self.differences);
        let ids = |list: &[Difference]| -> Vec<EntryId> {
            let mut ids: Vec<EntryId> = list.iter().map(|item| item.id).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let (have_ids, need_ids) = (ids(&have), ids(&need));
        let we_are = !self.damaged.is_empty();
        let keeps = |id: &EntryId, other: &[EntryId], trusted: bool| {
            trusted || other.binary_search(id).is_err()
        };
        let they_are = self.they_are_damaged;
        let both = we_are == they_are;
        let push = have_ids
            .iter()
            .filter(|id| keeps(id, &need_ids, both || they_are))
            .copied()
            .collect();
        let fetch = need
            .into_iter()
            .filter(|item| keeps(&item.id, &have_ids, both || we_are))
            .collect();
        (push, fetch)
    }

    fn fetch_on(&mut self, effects: &mut Effects) {
        if self.incoming.is_some() {
            return;
        }
        let left = self.differences.need.len();
        if left == 0 {
            return self.mended(effects);
        }
        let chunk = left.min(crate::limits::FETCH_IDS_MAX);
        let ids: Vec<EntryId> = self
            .differences
            .need
            .drain(..chunk)
            .map(|item| item.id)
            .collect();
        self.incoming = Some(Inflow::ids(ids.clone()));
        effects.push(Effect::Send(Message::Fetch(Fetch { ids })));
    }

    /// One half of mending is over; both?
    fn mended(&mut self, effects: &mut Effects) {
        if self.out.is_some() || self.incoming.is_some() || !self.differences.need.is_empty() {
            return;
        }
        self.release(effects);
        self.recount(effects);
        self.compare_again(effects);
    }

    /// Counts origins anew whose rows are not what was counted.
    fn recount(&mut self, effects: &mut Effects) {
        let recount = std::mem::take(&mut self.damaged);
        if !recount.is_empty() {
            let entries = Vec::new();
            let request = Request::Repair { entries, recount };
            self.ask(request, Want::Nothing, effects);
        }
    }

    // ---- entries on their way

    fn send_stretch(&mut self, after: IngestSeq, have: Vec<Have>, effects: &mut Effects) {
        self.out = Some(Outflow::stretch(after, self.told_head, have));
        self.read_on(effects);
    }

    fn read_on(&mut self, effects: &mut Effects) {
        if let Some(request) = self.out.as_mut().and_then(Outflow::next) {
            self.ask(request, Want::Read, effects);
        }
    }

    fn piece(&mut self, mut piece: Piece, effects: &mut Effects) {
        piece.entries = self.sendable(piece.entries);
        let Some(out) = &mut self.out else { return };
        match out.piece(piece) {
            Some(batch) => self.send_batch(batch, effects),
            None => self.read_on(effects),
        }
    }

    /// Without what every peer would refuse.
    fn sendable(&mut self, mut entries: Vec<crate::entry::Entry>) -> Vec<crate::entry::Entry> {
        let all = entries.len();
        entries.retain(|entry| entry.validate().is_ok());
        let left_out = (all - entries.len()) as u64;
        // The same ones may be tried more than once in a round.
        let so_far = match &mut self.out {
            Some(out) => out.left_out(left_out),
            None => left_out,
        };
        self.report.unsendable = self.report.unsendable.max(so_far);
        entries
    }

    fn send_batch(&mut self, batch: Batch, effects: &mut Effects) {
        self.report.sent += batch.entries.entries.len() as u64;
        effects.push(Effect::Send(Message::Batch(batch)));
        effects.push(Effect::Event(Event::Moved));
        self.read_on(effects);
    }

    fn acknowledged(&mut self, ack: Ack, effects: &mut Effects) -> Result<(), SessionError> {
        let Some(out) = &mut self.out else {
            return Err(unexpected(&Message::Ack(ack)));
        };
        if !out.acknowledged(ack.batches) {
            return Err(SessionError::Fault(
                "more batches acknowledged than were sent".to_owned(),
            ));
        }
        self.report.accepted = self.report.accepted.saturating_add(ack.inserted);
        match out.is_done() {
            true => self.sent_all(effects),
            false => self.read_on(effects),
        }
        Ok(())
    }

    fn batch(&mut self, batch: Batch, effects: &mut Effects) -> Result<(), SessionError> {
        let (Some(inflow), Some(peer)) = (&mut self.incoming, &self.peer) else {
            return Err(unexpected(&Message::Batch(batch)));
        };
        let unreadable = batch.entries.unreadable;
        let mends = batch.mends == Some(true);
        let by_id = batch.stretch.is_none();
        let peer_id = peer.device_id.clone();
        let incoming = inflow
            .batch(batch)
            .map_err(|err| SessionError::Fault(err.to_string()))?;
        self.report.received += incoming.entries.len() as u64;
        self.report.unreadable += unreadable;
        if incoming.restarted {
            self.report.start = Start::OlderCopy;
            effects.push(Effect::Event(Event::Started(Start::OlderCopy)));
            self.forget_cursor(effects);
        }
        // Only where rows were found damaged here are they replaced whatever they say.
        let trusted = match self.role {
            Role::Asker => !self.they_are_damaged,
            Role::Answerer => mends,
        };
        let mends = trusted && !self.damaged.is_empty() && by_id;
        let entries = incoming.entries;
        let request = match mends {
            true => Request::Repair {
                entries,
                recount: Vec::new(),
            },
            false => Request::Store {
                peer: peer_id,
                entries,
                claim: incoming.claim,
            },
        };
        self.ask(request, Want::Store { mends }, effects);
        Ok(())
    }

    fn stored(&mut self, stored: Stored, effects: &mut Effects) {
        self.report.inserted += stored.inserted;
        let Some(inflow) = &mut self.incoming else {
            return;
        };
        inflow.stored();
        let batches = inflow.take_owed();
        let done = inflow.is_done();
        effects.push(Effect::Send(Message::Ack(Ack {
            batches,
            inserted: stored.inserted,
        })));
        effects.push(Effect::Event(Event::Moved));
        if done {
            self.received_all(effects);
        }
    }

    // ---- news

    fn tell_news(&mut self, effects: &mut Effects) {
        let idle = match self.role {
            Role::Asker => self.stage == Stage::Live,
            Role::Answerer => self.greeted && self.is_idle(),
        };
        if self.grew && self.stays() && idle && !self.news_out {
            self.grew = false;
            self.news_out = true;
            let after = self.news_after;
            self.ask(Request::News { after }, Want::News, effects);
        }
    }

    fn send_news(&mut self, piece: Piece, effects: &mut Effects) {
        let after = self.news_after;
        self.news_after = piece.last.max(after);
        let entries = self.sendable(piece.entries);
        if entries.is_empty() {
            self.news_out = false;
            return self.tell_news(effects);
        }
        self.report.sent += entries.len() as u64;
        let stretch = piece.at_end.then_some(Stretch {
            after,
            last: piece.last,
        });
        let entries = entries.into();
        effects.push(Effect::Send(Message::News(News { entries, stretch })));
        // There may be more than fits one message.
        self.grew = true;
    }

    fn news(&mut self, news: News, effects: &mut Effects) -> Result<(), SessionError> {
        let storing = |want: &Want| matches!(want, Want::StoreNews);
        let (false, Some(peer)) = (self.wants.iter().any(storing), &self.peer) else {
            return Err(unexpected(&Message::News(news)));
        };
        let claim = news
            .stretch
            .filter(|stretch| stretch.last > stretch.after)
            .map(|stretch| Claim {
                log_id: peer.log_id,
                after: stretch.after,
                last: stretch.last,
            });
        self.report.received += news.entries.entries.len() as u64;
        self.report.unreadable += news.entries.unreadable;
        let request = Request::Store {
            peer: peer.device_id.clone(),
            entries: news.entries.entries,
            claim,
        };
        self.ask(request, Want::StoreNews, effects);
        Ok(())
    }

    // ---- time, and the end

    fn tick(&mut self, effects: &mut Effects) -> Result<(), SessionError> {
        let now = self.now;
        if self.lease_until.is_some_and(|until| now >= until) {
            self.release(effects);
            match self.role {
                Role::Answerer => effects.push(Effect::Send(Message::Later)),
                Role::Asker => self.go_on(effects),
            }
        }
        if self.is_busy() {
            if now >= self.last_sent + WAIT_EVERY_MS {
                effects.push(Effect::Send(Message::Wait));
            }
            return Ok(());
        }
        let said = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Send(_)));
        match !said && self.owes() && now >= self.silent_at() {
            true => Err(SessionError::Silent),
            false => Ok(()),
        }
    }

    /// Whether it is our turn: the log or a lease is waited for, not the peer.
    fn is_busy(&self) -> bool {
        !self.wants.is_empty() || self.lease_until.is_some()
    }

    /// Whether nothing is under way in either direction.
    fn is_idle(&self) -> bool {
        self.out.is_none() && self.incoming.is_none() && self.reconciler.is_none()
    }

    fn stays(&self) -> bool {
        self.local.stays && self.peer.as_ref().is_some_and(|peer| peer.stays)
    }

    /// Where to begin sending our log to a peer that has read it up to `cursor`.
    fn from(&self, cursor: Option<Cursor>) -> IngestSeq {
        cursor
            .filter(|cursor| cursor.log_id == self.local.log_id && cursor.seq <= self.told_head)
            .map_or(IngestSeq::ZERO, |cursor| cursor.seq)
    }

    /// Where the asker goes on reading the peer's log.
    fn note_cursor(&mut self) {
        if let (Role::Asker, Some(peer)) = (self.role, &self.peer) {
            let cursor = self.known_of_peer().map(|known| known.cursor);
            self.read = cursor.filter(|cursor| cursor.log_id == peer.log_id);
        }
    }

    fn known_of_peer(&self) -> Option<&Known> {
        let peer = self.peer.as_ref()?;
        self.known.iter().find(|known| known.peer == peer.device_id)
    }

    fn forget_cursor(&mut self, effects: &mut Effects) {
        if let Some(peer) = &self.peer {
            let (peer, log_id) = (peer.device_id.clone(), peer.log_id);
            self.ask(
                Request::ForgetCursor { peer, log_id },
                Want::Nothing,
                effects,
            );
        }
    }

    fn ask(&mut self, request: Request, want: Want, effects: &mut Effects) {
        self.wants.push_back(want);
        effects.push(Effect::Ask(request));
    }

    fn close(&self, reason: Reason, text: Option<&str>, effects: &mut Effects) {
        let text = text.map(str::to_owned);
        effects.push(Effect::Send(Message::Close(Close { reason, text })));
    }

    fn fail(&mut self, err: SessionError, effects: &mut Effects) {
        match &err {
            SessionError::Fault(text) => self.close(Reason::FAULT, Some(text), effects),
            SessionError::Log(failed) => self.close(Reason::LOG, Some(&failed.text), effects),
            // It may hear that we give up, if it is there at all.
            SessionError::Silent => self.close(Reason::OTHER, Some("silence"), effects),
            _ => {}
        }
        self.end(Err(err), effects);
    }

    fn end(&mut self, result: Result<(), SessionError>, effects: &mut Effects) {
        self.release(effects);
        self.over = true;
        effects.push(Effect::End(result));
    }
}

fn unexpected(message: &Message) -> SessionError {
    SessionError::Fault(format!("`{}` where it makes no sense", message.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_start_follows_from_the_log_and_the_head() {
        let log = |n| LogId::from_bytes([n; 16]);
        let seq = |n| IngestSeq::new(n).unwrap();
        let known = |n, at| {
            Some(Cursor {
                log_id: log(n),
                seq: seq(at),
            })
        };
        for (before, head, expected) in [
            (None, 9, Start::First),
            (known(1, 5), 9, Start::Resume),
            (known(1, 9), 9, Start::Resume),
            (known(1, 10), 9, Start::OlderCopy),
            (known(2, 5), 9, Start::NewLog),
        ] {
            assert_eq!(Start::decide(before, log(1), seq(head)), expected);
        }
    }
}
