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

/// Largest device id, in bytes: they are listed for every origin in each exchange. Ours have 32.
pub const DEVICE_ID_BYTES_MAX: usize = 256;

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

/// Most entries that one batch of a sync session carries.
///
/// With [`PIECE_BYTES_MAX`] this makes a batch about 60 KB on the wire: small enough that an
/// interruption repeats little and a slow line shows progress, large enough that the cost of a
/// frame and of a transaction does not count.
pub const PIECE_ENTRIES_MAX: usize = 2_000;

/// A batch of a sync session is cut once its texts pass this many bytes; one oversized entry
/// travels alone.
pub const PIECE_BYTES_MAX: usize = 256 * 1024;

/// Most entries that are announced at once to peers waiting for news; more is left to a round.
pub const NEWS_ENTRIES_MAX: usize = 100;

/// Batches sent and not yet acknowledged as stored.
///
/// 16 of about 60 KB keep a line of 100 ms round trip busy at 10 MB/s, and hold at most a few MB
/// in memory on either side.
pub const WINDOW_BATCHES: usize = 16;

/// Most ids asked for in one message: 32 KiB of them.
pub const FETCH_IDS_MAX: usize = 2_000;

/// Most origins that a peer may list. A person has about 10 devices; each new database of one of
/// them may add another.
pub const ORIGINS_MAX: usize = 10_000;

/// Largest reconciliation message, in bytes. It costs one more round trip for every 60 KB of
/// differences.
pub const RECONCILE_BYTES_MAX: usize = 60_000;

/// Largest message, before and after compression, in bytes.
///
/// [`PIECE_BYTES_MAX`] and one oversized entry with every field at its limit are 1.4 MB;
/// [`ORIGINS_MAX`] origins with ids of [`DEVICE_ID_BYTES_MAX`] are 3 MB.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

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
