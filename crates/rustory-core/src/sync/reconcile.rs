//! Finding what differs between two sets of entries, in a few messages whose size follows from
//! the differences and not from the sets: range-based set reconciliation (negentropy) over time,
//! id and content hash.
//!
//! The content hash is part of what is compared, so two different entries under one id are a
//! difference like any other.

use std::fmt;

use negentropy::{Id, Negentropy, NegentropyStorageBase as _, NegentropyStorageVector};

use crate::entry::EntryId;
use crate::limits::RECONCILE_BYTES_MAX;

use super::log::Item;

/// A set of entries as reconciling sees them. 40 bytes an entry.
///
/// Ranges are compared by the sums of their keys, so a key must be spread over its whole width
/// even where ids are not (imports, other programs): the content hash sees to that.
#[derive(Clone, Default)]
pub struct ItemSet(NegentropyStorageVector);

impl ItemSet {
    /// Empty, with room for `count`.
    #[must_use]
    pub fn with_capacity(count: usize) -> ItemSet {
        ItemSet(NegentropyStorageVector::with_capacity(count))
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// Not before reconciling has begun with this set, which takes it.
    pub fn push(&mut self, item: Item) {
        let mut key = [0; 32];
        key[..16].copy_from_slice(item.id.as_bytes());
        key[16..].copy_from_slice(&item.hash.to_be_bytes());
        self.0
            .insert(sortable(item.ts), Id::from_byte_array(key))
            .expect("the set is sealed only by those who own it");
    }

    fn sealed(mut self) -> NegentropyStorageVector {
        self.0
            .seal()
            .expect("sealed once, by whoever takes the set");
        self.0
    }
}

impl fmt::Debug for ItemSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemSet").finish_non_exhaustive()
    }
}

impl FromIterator<Item> for ItemSet {
    fn from_iter<T: IntoIterator<Item = Item>>(items: T) -> ItemSet {
        let mut set = ItemSet::default();
        for item in items {
            set.push(item);
        }
        set
    }
}

/// Times before 1970 sort before those after it; the last value means infinity there.
fn sortable(ts: i64) -> u64 {
    (ts.cast_unsigned() ^ (1 << 63)).min(u64::MAX - 1)
}

/// An entry that one side has and the other has not, or has otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Difference {
    /// Its id.
    pub id: EntryId,
    /// What it says.
    pub hash: u128,
}

impl From<Id> for Difference {
    fn from(key: Id) -> Difference {
        let (id, hash) = key.split_at(16);
        Difference {
            id: EntryId::from_bytes(id.try_into().expect("16 of 32 bytes")),
            hash: u128::from_be_bytes(hash.try_into().expect("16 of 32 bytes")),
        }
    }
}

/// The peer's message can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent a reconciliation message that can't be read: {0}")]
pub struct ReconcileError(String);

impl From<negentropy::Error> for ReconcileError {
    fn from(err: negentropy::Error) -> Self {
        ReconcileError(err.to_string())
    }
}

/// One side of a reconciliation.
pub struct Reconciler {
    machine: Negentropy<'static, NegentropyStorageVector>,
}

impl fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler").finish_non_exhaustive()
    }
}

/// What the one who asks learns from an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The peer lacks these.
    pub have: Vec<Difference>,
    /// We lack these.
    pub need: Vec<Difference>,
    /// To send; `None`: everything is compared.
    pub ask: Option<Vec<u8>>,
}

impl Reconciler {
    /// The side that asks. Returns its first message.
    #[must_use]
    pub fn ask(set: ItemSet) -> (Reconciler, Vec<u8>) {
        let mut machine = machine(set);
        let first = machine
            .initiate()
            .expect("a sealed set in memory can be walked");
        (Reconciler { machine }, first)
    }

    /// The side that answers.
    #[must_use]
    pub fn answering(set: ItemSet) -> Reconciler {
        let machine = machine(set);
        Reconciler { machine }
    }

    /// Takes an answer. It is for the side that asks.
    ///
    /// # Errors
    /// [`ReconcileError`] when the peer's message is not one.
    pub fn learn(&mut self, answer: &[u8]) -> Result<Step, ReconcileError> {
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let ask = self
            .machine
            .reconcile_with_ids(answer, &mut have, &mut need)?;
        Ok(Step {
            have: have.into_iter().map(Difference::from).collect(),
            need: need.into_iter().map(Difference::from).collect(),
            ask,
        })
    }

    /// Answers a message. It is for the side that answers.
    ///
    /// # Errors
    /// [`ReconcileError`] when the peer's message is not one.
    pub fn answer(&mut self, asked: &[u8]) -> Result<Vec<u8>, ReconcileError> {
        Ok(self.machine.reconcile(asked)?)
    }
}

fn machine(set: ItemSet) -> Negentropy<'static, NegentropyStorageVector> {
    let storage = set.sealed();
    debug_assert!(storage.size().is_ok(), "it is sealed");
    Negentropy::owned(storage, RECONCILE_BYTES_MAX as u64)
        .expect("the limit is above the library's minimum of 4,096")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn item(n: u32, version: u8) -> Item {
        Item {
            // Several entries share a time, and some times are before 1970.
            ts: i64::from(n / 3) - 100,
            id: EntryId::from_bytes(u128::from(n).to_be_bytes()),
            // Spread as content hashes are: ranges are compared by sums of these keys.
            hash: xxhash_rust::xxh3::xxh3_128(&[&n.to_be_bytes()[..], &[version]].concat()),
        }
    }

    fn difference(item: Item) -> Difference {
        let Item { id, hash, .. } = item;
        Difference { id, hash }
    }

    /// Runs both sides to the end. Returns what the asker learned, and the number of round trips.
    fn run(ours: &BTreeSet<Item>, theirs: &BTreeSet<Item>) -> (Step, usize) {
        let (mut asker, mut message) = Reconciler::ask(ours.iter().copied().collect());
        let mut answerer = Reconciler::answering(theirs.iter().copied().collect());
        let mut all = Step::default();
        for round in 1.. {
            let answer = answerer.answer(&message).unwrap();
            assert!(answer.len() <= RECONCILE_BYTES_MAX + 4_096);
            let step = asker.learn(&answer).unwrap();
            all.have.extend(step.have);
            all.need.extend(step.need);
            let Some(ask) = step.ask else {
                return (all, round);
            };
            message = ask;
        }
        unreachable!()
    }

    proptest! {
        #[test]
        fn exactly_the_differences_are_found(
            ours in prop::collection::btree_set((0u32..3_000, 0u8..2), 0..800),
            theirs in prop::collection::btree_set((0u32..3_000, 0u8..2), 0..800),
        ) {
            let set = |of: &BTreeSet<(u32, u8)>| -> BTreeSet<Item> {
                of.iter().map(|(n, version)| item(*n, *version)).collect()
            };
            let (ours, theirs) = (set(&ours), set(&theirs));
            let (found, _) = run(&ours, &theirs);
            let missing = |of: &BTreeSet<Item>, from: &BTreeSet<Item>| -> BTreeSet<Difference> {
                of.difference(from).copied().map(difference).collect()
            };
            prop_assert_eq!(found.have.iter().copied().collect::<BTreeSet<_>>(), missing(&ours, &theirs));
            prop_assert_eq!(found.need.iter().copied().collect::<BTreeSet<_>>(), missing(&theirs, &ours));
        }

        #[test]
        fn no_bytes_of_a_peer_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let set = || (0..100).map(|n| item(n, 0)).collect::<ItemSet>();
            for start in [&[][..], &[0x61]] {
                let message = [start, &bytes].concat();
                let _ = Reconciler::answering(set()).answer(&message);
                let _ = Reconciler::ask(set()).0.learn(&message);
            }
        }
    }

    #[test]
    fn a_hundred_thousand_entries_with_few_differences_take_few_messages() {
        let ours: BTreeSet<Item> = (0..100_000).map(|n| item(n, 0)).collect();
        let mut theirs = ours.clone();
        for n in [5, 50_000, 99_999] {
            theirs.remove(&item(n, 0));
        }
        theirs.insert(item(200_000, 0));
        let (found, rounds) = run(&ours, &theirs);
        assert_eq!((found.have.len(), found.need.len()), (3, 1));
        assert!(rounds <= 4, "{rounds}");
    }
}
