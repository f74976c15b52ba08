//! SimpleQueue: an unbounded queue with three methods.

use super::codec::{Codec, Serde};
use super::queue::{GetError, PutError, Queue};
use crate::heap::HeapError;
use serde::{Deserialize, Serialize};

/// An unbounded queue with only `put`, `get` and `is_empty`.
///
/// The same queue as [`Queue`] underneath, with the same promises; for code that wants to say that it needs no more.
///
/// # Examples
/// ```
/// let queue = procession::SimpleQueue::<(u32, f64)>::new()?;
/// queue.put((1, 0.5))?;
/// assert_eq!(queue.get()?, (1, 0.5));
/// assert!(queue.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.SimpleQueue`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct SimpleQueue<T, C = Serde>(pub(crate) Queue<T, C>);

impl<T, C: Codec<T>> SimpleQueue<T, C> {
    /// Creates an empty queue.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    pub fn new() -> Result<Self, HeapError> {
        Queue::unbounded().map(Self)
    }

    /// Puts an item at the end; never waits.
    ///
    /// # Errors
    /// [`PutError::Closed`], [`PutError::Encode`].
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.0.put(item)
    }

    /// Removes and returns the oldest item.
    ///
    /// # Blocking
    /// Until there is one or the queue is closed.
    ///
    /// # Errors
    /// [`GetError::Closed`], [`GetError::Decode`].
    pub fn get(&self) -> Result<T, GetError> {
        self.0.get()
    }

    /// Whether there is no item now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Closes the queue for all; see [`Queue::close`].
    pub fn close(&self) {
        self.0.close();
    }
}
