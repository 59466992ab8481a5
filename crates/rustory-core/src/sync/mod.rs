//! What to do next in an exchange between two devices: decisions only, whoever carries the bytes.

mod flow;
mod log;
mod message;
mod overlap;
mod plan;
mod reconcile;
pub mod session;

pub use log::{
    Answer, Batched, Claim, Compared, Failed, Have, HaveWhat, Item, Items, Known, Log, LogFailure,
    LogIdentity, Origin, Piece, Request, Stored, Summary, answer,
};
pub use message::{
    Ack, Batch, Close, Fetch, Heard, Hello, Message, News, PROTOCOL, Readable, Reason, Reconcile,
    Standing, Stretch, Wanted,
};
pub use plan::{Ended, Lease, Plan};
pub use reconcile::{Difference, ItemSet, ReconcileError, Reconciler, Step};
