//! A lock that its holder may take again: a [`RawLock`], and how deep which thread is inside.
//!
//! ```text
//! lock                    see `lock.rs`; the only word that decides who holds
//! depth                   times the holder must still release; written by the holder only
//! holder = thread:32 | owner:32
//!
//!   lock     holder       meaning
//!   free     0            free
//!   owner    0 or stale   being acquired or released: one thread is between two of its own instructions
//!   owner    owner+thread held, `depth` times
//! ```
//!
//! **Why `holder` carries the owner too.** Thread numbers are unique in one participant only. After a take-over
//! from a dead owner, `lock` already names the new one while the rest still tells of the dead: were `holder` only
//! a thread number, a sibling of the new owner with the dead one's number would believe that it holds the lock. The value
//! `(me, my thread)` is written by this thread alone and taken back before it releases, so reading it,
//! even relaxed, proves possession.
//!
//! **Death.** Windows: (a) after `lock` was taken, before `depth` or `holder` is written; (b) while it is held; (c) in
//! `release`, after `holder` was cleared and before `lock` is free. In all three `lock` names the dead owner and is
//! taken back as `lock.rs` says; the next one in overwrites `depth` and `holder` and is told `recovered`.
//!
//! **Ordering.** `depth` and `holder` are relaxed: the Acquire and Release of `lock` stand around them.

use super::{Acquired, Deadline, Port, RawLock, TimedOut, WouldBlock};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::Owner;

/// Why an attempt without waiting failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RLockTryError {
    /// Another thread or process holds the lock.
    WouldBlock,
    /// The caller holds it 2^32-1 times already.
    Overflow,
}

/// Why an acquisition failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RLockError {
    /// The deadline passed first.
    TimedOut,
    /// The caller holds it 2^32-1 times already.
    Overflow,
}

/// Release by somebody who does not hold the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotOwner;

/// The re-entrant lock as it lies in the heap. All zero is a free lock.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawRLock {
    lock: RawLock,
    depth: AtomicU32,
    holder: AtomicU64,
}

/// What `holder` says while `thread` of `owner` is inside.
fn holder_word(owner: Owner, thread: u32) -> u64 {
    (u64::from(thread) << 32) | u64::from(owner.to_word())
}

impl RawRLock {
    /// A free lock.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self {
            lock: RawLock::new(),
            depth: AtomicU32::new(0),
            holder: AtomicU64::new(0),
        }
    }

    /// Takes the lock for `thread` (not zero, unique in this participant) if it is free or already its own.
    #[inline]
    pub(crate) fn try_acquire(
        &self,
        port: &impl Port,
        thread: u32,
    ) -> Result<Acquired, RLockTryError> {
        if self.is_held_by(port, thread) {
            return self.deepen().ok_or(RLockTryError::Overflow);
        }
        let acquired = self
            .lock
            .try_acquire(port)
            .map_err(|WouldBlock| RLockTryError::WouldBlock)?;
        self.enter(port, thread, 1);
        Ok(acquired)
    }

    /// Takes the lock for `thread`, waiting until `deadline` at the longest; takes it over from an owner that is gone.
    #[inline]
    pub(crate) fn acquire(
        &self,
        port: &impl Port,
        thread: u32,
        deadline: Deadline,
    ) -> Result<Acquired, RLockError> {
        if self.is_held_by(port, thread) {
            return self.deepen().ok_or(RLockError::Overflow);
        }
        let acquired = self
            .lock
            .acquire(port, deadline)
            .map_err(|TimedOut| RLockError::TimedOut)?;
        self.enter(port, thread, 1);
        Ok(acquired)
    }

    /// Undoes one acquisition; the last one frees the lock and wakes a sleeper.
    #[inline]
    pub(crate) fn release(&self, port: &impl Port, thread: u32) -> Result<(), NotOwner> {
        let depth = self.depth(port, thread);
        if depth > 1 {
            self.depth.store(depth - 1, Ordering::Relaxed);
            return Ok(());
        }
        self.release_all(port, thread).map(|_| ())
    }

    /// Frees the lock however deep it is held, and says how deep: a condition waits outside, then comes
    /// back with [`acquire`](Self::acquire) and [`restore`](Self::restore).
    pub(crate) fn release_all(&self, port: &impl Port, thread: u32) -> Result<u32, NotOwner> {
        let depth = self.depth(port, thread);
        if depth == 0 {
            return Err(NotOwner);
        }
        self.holder.store(0, Ordering::Relaxed);
        self.depth.store(0, Ordering::Relaxed);
        self.lock
            .release(port)
            .map(|()| depth)
            .map_err(|_| NotOwner)
    }

    /// Frees the lock however deep it is held, as if `thread` had died in possession: the next owner learns of it.
    #[cfg_attr(procession_loom, expect(dead_code, reason = "used by the front-end"))]
    pub(crate) fn abandon(&self, port: &impl Port, thread: u32) -> bool {
        if !self.is_held_by(port, thread) {
            return false;
        }
        self.holder.store(0, Ordering::Relaxed);
        self.depth.store(0, Ordering::Relaxed);
        self.lock.reap(port, port.me())
    }

    /// Sets the depth of a lock that `thread` has just taken again.
    pub(crate) fn restore(
        &self,
        port: &impl Port,
        thread: u32,
        depth: u32,
    ) -> Result<(), NotOwner> {
        if !self.is_held_by(port, thread) {
            return Err(NotOwner);
        }
        self.depth.store(depth.max(1), Ordering::Relaxed);
        Ok(())
    }

    /// How often `thread` must still release; zero if it does not hold the lock.
    pub(crate) fn depth(&self, port: &impl Port, thread: u32) -> u32 {
        if self.is_held_by(port, thread) {
            self.depth.load(Ordering::Relaxed).max(1)
        } else {
            0
        }
    }

    /// Whether `thread` of this participant holds the lock. Exact for the calling thread.
    #[inline]
    pub(crate) fn is_held_by(&self, port: &impl Port, thread: u32) -> bool {
        debug_assert!(thread != 0);
        self.holder.load(Ordering::Relaxed) == holder_word(port.me(), thread)
    }

    /// Which participant holds it now; only a hint by the time it is read.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.lock.owner()
    }

    /// Gives the lock back on behalf of `dead`, if it held it: the next owner learns of it. Idempotent.
    pub(crate) fn reap(&self, port: &impl Port, dead: Owner) -> bool {
        self.lock.reap(port, dead)
    }

    /// Records possession; only after `lock` was taken.
    fn enter(&self, port: &impl Port, thread: u32, depth: u32) {
        self.depth.store(depth, Ordering::Relaxed);
        self.holder
            .store(holder_word(port.me(), thread), Ordering::Relaxed);
    }

    /// Takes a lock again that the caller holds; `None` if it cannot count so far.
    fn deepen(&self) -> Option<Acquired> {
        let depth = self.depth.load(Ordering::Relaxed).checked_add(1)?;
        self.depth.store(depth, Ordering::Relaxed);
        Some(Acquired { recovered: false })
    }

    /// Pretends that the holder has come in `depth` times.
    #[cfg(test)]
    pub(crate) fn force_depth(&self, depth: u32) {
        self.depth.store(depth, Ordering::Relaxed);
    }
}

#[cfg(not(procession_loom))]
const _: () = assert!(size_of::<RawRLock>() == 16);
