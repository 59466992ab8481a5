//! Positions, tallies and lists.

use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::decode::{Decode, Decoder, Error};
use minicbor::encode::{Encode, Encoder, Error as EncodeError, Write};

use crate::cursor::{Cursor, IngestSeq, LogId};
use crate::digest::{Digest, Tally};
use crate::limits::{DEVICE_ID_BYTES_MAX, ORIGINS_MAX};
use crate::sync::{Have, HaveWhat, Origin, Summary};

type Encoded<W> = Result<(), EncodeError<<W as Write>::Error>>;

impl<C> Encode<C> for IngestSeq {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Encoded<W> {
        e.u64(self.get())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for IngestSeq {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
        IngestSeq::new(d.u64()?).ok_or_else(|| Error::message("no position is that large"))
    }
}

impl<C> Encode<C> for LogId {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Encoded<W> {
        e.bytes(self.as_bytes())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for LogId {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, Error> {
        let bytes: ByteArray<16> = d.decode_with(ctx)?;
        Ok(LogId::from_bytes(bytes.into()))
    }
}

impl<C> Encode<C> for Cursor {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Encoded<W> {
        e.array(2)?
            .encode_with(self.log_id, ctx)?
            .encode_with(self.seq, ctx)?
            .ok()
    }
}

impl<'b, C> Decode<'b, C> for Cursor {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, Error> {
        let mut fields = Fields::begin(d)?;
        let cursor = Cursor {
            log_id: fields.next(d)?.decode_with(ctx)?,
            seq: fields.next(d)?.decode_with(ctx)?,
        };
        fields.end(d)?;
        Ok(cursor)
    }
}

impl<C> Encode<C> for Tally {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Encoded<W> {
        e.array(2)?
            .u64(self.count)?
            .bytes(&self.digest.0.to_be_bytes())?
            .ok()
    }
}

impl<'b, C> Decode<'b, C> for Tally {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, Error> {
        let mut fields = Fields::begin(d)?;
        let count = fields.next(d)?.u64()?;
        let digest: ByteArray<16> = fields.next(d)?.decode_with(ctx)?;
        fields.end(d)?;
        let digest = Digest(u128::from_be_bytes(digest.into()));
        Ok(Tally { count, digest })
    }
}

impl<C> Encode<C> for Origin {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Encoded<W> {
        e.array(3)?
            .str(&self.device_id)?
            .u64(self.through)?
            .encode_with(self.tally, ctx)?
            .ok()
    }
}

impl<'b, C> Decode<'b, C> for Origin {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, Error> {
        let mut fields = Fields::begin(d)?;
        let origin = Origin {
            device_id: device_id(fields.next(d)?)?,
            through: fields.next(d)?.u64()?,
            tally: fields.next(d)?.decode_with(ctx)?,
        };
        fields.end(d)?;
        Ok(origin)
    }
}

impl<C> Encode<C> for Summary {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Encoded<W> {
        e.array(2)?
            .encode_with(self.head, ctx)?
            .encode_with(&self.origins, ctx)?
            .ok()
    }
}

impl<'b, C> Decode<'b, C> for Summary {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, Error> {
        let mut fields = Fields::begin(d)?;
        let head = fields.next(d)?.decode_with(ctx)?;
        let origins: Vec<Origin> = list(fields.next(d)?, ORIGINS_MAX, |d| d.decode_with(ctx))?;
        fields.end(d)?;
        // So that an origin is found once, and in one place.
        if !origins.is_sorted_by(|a, b| a.device_id < b.device_id) {
            return Err(Error::message("origins are not in order"));
        }
        Ok(Summary { head, origins })
    }
}

/// A list of [`Have`]: `[[device_id, through], [device_id, null], ...]`.
pub(crate) mod haves {
    use super::*;

    pub(crate) fn encode<C, W: Write>(
        have: &[Have],
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Encoded<W> {
        e.array(have.len() as u64)?;
        for have in have {
            let through = match have.what {
                HaveWhat::Through(through) => Some(through),
                HaveWhat::Everything => None,
            };
            e.array(2)?
                .str(&have.device_id)?
                .encode_with(through, ctx)?;
        }
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Vec<Have>, Error> {
        list(d, ORIGINS_MAX, |d| {
            let mut fields = Fields::begin(d)?;
            let device_id = device_id(fields.next(d)?)?;
            let through: Option<u64> = fields.next(d)?.decode_with(ctx)?;
            fields.end(d)?;
            Ok(Have {
                device_id,
                what: through.map_or(HaveWhat::Everything, HaveWhat::Through),
            })
        })
    }
}

/// A list of ids, as one text of 16 bytes each.
pub(crate) mod ids {
    use super::*;
    use crate::entry::EntryId;
    use crate::limits::FETCH_IDS_MAX;

    pub(crate) fn encode<C, W: Write>(
        ids: &[EntryId],
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Encoded<W> {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        e.bytes(&bytes)?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Vec<EntryId>, Error> {
        let bytes: &ByteSlice = d.decode_with(ctx)?;
        let (ids, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() || ids.len() > FETCH_IDS_MAX {
            return Err(Error::message("not a list of ids, or too many"));
        }
        Ok(ids.iter().map(|id| EntryId::from_bytes(*id)).collect())
    }
}

/// An optional list of device ids.
pub(crate) mod names {
    use super::*;

    pub(crate) fn encode<C, W: Write>(
        names: &Option<Vec<String>>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Encoded<W> {
        e.encode_with(names, ctx)?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Option<Vec<String>>, Error> {
        if d.datatype()? == minicbor::data::Type::Null {
            d.null()?;
            return Ok(None);
        }
        list(d, ORIGINS_MAX, device_id).map(Some)
    }
}

fn device_id(d: &mut Decoder<'_>) -> Result<String, Error> {
    let text = d.str()?;
    if text.is_empty() || text.len() > DEVICE_ID_BYTES_MAX {
        return Err(Error::message("a device id is empty or too long"));
    }
    Ok(text.to_owned())
}

/// A list of at most `max` elements, for which no room is made before they are there.
pub(crate) fn list<'b, T>(
    d: &mut Decoder<'b>,
    max: usize,
    mut element: impl FnMut(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let len = d
        .array()?
        .ok_or_else(|| Error::message("a list without its length"))?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > max {
        return Err(Error::message("a list is too long"));
    }
    let mut all = Vec::new();
    for _ in 0..len {
        all.push(element(d)?);
    }
    Ok(all)
}

/// The fields of a struct: an array that a newer version may have made longer.
pub(crate) struct Fields {
    left: u64,
}

impl Fields {
    pub(crate) fn begin(d: &mut Decoder<'_>) -> Result<Fields, Error> {
        let left = d
            .array()?
            .ok_or_else(|| Error::message("a struct without its length"))?;
        Ok(Fields { left })
    }

    /// The decoder at the next field.
    pub(crate) fn next<'d, 'b>(
        &mut self,
        d: &'d mut Decoder<'b>,
    ) -> Result<&'d mut Decoder<'b>, Error> {
        if !self.more() {
            return Err(Error::message("a struct is too short"));
        }
        Ok(d)
    }

    /// Whether there is one more field, which the caller reads.
    pub(crate) fn more(&mut self) -> bool {
        let more = self.left > 0;
        self.left = self.left.saturating_sub(1);
        more
    }

    /// Skips what a newer version added.
    pub(crate) fn end(self, d: &mut Decoder<'_>) -> Result<(), Error> {
        for _ in 0..self.left {
            d.skip()?;
        }
        Ok(())
    }
}
