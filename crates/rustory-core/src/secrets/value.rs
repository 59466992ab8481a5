//! Where a value begins and ends, in shells, URLs, JSON and settings files, and whether it is a
//! secret rather than a variable, a file or a placeholder.

use std::ops::Range;

/// How a value is quoted.
struct Quotes {
    open: usize,
    close: &'static [u8],
    /// A backslash takes the meaning of the next byte away.
    escapes: bool,
}

fn quotes(text: &[u8], at: usize) -> Option<Quotes> {
    let (open, close, escapes): (usize, &'static [u8], bool) = match text.get(at..)? {
        // Within a text that is itself in double quotes.
        [b'\\', b'"', ..] => (2, b"\\\"", false),
        [b'\\', b'\'', ..] => (2, b"\\'", false),
        [b'$', b'\'', ..] => (2, b"'", true),
        [b'$', b'"', ..] => (2, b"\"", true),
        [b'"', ..] => (1, b"\"", true),
        [b'\'', ..] => (1, b"'", false),
        _ => return None,
    };
    Some(Quotes {
        open,
        close,
        escapes,
    })
}

/// The value that begins at `at`, without its quotes if it is quoted as a whole; empty when there
/// is none. A quote that nothing closes ends with its line.
pub(super) fn value(text: &[u8], at: usize) -> Range<usize> {
    let Some(quotes) = quotes(text, at) else {
        return bare(text, at);
    };
    let start = at + quotes.open;
    let Some(end) = closing(text, start, &quotes) else {
        return start..line_end(text, start);
    };
    let behind = end + quotes.close.len();
    if text.get(behind).copied().is_some_and(goes_on) {
        // `'a'b`: all of it.
        return at..bare(text, behind).end;
    }
    start..end
}

fn closing(text: &[u8], start: usize, quotes: &Quotes) -> Option<usize> {
    let mut at = start;
    while at < text.len() {
        at += match &text[at..] {
            // How a single quote is written within single quotes.
            rest if quotes.close == b"'" && rest.starts_with(b"'\\''") => 4,
            rest if rest.starts_with(quotes.close) => return Some(at),
            [b'\\', ..] if quotes.escapes => 2,
            _ => 1,
        };
    }
    None
}

/// A value without quotes around it: up to whatever ends a word, a pair of a list or a quote that
/// began before it.
fn bare(text: &[u8], at: usize) -> Range<usize> {
    let mut end = at;
    while let Some(&byte) = text.get(end) {
        end = match byte {
            byte if ends_a_word(byte) => break,
            b',' if is_pair(&text[end + 1..]) => break,
            b'\\' => match text.get(end + 1) {
                None | Some(b'"' | b'\'' | b'\n') => break,
                Some(_) => end + 2,
            },
            b'"' | b'\'' => match behind_inner_quotes(text, end) {
                Some(behind) => behind,
                None => break,
            },
            _ => end + 1,
        };
    }
    at..end
}

/// What ends an unquoted word in a shell.
pub(super) fn ends_a_word(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || matches!(byte, b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'`')
}

/// `name=...`, as it follows the comma in `password=x,name=y`.
fn is_pair(text: &[u8]) -> bool {
    let name = text
        .iter()
        .take(40)
        .take_while(|byte| is_name(**byte))
        .count();
    name > 0 && text.get(name) == Some(&b'=')
}

/// What names of variables, options, headers and properties are made of.
pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Whether a word goes on with this byte behind a closing quote.
fn goes_on(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

/// Behind the quotes that open in the midst of a word; `None` if this quote closes one that began
/// before the word: nothing of a word follows it, or nothing on its line closes it.
fn behind_inner_quotes(text: &[u8], at: usize) -> Option<usize> {
    let first = *text.get(at + 1)?;
    let line = &text[at + 1..line_end(text, at)];
    let close = memchr::memchr(text[at], line)?;
    goes_on(first).then_some(at + 1 + close + 1)
}

pub(super) fn line_end(text: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |len| at + len)
}

/// Behind blanks, and behind a backslash that goes on on the next line.
pub(super) fn skip_blanks(text: &[u8], mut at: usize) -> usize {
    loop {
        at = match text.get(at..) {
            Some([b' ' | b'\t', ..]) => at + 1,
            Some([b'\\', b'\n', ..]) => at + 2,
            _ => return at,
        };
    }
}

/// Words that stand where a secret could, and are none.
const WORDS: &[&str] = &[
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "0",
    "1",
    "null",
    "nil",
    "none",
    "undefined",
    "required",
    "optional",
    "auto",
    "always",
    "never",
    "prompt",
    "stdin",
];

/// What leads to a secret without being one.
const REFERENCES: &[&str] = &[
    "$", "`", "{{", "%(", "op://", "env:", "file:", "fd:", "pass:", "ssm:", "arn:aws:", "vault:",
    "id=", "type=",
];

/// Directories in which files with secrets lie. A slash alone may begin a secret in base64.
const DIRECTORIES: &[&str] = &[
    "~/",
    "./",
    "../",
    "/run/",
    "/var/",
    "/etc/",
    "/home/",
    "/Users/",
    "/root/",
    "/tmp/",
    "/opt/",
    "/usr/",
    "/srv/",
    "/mnt/",
    "/dev/",
    "/proc/",
    "/secrets/",
];

/// The value, if it can be a secret.
pub(super) fn secret(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let said = &text[value.clone()];
    let says_something = said
        .iter()
        .any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii());
    let is_word = WORDS
        .iter()
        .any(|word| said.eq_ignore_ascii_case(word.as_bytes()));
    let placeholder = said.starts_with(b"<") && said.ends_with(b">");
    let leads_there = is_reference(text, &value) || said.starts_with(b"-----BEGIN");
    (says_something && !is_word && !placeholder && !leads_there).then_some(value)
}

fn is_reference(text: &[u8], value: &Range<usize>) -> bool {
    let said = &text[value.clone()];
    let quotes = said
        .iter()
        .take_while(|byte| matches!(byte, b'"' | b'\'' | b'\\'))
        .count();
    let said = &said[quotes..];
    let single_quoted = value.start > 0 && text[value.start - 1] == b'\'';
    if single_quoted && said.starts_with(b"$") {
        // Literal, unless those quotes stand within others.
        return is_variable(&said[1..]);
    }
    begins_with_one_of(said, REFERENCES)
}

/// A whole variable: `{...}`, or capitals as names of variables are.
fn is_variable(name: &[u8]) -> bool {
    let braces = name.starts_with(b"{") && name.ends_with(b"}");
    braces
        || name
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'0'..=b'9'))
}

/// Whether it is the path of a file. Only asked where files are usual.
pub(super) fn is_file(value: &[u8]) -> bool {
    begins_with_one_of(value, DIRECTORIES)
}

fn begins_with_one_of(text: &[u8], beginnings: &[&str]) -> bool {
    beginnings
        .iter()
        .any(|beginning| text.starts_with(beginning.as_bytes()))
}
