//! One exchange between two devices, both ways, as a machine: inputs and the time go in, effects
//! come out. It never waits, reads no clock and touches no log; whoever drives it does.
//!
//! The one that opened the stream asks, the other one answers. The asker leads: both say hello; if
//! their tallies are equal they are identical and that was all. Else it pulls what lies behind its
//! cursor, offers what lies behind the peer's, compares again, and finds what is still different
//! entry by entry. Where both stay connected, each then sends what is newly typed on it at once.
//! `docs/protocol.md` has the picture.

use std::collections::{BTreeSet, VecDeque};

use crate::cursor::{Cursor, IngestSeq};
use crate::digest::Tally;
use crate::entry::{Entry, EntryId};
use crate::limits::ORIGINS_MAX;

use super::flow::{Inflow, Outflow};
use super::log::{Answer, Claim, Compared, Have, Items, Known, Piece, Request, Stored, Summary};
use super::message::{
    Ack, Batch, Close, Fetch, Heard, Hello, Message, News, PROTOCOL, Reason, Reconcile, Standing,
    Stretch, Wanted,
};
use super::overlap::{self, Reader};
use super::reconcile::{Difference, Reconciler, Step};

mod answerer;
mod asker;
mod comparing;
mod dispatch;
mod ending;
mod news;
mod transfer;
mod types;

pub use types::{Effect, Event, Input, Local, Report, Role, SessionError, Start, StreamEnd};

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

/// Most other devices whose entries are passed on to one peer as news. A person has about 10; what
/// is beyond that is left to rounds.
const RELIES_MAX: usize = 100;

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
    /// News to be stored, and what it told of the peer's log.
    StoreNews(Option<Standing>),
    /// What there is once news is stored, of which so many entries were new. `None`: it was a hint.
    Hear {
        told: Standing,
        inserted: Option<u64>,
    },
    /// News to be sent,
    News,
    /// and what there is besides.
    NewsStanding,
    /// Whether there is still what both agreed on.
    Settle,
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

/// News that is not heard yet.
#[derive(Debug, Default)]
struct Announced {
    /// What it told of our log.
    told: Option<Standing>,
    entries: u64,
    /// Those of its entries that are not ours come from these.
    others: Vec<String>,
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
    /// What was read for news that is about to be sent.
    announcing: Option<Piece>,
    /// The news under way.
    announced: Announced,
    /// Other devices whose entries the peer gets from us.
    relies: BTreeSet<String>,
    /// Both had this when they were last found to be the same.
    agreed: Option<Tally>,
    /// A round is over and the two stayed connected.
    lived: bool,
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
            announcing: None,
            announced: Announced::default(),
            relies: BTreeSet::new(),
            agreed: None,
            lived: false,
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
            Input::Came => {
                self.grew |= !self.relies.is_empty();
                self.tell_news(effects);
                Ok(())
            }
            Input::Settle => {
                self.settle(effects);
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
}

fn unexpected(message: &Message) -> SessionError {
    SessionError::Fault(format!("`{}` where it makes no sense", message.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::LogId;

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
