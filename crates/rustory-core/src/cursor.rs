//! Positions in logs. A position means nothing without the log it belongs to.

use std::fmt;
use std::str::FromStr;

/// A place in one device's log, assigned by that device's store at ingest, from 1.
///
/// Grows by at least one per entry; gaps are normal. It is a position, not a time, and
/// positions of two logs have no order between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IngestSeq(u64);

impl IngestSeq {
    /// Before the first entry of any log.
    pub const ZERO: IngestSeq = IngestSeq(0);

    /// From a number that a peer or a file gave; `None` above `i64::MAX`, which no store assigns.
    #[must_use]
    pub fn new(seq: u64) -> Option<IngestSeq> {
        i64::try_from(seq).is_ok().then_some(IngestSeq(seq))
    }

    /// From a rowid; negative ones, which no store of ours assigns, become [`IngestSeq::ZERO`].
    #[must_use]
    pub fn from_rowid(rowid: i64) -> IngestSeq {
        IngestSeq(u64::try_from(rowid).unwrap_or(0))
    }

    /// As SQLite's signed integer.
    #[must_use]
    pub fn as_rowid(self) -> i64 {
        i64::try_from(self.0).expect("checked in new")
    }

    /// The number itself.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for IngestSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one log: a new or recreated database has a new one. 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId([u8; 16]);

impl LogId {
    /// From 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> LogId {
        LogId(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// 32 lower-case hexadecimal digits.
impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", uuid::Uuid::from_bytes(self.0).simple())
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

/// A text that is not 32 hexadecimal digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a log id has 32 hexadecimal digits")]
pub struct LogIdError;

impl FromStr for LogId {
    type Err = LogIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid::Uuid::try_parse(text)
            .map(|id| LogId(id.into_bytes()))
            .map_err(|_| LogIdError)
    }
}

/// How far a device has read another's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The log that was read.
    pub log_id: LogId,
    /// The last position that was read and stored.
    pub seq: IngestSeq,
}
