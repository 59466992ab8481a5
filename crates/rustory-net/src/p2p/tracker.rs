//! The tracker protocol, `/rustory/tracker/1`: its messages and how they are written.
//!
//! One request and one reply, each a CBOR map with numbered fields, to the end of the stream. A
//! field with a new number can be added at any time: who does not know it leaves it out. Announce,
//! list and heartbeat are one message. There is no peer id in the request: a device is who the
//! handshake of its connection proved it to be.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::StreamProtocol;
use libp2p::request_response;
use minicbor::{Decode, Encode};

use super::limits::{
    ADDR_BYTES_MAX, ADDRS_PER_PEER_MAX, TRACKER_DEVICES_MAX, TRACKER_REPLY_BYTES_MAX,
    TRACKER_REQUEST_BYTES_MAX, TRACKER_TEXT_BYTES_MAX,
};

/// What the protocol is asked for by.
pub(super) const TRACKER_PROTOCOL: StreamProtocol = StreamProtocol::new("/rustory/tracker/1");

/// The version of the messages' meaning that this code speaks.
pub(super) const TRACKER_VERSION: u32 = 1;

/// A device says who and where it is, and asks who else there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Announce {
    /// [`TRACKER_VERSION`].
    #[n(0)]
    pub protocol: u32,
    /// Whose history the device keeps: a label.
    #[n(1)]
    #[cbor(default)]
    pub user_id: String,
    /// The device's id, the origin of its entries.
    #[n(2)]
    #[cbor(default)]
    pub device_id: String,
    /// The device's name for people.
    #[n(3)]
    #[cbor(default)]
    pub device_name: String,
    /// Where it can be reached, as multiaddrs: on the LAN, in public, through relays.
    #[n(4)]
    #[cbor(default)]
    pub addrs: Vec<String>,
    /// For how many seconds to remember it; the tracker clamps it.
    #[n(5)]
    #[cbor(default)]
    pub ttl_secs: u64,
}

/// One of the two fields is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Reply {
    /// The announcement was taken.
    #[n(0)]
    #[cbor(default)]
    pub listing: Option<Listing>,
    /// It was not.
    #[n(1)]
    #[cbor(default)]
    pub refusal: Option<Refusal>,
}

/// What a tracker knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Listing {
    /// The asker's peer id, as the connection proved it.
    #[n(0)]
    #[cbor(default)]
    pub you: String,
    /// The asker's address, as the tracker sees it.
    #[n(1)]
    #[cbor(default)]
    pub observed: String,
    /// The tracker's wall clock, in seconds since 1970.
    #[n(2)]
    #[cbor(default)]
    pub server_time_secs: u64,
    /// For how many seconds the asker is remembered.
    #[n(3)]
    #[cbor(default)]
    pub ttl_secs: u64,
    /// All other devices.
    #[n(4)]
    #[cbor(default)]
    pub peers: Vec<Listed>,
}

/// A device, as a tracker knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Listed {
    /// As its connection proved it.
    #[n(0)]
    #[cbor(default)]
    pub peer_id: String,
    /// As it announced itself.
    #[n(1)]
    #[cbor(default)]
    pub device_id: String,
    /// As it announced itself.
    #[n(2)]
    #[cbor(default)]
    pub device_name: String,
    /// As it announced itself.
    #[n(3)]
    #[cbor(default)]
    pub user_id: String,
    /// As it announced itself.
    #[n(4)]
    #[cbor(default)]
    pub addrs: Vec<String>,
    /// Seconds since its last announcement.
    #[n(5)]
    #[cbor(default)]
    pub last_seen_secs_ago: u64,
    /// Whether it is connected to the tracker now.
    #[n(6)]
    #[cbor(default)]
    pub online: bool,
}

/// Why a tracker did not take an announcement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Refusal {
    /// One of the codes of [`RefusalReason`], or one that is not known here.
    #[n(0)]
    #[cbor(default)]
    pub code: u32,
    /// For people.
    #[n(1)]
    #[cbor(default)]
    pub text: String,
}

/// The reasons that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// The tracker speaks another version of the protocol.
    Version,
    /// A text or an address is too long, or there are too many.
    TooLarge,
    /// The tracker lists as many devices as it can, all of them online.
    Full,
    /// The device announces itself too often.
    TooOften,
    /// The peer id is not among those that the tracker admits.
    NotMember,
    /// A reason of a newer version.
    Unknown,
}

const REASONS: [(u32, RefusalReason, &str); 5] = [
    (1, RefusalReason::Version, "another version of the protocol"),
    (2, RefusalReason::TooLarge, "the announcement is too large"),
    (3, RefusalReason::Full, "too many devices"),
    (4, RefusalReason::TooOften, "announced too often"),
    (5, RefusalReason::NotMember, "this peer id is not admitted"),
];

impl Refusal {
    pub(super) fn of(reason: RefusalReason) -> Refusal {
        let (code, _, text) = REASONS
            .into_iter()
            .find(|(_, known, _)| *known == reason)
            .unwrap_or((0, RefusalReason::Unknown, "not told"));
        Refusal {
            code,
            text: text.to_owned(),
        }
    }

    /// What the code means.
    #[must_use]
    pub(super) fn reason(&self) -> RefusalReason {
        REASONS
            .into_iter()
            .find(|(code, ..)| *code == self.code)
            .map_or(RefusalReason::Unknown, |(_, reason, _)| reason)
    }
}

impl Announce {
    /// Whether every part is within its bound.
    pub(super) fn within_limits(&self) -> bool {
        let texts = [&self.user_id, &self.device_id, &self.device_name];
        texts
            .iter()
            .all(|text| text.len() <= TRACKER_TEXT_BYTES_MAX)
            && addrs_within_limits(&self.addrs)
    }
}

impl Reply {
    /// Cuts what a tracker tells beyond the bounds, so that nothing of it is kept.
    pub(super) fn clamped(mut self) -> Reply {
        if let Some(refusal) = &mut self.refusal {
            truncate(&mut refusal.text, TRACKER_TEXT_BYTES_MAX);
        }
        if let Some(listing) = &mut self.listing {
            listing.peers.retain(Listed::within_limits);
            listing.peers.truncate(TRACKER_DEVICES_MAX);
        }
        self
    }
}

impl Listed {
    fn within_limits(&self) -> bool {
        let texts = [
            &self.peer_id,
            &self.device_id,
            &self.device_name,
            &self.user_id,
        ];
        texts
            .iter()
            .all(|text| text.len() <= TRACKER_TEXT_BYTES_MAX)
            && addrs_within_limits(&self.addrs)
    }
}

fn addrs_within_limits(addrs: &[String]) -> bool {
    addrs.len() <= ADDRS_PER_PEER_MAX && addrs.iter().all(|addr| addr.len() <= ADDR_BYTES_MAX)
}

fn truncate(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
}

/// Reads and writes the messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrackerCodec;

impl request_response::Codec for TrackerCodec {
    type Protocol = StreamProtocol;
    type Request = Announce;
    type Response = Reply;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Announce>
    where
        T: AsyncRead + Unpin + Send,
    {
        decode(&read_all(io, TRACKER_REQUEST_BYTES_MAX).await?)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Reply>
    where
        T: AsyncRead + Unpin + Send,
    {
        let reply: Reply = decode(&read_all(io, TRACKER_REPLY_BYTES_MAX).await?)?;
        Ok(reply.clamped())
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Announce,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&encode(&request)?).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        reply: Reply,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&encode(&reply)?).await
    }
}

/// Reads to the end, growing as bytes arrive: no length that was sent is ever allocated.
async fn read_all<T>(io: &mut T, bytes_max: usize) -> io::Result<Vec<u8>>
where
    T: AsyncRead + Unpin + Send,
{
    let mut bytes = Vec::new();
    io.take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .await?;
    match bytes.len() <= bytes_max {
        true => Ok(bytes),
        false => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
    }
}

/// Reads one message; nothing may follow it.
pub(super) fn decode<'b, M: Decode<'b, ()>>(bytes: &'b [u8]) -> io::Result<M> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let message = decoder
        .decode()
        .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
    match decoder.position() == bytes.len() {
        true => Ok(message),
        false => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

fn encode<M: Encode<()>>(message: &M) -> io::Result<Vec<u8>> {
    minicbor::to_vec(message).map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn announce() -> Announce {
        Announce {
            protocol: 1,
            user_id: "kim".into(),
            device_id: "d1".into(),
            device_name: "노트북".into(),
            addrs: vec!["/ip4/192.168.1.4/tcp/4001".into()],
            ttl_secs: 180,
        }
    }

    fn reply() -> Reply {
        Reply {
            listing: Some(Listing {
                you: "12D3".into(),
                peers: vec![Listed {
                    peer_id: "12D3".into(),
                    online: true,
                    ..Listed::default()
                }],
                ..Listing::default()
            }),
            refusal: None,
        }
    }

    #[test]
    fn messages_survive_the_wire() {
        assert_eq!(
            decode::<Announce>(&encode(&announce()).unwrap()).unwrap(),
            announce()
        );
        assert_eq!(
            decode::<Reply>(&encode(&reply()).unwrap()).unwrap(),
            reply()
        );
    }

    #[test]
    fn the_wire_form_does_not_change_by_accident() {
        let mut small = announce();
        small.device_name = "n".into();
        small.addrs = vec!["/a".into()];
        let hex: String = encode(&small)
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "a600010163 6b696d 0262 6431 0361 6e 0481 62 2f61 0518b4".replace(' ', "")
        );
    }

    #[test]
    fn fields_of_a_newer_version_are_left_out() {
        let mut bytes = Vec::new();
        let mut encoder = minicbor::Encoder::new(&mut bytes);
        encoder.map(3).unwrap();
        encoder.u32(0).unwrap().u32(1).unwrap();
        encoder.u32(77).unwrap().array(2).unwrap();
        encoder.str("nested").unwrap().map(1).unwrap();
        encoder.bool(true).unwrap().f64(0.5).unwrap();
        encoder.u32(2).unwrap().str("d1").unwrap();
        let read: Announce = decode(&bytes).unwrap();
        assert_eq!((read.protocol, read.device_id.as_str()), (1, "d1"));
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        // An array of 2^60 addresses, a text of 4 GiB, and maps in maps.
        for tail in [
            &[0x04, 0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0][..],
            &[0x01, 0x7a, 0xff, 0xff, 0xff, 0xff],
            &[0x18, 0x63, 0x9f, 0x9f, 0x9f],
        ] {
            let bytes: Vec<u8> = [&[0xa2, 0x00, 0x01][..], tail].concat();
            assert!(decode::<Announce>(&bytes).is_err());
        }
        let deep: Vec<u8> = [&[0xa2, 0x00, 0x01, 0x18, 0x63][..], &[0x81; 16_000]].concat();
        assert!(decode::<Announce>(&deep).is_err());
    }

    #[tokio::test]
    async fn what_is_longer_than_the_limit_is_not_read_to_its_end() {
        let mut endless = futures::io::repeat(0x9f);
        let err = read_all(&mut endless, 1000).await.unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::FileTooLarge);
        let mut exact = futures::io::AsyncReadExt::take(futures::io::repeat(1), 1000);
        assert_eq!(read_all(&mut exact, 1000).await.unwrap().len(), 1000);
    }

    #[test]
    fn refusals_are_known_by_their_code_alone() {
        for (code, reason, _) in REASONS {
            assert_eq!(Refusal::of(reason).code, code);
            assert_eq!(Refusal::of(reason).reason(), reason);
        }
        let newer = Refusal {
            code: 99,
            text: "??".into(),
        };
        assert_eq!(newer.reason(), RefusalReason::Unknown);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_codec_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = decode::<Announce>(&bytes);
            let _ = decode::<Reply>(&bytes).map(Reply::clamped);
        }

        #[test]
        fn no_damage_to_a_message_makes_the_codec_panic(at in 0usize..512, byte in any::<u8>()) {
            for mut bytes in [encode(&announce()).unwrap(), encode(&reply()).unwrap()] {
                let at = at % bytes.len();
                bytes[at] = byte;
                let _ = decode::<Announce>(&bytes);
                let _ = decode::<Reply>(&bytes);
            }
        }

        #[test]
        fn a_cut_keeps_text_valid(text in "\\PC*", bytes in 0usize..40) {
            let mut cut = text.clone();
            truncate(&mut cut, bytes);
            prop_assert!(text.starts_with(&cut) && cut.len() <= bytes);
        }
    }
}
