//! Memory that the program let go of and the allocator keeps: the one place that talks to it.

/// Gives free pages back to the system.
///
/// glibc keeps what was freed below anything that is still in use, and every thread has an arena of
/// its own: after a first sync of 1,000,000 entries that is 40 MB for as long as the daemon runs.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(
    unsafe_code,
    reason = "the C library is the only one who can, and nobody offers this call without `unsafe`"
)]
pub(crate) fn give_back() {
    // SAFETY: it takes the allocator's own locks, and touches no memory that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators do that by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}
