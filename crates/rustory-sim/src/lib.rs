//! Many devices in one thread and no time: a world in which everything that can go wrong between
//! them does, from one seed, and an oracle that says what must not come of it.
//!
//! What runs is the real thing: sessions, frames, plans and leases of `rustory-core`. The network,
//! the disk and the clock are the world's.
#![warn(missing_docs, clippy::unwrap_used)]

pub mod fuzz;

mod liar;
mod log;
mod mem_log;
mod rng;
mod run;
mod store_log;
mod weather;
mod world;

pub use liar::Lie;
pub use log::{DeviceLog, Row};
pub use mem_log::MemLog;
pub use rng::Rng;
pub use run::{Outcome, run_seed};
pub use store_log::StoreLog;
pub use weather::{Topology, Weather};
pub use world::{Traffic, Violation, World};
