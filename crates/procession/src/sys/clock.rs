//! Monotonic time that all processes of the machine agree on.
#![expect(unsafe_code, reason = "clock_gettime")]
//!
//! The C library's call, not rustix's, which looks for the kernel's fast clock anew in each process: a child that is executed to
//! run for a moment would do so for one look at the time.

use std::time::Duration;

/// Time since boot (`CLOCK_MONOTONIC`).
fn now() -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: stores a time in the local it is given. It cannot fail for this clock; the time would then be zero.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Milliseconds since boot; comparable between processes.
pub(crate) fn monotonic_ms() -> u64 {
    now().as_millis() as u64
}

/// Nanoseconds of the same clock.
pub(crate) fn monotonic_ns() -> u64 {
    now().as_nanos() as u64
}
