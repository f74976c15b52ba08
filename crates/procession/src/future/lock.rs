//! Awaiting a lock.

use super::spot::Spot;
use super::turn::succeed;
use crate::atomic::AtomicU32;
use crate::family::Waiter;
use crate::sync::{Lock, LockGuard};
use std::sync::Arc;

/// A free lock.
#[derive(Debug)]
struct Free(Lock);

impl Spot for Free {
    fn word(&self) -> &AtomicU32 {
        self.0.raw().word()
    }

    fn announce(&self) -> u32 {
        self.0.raw().announce()
    }

    fn is_ready(&self, _seen: u64) -> bool {
        !self.0.is_locked()
    }
}

impl Lock {
    /// Takes the lock, awaiting it.
    ///
    /// The guard belongs to the process, not to the thread: the task may move to another thread while it holds it. Other tasks of this process that want
    /// the lock wait, too; keep it no longer than need be. While tasks wait, a thread that blocks in [`Lock::acquire`] may be quicker: there is no order among waiters.
    ///
    /// # Cancel safety
    /// The lock is taken in the poll that returns the guard. A future that is dropped before holds nothing; if it had been woken for the lock, another waiter is.
    ///
    /// # Crash safety
    /// As [`Lock::acquire`]: if the owner dies, the lock goes to a waiter, who is told by [`LockGuard::recovered`].
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let lock = procession::Lock::new()?;
    /// let guard = lock.acquire_async().await;
    /// assert!(lock.is_locked() && !guard.recovered());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn acquire_async(&self) -> LockGuard<'_> {
        let free = || -> Arc<dyn Spot> { Arc::new(Free(self.clone())) };
        succeed(free, |waited| {
            let acquired = self.raw().try_acquire(&Waiter::new()).map_err(|_| 0u64)?;
            if waited {
                // Others may sleep still: our release must wake one.
                self.raw().announce();
            }
            Ok(LockGuard::new(self, acquired))
        })
        .await
    }
}
