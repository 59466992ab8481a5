//! Frames: messages as pieces of a byte stream, whoever carries it.
//!
//! A stream begins with [`PREAMBLE`]; then
//! `length: u32 | flags: u8 | check: u32 | payload` (big-endian), frame by frame. The check covers
//! the frame's number as well, so a stream that lost, repeated, swapped or changed bytes (a
//! terminal in between, a bad tunnel) is told apart from a peer that lies.

use xxhash_rust::xxh3::Xxh3;

use crate::limits::MESSAGE_BYTES_MAX;
use crate::sync::Message;

use super::Before;

/// The first bytes of each direction. What a login shell prints before them is skipped.
pub const PREAMBLE: &[u8] = b"rustory sync 2\n";

/// How much may come before the preamble.
const NOISE_BYTES_MAX: usize = 16 * 1024;

const HEADER: usize = 9;
const FLAG_ZSTD: u8 = 1;

/// Smaller messages gain nothing from compression.
const COMPRESS_BYTES_MIN: usize = 256;

/// The fastest level: the stream is far from being the bottleneck, the processor is near it.
const ZSTD_LEVEL: i32 = 1;

/// Why a stream can't be read any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The other end does not speak the protocol; what it said instead.
    #[error("the other end does not speak rustory's protocol{}", heard(.0))]
    NotRustory(String),
    /// Bytes were lost, repeated or changed on the way.
    #[error("the stream is broken: a frame arrived damaged or out of order")]
    Damaged,
    /// A frame that is larger than any message, before or after decompression.
    #[error("the peer sent a frame larger than the limit of {MESSAGE_BYTES_MAX} bytes")]
    TooLarge,
    /// A whole frame that is no message.
    #[error("the peer sent a message that can't be read: {0}")]
    Unreadable(String),
}

fn heard(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text => format!("; it said: {text}"),
    }
}

impl FrameError {
    /// Whether the peer itself must have sent what can't be right; else the way there may have
    /// done it.
    #[must_use]
    pub fn is_the_peers_fault(&self) -> bool {
        matches!(self, FrameError::TooLarge | FrameError::Unreadable(_))
    }
}

/// Writes one direction of a stream.
#[derive(Default)]
pub struct FrameWriter {
    number: u64,
    payload: Vec<u8>,
    before: Before,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameWriter")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl FrameWriter {
    /// Appends a message to `out`, after the preamble when it is the first one.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] when it exceeds [`MESSAGE_BYTES_MAX`]; nothing is appended then.
    pub fn write(&mut self, message: &Message, out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.payload.clear();
        encode_after(message, &mut self.before, &mut self.payload);
        if self.payload.len() > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLarge);
        }
        if self.number == 0 {
            out.extend_from_slice(PREAMBLE);
        }
        let compressed = self.compressed();
        let (flags, payload) = match &compressed {
            Some(bytes) => (FLAG_ZSTD, bytes),
            None => (0, &self.payload),
        };
        let length = u32::try_from(payload.len()).expect("at most the limit");
        out.extend_from_slice(&length.to_be_bytes());
        out.push(flags);
        out.extend_from_slice(&check(self.number, flags, payload).to_be_bytes());
        out.extend_from_slice(payload);
        self.number += 1;
        Ok(())
    }

    /// The reader understands news whose entries leave out what the one before says as well.
    pub fn be_brief(&mut self) {
        self.before.brief = true;
    }

    /// Gives back the room that large messages needed; the next one takes it anew.
    pub fn rest(&mut self) {
        self.payload = Vec::new();
        self.compressor = None;
    }

    /// The payload in fewer bytes, if there are any to spare.
    fn compressed(&mut self) -> Option<Vec<u8>> {
        if self.payload.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        if self.compressor.is_none() {
            self.compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        let bytes = self.compressor.as_mut()?.compress(&self.payload).ok()?;
        (bytes.len() < self.payload.len()).then_some(bytes)
    }
}

/// Reads one direction of a stream.
#[derive(Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Where the first byte that was not used yet is.
    at: usize,
    number: u64,
    begun: bool,
    before: Before,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader")
            .field("number", &self.number)
            .field("buffered", &(self.buffer.len() - self.at))
            .finish_non_exhaustive()
    }
}

impl FrameReader {
    /// Takes bytes as they came. At most one frame and what came with it is held.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Gives back the room that large frames needed; the next one takes it anew.
    pub fn rest(&mut self) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.shrink_to_fit();
        self.decompressor = None;
    }

    /// The next message, once all of it is there.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no use any more.
    pub fn next_message(&mut self) -> Result<Option<Message>, FrameError> {
        if !self.begun && !self.find_preamble()? {
            return Ok(None);
        }
        let rest = &self.buffer[self.at..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length > MESSAGE_BYTES_MAX {
            // Lost bytes look like that as well.
            return Err(FrameError::Damaged);
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let flags = header[4];
        let sent = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        if check(self.number, flags, payload) != sent {
            return Err(FrameError::Damaged);
        }
        self.number += 1;
        self.at += HEADER + length;
        let message = match flags {
            0 => decode_after(payload, &mut self.before)?,
            FLAG_ZSTD => {
                let payload = decompress(&mut self.decompressor, payload)?;
                decode_after(&payload, &mut self.before)?
            }
            _ => return Err(FrameError::Unreadable(format!("unknown flags {flags}"))),
        };
        Ok(Some(message))
    }

    /// Whether the stream may end here: between two frames.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.at == self.buffer.len()
    }

    /// What the other end said before the preamble came, for an error message.
    #[must_use]
    pub fn noise(&self) -> String {
        match self.begun {
            true => String::new(),
            false => last_line(&self.buffer),
        }
    }

    fn find_preamble(&mut self) -> Result<bool, FrameError> {
        match memchr::memmem::find(&self.buffer, PREAMBLE) {
            Some(found) => {
                self.at = found + PREAMBLE.len();
                self.begun = true;
                Ok(true)
            }
            None if self.buffer.len() > NOISE_BYTES_MAX => {
                Err(FrameError::NotRustory(last_line(&self.buffer)))
            }
            None => Ok(false),
        }
    }
}

/// The last line that is not empty, cut to what fits a message.
fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    line.unwrap_or_default().chars().take(200).collect()
}

fn check(number: u64, flags: u8, payload: &[u8]) -> u32 {
    let mut hash = Xxh3::new();
    hash.update(&number.to_be_bytes());
    hash.update(&[flags]);
    hash.update(payload);
    // The low half of a good hash is a good hash.
    (hash.digest() & u64::from(u32::MAX)) as u32
}

/// Decompresses no further than the limit, whatever the frame claims.
fn decompress(
    decompressor: &mut Option<zstd::bulk::Decompressor<'static>>,
    payload: &[u8],
) -> Result<Vec<u8>, FrameError> {
    if decompressor.is_none() {
        *decompressor = zstd::bulk::Decompressor::new().ok();
    }
    let decompressor = decompressor
        .as_mut()
        .ok_or_else(|| FrameError::Unreadable("no memory to decompress".to_owned()))?;
    // It fails for frames that claim more than the capacity, and stops at it for those that lie.
    decompressor
        .decompress(payload, MESSAGE_BYTES_MAX)
        .map_err(|_| FrameError::TooLarge)
}

/// Appends a message as it is in the payload of a first frame, before compression.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    encode_after(message, &mut Before::default(), out);
}

fn encode_after(message: &Message, before: &mut Before, out: &mut Vec<u8>) {
    minicbor::encode_with(message, out, before).expect("writing to memory never fails");
}

/// Reads one message from the payload of a first frame.
///
/// # Errors
/// [`FrameError::Unreadable`].
pub fn decode(payload: &[u8]) -> Result<Message, FrameError> {
    decode_after(payload, &mut Before::default())
}

fn decode_after(payload: &[u8], before: &mut Before) -> Result<Message, FrameError> {
    let mut decoder = minicbor::Decoder::new(payload);
    let message = decoder
        .decode_with(before)
        .map_err(|err| FrameError::Unreadable(err.to_string()))?;
    if decoder.position() != payload.len() {
        return Err(FrameError::Unreadable("bytes behind its end".to_owned()));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cursor::{IngestSeq, LogId};
    use crate::digest::Tally;
    use crate::entry::{Entry, EntryId, Extra};
    use crate::sync::{
        Ack, Batch, Close, Heard, Hello, Message, News, Origin, Reason, Standing, Stretch, Summary,
    };
    use crate::time::Timestamp;

    fn close(text: &str) -> Message {
        Message::Close(Close {
            reason: Reason::OTHER,
            text: Some(text.to_owned()),
        })
    }

    fn written(messages: &[Message]) -> Vec<u8> {
        written_to(true, messages)
    }

    /// To a reader that understands brief news, or does not.
    fn written_to(brief: bool, messages: &[Message]) -> Vec<u8> {
        let (mut writer, mut bytes) = (FrameWriter::default(), Vec::new());
        if brief {
            writer.be_brief();
        }
        for message in messages {
            writer.write(message, &mut bytes).unwrap();
        }
        bytes
    }

    fn read(bytes: &[u8], chunk: usize) -> Result<Vec<Message>, FrameError> {
        let (mut reader, mut messages) = (FrameReader::default(), Vec::new());
        for chunk in bytes.chunks(chunk.max(1)) {
            reader.push(chunk);
            while let Some(message) = reader.next_message()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    fn some_messages() -> Vec<Message> {
        let ack = Ack {
            batches: 3,
            inserted: 9,
        };
        // The second one is worth compressing.
        vec![
            Message::Wait,
            close(&"long ".repeat(1_000)),
            Message::Ack(ack),
            close(""),
        ]
    }

    /// A frame with a right check around any payload.
    fn framed(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = PREAMBLE.to_vec();
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.push(flags);
        bytes.extend_from_slice(&check(0, flags, payload).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// What the example in the document is made of.
    fn example_entry() -> Entry {
        let extra = r#"{"load":0.5,"tags":["a"]}"#;
        Entry {
            id: EntryId::from_bytes(std::array::from_fn(|n| n as u8)),
            device_id: "desk".into(),
            user_id: "me".into(),
            ts: Timestamp::from_micros(1_767_225_600_000_001).unwrap(),
            cmd: b"echo \xff".into(),
            cwd: "/tmp".into(),
            exit_code: Some(-1),
            duration_ms: None,
            shell: "zsh".into(),
            hostname: "h".into(),
            version: "0.1.0".into(),
            device_seq: Some(1),
            session: "s".into(),
            extra: serde_json::from_str(extra).unwrap(),
        }
    }

    fn example_messages() -> Vec<Message> {
        let (entry, head) = (example_entry(), IngestSeq::new(300).unwrap());
        let tally = Tally::of([entry.content_hash()]);
        let hello = Hello {
            protocol: 2,
            device_id: "desk".into(),
            device_name: "Desk".into(),
            user_id: None,
            version: "0.1.0".into(),
            log_id: LogId::from_bytes(std::array::from_fn(|n| 0xf0 | n as u8)),
            place: 7,
            head,
            tally,
            stays: true,
            origins: Some(Summary {
                head,
                origins: vec![Origin {
                    device_id: "desk".into(),
                    through: 1,
                    tally,
                }],
            }),
            admission: None,
            read: None,
            brief: None,
        };
        let batch = Batch {
            entries: vec![entry.clone()].into(),
            stretch: Some(Stretch {
                after: IngestSeq::ZERO,
                last: head,
            }),
            end: true,
            mends: None,
        };
        let standing = |head, entries: &[Entry]| Standing {
            head: IngestSeq::new(head).unwrap(),
            tally: Tally::of(entries.iter().map(Entry::content_hash)),
        };
        let typed = |n: u8, cmd: &str| Entry {
            id: EntryId::from_bytes([n; 16]),
            cmd: cmd.into(),
            device_seq: Some(n.into()),
            extra: Extra::new(),
            ..entry.clone()
        };
        let typed = [typed(2, "ls"), typed(3, "pwd")];
        let all = [entry.clone(), typed[0].clone(), typed[1].clone()];
        let news = News {
            entries: typed.to_vec().into(),
            stretch: Some(Stretch {
                after: head,
                last: IngestSeq::new(302).unwrap(),
            }),
            standing: Some(standing(302, &all)),
        };
        let heard = Heard {
            inserted: 1,
            same: IngestSeq::new(47),
        };
        vec![
            Message::Hello(hello),
            Message::Wait,
            Message::Batch(batch),
            Message::News(news),
            Message::Heard(Some(heard)),
        ]
    }

    /// Bytes as the document shows them: a name, and 32 bytes a line.
    fn shown(name: &str, bytes: &[u8]) -> String {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let lines = bytes.chunks(32).enumerate();
        lines
            .map(|(n, line)| format!("{:<10}{}\n", if n == 0 { name } else { "" }, hex(line)))
            .collect()
    }

    #[test]
    fn the_document_shows_the_bytes_that_are_written() {
        let messages = example_messages();
        let ends: Vec<usize> = (0..=5).map(|n| written(&messages[..n]).len()).collect();
        let all = written(&messages);
        let hash = example_entry().content_hash().to_be_bytes();
        let expected = [
            shown("hash", &hash),
            shown("preamble", PREAMBLE),
            shown("Hello", &all[PREAMBLE.len()..ends[1]]),
            shown("Wait", &all[ends[1]..ends[2]]),
            shown("Batch", &all[ends[2]..ends[3]]),
            shown("News", &all[ends[3]..ends[4]]),
            shown("Heard", &all[ends[4]..]),
        ]
        .concat();
        let document = include_str!("../../../../docs/protocol.md");
        assert!(
            document.contains(&format!("```\n{expected}```\n")),
            "docs/protocol.md, \"An example\", is to show:\n{expected}"
        );
        assert_eq!(read(&all, 7), Ok(messages));
    }

    #[test]
    fn a_text_that_is_left_out_and_was_never_said_makes_an_entry_unreadable() {
        let second = Message::News(News {
            entries: vec![example_entry()].into(),
            stretch: None,
            standing: None,
        });
        let two = written(&[second.clone(), second.clone()]);
        let one = written(std::slice::from_ref(&second));
        assert!(two.len() < 2 * one.len() - PREAMBLE.len());
        let mut before = Before::default();
        let mut payload = Vec::new();
        encode_after(&second, &mut before, &mut payload);
        before.brief = true;
        payload.clear();
        encode_after(&second, &mut before, &mut payload);
        let Ok(Message::News(news)) = decode(&payload) else {
            panic!("it is a message all the same");
        };
        assert_eq!(
            (news.entries.entries.len(), news.entries.unreadable),
            (0, 1)
        );
    }

    #[test]
    fn what_an_older_reader_says_of_news_is_understood() {
        assert_eq!(decode(&[0x82, 11, 0x80]), Ok(Message::Heard(None)));
        let mut payload = Vec::new();
        encode(&Message::Heard(None), &mut payload);
        assert_eq!(payload, [0x82, 11, 0x80]);
    }

    #[test]
    fn messages_come_back_whatever_the_pieces_and_whatever_a_shell_says_before() {
        let messages = some_messages();
        let bytes = [b"Welcome!\r\nrustory\n".as_slice(), &written(&messages)].concat();
        for chunk in [1, 2, 7, 64, bytes.len()] {
            assert_eq!(read(&bytes, chunk).as_ref(), Ok(&messages));
        }
    }

    #[test]
    fn a_compressed_frame_that_unfolds_beyond_the_limit_is_refused() {
        for size in [MESSAGE_BYTES_MAX + 1, 64 << 20] {
            let bomb = zstd::bulk::compress(&vec![0; size], 19).unwrap();
            assert!(bomb.len() < 64 * 1024);
            let refused = read(&framed(FLAG_ZSTD, &bomb), 4_096);
            assert_eq!(refused, Err(FrameError::TooLarge));
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_held_for_it() {
        let mut bytes = PREAMBLE.to_vec();
        bytes.extend_from_slice(&u32::MAX.to_be_bytes());
        bytes.extend_from_slice(&[0; 5]);
        assert_eq!(read(&bytes, 100), Err(FrameError::Damaged));
    }

    #[test]
    fn a_message_larger_than_the_limit_is_not_sent() {
        let mut bytes = Vec::new();
        let large = close(&"x".repeat(MESSAGE_BYTES_MAX));
        let refused = FrameWriter::default().write(&large, &mut bytes);
        assert_eq!((refused, bytes.len()), (Err(FrameError::TooLarge), 0));
    }

    #[test]
    fn a_stream_that_is_something_else_is_told_with_what_it_said() {
        let html = "<p>not found</p>\n".repeat(2_000);
        let told = read(html.as_bytes(), 1_000).unwrap_err();
        assert!(told.to_string().contains("not found"), "{told}");
    }

    #[test]
    fn fields_of_a_newer_version_are_skipped() {
        // [12 (Wait), []] with a field that nobody knows yet, and [4 (Ack), [[3, 9, "new"]]].
        assert_eq!(decode(&[0x82, 0x0c, 0x81, 0x01]), Ok(Message::Wait));
        let ack = [0x82, 0x04, 0x81, 0x83, 0x03, 0x09, 0x63, b'n', b'e', b'w'];
        let expected = Ack {
            batches: 3,
            inserted: 9,
        };
        assert_eq!(decode(&ack), Ok(Message::Ack(expected)));
    }

    fn some_news() -> impl Strategy<Value = Vec<Message>> {
        let word = || prop::sample::select(vec!["", "a", "b", "한"]);
        let texts = prop::array::uniform7(word());
        let entry = (any::<[u8; 16]>(), texts, word()).prop_map(|(id, texts, cmd)| Entry {
            id: EntryId::from_bytes(id),
            device_id: format!("d{}", texts[0]),
            user_id: texts[1].into(),
            cwd: texts[2].into(),
            shell: texts[3].into(),
            hostname: texts[4].into(),
            version: texts[5].into(),
            session: texts[6].into(),
            cmd: format!("{cmd}!").into(),
            ..example_entry()
        });
        let news = prop::collection::vec(entry, 0..4).prop_map(|entries| {
            Message::News(News {
                entries: entries.into(),
                stretch: None,
                standing: None,
            })
        });
        prop::collection::vec(news, 0..6)
    }

    proptest! {
        #[test]
        fn news_says_the_same_however_brief_it_is(news in some_news(), brief: bool) {
            prop_assert_eq!(read(&written_to(brief, &news), 50), Ok(news));
        }

        /// Whatever happens to one byte or one frame, what is read is a beginning of what was sent:
        /// nothing changed, nothing out of order, and nobody is accused.
        #[test]
        fn a_stream_that_is_tampered_with_gives_a_beginning_of_what_was_sent(
            at in any::<prop::sample::Index>(),
            what in 0u8..4,
            flip in 1u8..,
        ) {
            let messages = some_messages();
            let mut bytes = written(&messages);
            let at = PREAMBLE.len() + at.index(bytes.len() - PREAMBLE.len());
            match what {
                0 => bytes[at] ^= flip,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, flip),
                _ => bytes.truncate(at),
            }
            let (mut reader, mut got) = (FrameReader::default(), Vec::new());
            reader.push(&bytes);
            loop {
                match reader.next_message() {
                    Ok(Some(message)) => got.push(message),
                    Ok(None) => break,
                    Err(err) => {
                        prop_assert!(!err.is_the_peers_fault(), "{}", err);
                        break;
                    }
                }
            }
            prop_assert!(messages.starts_with(&got), "{:?}", got);
        }

        #[test]
        fn frames_lost_repeated_or_swapped_are_noticed(drop in 0usize..4, repeat in 0usize..4) {
            let messages = some_messages();
            let frames: Vec<Vec<u8>> = (0..messages.len())
                .map(|n| {
                    let before = written(&messages[..n]).len();
                    written(&messages[..=n])[before..].to_vec()
                })
                .collect();
            let mut order: Vec<usize> = (0..frames.len()).collect();
            order.remove(drop);
            order.insert(repeat.min(order.len()), repeat);
            let bytes: Vec<u8> = order.iter().flat_map(|n| frames[*n].clone()).collect();
            let right = order.iter().enumerate().take_while(|(n, frame)| n == *frame).count();
            let (mut reader, mut got) = (FrameReader::default(), 0);
            reader.push(&bytes);
            while let Ok(Some(message)) = reader.next_message() {
                prop_assert_eq!(&message, &messages[got]);
                got += 1;
            }
            prop_assert!(got <= right);
        }

        #[test]
        fn no_payload_panics(payload in prop::collection::vec(any::<u8>(), 0..200), flags in 0u8..3) {
            let _ = read(&framed(flags, &payload), 50);
        }
    }
}
