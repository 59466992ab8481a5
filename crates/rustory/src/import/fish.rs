//! fish's history file: looks like YAML, and is written and read line by line.
//!
//! ```text
//! - cmd: echo one\ntwo
//!   when: 1700000000
//!   paths:
//!     - one
//! ```
//!
//! In `cmd` a newline is written `\n` and a backslash `\\`, nothing else is escaped. `paths` are
//! the command's arguments that were files, not the directory, and are not kept.

use std::borrow::Cow;

use rustory_core::Timestamp;

use super::{Found, Lines, number};

/// The commands of a history file, in its order.
pub(super) fn entries(bytes: &[u8]) -> impl Iterator<Item = Found<'_>> {
    Entries {
        lines: Lines::new(bytes).peekable(),
    }
}

struct Entries<'a> {
    lines: std::iter::Peekable<Lines<'a>>,
}

const CMD: &[u8] = b"- cmd: ";

impl<'a> Iterator for Entries<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let (line, cmd) = self
            .lines
            .find_map(|(number, line)| Some((number, line.strip_prefix(CMD)?)))?;
        let mut ts = None;
        while let Some((_, line)) = self.lines.next_if(|(_, line)| !line.starts_with(CMD)) {
            if let Some(when) = line.trim_ascii_start().strip_prefix(b"when:") {
                ts = number(when.trim_ascii()).and_then(Timestamp::from_secs);
            }
        }
        Some(Found {
            line,
            cmd: unescaped(cmd),
            ts: ts.filter(|ts| ts.as_micros() > 0),
            duration_ms: None,
        })
    }
}

fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, bytes.as_slice().first()) {
            (b'\\', Some(b'n')) => plain.push(b'\n'),
            (b'\\', Some(b'\\')) => plain.push(b'\\'),
            _ => {
                plain.push(byte);
                continue;
            }
        }
        bytes.next();
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(cmd: &[u8], when: i64) -> Vec<u8> {
        let mut line = CMD.to_vec();
        for &byte in cmd {
            match byte {
                b'\n' => line.extend(b"\\n"),
                b'\\' => line.extend(b"\\\\"),
                _ => line.push(byte),
            }
        }
        line.extend(format!("\n  when: {when}\n").bytes());
        line
    }

    #[test]
    fn paths_and_unknown_keys_are_passed_over() {
        let file = b"- cmd: ls /tmp\n  when: 1700000000\n  paths:\n    - /tmp\n  new: x\n- cmd: cd\n  when: 1700000001\n";
        let found: Vec<Found<'_>> = entries(file).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].cmd, &b"ls /tmp"[..]);
        assert_eq!(
            (found[1].line, found[1].ts),
            (6, Timestamp::from_secs(1_700_000_001))
        );
    }

    #[test]
    fn a_command_without_a_time_is_still_a_command() {
        let found: Vec<Found<'_>> = entries(b"- cmd: a\n- cmd: b\n  when: soon\n").collect();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|found| found.ts.is_none()));
    }

    #[test]
    fn a_file_cut_in_the_middle_gives_what_is_there() {
        let file = b"  when: 1\n- cmd: a\\\\nb\\nc\n  when: 17";
        let found: Vec<Found<'_>> = entries(file).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].cmd, &b"a\\nb\nc"[..]);
    }

    proptest! {
        #[test]
        fn what_fish_writes_comes_back(
            cmds in prop::collection::vec("[^\r\0]{0,20}([\\\\n\n]{0,4}[^\r\0]{0,9}){0,3}", 0..10)
        ) {
            let file: Vec<u8> = cmds.iter().flat_map(|cmd| written(cmd.as_bytes(), 1_700_000_000)).collect();
            let found: Vec<String> = entries(&file)
                .map(|found| String::from_utf8(found.cmd.into_owned()).unwrap())
                .collect();
            prop_assert_eq!(found, cmds);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            entries(&bytes).for_each(drop);
        }
    }
}
