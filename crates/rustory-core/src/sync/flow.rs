//! Entries on their way: [`Outflow`] reads them from the log and sends them under a window,
//! [`Inflow`] checks what comes and has it stored. The same two serve pulling and pushing.

use std::collections::VecDeque;

use crate::cursor::{IngestSeq, LogId};
use crate::entry::{Entry, EntryId};
use crate::limits::{FETCH_IDS_MAX, WINDOW_BATCHES};

use super::log::{Claim, Have, Piece, Request};
use super::message::{Batch, Stretch};

/// Sending a stretch of our log, or entries by id.
#[derive(Debug)]
pub(super) struct Outflow {
    what: Sending,
    /// A request for the next piece is on its way to the log.
    reading: bool,
    /// Sent and not acknowledged.
    in_flight: usize,
    /// The last batch is sent.
    ended: bool,
    mends: bool,
    left_out: u64,
}

#[derive(Debug)]
enum Sending {
    Stretch {
        /// Sent up to here.
        sent: IngestSeq,
        /// Read up to here; `sent` follows unless all of a piece was left out.
        read: IngestSeq,
        until: IngestSeq,
        have: Vec<Have>,
    },
    Ids(VecDeque<EntryId>),
}

impl Outflow {
    /// Of our log behind `after` and up to `until`, without `have`.
    pub(super) fn stretch(after: IngestSeq, until: IngestSeq, have: Vec<Have>) -> Outflow {
        let what = Sending::Stretch {
            sent: after,
            read: after,
            until: until.max(after),
            have,
        };
        Outflow::new(what, false)
    }

    /// Of the entries with these ids.
    pub(super) fn ids(ids: impl IntoIterator<Item = EntryId>, mends: bool) -> Outflow {
        Outflow::new(Sending::Ids(ids.into_iter().collect()), mends)
    }

    fn new(what: Sending, mends: bool) -> Outflow {
        Outflow {
            what,
            reading: false,
            in_flight: 0,
            ended: false,
            mends,
            left_out: 0,
        }
    }

    /// Where it ends, if it is a stretch of the log.
    pub(super) fn until(&self) -> Option<IngestSeq> {
        match self.what {
            Sending::Stretch { until, .. } => Some(until),
            Sending::Ids(_) => None,
        }
    }

    /// What to read next, if the window is open and nothing is being read.
    pub(super) fn next(&mut self) -> Option<Request> {
        if self.reading || self.ended || self.in_flight >= WINDOW_BATCHES {
            return None;
        }
        self.reading = true;
        Some(match &self.what {
            Sending::Stretch {
                read, until, have, ..
            } => Request::Read {
                after: *read,
                until: *until,
                have: have.clone(),
            },
            Sending::Ids(ids) => Request::ReadIds {
                ids: ids.iter().take(FETCH_IDS_MAX).copied().collect(),
            },
        })
    }

    /// Makes a batch of a piece of the log. `None`: nothing of it may be sent; more follows.
    pub(super) fn piece(&mut self, piece: Piece) -> Option<Batch> {
        self.reading = false;
        self.ended = piece.at_end;
        let Sending::Stretch { sent, read, .. } = &mut self.what else {
            return None;
        };
        *read = piece.last;
        if piece.entries.is_empty() && !piece.at_end {
            return None;
        }
        let stretch = Stretch {
            after: *sent,
            last: piece.last,
        };
        *sent = piece.last;
        Some(self.batch(piece.entries, Some(stretch)))
    }

    /// Makes a batch of entries found by id.
    pub(super) fn found(&mut self, entries: Vec<Entry>, looked_up: usize) -> Batch {
        self.reading = false;
        if let Sending::Ids(ids) = &mut self.what {
            // A log that looks up none would be asked for ever.
            ids.drain(..looked_up.max(1).min(ids.len()));
            self.ended = ids.is_empty();
        }
        self.batch(entries, None)
    }

    fn batch(&mut self, entries: Vec<Entry>, stretch: Option<Stretch>) -> Batch {
        self.in_flight += 1;
        Batch {
            entries: entries.into(),
            stretch,
            end: self.ended,
            mends: self.mends.then_some(true),
        }
    }

    /// Counts entries that were read and must not be sent; returns how many there were so far.
    pub(super) fn left_out(&mut self, count: u64) -> u64 {
        self.left_out += count;
        self.left_out
    }

    /// Takes an acknowledgement. `false`: of more than was sent.
    pub(super) fn acknowledged(&mut self, batches: u32) -> bool {
        let Some(left) = self.in_flight.checked_sub(batches as usize) else {
            return false;
        };
        self.in_flight = left;
        true
    }

    /// Everything is sent and stored there.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.in_flight == 0
    }
}

/// Why a batch can't be true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchFault {
    #[error("a batch after the last one")]
    AfterTheEnd,
    #[error("an empty batch that claims that more follows")]
    EmptyButMore,
    #[error(
        "a batch that does not go on where the one before ended: behind {after}, not {expected}"
    )]
    OutOfPlace {
        after: IngestSeq,
        expected: IngestSeq,
    },
    #[error("a batch whose position does not move on: {last} after {after}")]
    Stands { last: IngestSeq, after: IngestSeq },
    #[error("more entries than positions: {entries} between {after} and {last}")]
    TooDense {
        entries: u64,
        after: IngestSeq,
        last: IngestSeq,
    },
    #[error("a batch from beyond its log's head: {last} of {head}")]
    BeyondHead { last: IngestSeq, head: IngestSeq },
    #[error("entries that were not asked for")]
    Unasked,
    #[error("a stretch where entries were asked for by id, or the other way round")]
    WrongKind,
    #[error("more batches than may be under way at once")]
    WindowExceeded,
}

/// Receiving a stretch of the peer's log, or entries by id.
#[derive(Debug)]
pub(super) struct Inflow {
    what: Receiving,
    ended: bool,
    /// Handed over and not stored yet.
    storing: usize,
    /// Stored and not acknowledged yet.
    owed: u32,
}

#[derive(Debug)]
enum Receiving {
    Stretch {
        log_id: LogId,
        /// Where the next one has to begin.
        after: IngestSeq,
        /// The head that the peer told.
        head: IngestSeq,
        /// Nothing came yet: the peer may say that it begins at the start instead.
        fresh: bool,
        /// What is left out is here; else it is yet to be compared.
        whole: bool,
    },
    /// Entries by id; in the order asked for, cut anywhere. `None`: the peer chooses which.
    Ids(Option<Vec<EntryId>>),
}

/// A batch that passed.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) entries: Vec<Entry>,
    pub(super) claim: Option<Claim>,
    /// The peer found our cursor to be of no use and begins at the start.
    pub(super) restarted: bool,
}

impl Inflow {
    /// Of `log_id` behind `after`, not beyond `head`. Unless it is `whole`, some of it is left out
    /// that is not known to be here, and no cursor may move over that.
    pub(super) fn stretch(log_id: LogId, after: IngestSeq, head: IngestSeq, whole: bool) -> Inflow {
        Inflow::new(Receiving::Stretch {
            log_id,
            after,
            head,
            fresh: true,
            whole,
        })
    }

    /// Of these ids.
    pub(super) fn ids(mut ids: Vec<EntryId>) -> Inflow {
        ids.sort_unstable();
        Inflow::new(Receiving::Ids(Some(ids)))
    }

    /// Of whatever the peer found us to lack.
    pub(super) fn any() -> Inflow {
        Inflow::new(Receiving::Ids(None))
    }

    fn new(what: Receiving) -> Inflow {
        Inflow {
            what,
            ended: false,
            storing: 0,
            owed: 0,
        }
    }

    /// Checks a batch. What passes is to be stored.
    pub(super) fn batch(&mut self, batch: Batch) -> Result<Incoming, BatchFault> {
        if self.ended {
            return Err(BatchFault::AfterTheEnd);
        }
        if self.storing + self.owed as usize >= WINDOW_BATCHES {
            return Err(BatchFault::WindowExceeded);
        }
        let count = batch.entries.entries.len() as u64 + batch.entries.unreadable;
        let mut restarted = false;
        let claim = match (&mut self.what, batch.stretch) {
            (
                Receiving::Stretch {
                    log_id,
                    after,
                    head,
                    fresh,
                    whole,
                },
                Some(stretch),
            ) => {
                restarted = *fresh && stretch.after == IngestSeq::ZERO && *after > IngestSeq::ZERO;
                if restarted {
                    *after = IngestSeq::ZERO;
                }
                check_stretch(stretch, *after, *head, count, batch.end)?;
                *fresh = false;
                *after = stretch.last;
                whole.then_some(Claim {
                    log_id: *log_id,
                    after: stretch.after,
                    last: stretch.last,
                })
            }
            (Receiving::Ids(asked), None) => {
                check_ids(asked.as_deref(), &batch.entries.entries)?;
                None
            }
            _ => return Err(BatchFault::WrongKind),
        };
        self.ended = batch.end;
        self.storing += 1;
        Ok(Incoming {
            entries: batch.entries.entries,
            claim,
            restarted,
        })
    }

    /// One more batch is stored.
    pub(super) fn stored(&mut self) {
        self.storing = self.storing.saturating_sub(1);
        self.owed += 1;
    }

    /// The batches to acknowledge now.
    pub(super) fn take_owed(&mut self) -> u32 {
        std::mem::take(&mut self.owed)
    }

    /// Everything came and is stored.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.storing == 0 && self.owed == 0
    }
}

fn check_stretch(
    stretch: Stretch,
    expected: IngestSeq,
    head: IngestSeq,
    count: u64,
    end: bool,
) -> Result<(), BatchFault> {
    let Stretch { after, last } = stretch;
    if after != expected {
        return Err(BatchFault::OutOfPlace { after, expected });
    }
    if count == 0 && !end {
        return Err(BatchFault::EmptyButMore);
    }
    if last < after || (last == after && !end) {
        return Err(BatchFault::Stands { last, after });
    }
    // Positions rise by at least one an entry.
    if last.get() - after.get() < count {
        return Err(BatchFault::TooDense {
            entries: count,
            after,
            last,
        });
    }
    if last > head.max(after) {
        return Err(BatchFault::BeyondHead { last, head });
    }
    Ok(())
}

fn check_ids(asked: Option<&[EntryId]>, entries: &[Entry]) -> Result<(), BatchFault> {
    let Some(asked) = asked else { return Ok(()) };
    match entries
        .iter()
        .all(|entry| asked.binary_search(&entry.id).is_ok())
    {
        true => Ok(()),
        false => Err(BatchFault::Unasked),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::Extra;
    use crate::time::Timestamp;

    const LOG: LogId = LogId::from_bytes([1; 16]);

    fn seq(n: u64) -> IngestSeq {
        IngestSeq::new(n).unwrap()
    }

    fn entry(n: u64) -> Entry {
        Entry {
            id: EntryId::from_bytes(u128::from(n).to_be_bytes()),
            device_id: "d".into(),
            user_id: String::new(),
            ts: Timestamp::default(),
            cmd: "c".into(),
            cwd: "".into(),
            exit_code: None,
            duration_ms: None,
            shell: String::new(),
            hostname: String::new(),
            version: String::new(),
            device_seq: None,
            session: String::new(),
            extra: Extra::new(),
        }
    }

    fn batch(numbers: &[u64], stretch: Option<(u64, u64)>, end: bool) -> Batch {
        let entries: Vec<Entry> = numbers.iter().copied().map(entry).collect();
        Batch {
            entries: entries.into(),
            stretch: stretch.map(|(after, last)| Stretch {
                after: seq(after),
                last: seq(last),
            }),
            end,
            mends: None,
        }
    }

    #[test]
    fn a_stretch_that_cannot_be_true_is_refused() {
        let of = |change: &dyn Fn(&mut Batch)| {
            let mut inflow = Inflow::stretch(LOG, seq(10), seq(100), true);
            let mut batch = batch(&[11, 12], Some((10, 12)), false);
            change(&mut batch);
            inflow.batch(batch).err()
        };
        let stretch = |after, last| batch(&[11, 12], Some((after, last)), false);
        assert_eq!(of(&|_| {}), None);
        assert_eq!(
            of(&|b| *b = batch(&[], Some((10, 12)), false)),
            Some(BatchFault::EmptyButMore)
        );
        for after in [9, 11] {
            let (after, expected) = (seq(after), seq(10));
            assert_eq!(
                of(&|b| *b = stretch(after.get(), 12)),
                Some(BatchFault::OutOfPlace { after, expected })
            );
        }
        let (after, last) = (seq(10), seq(10));
        assert_eq!(
            of(&|b| *b = stretch(10, 10)),
            Some(BatchFault::Stands { last, after })
        );
        for unreadable in [0, 1] {
            let (after, last) = (seq(10), seq(11 + unreadable));
            let entries = 2 + unreadable;
            assert_eq!(
                of(&|b| {
                    *b = stretch(10, 11 + unreadable);
                    b.entries.unreadable = unreadable;
                }),
                Some(BatchFault::TooDense {
                    entries,
                    after,
                    last
                })
            );
        }
        let (last, head) = (seq(101), seq(100));
        assert_eq!(
            of(&|b| *b = stretch(10, 101)),
            Some(BatchFault::BeyondHead { last, head })
        );
        assert_eq!(of(&|b| b.stretch = None), Some(BatchFault::WrongKind));
    }

    #[test]
    fn only_the_first_batch_may_begin_at_the_start_instead() {
        let mut inflow = Inflow::stretch(LOG, seq(10), seq(100), true);
        let first = inflow.batch(batch(&[1], Some((0, 1)), false)).unwrap();
        assert!(first.restarted);
        let again = inflow.batch(batch(&[2], Some((0, 2)), false));
        assert!(matches!(again, Err(BatchFault::OutOfPlace { .. })));
    }

    #[test]
    fn what_was_not_asked_for_and_what_comes_behind_the_end_is_refused() {
        let ids = [11, 12].map(|n| entry(n).id);
        let mut inflow = Inflow::ids(ids.to_vec());
        let other = inflow.batch(batch(&[12, 13], None, false));
        assert_eq!(other.err(), Some(BatchFault::Unasked));
        inflow.batch(batch(&[12], None, true)).unwrap();
        let more = inflow.batch(batch(&[11], None, true));
        assert_eq!(more.err(), Some(BatchFault::AfterTheEnd));
    }

    #[test]
    fn no_more_than_a_window_is_on_its_way() {
        let mut out = Outflow::stretch(seq(0), seq(100), Vec::new());
        let mut inflow = Inflow::stretch(LOG, seq(0), seq(100), true);
        let piece = |n| Piece {
            entries: vec![entry(n)],
            last: seq(n),
            at_end: false,
        };
        let window = WINDOW_BATCHES as u64;
        for n in 1..=window {
            assert!(out.next().is_some());
            inflow.batch(out.piece(piece(n)).unwrap()).unwrap();
        }
        assert_eq!(out.next(), None);
        let more = || batch(&[window + 1], Some((window, window + 1)), false);
        assert_eq!(
            inflow.batch(more()).err(),
            Some(BatchFault::WindowExceeded),
            "it is a fault to send more"
        );
        inflow.stored();
        assert!(out.acknowledged(inflow.take_owed()));
        assert!(out.next().is_some());
        assert!(inflow.batch(more()).is_ok());
        assert!(
            !out.acknowledged(WINDOW_BATCHES as u32),
            "of more than sent"
        );
    }

    proptest! {
        /// Whatever the log, its gaps, the size of a piece and what is left out: everything else
        /// arrives once and in order, and the stretches are without a gap from the start to the
        /// end, each covering just what came with it.
        #[test]
        fn every_entry_arrives_once_in_the_stretch_that_covers_it(
            gaps in prop::collection::vec((1u64..4, any::<bool>()), 0..60),
            size in 1usize..9,
            from in 0u64..5,
            beyond in 0u64..3,
        ) {
            let log: Vec<(u64, bool)> = gaps
                .iter()
                .scan(0, |at, (gap, kept)| { *at += gap; Some((*at, *kept)) })
                .collect();
            let head = log.last().map_or(0, |(at, _)| *at) + beyond;
            let read = |after: u64, until: u64| {
                let mut rows = log.iter().filter(|(at, _)| (after + 1..=until).contains(at));
                let page: Vec<&(u64, bool)> = rows.by_ref().take(size).collect();
                let at_end = rows.next().is_none();
                let last = match at_end { true => until.max(after), false => page[page.len() - 1].0 };
                let kept = page.iter().filter(|(_, kept)| *kept);
                Piece { entries: kept.map(|(at, _)| entry(*at)).collect(), last: seq(last), at_end }
            };
            let mut out = Outflow::stretch(seq(from), seq(head), Vec::new());
            let mut inflow = Inflow::stretch(LOG, seq(from), seq(head.max(from)), true);
            let (mut came, mut covered) = (Vec::new(), from);
            while !out.is_done() {
                let Some(Request::Read { after, until, .. }) = out.next() else {
                    inflow.stored();
                    prop_assert!(out.acknowledged(inflow.take_owed()));
                    continue;
                };
                let Some(batch) = out.piece(read(after.get(), until.get())) else { continue };
                let incoming = inflow.batch(batch).unwrap();
                let claim = incoming.claim.unwrap();
                prop_assert_eq!(claim.after.get(), covered);
                covered = claim.last.get();
                came.extend(incoming.entries);
                let expected = log.iter().filter(|(at, kept)| *kept && *at > from && *at <= covered);
                prop_assert_eq!(came.len(), expected.count());
                if inflow.storing > 3 {
                    inflow.stored();
                    prop_assert!(out.acknowledged(inflow.take_owed()));
                }
            }
            prop_assert!(inflow.is_done());
            prop_assert_eq!(covered, head.max(from));
            let expected = log.iter().filter(|(at, kept)| *kept && *at > from);
            let expected: Vec<Entry> = expected.map(|(at, _)| entry(*at)).collect();
            prop_assert_eq!(came, expected);
        }
    }
}
