//! The log in SQLite: opening, ingesting, reading. Never a socket, never a terminal.
//!
//! One file, one connection a [`Store`]. Every write goes through [`Store::write`], one
//! `BEGIN IMMEDIATE` transaction, so that entries and the position that covers them (a spool
//! offset, a peer's cursor) are committed together or not at all.
#![warn(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod book;
mod error;
mod imports;
mod migrations;
mod names;
mod open;
mod peers;
mod read;
mod rows;
mod runs;
mod scan;
pub mod spool_dir;
mod sync;
mod tally;
mod verify;
mod write;

pub use book::BookEntry;
pub use error::StoreError;
pub use imports::{IMPORT_SESSION, ImportSource, TypedFilter, TypedRow, untimed_day};
pub use open::{Access, Identity, Moved, Opening, Store, random};
pub use peers::{Comparison, Exchange, Failure, PeerPath, PeerPathError, PeerSeen, PeerState};
pub use read::{Batch, ExitFilter, Filter};
pub use scan::{LastOfDevice, Scan, ScanRow, Within};
pub use verify::{VerifiedOrigin, VerifyReport};
pub use write::{Appended, Inserted, Writer};
