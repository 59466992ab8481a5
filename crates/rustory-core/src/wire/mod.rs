//! The bytes of the session protocol: how entries, positions and lists are written, and the frames
//! that carry messages. Every length that came from a peer is checked here before it is used.
//!
//! CBOR (RFC 8949), written by hand where a type belongs to the domain, so that these types stay
//! free to change; `docs/protocol.md` is the same for people.

mod entry;
mod frame;
mod types;

pub use frame::{FrameError, FrameReader, FrameWriter, PREAMBLE, decode, encode};

pub(crate) use entry::{Before, entries, news};
pub(crate) use types::{haves, ids, names};
