//! The query line: text, cursor, and what keys do to them.

use unicode_segmentation::UnicodeSegmentation as _;

/// A longer query is a command pasted whole; its start is enough to find it.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// One line of text with a cursor in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    text: String,
    /// A byte position between two characters as people see them.
    cursor: usize,
    /// What was cut last.
    cut: String,
}

impl Line {
    /// With the cursor at its end. Line breaks and control characters become blanks.
    pub(crate) fn new(text: &str) -> Line {
        let mut line = Line::default();
        line.insert(text);
        line
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What is left of the cursor, and what is right of it.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.cursor)
    }

    pub(crate) fn insert(&mut self, text: &str) {
        let room = LINE_BYTES_MAX.saturating_sub(self.text.len());
        let clean: String = text[..text.floor_char_boundary(room)]
            .chars()
            .map(|char| if char.is_control() { ' ' } else { char })
            .collect();
        self.text.insert_str(self.cursor, &clean);
        self.cursor += clean.len();
    }

    pub(crate) fn left(&mut self) {
        self.cursor = self.before();
    }

    pub(crate) fn right(&mut self) {
        self.cursor = self.after();
    }

    pub(crate) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(crate) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    pub(crate) fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    pub(crate) fn word_right(&mut self) {
        self.cursor = self.word_end();
    }

    pub(crate) fn backspace(&mut self) {
        self.remove(self.before(), self.cursor);
    }

    pub(crate) fn delete(&mut self) {
        self.remove(self.cursor, self.after());
    }

    /// Back to the blank before the word (ctrl-w).
    pub(crate) fn cut_word(&mut self) {
        let (left, _) = self.parts();
        let kept = left.trim_end().rfind(char::is_whitespace);
        let from = kept.map_or(0, |at| {
            at + left[at..].chars().next().map_or(0, char::len_utf8)
        });
        self.cut_range(from, self.cursor);
    }

    /// Back to the start of the word of letters and digits (alt-backspace).
    pub(crate) fn cut_word_left(&mut self) {
        self.cut_range(self.word_start(), self.cursor);
    }

    pub(crate) fn cut_word_right(&mut self) {
        self.cut_range(self.cursor, self.word_end());
    }

    pub(crate) fn cut_to_start(&mut self) {
        self.cut_range(0, self.cursor);
    }

    /// Puts back what was cut last.
    pub(crate) fn yank(&mut self) {
        let cut = self.cut.clone();
        self.insert(&cut);
    }

    fn cut_range(&mut self, from: usize, to: usize) {
        if from < to {
            self.cut = self.text[from..to].to_owned();
            self.remove(from, to);
        }
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.cursor = from;
    }

    fn before(&self) -> usize {
        let (left, _) = self.parts();
        left.grapheme_indices(true)
            .next_back()
            .map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        let (left, right) = self.parts();
        left.len() + right.graphemes(true).next().map_or(0, str::len)
    }

    fn word_start(&self) -> usize {
        let (left, _) = self.parts();
        let end = left.trim_end_matches(|char: char| !char.is_alphanumeric());
        end.trim_end_matches(char::is_alphanumeric).len()
    }

    fn word_end(&self) -> usize {
        let (left, right) = self.parts();
        let word = right.trim_start_matches(|char: char| !char.is_alphanumeric());
        let rest = word.trim_start_matches(char::is_alphanumeric);
        left.len() + right.len() - rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(start: &str, work: impl FnOnce(&mut Line), expect: &str) {
        let mut line = Line::new(start);
        work(&mut line);
        let (left, right) = line.parts();
        assert_eq!(format!("{left}|{right}"), expect);
    }

    #[test]
    fn keys_edit_as_in_a_shell() {
        check("git push", Line::cut_word, "git |");
        check("git push  ", Line::cut_word, "git |");
        check("a/b-c", Line::cut_word_left, "a/b-|");
        check("git push", Line::cut_to_start, "|");
        check("한글", Line::backspace, "한|");
        check("e\u{301}👨‍👩‍👧", Line::left, "e\u{301}|👨‍👩‍👧");
        check("ab cd", Line::word_left, "ab |cd");
        check(
            "ab cd",
            |line| {
                line.home();
                line.word_right();
            },
            "ab| cd",
        );
        check(
            "ab cd",
            |line| {
                line.home();
                line.delete();
            },
            "|b cd",
        );
        check(
            "ab cd",
            |line| {
                line.home();
                line.cut_word_right();
                line.end();
                line.yank();
            },
            " cdab|",
        );
        check("a\nb\x1b", |_| {}, "a b |");
    }

    #[test]
    fn a_line_stays_bounded() {
        let mut line = Line::new(&"한".repeat(LINE_BYTES_MAX));
        line.insert("x");
        line.insert("y");
        assert!(line.text().len() <= LINE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn the_cursor_never_leaves_the_text(start in "\\PC{0,12}", ops in prop::collection::vec(0u8..12, 0..40)) {
            let mut line = Line::new(&start);
            for op in ops {
                match op {
                    0 => line.left(), 1 => line.right(), 2 => line.home(), 3 => line.end(),
                    4 => line.word_left(), 5 => line.word_right(), 6 => line.backspace(), 7 => line.delete(),
                    8 => line.cut_word(), 9 => line.cut_word_left(), 10 => line.yank(), _ => line.insert("é x"),
                }
                line.parts();
            }
        }
    }
}
