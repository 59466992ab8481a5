//! Commands on a terminal: control characters are made visible, never run by it.

use std::borrow::Cow;

use bstr::BStr;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr;

/// How line breaks and tabs are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaks {
    /// As they are: for a block of several lines.
    Keep,
    /// As `⏎` and `⇥`: for one line of a list.
    Mark,
}

/// The text with everything that a terminal could take for a command made visible: C0 and C1
/// controls, DEL, bytes that are no UTF-8, and the characters that turn the writing direction.
pub(crate) fn visible(bytes: &BStr, breaks: Breaks) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            push_visible(&mut shown, char, breaks);
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

pub(crate) fn push_visible(shown: &mut String, char: char, breaks: Breaks) {
    match char {
        '\n' | '\t' if breaks == Breaks::Keep => shown.push(char),
        '\n' => shown.push('⏎'),
        '\t' => shown.push('⇥'),
        '\0'..='\x1f' => {
            shown.push('^');
            shown.push(char::from(char as u8 + 0x40));
        }
        '\x7f' => shown.push_str("^?"),
        '\u{80}'..='\u{9f}' => shown.push_str(&format!("\\x{:02x}", char as u32)),
        // Bidirectional overrides and line separators can make one command look like another.
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            shown.push_str(&format!("\\u{{{:x}}}", char as u32));
        }
        _ => shown.push(char),
    }
}

/// How many columns a text takes on a terminal: two for Hangul and most emoji.
pub(crate) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The text in at most so many columns, with `…` in place of what does not fit.
pub(crate) fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return text.into();
    }
    let mut kept = String::new();
    for grapheme in text.graphemes(true) {
        if width(&kept) + width(grapheme) >= columns {
            break;
        }
        kept.push_str(grapheme);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept.into()
}

/// The text with blanks behind it, up to so many columns.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let blanks = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(blanks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_run_is_left() {
        let hostile: Vec<u8> = (0..=255)
            .chain("\u{9b}31m\u{202e}\u{2028}".bytes())
            .collect();
        let shown = visible(hostile.as_slice().into(), Breaks::Mark);
        assert!(!shown.chars().any(char::is_control), "{shown}");
        assert!(!shown.contains('\u{202e}'));
        assert!(shown.contains("^[") && shown.contains("\\xff"));
    }

    #[test]
    fn ordinary_text_is_left_as_it_is() {
        let text = "echo 한글 🎉 'quoted'\n\tnext";
        assert_eq!(visible(text.into(), Breaks::Keep), text);
        assert_eq!(visible("a\nb\tc".into(), Breaks::Mark), "a⏎b⇥c");
    }

    #[test]
    fn what_does_not_fit_is_cut_between_characters_that_are_two_columns_wide() {
        for (columns, shown) in [
            (11, "노트북 (집)"),
            (10, "노트북 (…"),
            (8, "노트북…"),
            (7, "노트북…"),
            (3, "노…"),
            (1, "…"),
            (0, ""),
        ] {
            let fitted = fit("노트북 (집)", columns);
            assert!(width(&fitted) <= columns, "{fitted}");
            assert_eq!(fitted.replace(' ', ""), shown.replace(' ', ""), "{columns}");
        }
        assert_eq!(pad("한", 4), "한  ");
        assert_eq!(pad("too long", 4), "too long");
    }
}
