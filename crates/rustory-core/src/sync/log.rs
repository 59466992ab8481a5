//! What a session needs of a log: the one interface between the sync machines and a store.
//!
//! The machines ask for these through [`Request`]s and never call them; whoever drives a session
//! does ([`answer`]), on whatever thread it likes.

use std::fmt;

use crate::cursor::{Cursor, IngestSeq, LogId};
use crate::digest::Tally;
use crate::entry::{Entry, EntryId};

use super::message::Standing;
use super::reconcile::ItemSet;

/// A log at one moment: everything in it is of the same read transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The last position.
    pub head: IngestSeq,
    /// By origin, ascending by device id. An origin without entries is not listed.
    pub origins: Vec<Origin>,
}

impl Summary {
    /// Of all entries.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.origins.iter().map(|origin| origin.tally).sum()
    }

    /// In sum.
    #[must_use]
    pub(super) fn standing(&self) -> Standing {
        Standing {
            head: self.head,
            tally: self.tally(),
        }
    }

    /// What there is of one origin; nothing when it is not listed.
    #[must_use]
    pub fn origin(&self, device_id: &str) -> Option<&Origin> {
        let at = self
            .origins
            .binary_search_by(|origin| origin.device_id.as_str().cmp(device_id));
        at.ok().map(|at| &self.origins[at])
    }
}

/// What a log has of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The device it was typed on.
    pub device_id: String,
    /// Everything that it numbered from 1 to here is there. 0: not even its first.
    pub through: u64,
    /// Of its entries, those without a number included.
    pub tally: Tally,
}

impl Origin {
    /// Whether every entry has a number of its own and none is missing in between: then `through`
    /// says it all, and two devices that differ differ at the end only (unless numbers were given
    /// out twice, which the digests show).
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.tally.count == self.through
    }
}

/// A reader's word on what it has of one origin, so that it is not sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Have {
    /// The origin.
    pub device_id: String,
    /// Which of its entries.
    pub what: HaveWhat,
}

/// Which entries of an origin a reader has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaveWhat {
    /// Those with a `device_seq` up to this. Entries without one are never left out.
    Through(u64),
    /// All of them, or they are being compared in another way.
    Everything,
}

/// A piece of a log, on its way to a reader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// In the log's order, without what the reader has.
    pub entries: Vec<Entry>,
    /// Everything up to here has been looked at. Never below where the reading began.
    pub last: IngestSeq,
    /// Whether `last` is where the reading was to end.
    pub at_end: bool,
}

/// An entry as reconciling sees it: its time, its id, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Microseconds since 1970.
    pub ts: i64,
    /// Its id.
    pub id: EntryId,
    /// Its content hash, computed from the row.
    pub hash: u128,
}

/// The rows of some origins, read afresh.
#[derive(Debug, Default)]
pub struct Items {
    /// One an entry.
    pub set: ItemSet,
    /// Origins whose rows are not what was counted when they were stored: the disk lost or
    /// changed some.
    pub damaged: Vec<String>,
}

/// How far a log has been exchanged with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The peer's device id.
    pub peer: String,
    /// How far its log is read.
    pub cursor: Cursor,
    /// What was found when the two were last compared.
    pub compared: Option<Compared>,
}

/// The result of comparing two logs, entry by entry where their tallies differed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Ours then.
    pub ours: Tally,
    /// The peer's then.
    pub theirs: Tally,
    /// The peer's head then.
    pub their_head: IngestSeq,
}

impl Compared {
    /// The proof: both hold the same entries.
    #[must_use]
    pub fn identical(&self) -> bool {
        self.ours == self.theirs
    }
}

/// A peer's word that a batch has everything of a stretch of its log that we lack.
///
/// It moves the cursor only if everything before it is here too: see [`Claim::cursor_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose log.
    pub log_id: LogId,
    /// The stretch begins behind this position,
    pub after: IngestSeq,
    /// and ends with this one.
    pub last: IngestSeq,
}

impl Claim {
    /// Where the cursor stands once the batch is stored, given where it stood before.
    ///
    /// Within one log it only rises, and only over a stretch that begins where everything before
    /// is here. A cursor of another log is replaced by a stretch from the beginning alone.
    #[must_use]
    pub fn cursor_after(&self, before: Option<Cursor>) -> Option<Cursor> {
        let to = Cursor {
            log_id: self.log_id,
            seq: self.last,
        };
        match before {
            Some(cursor) if cursor.log_id == self.log_id => {
                if self.after <= cursor.seq && self.last > cursor.seq {
                    Some(to)
                } else {
                    Some(cursor)
                }
            }
            _ if self.after == IngestSeq::ZERO => Some(to),
            other => other,
        }
    }
}

/// What became of entries that were handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// New.
    pub inserted: u64,
    /// There already, by entry id.
    pub ignored: u64,
}

/// Entries of a peer on their way into the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Batched {
    /// From whom.
    pub peer: String,
    /// What came.
    pub entries: Vec<Entry>,
    /// What it covers of the peer's log.
    pub claim: Option<Claim>,
}

/// Which log this is, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The device that writes it.
    pub device_id: String,
    /// Names this database.
    pub log_id: LogId,
}

/// One device's log, as a session sees it. Implemented by the store, and by the simulator.
pub trait Log {
    /// Why something could not be done.
    type Error: LogFailure;

    /// Head, tallies and what is there of each origin, in one snapshot.
    ///
    /// # Errors
    /// What the store says.
    fn summary(&mut self) -> Result<Summary, Self::Error>;

    /// What is remembered of every peer ever met.
    ///
    /// # Errors
    /// What the store says.
    fn known(&mut self) -> Result<Vec<Known>, Self::Error>;

    /// Entries behind `after` up to and including `until`, without what the reader has, cut once
    /// `entries_max` of them or `bytes_max` bytes of text are reached; one oversized entry goes
    /// alone.
    ///
    /// # Errors
    /// What the store says.
    fn read(
        &mut self,
        after: IngestSeq,
        until: IngestSeq,
        have: &[Have],
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Piece, Self::Error>;

    /// Entries of this device and of the `others` named, behind `after` and up to the head, oldest
    /// first, for a peer that is waiting for news, cut as in [`Log::read`]. `at_end` is true only if
    /// the stretch (`after`, `last`] holds no entry of any other device.
    ///
    /// # Errors
    /// What the store says.
    fn news(
        &mut self,
        after: IngestSeq,
        others: &[String],
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Piece, Self::Error>;

    /// The entries with these ids that are there, in any order, cut once `bytes_max` bytes of text
    /// are reached. Returns also how many of the ids were looked up (at least one).
    ///
    /// # Errors
    /// What the store says.
    fn read_ids(
        &mut self,
        ids: &[EntryId],
        bytes_max: usize,
    ) -> Result<(Vec<Entry>, usize), Self::Error>;

    /// Stores entries and moves the peer's cursor by [`Claim::cursor_after`], in one transaction.
    /// Entries that are there are told by their ids.
    ///
    /// # Errors
    /// What the store says; then nothing of it is stored.
    fn store(
        &mut self,
        peer: &str,
        entries: &[Entry],
        claim: Option<Claim>,
    ) -> Result<Stored, Self::Error>;

    /// Stores several batches, one after the other. A store may do so in one transaction.
    ///
    /// # Errors
    /// What the store says. Those before the first error may be stored.
    fn store_many(&mut self, batches: &[Batched]) -> Result<Vec<Stored>, Self::Error> {
        let store = |batch: &Batched| self.store(&batch.peer, &batch.entries, batch.claim);
        batches.iter().map(store).collect()
    }

    /// Puts entries in the place of those with the same ids, whatever these say: rows that the
    /// disk changed. Then counts the origins in `recount` anew from their rows.
    ///
    /// # Errors
    /// What the store says; then nothing of it is stored.
    fn repair(&mut self, entries: &[Entry], recount: &[String]) -> Result<Stored, Self::Error>;

    /// Begins a peer's log anew: it has another one, or an older copy of it.
    ///
    /// # Errors
    /// What the store says.
    fn forget_cursor(&mut self, peer: &str, log_id: LogId) -> Result<(), Self::Error>;

    /// Remembers how a comparison ended. Where the two are identical the cursor moves to the
    /// peer's head: everything in its log up to there is here.
    ///
    /// # Errors
    /// What the store says.
    fn compared(
        &mut self,
        peer: &str,
        log_id: LogId,
        compared: Compared,
    ) -> Result<(), Self::Error>;

    /// The rows of these origins, or of all, read and hashed afresh.
    ///
    /// # Errors
    /// What the store says.
    fn items(&mut self, origins: Option<&[String]>) -> Result<Items, Self::Error>;

    /// Takes a new device id and log id: another machine runs on a copy of this log.
    ///
    /// # Errors
    /// What the store says.
    fn take_new_identity(&mut self) -> Result<LogIdentity, Self::Error>;
}

/// An error of a log, as far as a session cares.
pub trait LogFailure: std::error::Error {
    /// Whether the same call may succeed later with nothing changed by hand.
    fn is_transient(&self) -> bool;
}

impl LogFailure for std::convert::Infallible {
    fn is_transient(&self) -> bool {
        match *self {}
    }
}

/// What a session wants of its device's log. Every one is answered, in the order asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// [`Log::summary`]
    Summary,
    /// [`Log::known`]
    Known,
    /// [`Log::read`]
    Read {
        /// Behind this.
        after: IngestSeq,
        /// Up to and including this.
        until: IngestSeq,
        /// What to leave out.
        have: Vec<Have>,
    },
    /// [`Log::news`]
    News {
        /// Behind this.
        after: IngestSeq,
        /// Of these devices besides this one.
        others: Vec<String>,
    },
    /// [`Log::read_ids`]
    ReadIds {
        /// Which.
        ids: Vec<EntryId>,
    },
    /// [`Log::store`]
    Store {
        /// From whom.
        peer: String,
        /// What came.
        entries: Vec<Entry>,
        /// What it covers of the peer's log.
        claim: Option<Claim>,
    },
    /// [`Log::repair`]
    Repair {
        /// In the place of what is there.
        entries: Vec<Entry>,
        /// Origins to count anew.
        recount: Vec<String>,
    },
    /// [`Log::forget_cursor`]
    ForgetCursor {
        /// Whose.
        peer: String,
        /// The log it has now.
        log_id: LogId,
    },
    /// [`Log::compared`]
    Compared {
        /// With whom.
        peer: String,
        /// The log it has.
        log_id: LogId,
        /// What was found.
        compared: Compared,
    },
    /// [`Log::items`]
    Items {
        /// Of these origins; `None`: of all.
        origins: Option<Vec<String>>,
    },
    /// [`Log::take_new_identity`]
    TakeNewIdentity,
}

/// What a log said.
#[derive(Debug)]
pub enum Answer {
    /// To [`Request::Summary`].
    Summary(Summary),
    /// To [`Request::Known`].
    Known(Vec<Known>),
    /// To [`Request::Read`] and [`Request::News`].
    Piece(Piece),
    /// To [`Request::ReadIds`].
    Found {
        /// Those that are there.
        entries: Vec<Entry>,
        /// How many of the ids were looked up.
        looked_up: usize,
    },
    /// To [`Request::Store`] and [`Request::Repair`].
    Stored(Stored),
    /// To [`Request::Items`].
    Items(Items),
    /// To [`Request::TakeNewIdentity`].
    Identity(LogIdentity),
    /// To everything else.
    Done,
    /// It could not be done; nothing changed.
    Failed(Failed),
}

/// Why a log could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Whether it may work later by itself.
    pub transient: bool,
    /// For a person.
    pub text: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Does what a session asks for.
pub fn answer<L: Log>(log: &mut L, request: Request) -> Answer {
    try_answer(log, request).unwrap_or_else(|err| {
        Answer::Failed(Failed {
            transient: err.is_transient(),
            text: err.to_string(),
        })
    })
}

fn try_answer<L: Log>(log: &mut L, request: Request) -> Result<Answer, L::Error> {
    use crate::limits::{NEWS_ENTRIES_MAX, PIECE_BYTES_MAX as BYTES, PIECE_ENTRIES_MAX as ENTRIES};
    Ok(match request {
        Request::Summary => Answer::Summary(log.summary()?),
        Request::Known => Answer::Known(log.known()?),
        Request::Read { after, until, have } => {
            Answer::Piece(log.read(after, until, &have, ENTRIES, BYTES)?)
        }
        Request::News { after, others } => {
            Answer::Piece(log.news(after, &others, NEWS_ENTRIES_MAX, BYTES)?)
        }
        Request::ReadIds { ids } => {
            let (entries, looked_up) = log.read_ids(&ids, BYTES)?;
            Answer::Found { entries, looked_up }
        }
        Request::Store {
            peer,
            entries,
            claim,
        } => Answer::Stored(log.store(&peer, &entries, claim)?),
        Request::Repair { entries, recount } => Answer::Stored(log.repair(&entries, &recount)?),
        Request::ForgetCursor { peer, log_id } => {
            log.forget_cursor(&peer, log_id)?;
            Answer::Done
        }
        Request::Compared {
            peer,
            log_id,
            compared,
        } => {
            log.compared(&peer, log_id, compared)?;
            Answer::Done
        }
        Request::Items { origins } => Answer::Items(log.items(origins.as_deref())?),
        Request::TakeNewIdentity => Answer::Identity(log.take_new_identity()?),
    })
}
