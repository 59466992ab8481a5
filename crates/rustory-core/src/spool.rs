//! What shell hooks append to the spool, and how it becomes commands. `docs/storage.md` has the
//! same format in words.
//!
//! ```text
//! record = NUL RS kind NUL field NUL field NUL ... field NUL US
//! ```
//!
//! RS is 0x1e, US 0x1f. A field holds no NUL, and none starts with RS or US, so both frame marks
//! are unique: a record torn by a full disk or a kill is seen as torn, never read as a shorter
//! one, and reading goes on at the next mark.
//!
//! | kind | fields |
//! |---|---|
//! | `H1` | session, shell, shell version, pid, host name |
//! | `C1` | session, start, duration, exit code, directory, command: one whole command |
//! | `S1` | session, start, directory, command: a command has started |
//! | `E1` | session, duration, exit code: the command of the `S1` before has ended |
//!
//! start: microseconds since 1970, empty when not known; duration: milliseconds, empty when not
//! known. The command begins with a letter for its form: `=` the text itself; `h` what bash's
//! `history 1` printed (number, text, newline); `t` the same under `HISTTIMEFORMAT='%s '`, which
//! puts the start in seconds before the text.

use bstr::{BString, ByteSlice as _};

use crate::time::Timestamp;

const START: &[u8] = b"\0\x1e";
const END: &[u8] = b"\0\x1f";

/// One command as a hook saw it, before the rules decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// The session that typed it.
    pub session: String,
    /// From the session's header; empty when the header is lost.
    pub shell: String,
    /// From the session's header; empty when the header is lost.
    pub hostname: String,
    /// `None` when the shell had no clock.
    pub start: Option<Timestamp>,
    /// Milliseconds.
    pub duration_ms: Option<u64>,
    /// Exit status as the shell gives it.
    pub exit_code: Option<i64>,
    /// The directory in which it was typed.
    pub cwd: BString,
    /// The command as typed.
    pub cmd: BString,
}

/// Who writes a spool file, from its `H1` record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The session's id.
    pub session: String,
    /// `bash`, `zsh`, ...
    pub shell: String,
    /// Its version, as it calls itself.
    pub shell_version: String,
    /// The shell's process id on `hostname`.
    pub pid: Option<u32>,
    /// The host it runs on.
    pub hostname: String,
}

/// What a spool file, or the rest of one, came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Complete commands, in the order they were typed.
    pub typed: Vec<Typed>,
    /// Bytes that need not be read again. Less than the length while a command is still running
    /// or a record is still being written.
    pub consumed: usize,
    /// Records that could not be read (torn by a full disk, or of a newer hook), as ranges.
    pub damaged: Vec<std::ops::Range<usize>>,
}

/// One record from its kind and fields, as a hook writes it. For writers that are no shell.
#[must_use]
pub fn record(fields: &[&[u8]]) -> Vec<u8> {
    [START, &fields.join(&0u8), END].concat()
}

/// Reads the header of a spool file from its first bytes; `None` when it has none (yet).
#[must_use]
pub fn header(bytes: &[u8]) -> Option<Header> {
    records(bytes).find_map(|step| match step {
        Step::Record {
            record: Record::Header(header),
            ..
        } => Some(header),
        _ => None,
    })
}

/// Reads `bytes[from..]` of a spool file whose `header` is known.
///
/// `session_over` tells that nothing will be written any more: a command that started and never
/// ended then counts with an unknown exit code, and a torn tail counts as damaged.
#[must_use]
pub fn drain(bytes: &[u8], from: usize, header: &Header, session_over: bool) -> Drained {
    let mut drained = Drained::default();
    let mut running: Option<(Typed, usize)> = None;
    let mut done = from.min(bytes.len());
    for step in records(&bytes[done..]) {
        match step {
            Step::Record { record, end, start } => {
                let (start, end) = (from + start, from + end);
                match record {
                    Record::Header(_) => {}
                    Record::Command(typed) => {
                        flush(&mut running, &mut drained.typed);
                        drained.typed.push(with_header(typed, header));
                    }
                    Record::Start(typed) => {
                        flush(&mut running, &mut drained.typed);
                        running = Some((with_header(typed, header), start));
                    }
                    Record::End {
                        duration_ms,
                        exit_code,
                    } => {
                        if let Some((typed, _)) = &mut running {
                            typed.duration_ms = duration_ms;
                            typed.exit_code = exit_code;
                        }
                        flush(&mut running, &mut drained.typed);
                    }
                    Record::Unreadable => drained.damaged.push(start..end),
                }
                done = end;
            }
            Step::Torn { start, end } => {
                drained.damaged.push(from + start..from + end);
                done = from + end;
            }
            Step::Unfinished { start } => {
                if session_over {
                    drained.damaged.push(from + start..bytes.len());
                    done = bytes.len();
                }
            }
        }
    }
    match running.take() {
        // Still running: it is read again, with everything behind it, next time.
        Some((_, start)) if !session_over => done = start,
        Some((typed, _)) => drained.typed.push(typed),
        None => {}
    }
    drained.consumed = done;
    drained
        .damaged
        .retain(|range| range.start < drained.consumed);
    drained
}

fn flush(running: &mut Option<(Typed, usize)>, typed: &mut Vec<Typed>) {
    typed.extend(running.take().map(|(typed, _)| typed));
}

fn with_header(mut typed: Typed, header: &Header) -> Typed {
    typed.shell.clone_from(&header.shell);
    typed.hostname.clone_from(&header.hostname);
    typed
}

enum Record {
    Header(Header),
    Command(Typed),
    Start(Typed),
    End {
        duration_ms: Option<u64>,
        exit_code: Option<i64>,
    },
    /// Whole, but of a kind or shape that this version does not know.
    Unreadable,
}

enum Step {
    Record {
        record: Record,
        start: usize,
        end: usize,
    },
    /// Bytes between two marks that make no record.
    Torn { start: usize, end: usize },
    /// A record at the end whose last bytes are not there yet.
    Unfinished { start: usize },
}

/// Cuts bytes into records and what lies between them.
fn records(bytes: &[u8]) -> impl Iterator<Item = Step> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[at..];
        if rest.is_empty() {
            return None;
        }
        let start = at;
        if !rest.starts_with(START) {
            return Some(match rest.find(START) {
                Some(next) => {
                    at += next;
                    Step::Torn { start, end: at }
                }
                None => {
                    at = bytes.len();
                    Step::Unfinished { start }
                }
            });
        }
        let body = &rest[START.len()..];
        let next = body.find(START);
        let within = &body[..next.unwrap_or(body.len())];
        Some(match (within.find(END), next) {
            (Some(len), _) => {
                at += START.len() + len + END.len();
                Step::Record {
                    record: parse(&body[..len]),
                    start,
                    end: at,
                }
            }
            (None, Some(next)) => {
                at += START.len() + next;
                Step::Torn { start, end: at }
            }
            (None, None) => {
                at = bytes.len();
                Step::Unfinished { start }
            }
        })
    })
}

fn parse(body: &[u8]) -> Record {
    let mut fields = body.split(|&byte| byte == 0);
    let kind = fields.next().unwrap_or_default();
    let fields: Vec<&[u8]> = fields.collect();
    let record = match (kind, fields.as_slice()) {
        (b"H1", [session, shell, version, pid, hostname]) => Some(Record::Header(Header {
            session: text(session),
            shell: text(shell),
            shell_version: text(version),
            pid: number(pid),
            hostname: text(hostname),
        })),
        (b"C1", [session, start, duration, exit, cwd, cmd]) => {
            typed(session, start, cwd, cmd).map(|typed| {
                Record::Command(Typed {
                    duration_ms: number(duration),
                    exit_code: number(exit),
                    ..typed
                })
            })
        }
        (b"S1", [session, start, cwd, cmd]) => typed(session, start, cwd, cmd).map(Record::Start),
        (b"E1", [_session, duration, exit]) => Some(Record::End {
            duration_ms: number(duration),
            exit_code: number(exit),
        }),
        _ => None,
    };
    record.unwrap_or(Record::Unreadable)
}

fn typed(session: &[u8], start: &[u8], cwd: &[u8], cmd: &[u8]) -> Option<Typed> {
    let (cmd, listed_start) = command(cmd)?;
    Some(Typed {
        session: text(session),
        shell: String::new(),
        hostname: String::new(),
        start: number(start)
            .and_then(Timestamp::from_micros)
            .or(listed_start),
        duration_ms: None,
        exit_code: None,
        cwd: cwd.into(),
        cmd,
    })
}

/// Takes the command out of its form; `None` for a form that this version does not know.
fn command(field: &[u8]) -> Option<(BString, Option<Timestamp>)> {
    match field.split_first()? {
        (b'=', text) => Some((text.into(), None)),
        (b'h', listed) => Some((without_number(listed)?.into(), None)),
        (b't', listed) => {
            let listed = without_number(listed)?;
            let (secs, text) = listed.split_once_str(" ")?;
            let start = number(secs).and_then(Timestamp::from_secs);
            Some((text.into(), start))
        }
        _ => None,
    }
}

/// `  123* text\n` as `history 1` prints it: the number, a star for an edited line, two blanks.
fn without_number(listed: &[u8]) -> Option<&[u8]> {
    let listed = listed.strip_suffix(b"\n").unwrap_or(listed);
    let listed = listed.trim_ascii_start();
    let digits = listed
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if digits == 0 {
        return None;
    }
    let rest = &listed[digits..];
    let rest = rest.strip_prefix(b"*").or(rest.strip_prefix(b" "))?;
    rest.strip_prefix(b" ")
}

fn text(field: &[u8]) -> String {
    field.to_str_lossy().into_owned()
}

fn number<N: std::str::FromStr>(field: &[u8]) -> Option<N> {
    field.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> Vec<u8> {
        record(&[b"H1", b"s1", b"zsh", b"5.9", b"77", b"box"])
    }

    fn cmds(drained: &Drained) -> Vec<String> {
        drained.typed.iter().map(|t| t.cmd.to_string()).collect()
    }

    fn drain_all(bytes: &[u8], over: bool) -> Drained {
        drain(bytes, 0, &header(bytes).unwrap_or_default(), over)
    }

    #[test]
    fn a_whole_command_carries_its_context() {
        let bytes = [
            head(),
            record(&[
                b"C1",
                b"s1",
                b"1700000000123456",
                b"1010",
                b"7",
                b"/tmp",
                b"h  501  a\n b\n",
            ]),
        ]
        .concat();
        let drained = drain_all(&bytes, false);
        assert_eq!(drained.consumed, bytes.len());
        assert_eq!(
            drained.typed,
            [Typed {
                session: "s1".into(),
                shell: "zsh".into(),
                hostname: "box".into(),
                start: Timestamp::from_micros(1_700_000_000_123_456),
                duration_ms: Some(1010),
                exit_code: Some(7),
                cwd: "/tmp".into(),
                cmd: "a\n b".into(),
            }]
        );
    }

    #[test]
    fn a_running_command_waits_for_its_end() {
        let start = record(&[b"S1", b"s1", b"1", b"/", b"=vim"]);
        let bytes = [head(), start].concat();
        let waiting = drain_all(&bytes, false);
        assert_eq!((waiting.typed.len(), waiting.consumed), (0, head().len()));

        let bytes = [bytes, record(&[b"E1", b"s1", b"5", b"130"])].concat();
        let ended = drain(&bytes, waiting.consumed, &Header::default(), false);
        assert_eq!(ended.typed[0].exit_code, Some(130));
        assert_eq!(ended.consumed, bytes.len());
    }

    #[test]
    fn a_running_command_outlives_its_session_with_an_unknown_exit() {
        let bytes = [head(), record(&[b"S1", b"s1", b"1", b"/", b"=vim"])].concat();
        let drained = drain_all(&bytes, true);
        assert_eq!(drained.typed[0].exit_code, None);
        assert_eq!(drained.consumed, bytes.len());
    }

    #[test]
    fn a_torn_record_is_damaged_and_never_a_shorter_command() {
        let torn = record(&[b"C1", b"s1", b"1", b"", b"0", b"/", b"=rm -rf /tmp/x"]);
        let next = record(&[b"C1", b"s1", b"2", b"", b"0", b"/", b"=ls"]);
        for cut in 0..torn.len() {
            let bytes = [head(), torn[..cut].to_vec(), next.clone()].concat();
            let drained = drain_all(&bytes, false);
            assert_eq!(cmds(&drained), ["ls"], "cut at {cut}");
            assert_eq!(drained.consumed, bytes.len());
            assert_eq!(drained.damaged.len(), usize::from(cut > 0), "cut at {cut}");
        }
    }

    #[test]
    fn an_unfinished_tail_is_read_when_it_is_whole() {
        let whole = record(&[b"C1", b"s1", b"1", b"", b"0", b"/", b"=make"]);
        for cut in 0..whole.len() {
            let bytes = [head(), whole[..cut].to_vec()].concat();
            let before = drain_all(&bytes, false);
            assert!(before.typed.is_empty() && before.damaged.is_empty());
            let bytes = [head(), whole.clone()].concat();
            let after = drain(&bytes, before.consumed, &Header::default(), false);
            assert_eq!(cmds(&after), ["make"]);
        }
    }

    #[test]
    fn history_listings_lose_number_and_star_only() {
        for (listed, expect) in [
            ("h    1  ls", "ls"),
            ("h12345  ls -l  \n", "ls -l  "),
            ("h 7*  edited", " edited"),
            ("h    9    indented", "  indented"),
            ("h    9  5 apples", "5 apples"),
        ] {
            let (cmd, _) = command(listed.as_bytes()).unwrap();
            assert_eq!(cmd, expect, "{listed:?}");
        }
        let (cmd, start) = command(b"t   3  1700000000 ls -l\n").unwrap();
        assert_eq!(cmd, "ls -l");
        assert_eq!(start, Timestamp::from_secs(1_700_000_000));
        assert!(command(b"?x").is_none());
    }

    #[test]
    fn a_record_of_a_newer_hook_is_counted_not_guessed() {
        let bytes = [head(), record(&[b"C9", b"x", b"y"])].concat();
        let drained = drain_all(&bytes, false);
        assert!(drained.typed.is_empty());
        assert_eq!(drained.damaged.len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_progress_is_bounded(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(0x1e), Just(0x1f), any::<u8>()], 0..400),
            from in 0usize..500,
            over: bool,
        ) {
            let drained = drain(&bytes, from, &Header::default(), over);
            prop_assert!(drained.consumed <= bytes.len());
            if over { prop_assert_eq!(drained.consumed, bytes.len()); }
        }

        /// Reading in two goes gives what reading at once gives, wherever the first one stopped.
        #[test]
        fn where_a_drain_stops_does_not_matter(cut in 0usize..400, texts in prop::collection::vec("[a-z\n ]{1,9}", 1..6)) {
            let mut bytes = head();
            for (i, text) in texts.iter().enumerate() {
                let cmd = format!("={text}");
                if i % 2 == 0 {
                    bytes.extend(record(&[b"S1", b"s", b"1", b"/", cmd.as_bytes()]));
                    bytes.extend(record(&[b"E1", b"s", b"1", b"0"]));
                } else {
                    bytes.extend(record(&[b"C1", b"s", b"1", b"", b"0", b"/", cmd.as_bytes()]));
                }
            }
            let cut = cut.min(bytes.len());
            let first = drain(&bytes[..cut], 0, &Header::default(), false);
            let second = drain(&bytes, first.consumed, &Header::default(), false);
            let both: Vec<_> = first.typed.into_iter().chain(second.typed).collect();
            prop_assert_eq!(both, drain(&bytes, 0, &Header::default(), false).typed);
        }
    }
}
