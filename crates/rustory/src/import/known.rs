//! Which commands of a file are in the log by another way: the hook recorded them, or they came
//! with somebody else's database.

use rustory_core::Timestamp;

use super::identity::key;

/// Entries that lines of the file may be doubles of, each of which explains one line.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Sorted once complete.
    rows: Vec<Row>,
    sorted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    key: u64,
    ts: Timestamp,
    taken: bool,
}

/// A shell notes the time when it read the line, the hook when the command started; both in their
/// own way of rounding.
pub(super) const SAME_TIME_US: i64 = 2_000_000;

/// One of [`Known`]'s entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match(usize);

impl Known {
    pub(super) fn add(&mut self, ts: Timestamp, cmd: &[u8]) {
        self.rows.push(Row {
            key: key(cmd),
            ts,
            taken: false,
        });
        self.sorted = false;
    }

    /// The earliest entry of this command around this time that explains no other line yet.
    pub(super) fn find(&mut self, ts: Timestamp, cmd: &[u8]) -> Option<Match> {
        if self.rows.is_empty() {
            return None;
        }
        if !self.sorted {
            self.rows.sort_unstable();
            self.sorted = true;
        }
        let key = key(cmd);
        let from = ts.saturating_add_micros(-SAME_TIME_US);
        let until = ts.saturating_add_micros(SAME_TIME_US);
        let first = self
            .rows
            .partition_point(|row| (row.key, row.ts) < (key, from));
        self.rows[first..]
            .iter()
            .take_while(|row| row.key == key && row.ts <= until)
            .position(|row| !row.taken)
            .map(|at| Match(first + at))
    }

    pub(super) fn take(&mut self, found: Match) {
        self.rows[found.0].taken = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms).unwrap()
    }

    #[test]
    fn an_entry_explains_one_line_within_two_seconds() {
        let mut known = Known::default();
        known.add(at(10_500), b"ls");
        assert_eq!(known.find(at(13_000), b"ls"), None);
        assert_eq!(known.find(at(10_000), b"cd"), None);
        let found = known.find(at(9_000), b"ls").unwrap();
        known.take(found);
        assert_eq!(known.find(at(10_000), b"ls"), None);
    }

    #[test]
    fn equal_commands_are_told_apart_by_their_times() {
        let mut known = Known::default();
        for ms in [30_000, 10_000, 20_000] {
            known.add(at(ms), b"ls");
        }
        for ms in [10_000, 20_000, 30_000] {
            let found = known.find(at(ms), b"ls").unwrap();
            known.take(found);
        }
        assert!(known.find(at(20_000), b"ls").is_none());
    }
}
