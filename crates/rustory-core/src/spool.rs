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
//! | `L1` | session, first start, start, duration, exit code, directory, since, listing: what ran between two prompts of bash |
//!
//! start: microseconds since 1970, empty when not known; duration: milliseconds, empty when not
//! known. A command begins with a letter for its form; there is one so far, `=`, the text itself.
//!
//! listing: what bash's `history N` printed under a `HISTTIMEFORMAT` of RS `%s` RS, so that each
//! line begins with its number, a star if it was edited, and its time in seconds between marks
//! that nobody types. Start, duration and exit code are of the last line; the others, typed or
//! pasted ahead of it, have neither. If `since` is not empty, the last line counts only if it is
//! from after that second: bash could not tell whether it is new.

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

/// How many bytes the header at the beginning of a spool file takes; 0 when there is none.
#[must_use]
pub fn header_len(bytes: &[u8]) -> usize {
    match records(bytes).next() {
        Some(Step::Record {
            record: Record::Header(_),
            end,
            ..
        }) => end,
        _ => 0,
    }
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
                    Record::Commands(typed) => {
                        flush(&mut running, &mut drained.typed);
                        let typed = typed.into_iter().map(|typed| with_header(typed, header));
                        drained.typed.extend(typed);
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
    Commands(Vec<Typed>),
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
                Record::Commands(vec![Typed {
                    duration_ms: number(duration),
                    exit_code: number(exit),
                    ..typed
                }])
            })
        }
        (b"L1", [session, first, start, duration, exit, cwd, since, listing]) => {
            let last = Typed {
                duration_ms: number(duration),
                exit_code: number(exit),
                ..typed_at(session, micros(start), cwd)
            };
            Some(Record::Commands(listed(
                last,
                micros(first),
                number(since),
                listing,
            )))
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
    Some(Typed {
        cmd: cmd.strip_prefix(b"=")?.into(),
        ..typed_at(session, micros(start), cwd)
    })
}

fn typed_at(session: &[u8], start: Option<Timestamp>, cwd: &[u8]) -> Typed {
    Typed {
        session: text(session),
        shell: String::new(),
        hostname: String::new(),
        start,
        duration_ms: None,
        exit_code: None,
        cwd: cwd.into(),
        cmd: BString::default(),
    }
}

/// The commands of a listing. `last` is what is known of its last line, `first` the start of its
/// first one.
fn listed(last: Typed, first: Option<Timestamp>, since: Option<i64>, listing: &[u8]) -> Vec<Typed> {
    let lines = listing_lines(listing);
    // An empty listing is what a shell without history prints.
    let Some((newest, older)) = lines.split_last() else {
        return Vec::new();
    };
    if since.is_some_and(|since| newest.secs.is_none_or(|secs| secs <= since)) {
        return Vec::new();
    }
    let last = Typed {
        start: last.start.or(newest.start()),
        cmd: newest.cmd.into(),
        ..last
    };
    let mut earliest = first;
    let mut typed: Vec<Typed> = Vec::with_capacity(lines.len());
    for line in older {
        // Whole seconds would sort a line before the prompt it was typed at.
        let start = match earliest {
            Some(earliest) => Some(line.start().unwrap_or(earliest).max(earliest)),
            None => line.start(),
        };
        let start = start.map(|start| last.start.map_or(start, |end| start.min(end)));
        earliest = start.map(|start| start.saturating_add_micros(1));
        typed.push(Typed {
            start,
            duration_ms: None,
            exit_code: None,
            cmd: line.cmd.into(),
            ..last.clone()
        });
    }
    typed.push(last);
    typed
}

/// One command of a listing.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    number: i64,
    secs: Option<i64>,
    cmd: &'a [u8],
}

impl Line<'_> {
    /// Whole seconds, and the line's number in place of microseconds, so that lines of one second
    /// keep their order.
    fn start(&self) -> Option<Timestamp> {
        let start = self.secs.and_then(Timestamp::from_secs)?;
        Some(start.saturating_add_micros(self.number % 1_000_000))
    }
}

/// Cuts a listing where its lines begin; a command of several lines has no mark in them.
fn listing_lines(listing: &[u8]) -> Vec<Line<'_>> {
    let heads: Vec<(usize, Head)> = std::iter::once(0)
        .chain(memchr::memchr_iter(b'\n', listing).map(|newline| newline + 1))
        .filter_map(|at| listing_head(&listing[at..]).map(|head| (at, head)))
        .collect();
    let ends = heads.iter().skip(1).map(|(at, _)| *at);
    heads
        .iter()
        .zip(ends.chain([listing.len()]))
        .map(|((at, head), end)| (at + head.len, head, end))
        .map(|(text, head, end)| Line {
            number: head.number,
            secs: head.secs,
            // bash keeps the newline behind a here-document, and `history` adds one.
            cmd: listing[text..end].trim_end_with(|c| c == '\n').as_bytes(),
        })
        .collect()
}

/// What stands before the text of a listed line: `  123* RS 1700000000 RS`.
struct Head {
    len: usize,
    number: i64,
    secs: Option<i64>,
}

fn listing_head(line: &[u8]) -> Option<Head> {
    let rest = line.trim_ascii_start();
    let (count, rest) = rest.split_at(digits(rest)?);
    let rest = rest.strip_prefix(b"*").or(rest.strip_prefix(b" "))?;
    let rest = rest.strip_prefix(b" \x1e")?;
    let (secs, rest) = rest.split_at(digits(rest)?);
    let text = rest.strip_prefix(b"\x1e")?;
    Some(Head {
        len: line.len() - text.len(),
        number: number(count)?,
        secs: number(secs),
    })
}

/// How many digits `bytes` begins with, if any.
fn digits(bytes: &[u8]) -> Option<usize> {
    let len = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    (len > 0).then_some(len)
}

fn micros(field: &[u8]) -> Option<Timestamp> {
    number(field).and_then(Timestamp::from_micros)
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
                b"=a\n b",
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

    fn listing(texts: &[&str]) -> String {
        let lines = texts.iter().enumerate();
        lines
            .map(|(i, text)| format!("{:5}  \x1e{}\x1e{text}\n", 9 + i, 1_700_000_000 + i))
            .collect()
    }

    fn drain_listing(first: &str, start: &str, since: &str, listing: &str) -> Vec<Typed> {
        let fields = ["L1", "s1", first, start, "5", "3", "/tmp", since, listing];
        let bytes = record(&fields.map(str::as_bytes));
        let drained = drain_all(&bytes, false);
        assert!(drained.damaged.is_empty());
        drained.typed
    }

    #[test]
    fn listings_lose_numbers_stars_and_times_only() {
        for (listed, expect) in [
            ("    1  \x1e1700000000\x1els\n", "ls"),
            ("12345  \x1e1700000000\x1els -l  \n", "ls -l  "),
            ("    7* \x1e1700000000\x1eedited\n", "edited"),
            ("    9  \x1e1700000000\x1e  indented", "  indented"),
            ("    9  \x1e1700000000\x1ea\n   10  b\n", "a\n   10  b"),
            (
                "    9  \x1e1700000000\x1ecat <<X\na\nX\n\n",
                "cat <<X\na\nX",
            ),
        ] {
            let typed = drain_listing("", "1", "", listed);
            assert_eq!(typed.len(), 1);
            assert_eq!(typed[0].cmd, expect, "{listed:?}");
        }
    }

    #[test]
    fn only_the_last_line_of_a_listing_has_an_end() {
        let (first, start) = ("1700000000500000", "1700000003000000");
        let typed = drain_listing(first, start, "", &listing(&["a", "b\nb", "c"]));
        let seen: Vec<_> = typed
            .iter()
            .map(|t| (t.cmd.to_string(), t.start.unwrap().as_micros(), t.exit_code))
            .collect();
        let expect = [
            ("a".to_owned(), 1_700_000_000_500_000, None),
            ("b\nb".to_owned(), 1_700_000_001_000_010, None),
            ("c".to_owned(), 1_700_000_003_000_000, Some(3)),
        ];
        assert_eq!(seen, expect);
        assert_eq!(typed[2].duration_ms, Some(5));
    }

    #[test]
    fn lines_pasted_within_a_second_keep_their_order() {
        let (first, start) = ("1700000005000000", "1700000005000900");
        let typed = drain_listing(first, start, "", &listing(&["a", "b", "c", "d"]));
        let starts: Vec<_> = typed.iter().map(|t| t.start).collect();
        assert!(starts.is_sorted());
        assert!(starts[0] < starts[1] && starts[1] < starts[2] && starts[2] < starts[3]);
        assert_eq!(starts[0], Timestamp::from_micros(1_700_000_005_000_000));
    }

    #[test]
    fn without_a_clock_the_listing_tells_the_time() {
        let typed = drain_listing("", "", "", &listing(&["a", "b"]));
        assert_eq!(
            typed[0].start,
            Timestamp::from_micros(1_700_000_000_000_009)
        );
        assert_eq!(
            typed[1].start,
            Timestamp::from_micros(1_700_000_001_000_010)
        );
    }

    #[test]
    fn an_old_line_is_not_taken_for_a_new_one() {
        for (since, expect) in [("1699999999", 1), ("1700000000", 0), ("1700000001", 0)] {
            let typed = drain_listing("1", "1", since, &listing(&["a"]));
            assert_eq!(typed.len(), expect, "since {since}");
        }
    }

    #[test]
    fn a_shell_without_history_lists_nothing_and_that_is_no_damage() {
        assert!(drain_listing("1", "1", "", "").is_empty());
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
