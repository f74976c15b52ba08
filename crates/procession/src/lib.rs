//! Run functions in many processes, threads or coroutines at once and bring the results back: pools, futures, queues, locks, pipes and shared data that nothing you kill can wedge or leak.
//!
//! ```
//! use procession::{Process, Queue};
//!
//! fn square((x, results): (u64, Queue<u64>)) {
//!     results.put(x * x).expect("the queue is open");
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     procession::init(); // first in main: children begin here, too
//!     let results = Queue::unbounded()?;
//!     let start = |x| Process::start(square, (x, results.clone()));
//!     for worker in [start(1)?, start(2)?, start(3)?] {
//!         worker.join()?; // a panic, an exit, a kill: an error that says which
//!     }
//!     results.close();
//!     assert_eq!(results.iter().sum::<Result<u64, _>>()?, 1 + 4 + 9);
//!     Ok(())
//! }
//! ```
//!
//! # What is there
//!
//! - **Pools**: [`Pool`] and [`Executor`] run tasks over workers, processes or threads, with [`Future`]s; [`Map`] for long and endless inputs.
//! - **Processes**: [`Process`] runs a function elsewhere and tells how it ended; [`StartMethod`] says how it comes into being.
//! - **Channels**: [`Queue`], [`JoinableQueue`], [`SimpleQueue`] for many producers and consumers; [`Pipe`] and its [`Connection`]s for two ends.
//! - **Taking turns**: [`Lock`], [`RLock`], [`Semaphore`], [`BoundedSemaphore`], [`Condition`], [`Event`], [`Barrier`].
//! - **Data that all see**: [`Value`], [`Array`], [`SharedAtomicU64`] and its kin, [`SharedMemory`], [`ShareableList`]; of any type and size, [`SharedDict`] and [`SharedList`].
//! - **Maps and lists that all see**: [`SharedDict`], [`SharedList`], without a server.
//! - **State of any type**: [`Manager`] owns it in a process of its own; [`Proxy`] runs your functions on it, from any process or, authenticated, another machine.
//! - **Bytes that change hands**: [`Buffer`], of any size, without a copy.
//!
//! Each of the shared objects is a handle of a few words: clone it, pass it to a child, send it through a queue or a pipe, in any serde type. All copies name the same object,
//! which lives as long as anybody holds it. None needs a file descriptor or a thread.
//!
//! # `init()`
//!
//! Children are this program again (except by [`StartMethod::Fork`]), so `main` must turn off into the child's function: [`init()`](init) does, and comes first. Where `main`
//! is not yours, as in tests, [`init_before_main!`] does it.
//!
//! # Blocking
//!
//! What can wait comes in four forms: `get` waits, `try_get` does not, `get_timeout` waits for a [`Duration`](std::time::Duration) and `get_deadline` until an
//! [`Instant`](std::time::Instant). A timeout of zero looks once; one beyond the clock's range waits for ever.
//!
//! # Awaiting
//!
//! What waits can also be awaited, under any runtime: [`Queue::get_async`], [`Queue::stream`], [`Connection::recv_async`], [`Lock::acquire_async`], [`Semaphore::acquire_async`],
//! [`Event::wait_async`], [`Condition::wait_async`], [`Barrier::wait_async`], [`Process::join_async`]; a [`Future`] of a pool is one, and [`Map::stream`] gives the results of a map. However many futures wait, one thread sleeps for them all. Each says in *Cancel safety* what
//! dropping it does.
//!
//! # When a process dies
//!
//! Of whatever, at whatever instruction: nobody waits for it for ever, and nothing that it held is lost to the others. Each item's section *Crash safety* says what exactly happens. In short:
//!
//! - its locks go to those who wait, who are told ([`LockGuard::recovered`]);
//! - its messages are either in the queue or never were; all others arrive, once and in order;
//! - its end of a pipe closes; a barrier that it held breaks; its memory is freed;
//! - [`Process::join`] says how it ended;
//! - of a pool's worker: exactly the task that it ran fails ([`TaskError::WorkerDied`]) or is tried again.
//!
//! Permits of a [`Semaphore`] and unfinished items of a [`JoinableQueue`] stay as they are, because nobody can know whether they should not. A [`Queue`] does not know who might
//! still put something, unless its producers hold a [`Producer`]: then it closes when the last one is gone.
//!
//! # Limits
//!
//! Linux 5.3 or later, 64-bit little-endian; 1024 processes in a family; 80 % of the machine's or the control group's memory, unless `PROCESSION_HEAP_LIMIT` says
//! otherwise. A family is one domain of trust.
#![deny(unsafe_code)]

mod atomic;
mod family;
mod sync;

#[cfg(not(procession_loom))]
mod channel;
#[cfg(not(procession_loom))]
mod error;
#[cfg(not(procession_loom))]
mod future;
#[cfg(not(procession_loom))]
mod heap;
#[cfg(not(procession_loom))]
mod kinds;
#[cfg(not(procession_loom))]
mod manager;
#[cfg(not(procession_loom))]
mod pool;
#[cfg(not(procession_loom))]
mod process;
#[cfg(not(procession_loom))]
mod sys;
#[cfg(not(procession_loom))]
mod value;

#[cfg(not(procession_loom))]
pub use channel::{
    Buffer, Codec, Connection, DecodeError, EncodeError, Fd, GetError, GetManyError, JoinableQueue,
    Letter, Packed, Pipe, Plain, Producer, PutError, PutManyError, Queue, Raw, Readiness,
    RecvError, Select, SendError, Serde, SimpleQueue, TooManyDone, Waitable, wait,
};
#[cfg(not(procession_loom))]
pub use error::Error;
#[cfg(not(procession_loom))]
pub use family::{MAX_PARTICIPANTS, Owner};
#[cfg(not(procession_loom))]
pub use future::{ConnectionStream, QueueStream};
#[cfg(not(procession_loom))]
pub use heap::{Handle, HeapError, HeapStats, heap_stats};
#[cfg(not(procession_loom))]
pub use manager::{
    Address, AuthKey, ConnectError, CounterProxy, DictProxy, ListProxy, MAX_CLIENTS, Manager,
    ManagerBuilder, ManagerClient, ManagerError, ManagerStartError, NamespaceProxy, Proxy,
    QueueProxy, RemoteManager, TryPutError,
};
#[cfg(not(procession_loom))]
pub use pool::{
    AsCompleted, BootError, Broken, Executor, Feed, FeedWaiter, Future, Map, MapFuture, MapStream,
    Pool, PoolBuilder, PoolError, Recruit, ReturnWhen, SubmitError, TaskError, TaskFunction,
    TaskOptions, WorkerDied, WorkerReport, as_completed, fail_task, wait_futures, work,
};
#[cfg(not(procession_loom))]
pub use process::{
    __init_before_main, ActiveChild, CurrentProcess, JoinError, JoinFailure, ParentProcess,
    Portable, Process, ProcessBuilder, Resource, StartError, StartMethod, Stdio, active_children,
    current, embed, init, parent_process,
};
#[cfg(not(procession_loom))]
pub use sync::{
    AboveLimit, Barrier, BarrierError, BarrierWaitResult, BoundedSemaphore, Condition,
    ConditionGuard, Event, HoldsLock, Lock, LockGuard, NewBarrierError, NewSemaphoreError, NotHeld,
    NotOwner, OwnerDied, RLock, RLockGuard, Semaphore, SemaphorePermit, TimedOut, WaitError,
    WouldBlock,
};
#[cfg(not(procession_loom))]
pub use sys::limits::{GroupMemory, Memory, ProcessMemory, cpu_count, memory, oom_kills};
#[cfg(not(procession_loom))]
pub use sys::pidfd::{ExitStatus, ProcessUsage};
#[cfg(not(procession_loom))]
pub use value::{
    Array, ArrayGuard, DictError, GetItemError, Item, ListError, NamedSharedMemory, OutOfBounds,
    RawArray, RawValue, SetItemError, ShareableList, SharedAtomicBool, SharedAtomicI32,
    SharedAtomicI64, SharedAtomicU32, SharedAtomicU64, SharedDict, SharedList, SharedMemory, Value,
    ValueGuard,
};
#[cfg(all(
    test,
    not(procession_loom),
    target_os = "linux",
    target_arch = "x86_64"
))]
mod crash;

/// The README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadMe;
