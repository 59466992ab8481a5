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
