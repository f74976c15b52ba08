//! The objects through which a pool and its workers speak.
//!
//! A worker has two lanes of its own, one for tasks and one for results: whatever it does to them when it dies (or worse), no other worker's are touched.
//! All workers of a pool ring one bell, on which the pool's waiting threads sleep.
//!
//! # Death
//! Of the worker: results whose commit was stored are in its lane, whole; tasks that it had not taken are in its other lane, and the pool takes them back; what is in
//! neither is what it held, at most one. Of the pool's process: the worker is killed by its parent-watch; nobody holds the objects any more, and what is in them is freed.

#![expect(
    unreachable_pub,
    reason = "handles like those of public objects, made by the same macro"
)]

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::channel::{Channel, Patience};
use crate::family::Waiter;
use crate::heap::{BlockRef, Container, Death, HeapError, Object, Shared};
use crate::kinds::Kind;
use crate::sync::raw::RawBell;
use std::time::Duration;

/// How long the pool waits for a lock of a lane. The producers' lock of the tasks and the consumers' lock of the results are its own: not to get them means that
/// the worker overwrote them. The consumers' lock of the tasks is the worker's, who may have been stopped while it held it.
pub(super) const PATIENCE: Patience = Some(Duration::from_millis(100));
/// The same for what can as well be done later.
pub(super) const NO_PATIENCE: Patience = Some(Duration::ZERO);

/// Bytes of the ring of each lane.
const LANE_BYTES: u32 = 64 * 1024;

/// A worker as it lies in the heap.
#[repr(C, align(64))]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedWorker {
    /// The pool puts, the worker takes (and the pool, to take back what was not begun).
    pub(super) tasks: Channel,
    /// The worker puts, the pool takes.
    pub(super) results: Channel,
    /// The task that runs; 0: none.
    pub(super) current: AtomicU64,
    /// When it began, in nanoseconds of the monotonic clock.
    pub(super) since: AtomicU64,
    /// Tasks done.
    pub(super) done: AtomicU64,
    /// The worker takes no more tasks: it has done as many, or taken as much memory, as it may.
    pub(super) leaving: AtomicU32,
    spare: AtomicU32,
    spare_words: [AtomicU64; 4],
}
const _: () = assert!(size_of::<SharedWorker>() == 448);

impl Object for SharedWorker {
    const KIND: Kind = Kind::Worker;

    fn reap(&self, death: Death) {
        self.tasks.reap(death);
        self.results.reap(death);
    }

    fn contains(&self, block: BlockRef) -> bool {
        self.tasks.contains(block) || self.results.contains(block)
    }

    fn destroy(&self, container: Container) {
        self.tasks.destroy(container);
        self.results.destroy(container);
    }
}

/// What all workers of a pool ring when they have put a result.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedPool {
    pub(super) bell: RawBell,
}

impl Object for SharedPool {
    const KIND: Kind = Kind::Pool;

    fn reap(&self, _death: Death) {
        self.bell.reap(&Waiter::new());
    }
}

/// Both lanes of a worker.
pub(super) struct Lane {
    pub(super) shared: Shared<SharedWorker>,
    _item: (),
}

impl Lane {
    pub(super) fn new() -> Result<Self, HeapError> {
        let shared = Shared::create(|worker: &SharedWorker, _| {
            worker.tasks.init(0, LANE_BYTES);
            worker.results.init(0, LANE_BYTES);
        })?;
        Ok(Self { shared, _item: () })
    }

    /// Whether there is something for the pool.
    #[inline]
    pub(super) fn has_results(&self) -> bool {
        self.shared.results.has_items()
    }

    /// Frees the locks of both lanes, whatever the worker, who is dead, left in their words.
    pub(super) fn free_locks(&self) {
        self.shared.tasks.free_locks();
        self.shared.results.free_locks();
    }

    /// The task that runs, and since when (nanoseconds of the monotonic clock).
    pub(super) fn current(&self) -> Option<(u64, u64)> {
        let id = self.shared.current.load(Ordering::SeqCst);
        let since = self.shared.since.load(Ordering::SeqCst);
        (id != 0 && self.shared.current.load(Ordering::SeqCst) == id).then_some((id, since))
    }
}

crate::sync::shared_handle!(Lane, SharedWorker, "worker's lanes");

/// The bell of a pool.
pub(super) struct PoolBell {
    pub(super) shared: Shared<SharedPool>,
    _item: (),
}

impl PoolBell {
    pub(super) fn new() -> Result<Self, HeapError> {
        let shared = Shared::create(|_: &SharedPool, _| ())?;
        Ok(Self { shared, _item: () })
    }

    pub(super) fn bell(&self) -> &RawBell {
        &self.shared.bell
    }
}

crate::sync::shared_handle!(PoolBell, SharedPool, "pool's bell");
