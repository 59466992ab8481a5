//! Devices behind NATs, on bad lines, among strangers: real processes in network namespaces.
//!
//! See `docs/lab.md`. Needs root, `ip` and `nft`; elsewhere each test says that it is skipped.

#[path = "../common/mod.rs"]
mod common;
mod device;
mod itself;
mod namespace;
mod pairs;
mod process;
mod topology;
mod wait;
