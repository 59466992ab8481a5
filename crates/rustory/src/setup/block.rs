//! The block that loads the hook, in the bytes of an rc file: pure, so that "undo takes out exactly
//! what was put in" can be tested over any bytes.

use bstr::{BStr, BString, ByteSlice as _};

/// Every block begins with this and ends with [`END`], each at the start of a line.
const START: &[u8] = b"# >>> rustory >>>";
const END: &[u8] = b"# <<< rustory <<<";

const ABOUT: &str = "added by `rr setup`; `rr setup --undo` takes it out";
/// Said in the first line when the file's last line had no end, so that undo takes ours away.
const JOINED: &str = "; the line before had no end";
/// Said in the first line when there was no file, so that undo removes it.
const CREATED: &str = "; the file is new";

/// Why a file is not touched.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BlockError {
    #[error("line {line} begins a block of rustory that has no end; remove what is left of it")]
    NoEnd { line: usize },
    #[error("line {line} ends a block of rustory that has no beginning; remove what is left of it")]
    NoStart { line: usize },
}

/// The file with one block that holds `body` (whole lines); where a block is already, else at the
/// end. `None` stands for a file that is not there.
pub(crate) fn put(before: Option<&BStr>, body: &str) -> Result<BString, BlockError> {
    let Some(text) = before else {
        return Ok(block(CREATED, body).into());
    };
    let found = find(text)?;
    let Some(first) = found.first() else {
        let joined = !text.is_empty() && !text.ends_with(b"\n");
        let (gap, note) = if joined { ("\n", JOINED) } else { ("", "") };
        return Ok([text, gap.as_bytes(), block(note, body).as_bytes()]
            .concat()
            .into());
    };
    let rest = cut(&text[first.end..], &find(text[first.end..].as_bstr())?);
    let note = first.note(text);
    Ok([&text[..first.start], block(note, body).as_bytes(), &rest]
        .concat()
        .into())
}

/// The file as it was before [`put`]; `None` when there was none.
pub(crate) fn take_out(text: &BStr) -> Result<Option<BString>, BlockError> {
    let found = find(text)?;
    let rest = cut(text, &found);
    let created = found.iter().any(|block| block.note(text) == CREATED);
    Ok((!(created && rest.is_empty())).then_some(rest.into()))
}

/// Whether the file has a block.
pub(crate) fn is_in(text: &BStr) -> Result<bool, BlockError> {
    Ok(!find(text)?.is_empty())
}

/// The line, counted from 1, on which the user loads the hook by a line of their own.
pub(crate) fn own_line(text: &BStr) -> Option<usize> {
    let outside = match find(text) {
        Ok(found) => found,
        Err(_) => return None,
    };
    lines(text).find_map(|(start, line)| {
        let inside = outside
            .iter()
            .any(|block| (block.start..block.end).contains(&start));
        let code = line.trim_ascii_start();
        let loads = [
            "rr init bash",
            "rr init zsh",
            "rr init fish",
            "rustory init fish",
            "rustory init bash",
            "rustory init zsh",
        ]
        .iter()
        .any(|call| code.contains_str(call));
        (!inside && !code.starts_with(b"#") && loads).then(|| line_number(text, start))
    })
}

/// The line, counted from 1, on which the hook is loaded: by our block or by a line of the user's.
pub(crate) fn loading_line(text: &BStr) -> Option<usize> {
    let own = own_line(text);
    let block = || Some(line_number(text, find(text).ok()?.first()?.start));
    own.or_else(block)
}

fn block(note: &str, body: &str) -> String {
    let (start, end) = (START.to_str_lossy(), END.to_str_lossy());
    format!("{start} {ABOUT}{note}\n{body}{end}\n")
}

/// Where a block lies: from its first byte to behind its last.
struct Found {
    start: usize,
    end: usize,
}

impl Found {
    fn note(&self, text: &BStr) -> &'static str {
        let first = text[self.start..self.end]
            .lines()
            .next()
            .unwrap_or_default();
        [JOINED, CREATED]
            .into_iter()
            .find(|note| first.ends_with(note.as_bytes()))
            .unwrap_or_default()
    }
}

fn find(text: &BStr) -> Result<Vec<Found>, BlockError> {
    let mut found = Vec::new();
    let mut open = None;
    for (start, line) in lines(text) {
        match (open, line) {
            (None, line) if line.starts_with(START) => open = Some(start),
            (Some(at), line) if line.starts_with(START) => {
                return Err(BlockError::NoEnd {
                    line: line_number(text, at),
                });
            }
            (Some(at), line) if line.starts_with(END) => {
                found.push(Found {
                    start: at,
                    end: start + line.len(),
                });
                open = None;
            }
            (None, line) if line.starts_with(END) => {
                return Err(BlockError::NoStart {
                    line: line_number(text, start),
                });
            }
            _ => {}
        }
    }
    match open {
        Some(at) => Err(BlockError::NoEnd {
            line: line_number(text, at),
        }),
        None => Ok(found),
    }
}

/// Lines with their ends, and where each begins.
fn lines(text: &BStr) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    text.lines_with_terminator().map(move |line| {
        let start = at;
        at += line.len();
        (start, line)
    })
}

fn cut(text: &[u8], found: &[Found]) -> Vec<u8> {
    let text = text.as_bstr();
    let mut kept = Vec::with_capacity(text.len());
    let mut at = 0;
    for block in found {
        kept.extend_from_slice(&text[at..block.start]);
        // The line end that we gave to the last line; once something follows it is needed.
        if block.note(text) == JOINED && block.end == text.len() && kept.last() == Some(&b'\n') {
            kept.pop();
        }
        at = block.end;
    }
    kept.extend_from_slice(&text[at..]);
    kept
}

fn line_number(text: &BStr, offset: usize) -> usize {
    1 + text[..offset].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &str = "hook\n";

    fn put_in(text: &[u8]) -> BString {
        put(Some(text.as_bstr()), BODY).unwrap()
    }

    fn taken_out(text: &BStr) -> Option<BString> {
        take_out(text).unwrap()
    }

    #[test]
    fn the_block_goes_behind_the_last_line_and_leaves_without_a_trace() {
        for before in ["", "a\n", "a\nb", "a\r\n", "\n\n", "#"] {
            let with = put_in(before.as_bytes());
            assert!(with.contains_str("\nhook\n"), "{with}");
            assert!(with.starts_with(before.as_bytes()));
            assert_eq!(taken_out(with.as_bstr()).unwrap(), before);
        }
    }

    #[test]
    fn a_file_that_was_not_there_is_gone_again_unless_something_was_added() {
        let with = put(None, BODY).unwrap();
        assert_eq!(taken_out(with.as_bstr()), None);
        let more = [with.as_slice(), b"alias l=ls\n"].concat();
        assert_eq!(taken_out(more.as_bstr()).unwrap(), "alias l=ls\n");
    }

    #[test]
    fn again_changes_nothing_and_another_body_takes_the_place_of_the_old_one() {
        let once = put_in(b"a\nb");
        assert_eq!(put(Some(once.as_bstr()), BODY).unwrap(), once);
        let user = [once.as_slice(), b"more\n"].concat();
        let moved = put(Some(user.as_bstr()), "other\n").unwrap();
        assert!(moved.contains_str("other\n") && !moved.contains_str("hook"));
        assert_eq!(taken_out(moved.as_bstr()).unwrap(), "a\nb\nmore\n");
    }

    #[test]
    fn what_was_written_behind_a_joined_block_keeps_its_own_line() {
        // The end that we gave to the user's last line is theirs once something follows.
        let with = [put_in(b"a").as_slice(), b"b\n"].concat();
        assert_eq!(taken_out(with.as_bstr()).unwrap(), "a\nb\n");
    }

    #[test]
    fn two_blocks_become_one() {
        let twice = [put_in(b"a\n").as_slice(), put_in(b"b\n").as_slice()].concat();
        let once = put(Some(twice.as_bstr()), BODY).unwrap();
        assert_eq!(once.find_iter(START).count(), 1);
        assert_eq!(taken_out(once.as_bstr()).unwrap(), "a\nb\n");
    }

    #[test]
    fn half_a_block_is_told_with_its_line_and_left_alone() {
        let whole = put_in(b"a\n");
        let no_end = whole.replace(END, "");
        assert_eq!(
            put(Some(no_end.as_bstr()), BODY),
            Err(BlockError::NoEnd { line: 2 })
        );
        assert_eq!(
            take_out(no_end.as_bstr()),
            Err(BlockError::NoEnd { line: 2 })
        );
        let no_start = whole.replace(START, "#");
        assert_eq!(
            take_out(no_start.as_bstr()),
            Err(BlockError::NoStart { line: 4 })
        );
    }

    #[test]
    fn a_line_of_the_users_own_is_found_and_comments_and_our_block_are_not() {
        let own = |text: &str| own_line(text.into());
        assert_eq!(own("a\neval \"$(rr init bash)\"\n"), Some(2));
        assert_eq!(own("source <(/opt/bin/rustory init zsh)"), Some(1));
        assert_eq!(own("# eval \"$(rr init bash)\"\n"), None);
        let with = put(Some(b"a\n".as_bstr()), "eval \"$(rr init bash)\"\n").unwrap();
        assert_eq!(own_line(with.as_bstr()), None);
    }

    proptest! {
        #[test]
        fn undo_restores_any_bytes(before in prop::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'#'), Just(b'>'), any::<u8>()], 0..200)) {
            let with = put_in(&before);
            prop_assert!(is_in(with.as_bstr()).unwrap());
            prop_assert_eq!(taken_out(with.as_bstr()).unwrap(), before);
        }
    }
}
