//! What a state machine needs from the world around it, as a parameter.
//!
//! Waiting, waking, time and "is that process dead" are not called but *passed in*: the engine passes the
//! futex and the participant table (`sync/port.rs`), loom passes its own scheduler. A state machine that takes a
//! [`Port`] therefore knows no system call and can be model-checked as it is.

use crate::atomic::AtomicU32;
use crate::family::Owner;
use std::time::Instant;

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// Woken, the word had changed, a bounded slice ran out, or for no reason: look at the state again.
    Again,
    /// The deadline has passed, *and no wake was spent on this sleeper* (a sleeper that was woken says `Again`,
    /// however late it is: the wake is a baton, see `lock`). Look once more, then give up.
    TimedOut,
}

/// When to give up; `None` waits for ever (in bounded slices, each of which re-checks).
pub(crate) type Deadline = Option<Instant>;

/// The outside world of a state machine.
pub(crate) trait Port {
    /// The participant on whose behalf the operation runs.
    fn me(&self) -> Owner;

    /// Whether `owner` is *proved* to be gone. Never true for a process that might still touch the heap. May be slow
    /// (system calls): ask only before or after a sleep.
    fn is_gone(&self, owner: Owner) -> bool;

    /// Whether `owner` is already known to be gone, without asking the kernel. Safe to ask on fast paths.
    fn is_known_gone(&self, owner: Owner) -> bool {
        self.is_gone(owner)
    }

    /// Busy-waits a moment; `turn` counts calls from zero since the operation began to wait. `false` says
    /// that spinning no longer pays and the caller must sleep.
    fn spin(&self, turn: u32) -> bool;

    /// Sleeps while `*word == expected` (compared by the kernel), at most one bounded slice.
    fn sleep(&self, word: &AtomicU32, expected: u32, deadline: Deadline) -> Slept;

    /// Wakes up to `count` sleepers of `word`; says how many were asleep.
    fn wake(&self, word: &AtomicU32, count: u32) -> u32;
}

/// `count` for [`Port::wake`]: everybody.
pub(crate) const ALL: u32 = i32::MAX as u32;
