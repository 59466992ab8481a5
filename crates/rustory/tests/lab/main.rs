//! Devices behind NATs, on bad lines, among strangers: real processes in network namespaces.
//!
//! See `docs/lab.md`. Needs root, `ip` and `nft`; elsewhere each test says that it is skipped.

#[path = "../common/mod.rs"]
mod common;
mod device;
mod hubs;
mod itself;
mod lines;
mod member;
mod moves;
mod namespace;
mod pairs;
mod process;
mod strangers;
mod topology;
mod wait;
