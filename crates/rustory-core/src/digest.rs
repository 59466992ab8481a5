//! What proves that two sets of entries are the same: a count and an order-free sum of hashes.

use std::fmt;
use std::iter::Sum;
use std::ops::{AddAssign, SubAssign};

use crate::entry::Entry;

/// How many entries there are, and the sum of their content hashes modulo 2^128.
///
/// The order in which entries came does not matter, and an entry is added or taken away without
/// looking at the others. Equal tallies are the proof that two sets are equal, against anything
/// but a member that computes collisions on purpose: members read and write everything anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// How many entries.
    pub count: u64,
    /// The sum of their [`Entry::content_hash`] modulo 2^128.
    pub digest: Digest,
}

/// A sum of content hashes modulo 2^128. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub u128);

impl Tally {
    /// Of the entries with these content hashes.
    #[must_use]
    pub fn of(hashes: impl IntoIterator<Item = u128>) -> Tally {
        let mut tally = Tally::default();
        for hash in hashes {
            tally.add(hash);
        }
        tally
    }

    /// Counts an entry in, by its content hash.
    pub fn add(&mut self, hash: u128) {
        self.count = self.count.wrapping_add(1);
        self.digest.0 = self.digest.0.wrapping_add(hash);
    }

    /// Takes an entry out again.
    pub fn remove(&mut self, hash: u128) {
        self.count = self.count.wrapping_sub(1);
        self.digest.0 = self.digest.0.wrapping_sub(hash);
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.count = self.count.wrapping_add(other.count);
        self.digest.0 = self.digest.0.wrapping_add(other.digest.0);
    }
}

impl SubAssign for Tally {
    fn sub_assign(&mut self, other: Tally) {
        self.count = self.count.wrapping_sub(other.count);
        self.digest.0 = self.digest.0.wrapping_sub(other.digest.0);
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        let mut all = Tally::default();
        for tally in tallies {
            all += tally;
        }
        all
    }
}

impl<'a> FromIterator<&'a Entry> for Tally {
    fn from_iter<T: IntoIterator<Item = &'a Entry>>(entries: T) -> Tally {
        Tally::of(entries.into_iter().map(Entry::content_hash))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
