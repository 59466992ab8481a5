//! Which commands match a query, and in which order they are shown.
//!
//! **Order.** fzf's ctrl+r, which people have in their fingers, sorts by score and takes the newest
//! of equal scores. Scores, however, differ by a point or two for reasons that nobody sees (whether
//! a letter follows a slash or a blank), and then a command of last year stands before the same
//! one of a minute ago. So scores are cut into *bands* of visible quality, and within a band the
//! newest is first:
//!
//! 1. every word in one piece, at the start of a word of the command;
//! 2. in one piece, but inside other words, or as initials (`gco` for `git checkout`);
//! 3. scattered, in steps of how widely.
//!
//! Case never decides: `readme` finds `README.md` and `readme.txt` alike.
//!
//! **Speed.** Matching runs in chunks on as many threads as there are cores, looks at most at what
//! the query before had found, and stops at the next chunk when another query has been asked.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use frizbee::{Config, Match, Matcher, Scoring, SortStrategy};

use super::corpus::Corpus;
use super::query::{Query, Word};

/// Commands a thread matches before it looks whether it is still wanted.
const CHUNK: usize = 2048;
/// Below this, starting a thread costs more than it saves.
const ITEMS_A_THREAD_MIN: usize = 8 * CHUNK;
/// More threads than this only take turns at the memory.
const THREADS_MAX: usize = 8;

/// What matched, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matches {
    /// `None`: everything, newest first.
    order: Option<Vec<u32>>,
    len: usize,
}

impl Matches {
    pub(crate) fn everything(corpus: &Corpus) -> Matches {
        Matches {
            order: None,
            len: corpus.len(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The item shown at `position`, 0 being the best.
    pub(crate) fn get(&self, position: usize) -> Option<u32> {
        match &self.order {
            None if position < self.len => u32::try_from(position).ok(),
            None => None,
            Some(order) => order.get(position).copied(),
        }
    }

    /// Where an item is shown.
    pub(crate) fn position(&self, index: u32) -> Option<usize> {
        match &self.order {
            None => Some(index as usize).filter(|&position| position < self.len),
            Some(order) => order.iter().position(|&item| item == index),
        }
    }

    fn candidates(&self) -> Option<Vec<u32>> {
        let mut candidates = self.order.clone()?;
        candidates.sort_unstable();
        Some(candidates)
    }
}

/// Tells a search that nobody waits for it any more.
#[derive(Debug, Default)]
pub(crate) struct Wanted(AtomicU64);

impl Wanted {
    /// From now on, this is the search that is waited for.
    pub(crate) fn set(&self, search: u64) {
        self.0.store(search, Ordering::Relaxed);
    }

    pub(crate) fn is(&self, search: u64) -> bool {
        self.0.load(Ordering::Relaxed) == search
    }
}

/// Finds what matches `query`; `None` when `search` is not wanted any more.
///
/// `within`: what a query that this one narrows has found in the same corpus.
pub(crate) fn find(
    corpus: &Corpus,
    query: &Query,
    within: Option<&Matches>,
    wanted: &Wanted,
    search: u64,
) -> Option<Matches> {
    if query.is_empty() {
        return Some(Matches::everything(corpus));
    }
    let candidates = within.and_then(Matches::candidates);
    let count = candidates.as_ref().map_or(corpus.len(), Vec::len);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut engine = Engine::new(query);
        let mut hits = Vec::new();
        while wanted.is(search) {
            let from = next.fetch_add(CHUNK, Ordering::Relaxed);
            if from >= count {
                return Some(hits);
            }
            let chunk = from..count.min(from + CHUNK);
            match &candidates {
                Some(list) => engine.run(corpus, list[chunk].iter().copied(), &mut hits),
                None => engine.run(corpus, chunk.map(|i| i as u32), &mut hits),
            }
        }
        None
    };
    let threads = threads(count);
    let found: Option<Vec<Vec<Hit>>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = vec![work()];
        found.extend(others.into_iter().map(|other| {
            other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }));
        found.into_iter().collect()
    });
    Some(ranked(found?.concat()))
}

fn threads(count: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores
        .min(THREADS_MAX)
        .min(count / ITEMS_A_THREAD_MIN)
        .max(1)
}

/// A command that matches, and how well: 0 is the best band.
#[derive(Clone, Copy, Debug)]
struct Hit {
    index: u32,
    band: u8,
}

const BANDS: usize = 32;

/// Best band first; within one, in the corpus's order, which is newest first.
fn ranked(hits: Vec<Hit>) -> Matches {
    let mut order = Vec::with_capacity(hits.len());
    let mut keys: Vec<u64> = hits
        .iter()
        .map(|hit| u64::from(hit.band) << 32 | u64::from(hit.index))
        .collect();
    drop(hits);
    keys.sort_unstable();
    order.extend(keys.iter().map(|key| (key & u64::from(u32::MAX)) as u32));
    Matches {
        len: order.len(),
        order: Some(order),
    }
}

fn config() -> Config {
    Config::default()
        .sort(SortStrategy::IndexAsc)
        .scoring(SCORING)
}

const SCORING: Scoring = Scoring {
    match_score: 12,
    mismatch_penalty: 6,
    gap_open_penalty: 5,
    gap_extend_penalty: 1,
    prefix_bonus: WORD_START_BONUS,
    capitalization_bonus: 0,
    matching_case_bonus: 0,
    exact_match_bonus: 0,
    delimiter_bonus: WORD_START_BONUS,
};

/// For the first letter of the command, and for one behind a blank, a slash and the like.
const WORD_START_BONUS: u16 = 4;

/// A compiled query.
struct Engine {
    /// The groups of one word each.
    all_of: Matcher,
    /// The others, a matcher a word.
    any_of: Vec<Vec<Matcher>>,
    best_score: u32,
}

impl Engine {
    fn new(query: &Query) -> Engine {
        let config = config();
        let (single, several): (Vec<_>, Vec<_>) =
            query.groups.iter().partition(|group| group.len() == 1);
        let patterns: Vec<_> = single.iter().map(|group| group[0].pattern()).collect();
        let matcher = |word: &Word| Matcher::from_patterns(&[word.pattern()], &config);
        Engine {
            all_of: Matcher::from_patterns(&patterns, &config),
            any_of: several
                .iter()
                .map(|group| group.iter().map(matcher).collect())
                .collect(),
            best_score: query.groups.iter().map(|group| best_score(group)).sum(),
        }
    }

    fn run(
        &mut self,
        corpus: &Corpus,
        items: impl Iterator<Item = u32> + Clone,
        hits: &mut Vec<Hit>,
    ) {
        let texts: Vec<&str> = items.clone().map(|item| corpus.text(item)).collect();
        let mut found = self.all_of.match_list(&texts);
        for group in &mut self.any_of {
            found = either(group, &texts, &found);
        }
        let items: Vec<u32> = items.collect();
        hits.extend(found.iter().map(|found| Hit {
            index: items[found.index as usize],
            band: band(self.best_score, u32::from(found.score)),
        }));
    }
}

/// Of `found`, what any of the words matches, with the best of their scores added.
fn either(words: &mut [Matcher], texts: &[&str], found: &[Match]) -> Vec<Match> {
    let mut best: Vec<Option<u16>> = vec![None; found.len()];
    let candidates: Vec<&str> = found.iter().map(|m| texts[m.index as usize]).collect();
    for word in words {
        for hit in word.match_list(&candidates) {
            let slot = &mut best[hit.index as usize];
            *slot = (*slot).max(Some(hit.score));
        }
    }
    found
        .iter()
        .zip(best)
        .filter_map(|(found, best)| {
            let mut found = *found;
            found.score = found.score.saturating_add(best?);
            Some(found)
        })
        .collect()
}

/// What a group scores when one of its words stands in one piece at the start of a word.
fn best_score(group: &[Word]) -> u32 {
    group
        .iter()
        .filter(|word| !word.negated)
        .map(|word| {
            let letters = u32::try_from(word.text.chars().count()).unwrap_or(u32::MAX / 64);
            letters.saturating_mul(u32::from(SCORING.match_score)) + u32::from(WORD_START_BONUS)
        })
        .min()
        .unwrap_or(0)
}

/// How much worse than best, in steps that a person can see.
fn band(best: u32, score: u32) -> u8 {
    let loss = best.saturating_sub(score);
    let band = match loss {
        0 => 0,
        1..=4 => 1,
        _ => 2 + (loss - 5) / 8,
    };
    band.min(BANDS as u32 - 1) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finder::corpus::Builder;
    use frizbee::Matching;
    use proptest::prelude::*;

    /// A corpus whose first command is the newest.
    fn corpus(newest_first: &[&str]) -> Corpus {
        let mut builder = Builder::default();
        for (i, cmd) in newest_first.iter().enumerate() {
            builder.add(1_000_000 - i as i64, 1_000_000 - i as i64, (*cmd).into());
        }
        builder.finish()
    }

    fn found<'a>(corpus: &'a Corpus, typed: &str) -> Vec<&'a str> {
        let matches = run(corpus, typed, None);
        (0..matches.len())
            .map(|at| corpus.text(matches.get(at).unwrap()))
            .collect()
    }

    fn run(corpus: &Corpus, typed: &str, within: Option<&Matches>) -> Matches {
        let wanted = Wanted::default();
        wanted.set(1);
        find(corpus, &Query::parse(typed), within, &wanted, 1).unwrap()
    }

    #[test]
    fn equally_good_commands_are_listed_newest_first() {
        let corpus = corpus(&["cd /src; git push", "git push -f", "git push"]);
        assert_eq!(
            found(&corpus, "git push"),
            ["cd /src; git push", "git push -f", "git push"]
        );
    }

    #[test]
    fn whole_words_come_before_parts_and_parts_before_scattered_letters() {
        let corpus = corpus(&["lots more", "cat false", "sudo ls", "ls -la"]);
        assert_eq!(
            found(&corpus, "ls"),
            ["sudo ls", "ls -la", "cat false", "lots more"]
        );
    }

    #[test]
    fn case_counts_only_when_a_capital_is_typed() {
        let corpus = corpus(&["vi README", "vi readme"]);
        assert_eq!(found(&corpus, "readme"), ["vi README", "vi readme"]);
        assert_eq!(found(&corpus, "README"), ["vi README"]);
    }

    #[test]
    fn signs_of_the_query_are_followed() {
        let corpus = corpus(&["git push", "git pull", "legit", "docker push"]);
        for (typed, expect) in [
            ("^git", vec!["git push", "git pull"]),
            ("git$", vec!["legit"]),
            ("'push", vec!["git push", "docker push"]),
            ("!git", vec!["docker push"]),
            ("push !docker", vec!["git push"]),
            ("^docker | ^legit", vec!["legit", "docker push"]),
            ("push | pull ^git", vec!["git push", "git pull"]),
            ("^git\\ push$", vec!["git push"]),
            ("", vec!["git push", "git pull", "legit", "docker push"]),
            ("zzz", vec![]),
        ] {
            assert_eq!(found(&corpus, typed), expect, "{typed}");
        }
    }

    #[test]
    fn a_search_that_is_not_wanted_any_more_gives_nothing() {
        let corpus = corpus(&["git"]);
        let wanted = Wanted::default();
        wanted.set(2);
        assert_eq!(find(&corpus, &Query::parse("g"), None, &wanted, 1), None);
    }

    fn has_letters(text: &str, needle: &str) -> bool {
        let mut rest = text.chars();
        needle.chars().all(|wanted| rest.any(|char| char == wanted))
    }

    proptest! {
        #[test]
        fn what_matches_is_what_a_naive_matcher_finds(
            texts in prop::collection::vec("[abc /]{1,40}", 1..40),
            typed in "[abc]{1,4}( [!^']?[abc]{1,3}[$]?){0,2}",
        ) {
            let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
            let corpus = corpus(&refs);
            let query = Query::parse(&typed);
            let mut expect: Vec<&str> = (0..corpus.len() as u32).map(|i| corpus.text(i)).filter(|text| {
                query.groups.iter().all(|group| group.iter().any(|word| word.negated != match word.matching {
                    Matching::Fuzzy => has_letters(text, &word.text),
                    Matching::Exact => *text == word.text,
                    Matching::Prefix => text.starts_with(&word.text),
                    Matching::Suffix => text.ends_with(&word.text),
                    Matching::Substring => text.contains(&word.text),
                }))
            }).collect();
            let mut got = found(&corpus, &typed);
            expect.sort_unstable();
            got.sort_unstable();
            prop_assert_eq!(got, expect);
        }

        #[test]
        fn narrowing_finds_what_searching_everything_finds(
            texts in prop::collection::vec("[abcd ]{1,20}", 1..60),
            typed in "[abcd]{1,3}( !?[abcd]{1,2}){0,2}",
        ) {
            let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
            let corpus = corpus(&refs);
            let mut before: Option<(Query, Matches)> = None;
            for end in 1..=typed.len() {
                let query = Query::parse(&typed[..end]);
                let within = before.as_ref().filter(|(old, _)| query.narrows(old)).map(|(_, m)| m);
                let narrowed = run(&corpus, &typed[..end], within);
                prop_assert_eq!(&narrowed, &run(&corpus, &typed[..end], None));
                before = Some((query, narrowed));
            }
        }

        #[test]
        fn no_text_and_no_query_makes_the_matcher_panic(text in "\\PC{0,60}", typed in "\\PC{0,20}") {
            let corpus = corpus(&[text.as_str(), "x"]);
            found(&corpus, &typed);
        }
    }
}
