//! What the simulator needs of a log beyond what a session needs: to type into it, to set it back,
//! to damage it, and to look at it.

use rustory_core::entry::{Entry, EntryId};
use rustory_core::sync::{Log, LogIdentity};

/// A log that can be put into a simulated device.
pub trait DeviceLog: Log + Sized {
    /// All of a log at one moment.
    type Snapshot: Clone;

    /// An empty log. `place` differs from device to device.
    fn create(identity: LogIdentity, place: u64) -> Self;

    /// What a snapshot holds, on this device.
    fn restore(snapshot: &Self::Snapshot, place: u64) -> Self;

    /// All of it, as committed.
    fn snapshot(&mut self) -> Self::Snapshot;

    /// Whose log it is now.
    fn identity(&self) -> LogIdentity;

    /// Records what was typed here: with this device's id and, if `numbered`, its next number.
    fn append(&mut self, entry: Entry, numbered: bool) -> Entry;

    /// What is there, by position, hashed from the rows and not from what was counted.
    fn rows(&mut self) -> Vec<Row>;

    /// How many entries there are.
    fn len(&mut self) -> usize;

    /// Whether there are none.
    fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// Removes rows behind the log's back; what it counted is put right or not.
    fn lose(&mut self, ids: &[EntryId], recounts: bool);

    /// Puts an entry in the place of the one with its id, behind the log's back.
    fn rot(&mut self, entry: &Entry);
}

/// One entry in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where.
    pub at: u64,
    /// Which.
    pub id: EntryId,
    /// What it says.
    pub hash: u128,
    /// Whether it fits the limits.
    pub sendable: bool,
}
