//! What goes into a session and what comes out: the words that its driver and it have in common.

use crate::cursor::{Cursor, IngestSeq, LogId};

use super::super::log::{Answer, Compared, Failed, Request};
use super::super::message::{Close, Hello, Message, PROTOCOL, Reason};
use super::SILENCE_MS_MAX;

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
    /// This device's log has new entries of its own.
    LogGrew,
    /// This device's log has new entries of other devices.
    Came,
    /// Nothing came to this device's log for a while: the two may settle that they are the same.
    Settle,
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
    /// While live: the two are the same again.
    Agreed(Compared),
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
