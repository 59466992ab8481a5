//! What travels between devices. Never the database, never a terminal: what is served is reached
//! through [`http::Log`], and what was fetched is returned.
#![warn(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

pub mod http;
pub mod p2p;
pub mod session;
