//! Pure state machines of the locks: words, transitions and their recovery, no system call.
//!
//! Each file holds one machine, laid out `repr(C)` as it lies in the heap (invariants I1-I6 of
//! ARCHITECTURE.md). Waiting and liveness come in through a [`Port`].
//!
//! 1. `lock`: one word; owner recorded; handed on when the owner dies.
//! 2. `rlock`: a lock, and how deep which thread is inside.
//! 3. `semaphore`: a count of permits, bounded or not; nobody owns them.
//! 4. `event`: a flag to wait for.
//! 5. `condition`: one cell per waiter; notifications are exact and skip the dead.
//! 6. `barrier`: rounds of so many parties; breaks if one dies inside.
//! 7. `commit`: what one side of a channel has done, in one word.
//! 8. `bell`: carries sleepers over a change of some other state.
//! 9. `listener`: who is to be rung through a descriptor. 10. `word`: the state word of a block of the heap. 11. `holding`: when nobody holds an object any more.

mod barrier;
mod bell;
mod commit;
mod condition;
mod event;
pub(crate) mod holding;
pub(crate) mod listener;
mod lock;
mod port;
mod rlock;
mod semaphore;
#[cfg_attr(
    procession_loom,
    expect(dead_code, reason = "the heap needs more of it")
)]
pub(crate) mod word;

#[cfg(test)]
mod tests;

pub(crate) use barrier::{Arrival, BARRIER_MAX, BarrierError, Parties, RawArrival, RawBarrier};
pub(crate) use bell::RawBell;
pub(crate) use commit::{Commit, RawCommit};
pub(crate) use condition::{Cells, RawCell, RawCondition, Waited};
pub(crate) use event::RawEvent;
pub(crate) use listener::{Audience, RawListener};
#[cfg(test)]
pub(crate) use {lock::NotHeld, rlock::NotOwner, semaphore::AboveLimit};

pub(crate) use lock::{Acquired, RawLock, TimedOut, WouldBlock};
pub(crate) use port::{ALL, Deadline, Port, Slept};
pub(crate) use rlock::{RLockError, RLockTryError, RawRLock};
pub(crate) use semaphore::{RawSemaphore, SEMAPHORE_MAX};
