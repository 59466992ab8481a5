//! Text in columns: what of it fits, how wide it is, and nothing in it that a terminal would run.

use std::ops::Range;

use ratatui::style::Style;
use ratatui::text::Span;
use rustory_core::Timestamp;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use crate::text::{Breaks, push_visible};

/// A character as people see it, made harmless.
struct Cell {
    text: String,
    width: usize,
    is_matched: bool,
}

/// Bytes of a command that are looked at for one column: a family of emoji has 25 in two.
const COLUMN_BYTES_MAX: usize = 16;

/// The part of a command that fits into `room` columns, so that the last matched letter is in it.
pub(super) fn fitted(
    text: &str,
    matched: &[usize],
    room: usize,
    style: Style,
    matched_style: Style,
) -> Vec<Span<'static>> {
    let window = window(text, matched, room);
    let mut cells = cells(&text[window.clone()], window.start, matched);
    let mut spans = Vec::new();
    let total: usize = cells.iter().map(|cell| cell.width).sum();
    let cut_right = window.end < text.len();
    if total > room || window.start > 0 || cut_right {
        cells = scroll(cells, room, window.start > 0, cut_right);
    }
    for cell in cells {
        let style = match cell.is_matched {
            true => style.patch(matched_style),
            false => style,
        };
        spans.push(Span::styled(cell.text, style));
    }
    spans
}

/// The bytes of a long command that may be shown: up to the last match and around it.
fn window(text: &str, matched: &[usize], room: usize) -> Range<usize> {
    let bytes_max = (room + 1) * COLUMN_BYTES_MAX;
    let last = matched.last().copied().unwrap_or(0);
    let start = match last > bytes_max / 2 {
        true => text.floor_char_boundary(last - bytes_max / 2),
        false => 0,
    };
    start..text.floor_char_boundary(start.saturating_add(bytes_max))
}

fn cells(text: &str, offset: usize, matched: &[usize]) -> Vec<Cell> {
    text.grapheme_indices(true)
        .map(|(at, grapheme)| {
            let bytes = offset + at..offset + at + grapheme.len();
            let next = matched.partition_point(|&at| at < bytes.start);
            let text = harmless(grapheme);
            Cell {
                width: text.width(),
                text,
                is_matched: matched.get(next).is_some_and(|at| bytes.contains(at)),
            }
        })
        .collect()
}

/// Cuts cells to `room` columns, with `…` where something is missing.
fn scroll(cells: Vec<Cell>, room: usize, more_left: bool, more_right: bool) -> Vec<Cell> {
    if room == 0 {
        return Vec::new();
    }
    let ellipsis = || Cell {
        text: "…".to_owned(),
        width: 1,
        is_matched: false,
    };
    let last = cells.iter().rposition(|cell| cell.is_matched).unwrap_or(0);
    let until_last: usize = cells[..(last + 1).min(cells.len())]
        .iter()
        .map(|cell| cell.width)
        .sum();
    // A few columns behind the last match, for what it is part of.
    let behind = (room / 4).min(10);
    let mut skip = (until_last + behind + 2).saturating_sub(room);
    if until_last < room.saturating_sub(1) && !more_left {
        skip = 0;
    }
    let mut cut = Vec::new();
    let mut used = 0;
    let mut skipped = 0;
    if skip > 0 || more_left {
        cut.push(ellipsis());
        used = 1;
    }
    let mut rest = cells.into_iter().skip_while(|cell| {
        let is_before = skipped < skip;
        skipped += cell.width;
        is_before
    });
    let mut cut_short = more_right;
    for cell in &mut rest {
        if used + cell.width > room {
            cut_short = true;
            break;
        }
        used += cell.width;
        cut.push(cell);
    }
    if cut_short {
        while used + 1 > room {
            match cut.pop() {
                Some(cell) => used -= cell.width,
                None => return cut,
            }
        }
        cut.push(ellipsis());
    }
    cut
}

/// Text in which nothing is left that a terminal would run or that can't be seen.
pub(super) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for grapheme in text.graphemes(true) {
        let has_control = grapheme.chars().any(is_marked);
        if has_control {
            for char in grapheme.chars() {
                push_visible(&mut shown, char, Breaks::Mark);
            }
        } else if grapheme.width() == 0 {
            for char in grapheme.chars() {
                shown.push_str(&format!("\\u{{{:x}}}", char as u32));
            }
        } else {
            shown.push_str(grapheme);
        }
    }
    shown
}

fn is_marked(char: char) -> bool {
    let mut shown = String::new();
    if (' '..='~').contains(&char) {
        return false;
    }
    push_visible(&mut shown, char, Breaks::Mark);
    !shown.starts_with(char)
}

/// Whether terminals differ about its columns: emoji of several parts. What they paint beyond the
/// place that it has here would stay when the row changes.
pub(super) fn is_of_uncertain_width(grapheme: &str) -> bool {
    let joins = |char| matches!(char, '\u{200d}' | '\u{fe0f}' | '\u{20e3}' | '\u{1f1e6}'..='\u{1f1ff}' | '\u{1f3fb}'..='\u{1f3ff}');
    grapheme.len() > '한'.len_utf8() && grapheme.chars().any(joins)
}

/// The start of a harmless text, at most `width` columns wide.
pub(super) fn clipped(text: &str, width: usize) -> String {
    let mut used = 0;
    text.graphemes(true)
        .take_while(|grapheme| {
            used += grapheme.width();
            used <= width
        })
        .collect()
}

/// The end of a harmless path, at most `width` columns wide: it tells most. Whole names where that
/// leaves any.
pub(super) fn clipped_path(path: &str, width: usize) -> String {
    if path.width() <= width || width == 0 {
        return clipped(path, width);
    }
    let mut used = "…".width();
    let kept: Vec<&str> = path
        .graphemes(true)
        .rev()
        .take_while(|grapheme| {
            used += grapheme.width();
            used <= width
        })
        .collect();
    let kept: String = kept.into_iter().rev().collect();
    match kept.find('/') {
        Some(slash) => format!("…{}", &kept[slash..]),
        None => format!("…{kept}"),
    }
}

/// A command in lines of at most `width` columns, at most `height` of them.
pub(super) fn wrapped(text: &str, width: usize, height: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if width == 0 {
        return lines;
    }
    let bytes_max = text.floor_char_boundary((width + 1) * (height + 1) * COLUMN_BYTES_MAX);
    for line in text[..bytes_max].split('\n') {
        let mut row = String::new();
        let mut used = 0;
        for grapheme in line.graphemes(true) {
            let shown = match grapheme {
                "\t" => "    ".to_owned(),
                other => harmless(other),
            };
            for shown in shown.graphemes(true) {
                if used + shown.width() > width {
                    lines.push(std::mem::take(&mut row));
                    used = 0;
                }
                used += shown.width();
                row.push_str(shown);
            }
        }
        lines.push(row);
        if lines.len() > height {
            break;
        }
    }
    if lines.len() > height {
        lines.truncate(height);
        if let Some(last) = lines.last_mut() {
            *last = format!("{}…", clipped(last, width.saturating_sub(1)));
        }
    }
    lines
}

/// `12s`, `5m`, `3h`, `2d`, `8mo`, `4y`; at most four columns. Blank when not known.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    if then.is_unknown() {
        return String::new();
    }
    let secs = now.since(then).as_secs().max(0);
    let days = secs / 86_400;
    match (secs, days) {
        (0..60, _) => format!("{secs}s"),
        (60..3_600, _) => format!("{}m", secs / 60),
        (_, 0) => format!("{}h", secs / 3_600),
        (_, 1..60) => format!("{days}d"),
        (_, 60..365) => format!("{}mo", days / 30),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str, matched: &[usize], room: usize) -> String {
        let spans = fitted(text, matched, room, Style::new(), Style::new());
        spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn a_long_command_is_cut_so_that_the_match_stays_in_sight() {
        let text = "0123456789abcdefghijXYZ and so on for long";
        assert_eq!(shown(text, &[], 10), "012345678…");
        assert_eq!(shown(text, &[2], 10), "012345678…");
        assert_eq!(shown(text, &[20, 21, 22], 10), "…hijXYZ a…");
        assert_eq!(shown("short", &[4], 10), "short");
        assert_eq!(shown("한글한글", &[], 5), "한글…");
        assert_eq!(shown("한글한글", &[], 4), "한…");
        assert_eq!(shown("abc", &[], 0), "");
    }

    #[test]
    fn line_breaks_are_marked_in_the_list_and_followed_in_the_preview() {
        let text = "for x\n\tdo\ndone";
        assert_eq!(shown(text, &[], 40), "for x⏎⇥do⏎done");
        assert_eq!(wrapped(text, 40, 5), ["for x", "    do", "done"]);
        assert_eq!(wrapped(text, 40, 2), ["for x", "    do…"]);
        assert_eq!(wrapped("abcdef", 3, 5), ["abc", "def"]);
        assert_eq!(wrapped("한글", 3, 5), ["한", "글"]);
    }

    #[test]
    fn ages_take_four_columns_at_most() {
        let now = Timestamp::from_secs(2_000_000_000).unwrap();
        for (secs, expect) in [
            (-5, "0s"),
            (59, "59s"),
            (60, "1m"),
            (86_399, "23h"),
            (86_400, "1d"),
            (5_183_999, "59d"),
            (5_184_000, "2mo"),
            (31_535_999, "12mo"),
            (63_072_000, "2y"),
        ] {
            let then = Timestamp::from_secs(2_000_000_000 - secs).unwrap();
            assert_eq!(ago(then, now), expect);
        }
        assert_eq!(ago(Timestamp::from_micros(5).unwrap(), now), "");
    }

    #[test]
    fn of_a_path_the_end_is_kept() {
        for (width, expect) in [
            (20, "~/src/rustory/docs"),
            (16, "…/rustory/docs"),
            (13, "…/docs"),
            (4, "…ocs"),
            (1, "…"),
            (0, ""),
        ] {
            assert_eq!(clipped_path("~/src/rustory/docs", width), expect);
        }
        assert_eq!(clipped_path("~/문서/한글", 6), "…/한글");
        assert_eq!(clipped_path("~/문서/한글", 4), "…글");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_its_place_and_nothing_harmful_is_in_it(
            text in prop::collection::vec(
                prop_oneof!["[a-c ]{1,5}", "\\PC", Just("\u{1b}[31m".to_owned()), Just("\n\t".to_owned()),
                    Just("👨‍👩‍👧‍👦".to_owned()), Just("한글e\u{301}".to_owned()), Just("\u{202e}\u{200b}\u{9b}".to_owned()), any::<char>().prop_map(String::from)],
                0..20,
            ).prop_map(|parts| parts.concat()),
            picks in prop::collection::vec(0usize..200, 0..4),
            room in 0usize..80,
            height in 0usize..5,
        ) {
            let mut matched: Vec<usize> = picks.into_iter().filter(|&at| at < text.len()).collect();
            matched.sort_unstable();
            let row = shown(&text, &matched, room);
            prop_assert!(row.width() <= room, "{row:?} in {room}");
            let mut lines = wrapped(&text, room, height);
            prop_assert!(lines.len() <= height);
            lines.push(row);
            for line in lines {
                // One wide character has a line of its own; the screen's edge cuts it.
                prop_assert!(line.width() <= room.max(2), "{line:?} in {room}");
                let harmful = |char: char| char.is_control() || ('\u{202a}'..='\u{202e}').contains(&char);
                prop_assert!(!line.chars().any(harmful), "{line:?}");
            }
        }
    }
}
