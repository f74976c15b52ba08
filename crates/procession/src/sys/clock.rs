//! Monotonic time that all processes of the machine agree on.
#![expect(unsafe_code, reason = "clock_gettime")]
//!
//! The C library's call, not rustix's, which looks for the kernel's fast clock anew in each process: a child that is executed to
//! run for a moment would do so for one look at the time.

/// Milliseconds since boot (`CLOCK_MONOTONIC`); comparable between processes.
pub(crate) fn monotonic_ms() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: stores a time in the local it is given. It cannot fail for this clock; the time would then be zero.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64)
        .wrapping_mul(1000)
        .wrapping_add(now.tv_nsec as u64 / 1_000_000)
}
