//! One file per subcommand: its options, and what it does with them.

pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod fzf_ask;
pub(crate) mod generate;
pub(crate) mod hub;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod pair;
pub(crate) mod peers;
pub(crate) mod record;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod setup;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod verify;
