//! JoinableQueue: a queue that knows when all its items have been dealt with.

use super::codec::{Codec, Serde};
use super::queue::{Queue, SharedQueue};
use crate::atomic::Ordering;
use crate::family::Waiter;
use crate::heap::HeapError;
use crate::sync::deadline_after;
use crate::sync::raw::{Deadline, Port, Slept};
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::time::{Duration, Instant};

/// `task_done` was called more often than items were put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task_done called more often than items were put")]
pub struct TooManyDone;

/// A [`Queue`] with `task_done` and `join`.
///
/// Whoever takes an item says `task_done` when it has dealt with it; `join` waits until that was said for every item put so far. The count of
/// items put is the queue's own commit word, so it is exact whoever dies while putting.
///
/// # Crash safety
/// An item whose taker died before `task_done` stays unfinished: nobody dealt with it. `join` then waits for ever, as it should; use
/// `join_timeout` where takers may die.
///
/// # Examples
/// ```
/// let tasks = procession::JoinableQueue::<u32>::unbounded()?;
/// tasks.put(7)?;
/// assert_eq!(tasks.get()?, 7);
/// tasks.task_done()?;
/// tasks.join();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.JoinableQueue`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct JoinableQueue<T, C = Serde>(pub(super) Queue<T, C>);

impl SharedQueue {
    /// Items put for which `task_done` has not been called.
    pub(crate) fn unfinished(&self) -> usize {
        let done = self.done.load(Ordering::SeqCst);
        self.channel.ever_put().wrapping_sub(done) as usize
    }
}

impl<T, C: Codec<T>> JoinableQueue<T, C> {
    /// Creates a queue for at most `maxsize` items at one time; 0 means no limit.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    pub fn new(maxsize: usize) -> Result<Self, HeapError> {
        Queue::new(maxsize).map(Self)
    }

    /// Creates a queue without a limit on the number of items.
    ///
    /// # Errors
    /// As [`JoinableQueue::new`].
    pub fn unbounded() -> Result<Self, HeapError> {
        Self::new(0)
    }

    /// Says that one item that was taken has been dealt with.
    ///
    /// # Errors
    /// [`TooManyDone`] if that was said for every item already.
    pub fn task_done(&self) -> Result<(), TooManyDone> {
        let shared = &self.0.shared;
        let mut done = shared.done.load(Ordering::Relaxed);
        loop {
            if done == shared.channel.ever_put() {
                return Err(TooManyDone);
            }
            let next = done.wrapping_add(1);
            match shared
                .done
                .compare_exchange_weak(done, next, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => done = now,
            }
        }
        if self.unfinished() == 0 {
            shared.done_bell.ring_all(&Waiter::new());
        }
        Ok(())
    }

    /// Items put for which `task_done` has not been called.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.0.shared.unfinished()
    }

    /// Waits until every item put was dealt with.
    ///
    /// # Blocking
    /// As long as there are unfinished items.
    pub fn join(&self) {
        self.join_until(None);
    }

    /// Waits as `join`, at most `timeout`. `false`: the time ran out first.
    #[must_use]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.join_until(deadline_after(timeout))
    }

    /// Waits as `join`, until `deadline`. `false`: it passed first.
    #[must_use]
    pub fn join_deadline(&self, deadline: Instant) -> bool {
        self.join_until(Some(deadline))
    }

    fn join_until(&self, deadline: Deadline) -> bool {
        let waiter = Waiter::new();
        let mut turn = 0;
        while waiter.spin(turn) && self.unfinished() != 0 {
            turn += 1;
        }
        while self.unfinished() != 0 {
            let slept = self
                .0
                .shared
                .done_bell
                .sleep(&waiter, deadline, || self.unfinished() == 0);
            if slept == Slept::TimedOut {
                return self.unfinished() == 0;
            }
        }
        true
    }
}

impl<T, C> Deref for JoinableQueue<T, C> {
    type Target = Queue<T, C>;

    fn deref(&self) -> &Queue<T, C> {
        &self.0
    }
}

/// Every queue counts what is done; this is the door to it.
impl<T, C> From<Queue<T, C>> for JoinableQueue<T, C> {
    fn from(queue: Queue<T, C>) -> Self {
        Self(queue)
    }
}
