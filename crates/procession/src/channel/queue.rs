//! Queue: many producers, many consumers, any process of the family.

use super::codec::{Codec, DecodeError, EncodeError, Serde, sealed};
use super::core::{Channel, GetFault, Parcel, PutFault};
use super::readiness::{Readiness, Watched};
use crate::atomic::AtomicU32;
use crate::heap::{BlockRef, Container, Death, HeapError, Object, Shared};
use crate::kinds::Kind;
use crate::sync::deadline_after;
use crate::sync::raw::{Deadline, RawBell};
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// A queue as it lies in the heap.
#[repr(C, align(64))]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedQueue {
    pub(crate) channel: Channel,
    /// Items for which `task_done` was called, modulo 2^32 (`joinable_queue.rs`).
    pub(super) done: AtomicU32,
    pub(crate) done_bell: RawBell,
    spare: [AtomicU32; 13],
}
const _: () = assert!(size_of::<SharedQueue>() == 256);

impl Object for SharedQueue {
    const KIND: Kind = Kind::Queue;

    fn reap(&self, death: Death) {
        self.channel.reap(death);
        self.done_bell.reap(&crate::family::Waiter::new());
    }

    fn contains(&self, block: BlockRef) -> bool {
        self.channel.contains(block)
    }

    fn destroy(&self, container: Container) {
        self.channel.destroy(container);
    }
}

/// Why an item was not put. The item comes back.
#[derive(Clone, PartialEq, Eq)]
pub enum PutError<T> {
    /// The queue holds its maximum number of items (`try_put` only).
    Full(T),
    /// There was no room before the time ran out (`put_timeout`, `put_deadline`).
    TimedOut(T),
    /// The queue is closed.
    Closed(T),
    /// The item could not be made a message.
    Encode(EncodeError, T),
}

impl<T> PutError<T> {
    /// The item that was not put.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value)
            | Self::TimedOut(value)
            | Self::Closed(value)
            | Self::Encode(_, value) => value,
        }
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("queue is full"),
            Self::TimedOut(_) => f.write_str("queue had no room before the time ran out"),
            Self::Closed(_) => f.write_str("queue is closed"),
            Self::Encode(..) => f.write_str("item cannot be put into the queue"),
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::TimedOut(_) => f.write_str("TimedOut(..)"),
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::Encode(error, _) => write!(f, "Encode({error:?}, ..)"),
        }
    }
}

impl<T> std::error::Error for PutError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(error, _) => Some(error),
            _ => None,
        }
    }
}

/// Why no item was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// The queue is empty (`try_get` only).
    #[error("queue is empty")]
    Empty,
    /// No item came before the time ran out (`get_timeout`, `get_deadline`).
    #[error("no item came before the time ran out")]
    TimedOut,
    /// The queue is closed and drained.
    #[error("queue is closed and empty")]
    Closed,
    /// An item came that is no value of the expected type. It is gone; those behind it are untouched.
    #[error("item cannot be read")]
    Decode(#[from] DecodeError),
}

/// Between codec and public error.
pub(super) enum PutFailure {
    Fault(PutFault),
    Encode(EncodeError),
}

impl From<EncodeError> for PutFailure {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<sealed::Fault> for GetError {
    fn from(fault: sealed::Fault) -> Self {
        match fault.0 {
            GetFault::Empty | GetFault::Busy => Self::Empty,
            GetFault::Closed => Self::Closed,
            GetFault::TimedOut => Self::TimedOut,
            GetFault::Corrupt(error) => Self::Decode(DecodeError::Heap(*error)),
        }
    }
}

pub(super) fn put_error<T>(failure: PutFailure, value: T) -> PutError<T> {
    match failure {
        PutFailure::Fault(PutFault::Full | PutFault::Busy) => PutError::Full(value),
        PutFailure::Fault(PutFault::TimedOut) => PutError::TimedOut(value),
        PutFailure::Fault(PutFault::Closed | PutFault::NoReader) => PutError::Closed(value),
        PutFailure::Fault(PutFault::Heap(error)) => {
            PutError::Encode(EncodeError::Heap(*error), value)
        }
        PutFailure::Encode(error) => PutError::Encode(error, value),
    }
}

/// Sends through a channel; shared by queues and connections.
#[inline]
pub(super) fn send<T, C: Codec<T>>(
    value: T,
    put: impl FnOnce(&mut Parcel<'_>) -> Result<(), PutFault>,
) -> Result<(), (PutFailure, T)> {
    C::send(value, |out: &mut sealed::Out<'_>| {
        put(&mut out.0).map_err(PutFailure::Fault)
    })
}

/// A first-in first-out queue that any number of processes and threads put into and take from.
///
/// A handle is a few words; clone it, send it through other queues, pass it to a child: all name the same queue, which lives as long
/// as anybody holds it (a message in flight counts). It needs no file descriptor and no thread, and an empty one takes 256 bytes.
///
/// Items keep the order in which `put` returned for one producer. `put` is complete when it returns: nothing is lost if the
/// process ends right after. An unbounded queue grows until the family heap is full, which is an error; `put` waits only while nearly 1 GiB of
/// small items is in it (items over 8 KiB count 24 bytes there, whatever their size; those of [`try_put_bytes`](Queue::try_put_bytes) count whole, up to 32 KiB).
///
/// `C` is the codec: [`Serde`] for any serde type (handles of shared objects inside the value travel too),
/// [`Plain`](crate::Plain) for plain old data, [`Raw`](crate::Raw) for [`Buffer`](crate::Buffer)s of any size without a copy.
///
/// # Crash safety
/// A process that is killed at any instruction loses at most the item it was just putting or had just taken. All others arrive, in order,
/// once. A consumer killed before its `get` was complete has taken nothing.
///
/// # Examples
/// ```
/// use procession::Queue;
///
/// let queue = Queue::<String>::unbounded()?;
/// queue.put("hello".to_owned())?;
/// assert_eq!(queue.get()?, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.Queue`
pub struct Queue<T, C = Serde> {
    pub(super) shared: Shared<SharedQueue>,
    _item: PhantomData<fn(T, C) -> T>,
}

impl<T, C: Codec<T>> Queue<T, C> {
    /// Creates a queue for at most `maxsize` items at one time; 0 means no limit.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// let queue = procession::Queue::<u32>::new(2)?;
    /// queue.put(1)?;
    /// queue.put(2)?;
    /// assert!(queue.try_put(3).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(maxsize: usize) -> Result<Self, HeapError> {
        let max_items = u32::try_from(maxsize).unwrap_or(u32::MAX);
        let shared = Shared::create(|queue: &SharedQueue, _| queue.channel.init(max_items, 0))?;
        Ok(Self {
            shared,
            _item: PhantomData,
        })
    }

    /// Creates a queue without a limit on the number of items.
    ///
    /// # Errors
    /// As [`Queue::new`].
    pub fn unbounded() -> Result<Self, HeapError> {
        Self::new(0)
    }

    /// Puts an item at the end.
    ///
    /// # Blocking
    /// While a bounded queue is full.
    ///
    /// # Errors
    /// [`PutError::Closed`], [`PutError::Encode`]; the item comes back.
    #[inline]
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, None)
    }

    /// Puts an item if there is room now.
    ///
    /// # Errors
    /// [`PutError::Full`] and those of [`Queue::put`].
    #[inline]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        send::<T, C>(item, |parcel| {
            self.shared.channel.try_put(self.shared.container(), parcel)
        })
        .map_err(|(failure, item)| put_error(failure, item))
    }

    /// Puts an item, waiting at most `timeout` for room.
    ///
    /// # Errors
    /// [`PutError::TimedOut`] and those of [`Queue::put`].
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, deadline_after(timeout))
    }

    /// Puts an item, waiting for room until `deadline`.
    ///
    /// # Errors
    /// As [`Queue::put_timeout`].
    pub fn put_deadline(&self, item: T, deadline: Instant) -> Result<(), PutError<T>> {
        self.put_until(item, Some(deadline))
    }

    #[inline]
    fn put_until(&self, item: T, deadline: Deadline) -> Result<(), PutError<T>> {
        send::<T, C>(item, |parcel| {
            self.shared
                .channel
                .put(self.shared.container(), parcel, deadline)
        })
        .map_err(|(failure, item)| put_error(failure, item))
    }

    /// Removes and returns the oldest item.
    ///
    /// # Blocking
    /// Until there is an item or the queue is closed.
    ///
    /// # Crash safety
    /// If this process dies before `get` returns, another consumer gets the item, unless it had just been committed to us.
    ///
    /// # Errors
    /// [`GetError::Closed`], [`GetError::Decode`].
    #[inline]
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(None)
    }

    /// Removes and returns the oldest item if there is one now.
    ///
    /// # Errors
    /// [`GetError::Empty`] and those of [`Queue::get`].
    #[inline]
    pub fn try_get(&self) -> Result<T, GetError> {
        C::receive(self.source(sealed::Wait::No))
    }

    /// Removes and returns the oldest item, waiting at most `timeout` for one.
    ///
    /// # Errors
    /// [`GetError::TimedOut`] and those of [`Queue::get`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(deadline_after(timeout))
    }

    /// Removes and returns the oldest item, waiting for one until `deadline`.
    ///
    /// # Errors
    /// As [`Queue::get_timeout`].
    pub fn get_deadline(&self, deadline: Instant) -> Result<T, GetError> {
        self.get_until(Some(deadline))
    }

    #[inline]
    fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        C::receive(self.source(sealed::Wait::Until(deadline)))
    }

    #[inline]
    fn source(&self, wait: sealed::Wait) -> sealed::Source<'_> {
        sealed::Source {
            channel: &self.shared.channel,
            me: self.shared.container(),
            wait,
        }
    }

    /// Waits until there is an item, or the queue is closed, without taking it. `false`: `deadline` passed first.
    pub fn poll_deadline(&self, deadline: Instant) -> bool {
        self.shared.channel.wait_items(Some(deadline))
    }

    /// A file descriptor that becomes readable when there is an item, or the queue is closed: for poll, epoll and event loops. See [`Readiness`].
    ///
    /// # Errors
    /// [`HeapError::System`] without a free descriptor, [`HeapError::Full`].
    pub fn readiness(&self) -> Result<Readiness, HeapError> {
        Readiness::new(Watched::Queue(self.shared.clone()))
    }

    pub(crate) fn shared(&self) -> &Shared<SharedQueue> {
        &self.shared
    }

    /// Items put and not yet taken; out of date as soon as it is read if others use the queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.channel.len()
    }

    /// Whether there is no item now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.shared.channel.has_items()
    }

    /// Whether a bounded queue has no room now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.maxsize().is_some_and(|max| self.len() >= max)
    }

    /// The largest number of items at one time; `None`: no limit.
    #[must_use]
    pub fn maxsize(&self) -> Option<usize> {
        Some(self.shared.channel.max_items()).filter(|&max| max != 0)
    }

    /// Closes the queue for all: nothing more can be put, what is in it can be taken, then `get` says [`GetError::Closed`].
    /// Wakes everybody who waits. Closing twice is closing once.
    pub fn close(&self) {
        self.shared.channel.close();
    }

    /// Whether somebody closed the queue.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.channel.is_closed()
    }

    /// Items ever put, modulo 2^32.
    #[cfg(test)]
    pub(crate) fn ever_put(&self) -> u32 {
        self.shared.channel.ever_put()
    }

    /// Iterates over the items until the queue is closed and drained, waiting for each. An item that cannot be read is an error
    /// in its place; those behind it follow.
    ///
    /// # Examples
    /// ```
    /// let queue = procession::Queue::<u32>::unbounded()?;
    /// queue.put_many([1, 2, 3])?;
    /// queue.close();
    /// assert_eq!(queue.iter().sum::<Result<u32, _>>()?, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Result<T, DecodeError>> + '_ {
        std::iter::from_fn(|| match self.get() {
            Ok(item) => Some(Ok(item)),
            Err(GetError::Decode(error)) => Some(Err(error)),
            Err(GetError::Closed | GetError::Empty | GetError::TimedOut) => None,
        })
    }
}

crate::sync::shared_handle!(Queue<T, C>, SharedQueue, "Queue");
