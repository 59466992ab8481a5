//! What to do next in an exchange between two devices: decisions only, whoever carries the bytes.

mod log;
mod pull;
mod reconcile;

pub use log::{
    Answer, Claim, Compared, Failed, Have, HaveWhat, Item, Items, Known, Log, LogFailure,
    LogIdentity, Origin, Piece, Request, Stored, Summary, answer,
};
pub use pull::{Effect, Input, Page, Pull, PullError, Start};
pub use reconcile::{Difference, ItemSet, ReconcileError, Reconciler, Step};
