//! The JSON form of an entry: debug HTTP, `--json`, export and import, field for field as in
//! `docs/protocol.md`.
//!
//! Apart from [`Entry`] so that the domain type stays free to change. Two additions to plain JSON:
//! a command or directory that is not UTF-8 is written twice, readable in `cmd` (`cwd`) with
//! U+FFFD for what is not text, and exact, as base64, in `cmd_b64` (`cwd_b64`), which wins on
//! reading. Fields that this version does not know are kept in [`Entry::extra`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bstr::{BString, ByteSlice as _};
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::entry::{Entry, EntryId, Extra, InvalidEntry};
use crate::limits::EXTRA_BYTES_MAX;
use crate::time::Timestamp;

/// An entry on its way out.
#[derive(Debug)]
pub struct EntryJson<'a>(pub &'a Entry);

impl Serialize for EntryJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("entry_id", &Shown(entry.id))?;
        map.serialize_entry("device_id", &entry.device_id)?;
        map.serialize_entry("user_id", &entry.user_id)?;
        map.serialize_entry("ts", &Shown(entry.ts))?;
        bytes_entry::<S>(&mut map, "cmd", "cmd_b64", &entry.cmd)?;
        bytes_entry::<S>(&mut map, "cwd", "cwd_b64", &entry.cwd)?;
        map.serialize_entry("exit_code", &entry.exit_code)?;
        map.serialize_entry("duration_ms", &entry.duration_ms)?;
        map.serialize_entry("shell", &entry.shell)?;
        map.serialize_entry("hostname", &entry.hostname)?;
        map.serialize_entry("version", &entry.version)?;
        map.serialize_entry("device_seq", &entry.device_seq)?;
        map.serialize_entry("session", &entry.session)?;
        for (name, value) in &entry.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn bytes_entry<S: Serializer>(
    map: &mut S::SerializeMap,
    name: &'static str,
    name_b64: &'static str,
    bytes: &BString,
) -> Result<(), S::Error> {
    match bytes.to_str() {
        Ok(text) => map.serialize_entry(name, text),
        Err(_) => {
            map.serialize_entry(name, &bytes.to_str_lossy())?;
            map.serialize_entry(name_b64, &BASE64.encode(bytes))
        }
    }
}

/// Writes a value by its `Display` form without a `String` in between.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An entry on its way in, with whatever it carried; [`PartialEntry::into_entry`] completes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartialEntry {
    /// `entry_id`
    pub id: Option<EntryId>,
    /// `device_id`
    pub device_id: Option<String>,
    /// `user_id`
    pub user_id: Option<String>,
    /// `ts`
    pub ts: Option<Timestamp>,
    /// `cmd`, or the bytes of `cmd_b64`
    pub cmd: Option<BString>,
    /// `cwd`, or the bytes of `cwd_b64`
    pub cwd: Option<BString>,
    /// `exit_code`
    pub exit_code: Option<i64>,
    /// `duration_ms`
    pub duration_ms: Option<u64>,
    /// `shell`
    pub shell: Option<String>,
    /// `hostname`
    pub hostname: Option<String>,
    /// `version`
    pub version: Option<String>,
    /// `device_seq`
    pub device_seq: Option<u64>,
    /// `session`
    pub session: Option<String>,
    /// Everything else.
    pub extra: Extra,
}

/// Why an object is no entry.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotAnEntry {
    /// A field that only its origin can know is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field does not fit.
    #[error(transparent)]
    Invalid(#[from] InvalidEntry),
}

impl PartialEntry {
    /// Completes it: `entry_id`, `device_id`, `ts` and `cmd` must be there, the rest may be
    /// missing or null.
    ///
    /// # Errors
    /// [`NotAnEntry`] names the first field that is missing or does not fit.
    pub fn into_entry(self) -> Result<Entry, NotAnEntry> {
        let entry = Entry {
            id: self.id.ok_or(NotAnEntry::Missing("entry_id"))?,
            device_id: self.device_id.ok_or(NotAnEntry::Missing("device_id"))?,
            user_id: self.user_id.unwrap_or_default(),
            ts: self.ts.ok_or(NotAnEntry::Missing("ts"))?,
            cmd: self.cmd.ok_or(NotAnEntry::Missing("cmd"))?,
            cwd: self.cwd.unwrap_or_default(),
            exit_code: self.exit_code,
            duration_ms: self.duration_ms,
            shell: self.shell.unwrap_or_default(),
            hostname: self.hostname.unwrap_or_default(),
            version: self.version.unwrap_or_default(),
            device_seq: self.device_seq,
            session: self.session.unwrap_or_default(),
            extra: self.extra,
        };
        entry.validate()?;
        Ok(entry)
    }
}

impl<'de> Deserialize<'de> for PartialEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PartialEntryVisitor)
    }
}

struct PartialEntryVisitor;

impl<'de> Visitor<'de> for PartialEntryVisitor {
    type Value = PartialEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry: an object with `entry_id`, `device_id`, `ts` and `cmd`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PartialEntry, A::Error> {
        let mut entry = PartialEntry::default();
        let mut exact_cmd: Option<BString> = None;
        let mut exact_cwd: Option<BString> = None;
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "entry_id" => entry.id = parsed(&mut map, "entry_id")?,
                "device_id" => entry.device_id = value(&mut map, "device_id")?,
                "user_id" => entry.user_id = value(&mut map, "user_id")?,
                "ts" => entry.ts = parsed(&mut map, "ts")?,
                "cmd" => entry.cmd = value::<_, String>(&mut map, "cmd")?.map(BString::from),
                "cwd" => entry.cwd = value::<_, String>(&mut map, "cwd")?.map(BString::from),
                "cmd_b64" => exact_cmd = base64(&mut map, "cmd_b64")?,
                "cwd_b64" => exact_cwd = base64(&mut map, "cwd_b64")?,
                "exit_code" => entry.exit_code = value(&mut map, "exit_code")?,
                "duration_ms" => entry.duration_ms = value(&mut map, "duration_ms")?,
                "shell" => entry.shell = value(&mut map, "shell")?,
                "hostname" => entry.hostname = value(&mut map, "hostname")?,
                "version" => entry.version = value(&mut map, "version")?,
                "device_seq" => entry.device_seq = value(&mut map, "device_seq")?,
                "session" => entry.session = value(&mut map, "session")?,
                _ => {
                    let unknown = unknown_value(&mut map, &name)?;
                    entry.extra.insert(name, unknown);
                }
            }
        }
        entry.cmd = exact_cmd.or(entry.cmd);
        entry.cwd = exact_cwd.or(entry.cwd);
        Ok(entry)
    }
}

/// Reads a known field's value; null is the same as missing. The error names the field.
fn value<'de, A: MapAccess<'de>, T: DeserializeOwned>(
    map: &mut A,
    name: &'static str,
) -> Result<Option<T>, A::Error> {
    map.next_value()
        .map_err(|err| de::Error::custom(format_args!("`{name}`: {err}")))
}

/// Reads an unknown field's value, which is built in memory only once its size is known.
fn unknown_value<'de, A: MapAccess<'de>>(map: &mut A, name: &str) -> Result<Value, A::Error> {
    let raw: Box<RawValue> = map.next_value()?;
    if raw.get().len() > EXTRA_BYTES_MAX {
        return Err(de::Error::custom(format_args!(
            "unknown field `{name:.40}` has {} bytes, more than the {EXTRA_BYTES_MAX} that are kept",
            raw.get().len()
        )));
    }
    serde_json::from_str(raw.get())
        .map_err(|err| de::Error::custom(format_args!("unknown field `{name:.40}`: {err}")))
}

fn parsed<'de, A: MapAccess<'de>, T>(map: &mut A, name: &'static str) -> Result<Option<T>, A::Error>
where
    T: std::str::FromStr,
    T::Err: fmt::Display,
{
    value::<_, String>(map, name)?
        .map(|text| text.parse())
        .transpose()
        .map_err(|err| de::Error::custom(format_args!("`{name}`: {err}")))
}

fn base64<'de, A: MapAccess<'de>>(
    map: &mut A,
    name: &'static str,
) -> Result<Option<BString>, A::Error> {
    value::<_, String>(map, name)?
        .map(|text| BASE64.decode(text).map(BString::from))
        .transpose()
        .map_err(|err| de::Error::custom(format_args!("`{name}`: {err}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Entry, String> {
        serde_json::from_str::<PartialEntry>(text)
            .map_err(|err| err.to_string())?
            .into_entry()
            .map_err(|err| err.to_string())
    }

    fn written(entry: &Entry) -> String {
        serde_json::to_string(&EntryJson(entry)).unwrap()
    }

    #[test]
    fn fields_of_a_newer_version_pass_through() {
        let text = r#"{"entry_id":"018f3a5e-7c1b-7000-8000-000000000000","device_id":"d",
            "ts":"2026-01-01T00:00:00Z","cmd":"ls","repo":{"root":"abc"},"note":null}"#;
        let entry = read(text).unwrap();
        assert_eq!(entry.extra["repo"]["root"], "abc");
        assert_eq!(read(&written(&entry)).unwrap(), entry);
    }

    #[test]
    fn numbers_of_a_newer_version_say_the_same_however_often_they_are_read() {
        // A reader that is content with an approximation takes each of these for its neighbour.
        for number in [
            "0.12300000000000001",
            "1234.5678901234567",
            "122.416294033786585",
            "1.2345678901234567e-7",
        ] {
            let text = format!(
                r#"{{"entry_id":"018f3a5e-7c1b-7000-8000-000000000000","device_id":"d",
                "ts":"2026-01-01T00:00:00Z","cmd":"ls","load":{number}}}"#
            );
            let entry = read(&text).unwrap();
            let exact: f64 = number.parse().unwrap();
            assert_eq!(entry.extra["load"].as_f64(), Some(exact), "{number}");
            let again = read(&written(&entry)).unwrap();
            assert_eq!(again.content_hash(), entry.content_hash(), "{number}");
        }
    }

    #[test]
    fn unknown_fields_are_hashed_in_the_form_that_the_protocol_names() {
        let text = r#"{ "b": [1, 18446744073709551615, 1.0, 1e15, 1e16, 123e21, 0.00001, 1e-7, -0],
            "a": {"d": "/\u00e9\u007f\"\\", "c": "\b\t\n\f\r\u001f"} }"#;
        let extra: Extra = serde_json::from_str(text).unwrap();
        assert_eq!(
            serde_json::to_string(&extra).unwrap(),
            concat!(
                r#"{"a":{"c":"\b\t\n\f\r\u001f","d":"/é"#,
                "\u{7f}",
                r#"\"\\"},"b":[1,18446744073709551615,1.0,1000000000000000.0,1e+16,1.23e+23,0.00001,1e-7,-0.0]}"#
            )
        );
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (text, name) in [
            (r#"{"exit_code":"x"}"#, "`exit_code`"),
            (r#"{"entry_id":"x"}"#, "`entry_id`"),
            (r#"{"ts":5}"#, "`ts`"),
            (r#"{"duration_ms":-1}"#, "`duration_ms`"),
            (r#"{"cmd_b64":"*"}"#, "`cmd_b64`"),
            (r#"{}"#, "`entry_id` is missing"),
        ] {
            let err = read(text).unwrap_err();
            assert!(err.contains(name), "{text}: {err}");
        }
    }

    #[test]
    fn a_large_unknown_field_is_refused_by_its_size() {
        let text = format!(r#"{{"cmd":"x","new":[{}0]}}"#, "0,".repeat(EXTRA_BYTES_MAX));
        let err = read(&text).unwrap_err();
        assert!(err.contains("`new`") && err.contains("16384"), "{err}");
    }

    #[test]
    fn bytes_that_are_no_text_are_readable_and_exact() {
        let mut entry = any_entry_for_tests();
        entry.cmd = BString::from(&b"echo \xff\xfe"[..]);
        let text = written(&entry);
        assert!(text.contains("echo \u{fffd}") && text.contains("cmd_b64"));
        assert_eq!(read(&text).unwrap(), entry);
    }

    fn any_entry_for_tests() -> Entry {
        Entry {
            id: EntryId::from_bytes([7; 16]),
            device_id: "dev".into(),
            user_id: "me".into(),
            ts: Timestamp::from_secs(1_700_000_000).unwrap(),
            cmd: "ls".into(),
            cwd: "/tmp".into(),
            exit_code: Some(0),
            duration_ms: Some(3),
            shell: "bash".into(),
            hostname: "h".into(),
            version: "0.1.0".into(),
            device_seq: Some(1),
            session: "s".into(),
            extra: Extra::new(),
        }
    }

    proptest! {
        #[test]
        fn whatever_was_stored_comes_back(
            cmd in prop::collection::vec(any::<u8>(), 1..200),
            cwd in prop::collection::vec(any::<u8>(), 0..50),
            us in Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros(),
            exit in prop::option::of(any::<i64>()),
            duration in prop::option::of(0..=i64::MAX as u64),
            label in "\\PC*",
            load in any::<f64>().prop_filter("JSON has no other", |n| n.is_finite()),
        ) {
            let entry = Entry {
                cmd: cmd.into(),
                cwd: cwd.into(),
                ts: Timestamp::from_micros(us).unwrap(),
                exit_code: exit,
                duration_ms: duration,
                hostname: label,
                extra: [("load".to_owned(), load.into())].into_iter().collect(),
                ..any_entry_for_tests()
            };
            prop_assert_eq!(read(&written(&entry)).unwrap(), entry);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = read(&text);
        }
    }
}
