//! Entries on the wire: an array of fields, in a byte string of its own.

use minicbor::bytes::ByteArray;
use minicbor::data::Type;
use minicbor::decode::{Decoder, Error};
use minicbor::encode::{Encoder, Error as EncodeError, Write};

use crate::entry::{Entry, EntryId, Extra};
use crate::limits::{BATCH_ENTRIES_MAX, EXTRA_BYTES_MAX};
use crate::sync::Readable;
use crate::time::Timestamp;

use super::types::Fields;

/// A list of entries, each in a byte string, so that one that can't be read is skipped alone.
pub(crate) mod entries {
    use super::*;

    pub(crate) fn encode<C, W: Write>(
        list: &Readable,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.array(list.entries.len() as u64)?;
        let mut buffer = Vec::with_capacity(512);
        for entry in &list.entries {
            buffer.clear();
            write(entry, None, &mut buffer);
            e.bytes(&buffer)?;
        }
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Readable, Error> {
        read_list(d, |bytes| read(bytes, None))
    }
}

/// The same of news, one after the other: a text that is that of the entry before is left out,
/// which is most of what a command brings along.
pub(crate) mod news {
    use super::*;

    pub(crate) fn encode<C: AsMut<Before>, W: Write>(
        list: &Readable,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        let before = ctx.as_mut();
        e.array(list.entries.len() as u64)?;
        let mut buffer = Vec::new();
        for entry in &list.entries {
            buffer.clear();
            write(
                entry,
                before.entry.as_ref().filter(|_| before.brief),
                &mut buffer,
            );
            e.bytes(&buffer)?;
            before.is(Some(entry));
        }
        Ok(())
    }

    pub(crate) fn decode<C: AsMut<Before>>(
        d: &mut Decoder<'_>,
        ctx: &mut C,
    ) -> Result<Readable, Error> {
        let before = ctx.as_mut();
        read_list(d, |bytes| {
            let entry = read(bytes, before.entry.as_ref());
            before.is(entry.as_ref());
            entry
        })
    }
}

/// The last entry that went over as news in one direction of a session.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// The reader understands what is left out.
    pub(crate) brief: bool,
    /// Without its command. `None`: there is none, or it could not be read.
    entry: Option<Entry>,
}

impl Before {
    fn is(&mut self, entry: Option<&Entry>) {
        self.entry = entry.map(|entry| Entry {
            id: entry.id,
            device_id: entry.device_id.clone(),
            user_id: entry.user_id.clone(),
            ts: entry.ts,
            cmd: "".into(),
            cwd: entry.cwd.clone(),
            exit_code: None,
            duration_ms: None,
            shell: entry.shell.clone(),
            hostname: entry.hostname.clone(),
            version: entry.version.clone(),
            device_seq: None,
            session: entry.session.clone(),
            extra: Extra::new(),
        });
    }
}

impl AsMut<Before> for Before {
    fn as_mut(&mut self) -> &mut Before {
        self
    }
}

fn read_list(
    d: &mut Decoder<'_>,
    mut read: impl FnMut(&[u8]) -> Option<Entry>,
) -> Result<Readable, Error> {
    let len = d
        .array()?
        .ok_or_else(|| Error::message("a list without its length"))?;
    if len > BATCH_ENTRIES_MAX as u64 {
        return Err(Error::message("too many entries in one message"));
    }
    let mut list = Readable::default();
    for _ in 0..len {
        match read(d.bytes()?) {
            Some(entry) => list.entries.push(entry),
            None => list.unreadable += 1,
        }
    }
    Ok(list)
}

fn write(entry: &Entry, before: Option<&Entry>, buffer: &mut Vec<u8>) {
    let new = |text: fn(&Entry) -> &str| {
        let text_here = text(entry);
        Some(text_here).filter(|text_here| before.is_none_or(|before| text(before) != *text_here))
    };
    let new_cwd = before.is_none_or(|before| before.cwd != entry.cwd);
    let mut e = Encoder::new(buffer);
    let written = (|| {
        e.array(if entry.extra.is_empty() { 13 } else { 14 })?
            .bytes(entry.id.as_bytes())?
            .encode(new(|entry| &entry.device_id))?
            .encode(new(|entry| &entry.user_id))?
            .i64(entry.ts.as_micros())?
            .bytes(&entry.cmd)?;
        match new_cwd {
            true => e.bytes(&entry.cwd)?,
            false => e.null()?,
        };
        e.encode(entry.exit_code)?
            .encode(entry.duration_ms)?
            .encode(new(|entry| &entry.shell))?
            .encode(new(|entry| &entry.hostname))?
            .encode(new(|entry| &entry.version))?
            .encode(entry.device_seq)?
            .encode(new(|entry| &entry.session))?;
        if !entry.extra.is_empty() {
            e.str(&serde_json::to_string(&entry.extra).unwrap_or_default())?;
        }
        Ok::<(), EncodeError<std::convert::Infallible>>(())
    })();
    written.expect("writing to memory never fails");
}

/// `None`: it is no entry, or one that does not fit the limits.
fn read(bytes: &[u8], before: Option<&Entry>) -> Option<Entry> {
    let entry = read_fields(&mut Decoder::new(bytes), before).ok()?;
    entry.validate().ok()?;
    Some(entry)
}

fn read_fields(d: &mut Decoder<'_>, before: Option<&Entry>) -> Result<Entry, Error> {
    let text = |d: &mut Decoder<'_>, of_before: fn(&Entry) -> &String| match is_left_out(d)? {
        true => before.map(of_before).cloned().ok_or_else(nothing_before),
        false => Ok(d.str()?.to_owned()),
    };
    let mut fields = Fields::begin(d)?;
    let id: ByteArray<16> = fields.next(d)?.decode()?;
    let entry = Entry {
        id: EntryId::from_bytes(id.into()),
        device_id: text(fields.next(d)?, |before| &before.device_id)?,
        user_id: text(fields.next(d)?, |before| &before.user_id)?,
        ts: Timestamp::from_micros(fields.next(d)?.i64()?)
            .ok_or_else(|| Error::message("no such time"))?,
        cmd: fields.next(d)?.bytes()?.into(),
        cwd: match is_left_out(fields.next(d)?)? {
            true => before.ok_or_else(nothing_before)?.cwd.clone(),
            false => d.bytes()?.into(),
        },
        exit_code: fields.next(d)?.decode()?,
        duration_ms: fields.next(d)?.decode()?,
        shell: text(fields.next(d)?, |before| &before.shell)?,
        hostname: text(fields.next(d)?, |before| &before.hostname)?,
        version: text(fields.next(d)?, |before| &before.version)?,
        device_seq: fields.next(d)?.decode()?,
        session: text(fields.next(d)?, |before| &before.session)?,
        extra: match fields.more() {
            true => extra(d.str()?)?,
            false => Extra::new(),
        },
    };
    Ok(entry)
}

/// Whether a text is that of the entry before.
fn is_left_out(d: &mut Decoder<'_>) -> Result<bool, Error> {
    let is_null = d.datatype()? == Type::Null;
    if is_null {
        d.null()?;
    }
    Ok(is_null)
}

fn nothing_before() -> Error {
    Error::message("a text is left out, and nothing is before it")
}

fn extra(json: &str) -> Result<Extra, Error> {
    if json.len() > EXTRA_BYTES_MAX {
        return Err(Error::message("unknown fields are too large"));
    }
    serde_json::from_str(json).map_err(|_| Error::message("unknown fields are no JSON object"))
}
