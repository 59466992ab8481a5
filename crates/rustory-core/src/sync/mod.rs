//! What to do next in an exchange between two devices: decisions only, whoever carries the bytes.

mod pull;

pub use pull::{Effect, Input, Page, Pull, PullError, Start};
