//! Secrets that are known by the program whose arguments they are.

use std::ops::Range;

use super::Place;
use super::value::{ends_a_word, line_end, secret, skip_blanks, value};

/// Options of a program that take secrets.
pub(super) struct Options {
    /// Only behind this subcommand; empty: always.
    after: &'static str,
    /// Only before the first word that is no option: what follows is another command.
    leading: bool,
    options: &'static [(&'static str, Take)],
}

/// Where an option's secret stands.
#[derive(Clone, Copy)]
pub(super) enum Take {
    /// In the same word (`-pSECRET`); alone the option asks for it.
    Glued,
    /// In the same word, behind `=`, or in the next word.
    Next,
    /// There, behind this byte (`user:SECRET`).
    Behind(u8),
}

impl Options {
    pub(super) const fn of(options: &'static [(&'static str, Take)]) -> Options {
        Options {
            after: "",
            leading: false,
            options,
        }
    }

    pub(super) const fn after(
        subcommand: &'static str,
        options: &'static [(&'static str, Take)],
    ) -> Options {
        Options {
            after: subcommand,
            leading: false,
            options,
        }
    }

    pub(super) const fn leading(options: &'static [(&'static str, Take)]) -> Options {
        Options {
            after: "",
            leading: true,
            options,
        }
    }
}

/// Words behind this many belong to no command that a person has typed.
const WORDS_MAX: usize = 200;

/// Adds the secrets among the arguments of the program that the mark names.
pub(super) fn options(place: Place<'_>, options: &Options, found: &mut Vec<Range<usize>>) {
    let text = place.text;
    if !begins_a_command_word(place) {
        return;
    }
    let mut counts = options.after.is_empty();
    let mut at = place.end;
    for _ in 0..WORDS_MAX {
        at = skip_blanks(text, at);
        let end = word_end(text, at);
        match text.get(at) {
            Some(b'<' | b'>') => at += 1,
            Some(_) if end > at => {
                let word = &text[at..end];
                counts |= word == options.after.as_bytes();
                let taken = options.options.iter().find_map(|(option, take)| {
                    taken(text, at..end, option, *take).filter(|_| counts)
                });
                if options.leading && taken.is_none() && word[0] != b'-' {
                    return;
                }
                let (secret, behind) = taken.unzip();
                found.extend(secret);
                at = behind.unwrap_or(end);
            }
            _ => return,
        }
    }
}

/// Whether the program's name is not the tail of another one.
fn begins_a_command_word(place: Place<'_>) -> bool {
    place.before().is_none_or(|byte| {
        ends_a_word(byte) || matches!(byte, b'/' | b'"' | b'\'' | b'=' | b'\\' | b'!')
    })
}

/// Where a word ends. Quotes that nothing closes end it: they began before it.
fn word_end(text: &[u8], at: usize) -> usize {
    let mut end = at;
    while let Some(&byte) = text.get(end) {
        end = match byte {
            byte if ends_a_word(byte) => break,
            b'\\' if matches!(text.get(end + 1), None | Some(b'"' | b'\'' | b'\n')) => break,
            b'\\' => end + 2,
            b'"' | b'\'' => match memchr::memchr(byte, &text[end + 1..line_end(text, end)]) {
                Some(len) => end + len + 2,
                None => break,
            },
            _ => end + 1,
        };
    }
    end
}

/// The secret that an option in this word takes, and where the word ends that holds it.
fn taken(
    text: &[u8],
    word: Range<usize>,
    option: &str,
    take: Take,
) -> Option<(Range<usize>, usize)> {
    let start = value_start(text, word, option, take)?;
    let value = value(text, start);
    let behind_word = word_end(text, start).max(value.end);
    let value = match take {
        Take::Behind(byte) => behind(text, value, byte)?,
        _ => value,
    };
    Some((secret(text, value)?, behind_word))
}

/// Where the value begins that an option in this word takes.
fn value_start(text: &[u8], word: Range<usize>, option: &str, take: Take) -> Option<usize> {
    let said = &text[word.clone()];
    let glued = word.start + option.len();
    let short = option.len() == 2 && option.starts_with('-');
    let next = match (take, said.strip_prefix(option.as_bytes())) {
        (Take::Glued, Some([_, ..])) => return Some(glued),
        (Take::Glued, _) => return None,
        (_, Some([])) => skip_blanks(text, word.end),
        (_, Some([b'=', ..])) => return Some(glued + 1),
        (_, Some(_)) if short => return Some(glued),
        // `-sSu user:password`: behind others in one word.
        _ if short && is_cluster(said, option) => skip_blanks(text, word.end),
        _ => return None,
    };
    (next > word.end && text.get(next) != Some(&b'-')).then_some(next)
}

fn is_cluster(word: &[u8], option: &str) -> bool {
    let letters = word.strip_prefix(b"-").unwrap_or_default();
    letters.iter().all(u8::is_ascii_alphabetic) && letters.last() == option.as_bytes().last()
}

/// What stands behind the first such byte outside of `${...}`.
fn behind(text: &[u8], value: Range<usize>, byte: u8) -> Option<Range<usize>> {
    let mut depth = 0;
    let at = text[value.clone()].iter().position(|&here| {
        match here {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        depth == 0 && here == byte
    })?;
    Some(value.start + at + 1..value.end)
}

/// `-passin pass:SECRET`.
pub(super) fn openssl_password(place: Place<'_>) -> Option<Range<usize>> {
    let head = &place.text[..place.start];
    let opens = head
        .iter()
        .rev()
        .take_while(|byte| matches!(byte, b'"' | b'\''))
        .count();
    let head = head[..head.len() - opens].trim_ascii_end();
    let option = head.rsplit(u8::is_ascii_whitespace).next()?;
    let taken = match opens {
        0 => value(place.text, place.end),
        _ => value(place.text, place.start - 1),
    };
    let is_option = option.starts_with(b"-pass") || option.starts_with(b"-k");
    secret(place.text, place.end..taken.end).filter(|_| is_option)
}

/// How far around a program what feeds it is looked for.
const FED_BYTES_MAX: usize = 1024;

/// `echo SECRET | docker login --password-stdin`, `sudo -S ... <<< SECRET`.
pub(super) fn fed(place: Place<'_>) -> Option<Range<usize>> {
    here_string(place).or_else(|| echoed(place))
}

fn here_string(place: Place<'_>) -> Option<Range<usize>> {
    let line = &place.text[place.end..line_end(place.text, place.end)];
    let line = &line[..line.len().min(FED_BYTES_MAX)];
    let at = memchr::memmem::find(line, b"<<<")?;
    let same_command = !line[..at]
        .iter()
        .any(|byte| matches!(byte, b'|' | b';' | b'&'));
    let at = skip_blanks(place.text, place.end + at + 3);
    same_command.then(|| secret(place.text, value(place.text, at)))?
}

fn echoed(place: Place<'_>) -> Option<Range<usize>> {
    let from = place.start.saturating_sub(FED_BYTES_MAX);
    let pipe = from + memchr::memrchr(b'|', &place.text[from..place.start])?;
    let is_end = |byte: &u8| matches!(byte, b';' | b'&' | b'\n');
    if place.text[pipe..place.start].iter().any(is_end) {
        return None;
    }
    let head = &place.text[from..pipe];
    let start = head
        .iter()
        .rposition(|byte| matches!(byte, b'|' | b';' | b'&' | b'\n' | b'('));
    let start = skip_blanks(place.text, start.map_or(from, |at| from + at + 1));
    let program = word_end(place.text, start);
    let is_printf = match &place.text[start..program.min(pipe)] {
        b"echo" => false,
        b"printf" => true,
        _ => return None,
    };
    let mut at = skip_blanks(place.text, program);
    while place.text[at..].starts_with(b"-") {
        at = skip_blanks(place.text, word_end(place.text, at));
    }
    let behind_format = skip_blanks(place.text, word_end(place.text, at));
    if is_printf && behind_format < pipe {
        at = behind_format;
    }
    let end = place.text[..pipe].trim_ascii_end().len();
    if word_end(place.text, at) >= end {
        return secret(place.text, value(place.text, at));
    }
    (at < end).then(|| secret(place.text, at..end))?
}
