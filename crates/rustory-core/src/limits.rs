//! Bounds on everything that arrives from outside, in one place, each with its reason.
//!
//! No number that came from a peer, a file or a person is used as a size before it passed here.

/// Largest command kept, in bytes. A larger one is refused and counted.
///
/// Linux's own limit for one argument is 128 KiB; pasted heredocs of 1 MB are real, larger ones
/// are files that should not live in a history.
pub const CMD_BYTES_MAX: usize = 1 << 20;

/// Largest text of any other field (directory, host name, session ...), in bytes.
///
/// Source: `PATH_MAX` on Linux is 4,096; everything else is far shorter.
pub const FIELD_BYTES_MAX: usize = 4_096;

/// Largest sum of fields unknown to this version, as JSON, in bytes.
pub const EXTRA_BYTES_MAX: usize = 16 * 1024;

/// Entries in one batch when the asker names no number.
pub const BATCH_ENTRIES_DEFAULT: usize = 1_000;

/// Most entries in one batch, whatever the asker names.
pub const BATCH_ENTRIES_MAX: usize = 10_000;

/// A batch is cut once its texts pass this many bytes; one oversized entry travels alone.
///
/// Source: 1 MiB of raw entries is what one zstd frame of the sync protocol carries at most
/// before latency, not bandwidth, stops being the limit.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Largest HTTP body accepted or read, in bytes: [`BATCH_BYTES_MAX`] plus one oversized entry, in
/// worst-case JSON escapes (6 bytes for one), rounded up.
pub const HTTP_BODY_BYTES_MAX: usize = 16 << 20;

/// Clamps the batch size a peer asked for into `1..=BATCH_ENTRIES_MAX`.
#[must_use]
pub fn clamp_batch_entries(asked: u64) -> usize {
    usize::try_from(asked)
        .unwrap_or(BATCH_ENTRIES_MAX)
        .clamp(1, BATCH_ENTRIES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_size_is_never_zero_and_never_beyond_the_limit() {
        assert_eq!(clamp_batch_entries(0), 1);
        assert_eq!(clamp_batch_entries(500), 500);
        assert_eq!(clamp_batch_entries(u64::MAX), BATCH_ENTRIES_MAX);
    }
}
