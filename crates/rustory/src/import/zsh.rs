//! zsh's history file, extended (`: start:elapsed;command`), plain, or both in one file.
//!
//! What zsh does when it writes, undone here in reverse: every byte that is special inside zsh is
//! *metafied* (0x83, then the byte with bit 5 flipped), a newline within a command gets a
//! backslash in front, a command that ends in backslash and blanks gets one more blank, and in a
//! plain file a command that begins with `:` gets a backslash in front.

use std::borrow::Cow;

use rustory_core::Timestamp;

use super::{Found, Lines, number};

/// The commands of a history file, in its order.
pub(super) fn entries(bytes: &[u8]) -> impl Iterator<Item = Found<'_>> {
    Entries {
        lines: Lines::new(bytes),
    }
}

struct Entries<'a> {
    lines: Lines<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        loop {
            let (number, whole) = self.joined()?;
            if let Some(found) = entry(number, whole) {
                return Some(found);
            }
        }
    }
}

impl<'a> Entries<'a> {
    /// The next line together with those that it continues into.
    fn joined(&mut self) -> Option<(u64, Cow<'a, [u8]>)> {
        let (number, first) = self.lines.next()?;
        let mut whole = Cow::Borrowed(first);
        while whole.ends_with(b"\\") {
            // At the end of the file zsh, too, takes the backslash for a newline.
            let next = self.lines.next();
            let text = whole.to_mut();
            text.pop();
            text.push(b'\n');
            match next {
                Some((_, line)) => text.extend_from_slice(line),
                None => break,
            }
        }
        Some((number, without_guard(whole)))
    }
}

/// Takes away the blank that zsh puts behind a command that ends in backslash (and blanks).
fn without_guard(mut whole: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let blanks = whole.iter().rev().take_while(|&&b| b == b' ').count();
    let before = whole.len() - blanks;
    if blanks > 0 && before > 0 && whole[before - 1] == b'\\' {
        match &mut whole {
            Cow::Borrowed(text) => *text = &text[..text.len() - 1],
            Cow::Owned(text) => {
                text.pop();
            }
        }
    }
    whole
}

/// `None`: an empty line.
fn entry(line: u64, whole: Cow<'_, [u8]>) -> Option<Found<'_>> {
    let (ts, elapsed, skip) = match header(&whole) {
        Some((start, elapsed, len)) => (Timestamp::from_secs(start), elapsed, len),
        // A plain file's way to say that the colon is the command's own.
        None => (None, None, usize::from(whole.starts_with(b"\\:"))),
    };
    if whole.len() == skip && ts.is_none() {
        return None;
    }
    Some(Found {
        line,
        cmd: unmetafied(whole, skip),
        // zsh writes 0 for a command whose time it does not know.
        ts: ts.filter(|ts| ts.as_micros() > 0),
        // Whole seconds; 0 is both "below one" and "not known" (`INC_APPEND_HISTORY`).
        duration_ms: elapsed.filter(|&secs| secs > 0).map(|secs| secs * 1_000),
    })
}

/// `: 1700000000:3;` as start, elapsed seconds and its own length.
fn header(whole: &[u8]) -> Option<(i64, Option<u64>, usize)> {
    // Start and elapsed have at most 20 digits each.
    let head = &whole[..whole.len().min(48)];
    let semicolon = memchr::memchr(b';', head)?;
    let fields = head[..semicolon].strip_prefix(b":")?;
    let colon = memchr::memchr(b':', fields)?;
    let start = number(fields[..colon].trim_ascii())?;
    let elapsed = fields[colon + 1..].trim_ascii();
    // A clock that was set back leaves a negative elapsed time.
    let elapsed = number(elapsed.strip_prefix(b"-").unwrap_or(elapsed))
        .map(|secs| if elapsed.starts_with(b"-") { 0 } else { secs })?;
    let elapsed = u64::try_from(elapsed).ok();
    Some((
        start,
        elapsed.filter(|&secs| secs < MAX_ELAPSED_SECS),
        semicolon + 1,
    ))
}

/// 30 years; more is a broken clock.
const MAX_ELAPSED_SECS: u64 = 1_000_000_000;

/// The byte that zsh puts before a special one.
const META: u8 = 0x83;

fn unmetafied(whole: Cow<'_, [u8]>, skip: usize) -> Cow<'_, [u8]> {
    if memchr::memchr(META, &whole[skip..]).is_none() {
        return match whole {
            Cow::Borrowed(text) => Cow::Borrowed(&text[skip..]),
            Cow::Owned(mut text) => {
                text.drain(..skip);
                Cow::Owned(text)
            }
        };
    }
    let mut plain = Vec::with_capacity(whole.len() - skip);
    let mut bytes = whole[skip..].iter();
    while let Some(&byte) = bytes.next() {
        match bytes.as_slice().first() {
            Some(&next) if byte == META => {
                plain.push(next ^ 0x20);
                bytes.next();
            }
            _ => plain.push(byte),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes as zsh does; `start` makes it extended.
    fn written(cmd: &[u8], start: Option<i64>) -> Vec<u8> {
        let mut line = match start {
            Some(start) => format!(": {start}:0;").into_bytes(),
            None if cmd.starts_with(b":") => b"\\".to_vec(),
            None => Vec::new(),
        };
        let mut ends_in_backslash = false;
        for &byte in cmd {
            ends_in_backslash = byte == b'\\' || (ends_in_backslash && byte == b' ');
            match byte {
                b'\n' => line.extend(b"\\\n"),
                0 | META..=0xa2 => line.extend([META, byte ^ 0x20]),
                _ => line.push(byte),
            }
        }
        if ends_in_backslash {
            line.push(b' ');
        }
        line.push(b'\n');
        line
    }

    fn cmds(file: &[u8]) -> Vec<Vec<u8>> {
        entries(file).map(|found| found.cmd.into_owned()).collect()
    }

    #[test]
    fn an_extended_line_has_a_start_and_a_duration() {
        let found: Vec<Found<'_>> = entries(b": 1700000000:3;make\n: 1700000005:0;ls\n").collect();
        assert_eq!(found[0].ts, Timestamp::from_secs(1_700_000_000));
        assert_eq!(found[0].duration_ms, Some(3_000));
        assert_eq!(found[1].duration_ms, None, "0 says nothing");
        assert_eq!(found[1].line, 2);
    }

    #[test]
    fn extended_and_plain_lines_may_be_mixed() {
        let file = b"plain\n: 1700000000:0;ext\n\\: 5:0;colon\n:\n";
        assert_eq!(cmds(file), [&b"plain"[..], b"ext", b": 5:0;colon", b":"]);
    }

    #[test]
    fn a_backslash_at_the_end_is_not_a_continuation() {
        let cmd = b"echo a\\";
        let file = [written(cmd, Some(1)), written(b"ls", Some(2))].concat();
        assert_eq!(cmds(&file), [&cmd[..], b"ls"]);
    }

    #[test]
    fn a_file_cut_in_the_middle_of_a_command_gives_what_is_there() {
        let file = written(b"for i\ndo x\ndone", Some(1));
        assert_eq!(cmds(&file[..file.len() - 9]), [b"for i\ndo"]);
        assert_eq!(cmds(b": 1700000000:0;a\\\n"), [b"a\n"]);
        assert_eq!(cmds(b": 17000"), [b": 17000"]);
    }

    #[test]
    fn metafied_bytes_are_undone() {
        // U+30E0, whose UTF-8 (E3 83 A0) has two special bytes.
        assert_eq!(
            cmds(b": 1:0;echo \xe3\x83\xa3\x83\x80\n"),
            ["echo ム".as_bytes()]
        );
    }

    fn command() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            4 => any::<u8>(),
            1 => Just(b'\n'), 1 => Just(b'\\'), 1 => Just(b' '), 1 => Just(b':'), 1 => Just(META),
        ];
        prop::collection::vec(byte, 1..40)
    }

    proptest! {
        #[test]
        fn what_zsh_writes_comes_back(
            history in prop::collection::vec((command(), prop::option::of(1..2_000_000_000i64)), 0..10)
        ) {
            let mut history = history;
            // A CR before the file's first line end would make it one of another system.
            history.insert(0, (b"first".to_vec(), None));
            // zsh itself reads a plain `\\:` back as `:`.
            history.retain(|(cmd, ts)| ts.is_some() || !cmd.starts_with(b"\\:"));
            let file: Vec<u8> = history.iter().flat_map(|(cmd, ts)| written(cmd, *ts)).collect();
            let found: Vec<(Vec<u8>, Option<i64>)> = entries(&file)
                .map(|found| (found.cmd.into_owned(), found.ts.map(|ts| ts.as_micros() / 1_000_000)))
                .collect();
            prop_assert_eq!(found, history);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            entries(&bytes).for_each(drop);
        }

        #[test]
        fn no_mix_of_marks_panics(text in "[\\\\ \n\r:;0-9-]{0,100}") {
            entries(text.as_bytes()).for_each(drop);
        }
    }
}
