//! The configuration file that setup writes: every key, explained and commented out.

/// Its text.
pub(crate) const TEMPLATE: &str = include_str!("config.toml");
