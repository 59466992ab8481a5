//! The entry: one command with its context. It never changes once it is ingested.

use std::fmt;
use std::str::FromStr;

use bstr::{BStr, BString};
use serde_json::{Map, Value};

use crate::limits::{CMD_BYTES_MAX, DEVICE_ID_BYTES_MAX, EXTRA_BYTES_MAX, FIELD_BYTES_MAX};
use crate::time::Timestamp;

/// Names one entry everywhere, for ever. Any UUID is accepted from others.
///
/// Ours carry the entry's own time in the first 48 bits (see [`EntryId::from_time_and_random`]),
/// so that the index on ids grows at its end and its pages stay full; random ids would spread
/// every insert over all of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId([u8; 16]);

impl EntryId {
    /// From the stored 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> EntryId {
        EntryId(bytes)
    }

    /// The 16 bytes that are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A UUIDv7 (RFC 9562): 48 bits of `ts` in milliseconds, 74 bits from `random`.
    #[must_use]
    pub fn from_time_and_random(ts: Timestamp, random: [u8; 10]) -> EntryId {
        Self::timed(ts, random, 7)
    }

    /// A UUIDv8 (RFC 9562, custom) for imported lines: the same layout, with 74 bits of a hash in
    /// place of the random ones, so that importing the same line again makes the same id.
    #[must_use]
    pub fn from_time_and_hash(ts: Timestamp, hash: u128) -> EntryId {
        let bytes = hash.to_be_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&bytes[..10]);
        Self::timed(ts, tail, 8)
    }

    fn timed(ts: Timestamp, tail: [u8; 10], version: u8) -> EntryId {
        let ms = u64::try_from(ts.as_micros() / 1_000).unwrap_or(0);
        let mut id = [0; 16];
        id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&tail);
        id[6] = (id[6] & 0x0f) | (version << 4);
        id[8] = (id[8] & 0x3f) | 0x80;
        EntryId(id)
    }
}

/// The usual hyphenated lower-case form.
impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({self})")
    }
}

/// A text that is no UUID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an entry id is a UUID such as `018f3a5e-7c1b-7000-8000-000000000000`")]
pub struct EntryIdError;

impl FromStr for EntryId {
    type Err = EntryIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid::Uuid::try_parse(text)
            .map(|id| EntryId(id.into_bytes()))
            .map_err(|_| EntryIdError)
    }
}

/// Fields of a newer version that this one does not know: kept and passed on as they came.
pub type Extra = Map<String, Value>;

/// One command with its context.
///
/// `cmd` and `cwd` are bytes: shells and file systems allow any. They are UTF-8 nearly always, and
/// the other texts always.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Made once, on the origin.
    pub id: EntryId,
    /// The origin: the device it was typed on.
    pub device_id: String,
    /// Whose history this is; a label.
    pub user_id: String,
    /// When the command started, by the origin's clock.
    pub ts: Timestamp,
    /// The command as typed, newlines included.
    pub cmd: BString,
    /// The directory in which it was typed; empty when not known.
    pub cwd: BString,
    /// `None`: not known (still running, the session died, or imported).
    pub exit_code: Option<i64>,
    /// Milliseconds; `None`: not known.
    pub duration_ms: Option<u64>,
    /// `bash`, `zsh`, ...; empty when not known.
    pub shell: String,
    /// The host's name when it was typed; a label.
    pub hostname: String,
    /// Of the rr that recorded it; empty for entries that no rr recorded (imports).
    pub version: String,
    /// 1, 2, 3 ... on the origin; `None` for entries posted by other programs.
    pub device_seq: Option<u64>,
    /// One interactive shell; `import:FORMAT` for imported entries.
    pub session: String,
    /// Fields of newer versions.
    pub extra: Extra,
}

/// Why an entry can't be stored. Names the field, so that a person can find it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidEntry {
    /// A field that must say something is empty.
    #[error("`{field}` is empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// A text is longer than its limit.
    #[error("`{field}` has {bytes} bytes, more than the {max} that are kept")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A number is outside what the log can hold.
    #[error("`{field}` is out of range")]
    OutOfRange {
        /// The field.
        field: &'static str,
    },
}

impl Entry {
    /// Checks every field against [`crate::limits`]; whatever passes can be stored and sent on.
    ///
    /// # Errors
    /// [`InvalidEntry`] names the first field that does not fit.
    pub fn validate(&self) -> Result<(), InvalidEntry> {
        not_empty("cmd", self.cmd.as_ref())?;
        not_empty("device_id", BStr::new(&self.device_id))?;
        at_most("cmd", self.cmd.len(), CMD_BYTES_MAX)?;
        at_most("device_id", self.device_id.len(), DEVICE_ID_BYTES_MAX)?;
        for (field, len) in [
            ("user_id", self.user_id.len()),
            ("cwd", self.cwd.len()),
            ("shell", self.shell.len()),
            ("hostname", self.hostname.len()),
            ("version", self.version.len()),
            ("session", self.session.len()),
        ] {
            at_most(field, len, FIELD_BYTES_MAX)?;
        }
        in_i64("duration_ms", self.duration_ms)?;
        in_i64("device_seq", self.device_seq)?;
        if self.device_seq == Some(0) {
            return Err(InvalidEntry::OutOfRange {
                field: "device_seq",
            });
        }
        if !self.extra.is_empty() {
            let bytes = serde_json::to_string(&self.extra).map_or(usize::MAX, |text| text.len());
            at_most("fields of newer versions", bytes, EXTRA_BYTES_MAX)?;
        }
        Ok(())
    }

    /// Bytes of all its texts, unknown fields included: what it costs to hold and to send.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let extra = match self.extra.is_empty() {
            true => 0,
            false => serde_json::to_string(&self.extra).map_or(0, |text| text.len()),
        };
        extra
            + self.cmd.len()
            + self.cwd.len()
            + self.device_id.len()
            + self.user_id.len()
            + self.shell.len()
            + self.hostname.len()
            + self.version.len()
            + self.session.len()
    }

    /// A 128-bit hash of every field, unknown ones too: two entries are the same exactly when
    /// theirs are. `docs/protocol.md` has the bytes that are hashed.
    #[must_use]
    pub fn content_hash(&self) -> u128 {
        let mut bytes = Vec::with_capacity(256 + self.cmd.len());
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(&self.ts.as_micros().to_be_bytes());
        for number in [
            self.exit_code,
            self.duration_ms.map(u64::cast_signed),
            self.device_seq.map(u64::cast_signed),
        ] {
            bytes.push(u8::from(number.is_some()));
            bytes.extend_from_slice(&number.unwrap_or(0).to_be_bytes());
        }
        let extra = match self.extra.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&self.extra).unwrap_or_default(),
        };
        for text in [
            self.device_id.as_bytes(),
            self.user_id.as_bytes(),
            &self.cmd,
            &self.cwd,
            self.shell.as_bytes(),
            self.hostname.as_bytes(),
            self.version.as_bytes(),
            self.session.as_bytes(),
            extra.as_bytes(),
        ] {
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text);
        }
        xxhash_rust::xxh3::xxh3_128(&bytes)
    }

    /// The key of the display order: time, then origin, then id.
    #[must_use]
    pub fn display_key(&self) -> (Timestamp, &str, EntryId) {
        (self.ts, &self.device_id, self.id)
    }
}

fn not_empty(field: &'static str, text: &BStr) -> Result<(), InvalidEntry> {
    if text.is_empty() {
        return Err(InvalidEntry::Empty { field });
    }
    Ok(())
}

fn at_most(field: &'static str, bytes: usize, max: usize) -> Result<(), InvalidEntry> {
    if bytes > max {
        return Err(InvalidEntry::TooLong { field, bytes, max });
    }
    Ok(())
}

fn in_i64(field: &'static str, number: Option<u64>) -> Result<(), InvalidEntry> {
    if number.is_some_and(|n| i64::try_from(n).is_err()) {
        return Err(InvalidEntry::OutOfRange { field });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_made_later_sort_later() {
        let at = |ms| Timestamp::from_millis(ms).unwrap();
        let early = EntryId::from_time_and_random(at(1_000), [0xff; 10]);
        let late = EntryId::from_time_and_random(at(1_001), [0; 10]);
        assert!(early < late);
    }

    #[test]
    fn the_content_hash_sees_every_field() {
        let entry = Entry {
            id: EntryId::from_bytes([1; 16]),
            device_id: "d".into(),
            user_id: "u".into(),
            ts: Timestamp::from_secs(1).unwrap(),
            cmd: "c".into(),
            cwd: "w".into(),
            exit_code: Some(0),
            duration_ms: Some(0),
            shell: "s".into(),
            hostname: "h".into(),
            version: "v".into(),
            device_seq: Some(1),
            session: "x".into(),
            extra: Extra::new(),
        };
        let changes: [fn(&mut Entry); 14] = [
            |e| e.id = EntryId::from_bytes([2; 16]),
            |e| e.device_id.clear(),
            |e| e.user_id.clear(),
            |e| e.ts = Timestamp::default(),
            |e| e.cmd.push(b'2'),
            |e| e.cwd.push(b'2'),
            |e| e.exit_code = None,
            |e| e.duration_ms = None,
            |e| e.shell.clear(),
            |e| e.hostname.clear(),
            |e| e.version.clear(),
            |e| e.device_seq = Some(2),
            |e| e.session.clear(),
            |e| drop(e.extra.insert("new".into(), Value::Null)),
        ];
        let mut hashes: Vec<u128> = changes
            .iter()
            .map(|change| {
                let mut changed = entry.clone();
                change(&mut changed);
                changed.content_hash()
            })
            .collect();
        hashes.push(entry.content_hash());
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), changes.len() + 1);
    }

    #[test]
    fn ids_carry_their_uuid_version() {
        let ts = Timestamp::from_secs(1_700_000_000).unwrap();
        let version = |id: EntryId| uuid::Uuid::from_bytes(*id.as_bytes()).get_version_num();
        assert_eq!(version(EntryId::from_time_and_random(ts, [0xff; 10])), 7);
        assert_eq!(version(EntryId::from_time_and_hash(ts, u128::MAX)), 8);
    }

    #[test]
    fn an_id_survives_its_text_form() {
        let id = EntryId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("abc".parse::<EntryId>(), Err(EntryIdError));
    }
}
