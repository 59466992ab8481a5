//! Tokens that are known by their make, wherever they stand.

use std::ops::Range;

use super::{Place, run};

// --- Alphabets -------------------------------------------------------------------------------

pub(super) fn alnum(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

pub(super) fn upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

pub(super) fn hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

pub(super) fn word(byte: u8) -> bool {
    alnum(byte) || byte == b'_'
}

pub(super) fn base64(byte: u8) -> bool {
    alnum(byte) || matches!(byte, b'+' | b'/' | b'=')
}

pub(super) fn base64_word(byte: u8) -> bool {
    base64(byte) || byte == b'_'
}

pub(super) fn base64url(byte: u8) -> bool {
    alnum(byte) || matches!(byte, b'-' | b'_')
}

pub(super) fn base64url_padded(byte: u8) -> bool {
    base64url(byte) || byte == b'='
}

pub(super) fn base64url_percent(byte: u8) -> bool {
    base64url(byte) || byte == b'%'
}

pub(super) fn dotted(byte: u8) -> bool {
    base64url(byte) || byte == b'.'
}

pub(super) fn path(byte: u8) -> bool {
    base64url(byte) || matches!(byte, b'/' | b'@')
}

// --- Tokens with a prefix --------------------------------------------------------------------

/// A token of at least `len_min` bytes behind its prefix, which stays.
///
/// Here and below, what is quick to see is asked first: texts of a megabyte may be full of marks.
pub(super) fn token(place: Place<'_>, of: fn(u8) -> bool, len_min: usize) -> Option<Range<usize>> {
    begins_a_word(place)
        .then(|| place.run(of))
        .filter(|run| run.len() >= len_min)
}

/// Whether the mark is not the end of something longer.
fn begins_a_word(place: Place<'_>) -> bool {
    // Marks that begin with a delimiter stand behind anything.
    !word(place.text[place.start]) || !place.before().is_some_and(word)
}

pub(super) fn aws_key_id(place: Place<'_>) -> Option<Range<usize>> {
    token(place, alnum, 16)
        .filter(|run| run.len() == 16 && place.text[run.clone()].iter().copied().all(upper))
}

/// 40 bytes of base64 not far behind the name. By themselves they look like many a hash.
pub(super) fn aws_secret(place: Place<'_>) -> Option<Range<usize>> {
    let gap = place.run(|byte| matches!(byte, b' ' | b'=' | b':' | b'"' | b'\'' | b','));
    let secret = run(place.text, gap.end, base64);
    (!gap.is_empty() && secret.len() == 40).then_some(secret)
}

/// Three characters, a digit, `Q~`, and more than thirty characters.
pub(super) fn azure_secret(place: Place<'_>) -> Option<Range<usize>> {
    let of = |byte| dotted(byte) || byte == b'~';
    let start = place.start.checked_sub(3)?;
    let head = &place.text[start..place.start];
    let run = place.run(of);
    (run.len() >= 31 && head.iter().copied().all(of)).then_some(start..run.end)
}

/// Keys of many Azure services have this mark from their 53rd character on.
pub(super) fn azure_key(place: Place<'_>) -> Option<Range<usize>> {
    let start = place.start.checked_sub(52)?;
    let run = place.run(base64);
    let head = &place.text[start..place.start];
    (run.len() >= 20 && head.iter().copied().all(base64)).then_some(start..run.end)
}

/// In the query of a URL.
pub(super) fn azure_signature(place: Place<'_>) -> Option<Range<usize>> {
    let run = place.run(|byte| base64url(byte) || matches!(byte, b'%' | b'+' | b'/' | b'='));
    (run.len() >= 30 && matches!(place.before()?, b'?' | b'&')).then_some(run)
}

/// `sk-` stands before many a name; a key has a digit and a capital, or is one long number.
pub(super) fn sk(place: Place<'_>) -> Option<Range<usize>> {
    if place.before().is_some_and(base64url) {
        return None;
    }
    let run = place.run(base64url);
    let key = &place.text[run.clone()];
    let has = |what: fn(&u8) -> bool| key.iter().any(what);
    let mixed = run.len() >= 20 && has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase);
    let number = run.len() >= 32 && key.iter().copied().all(hex);
    (mixed || number).then_some(run)
}

// --- Tokens of another make ------------------------------------------------------------------

/// How the first group of a Discord token begins: three digits of the bot's id in base64.
pub(super) const DISCORD_MARKS: &[&str] = &[
    "MTA", "MTE", "MTI", "MTM", "MTQ", "MTU", "MTY", "MTc", "MTg", "MTk", "MjA", "MjE", "MjI",
    "MjM", "MjQ", "MjU", "MjY", "Mjc", "Mjg", "Mjk", "MzA", "MzE", "MzI", "MzM", "MzQ", "MzU",
    "MzY", "Mzc", "Mzg", "Mzk", "NDA", "NDE", "NDI", "NDM", "NDQ", "NDU", "NDY", "NDc", "NDg",
    "NDk", "NTA", "NTE", "NTI", "NTM", "NTQ", "NTU", "NTY", "NTc", "NTg", "NTk", "NjA", "NjE",
    "NjI", "NjM", "NjQ", "NjU", "NjY", "Njc", "Njg", "Njk", "NzA", "NzE", "NzI", "NzM", "NzQ",
    "NzU", "NzY", "Nzc", "Nzg", "Nzk", "ODA", "ODE", "ODI", "ODM", "ODQ", "ODU", "ODY", "ODc",
    "ODg", "ODk", "OTA", "OTE", "OTI", "OTM", "OTQ", "OTU", "OTY", "OTc", "OTg", "OTk",
];

/// The bot's id in base64, six characters of time, and at least 27 of a signature, joined by dots.
pub(super) fn discord(place: Place<'_>) -> Option<Range<usize>> {
    if !begins_a_word(place) {
        return None;
    }
    let text = &place.text[..place.text.len().min(place.start + DISCORD_BYTES_MAX)];
    let token = run(text, place.start, dotted);
    let mut groups = text[token.clone()].split(|byte| *byte == b'.');
    let (id, time, signature) = (groups.next()?, groups.next()?, groups.next()?);
    let fits = (23..=28).contains(&id.len())
        && id.iter().copied().all(alnum)
        && time.len() == 6
        && signature.len() >= 27
        && groups.next().is_none();
    fits.then_some(token)
}

/// They have up to about 75.
const DISCORD_BYTES_MAX: usize = 128;

/// The token behind the webhook's number.
pub(super) fn discord_webhook(place: Place<'_>) -> Option<Range<usize>> {
    let number = place.run(|byte| byte.is_ascii_digit());
    let token = run(place.text, number.end + 1, base64url);
    let slash = place.text.get(number.end) == Some(&b'/');
    (!number.is_empty() && slash && token.len() >= 60).then_some(token)
}

/// The bot's number, which is not secret, a colon, and 35 characters.
pub(super) fn telegram(place: Place<'_>) -> Option<Range<usize>> {
    let digits = place.text[..place.start].iter().rev().take(11);
    let digits = digits.take_while(|byte| byte.is_ascii_digit()).count();
    let run = place.run(base64url);
    (run.len() >= 32 && (8..=10).contains(&digits)).then_some(run)
}

/// At least three groups of base64 joined by dots, the first of which is a JSON object.
pub(super) fn json_web_token(place: Place<'_>) -> Option<Range<usize>> {
    if place.before().is_some_and(base64url) {
        return None;
    }
    let header = place.run(base64url);
    let is_header = header.len() >= 8 && place.text.get(header.end) == Some(&b'.');
    let token = is_header.then(|| place.run(dotted))?;
    let dots = place.text[token.clone()]
        .iter()
        .filter(|byte| **byte == b'.');
    (token.len() >= 40 && dots.count() >= 2).then_some(token)
}

/// What stands behind `Bearer`, wherever, if it looks like a token.
pub(super) fn bearer(place: Place<'_>) -> Option<Range<usize>> {
    let run = place.run(|byte| base64(byte) || matches!(byte, b'-' | b'_' | b'.' | b'~'));
    let has_digit = place.text[run.clone()].iter().any(u8::is_ascii_digit);
    (run.len() >= 16 && has_digit && begins_a_word(place)).then_some(run)
}

// --- Keys ------------------------------------------------------------------------------------

/// Behind this a key in text form has ended, or is none.
const KEY_BYTES_MAX: usize = 16 * 1024;

/// The lines between BEGIN and END of a private key, or up to where the text stops being a key.
pub(super) fn private_key(place: Place<'_>) -> Option<Range<usize>> {
    const DASHES: &[u8] = b"-----";
    let rest = place.rest();
    let label = &rest[..rest.len().min(64)];
    let label = &label[..memchr::memmem::find(label, DASHES)?];
    if !label.ends_with(b"PRIVATE KEY") && label != b"PGP PRIVATE KEY BLOCK" {
        return None;
    }
    let start = place.end + label.len() + DASHES.len();
    let body = &place.text[start..];
    let body = &body[..body.len().min(KEY_BYTES_MAX)];
    let end = memchr::memmem::find(body, b"-----END ")
        .or_else(|| body.iter().position(|byte| matches!(byte, b'"' | b'\'')))
        .unwrap_or(body.len());
    let (from, to) = trimmed(&body[..end])?;
    // Otherwise somebody looks for keys, or cuts them out.
    let longest = body[from..to]
        .split(|byte| !base64(*byte))
        .map(<[u8]>::len)
        .max();
    (longest? >= 16).then_some(start + from..start + to)
}

/// Without the line ends around it, which may be written as `\n`.
fn trimmed(body: &[u8]) -> Option<(usize, usize)> {
    let is_end = |at: usize| match body[at] {
        b'n' => at > 0 && body[at - 1] == b'\\',
        b'\\' => body.get(at + 1) == Some(&b'n'),
        byte => byte.is_ascii_whitespace(),
    };
    let from = (0..body.len()).find(|at| !is_end(*at))?;
    let to = (0..body.len()).rfind(|at| !is_end(*at))? + 1;
    Some((from, to))
}

/// The key of libp2p's private networks in its file's form, which is what `rr key swarm` writes.
pub(super) fn swarm_key(place: Place<'_>) -> Option<Range<usize>> {
    let tail = &place.rest()[..place.rest().len().min(256)];
    let at = tail
        .windows(64)
        .position(|window| window.iter().copied().all(hex))?;
    Some(run(place.text, place.end + at, hex))
}
