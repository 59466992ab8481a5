//! Which letters of a command a query has matched, for showing them.
//!
//! Not asked of frizbee: the code for it, compiled for every instruction set, is a third of the
//! whole binary. The piece that is shown may differ from the one that was scored, when letters are
//! scattered; which commands match never does.

use frizbee::Matching;

use super::query::{Query, Word};

/// Bytes of a command that are looked at: what fits on no screen needs no colour.
const BYTES_MAX: usize = 16 * 1024;

/// Finds the matched letters of single commands.
#[derive(Debug)]
pub(crate) struct Highlighter {
    words: Vec<Letters>,
}

/// A word as it is compared.
#[derive(Debug)]
struct Letters {
    letters: Vec<char>,
    matching: Matching,
    respects_case: bool,
}

impl Highlighter {
    pub(crate) fn new(query: &Query) -> Highlighter {
        let words = query.groups.iter().flatten().filter(|word| !word.negated);
        Highlighter {
            words: words.map(Letters::of).collect(),
        }
    }

    /// Byte positions in `text` at which matched letters start, ascending.
    pub(crate) fn positions(&self, text: &str) -> Vec<usize> {
        if self.words.is_empty() {
            return Vec::new();
        }
        let text = &text[..text.floor_char_boundary(BYTES_MAX)];
        let places: Vec<(usize, char)> = text.char_indices().collect();
        let mut positions: Vec<usize> = self
            .words
            .iter()
            .flat_map(|word| word.find(&places))
            .map(|index| places[index].0)
            .collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }
}

impl Letters {
    fn of(word: &Word) -> Letters {
        let respects_case = word.text.chars().any(char::is_uppercase);
        Letters {
            letters: word.text.chars().collect(),
            matching: word.matching,
            respects_case,
        }
    }

    fn equals(&self, letter: char, other: char) -> bool {
        letter == other || !self.respects_case && lower(letter) == lower(other)
    }

    /// Indices into `text` of the matched letters.
    fn find(&self, text: &[(usize, char)]) -> Vec<usize> {
        let len = self.letters.len();
        let Some(last) = text.len().checked_sub(len) else {
            return Vec::new();
        };
        let start = match self.matching {
            Matching::Prefix | Matching::Exact => Some(0),
            Matching::Suffix => Some(last),
            Matching::Substring | Matching::Fuzzy => self.piece(text, last),
        };
        match start {
            Some(start) if self.is_at(text, start) => (start..start + len).collect(),
            None if self.matching == Matching::Fuzzy => self.scattered(text),
            _ => Vec::new(),
        }
    }

    fn is_at(&self, text: &[(usize, char)], start: usize) -> bool {
        let there = text[start..].iter().map(|&(_, char)| char);
        self.letters
            .iter()
            .zip(there)
            .all(|(&letter, char)| self.equals(letter, char))
    }

    /// Where all letters stand in one piece, preferably at the start of a word.
    fn piece(&self, text: &[(usize, char)], last: usize) -> Option<usize> {
        let starts_word = |&at: &usize| at == 0 || !text[at - 1].1.is_alphanumeric();
        let mut found = (0..=last).filter(|&at| self.is_at(text, at));
        let first = found.next()?;
        if starts_word(&first) {
            return Some(first);
        }
        Some(found.find(starts_word).unwrap_or(first))
    }

    /// The letters in their order, ending as early as possible and then starting as late.
    fn scattered(&self, text: &[(usize, char)]) -> Vec<usize> {
        let mut wanted = self.letters.iter().peekable();
        let end = text.iter().position(|&(_, char)| {
            wanted.next_if(|&&letter| self.equals(letter, char));
            wanted.peek().is_none()
        });
        let Some(end) = end else {
            return Vec::new();
        };
        let mut wanted = self.letters.iter().rev().peekable();
        let mut found: Vec<usize> = (0..=end)
            .rev()
            .filter(|&at| {
                wanted
                    .next_if(|&&letter| self.equals(letter, text[at].1))
                    .is_some()
            })
            .collect();
        found.reverse();
        found
    }
}

/// One letter for one: the few that become several are compared by their first.
fn lower(letter: char) -> char {
    letter.to_lowercase().next().unwrap_or(letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn positions(typed: &str, text: &str) -> Vec<usize> {
        Highlighter::new(&Query::parse(typed)).positions(text)
    }

    #[test]
    fn matched_letters_are_told_by_byte_positions() {
        for (typed, text, expect) in [
            ("gp", "git push", vec![0, 4]),
            ("git | push !x", "git push", vec![0, 1, 2, 4, 5, 6, 7]),
            ("한", "vi 한글", vec![3]),
            ("ls", "false; ls", vec![7, 8]),
            ("als", "false", vec![1, 2, 3]),
            ("READ", "readme", vec![]),
            ("read", "README", vec![0, 1, 2, 3]),
            ("^git", "legit git", vec![]),
            ("git$", "git legit", vec![6, 7, 8]),
            ("aab", "axab", vec![0, 2, 3]),
            ("", "git", vec![]),
        ] {
            assert_eq!(positions(typed, text), expect, "{typed} in {text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_and_no_query_is_too_much(text in "\\PC{0,60}", typed in "\\PC{0,20}") {
            for at in positions(&typed, &text) {
                prop_assert!(text.is_char_boundary(at) && at < text.len());
            }
        }
    }
}
