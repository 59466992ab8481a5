//! What two devices say to each other in a session. `docs/protocol.md` says the same to people.
//!
//! Each struct is an array on the wire, each field at the index it is marked with: fields are only
//! ever added at the end, as options, so that an older peer skips what it does not know.

use minicbor::{Decode, Encode};

use crate::cursor::{Cursor, IngestSeq, LogId};
use crate::digest::Tally;
use crate::entry::{Entry, EntryId};
use crate::limits::{DEVICE_ID_BYTES_MAX, FIELD_BYTES_MAX};

use super::log::{Have, Summary};

/// The version of the session protocol that this code speaks.
pub const PROTOCOL: u32 = 2;

/// One message.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(context_bound = "AsMut<crate::wire::Before>")]
pub enum Message {
    /// Who is there; first from each side, the asker's first.
    #[n(0)]
    Hello(#[n(0)] Hello),
    /// What is there, origin by origin: the answer to a [`Message::Standing`] that differs.
    #[n(1)]
    Origins(#[n(0)] Summary),
    /// Send what lies behind a cursor. Answered with batches, the last of which ends the stretch.
    #[n(2)]
    Pull(#[n(0)] Wanted),
    /// Entries.
    #[n(3)]
    Batch(#[n(0)] Batch),
    /// Batches are stored.
    #[n(4)]
    Ack(#[n(0)] Ack),
    /// There is something for you. Answered with [`Message::Accept`] or [`Message::Later`].
    #[n(5)]
    Offer(#[n(0)] Summary),
    /// Send it, from here, without what is here.
    #[n(6)]
    Accept(#[n(0)] Wanted),
    /// Not now: entries are coming from another peer, perhaps the same.
    #[n(7)]
    Later,
    /// A step of comparing entry by entry. Answered with one.
    #[n(8)]
    Reconcile(#[n(0)] Reconcile),
    /// Send these. Answered with batches, the last of which ends the list.
    #[n(9)]
    Fetch(#[n(0)] Fetch),
    /// Just typed here. Answered with [`Message::Heard`].
    #[n(10)]
    News(#[n(0)] News),
    /// The news is stored. `None`: from a peer that says no more than that.
    #[n(11)]
    Heard(#[n(0)] Option<Heard>),
    /// Still at work; nothing else to say.
    #[n(12)]
    Wait,
    /// The end of the session, and why.
    #[n(13)]
    Close(#[n(0)] Close),
    /// The asker's: what is there, in sum. Answered with the same sum, or with
    /// [`Message::Origins`].
    #[n(14)]
    Standing(#[n(0)] Standing),
}

impl Message {
    /// Its name, for errors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Message::Hello(_) => "Hello",
            Message::Origins(_) => "Origins",
            Message::Pull(_) => "Pull",
            Message::Batch(_) => "Batch",
            Message::Ack(_) => "Ack",
            Message::Offer(_) => "Offer",
            Message::Accept(_) => "Accept",
            Message::Later => "Later",
            Message::Reconcile(_) => "Reconcile",
            Message::Fetch(_) => "Fetch",
            Message::News(_) => "News",
            Message::Heard(_) => "Heard",
            Message::Wait => "Wait",
            Message::Close(_) => "Close",
            Message::Standing(_) => "Standing",
        }
    }
}

/// Who is there.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Hello {
    /// [`PROTOCOL`]; the smaller of the two is spoken.
    #[n(0)]
    pub protocol: u32,
    /// The device.
    #[n(1)]
    pub device_id: String,
    /// What its user calls it.
    #[n(2)]
    pub device_name: String,
    /// Whose history, if its user said so; not the default.
    #[n(3)]
    pub user_id: Option<String>,
    /// Of its rr.
    #[n(4)]
    pub version: String,
    /// Names its log.
    #[n(5)]
    pub log_id: LogId,
    /// Tells a copy of a log from the log itself: a hash of the machine and the file it is in.
    #[n(6)]
    pub place: u64,
    /// Its last position.
    #[n(7)]
    pub head: IngestSeq,
    /// Of everything in it.
    #[n(8)]
    pub tally: Tally,
    /// Stays connected after the round, to send and hear news.
    #[n(9)]
    pub stays: bool,
    /// The answerer adds what it has by origin when the tallies differ.
    #[n(10)]
    pub origins: Option<Summary>,
    /// For later: the invitation by which a member admitted this device.
    #[cbor(n(11), with = "minicbor::bytes")]
    pub admission: Option<Vec<u8>>,
    /// How far the answerer has read the asker's log, where the tallies differ. A hint, so that
    /// nothing is offered that is there; Accept says it for good.
    #[n(12)]
    pub read: Option<Cursor>,
    /// It reads news whose entries leave out what they have in common with the one before.
    #[n(13)]
    pub brief: Option<bool>,
}

impl Hello {
    /// Whether it has an id and all of its texts are within the limits.
    pub(super) fn fits(&self) -> bool {
        let user_id = self.user_id.as_deref().unwrap_or_default();
        let labels = [&self.device_name, &self.version, user_id];
        !self.device_id.is_empty()
            && self.device_id.len() <= DEVICE_ID_BYTES_MAX
            && labels.iter().all(|text| text.len() <= FIELD_BYTES_MAX)
    }
}

/// What is there, in sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Standing {
    /// The last position.
    #[n(0)]
    pub head: IngestSeq,
    /// Of everything.
    #[n(1)]
    pub tally: Tally,
}

/// From where to send, and what to leave out.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Wanted {
    /// How far the log is read; `None`: not at all.
    #[n(0)]
    pub cursor: Option<Cursor>,
    /// What is here already.
    #[cbor(n(1), with = "crate::wire::haves")]
    pub have: Vec<Have>,
}

/// Entries, in the log's order where they are a stretch of it.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Batch {
    /// The entries that could be read. On the wire each one is a text of its own, so that one that
    /// can't be read does not take the others with it.
    #[cbor(n(0), with = "crate::wire::entries")]
    pub entries: Readable,
    /// They are all of this stretch that the reader lacks; `None`: they were asked for by id.
    #[n(1)]
    pub stretch: Option<Stretch>,
    /// Whether this is the last one of what was asked for.
    #[n(2)]
    pub end: bool,
    /// Whether they mend rows that the reader told were damaged.
    #[n(3)]
    pub mends: Option<bool>,
}

/// A list of entries as it came: what can be read of it, and how many can't.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readable {
    /// Entries that fit the limits.
    pub entries: Vec<Entry>,
    /// How many more there were.
    pub unreadable: u64,
}

impl From<Vec<Entry>> for Readable {
    fn from(entries: Vec<Entry>) -> Readable {
        let unreadable = 0;
        Readable {
            entries,
            unreadable,
        }
    }
}

/// A piece of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stretch {
    /// It begins behind this position,
    #[n(0)]
    pub after: IngestSeq,
    /// and ends with this one.
    #[n(1)]
    pub last: IngestSeq,
}

/// Batches are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ack {
    /// How many since the last one.
    #[n(0)]
    pub batches: u32,
    /// How many of their entries were new.
    #[n(1)]
    pub inserted: u64,
}

/// A step of comparing entry by entry.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Reconcile {
    /// The asker's first: which origins; `None`: all. Else missing.
    #[cbor(n(0), with = "crate::wire::names")]
    pub origins: Option<Vec<String>>,
    /// The asker's first step of a comparison.
    #[n(1)]
    pub first: bool,
    /// What the two machines say to each other.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub step: Vec<u8>,
    /// The answerer's first: some of its rows are not what was stored there.
    #[n(3)]
    pub damaged: Option<bool>,
}

/// Entries by id.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Fetch {
    /// Which.
    #[cbor(n(0), with = "crate::wire::ids")]
    pub ids: Vec<EntryId>,
}

/// Entries just typed on the sender, or on a device whose entries the reader gets from it. None: a
/// hint that the two differ.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(context_bound = "AsMut<crate::wire::Before>")]
pub struct News {
    /// The entries. On the wire a text that is that of the entry before is left out.
    #[cbor(n(0), with = "crate::wire::news")]
    pub entries: Readable,
    /// They are all of this stretch of the sender's log.
    #[n(1)]
    pub stretch: Option<Stretch>,
    /// What is there, in sum, these entries included.
    #[n(2)]
    pub standing: Option<Standing>,
}

impl News {
    /// Whether it only says what there is.
    pub(super) fn is_hint(&self) -> bool {
        self.entries.entries.is_empty() && self.entries.unreadable == 0 && self.stretch.is_none()
    }
}

/// What became of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Heard {
    /// So many of its entries were new.
    #[n(0)]
    pub inserted: u64,
    /// There is the same now as the news told to be at its sender; our head then. `None`: there is
    /// not, or the news did not tell.
    #[n(1)]
    pub same: Option<IngestSeq>,
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Close {
    /// Why.
    #[n(0)]
    pub reason: Reason,
    /// For a person, where there is more to say.
    #[n(1)]
    pub text: Option<String>,
}

/// Why a session ends. A number on the wire; unknown ones are [`Reason::OTHER`] to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Reason(#[n(0)] pub u32);

impl Reason {
    /// Everything was done.
    pub const DONE: Reason = Reason(0);
    /// Something else, told in the text.
    pub const OTHER: Reason = Reason(1);
    /// The two speak no common version.
    pub const PROTOCOL: Reason = Reason(2);
    /// The two belong to different users.
    pub const USER: Reason = Reason(3);
    /// The receiver of this said something that can't be true.
    pub const FAULT: Reason = Reason(4);
    /// The sender's log can't be used now.
    pub const LOG: Reason = Reason(5);
    /// The sender is about to stop.
    pub const STOPPING: Reason = Reason(6);
    /// The two are copies of one log; the one that asked takes a new identity.
    pub const COPY: Reason = Reason(7);
}
