//! The keys, for whoever asks: the one list of them, which `docs/finder.md` repeats.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr as _;

use super::columns::wrapped;
use super::palette::{Palette, Role};

/// Keys, and what they do. The first ones are seen on the smallest screen.
pub(crate) const KEYS: &[(&str, &str)] = &[
    ("enter", "put the command on the line"),
    ("esc, ctrl-c", "leave; the line is as it was"),
    (
        "ctrl-r",
        "next scope: all, device, directory, session, failed",
    ),
    ("ctrl-t", "only what failed in the scope, and back"),
    ("up, ctrl-p", "older, or less like the query"),
    ("down, ctrl-n", "back towards the query"),
    ("page up, down", "a screen further"),
    ("ctrl-o, f1", "these keys"),
];

/// Keys of the built-in finder alone.
pub(crate) const KEYS_BUILT_IN: &[(&str, &str)] = &[
    ("ctrl-v", "preview: larger, none, as before"),
    ("ctrl-l", "paint the screen anew"),
    ("ctrl-a, ctrl-e", "start, end of the query"),
    ("alt-b, alt-f", "a word back, forward"),
    ("ctrl-w, ctrl-u", "cut a word, all before the cursor"),
    ("ctrl-y", "put back what was cut"),
];

/// Keys of fzf's that matter here.
pub(crate) const KEYS_FZF: &[(&str, &str)] = &[
    ("ctrl-v", "preview, and none"),
    ("ctrl-s", "best first, or newest first"),
];

/// What a query may say: fzf's language, in both finders.
pub(crate) const QUERY: &[(&str, &str)] = &[
    ("gco", "these letters, in this order"),
    ("'abc", "abc in one piece"),
    ("^abc, abc$", "abc at the start, at the end"),
    ("!abc", "without abc"),
    ("one two", "both"),
    ("one | two", "either"),
];

/// Which finder is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    BuiltIn,
    Fzf,
}

/// Columns of the keys, with the blanks around them.
const KEY_COLUMNS: usize = 17;

/// All of it, in lines of `width` columns: a key or nothing, and what it does.
pub(crate) fn lines(of: Of, width: usize) -> Vec<(String, String)> {
    let own = match of {
        Of::BuiltIn => KEYS_BUILT_IN,
        Of::Fzf => KEYS_FZF,
    };
    let blank = [("", "")];
    let all = KEYS.iter().chain(own).chain(&blank).chain(QUERY);
    let room = width.saturating_sub(KEY_COLUMNS).max(1);
    all.flat_map(|(key, what)| {
        let mut key = format!("  {key}");
        wrapped_at_blanks(what, room).into_iter().map(move |line| {
            let key = std::mem::take(&mut key);
            let pad = " ".repeat(KEY_COLUMNS.saturating_sub(key.width()));
            (format!("{key}{pad}"), line)
        })
    })
    .collect()
}

fn wrapped_at_blanks(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if line.width() + 1 + word.width() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    let pieces = lines
        .iter()
        .flat_map(|line| wrapped(line, width, usize::from(u16::MAX)));
    pieces.collect()
}

/// Draws it from line `first` on, or from the last one that fills the screen. Returns which.
pub(crate) fn draw(buffer: &mut Buffer, area: Rect, palette: Palette, first: usize) -> usize {
    let width = usize::from(area.width);
    let all = lines(Of::BuiltIn, width);
    let room = usize::from(area.height.saturating_sub(1));
    let last_first = all.len().saturating_sub(room);
    let first = first.min(last_first);
    for (y, (key, what)) in (area.y..area.bottom().saturating_sub(1)).zip(&all[first..]) {
        let (x, _) = buffer.set_stringn(area.x, y, key, width, palette.style(Role::Scope));
        let room = usize::from(area.right().saturating_sub(x));
        buffer.set_stringn(x, y, what, room, palette.style(Role::Text));
    }
    let hint = match last_first {
        0 => "─ any key: back ",
        _ => "─ up, down · any other key: back ",
    };
    let fill = "─".repeat(width.saturating_sub(hint.width()));
    if area.height > 0 {
        let line = format!("{hint}{fill}");
        let style = palette.style(Role::Beside);
        buffer.set_stringn(area.x, area.bottom() - 1, line, width, style);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_in_the_documents_with_the_same_words() {
        let document = include_str!("../../../../docs/finder.md");
        for (key, what) in [KEYS, KEYS_BUILT_IN, KEYS_FZF].concat() {
            let row = format!("| {key} | {what} |");
            assert!(document.contains(&row), "docs/finder.md lacks: {row}");
        }
        for (typed, what) in QUERY {
            let row = format!(
                "| `{}` | {what} |",
                typed.replace('|', "\\|").replace(", ", "`, `")
            );
            assert!(document.contains(&row), "docs/finder.md lacks: {row}");
        }
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        for width in 0..100 {
            for (key, what) in lines(Of::BuiltIn, width) {
                assert!(
                    what.width() <= width.saturating_sub(KEY_COLUMNS).max(1),
                    "{key}{what}"
                );
            }
        }
    }
}
