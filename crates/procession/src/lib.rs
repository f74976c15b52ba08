//! Run functions in many processes and share locks, queues, pipes and buffers between them.
#![deny(unsafe_code)]

mod atomic;
mod family;
mod sync;

#[cfg(not(procession_loom))]
mod channel;
#[cfg(not(procession_loom))]
mod error;
#[cfg(not(procession_loom))]
mod heap;
#[cfg(not(procession_loom))]
mod kinds;
#[cfg(not(procession_loom))]
mod process;
#[cfg(not(procession_loom))]
mod sys;
#[cfg(not(procession_loom))]
mod value;

#[cfg(not(procession_loom))]
pub use channel::{
    Buffer, Codec, Connection, DecodeError, EncodeError, GetError, JoinableQueue, Pipe, Plain,
    PutError, Queue, Raw, RecvError, SendError, Serde, SimpleQueue, TooManyDone,
};
#[cfg(not(procession_loom))]
pub use error::Error;
#[cfg(not(procession_loom))]
pub use family::{MAX_PARTICIPANTS, Owner};
#[cfg(not(procession_loom))]
pub use heap::{Handle, HeapError, HeapStats, heap_stats};
#[cfg(not(procession_loom))]
pub use process::{
    __init_before_main, ActiveChild, CurrentProcess, JoinError, JoinFailure, ParentProcess,
    Process, ProcessBuilder, Resource, StartError, StartMethod, Stdio, active_children, current,
    init, parent_process,
};
#[cfg(not(procession_loom))]
pub use sync::{
    AboveLimit, Barrier, BarrierError, BarrierWaitResult, BoundedSemaphore, Condition,
    ConditionGuard, Event, HoldsLock, Lock, LockGuard, NewBarrierError, NewSemaphoreError, NotHeld,
    NotOwner, OwnerDied, RLock, RLockGuard, Semaphore, SemaphorePermit, TimedOut, WaitError,
    WouldBlock,
};
#[cfg(not(procession_loom))]
pub use sys::limits::{GroupMemory, Memory, ProcessMemory, cpu_count, memory};
#[cfg(not(procession_loom))]
pub use sys::pidfd::ExitStatus;
#[cfg(not(procession_loom))]
pub use value::{
    Array, ArrayGuard, GetItemError, Item, NamedSharedMemory, OutOfBounds, RawArray, RawValue,
    SetItemError, ShareableList, SharedAtomicBool, SharedAtomicI32, SharedAtomicI64,
    SharedAtomicU32, SharedAtomicU64, SharedMemory, Value, ValueGuard,
};
#[cfg(all(
    test,
    not(procession_loom),
    target_os = "linux",
    target_arch = "x86_64"
))]
mod crash;
