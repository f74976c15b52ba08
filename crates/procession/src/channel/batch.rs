//! Many items at once: one lock and one commit for a batch instead of one for each.

use super::codec::{Codec, sealed};
use super::core::{Batch, Parcel, PutFault};
use super::queue::{GetError, PutError, PutFailure, Queue, put_error};
use crate::sync::deadline_after;
use crate::sync::raw::Deadline;
use std::fmt;
use std::time::Duration;

/// A batch is put when it has this many items ...
const BATCH_ITEMS: usize = 1024;
/// ... or bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// Why not all items were put. Those that were not come back.
#[derive(Clone, PartialEq, Eq)]
pub struct PutManyError<T> {
    /// How many were put, from the first on.
    pub put: usize,
    /// The others, in order.
    pub rest: Vec<T>,
    /// Why the first of `rest` was not put.
    pub error: PutError<()>,
}

impl<T> fmt::Debug for PutManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutManyError")
            .field("put", &self.put)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PutManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.put + self.rest.len();
        write!(f, "only {} of {all} items were put", self.put)
    }
}

impl<T> std::error::Error for PutManyError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Why `get_many` stopped; what it had taken before that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetManyError<T> {
    /// The items that were taken and could be read.
    pub taken: Vec<T>,
    /// The first thing that went wrong.
    pub error: GetError,
}

impl<T> fmt::Display for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped after {} items", self.taken.len())
    }
}

impl<T: fmt::Debug> std::error::Error for GetManyError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<T, C: Codec<T>> Queue<T, C> {
    /// Puts items at the end, in their order, batch by batch: a batch of small items costs little more than one item.
    ///
    /// The items of one batch lie next to each other in the queue, and become visible at once. Large items, and such that carry handles,
    /// are put one by one.
    ///
    /// # Blocking
    /// While a bounded queue is full.
    ///
    /// # Crash safety
    /// If this process dies, a batch is in the queue as a whole or, where there was no room for all of it, its first part.
    ///
    /// # Errors
    /// [`PutManyError`] with the items that were not put.
    ///
    /// # Examples
    /// ```
    /// let queue = procession::Queue::<u64>::unbounded()?;
    /// queue.put_many(0..1000)?;
    /// assert_eq!(queue.get_many(3)?, [0, 1, 2]);
    /// assert_eq!(queue.len(), 997);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_many(&self, items: impl IntoIterator<Item = T>) -> Result<(), PutManyError<T>> {
        let mut sending = Sending {
            queue: self,
            batch: Batch::default(),
            from: 0,
            put: 0,
        };
        let mut items = items.into_iter();
        for item in items.by_ref() {
            if let Err((failure, item)) = sending.add(item) {
                return Err(sending.stopped(failure, Some(item), items));
            }
        }
        match sending.flush() {
            Ok(()) => Ok(()),
            Err(fault) => Err(sending.stopped(PutFailure::Fault(fault), None, items)),
        }
    }

    /// Removes and returns the oldest items, at most `max` (none if that is zero): those that are there, at least one.
    ///
    /// # Blocking
    /// Until there is an item or the queue is closed.
    ///
    /// # Crash safety
    /// If this process dies before `get_many` returns, the items of a batch it had not committed go to other consumers.
    ///
    /// # Errors
    /// [`GetManyError`] with [`GetError::Closed`], or with [`GetError::Decode`] and the items that could be read.
    pub fn get_many(&self, max: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Some(None))
    }

    /// As [`Queue::get_many`], without waiting.
    ///
    /// # Errors
    /// [`GetError::Empty`] and those of [`Queue::get_many`].
    pub fn try_get_many(&self, max: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, None)
    }

    /// As [`Queue::get_many`], waiting at most `timeout` for the first item.
    ///
    /// # Errors
    /// [`GetError::TimedOut`] and those of [`Queue::get_many`].
    pub fn get_many_timeout(
        &self,
        max: usize,
        timeout: Duration,
    ) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Some(deadline_after(timeout)))
    }

    /// `wait`: until when to wait for the first item; `None`: not at all.
    fn get_many_until(
        &self,
        max: usize,
        mut wait: Option<Deadline>,
    ) -> Result<Vec<T>, GetManyError<T>> {
        let (channel, me) = (&self.shared.channel, self.shared.container());
        let (mut taken, mut wrong, mut count) = (Vec::new(), None, 0);
        let mut batch = Batch::default();
        while count < max {
            batch.clear();
            let left = max - count;
            let got = match wait.take() {
                Some(deadline) => channel.get_batch(me, left, &mut batch, deadline),
                None => channel.try_get_batch(me, left, &mut batch, None),
            };
            let mut keep = |item: Result<T, GetError>| {
                count += 1;
                match item {
                    Ok(item) => taken.push(item),
                    Err(error) => wrong = wrong.take().or(Some(error)),
                }
            };
            match got {
                Ok(()) => {
                    if let Some(delivery) = batch.take_delivery() {
                        keep(
                            C::unpack(sealed::Message(sealed::Content::Block(delivery)))
                                .map_err(GetError::Decode),
                        );
                    }
                    batch
                        .iter_from(0)
                        .for_each(|bytes| keep(unpack::<T, C>(bytes)));
                }
                Err(fault) if count == 0 => {
                    wrong = Some(sealed::Fault(fault).into());
                    break;
                }
                // Enough for now; whatever it is will be said by the next call.
                Err(_) => break,
            }
        }
        match wrong {
            None => Ok(taken),
            Some(error) => Err(GetManyError { taken, error }),
        }
    }
}

fn unpack<T, C: Codec<T>>(payload: &[u8]) -> Result<T, GetError> {
    C::unpack(sealed::Message(sealed::Content::Inline(payload))).map_err(GetError::Decode)
}

/// A `put_many` under way.
struct Sending<'a, T, C> {
    queue: &'a Queue<T, C>,
    /// Items that were packed; those from number `from` on are not yet put.
    batch: Batch,
    from: usize,
    put: usize,
}

impl<T, C: Codec<T>> Sending<'_, T, C> {
    fn add(&mut self, item: T) -> Result<(), (PutFailure, T)> {
        C::send(item, |out: &mut sealed::Out<'_>| {
            if let Parcel::Inline(payload) = out.0 {
                if self.batch.len() >= BATCH_ITEMS || self.batch.size() >= BATCH_BYTES {
                    self.flush()?;
                }
                self.batch.push(payload);
                return Ok(());
            }
            self.flush()?;
            let (channel, me) = (&self.queue.shared.channel, self.queue.shared.container());
            channel.put(me, &mut out.0, None)?;
            self.put += 1;
            Ok(())
        })
    }

    fn flush(&mut self) -> Result<(), PutFault> {
        let (channel, me) = (&self.queue.shared.channel, self.queue.shared.container());
        while self.from < self.batch.len() {
            let put = channel.put_batch(me, &self.batch, self.from, None)?;
            self.from += put;
            self.put += put;
        }
        self.batch.clear();
        self.from = 0;
        Ok(())
    }

    /// Unpacks what was packed and not put, and gives everything back.
    fn stopped(
        self,
        failure: PutFailure,
        failed: Option<T>,
        others: impl Iterator<Item = T>,
    ) -> PutManyError<T> {
        // An item that cannot be read back could not have been read by its receiver either.
        let packed = self.batch.iter_from(self.from);
        let packed = packed.filter_map(|bytes| unpack::<T, C>(bytes).ok());
        PutManyError {
            put: self.put,
            rest: packed.chain(failed).chain(others).collect(),
            error: put_error(failure, ()),
        }
    }
}

impl From<PutFault> for PutFailure {
    fn from(fault: PutFault) -> Self {
        Self::Fault(fault)
    }
}
