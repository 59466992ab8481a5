//! The JSON bodies, both ways.

use std::fmt;

use rustory_core::json::EntryJson;
use rustory_core::limits::BATCH_ENTRIES_MAX;
use rustory_core::{IngestSeq, LogId};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The version of this transport.
pub const PROTOCOL: u32 = 1;

/// Who answers, and which log it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The device.
    pub device_id: String,
    /// What it is called.
    pub device_name: String,
    /// Whose history it keeps.
    pub user_id: String,
    /// Of its rr.
    pub version: String,
    /// Its log.
    pub log_id: LogId,
    /// The last position of its log.
    pub head: IngestSeq,
}

#[derive(Serialize)]
pub(super) struct Ping {
    pub(super) ok: bool,
    pub(super) service: &'static str,
    pub(super) protocol: u32,
    pub(super) version: String,
    pub(super) device_id: String,
    pub(super) device_name: String,
    pub(super) user_id: String,
    pub(super) log_id: String,
    pub(super) head: u64,
}

impl From<Hello> for Ping {
    fn from(hello: Hello) -> Ping {
        Ping {
            ok: true,
            service: SERVICE,
            protocol: PROTOCOL,
            version: hello.version,
            device_id: hello.device_id,
            device_name: hello.device_name,
            user_id: hello.user_id,
            log_id: hello.log_id.to_string(),
            head: hello.head.get(),
        }
    }
}

/// What a connection is turned into for a sync session.
pub(super) const UPGRADE: &str = "rustory-sync-2";

/// What `ping` calls itself, so that another server on the port is told apart.
pub(super) const SERVICE: &str = "rustory";

/// The answer to `GET entries`, as it is written.
#[derive(Serialize)]
pub(super) struct PageOut<'a> {
    pub(super) entries: Vec<EntryJson<'a>>,
    pub(super) next_cursor: Option<u64>,
    pub(super) last: Option<u64>,
    pub(super) head: u64,
    pub(super) log_id: String,
}

/// The body of `POST entries`: a list, or an object around one. Each entry apart.
pub(super) fn posted(body: &[u8]) -> serde_json::Result<Vec<&RawValue>> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        entries: RawEntries<'a>,
    }
    let entries = if body.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice::<Object<'_>>(body)?.entries
    } else {
        serde_json::from_slice(body)?
    };
    Ok(entries.0)
}

/// A list of at most [`BATCH_ENTRIES_MAX`] values, each as its text. The limit holds while it is
/// read: two bytes of JSON would otherwise become sixteen of memory.
struct RawEntries<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for RawEntries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RawEntriesVisitor)
    }
}

struct RawEntriesVisitor;

impl<'de> Visitor<'de> for RawEntriesVisitor {
    type Value = RawEntries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {BATCH_ENTRIES_MAX} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawEntries<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            if entries.len() == BATCH_ENTRIES_MAX {
                return Err(de::Error::invalid_length(entries.len() + 1, &self));
            }
            entries.push(entry);
        }
        Ok(RawEntries(entries))
    }
}

/// What became of entries that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// Stored now.
    pub inserted: u64,
    /// There already.
    pub ignored: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}
