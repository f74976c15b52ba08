//! Awaiting a simple queue.

use super::stream::QueueStream;
use crate::channel::{Codec, GetError, PutError, SimpleQueue};

impl<T, C: Codec<T>> SimpleQueue<T, C> {
    /// Removes and returns the oldest item, awaiting it; see [`Queue::get_async`](crate::Queue::get_async).
    ///
    /// # Cancel safety
    /// A future that is dropped has taken nothing.
    ///
    /// # Errors
    /// [`GetError::Closed`], [`GetError::Decode`].
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let queue = procession::SimpleQueue::<u32>::new()?;
    /// queue.put_async(7).await?;
    /// assert_eq!(queue.get_async().await?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn get_async(&self) -> Result<T, GetError> {
        self.0.get_async().await
    }

    /// Puts an item at the end. Waits only where [`Queue::put`](crate::Queue::put) of an unbounded queue does.
    ///
    /// # Cancel safety
    /// A future that is dropped before it is complete has put nothing.
    ///
    /// # Errors
    /// [`PutError::Closed`], [`PutError::Encode`].
    ///
    /// # Examples
    /// See [`SimpleQueue::get_async`].
    pub async fn put_async(&self, item: T) -> Result<(), PutError<T>> {
        self.0.put_async(item).await
    }

    /// The items as a stream; see [`Queue::stream`](crate::Queue::stream).
    pub fn stream(&self) -> QueueStream<'_, T, C> {
        self.0.stream()
    }
}
