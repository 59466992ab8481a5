//! The distinct commands of a scope, newest first, in as little memory as searching them allows.
//!
//! All texts lie in one string; an item is 24 bytes beside it. At 1,000,000 entries with 176,000
//! distinct commands that is 7 MB of text, 4 MB of items, and while loading 2 MB of hash table.

use std::borrow::Cow;
use std::cmp::Reverse;

use bstr::{BStr, ByteSlice as _};
use hashbrown::HashTable;
use unicode_normalization::{UnicodeNormalization as _, is_nfc_quick};
use xxhash_rust::xxh3::xxh3_64;

/// Where an entry is to be found again.
///
/// Positive: its place in the log. Negative: one that waits in the spool, counted from -1.
pub(crate) type Place = i64;

/// One distinct command: its newest entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    ts: i64,
    place: Place,
    start: u32,
    /// The length in bytes; the highest bit tells that the text is not the exact command.
    len: u32,
}

const INEXACT: u32 = 1 << 31;

/// Distinct commands, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Corpus {
    text: String,
    items: Vec<Item>,
}

impl Corpus {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The text that is searched and shown. Nearly always the command itself.
    pub(crate) fn text(&self, index: u32) -> &str {
        let item = self.items[index as usize];
        let start = item.start as usize;
        &self.text[start..start + (item.len & !INEXACT) as usize]
    }

    /// The command's exact bytes, where they are those of [`Corpus::text`].
    pub(crate) fn exact(&self, index: u32) -> Option<&str> {
        (self.items[index as usize].len & INEXACT == 0).then(|| self.text(index))
    }

    pub(crate) fn place(&self, index: u32) -> Place {
        self.items[index as usize].place
    }

    /// Microseconds since 1970.
    pub(crate) fn ts(&self, index: u32) -> i64 {
        self.items[index as usize].ts
    }

    /// The item of the same entry as item `index` of `other`.
    pub(crate) fn find(&self, other: &Corpus, index: u32) -> Option<u32> {
        let wanted = other.items[index as usize];
        let key = |item: &Item| (Reverse(item.ts), Reverse(item.place));
        let found = self.items.binary_search_by_key(&key(&wanted), key).ok()?;
        u32::try_from(found).ok()
    }
}

/// Collapses entries to distinct commands, whatever order they come in.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    corpus: Corpus,
    /// Hash and item of every text.
    seen: HashTable<(u32, u32)>,
}

impl Builder {
    /// Adds an entry. Of equal commands the newest stays; among equal times the higher place.
    pub(crate) fn add(&mut self, place: Place, ts: i64, cmd: &BStr) {
        let (text, inexact) = searchable(cmd);
        let short = (xxh3_64(text.as_bytes()) >> 32) as u32;
        let corpus = &mut self.corpus;
        let known = self.seen.find(spread(short), |&(other, index)| {
            other == short && corpus.text(index) == text
        });
        if let Some(&(_, index)) = known {
            let item = &mut corpus.items[index as usize];
            if (ts, place) > (item.ts, item.place) {
                (item.ts, item.place) = (ts, place);
            }
            return;
        }
        let start = corpus.text.len();
        let (Ok(from), Ok(len)) = (u32::try_from(start), u32::try_from(text.len())) else {
            // 4 GiB of distinct commands: what came first is the newest.
            return;
        };
        if from.checked_add(len).is_none() || len >= INEXACT {
            return;
        }
        let index =
            u32::try_from(corpus.items.len()).expect("each item but one has a byte of text");
        corpus.text.push_str(&text);
        corpus.items.push(Item {
            ts,
            place,
            start: from,
            len: if inexact { len | INEXACT } else { len },
        });
        // The table asks for the hash of what it moves: the half that is kept stands for it.
        self.seen
            .insert_unique(spread(short), (short, index), |&(short, _)| spread(short));
    }

    pub(crate) fn len(&self) -> usize {
        self.corpus.len()
    }

    /// What came so far.
    pub(crate) fn snapshot(&self) -> Corpus {
        sorted(self.corpus.clone())
    }

    /// Everything.
    pub(crate) fn finish(self) -> Corpus {
        let mut corpus = self.corpus;
        corpus.items.shrink_to_fit();
        sorted(corpus)
    }
}

fn spread(short: u32) -> u64 {
    u64::from(short) << 32 | u64::from(short)
}

fn sorted(mut corpus: Corpus) -> Corpus {
    corpus
        .items
        .sort_by_key(|item| (Reverse(item.ts), Reverse(item.place)));
    corpus
}

/// The text that stands for a command, and whether it differs from it.
///
/// Bytes that are not UTF-8 are written as `\xff`; decomposed characters (file names from macOS)
/// are composed, so that what a keyboard types finds them.
fn searchable(cmd: &BStr) -> (Cow<'_, str>, bool) {
    match cmd.to_str() {
        Ok(text) if text.is_ascii() => (Cow::Borrowed(text), false),
        Ok(text) if is_nfc_quick(text.chars()) == unicode_normalization::IsNormalized::Yes => {
            (Cow::Borrowed(text), false)
        }
        Ok(text) => {
            let composed: String = text.nfc().collect();
            let differs = composed != text;
            (Cow::Owned(composed), differs)
        }
        Err(_) => {
            let mut text = String::with_capacity(cmd.len() + 8);
            for chunk in cmd.utf8_chunks() {
                text.push_str(chunk.valid());
                for byte in chunk.invalid() {
                    text.push_str(&format!("\\x{byte:02x}"));
                }
            }
            (Cow::Owned(text), true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(rows: &[(Place, i64, Vec<u8>)]) -> Corpus {
        let mut builder = Builder::default();
        for (place, ts, cmd) in rows {
            builder.add(*place, *ts, cmd.as_slice().into());
        }
        builder.finish()
    }

    fn listed(corpus: &Corpus) -> Vec<(Place, i64, String)> {
        (0..corpus.len() as u32)
            .map(|i| (corpus.place(i), corpus.ts(i), corpus.text(i).to_owned()))
            .collect()
    }

    #[test]
    fn bytes_that_are_no_text_are_searchable_but_not_taken_for_the_command() {
        let corpus = build(&[(1, 1, b"echo \xff".to_vec()), (2, 2, b"plain".to_vec())]);
        assert_eq!(corpus.exact(0), Some("plain"));
        assert_eq!(corpus.text(1), "echo \\xff");
        assert_eq!(corpus.exact(1), None);
    }

    #[test]
    fn decomposed_text_is_found_as_it_is_typed() {
        let decomposed = "vi \u{1112}\u{1161}\u{11ab}.txt";
        let corpus = build(&[(1, 1, decomposed.into())]);
        assert_eq!(corpus.text(0), "vi 한.txt");
        assert_eq!(corpus.exact(0), None, "what is picked is what was typed");
    }

    proptest! {
        #[test]
        fn collapsing_keeps_what_a_naive_list_keeps(
            rows in prop::collection::vec((0i64..20, "[ab]{0,3}"), 0..60),
        ) {
            let rows: Vec<(Place, i64, Vec<u8>)> = rows
                .into_iter()
                .enumerate()
                .map(|(i, (ts, cmd))| (i as i64 + 1, ts, cmd.into_bytes()))
                .collect();
            let mut naive: Vec<(Place, i64, String)> = Vec::new();
            let mut newest_first = rows.clone();
            newest_first.sort_by_key(|(place, ts, _)| Reverse((*ts, *place)));
            for (place, ts, cmd) in newest_first {
                let cmd = String::from_utf8(cmd).unwrap();
                if !naive.iter().any(|(_, _, seen)| *seen == cmd) {
                    naive.push((place, ts, cmd));
                }
            }
            prop_assert_eq!(listed(&build(&rows)), naive.clone());
            let mut backwards = rows;
            backwards.reverse();
            prop_assert_eq!(listed(&build(&backwards)), naive);
        }

        #[test]
        fn any_bytes_make_searchable_text(cmd: Vec<u8>) {
            let corpus = build(&[(1, 1, cmd.clone())]);
            if let Some(exact) = corpus.exact(0) {
                prop_assert_eq!(exact.as_bytes(), cmd.as_slice());
            }
        }
    }
}
