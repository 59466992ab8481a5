//! What to do next in an exchange between two devices: decisions only, whoever carries the bytes.

mod log;
mod pull;

pub use log::{
    Compared, Have, Item, Items, Known, Log, LogIdentity, Origin, Piece, Stored, Summary,
};
pub use pull::{Effect, Input, Page, Pull, PullError, Start};
