//! Awaiting that all items of a queue have been dealt with.

use super::spot::{Sleeper, Spot};
use super::turn::succeed;
use crate::atomic::AtomicU32;
use crate::channel::{Codec, JoinableQueue, SharedQueue};
use crate::heap::Shared;
use std::sync::Arc;

/// No unfinished items.
#[derive(Debug)]
struct AllDone {
    queue: Shared<SharedQueue>,
    sleeper: Sleeper,
}

impl Spot for AllDone {
    fn word(&self) -> &AtomicU32 {
        self.queue.done_bell.word()
    }

    fn announce(&self) -> u32 {
        self.sleeper.announce(&self.queue.done_bell)
    }

    fn is_ready(&self, _seen: u64) -> bool {
        self.queue.unfinished() == 0
    }

    fn withdraw(&self) {
        self.sleeper.withdraw(&self.queue.done_bell);
    }

    fn is_for_all(&self) -> bool {
        true
    }
}

impl<T, C: Codec<T>> JoinableQueue<T, C> {
    /// Awaits that every item put was dealt with. (`get_async` and `put_async` are those of [`Queue`](crate::Queue).)
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    ///
    /// # Crash safety
    /// As [`JoinableQueue::join`]: an item whose taker died stays unfinished.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let tasks = procession::JoinableQueue::<u32>::unbounded()?;
    /// tasks.put_async(7).await?;
    /// let worker = tasks.clone();
    /// std::thread::spawn(move || worker.get().map(|_| worker.task_done()));
    /// tasks.join_async().await;
    /// assert_eq!(tasks.unfinished(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn join_async(&self) {
        let spot = || -> Arc<dyn Spot> {
            let (queue, sleeper) = (self.shared().clone(), Sleeper::default());
            Arc::new(AllDone { queue, sleeper })
        };
        succeed(spot, |_| match self.unfinished() {
            0 => Ok(()),
            _ => Err(0),
        })
        .await;
    }
}
