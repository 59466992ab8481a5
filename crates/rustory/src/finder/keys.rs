//! From the bytes that a terminal sends to keys.
//!
//! Decoded one byte at a time, so that nothing behind the key that closes the finder is taken
//! from the terminal: what is typed ahead reaches the shell.

/// A key, or what a paste brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    /// Control and a letter.
    Ctrl(char),
    Alt(char),
    AltBackspace,
    Enter,
    Escape,
    Tab,
    BackTab,
    Backspace,
    Delete,
    Up,
    Down,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    PageUp,
    PageDown,
    F1,
    Paste(String),
    /// Sent by a key that has no meaning here.
    Unknown,
}

/// Longest paste that is kept: a query is a line.
const PASTE_BYTES_MAX: usize = 4 * 1024;
/// A sequence longer than this is not one of a key.
const SEQUENCE_BYTES_MAX: usize = 32;
const PASTE_END: &[u8] = b"\x1b[201~";

/// Collects bytes until they make a key.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
    paste: Option<Vec<u8>>,
}

impl Decoder {
    /// Takes the next byte.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Key> {
        if let Some(paste) = &mut self.paste {
            paste.push(byte);
            return self.pasted();
        }
        self.pending.push(byte);
        let key = self.decode()?;
        self.pending.clear();
        Some(key)
    }

    /// Whether an escape has come that may be the start of a longer sequence: after a short
    /// silence it was the key.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Nothing more came: what is pending is all there is.
    pub(crate) fn time_out(&mut self) -> Option<Key> {
        let pending = std::mem::take(&mut self.pending);
        match pending.as_slice() {
            [] => None,
            [0x1b] => Some(Key::Escape),
            [0x1b, b'['] => Some(Key::Alt('[')),
            [0x1b, b'O'] => Some(Key::Alt('O')),
            _ => Some(Key::Unknown),
        }
    }

    fn pasted(&mut self) -> Option<Key> {
        let paste = self.paste.as_mut()?;
        if !paste.ends_with(PASTE_END) {
            // Only the end of a huge paste is still looked for.
            if paste.len() > PASTE_BYTES_MAX + PASTE_END.len() {
                paste.remove(PASTE_BYTES_MAX);
            }
            return None;
        }
        let mut bytes = self.paste.take()?;
        bytes.truncate(PASTE_BYTES_MAX.min(bytes.len() - PASTE_END.len()));
        Some(Key::Paste(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// `None`: not whole yet.
    fn decode(&mut self) -> Option<Key> {
        match self.pending.as_slice() {
            [0x1b] => None,
            [0x1b, b'[', rest @ ..] => {
                let rest = rest.to_vec();
                self.csi(&rest)
            }
            [0x1b, b'O', rest @ ..] => match rest {
                [] => None,
                [letter, ..] => Some(cursor_key(*letter, false)),
            },
            // Two escapes: the first was the key. The second is dropped with it.
            [0x1b, 0x1b, ..] => Some(Key::Escape),
            [0x1b, 0x7f | 0x08] => Some(Key::AltBackspace),
            [0x1b, rest @ ..] => match char(rest)? {
                Ok(char) => Some(Key::Alt(char)),
                Err(()) => Some(Key::Unknown),
            },
            [b'\r' | b'\n'] if self.pending == b"\r" => Some(Key::Enter),
            [b'\t'] => Some(Key::Tab),
            [0x7f] => Some(Key::Backspace),
            [0] => Some(Key::Ctrl(' ')),
            [byte @ 0x01..=0x1a] => Some(Key::Ctrl(char::from(byte + 0x60))),
            [byte @ 0x1c..=0x1f] => Some(Key::Ctrl(char::from(byte + 0x40))),
            bytes => match char(bytes)? {
                Ok(char) => Some(Key::Char(char)),
                Err(()) => Some(Key::Unknown),
            },
        }
    }

    fn csi(&mut self, rest: &[u8]) -> Option<Key> {
        let (last, params) = rest.split_last()?;
        // The Linux console's function keys.
        if rest == b"[" {
            return None;
        }
        if !(0x40..=0x7e).contains(last) {
            return (rest.len() > SEQUENCE_BYTES_MAX).then_some(Key::Unknown);
        }
        let modified = params.contains(&b';');
        Some(match (params, last) {
            (b"200", b'~') => {
                self.pending.clear();
                self.paste = Some(Vec::new());
                return None;
            }
            (b"1" | b"7", b'~') => Key::Home,
            (b"4" | b"8", b'~') => Key::End,
            (b"3", b'~') => Key::Delete,
            (b"5", b'~') => Key::PageUp,
            (b"6", b'~') => Key::PageDown,
            (b"11", b'~') | (b"[", b'A') => Key::F1,
            (b"[", _) => Key::Unknown,
            (_, b'Z') => Key::BackTab,
            (_, letter) => cursor_key(*letter, modified),
        })
    }
}

/// With control or alt, left and right go by words.
fn cursor_key(letter: u8, modified: bool) -> Key {
    match (letter, modified) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', false) => Key::Right,
        (b'D', false) => Key::Left,
        (b'C', true) => Key::WordRight,
        (b'D', true) => Key::WordLeft,
        (b'H', _) => Key::Home,
        (b'F', _) => Key::End,
        (b'M', _) => Key::Enter,
        (b'P', _) => Key::F1,
        _ => Key::Unknown,
    }
}

/// `None`: more bytes belong to the character. `Err`: these are none.
fn char(bytes: &[u8]) -> Option<Result<char, ()>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().next().map(Ok),
        Err(err) if err.error_len().is_none() => None,
        Err(_) => Some(Err(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        let mut keys: Vec<Key> = bytes
            .iter()
            .filter_map(|&byte| decoder.push(byte))
            .collect();
        keys.extend(decoder.time_out());
        keys
    }

    #[test]
    fn terminals_send_what_they_send() {
        for (bytes, key) in [
            ("a", Key::Char('a')),
            ("한", Key::Char('한')),
            ("\r", Key::Enter),
            ("\n", Key::Ctrl('j')),
            ("\x1b", Key::Escape),
            ("\x1bb", Key::Alt('b')),
            ("\x1b\x7f", Key::AltBackspace),
            ("\x7f", Key::Backspace),
            ("\x08", Key::Ctrl('h')),
            ("\x12", Key::Ctrl('r')),
            ("\x1f", Key::Ctrl('_')),
            ("\x1b[A", Key::Up),
            ("\x1bOA", Key::Up),
            ("\x1b[1;5C", Key::WordRight),
            ("\x1b[1;3D", Key::WordLeft),
            ("\x1b[H", Key::Home),
            ("\x1b[4~", Key::End),
            ("\x1b[3~", Key::Delete),
            ("\x1b[6~", Key::PageDown),
            ("\x1b[Z", Key::BackTab),
            ("\x1b[200~a\rb\x1b[201~", Key::Paste("a\rb".to_owned())),
            ("\x1bOP", Key::F1),
            ("\x1b[11~", Key::F1),
            ("\x1b[[A", Key::F1),
            ("\x1b[[B", Key::Unknown),
            ("\x1b[15~", Key::Unknown),
            ("\x1b[I", Key::Unknown),
        ] {
            assert_eq!(keys(bytes.as_bytes()), [key], "{bytes:?}");
        }
    }

    #[test]
    fn keys_in_a_row_are_told_apart() {
        assert_eq!(
            keys(b"a\x1b[Bb\xff\r"),
            [
                Key::Char('a'),
                Key::Down,
                Key::Char('b'),
                Key::Unknown,
                Key::Enter
            ]
        );
    }

    #[test]
    fn a_huge_paste_stays_bounded() {
        let mut bytes = b"\x1b[200~".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 3 * PASTE_BYTES_MAX));
        bytes.extend(b"\x1b[201~y");
        let keys = keys(&bytes);
        assert!(matches!(&keys[0], Key::Paste(text) if text.len() == PASTE_BYTES_MAX));
        assert_eq!(keys[1..], [Key::Char('y')]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            keys(&bytes);
        }
    }
}
