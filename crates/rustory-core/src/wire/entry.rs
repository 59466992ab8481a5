//! Entries on the wire: an array of fields, in a byte string of its own.

use minicbor::bytes::ByteArray;
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
            write(entry, &mut buffer);
            e.bytes(&buffer)?;
        }
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Readable, Error> {
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
}

fn write(entry: &Entry, buffer: &mut Vec<u8>) {
    let mut e = Encoder::new(buffer);
    let written = (|| {
        e.array(if entry.extra.is_empty() { 13 } else { 14 })?
            .bytes(entry.id.as_bytes())?
            .str(&entry.device_id)?
            .str(&entry.user_id)?
            .i64(entry.ts.as_micros())?
            .bytes(&entry.cmd)?
            .bytes(&entry.cwd)?
            .encode(entry.exit_code)?
            .encode(entry.duration_ms)?
            .str(&entry.shell)?
            .str(&entry.hostname)?
            .str(&entry.version)?
            .encode(entry.device_seq)?
            .str(&entry.session)?;
        if !entry.extra.is_empty() {
            e.str(&serde_json::to_string(&entry.extra).unwrap_or_default())?;
        }
        Ok::<(), EncodeError<std::convert::Infallible>>(())
    })();
    written.expect("writing to memory never fails");
}

/// `None`: it is no entry, or one that does not fit the limits.
fn read(bytes: &[u8]) -> Option<Entry> {
    let entry = read_fields(&mut Decoder::new(bytes)).ok()?;
    entry.validate().ok()?;
    Some(entry)
}

fn read_fields(d: &mut Decoder<'_>) -> Result<Entry, Error> {
    let mut fields = Fields::begin(d)?;
    let id: ByteArray<16> = fields.next(d)?.decode()?;
    let entry = Entry {
        id: EntryId::from_bytes(id.into()),
        device_id: fields.next(d)?.str()?.to_owned(),
        user_id: fields.next(d)?.str()?.to_owned(),
        ts: Timestamp::from_micros(fields.next(d)?.i64()?)
            .ok_or_else(|| Error::message("no such time"))?,
        cmd: fields.next(d)?.bytes()?.into(),
        cwd: fields.next(d)?.bytes()?.into(),
        exit_code: fields.next(d)?.decode()?,
        duration_ms: fields.next(d)?.decode()?,
        shell: fields.next(d)?.str()?.to_owned(),
        hostname: fields.next(d)?.str()?.to_owned(),
        version: fields.next(d)?.str()?.to_owned(),
        device_seq: fields.next(d)?.decode()?,
        session: fields.next(d)?.str()?.to_owned(),
        extra: match fields.more() {
            true => extra(d.str()?)?,
            false => Extra::new(),
        },
    };
    Ok(entry)
}

fn extra(json: &str) -> Result<Extra, Error> {
    if json.len() > EXTRA_BYTES_MAX {
        return Err(Error::message("unknown fields are too large"));
    }
    serde_json::from_str(json).map_err(|_| Error::message("unknown fields are no JSON object"))
}
