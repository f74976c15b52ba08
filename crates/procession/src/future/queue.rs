//! Awaiting a queue.

use super::spot::{Sleeper, Spot};
use super::stream::QueueStream;
use super::turn::succeed;
use crate::atomic::AtomicU32;
use crate::channel::{Codec, GetError, PutError, Queue, Watched};
use crate::sync::raw::Commit;
use std::sync::Arc;

/// Items, or the end, of a channel.
#[derive(Debug)]
pub(super) struct Items {
    channel: Watched,
    sleeper: Sleeper,
}

impl Items {
    pub(super) fn of(channel: Watched) -> Arc<dyn Spot> {
        let sleeper = Sleeper::default();
        Arc::new(Self { channel, sleeper })
    }
}

impl Spot for Items {
    fn word(&self) -> &AtomicU32 {
        self.channel.channel().0.items_bell().word()
    }

    fn announce(&self) -> u32 {
        self.sleeper.announce(self.channel.channel().0.items_bell())
    }

    fn is_ready(&self, _seen: u64) -> bool {
        self.channel.channel().0.is_ready()
    }

    fn withdraw(&self) {
        self.sleeper.withdraw(self.channel.channel().0.items_bell());
    }
}

/// Room in a channel. What is seen is how much had been taken: items differ in size, so only a try says whether the room is enough.
#[derive(Debug)]
pub(super) struct Room {
    channel: Watched,
    sleeper: Sleeper,
}

impl Room {
    pub(super) fn of(channel: Watched) -> Arc<dyn Spot> {
        let sleeper = Sleeper::default();
        Arc::new(Self { channel, sleeper })
    }
}

impl Spot for Room {
    fn word(&self) -> &AtomicU32 {
        self.channel.channel().0.room_bell().word()
    }

    fn announce(&self) -> u32 {
        self.sleeper.announce(self.channel.channel().0.room_bell())
    }

    fn is_ready(&self, seen: u64) -> bool {
        let (channel, _) = self.channel.channel();
        channel.has_more_room(Commit::from_word(seen))
    }

    fn withdraw(&self) {
        self.sleeper.withdraw(self.channel.channel().0.room_bell());
    }
}

impl<T, C: Codec<T>> Queue<T, C> {
    pub(super) fn items(&self) -> Arc<dyn Spot> {
        Items::of(Watched::Queue(self.shared().clone()))
    }

    /// One attempt to take an item.
    pub(super) fn attempt_get(&self) -> Result<Result<T, GetError>, u64> {
        match self.try_get() {
            Err(GetError::Empty) => Err(0),
            result => Ok(result),
        }
    }

    /// Removes and returns the oldest item, awaiting it.
    ///
    /// Any number of tasks can await one queue; each item wakes one of them.
    ///
    /// # Cancel safety
    /// An item is taken in the poll that returns it: a future that is dropped before has taken nothing, and if it had been woken for an item, another taker is.
    ///
    /// # Crash safety
    /// As [`Queue::get`].
    ///
    /// # Errors
    /// [`GetError::Closed`], [`GetError::Decode`].
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let queue = procession::Queue::<u32>::unbounded()?;
    /// let sender = queue.clone();
    /// std::thread::spawn(move || sender.put(7)); // or any process of the family
    /// assert_eq!(queue.get_async().await?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn get_async(&self) -> Result<T, GetError> {
        succeed(|| self.items(), |_| self.attempt_get()).await
    }

    /// Puts an item at the end, awaiting room if the queue is bounded and full.
    ///
    /// # Cancel safety
    /// The item is put in the poll that returns. A future that is dropped before has put nothing, and the item is dropped with it; keep a copy if it must not be lost. If
    /// it had been woken for room, another putter is.
    ///
    /// # Crash safety
    /// As [`Queue::put`].
    ///
    /// # Errors
    /// [`PutError::Closed`], [`PutError::Encode`]; the item comes back.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let queue = procession::Queue::<u32>::new(1)?;
    /// let taker = queue.clone();
    /// queue.put_async(1).await?;
    /// let thread = std::thread::spawn(move || taker.get());
    /// queue.put_async(2).await?; // once the 1 was taken
    /// assert_eq!(thread.join().unwrap()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn put_async(&self, item: T) -> Result<(), PutError<T>> {
        let mut unsent = Some(item);
        let room = || Room::of(Watched::Queue(self.shared().clone()));
        succeed(room, |_| {
            let taken = self.shared().channel.taken().to_word();
            let Some(item) = unsent.take() else {
                return Ok(Ok(()));
            };
            match self.try_put(item) {
                Err(PutError::Full(item)) => {
                    unsent = Some(item);
                    Err(taken)
                }
                result => Ok(result),
            }
        })
        .await
    }

    /// The items as a [`Stream`](futures_core::Stream), until the queue is closed and drained. An item that cannot be read is an error in its
    /// place; those behind it follow.
    ///
    /// # Cancel safety
    /// As [`Queue::get_async`].
    ///
    /// # Examples
    /// ```
    /// use futures_core::Stream;
    /// use std::{future::poll_fn, pin::Pin};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let queue = procession::Queue::<u32>::unbounded()?;
    /// queue.put_many([1, 2, 3])?;
    /// queue.close();
    /// let (mut stream, mut sum) = (queue.stream(), 0);
    /// // With the traits of the crate `futures`: while let Some(item) = stream.next().await
    /// while let Some(item) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
    ///     sum += item?;
    /// }
    /// assert_eq!(sum, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self) -> QueueStream<'_, T, C> {
        QueueStream::new(self)
    }
}
