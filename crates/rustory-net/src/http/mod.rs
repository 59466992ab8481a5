//! The debug HTTP transport: `docs/protocol.md` describes it.

mod bounded;
mod client;
mod message;
mod server;

pub use client::{ClientError, Upgraded, Url, UrlError, open};
pub use message::{Hello, PROTOCOL, Pushed};
pub use server::{Log, LogError, Served, Server, ServerConfig};
