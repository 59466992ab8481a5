//! Secrets in commands: what of a command is taken out before it is stored.
//!
//! A *form* is one way in which secrets stand in commands: a token of a known make, a value behind
//! a telling name, a password that an option of some program takes. [`forms`] is the list of them
//! all, and `docs/secrets.md` says the same to users. A secret becomes [`MASK`]; everything around
//! it stays, so the command is still found.
//!
//! Every form has *marks*, texts of at least three bytes without which it can't occur. One pass
//! looks for the first three bytes of all marks at once; only where they stand is anything else
//! asked. So a command without secrets costs about a nanosecond a byte.

mod forms;
mod named;
mod programs;
mod tokens;
mod value;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use forms::{FORMS, Form};

/// What stands in place of a secret.
///
/// Run again it fails where anybody can see why, and in zsh it does not even start.
pub const MASK: &str = "[masked]";

/// The command with every secret of a known form masked; borrowed when it holds none.
///
/// Masking what is masked changes nothing. UTF-8 stays UTF-8.
#[must_use]
pub fn mask(cmd: &[u8]) -> Cow<'_, [u8]> {
    let mut text = Cow::Borrowed(cmd);
    for _ in 0..PASSES_MAX {
        match masked_once(&text) {
            Some(masked) => text = Cow::Owned(masked),
            None => break,
        }
    }
    text
}

/// What is masked may make something else stand where a secret does; rarely more than once.
const PASSES_MAX: usize = 8;

fn masked_once(text: &[u8]) -> Option<Vec<u8>> {
    let found = find(text);
    if found.is_empty() {
        return None;
    }
    let (mut masked, mut at) = (Vec::with_capacity(text.len()), 0);
    for secret in found {
        masked.extend_from_slice(&text[at..secret.start]);
        masked.extend_from_slice(MASK.as_bytes());
        at = secret.end;
    }
    masked.extend_from_slice(&text[at..]);
    Some(masked)
}

/// The names of all forms, as `docs/secrets.md` lists them.
pub fn names() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|form| form.name)
}

/// Where the secrets lie: in order, none of them empty, none touching the next.
fn find(text: &[u8]) -> Vec<Range<usize>> {
    let index = &*INDEX;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = index.next(text, at) {
        at = start + 1;
        for (mark, form) in index.at(text, start) {
            let end = start + mark.len();
            at = at.max(form.find(Place { text, start, end }, &mut found));
        }
    }
    found.retain(|secret| !secret.is_empty() && &text[secret.clone()] != MASK.as_bytes());
    joined(found)
}

fn joined(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.sort_unstable_by_key(|secret| (secret.start, secret.end));
    found.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    found
}

/// Where a mark stands in a command.
#[derive(Clone, Copy)]
struct Place<'a> {
    text: &'a [u8],
    /// The mark's first byte.
    start: usize,
    /// Behind its last.
    end: usize,
}

impl<'a> Place<'a> {
    /// The byte before the mark.
    fn before(&self) -> Option<u8> {
        self.start.checked_sub(1).map(|at| self.text[at])
    }

    /// The byte behind it.
    fn behind(&self) -> Option<u8> {
        self.text.get(self.end).copied()
    }

    /// Everything behind it.
    fn rest(&self) -> &'a [u8] {
        &self.text[self.end..]
    }

    /// The bytes of an alphabet directly behind it.
    fn run(&self, of: fn(u8) -> bool) -> Range<usize> {
        run(self.text, self.end, of)
    }
}

/// The bytes of an alphabet from `at` on.
fn run(text: &[u8], at: usize, of: fn(u8) -> bool) -> Range<usize> {
    let rest = text.get(at..).unwrap_or_default();
    at..at + rest.iter().take_while(|byte| of(**byte)).count()
}

/// Three bytes as one number.
type Gram = u32;

fn gram(bytes: &[u8]) -> Gram {
    u32::from(bytes[0]) | u32::from(bytes[1]) << 8 | u32::from(bytes[2]) << 16
}

/// Finds where a mark may stand.
struct Index {
    /// A bit for the hash of every gram: wrong in about one of a hundred cases, and quick.
    hashes: Vec<u64>,
    /// Sorted by gram.
    marks: Vec<(Gram, &'static str, &'static Form)>,
}

const HASH_BITS: u32 = 16;

static INDEX: LazyLock<Index> = LazyLock::new(|| Index::new(FORMS));

impl Index {
    fn new(forms: &'static [Form]) -> Index {
        let mut marks = Vec::new();
        for form in forms {
            for mark in form.marks {
                let cases = if form.any_case { 8 } else { 1 };
                let mut grams: Vec<Gram> =
                    (0..cases).map(|case| gram(&in_case(mark, case))).collect();
                grams.sort_unstable();
                grams.dedup();
                marks.extend(grams.into_iter().map(|gram| (gram, *mark, form)));
            }
        }
        marks.sort_by_key(|(gram, ..)| *gram);
        let mut hashes = vec![0; 1 << (HASH_BITS - 6)];
        for (gram, ..) in &marks {
            let (word, bit) = slot(*gram);
            hashes[word] |= bit;
        }
        Index { hashes, marks }
    }

    /// The next place from `at` on at which a mark may stand.
    fn next(&self, text: &[u8], at: usize) -> Option<usize> {
        let rest = text.get(at..)?;
        let hit = rest.windows(3).position(|window| {
            let (word, bit) = slot(gram(window));
            self.hashes[word] & bit != 0
        })?;
        Some(at + hit)
    }

    /// The marks that do stand there, with their forms.
    fn at(&self, text: &[u8], start: usize) -> impl Iterator<Item = (&'static str, &'static Form)> {
        let here = gram(&text[start..start + 3]);
        let first = self.marks.partition_point(|(gram, ..)| *gram < here);
        self.marks[first..]
            .iter()
            .take_while(move |(gram, ..)| *gram == here)
            .filter(move |(_, mark, form)| form.is_at(mark, &text[start..]))
            .map(|(_, mark, form)| (*mark, *form))
    }
}

fn slot(gram: Gram) -> (usize, u64) {
    let hash = gram.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

/// The first three bytes of a mark, each in upper case where `case` has its bit.
fn in_case(mark: &str, case: u8) -> [u8; 3] {
    let bytes = mark.as_bytes();
    std::array::from_fn(|i| match case >> i & 1 {
        0 => bytes[i],
        _ => bytes[i].to_ascii_uppercase(),
    })
}
