//! What is typed, in fzf's extended search syntax.
//!
//! | typed | means |
//! |---|---|
//! | `abc` | the letters in this order, anything between them |
//! | `'abc` | exactly this text |
//! | `^abc`, `abc$`, `^abc$` | at the start, at the end, the whole command |
//! | `!abc`, `!^abc`, `!abc$` | not this |
//! | `a b` | both |
//! | `a \| b` | either (binds tighter than the blank) |
//! | `a\ b` | a blank that is searched for |
//!
//! A word with a capital letter is matched with case, one without regardless of it.

use frizbee::{Matching, Pattern};
use unicode_normalization::UnicodeNormalization as _;

/// Longer words are looked for as they are: nobody types them by heart, and scoring every way to
/// scatter them takes memory by the square.
const FUZZY_BYTES_MAX: usize = 256;

/// A parsed query: every group must match, of a group any one word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(super) groups: Vec<Vec<Word>>,
}

/// One word of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(super) text: String,
    pub(super) matching: Matching,
    pub(super) negated: bool,
}

impl Query {
    /// Reads what is typed. Every text means something; signs without a word mean nothing yet.
    pub(crate) fn parse(typed: &str) -> Query {
        let mut query = Query::default();
        let mut either = false;
        for token in tokens(typed) {
            if token == "|" && !query.groups.is_empty() && !either {
                either = true;
                continue;
            }
            let Some(word) = Word::parse(&token) else {
                continue;
            };
            match query.groups.last_mut() {
                Some(group) if either => group.push(word),
                _ => query.groups.push(vec![word]),
            }
            either = false;
        }
        query
    }

    /// Whether everything matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether whatever matches this query is certain to match `before` too, so that only what
    /// `before` found needs to be looked at.
    pub(crate) fn narrows(&self, before: &Query) -> bool {
        before.groups.len() <= self.groups.len()
            && before
                .groups
                .iter()
                .zip(&self.groups)
                .all(|(before, now)| now == before || group_narrows(now, before))
    }
}

fn group_narrows(now: &[Word], before: &[Word]) -> bool {
    matches!((now, before), ([now], [before]) if now.narrows(before))
}

/// Splits at blanks; a backslash keeps a blank in its word, as in fzf.
fn tokens(typed: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    let mut chars = typed.nfc().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' if chars.next_if_eq(&' ').is_some() => token.push(' '),
            char if char.is_whitespace() => tokens.extend(take(&mut token)),
            char => token.push(char),
        }
    }
    tokens.extend(take(&mut token));
    tokens
}

fn take(token: &mut String) -> Option<String> {
    (!token.is_empty()).then(|| std::mem::take(token))
}

impl Word {
    /// `None` when nothing is left behind the signs.
    fn parse(token: &str) -> Option<Word> {
        let mut text = token;
        let mut matching = Matching::Fuzzy;
        let negated = strip(&mut text, |text| text.strip_prefix('!'));
        if negated {
            // The opposite of a fuzzy match would leave hardly anything.
            matching = Matching::Substring;
        }
        let at_end = text != "$" && strip(&mut text, |text| text.strip_suffix('$'));
        if strip(&mut text, |text| text.strip_prefix('\'')) {
            matching = match negated {
                true => Matching::Fuzzy,
                false => Matching::Substring,
            };
        } else if strip(&mut text, |text| text.strip_prefix('^')) {
            matching = Matching::Prefix;
        }
        matching = match (at_end, matching) {
            (true, Matching::Prefix) => Matching::Exact,
            (true, _) => Matching::Suffix,
            (false, matching) => matching,
        };
        if matching == Matching::Fuzzy && text.len() > FUZZY_BYTES_MAX {
            matching = Matching::Substring;
        }
        (!text.is_empty()).then(|| Word {
            text: text.to_owned(),
            matching,
            negated,
        })
    }

    /// For frizbee.
    pub(super) fn pattern(&self) -> Pattern {
        Pattern::new(&self.text, frizbee::PatternConfig::default())
            .matching(Some(self.matching))
            .negated(self.negated)
    }

    /// Every command with `self` in it has `before` in it too.
    fn narrows(&self, before: &Word) -> bool {
        let longer = self.text.starts_with(&before.text);
        let grows = matches!(
            (before.matching, self.matching),
            (Matching::Fuzzy, Matching::Fuzzy)
                | (Matching::Fuzzy | Matching::Substring, Matching::Substring)
                | (
                    Matching::Fuzzy | Matching::Substring | Matching::Prefix,
                    Matching::Prefix
                )
        );
        longer && grows && !self.negated && !before.negated
    }
}

fn strip<'a>(text: &mut &'a str, sign: impl FnOnce(&'a str) -> Option<&'a str>) -> bool {
    match sign(text) {
        Some(rest) => {
            *text = rest;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(typed: &str) -> Vec<Vec<(String, Matching, bool)>> {
        Query::parse(typed)
            .groups
            .into_iter()
            .map(|group| {
                group
                    .into_iter()
                    .map(|word| (word.text, word.matching, word.negated))
                    .collect()
            })
            .collect()
    }

    #[test]
    fn signs_choose_how_a_word_matches() {
        use Matching::{Exact, Fuzzy, Prefix, Substring, Suffix};
        for (typed, text, matching, negated) in [
            ("abc", "abc", Fuzzy, false),
            ("'abc", "abc", Substring, false),
            ("^abc", "abc", Prefix, false),
            ("abc$", "abc", Suffix, false),
            ("^abc$", "abc", Exact, false),
            ("!abc", "abc", Substring, true),
            ("!^abc", "abc", Prefix, true),
            ("!abc$", "abc", Suffix, true),
            ("!'abc", "abc", Fuzzy, true),
            ("$", "$", Fuzzy, false),
            ("a\\ b", "a b", Fuzzy, false),
            ("a\\b", "a\\b", Fuzzy, false),
            ("한글", "한글", Fuzzy, false),
            ("\u{1112}\u{1161}\u{11ab}", "한", Fuzzy, false),
        ] {
            assert_eq!(
                words(typed),
                [[(text.to_owned(), matching, negated)]],
                "{typed}"
            );
        }
    }

    #[test]
    fn blanks_join_and_bars_choose() {
        let shape = |typed: &str| -> Vec<Vec<String>> {
            words(typed)
                .into_iter()
                .map(|group| group.into_iter().map(|word| word.0).collect())
                .collect()
        };
        assert_eq!(shape("a b"), [vec!["a"], vec!["b"]]);
        assert_eq!(shape("a | b c"), [vec!["a", "b"], vec!["c"]]);
        assert_eq!(shape("a | b | c"), [vec!["a", "b", "c"]]);
        assert_eq!(shape("| a"), [vec!["|"], vec!["a"]]);
        assert_eq!(shape("a |"), [vec!["a"]]);
        assert!(shape("  ").is_empty());
        assert!(shape("! ^ '").is_empty());
    }

    #[test]
    fn a_longer_word_narrows_and_a_longer_exclusion_does_not() {
        let narrows = |now: &str, before: &str| Query::parse(now).narrows(&Query::parse(before));
        assert!(narrows("gi", "g"));
        assert!(narrows("git push", "git p"));
        assert!(narrows("git push", "git"));
        assert!(narrows("git !x", "git"));
        assert!(narrows("^gi", "^g"));
        assert!(narrows("g", ""));
        assert!(!narrows("git !xy", "git !x"));
        assert!(!narrows("ab$", "a$"));
        assert!(!narrows("a | bc", "a | b"));
        assert!(!narrows("a | b", "a"));
        assert!(!narrows("'gi", "^g"));
        assert!(!narrows("g", "gi"));
    }
}
