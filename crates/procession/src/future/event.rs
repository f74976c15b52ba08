//! Awaiting an event.

use super::spot::Spot;
use super::turn::succeed;
use crate::atomic::AtomicU32;
use crate::sync::Event;
use std::sync::Arc;

/// A flag that is set, or was since the wait began: that is what is seen.
#[derive(Debug)]
struct Fired(Event);

impl Spot for Fired {
    fn word(&self) -> &AtomicU32 {
        self.0.raw().word()
    }

    fn announce(&self) -> u32 {
        self.0.raw().announce()
    }

    fn is_ready(&self, seen: u64) -> bool {
        self.0.raw().has_fired_since(seen as u32)
    }

    fn is_for_all(&self) -> bool {
        true
    }
}

impl Event {
    /// Awaits that the flag is set, or was set since the first poll.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future. A new one waits from its own first poll on.
    ///
    /// # Crash safety
    /// As [`Event`]: if somebody dies while setting, and the flag is set, all waiters learn of it.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let event = procession::Event::new()?;
    /// let other = event.clone();
    /// std::thread::spawn(move || other.set());
    /// event.wait_async().await;
    /// assert!(event.is_set());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn wait_async(&self) {
        let since = self.raw().now();
        let fired = || -> Arc<dyn Spot> { Arc::new(Fired(self.clone())) };
        succeed(fired, |_| {
            let fired = self.raw().has_fired_since(since);
            fired.then_some(()).ok_or(u64::from(since))
        })
        .await;
    }
}
