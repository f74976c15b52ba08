//! Locks and their kin.
//!
//! 1. `lock`, `rlock`: mutual exclusion. 2. `semaphore`, `bounded_semaphore`: permits. 3. `event`, `condition`, `barrier`: waiting for others.
//!    `steps`: the same for runtimes that wait in steps. 4. `raw`: the state machines behind all of them. 5. `handle`, `deadline`, `error`, `thread`: what they have in common.

pub(crate) mod raw;

#[cfg(not(procession_loom))]
mod barrier;
#[cfg(not(procession_loom))]
mod bounded_semaphore;
#[cfg(not(procession_loom))]
mod condition;
#[cfg(not(procession_loom))]
mod deadline;
#[cfg(not(procession_loom))]
mod error;
#[cfg(not(procession_loom))]
mod event;
#[cfg(not(procession_loom))]
mod handle;
#[cfg(not(procession_loom))]
mod lock;
#[cfg(not(procession_loom))]
mod rlock;
#[cfg(not(procession_loom))]
mod semaphore;
#[cfg(not(procession_loom))]
mod steps;
#[cfg(not(procession_loom))]
mod thread;

#[cfg(not(procession_loom))]
mod front {
    pub(crate) use super::barrier::SharedBarrier;
    pub use super::barrier::{Barrier, BarrierError, BarrierWaitResult, NewBarrierError};
    pub use super::bounded_semaphore::BoundedSemaphore;
    pub(crate) use super::condition::SharedCondition;
    pub use super::condition::{Condition, ConditionGuard, HoldsLock, WaitError};
    pub(crate) use super::deadline::deadline_after;
    pub use super::error::{NotHeld, NotOwner, OwnerDied, TimedOut, WouldBlock};
    pub use super::event::Event;
    pub(crate) use super::event::SharedEvent;
    pub(crate) use super::handle::{handle_serde, shared_handle};
    pub(crate) use super::lock::SharedLock;
    pub use super::lock::{Lock, LockGuard};
    pub(crate) use super::rlock::SharedRLock;
    pub use super::rlock::{RLock, RLockGuard};
    pub(crate) use super::semaphore::SharedSemaphore;
    pub use super::semaphore::{AboveLimit, NewSemaphoreError, Semaphore, SemaphorePermit};
    pub use super::steps::{BarrierArrival, ConditionWait};
    pub(crate) use super::thread::this_thread;
}
#[cfg(not(procession_loom))]
pub use front::*;
#[cfg(not(procession_loom))]
pub(crate) use front::{
    SharedBarrier, SharedCondition, SharedEvent, SharedLock, SharedRLock, SharedSemaphore,
    deadline_after, handle_serde, shared_handle, this_thread,
};
