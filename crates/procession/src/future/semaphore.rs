//! Awaiting a permit.

use super::spot::Spot;
use super::turn::succeed;
use crate::atomic::AtomicU32;
use crate::family::Waiter;
use crate::sync::{Semaphore, SemaphorePermit};
use std::sync::Arc;

/// A permit to be had.
#[derive(Debug)]
struct Permits(Semaphore);

impl Spot for Permits {
    fn word(&self) -> &AtomicU32 {
        self.0.raw().word()
    }

    fn announce(&self) -> u32 {
        self.0.raw().announce()
    }

    fn is_ready(&self, _seen: u64) -> bool {
        self.0.value() != 0
    }
}

impl Semaphore {
    /// Takes a permit, awaiting it. A [`BoundedSemaphore`](crate::BoundedSemaphore) has this, too.
    ///
    /// # Cancel safety
    /// The permit is taken in the poll that returns it. A future that is dropped before has taken none; if it had been woken for one, another waiter is.
    ///
    /// # Crash safety
    /// As [`Semaphore`]: no death leaves a waiter asleep beside a permit; permits that the dead had taken stay taken.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let semaphore = procession::BoundedSemaphore::new(1)?;
    /// let permit = semaphore.acquire_async().await;
    /// assert!(semaphore.try_acquire().is_err());
    /// drop(permit);
    /// assert_eq!(semaphore.value(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn acquire_async(&self) -> SemaphorePermit<'_> {
        let permits = || -> Arc<dyn Spot> { Arc::new(Permits(self.clone())) };
        succeed(permits, |waited| {
            let taken = if waited {
                // It may have been woken: it hands on what is left.
                self.raw().take_with_baton(&Waiter::new())
            } else {
                self.raw().try_acquire().is_ok()
            };
            taken.then(|| SemaphorePermit::new(self)).ok_or(0)
        })
        .await
    }
}
