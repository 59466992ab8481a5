//! The pure part of Rustory: what an entry is, how it travels, what is recorded and what is not.
//!
//! Nothing here reads a clock, a random source, the environment or a file, and nothing is async:
//! time, ids and bytes come in as arguments. That is what lets the same rules run under the real
//! shell, the real network and a simulator.
#![warn(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

pub mod cursor;
pub mod digest;
pub mod entry;
pub mod json;
pub mod limits;
pub mod pairing;
pub mod rules;
pub mod secrets;
pub mod spool;
pub mod sync;
pub mod time;
pub mod wire;

pub use cursor::{Cursor, IngestSeq, LogId};
pub use digest::{Digest, Tally};
pub use entry::{Entry, EntryId, Extra};
pub use time::Timestamp;
