//! Awaiting a notification.

use super::spot::Spot;
use super::turn::succeed;
use crate::atomic::AtomicU32;
use crate::family::{Owner, Waiter};
use crate::heap::me;
use crate::sync::raw::RawCell;
use crate::sync::{Condition, LockGuard, WaitError};
use std::sync::Arc;

/// A cell of a waiter that was told.
#[derive(Debug)]
struct Told {
    condition: Condition,
    index: usize,
    owner: Owner,
}

impl Told {
    fn cell(&self) -> Option<&RawCell> {
        let (raw, cells) = self.condition.cells();
        raw.cell(cells, self.index)
    }
}

impl Spot for Told {
    fn word(&self) -> &AtomicU32 {
        // There are no fewer cells than before unless the heap was overwritten; then any word will do, and `is_ready` says so.
        static NONE: AtomicU32 = AtomicU32::new(0);
        self.cell().map_or(&NONE, RawCell::word)
    }

    fn announce(&self) -> u32 {
        self.cell().map_or(0, |cell| cell.announce(self.owner))
    }

    fn is_ready(&self, _seen: u64) -> bool {
        self.cell().is_none_or(|cell| cell.is_told(self.owner))
    }

    /// The cell will be somebody else's.
    fn may_linger(&self) -> bool {
        false
    }
}

/// A claimed cell. If it is dropped, a notification that had come goes to another waiter.
struct Claim<'a> {
    condition: &'a Condition,
    index: usize,
    owner: Owner,
}

impl Claim<'_> {
    fn attempt(&self) -> Result<(), u64> {
        let (raw, cells) = self.condition.cells();
        let told = raw
            .cell(cells, self.index)
            .is_none_or(|cell| cell.is_told(self.owner));
        told.then_some(()).ok_or(0)
    }

    /// The notification was used.
    fn finish(self) {
        let (raw, cells) = self.condition.cells();
        if let Some(cell) = raw.cell(cells, self.index) {
            cell.leave(self.owner);
        }
        std::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // Not in a forked child.
        if self.owner == me() {
            let (raw, cells) = self.condition.cells();
            raw.withdraw(cells, self.index, &Waiter::new());
        }
    }
}

impl Condition {
    /// Releases the lock, awaits a notification, and takes the lock again.
    ///
    /// For conditions made with [`Condition::with_lock`]. The others' lock is re-entrant and belongs to a thread, which a task does not, so they cannot be awaited. The guard goes in
    /// and comes back, because a future that is dropped while it waits does not hold the lock.
    ///
    /// # Cancel safety
    /// A future that is dropped while it waits leaves the lock released and waits no more; a notification that it had been given goes to the next waiter.
    ///
    /// # Crash safety
    /// As [`Condition`]; the new guard says [`recovered`](LockGuard::recovered) if an owner died in possession before we took the lock, or while we waited.
    ///
    /// # Errors
    /// [`WaitError`]; the guard is gone and the lock released then.
    ///
    /// # Examples
    /// ```
    /// use procession::{Condition, Lock, RawValue};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let lock = Lock::new()?;
    /// let (condition, ready) = (Condition::with_lock(&lock)?, RawValue::new(0u8)?);
    /// let other = (lock.clone(), condition.clone(), ready.clone());
    /// std::thread::spawn(move || {
    ///     let (lock, condition, ready) = other;
    ///     let _guard = lock.acquire();
    ///     ready.set(1);
    ///     condition.notify_one();
    /// });
    /// let mut guard = lock.acquire_async().await;
    /// while ready.get() == 0 {
    ///     guard = condition.wait_async(guard).await?;
    /// }
    /// assert!(!guard.recovered());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn wait_async<'a>(&self, guard: LockGuard<'a>) -> Result<LockGuard<'a>, WaitError> {
        let lock = guard.lock();
        if !self.uses(lock) {
            return Err(WaitError::WrongLock);
        }
        let claim = Claim {
            condition: self,
            index: self.claim()?,
            owner: me(),
        };
        if lock.owner() != Some(claim.owner) {
            return Err(WaitError::NotHeld);
        }
        let had_recovered = guard.recovered();
        drop(guard);
        let told = || -> Arc<dyn Spot> {
            let condition = self.clone();
            let (index, owner) = (claim.index, claim.owner);
            Arc::new(Told {
                condition,
                index,
                owner,
            })
        };
        succeed(told, |_| claim.attempt()).await;
        let mut guard = lock.acquire_async().await;
        claim.finish();
        guard.note_recovery(had_recovered);
        Ok(guard)
    }
}
