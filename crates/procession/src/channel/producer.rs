//! Producer: a handle to a queue that says "somebody may still put something".

use super::anchor::Anchor;
use super::codec::{Codec, Serde};
use super::queue::{Queue, SharedQueue};
use crate::heap::{BlockRef, Container, Death, Handle, HeapError, Hold, Object, Shared};
use crate::kinds::Kind;
use std::ops::Deref;

/// The right to put, as it lies in the heap; its holders are the producers.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedProducer {
    queue: Anchor,
}

impl Object for SharedProducer {
    const KIND: Kind = Kind::Producer;

    fn reap(&self, _death: Death) {}

    fn contains(&self, block: BlockRef) -> bool {
        self.queue.contains(block)
    }

    /// The last producer is gone: what it put can be taken, then the queue says that it is closed.
    fn destroy(&self, container: Container) {
        if let Ok(queue) = Shared::<SharedQueue>::open(self.queue.target()) {
            queue.channel.close();
            self.queue.release(container);
        }
    }
}

/// A handle to a [`Queue`] that counts as a producer of it: when the last clone is gone, the queue is closed.
///
/// Made by [`Queue::producer`]; clone it for each process that puts, and drop your own. Then consumers need no word when to
/// stop: `get` says [`GetError::Closed`](crate::GetError::Closed) after the last item, also if the producers died.
///
/// # Crash safety
/// A producer that is killed counts as gone, like one that dropped its handle; what it had put stays.
///
/// # Examples
/// ```
/// let queue = procession::Queue::<u32>::unbounded()?;
/// let producer = queue.producer()?;
/// producer.put(1)?;
/// drop(producer); // or its process is killed
/// assert_eq!(queue.get(), Ok(1));
/// assert_eq!(queue.get(), Err(procession::GetError::Closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Producer<T, C = Serde> {
    token: Shared<SharedProducer>,
    queue: Queue<T, C>,
}

impl<T, C: Codec<T>> Queue<T, C> {
    /// A handle that keeps the queue open: when the last clone of it is gone (dropped, or its process exited or died), the queue is
    /// closed, for all. Call this once and clone the result: the producers of each call close the queue by themselves.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap is full.
    pub fn producer(&self) -> Result<Producer<T, C>, HeapError> {
        let target = self.handle();
        let envelope = Anchor::envelope(target)?;
        let token = Shared::create(|token: &SharedProducer, _| token.queue.point_at(target))?;
        token.queue.tie(token.container(), envelope);
        Ok(Producer {
            token,
            queue: self.clone(),
        })
    }
}

impl<T, C> Producer<T, C> {
    /// The name of this right to put, to be sent by other means than a message. A name alone holds nothing.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.token.handle()
    }

    /// Opens a right to put by its name, if somebody still holds it.
    ///
    /// # Errors
    /// [`HeapError::Stale`], [`HeapError::OtherFamily`], [`HeapError::WrongKind`].
    pub fn open(handle: Handle) -> Result<Self, HeapError> {
        let token = Shared::<SharedProducer>::open(handle)?;
        let queue = Queue::open(token.queue.target())?;
        Ok(Self { token, queue })
    }

    fn hold(&self) -> Hold {
        self.token.hold()
    }
}

impl<T, C> Deref for Producer<T, C> {
    type Target = Queue<T, C>;

    fn deref(&self) -> &Queue<T, C> {
        &self.queue
    }
}

impl<T, C> Clone for Producer<T, C> {
    fn clone(&self) -> Self {
        Self {
            token: self.token.clone(),
            queue: self.queue.clone(),
        }
    }
}

crate::sync::handle_serde!(Producer<T, C>, "Producer");
