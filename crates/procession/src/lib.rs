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
mod sys;

#[cfg(not(procession_loom))]
pub use channel::{
    Buffer, Codec, Connection, DecodeError, EncodeError, Fd, GetError, GetManyError, JoinableQueue,
    Pipe, Plain, PutError, PutManyError, Queue, Raw, Readiness, RecvError, Select, SendError,
    Serde, SimpleQueue, TooManyDone, Waitable, wait,
};
#[cfg(not(procession_loom))]
pub use error::Error;
#[cfg(not(procession_loom))]
pub use family::{MAX_PARTICIPANTS, Owner};
#[cfg(not(procession_loom))]
pub use heap::{Handle, HeapError, HeapStats, heap_stats};
#[cfg(not(procession_loom))]
pub use sync::Lock;
#[cfg(all(
    test,
    not(procession_loom),
    target_os = "linux",
    target_arch = "x86_64"
))]
mod crash;
