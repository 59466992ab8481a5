//! bash's history file: one command a line, or, where `HISTTIMEFORMAT` was set, a line
//! `#1700000000` and then the command, which may go over several lines (`cmdhist` with `lithist`).

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

impl<'a> Iterator for Entries<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        loop {
            let (number, line) = self.lines.next()?;
            match timestamp(line) {
                Some(ts) => {
                    if let Some(found) = self.timed(ts) {
                        return Some(found);
                    }
                }
                // Readline writes no empty lines on their own.
                None if line.is_empty() => {}
                None => return Some(Found::untimed(number, line)),
            }
        }
    }
}

impl<'a> Entries<'a> {
    /// All lines up to the next timestamp are one command. `None`: there is none.
    fn timed(&mut self, ts: Timestamp) -> Option<Found<'a>> {
        let (number, first) = self.command_line()?;
        let mut cmd = Cow::Borrowed(first);
        while let Some((_, line)) = self.command_line() {
            let text = cmd.to_mut();
            text.extend_from_slice(b"\n");
            text.extend_from_slice(line);
        }
        let blank = cmd.iter().rev().take_while(|&&b| b == b'\n' || b == b'\r');
        match blank.count() {
            0 => {}
            blank if blank == cmd.len() => return None,
            blank => {
                let kept = cmd.len() - blank;
                cmd.to_mut().truncate(kept);
            }
        }
        Some(Found {
            line: number,
            cmd,
            ts: Some(ts),
            duration_ms: None,
        })
    }

    fn command_line(&mut self) -> Option<(u64, &'a [u8])> {
        self.lines.next_if(|(_, line)| timestamp(line).is_none())
    }
}

/// `#` and 9 to 11 digits, which is 1973 to 5138: bash itself takes every `#` with a digit behind
/// it for a timestamp, but a comment such as `#123` or `#1 fix` was typed by somebody.
fn timestamp(line: &[u8]) -> Option<Timestamp> {
    let digits = line.strip_prefix(b"#")?;
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    if !(9..=11).contains(&digits.len()) {
        return None;
    }
    number(digits).and_then(Timestamp::from_secs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(file: &str, expected: &[(Option<i64>, &str)]) {
        let found: Vec<(Option<i64>, String)> = entries(file.as_bytes())
            .map(|found| {
                let secs = found.ts.map(|ts| ts.as_micros() / 1_000_000);
                (secs, String::from_utf8(found.cmd.into_owned()).unwrap())
            })
            .collect();
        let expected: Vec<(Option<i64>, String)> = expected
            .iter()
            .map(|&(ts, cmd)| (ts, cmd.to_owned()))
            .collect();
        assert_eq!(found, expected, "{file:?}");
    }

    #[test]
    fn without_timestamps_every_line_is_a_command() {
        check("ls\n\ncd /\n", &[(None, "ls"), (None, "cd /")]);
        check("ls\ncd /", &[(None, "ls"), (None, "cd /")]);
    }

    #[test]
    fn lines_behind_a_timestamp_belong_together() {
        check(
            "#1700000000\nfor i in 1; do\n\n  echo $i\ndone\n#1700000001\nls\n",
            &[
                (Some(1_700_000_000), "for i in 1; do\n\n  echo $i\ndone"),
                (Some(1_700_000_001), "ls"),
            ],
        );
    }

    #[test]
    fn lines_from_before_timestamps_were_on_have_none() {
        check(
            "old\nolder\n#1700000000\nnew\n",
            &[(None, "old"), (None, "older"), (Some(1_700_000_000), "new")],
        );
    }

    #[test]
    fn a_comment_that_only_looks_like_a_timestamp_is_a_command() {
        check(
            "#123\n#1 fix\n#1700000000 x\n",
            &[(None, "#123"), (None, "#1 fix"), (None, "#1700000000 x")],
        );
        check("#1700000000\n#123\n", &[(Some(1_700_000_000), "#123")]);
    }

    #[test]
    fn a_timestamp_without_a_command_is_nothing() {
        check(
            "#1700000000\n#1700000001\nls\n#1700000002\n",
            &[(Some(1_700_000_001), "ls")],
        );
        check("#1700000000\n\n\n", &[]);
    }

    #[test]
    fn a_file_from_elsewhere_may_end_its_lines_with_crlf() {
        check(
            "#1700000000\r\nls\r\n#1700000001\r\ncd\r\n",
            &[(Some(1_700_000_000), "ls"), (Some(1_700_000_001), "cd")],
        );
    }

    proptest! {
        #[test]
        fn what_bash_writes_comes_back(
            cmds in prop::collection::vec("[^#\r\n\0][^\r\n\0]{0,20}(\n[^#\r\n\0][^\r\n\0]{0,9}){0,3}", 0..20)
        ) {
            let file: String = cmds.iter().enumerate()
                .map(|(i, cmd)| format!("#{}\n{cmd}\n", 1_700_000_000 + i))
                .collect();
            let found: Vec<String> = entries(file.as_bytes())
                .map(|found| String::from_utf8(found.cmd.into_owned()).unwrap())
                .collect();
            prop_assert_eq!(found, cmds);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            entries(&bytes).for_each(drop);
        }

        #[test]
        fn no_mix_of_marks_panics(text in "[#1-9\r\n \\\\:;]{0,100}") {
            entries(text.as_bytes()).for_each(drop);
        }
    }
}
