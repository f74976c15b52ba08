//! Waits in steps, for runtimes that look after something between them: their signals, or an action that can fail.
//!
//! A step ends when its time is over and changes nothing by that: whoever waits keeps its place. So a runtime sleeps a while, runs its
//! handlers, and goes on, or gives up for reasons of its own.

use super::condition::Condition;
use super::error::TimedOut;
use super::raw::{Arrival, Waited};
use super::{Barrier, BarrierError, BarrierWaitResult, WaitError};
use crate::family::{Owner, Waiter};
use crate::heap::me;
use std::marker::PhantomData;
use std::time::Instant;

/// A wait for a notification, between its steps; the lock is free meanwhile.
///
/// Made by [`Condition::begin_wait`]. Dropped before [`come_back`](Self::come_back) it gives up its place, and the lock stays free; a notification
/// that had come already goes to another waiter.
///
/// # Crash safety
/// As [`Condition::wait`]: whoever dies between two steps is skipped.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// let condition = procession::Condition::new()?;
/// condition.acquire().into_held();
/// let mut wait = condition.begin_wait()?;
/// let soon = Instant::now() + Duration::from_millis(1);
/// let notified = wait.step(soon) || wait.step(soon + Duration::from_millis(1));
/// assert!(!notified && !wait.leave());
/// wait.come_back(soon + Duration::from_secs(60))?;
/// condition.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the lock is free until `come_back`"]
pub struct ConditionWait<'a> {
    condition: &'a Condition,
    /// The place in the queue of waiters, until it is left.
    index: Option<usize>,
    depth: u32,
    owner: Owner,
    _in_this_thread: PhantomData<*const ()>,
}

impl Condition {
    /// Enters this thread, which holds the lock without a guard, as the youngest waiter, and frees the lock however deep it is held.
    ///
    /// # Errors
    /// [`WaitError::NotHeld`]; [`WaitError::Heap`]. The lock is as it was.
    ///
    /// # Examples
    /// ```
    /// use procession::{Condition, WaitError};
    ///
    /// let condition = Condition::new()?;
    /// assert_eq!(condition.begin_wait().err(), Some(WaitError::NotHeld));
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn begin_wait(&self) -> Result<ConditionWait<'_>, WaitError> {
        let index = self.claim()?;
        let mut wait = ConditionWait {
            condition: self,
            index: Some(index),
            depth: 0,
            owner: me(),
            _in_this_thread: PhantomData,
        };
        // If not, the drop takes the claim back.
        wait.depth = self.free_lock().ok_or(WaitError::NotHeld)?;
        Ok(wait)
    }
}

impl ConditionWait<'_> {
    /// Waits for the notification until `deadline`; says whether it has come. After that, too, the place is kept.
    pub fn step(&mut self, deadline: Instant) -> bool {
        let (raw, cells) = self.condition.cells();
        let Some(cell) = self.index.and_then(|index| raw.cell(cells, index)) else {
            return false;
        };
        cell.watch(&Waiter::new(), Some(deadline));
        cell.is_told(self.owner)
    }

    /// Gives up the place; says whether a notification was meant for it.
    pub fn leave(&mut self) -> bool {
        let (raw, cells) = self.condition.cells();
        let index = self.index.take();
        let cell = index.and_then(|index| raw.cell(cells, index));
        cell.is_some_and(|cell| cell.leave(self.owner) == Waited::Notified)
    }

    /// Gives up the place; a notification that was meant for it goes to another waiter.
    pub fn decline(&mut self) {
        if let Some(index) = self.index.take() {
            let (raw, cells) = self.condition.cells();
            raw.withdraw(cells, index, &Waiter::new());
        }
    }

    /// Takes the lock again, as deep as it was held. Says whether its last owner had died in possession.
    ///
    /// # Errors
    /// [`TimedOut`]: try again; the lock is not held.
    pub fn come_back(&mut self, deadline: Instant) -> Result<bool, TimedOut> {
        self.condition.take_lock_again(self.depth, deadline)
    }
}

impl Drop for ConditionWait<'_> {
    fn drop(&mut self) {
        // Not in a forked child.
        if self.owner == me() {
            self.decline();
        }
    }
}

/// A party that has come to a barrier, until the round is over.
///
/// Made by [`Barrier::arrive`]. Dropped before the round is over, it breaks the round.
///
/// # Crash safety
/// As [`Barrier::wait`]: a party that dies breaks the round.
///
/// # Examples
/// ```
/// let barrier = procession::Barrier::new(1)?;
/// let arrival = barrier.arrive(std::time::Instant::now())?;
/// assert!(arrival.is_last());
/// arrival.open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropped, it breaks the barrier"]
pub struct BarrierArrival<'a> {
    barrier: &'a Barrier,
    /// Until the round is over.
    arrival: Option<Arrival>,
    owner: Owner,
}

impl Barrier {
    /// Arrives; waits until `deadline` if the last round is not over for all, or a reset not complete.
    ///
    /// # Errors
    /// [`BarrierError::Broken`]; [`BarrierError::TimedOut`]: not arrived, nothing is broken.
    ///
    /// # Examples
    /// ```
    /// let barrier = procession::Barrier::new(2)?;
    /// let arrival = barrier.arrive(std::time::Instant::now())?;
    /// assert!(barrier.n_waiting() == 1 && !arrival.is_last());
    /// drop(arrival);
    /// assert!(barrier.is_broken());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arrive(&self, deadline: Instant) -> Result<BarrierArrival<'_>, BarrierError> {
        let (raw, records) = self.machine();
        if records.is_empty() {
            // Its memory was overwritten: nobody can meet here.
            return Err(BarrierError::Broken);
        }
        self.take_part();
        let arrival = raw.arrive(records, &Waiter::new(), Some(deadline));
        Ok(BarrierArrival {
            barrier: self,
            arrival: Some(arrival.map_err(super::barrier::public)?),
            owner: me(),
        })
    }
}

impl BarrierArrival<'_> {
    /// Whether all others are there: the caller does what is to be done once, and opens.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.arrival.as_ref().is_some_and(|arrival| arrival.is_last)
    }

    /// Lets everybody through, if this is the last party.
    ///
    /// # Errors
    /// [`BarrierError::Broken`]: somebody broke the barrier, or a party was still missing (and now it is broken).
    pub fn open(mut self) -> Result<BarrierWaitResult, BarrierError> {
        let (raw, records) = self.barrier.machine();
        match self.arrival.take_if(|arrival| arrival.is_last) {
            Some(arrival) => raw
                .open(records, &Waiter::new(), arrival)
                .map(|index| BarrierWaitResult::new(index, true))
                .map_err(super::barrier::public),
            None => Err(BarrierError::Broken),
        }
    }

    /// Waits for the others until `deadline`; how the round ended, or `None` if it goes on: then nothing is broken.
    pub fn step(&mut self, deadline: Instant) -> Option<Result<BarrierWaitResult, BarrierError>> {
        let (raw, records) = self.barrier.machine();
        let Some(arrival) = &self.arrival else {
            return Some(Err(BarrierError::Broken));
        };
        let passed = raw.watch(records, &Waiter::new(), arrival, Some(deadline))?;
        self.arrival = None;
        Some(
            passed
                .map(|index| BarrierWaitResult::new(index, false))
                .map_err(super::barrier::public),
        )
    }

    /// Breaks the barrier because the time is over: `true`. If the last party has come meanwhile, or the round is over, there is more to [`step`](Self::step).
    pub fn expire(&mut self) -> bool {
        let (raw, records) = self.barrier.machine();
        let expired = self
            .arrival
            .as_ref()
            .is_some_and(|arrival| raw.expire(records, &Waiter::new(), arrival));
        if expired {
            self.arrival = None;
        }
        expired
    }
}

impl Drop for BarrierArrival<'_> {
    fn drop(&mut self) {
        // Not in a forked child: it is its parent who has arrived.
        if let Some(arrival) = self.arrival.take().filter(|_| self.owner == me()) {
            let (raw, records) = self.barrier.machine();
            raw.withdraw(records, &Waiter::new(), arrival);
        }
    }
}
