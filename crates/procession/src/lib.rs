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
pub use sync::Lock;
#[cfg(not(procession_loom))]
pub use sys::limits::{GroupMemory, Memory, ProcessMemory, cpu_count, memory};
#[cfg(not(procession_loom))]
pub use sys::pidfd::ExitStatus;
#[cfg(all(
    test,
    not(procession_loom),
    target_os = "linux",
    target_arch = "x86_64"
))]
mod crash;
