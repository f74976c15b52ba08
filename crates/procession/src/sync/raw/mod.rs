//! Pure state machines of the locks: words, transitions and their recovery, no system call.
//!
//! Each file holds one machine, laid out `repr(C)` as it lies in the heap (invariants I1-I6 of
//! ARCHITECTURE.md). Waiting and liveness come in through a [`Port`].
//!
//! 1. `lock`: one word; owner recorded; handed on when the owner dies.
//! 2. `bell`: carries sleepers over a change of some other state.

mod bell;
mod lock;
mod port;

pub(crate) use bell::RawBell;
pub(crate) use lock::{Acquired, NotHeld, RawLock, TimedOut, WouldBlock};
pub(crate) use port::{ALL, Deadline, Port, Slept};
