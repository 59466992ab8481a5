//! Secrets that are known by what stands before them: a telling name, a header, a URL's user.

use std::ops::Range;

use super::value::{self, is_name, line_end, secret, skip_blanks};
use super::{Place, run};

/// How names end behind which secrets stand.
pub(super) const MARKS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pass",
    "storepass",
    "keypass",
    "dbpass",
    "sshpass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "accesskey",
    "access_key",
    "access-key",
    "secretkey",
    "secret_key",
    "secret-key",
    "secret_key_base",
    "privatekey",
    "private_key",
    "private-key",
    "encryptionkey",
    "encryption_key",
    "encryption-key",
    "masterkey",
    "master_key",
    "master-key",
    "signingkey",
    "signing_key",
    "signing-key",
    "accountkey",
    "account_key",
    "account-key",
    "authkey",
    "auth_key",
    "auth-key",
    "licensekey",
    "license_key",
    "license-key",
];

/// A name that ends with a mark.
struct Name<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
}

/// Names are not longer.
const NAME_BYTES_MAX: usize = 96;

impl<'a> Name<'a> {
    /// The name that ends with the mark; `None` when it goes on behind it, or the mark is only the
    /// tail of another word in it (`compass`, `OLDPWD`).
    fn ending(place: Place<'a>) -> Option<Name<'a>> {
        let (text, end) = (place.text, place.end);
        if place.behind().is_some_and(is_name) {
            return None;
        }
        let head = text[..place.start].iter().rev().take(NAME_BYTES_MAX);
        let start = place.start - head.take_while(|byte| is_name(**byte)).count();
        let mark = &text[place.start..end];
        let is_part = match place.before() {
            _ if start == place.start => true,
            Some(before) if !before.is_ascii_alphanumeric() => true,
            Some(before) => before.is_ascii_lowercase() && mark[0].is_ascii_uppercase(),
            None => true,
        };
        let fits = match mark.len() {
            4 if mark.eq_ignore_ascii_case(b"pass") => is_part,
            3 => is_part && start < place.start && text[start] != b'-',
            _ => true,
        };
        fits.then_some(Name { text, start, end })
    }

    fn text(&self) -> &'a [u8] {
        &self.text[self.start..self.end]
    }

    fn before(&self) -> Option<u8> {
        self.start.checked_sub(1).map(|at| self.text[at])
    }

    fn behind(&self) -> &'a [u8] {
        &self.text[self.end..]
    }

    fn is_option(&self) -> bool {
        self.text().starts_with(b"-")
    }

    /// The quote that the name alone stands in, with a backslash if it is escaped.
    fn own_quote(&self) -> Option<&'static [u8]> {
        let quote: &[u8] = match self.behind() {
            [b'\\', b'"', ..] => b"\\\"",
            [b'"', ..] => b"\"",
            [b'\'', ..] => b"'",
            _ => return None,
        };
        self.text[..self.start].ends_with(quote).then_some(quote)
    }

    /// Whether it begins its line, and that is not the first: as in a settings file that a
    /// here-document writes.
    fn begins_a_further_line(&self) -> bool {
        let head = &self.text[..self.start];
        let blanks = head
            .iter()
            .rev()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        head[..head.len() - blanks].ends_with(b"\n")
    }
}

/// The value that belongs to a telling name.
pub(super) fn named(place: Place<'_>) -> Option<Range<usize>> {
    let name = Name::ending(place)?;
    let value = assigned(&name)
        .or_else(|| of_option(&name))
        .or_else(|| of_quoted_name(&name))
        .or_else(|| of_header(&name))
        .or_else(|| of_line(&name))
        .or_else(|| set_by_command(&name))?;
    let mark = &place.text[place.start..place.end];
    let is_password = mark.len() >= 4 && mark[..4].eq_ignore_ascii_case(b"pass");
    let is_file = !is_password && value::is_file(&place.text[value.clone()]);
    secret(place.text, value).filter(|_| !is_file)
}

/// `NAME=value`, `--name=value`, `?name=value`.
fn assigned(name: &Name<'_>) -> Option<Range<usize>> {
    let [b'=', next, ..] = name.behind() else {
        return None;
    };
    // `==` and `=~` compare; `"password="` looks for one.
    if matches!(next, b'=' | b'~') || name.before() == Some(*next) {
        return None;
    }
    let value = value::value(name.text, name.end + 1);
    // A quote with a blank behind it closes what began before the name.
    let closes = name
        .text
        .get(value.start)
        .is_some_and(u8::is_ascii_whitespace);
    (!closes).then_some(value)
}

/// Options beginning so ask, show, or take nothing.
const NO_VALUE: &[&str] = &[
    "no-", "ask-", "show-", "with-", "print-", "use-", "without-", "prompt-",
];

/// `--name value`.
fn of_option(name: &Name<'_>) -> Option<Range<usize>> {
    let plain = name.text().iter().skip_while(|byte| **byte == b'-');
    let plain: Vec<u8> = plain.map(u8::to_ascii_lowercase).collect();
    let takes_none = NO_VALUE
        .iter()
        .any(|head| plain.starts_with(head.as_bytes()));
    let at = skip_blanks(name.text, name.end);
    let next = name.text.get(at)?;
    let usable = name.is_option() && at > name.end && !takes_none && *next != b'-';
    usable.then(|| value::value(name.text, at))
}

/// `"name": "value"`, `'name' => 'value'`, `"--name", "value"`.
fn of_quoted_name(name: &Name<'_>) -> Option<Range<usize>> {
    let quote = name.own_quote()?;
    let at = skip_blanks(name.text, name.end + quote.len());
    let behind = match name.text.get(at..)? {
        [b'=', b'>', ..] => at + 2,
        [b':' | b'=', ..] => at + 1,
        [b',', ..] if name.is_option() => at + 1,
        _ => return None,
    };
    let at = skip_blanks(name.text, behind);
    name.text
        .get(at..)?
        .starts_with(quote)
        .then(|| value::value(name.text, at))
}

/// Headers that need no `X-` in front.
const HEADERS: &[&str] = &["private-token", "job-token", "deploy-token", "api-key"];

/// `X-Api-Key: value`, with or without quotes around it.
fn of_header(name: &Name<'_>) -> Option<Range<usize>> {
    let said = name.text();
    let usual = HEADERS
        .iter()
        .any(|header| said.eq_ignore_ascii_case(header.as_bytes()))
        || said.len() > 2 && said[..2].eq_ignore_ascii_case(b"x-");
    let [b':', next, ..] = name.behind() else {
        return None;
    };
    let in_words = said.contains(&b'-') && !name.is_option() && *next == b' ';
    (usual || in_words).then(|| header_value(name))
}

/// What stands behind a header's colon: up to the quote in which the header stands, else one word.
fn header_value(name: &Name<'_>) -> Range<usize> {
    let at = skip_blanks(name.text, name.end + 1);
    match name.before() {
        Some(quote @ (b'"' | b'\'')) => at..quote_end(name.text, at, quote),
        _ => value::value(name.text, at),
    }
}

/// Where a text ends that stands in `quote`, or in an escaped one; at the end of its line at the
/// latest.
fn quote_end(text: &[u8], at: usize, quote: u8) -> usize {
    let line = &text[at..line_end(text, at)];
    let end = memchr::memchr(quote, line).unwrap_or(line.len());
    let escaped = end < line.len() && line[..end].ends_with(b"\\");
    at + end - usize::from(escaped)
}

/// `name: value` or `name = value` on a line of its own in a text of several; `name = "value"`
/// anywhere.
fn of_line(name: &Name<'_>) -> Option<Range<usize>> {
    let at = skip_blanks(name.text, name.end);
    let separator = *name.text.get(at)?;
    if separator != b':' && (separator != b'=' || at == name.end) {
        return None;
    }
    let at = skip_blanks(name.text, at + 1);
    let first = *name.text.get(at)?;
    let value = value::value(name.text, at);
    let quoted = matches!(first, b'"' | b'\'');
    let rest = &name.text[value.end..line_end(name.text, value.end)];
    let alone = name.begins_a_further_line() && (quoted || rest.trim_ascii().is_empty());
    (alone || quoted && separator == b'=').then_some(value)
}

/// `set -gx NAME value` of fish, `setenv NAME value` of csh.
fn set_by_command(name: &Name<'_>) -> Option<Range<usize>> {
    let head = &name.text[name.start.saturating_sub(64)..name.start];
    let line = head
        .rsplit(|byte| matches!(byte, b'\n' | b';' | b'|' | b'&'))
        .next()?;
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let sets = words.any(|word| matches!(word, b"set" | b"setenv"));
    let mut options = words;
    let only_options = options.all(|word| word.starts_with(b"-"));
    let at = skip_blanks(name.text, name.end);
    let usable = sets && only_options && at > name.end && !name.is_option() && head.ends_with(b" ");
    usable.then(|| value::value(name.text, at))
}

/// What names the kind of what follows in an `Authorization` header.
const SCHEMES: &[&str] = &[
    "bearer",
    "basic",
    "token",
    "digest",
    "negotiate",
    "apikey",
    "bot",
    "genie-key",
];

/// The value of an `Authorization` or `Cookie` header, without its scheme.
pub(super) fn header(place: Place<'_>) -> Option<Range<usize>> {
    let name = Name::ending(place)?;
    let quote = name.own_quote().unwrap_or_default();
    let colon = skip_blanks(name.text, name.end + quote.len());
    if name.text.get(colon) != Some(&b':') {
        return None;
    }
    let at = skip_blanks(name.text, colon + 1);
    let in_quotes = matches!(name.text.get(at), Some(b'"' | b'\'' | b'\\'));
    let value = match name.before() {
        _ if !quote.is_empty() || in_quotes => value::value(name.text, at),
        Some(quote @ (b'"' | b'\'')) => at..quote_end(name.text, at, quote),
        _ => of_unquoted_header(&name, at)?,
    };
    let scheme = match place.text[place.start] {
        b'c' | b'C' => 0,
        _ => scheme(&name.text[value.clone()]),
    };
    secret(name.text, value.start + scheme..value.end)
}

/// In a text without quotes: what a scheme, the lack of a blank or a line of its own shows not to
/// be prose.
fn of_unquoted_header(name: &Name<'_>, at: usize) -> Option<Range<usize>> {
    let line = at..line_end(name.text, at);
    if name.begins_a_further_line() {
        return Some(line);
    }
    let scheme = scheme(&name.text[line]);
    let word = value::value(name.text, at + scheme);
    (scheme > 0 || at == name.end + 1).then_some(at..word.end)
}

/// How much of a header's value names its scheme, with the blanks behind it.
fn scheme(value: &[u8]) -> usize {
    let word = value
        .iter()
        .take_while(|byte| value::is_name(**byte))
        .count();
    let known = SCHEMES
        .iter()
        .any(|scheme| value[..word].eq_ignore_ascii_case(scheme.as_bytes()));
    let behind =
        skip_blanks(value, word).max(word + usize::from(value[word..].starts_with(b"\\ ")) * 2);
    match known {
        true => behind,
        false => 0,
    }
}

/// `scheme://user:password@host`.
pub(super) fn url_password(place: Place<'_>) -> Option<Range<usize>> {
    let user = place.run(|byte| in_userinfo(byte) && !matches!(byte, b':' | b'@'));
    if place.text.get(user.end) != Some(&b':') {
        return None;
    }
    let start = user.end + 1;
    let tail = run(place.text, start, in_userinfo);
    let at = memchr::memrchr(b'@', &place.text[tail])?;
    secret(place.text, start..start + at)
}

fn in_userinfo(byte: u8) -> bool {
    !byte.is_ascii_whitespace()
        && !matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'`')
}

/// `user:password@tcp(host)`.
pub(super) fn dsn_password(place: Place<'_>) -> Option<Range<usize>> {
    let head = &place.text[..place.start];
    let word = head
        .iter()
        .rev()
        .take(256)
        .take_while(|byte| in_userinfo(**byte))
        .count();
    let start = place.start - word;
    let colon = memchr::memchr(b':', &head[start..])?;
    secret(place.text, start + colon + 1..place.start)
}
