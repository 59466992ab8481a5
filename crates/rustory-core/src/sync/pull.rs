//! Reading another device's log from a cursor to its head.
//!
//! The machine asks for a page, hands what came to be stored together with the cursor that covers
//! it, and asks for the next page before the first one is stored, so that network and disk work at
//! the same time. It trusts no number of the peer's: a page that can't be true ends the pull with
//! one error, and what was stored before stays.

use crate::cursor::{Cursor, IngestSeq, LogId};
use crate::entry::Entry;

/// Why a pull starts where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Never met before.
    First,
    /// Where the last one ended.
    Resume,
    /// The peer has another log than last time: a new or recreated database.
    NewLog,
    /// The cursor lies beyond the peer's head: its database is an older copy.
    OlderCopy,
}

impl Start {
    /// Decides from where to read a peer's log, given how far it was read before.
    ///
    /// A position means nothing in another log, and a cursor beyond the head says that the log was
    /// set back and may have grown differently since: both are read from the start. Entries that
    /// are there already are told by their ids, so reading again costs time and nothing else.
    #[must_use]
    pub fn decide(known: Option<Cursor>, log_id: LogId, head: IngestSeq) -> (Start, IngestSeq) {
        match known {
            None => (Start::First, IngestSeq::ZERO),
            Some(cursor) if cursor.log_id != log_id => (Start::NewLog, IngestSeq::ZERO),
            Some(cursor) if cursor.seq > head => (Start::OlderCopy, IngestSeq::ZERO),
            Some(cursor) => (Start::Resume, cursor.seq),
        }
    }
}

/// A piece of a peer's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The log it comes from.
    pub log_id: LogId,
    /// What could be read of it, in the log's order.
    pub entries: Vec<Entry>,
    /// How many more there were that could not be read.
    pub unreadable: usize,
    /// The position of the last one; `None` for an empty page.
    pub last: Option<IngestSeq>,
    /// Whether there is more behind it.
    pub more: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The page that was asked for.
    Page(Page),
    /// What was handed over is stored.
    Stored,
}

/// What to do now, in this order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Ask for at most `limit` entries behind `after`.
    Fetch {
        /// The position to read behind.
        after: IngestSeq,
        /// How many.
        limit: usize,
    },
    /// Store these and the cursor in one transaction.
    Store {
        /// What came.
        entries: Vec<Entry>,
        /// What it covers.
        cursor: Cursor,
    },
    /// The end of the log is reached and everything is stored.
    Done,
}

/// Why a pull ends early. What was stored before stays, and the next one goes on from there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// The peer's database was replaced while it was read.
    #[error("the peer's log changed in the middle of the exchange")]
    LogChanged,
    /// An empty page that claims that more follows.
    #[error("the peer sent an empty page and says that there is more")]
    EmptyButMore,
    /// A page that does not lie behind what was asked for.
    #[error("the peer's cursor does not move on: {last} after {after}")]
    CursorStands {
        /// What it sent.
        last: IngestSeq,
        /// What was asked for.
        after: IngestSeq,
    },
    /// Entries without a position, or a position without entries.
    #[error("the peer sent a page whose entries and position do not fit together")]
    Inconsistent,
    /// More entries than were asked for.
    #[error("the peer sent {sent} entries where {limit} were asked for")]
    TooMany {
        /// How many came.
        sent: usize,
        /// How many were asked for.
        limit: usize,
    },
    /// A page that nobody asked for.
    #[error("the peer sent a page that was not asked for")]
    Unasked,
}

/// One pull from one peer.
#[derive(Debug)]
pub struct Pull {
    log_id: LogId,
    limit: usize,
    /// The peer's head when this began: what grows behind it is for the next round, so that a
    /// round ends.
    until: IngestSeq,
    /// Behind what the next page must lie; `None`: none is asked for.
    asked: Option<IngestSeq>,
    /// Handed over and not stored yet.
    storing: usize,
    ended: bool,
}

impl Pull {
    /// Begins to read `log_id` behind `after` and up to its head `until`, `limit` entries at a
    /// time.
    #[must_use]
    pub fn begin(
        log_id: LogId,
        after: IngestSeq,
        until: IngestSeq,
        limit: usize,
    ) -> (Pull, Effect) {
        let pull = Pull {
            log_id,
            limit,
            until,
            asked: Some(after),
            storing: 0,
            ended: false,
        };
        (pull, Effect::Fetch { after, limit })
    }

    /// Takes what happened and says what to do.
    ///
    /// # Errors
    /// [`PullError`] when the peer sent what can't be true; the pull is over then.
    pub fn handle(&mut self, input: Input) -> Result<Vec<Effect>, PullError> {
        match input {
            Input::Page(page) => self.page(page),
            Input::Stored => {
                self.storing = self.storing.saturating_sub(1);
                Ok(self.done_if_over())
            }
        }
    }

    fn page(&mut self, page: Page) -> Result<Vec<Effect>, PullError> {
        let after = self.asked.take().ok_or(PullError::Unasked)?;
        self.check(&page, after)?;
        let Some(last) = page.last else {
            self.ended = true;
            return Ok(self.done_if_over());
        };
        let mut effects = Vec::new();
        if page.more && last < self.until {
            self.asked = Some(last);
            effects.push(Effect::Fetch {
                after: last,
                limit: self.limit,
            });
        } else {
            self.ended = true;
        }
        self.storing += 1;
        effects.push(Effect::Store {
            entries: page.entries,
            cursor: Cursor {
                log_id: self.log_id,
                seq: last,
            },
        });
        Ok(effects)
    }

    fn check(&self, page: &Page, after: IngestSeq) -> Result<(), PullError> {
        let sent = page.entries.len() + page.unreadable;
        if page.log_id != self.log_id {
            return Err(PullError::LogChanged);
        }
        if sent > self.limit {
            let limit = self.limit;
            return Err(PullError::TooMany { sent, limit });
        }
        match page.last {
            None if page.more => Err(PullError::EmptyButMore),
            None if sent > 0 => Err(PullError::Inconsistent),
            None => Ok(()),
            Some(_) if sent == 0 && page.more => Err(PullError::EmptyButMore),
            Some(last) if last <= after => Err(PullError::CursorStands { last, after }),
            // Positions rise by at least one an entry.
            Some(last) if last.get() - after.get() < sent as u64 => Err(PullError::Inconsistent),
            Some(_) => Ok(()),
        }
    }

    fn done_if_over(&self) -> Vec<Effect> {
        if self.ended && self.storing == 0 {
            return vec![Effect::Done];
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::{EntryId, Extra};
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

    fn page(numbers: &[u64], more: bool) -> Page {
        Page {
            log_id: LOG,
            entries: numbers.iter().copied().map(entry).collect(),
            unreadable: 0,
            last: numbers.last().copied().map(seq),
            more,
        }
    }

    #[test]
    fn where_to_start_follows_from_the_log_and_the_head() {
        let known = |log_id, n| {
            Some(Cursor {
                log_id,
                seq: seq(n),
            })
        };
        let other = LogId::from_bytes([2; 16]);
        for (before, head, expect) in [
            (None, 9, (Start::First, 0)),
            (known(LOG, 5), 9, (Start::Resume, 5)),
            (known(LOG, 9), 9, (Start::Resume, 9)),
            (known(LOG, 10), 9, (Start::OlderCopy, 0)),
            (known(other, 5), 9, (Start::NewLog, 0)),
        ] {
            let (start, from) = Start::decide(before, LOG, seq(head));
            assert_eq!((start, from.get()), expect);
        }
    }

    #[test]
    fn the_next_page_is_asked_for_before_this_one_is_stored() {
        let (mut pull, _) = Pull::begin(LOG, seq(0), seq(100), 2);
        let effects = pull.handle(Input::Page(page(&[1, 2], true))).unwrap();
        assert!(matches!(effects[0], Effect::Fetch { after, .. } if after == seq(2)));
        assert!(matches!(effects[1], Effect::Store { .. }));
        let effects = pull.handle(Input::Page(page(&[], false))).unwrap();
        assert_eq!(effects, [], "not done while something is to be stored");
        assert_eq!(pull.handle(Input::Stored).unwrap(), [Effect::Done]);
    }

    #[test]
    fn a_log_that_grows_without_end_does_not_keep_the_round_going() {
        let (mut pull, _) = Pull::begin(LOG, seq(0), seq(4), 2);
        pull.handle(Input::Page(page(&[1, 2], true))).unwrap();
        let effects = pull.handle(Input::Page(page(&[3, 4], true))).unwrap();
        assert!(matches!(effects[..], [Effect::Store { .. }]), "{effects:?}");
        pull.handle(Input::Stored).unwrap();
        assert_eq!(pull.handle(Input::Stored).unwrap(), [Effect::Done]);
    }

    #[test]
    fn what_cannot_be_true_ends_the_pull_with_one_error() {
        let with = |change: &dyn Fn(&mut Page)| {
            let (mut pull, _) = Pull::begin(LOG, seq(10), seq(100), 3);
            let mut page = page(&[11, 12], true);
            change(&mut page);
            pull.handle(Input::Page(page)).unwrap_err()
        };
        assert_eq!(with(&|p| *p = page(&[], true)), PullError::EmptyButMore);
        assert_eq!(with(&|p| p.entries.clear()), PullError::EmptyButMore);
        assert_eq!(with(&|p| p.last = None), PullError::EmptyButMore);
        assert_eq!(
            with(&|p| (p.last, p.more) = (None, false)),
            PullError::Inconsistent
        );
        assert_eq!(
            with(&|p| p.log_id = LogId::from_bytes([9; 16])),
            PullError::LogChanged
        );
        assert_eq!(
            with(&|p| *p = page(&[11, 12, 13, 14], true)),
            PullError::TooMany { sent: 4, limit: 3 }
        );
        assert_eq!(
            with(&|p| p.unreadable = 2),
            PullError::TooMany { sent: 4, limit: 3 }
        );
        assert_eq!(with(&|p| p.last = Some(seq(11))), PullError::Inconsistent);
        for last in [0, 9, 10].map(seq) {
            let after = seq(10);
            assert_eq!(
                with(&|p| p.last = Some(last)),
                PullError::CursorStands { last, after }
            );
        }
    }

    #[test]
    fn a_page_that_nobody_asked_for_is_refused() {
        let (mut pull, _) = Pull::begin(LOG, seq(0), seq(100), 3);
        pull.handle(Input::Page(page(&[1], false))).unwrap();
        assert_eq!(
            pull.handle(Input::Page(page(&[2], false))),
            Err(PullError::Unasked)
        );
    }

    proptest! {
        /// Whatever the log, its gaps and the page size: everything is stored once and in order,
        /// and each cursor covers exactly what was handed over until then.
        #[test]
        fn every_entry_is_stored_once_under_the_cursor_that_covers_it(
            gaps in prop::collection::vec(1u64..4, 0..60),
            limit in 1usize..9,
            from in 0u64..5,
            known_end: bool,
        ) {
            let log: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let serve = |after: u64| {
                let found: Vec<u64> = log.iter().copied().filter(|n| *n > after).take(limit).collect();
                let rest = log.iter().filter(|n| **n > found.last().copied().unwrap_or(after)).count();
                // A server may not know that a full page was the last one.
                page(&found, rest > 0 || (!known_end && found.len() == limit))
            };
            let (mut pull, first) = Pull::begin(LOG, seq(from), seq(u64::from(u32::MAX)), limit);
            let mut todo = std::collections::VecDeque::from([first]);
            let mut stored = Vec::new();
            let mut done = false;
            while let Some(effect) = todo.pop_front() {
                let input = match effect {
                    Effect::Fetch { after, .. } => Input::Page(serve(after.get())),
                    Effect::Store { entries, cursor } => {
                        stored.extend(entries);
                        let covered = log.iter().filter(|n| (from + 1..=cursor.seq.get()).contains(n));
                        prop_assert_eq!(covered.count(), stored.len());
                        Input::Stored
                    }
                    Effect::Done => { done = true; continue }
                };
                todo.extend(pull.handle(input).unwrap());
            }
            prop_assert!(done);
            let expected: Vec<Entry> = log.iter().filter(|n| **n > from).map(|n| entry(*n)).collect();
            prop_assert_eq!(stored, expected);
        }
    }
}
