//! What `rr setup` puts into a home directory, and takes out again.

pub(crate) mod block;
pub(crate) mod config;
pub(crate) mod rc_file;
pub(crate) mod shells;
