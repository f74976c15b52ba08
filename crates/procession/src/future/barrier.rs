//! Awaiting the others at a barrier.

use super::spot::Spot;
use super::turn::succeed;
use crate::atomic::AtomicU32;
use crate::family::{Owner, Waiter};
use crate::heap::{me, the_heap};
use crate::sync::raw::{Arrival, BarrierError as RawError, Deadline, Port, Slept};
use crate::sync::{Barrier, BarrierError, BarrierWaitResult};
use std::sync::Arc;
use std::time::Instant;

/// A barrier whose state is not the one that was seen.
#[derive(Debug)]
struct Moved(Barrier);

impl Spot for Moved {
    fn word(&self) -> &AtomicU32 {
        self.0.machine().0.word()
    }

    fn announce(&self) -> u32 {
        self.0.machine().0.announce()
    }

    fn is_ready(&self, seen: u64) -> bool {
        self.0.machine().0.now() != seen
    }

    fn is_for_all(&self) -> bool {
        true
    }

    /// Whoever holds a barrier and dies breaks it: not longer than need be.
    fn may_linger(&self) -> bool {
        false
    }
}

/// A port for somebody who does not wait at all.
struct Glance(Waiter);

impl Port for Glance {
    fn me(&self) -> Owner {
        me()
    }

    fn is_gone(&self, owner: Owner) -> bool {
        the_heap().is_known_gone(owner)
    }

    fn spin(&self, _turn: u32) -> bool {
        false
    }

    fn sleep(&self, _word: &AtomicU32, _expected: u32, _deadline: Deadline) -> Slept {
        Slept::TimedOut
    }

    fn wake(&self, word: &AtomicU32, count: u32) -> u32 {
        self.0.wake(word, count)
    }
}

/// An arrival that is withdrawn, which breaks the round, if the future is dropped before the round has opened.
struct Arrived<'a> {
    barrier: &'a Barrier,
    arrival: Option<Arrival>,
    owner: Owner,
}

impl Drop for Arrived<'_> {
    fn drop(&mut self) {
        // Not in a forked child: it is its parent who has arrived.
        if let Some(arrival) = self.arrival.take().filter(|_| self.owner == me()) {
            let (raw, records) = self.barrier.machine();
            raw.withdraw(records, &Waiter::new(), arrival);
        }
    }
}

impl Barrier {
    /// Awaits that all parties have come.
    ///
    /// # Cancel safety
    /// Not cancel safe, as no barrier can be: a future that is dropped after it has arrived leaves the others without a party, so the barrier breaks for them
    /// ([`BarrierError::Broken`]), as when a party's time runs out. Dropped before its first poll, it has not arrived.
    ///
    /// # Crash safety
    /// As [`Barrier`]: if a party dies, the others get [`BarrierError::Broken`].
    ///
    /// # Errors
    /// [`BarrierError::Broken`].
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let barrier = procession::Barrier::new(2)?;
    /// let (mine, theirs) = tokio::join!(barrier.wait_async(), barrier.wait_async());
    /// assert_ne!(mine?.index(), theirs?.index());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn wait_async(&self) -> Result<BarrierWaitResult, BarrierError> {
        let moved = || -> Arc<dyn Spot> { Arc::new(Moved(self.clone())) };
        let arrival = succeed(moved, |_| self.attempt_arrive()).await?;
        let is_leader = arrival.is_last;
        let (raw, records) = self.machine();
        let passed = if is_leader {
            raw.open(records, &Waiter::new(), arrival)
        } else {
            let mut arrived = Arrived {
                barrier: self,
                arrival: Some(arrival),
                owner: me(),
            };
            succeed(moved, |_| attempt_pass(&mut arrived)).await
        };
        passed
            .map(|index| BarrierWaitResult::new(index, is_leader))
            .map_err(|_| BarrierError::Broken)
    }

    /// Arrives, unless the last round is not over yet.
    fn attempt_arrive(&self) -> Result<Result<Arrival, BarrierError>, u64> {
        let (raw, records) = self.machine();
        if records.is_empty() {
            // Its memory was overwritten: nobody can meet here.
            return Ok(Err(BarrierError::Broken));
        }
        let seen = raw.now();
        match raw.arrive(records, &Glance(Waiter::new()), Some(Instant::now())) {
            Err(RawError::TimedOut) => Err(seen),
            Err(RawError::Broken) => Ok(Err(BarrierError::Broken)),
            Ok(arrival) => Ok(Ok(arrival)),
        }
    }
}

/// Whether the round has ended, and how.
fn attempt_pass(arrived: &mut Arrived<'_>) -> Result<Result<u32, RawError>, u64> {
    let (raw, records) = arrived.barrier.machine();
    let seen = raw.now();
    let Some(arrival) = &arrived.arrival else {
        return Ok(Err(RawError::Broken));
    };
    let passed = raw.check(records, &Waiter::new(), arrival).ok_or(seen)?;
    arrived.arrival = None;
    Ok(passed)
}
