//! What a session needs of a log: the one interface between the sync machines and a store.
//!
//! The machines ask for these through requests and never call them; whoever
//! drives a session does, on whatever thread it likes.

use crate::cursor::{Cursor, IngestSeq, LogId};
use crate::digest::Tally;
use crate::entry::{Entry, EntryId};

/// A log at one moment: everything in it is of the same read transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The last position.
    pub head: IngestSeq,
    /// Of all entries.
    pub tally: Tally,
    /// By origin, ascending by device id. An origin without entries is not listed.
    pub origins: Vec<Origin>,
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

/// A reader's word that it has everything of one origin up to a number in that device's count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Have {
    /// The origin.
    pub device_id: String,
    /// Its `device_seq` up to here, inclusive. Entries without one are never left out.
    pub through: u64,
}

/// A piece of a log, on its way to a reader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// In the log's order, without what the reader has.
    pub entries: Vec<Entry>,
    /// Everything up to here has been looked at.
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Items {
    /// One an entry, in any order.
    pub items: Vec<Item>,
    /// Origins whose rows are not what was counted when they were stored: the disk lost or
    /// changed some.
    pub damaged: Vec<String>,
}

/// How far a log has been exchanged with one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// How far its log is read.
    pub cursor: Cursor,
    /// What was found when the two were last compared.
    pub compared: Option<Compared>,
}

/// The result of comparing two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Ours then.
    pub ours: Tally,
    /// The peer's then.
    pub theirs: Tally,
    /// Our head then.
    pub head: IngestSeq,
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

/// What became of entries that were handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// New.
    pub inserted: u64,
    /// There already, by entry id.
    pub ignored: u64,
}

/// Which log this is, whose, and where.
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
    type Error: std::error::Error;

    /// Head, tallies and what is there of each origin, in one snapshot.
    ///
    /// # Errors
    /// What the store says.
    fn summary(&mut self) -> Result<Summary, Self::Error>;

    /// What is remembered of a peer.
    ///
    /// # Errors
    /// What the store says.
    fn known(&mut self, peer: &str) -> Result<Option<Known>, Self::Error>;

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

    /// The entries with these ids that are there, in any order; `bytes_max` as in [`Log::read`].
    /// Returns how many of the ids were looked up.
    ///
    /// # Errors
    /// What the store says.
    fn read_ids(
        &mut self,
        ids: &[EntryId],
        bytes_max: usize,
    ) -> Result<(Vec<Entry>, usize), Self::Error>;

    /// Stores entries, and the cursor that covers them, in one transaction. Entries that are there
    /// are told by their ids. Within one log the cursor only rises.
    ///
    /// # Errors
    /// What the store says; then nothing of it is stored.
    fn store(
        &mut self,
        peer: &str,
        entries: &[Entry],
        cursor: Option<Cursor>,
    ) -> Result<Stored, Self::Error>;

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
