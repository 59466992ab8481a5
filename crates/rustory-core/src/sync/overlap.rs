//! What two logs have in common, as far as their summaries tell: which entries a reader should not
//! be sent, and whether there is anything to send.

use super::log::{Have, HaveWhat, Origin, Summary};

/// A reader and what it has read of the other's log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    /// What it has.
    pub(super) has: &'a Summary,
    /// It goes on from a cursor at this position; `None`: it reads from the start.
    pub(super) from: Option<u64>,
}

impl Reader<'_> {
    /// What to leave out when sending it the other log.
    pub(super) fn have(&self, other: &Summary) -> Vec<Have> {
        let all = other.origins.iter();
        all.filter_map(|theirs| {
            self.what(theirs).map(|what| Have {
                device_id: theirs.device_id.clone(),
                what,
            })
        })
        .collect()
    }

    /// Whether everything that is left out is here, so that having read the rest is having it all.
    pub(super) fn is_whole(&self, other: &Summary) -> bool {
        other.origins.iter().all(|theirs| {
            let ours = self.has.origin(&theirs.device_id);
            self.what(theirs) != Some(HaveWhat::Everything)
                || ours.is_some_and(|ours| ours.tally == theirs.tally)
        })
    }

    /// Whether reading the other log would bring anything, as far as one can tell.
    pub(super) fn gains(&self, other: &Summary) -> bool {
        if self.from.is_some_and(|from| from >= other.head.get()) {
            return false;
        }
        other.origins.iter().any(|theirs| match self.what(theirs) {
            None => true,
            Some(HaveWhat::Everything) => false,
            Some(HaveWhat::Through(through)) => {
                theirs.through > through || (self.from.is_some() && !theirs.is_regular())
            }
        })
    }

    /// What it has of one origin. `None`: nothing, or nothing that could be named.
    ///
    /// Behind a cursor, whatever is not known to be here is sent. From the start, an origin of
    /// which both have some, but whose numbers do not say what, is left to comparing entry by
    /// entry: sending all of it to find a few would cost more.
    fn what(&self, theirs: &Origin) -> Option<HaveWhat> {
        let ours = self.has.origin(&theirs.device_id)?;
        if ours.tally == theirs.tally {
            return Some(HaveWhat::Everything);
        }
        if self.from.is_some() || (ours.is_regular() && theirs.is_regular()) {
            return Some(HaveWhat::Through(ours.through));
        }
        Some(HaveWhat::Everything)
    }
}

/// The origins of which the two have not the same.
pub(super) fn differing(ours: &Summary, theirs: &Summary) -> Vec<String> {
    let mut names: Vec<&String> = [ours, theirs]
        .into_iter()
        .flat_map(|summary| summary.origins.iter().map(|origin| &origin.device_id))
        .filter(|name| {
            let tally = |summary: &Summary| summary.origin(name).map(|origin| origin.tally);
            tally(ours) != tally(theirs)
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().cloned().collect()
}

/// Whether all that differs is that one side has typed or read further than the other: what a
/// cursor brings, the next time at the latest.
pub(super) fn is_a_matter_of_time(ours: &Summary, theirs: &Summary) -> bool {
    differing(ours, theirs).iter().all(|name| {
        let (ours, theirs) = (ours.origin(name), theirs.origin(name));
        let count = |origin: Option<&Origin>| origin.map_or(0, |origin| origin.tally.count);
        let regular = |origin: Option<&Origin>| origin.is_none_or(Origin::is_regular);
        regular(ours) && regular(theirs) && count(ours) != count(theirs)
    })
}

/// How many entries the first lacks of the second's, at least.
pub(super) fn behind(ours: &Summary, theirs: &Summary) -> u64 {
    let missing = |theirs: &Origin| {
        let ours = ours
            .origin(&theirs.device_id)
            .map_or(0, |ours| ours.tally.count);
        theirs.tally.count.saturating_sub(ours)
    };
    // A peer's numbers may be of any size.
    theirs
        .origins
        .iter()
        .map(missing)
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::IngestSeq;
    use crate::digest::{Digest, Tally};

    fn summary(head: u64, origins: &[(&str, u64, u64)]) -> Summary {
        let origins = origins.iter().map(|(name, through, count)| Origin {
            device_id: (*name).to_owned(),
            through: *through,
            tally: Tally {
                count: *count,
                digest: Digest(u128::from(*count)),
            },
        });
        Summary {
            head: IngestSeq::new(head).unwrap(),
            origins: origins.collect(),
        }
    }

    fn check(ours: &[(&str, u64, u64)], theirs: &[(&str, u64, u64)], from: Option<u64>) -> String {
        let (ours, theirs) = (summary(100, ours), summary(100, theirs));
        let reader = Reader { has: &ours, from };
        let have = reader
            .have(&theirs)
            .into_iter()
            .map(|have| match have.what {
                HaveWhat::Everything => format!("{}:all ", have.device_id),
                HaveWhat::Through(through) => format!("{}:{through} ", have.device_id),
            });
        format!("{}{}", have.collect::<String>(), reader.gains(&theirs))
    }

    #[test]
    fn what_is_left_out_follows_from_the_tallies_and_the_numbers() {
        // Equal tallies: nothing to send.
        assert_eq!(check(&[("a", 5, 5)], &[("a", 5, 5)], None), "a:all false");
        // Nothing of it here: all of it.
        assert_eq!(check(&[], &[("a", 5, 5)], None), "true");
        // Both regular: what lies behind.
        assert_eq!(check(&[("a", 5, 5)], &[("a", 7, 7)], None), "a:5 true");
        assert_eq!(check(&[("a", 7, 7)], &[("a", 5, 5)], None), "a:7 false");
        // A gap: from the start it is left to reconciling; behind a cursor it is sent.
        assert_eq!(check(&[("a", 3, 5)], &[("a", 7, 7)], None), "a:all false");
        assert_eq!(check(&[("a", 3, 5)], &[("a", 7, 7)], Some(9)), "a:3 true");
        assert_eq!(check(&[("a", 7, 7)], &[("a", 3, 8)], Some(9)), "a:7 true");
        // The cursor stands at the end: there is nothing to read.
        assert_eq!(check(&[], &[("a", 5, 5)], Some(100)), "false");
    }

    #[test]
    fn what_differs_and_what_is_missing_is_told_by_origin() {
        let ours = summary(9, &[("a", 5, 5), ("b", 2, 2), ("d", 1, 1)]);
        let theirs = summary(9, &[("a", 5, 5), ("b", 4, 4), ("c", 1, 1)]);
        assert_eq!(differing(&ours, &theirs), ["b", "c", "d"]);
        assert_eq!((behind(&ours, &theirs), behind(&theirs, &ours)), (3, 1));
    }
}
