//! What is new in a history file without times. Pure: keys of lines in, how many are known out.
//!
//! The last lines that an import went through are its *anchor*. Found again in the file, everything
//! behind it is new. When it is not (the file was rewritten, or `erasedups` took lines from its
//! middle), lines are counted: of each command, as many as are stored are known.

use hashbrown::HashMap;

use super::identity::KeyIsHash;

/// How many of the last lines are remembered. Long enough that repeats of `ls` and `cd ..` can't
/// be taken for it.
pub(super) const ANCHOR_LINES: usize = 64;

/// When the head of the file was cut within the anchor, this much of it must be left: one equal
/// line at the head of a rewritten file says nothing.
const PARTIAL_LINES_MIN: usize = 16;

/// Counts of commands, by key.
pub(super) type Counts = HashMap<u64, u32, KeyIsHash>;

/// The anchor of a file that was gone through up to the end of `done`.
pub(super) fn anchor(done: &[u64]) -> Vec<u64> {
    done[done.len().saturating_sub(ANCHOR_LINES)..].to_vec()
}

/// How many lines at the head of `file` are known, when `lines` were gone through before and
/// ended in `anchor`. `None`: the anchor is not there.
///
/// Lines may have gone from the head since, so the anchor ends at `lines` or earlier.
pub(super) fn known_lines(file: &[u64], anchor: &[u64], lines: usize) -> Option<usize> {
    if anchor.is_empty() {
        return Some(0);
    }
    (1..=lines.min(file.len())).rev().find(|&end| {
        let visible = end.min(anchor.len());
        (visible == anchor.len() || visible >= PARTIAL_LINES_MIN)
            && file[end - visible..end] == anchor[anchor.len() - visible..]
    })
}

/// Whether the anchor is in `file` beyond doubt, wherever: a copy of the file, or one that moved.
pub(super) fn surely_contains(file: &[u64], anchor: &[u64], lines: usize) -> bool {
    anchor.len() >= PARTIAL_LINES_MIN && known_lines(file, anchor, lines).is_some()
}

/// Marks the lines as known of which `stored` holds as many: the first ones of each command.
pub(super) fn strike_first(file: &[u64], new: &mut [bool], stored: &mut Counts) {
    for (key, new) in file.iter().zip(new) {
        *new = *new && !take(stored, *key);
    }
}

/// Marks the lines as known that `recorded` holds: the last ones of each command, since what was
/// recorded while the file grew is at its end.
pub(super) fn strike_last(file: &[u64], new: &mut [bool], recorded: &mut Counts) {
    for (key, new) in file.iter().zip(new).rev() {
        *new = *new && !take(recorded, *key);
    }
}

fn take(counts: &mut Counts, key: u64) -> bool {
    match counts.get_mut(&key) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(before: &[u64], after: &[u64], expected: Option<usize>) {
        assert_eq!(
            known_lines(after, &anchor(before), before.len()),
            expected,
            "{before:?} {after:?}"
        );
    }

    #[test]
    fn an_unchanged_file_has_nothing_new() {
        check(&[1, 2, 3], &[1, 2, 3], Some(3));
        check(&[1, 1, 1], &[1, 1, 1, 1], Some(3));
    }

    #[test]
    fn the_first_import_knows_nothing() {
        check(&[], &[1, 2], Some(0));
    }

    #[test]
    fn a_cut_within_the_anchor_is_seen_when_enough_is_left() {
        let before: Vec<u64> = (0..100).collect();
        let after: Vec<u64> = (80..120).collect();
        check(&before, &after, Some(20));
        let after: Vec<u64> = (99..120).collect();
        check(&before, &after, None);
    }

    #[test]
    fn a_rewritten_file_is_counted() {
        check(&[1, 2, 3], &[1, 3, 2, 4], None);
        let mut new = [true; 4];
        let mut stored = Counts::from_iter([(1, 1), (2, 1), (3, 1)]);
        strike_first(&[1, 3, 2, 4], &mut new, &mut stored);
        assert_eq!(new, [false, false, false, true]);
    }

    #[test]
    fn recorded_lines_are_those_at_the_end() {
        let mut new = [true; 4];
        strike_last(
            &[7, 8, 7, 9],
            &mut new,
            &mut Counts::from_iter([(7, 1), (9, 1)]),
        );
        assert_eq!(new, [true, true, false, false]);
    }

    proptest! {
        #[test]
        fn growing_and_trimming_leave_only_the_grown_as_new(
            before in prop::collection::vec(0..40u64, 1..300),
            grown in prop::collection::vec(0..40u64, 0..50),
            trimmed in 0..200usize,
        ) {
            let trimmed = trimmed.min(before.len().saturating_sub(PARTIAL_LINES_MIN));
            let trimmed = if before.len() < ANCHOR_LINES { 0 } else { trimmed };
            let after = [&before[trimmed..], &grown].concat();
            prop_assert_eq!(
                known_lines(&after, &anchor(&before), before.len()),
                Some(before.len() - trimmed)
            );
        }
    }
}
