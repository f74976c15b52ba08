//! A timeout becomes a deadline at the edge, once.

use super::raw::Deadline;
use std::time::{Duration, Instant};

/// The deadline for a timeout; `None` (for ever) if it lies beyond the clock's range.
pub(crate) fn deadline_after(timeout: Duration) -> Deadline {
    Instant::now().checked_add(timeout)
}

/// What `result` is, where nothing else can fail and no deadline was given.
#[inline]
pub(super) fn without_deadline<T>(result: Result<T, super::raw::TimedOut>) -> T {
    result.expect("invariant: a wait without a deadline does not time out")
}
