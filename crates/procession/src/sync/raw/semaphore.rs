//! A counter of permits in one futex word, with an optional upper limit.
//!
//! ```text
//! word = value:31 | WAITERS:1
//!
//!   value  WAITERS   meaning
//!   0      0         nothing to take, nobody marked as asleep
//!   0      1         nothing to take, somebody may sleep: release must wake
//!   n      0         n permits; if somebody sleeps, somebody else is on the way with the baton
//!   n      1         n permits, and the last taker had slept: it wakes the next one
//! ```
//!
//! Sleepers compare the whole word, and only ever with `0 | WAITERS`.
//!
//! **Baton.** `release(n)` clears WAITERS and wakes `n`, so the next release costs no system call. Those still asleep are
//! then covered by the woken: whoever has slept takes its permit with WAITERS *set*, and wakes one more if permits are
//! left (two releases in a row wake only once: without this the second permit would lie beside a sleeper), or sets WAITERS before
//! it sleeps again. Invariant: if somebody sleeps, WAITERS is set or somebody woken has yet to look.
//!
//! **Death.** Every change is one compare-and-swap, so the count is never torn. Windows: (a) releaser dead between
//! its CAS and its wake; (b) sleeper dead after it was woken, before it looked; (c) taker dead before it passed
//! the baton. In each the permits are in the word but sleepers may not know: [`RawSemaphore::reap`] wakes one *whatever
//! the word says* (WAITERS may have been cleared), who carries on the baton; without a reaper they look again
//! after their slice. Permits that the dead had taken are not refunded: a semaphore may be a signal, and nobody owns those.
//!
//! **Ordering.** The Acquire in taking pairs with the Release in `release`: what happened before a permit was
//! given is seen by who takes it (the count is one chain of read-modify-writes, so *any* earlier release is).

use super::{Deadline, Port, Slept, TimedOut, WouldBlock};
use crate::atomic::{AtomicU32, Ordering};
use crate::family::Owner;

/// Somebody may be asleep on the word.
const WAITERS: u32 = 1;
/// One permit.
const ONE: u32 = 2;

/// The largest value a semaphore can have: `SEM_VALUE_MAX`, as in POSIX and CPython.
pub(crate) const SEMAPHORE_MAX: u32 = i32::MAX as u32;

/// The value would rise above the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AboveLimit;

/// The semaphore as it lies in the heap. All zero has no permits and lets none be added: [`init`](Self::init) it.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawSemaphore {
    word: AtomicU32,
    limit: AtomicU32,
}

impl RawSemaphore {
    /// A semaphore that is not initialised yet.
    #[cfg(all(test, procession_loom))]
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            limit: AtomicU32::new(0),
        }
    }

    /// Sets the first value, and the limit (a bounded semaphore's is its first value). Before anybody else sees it.
    pub(crate) fn init(&self, value: u32, limit: Option<u32>) -> Result<(), AboveLimit> {
        let limit = limit.unwrap_or(SEMAPHORE_MAX);
        if limit > SEMAPHORE_MAX || value > limit {
            return Err(AboveLimit);
        }
        self.limit.store(limit, Ordering::Relaxed);
        // Release pairs with the Acquire of the first taker, should the handle travel by a relaxed route.
        self.word.store(value * ONE, Ordering::Release);
        Ok(())
    }

    /// Takes a permit if there is one.
    #[inline]
    pub(crate) fn try_acquire(&self) -> Result<(), WouldBlock> {
        let mut word = self.word.load(Ordering::Relaxed);
        while word >= ONE {
            let left = word - ONE;
            match self
                .word
                .compare_exchange_weak(word, left, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
        Err(WouldBlock)
    }

    /// Takes a permit, waiting for one until `deadline` at the longest.
    #[inline]
    pub(crate) fn acquire(&self, port: &impl Port, deadline: Deadline) -> Result<(), TimedOut> {
        match self.try_acquire() {
            Ok(()) => Ok(()),
            Err(WouldBlock) => self.acquire_slow(port, deadline),
        }
    }

    /// Adds `count` permits, or none at all if that would exceed the limit; wakes as many sleepers.
    #[inline]
    pub(crate) fn release(&self, port: &impl Port, count: u32) -> Result<(), AboveLimit> {
        let limit = self.limit.load(Ordering::Relaxed).min(SEMAPHORE_MAX);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let value = (word / ONE)
                .checked_add(count)
                .filter(|value| *value <= limit);
            let more = value.ok_or(AboveLimit)? * ONE;
            match self
                .word
                .compare_exchange_weak(word, more, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if word & WAITERS != 0 {
            port.wake(&self.word, count.min(super::ALL));
        }
        Ok(())
    }

    /// How many permits there are now; only a hint by the time it is read.
    pub(crate) fn value(&self) -> u32 {
        self.word.load(Ordering::Relaxed) / ONE
    }

    /// The largest value it may have.
    #[cfg(not(procession_loom))]
    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed).min(SEMAPHORE_MAX)
    }

    /// Repeats a wake that `_dead` may have swallowed. Takes nothing back. Idempotent.
    pub(crate) fn reap(&self, port: &impl Port, _dead: Owner) {
        port.wake(&self.word, 1);
    }

    #[cold]
    fn acquire_slow(&self, port: &impl Port, deadline: Deadline) -> Result<(), TimedOut> {
        let mut turn = 0;
        while port.spin(turn) {
            if self.try_acquire().is_ok() {
                return Ok(());
            }
            turn = turn.saturating_add(1);
        }
        loop {
            // Marked again before each sleep: the baton is down, so a sleeper that times out owes nobody a wake.
            if self.mark_waiters() && port.sleep(&self.word, WAITERS, deadline) == Slept::TimedOut {
                return self.try_acquire().map_err(|WouldBlock| TimedOut);
            }
            if self.take_with_baton(port) {
                return Ok(());
            }
        }
    }

    /// Marks that somebody may sleep, if there is no permit; the word to sleep on.
    #[cfg(not(procession_loom))]
    pub(crate) fn announce(&self) -> u32 {
        self.mark_waiters();
        self.word.load(Ordering::SeqCst)
    }

    /// The word that its sleepers sleep on.
    #[cfg(not(procession_loom))]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Announces a sleeper; `false` if there is a permit after all.
    fn mark_waiters(&self) -> bool {
        match self
            .word
            .compare_exchange(0, WAITERS, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => true,
            Err(word) => word == WAITERS,
        }
    }

    /// Takes a permit on behalf of somebody who may have been woken, and passes the baton on.
    pub(crate) fn take_with_baton(&self, port: &impl Port) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word >= ONE {
            let left = (word - ONE) | WAITERS;
            match self
                .word
                .compare_exchange_weak(word, left, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => {
                    if left >= ONE {
                        port.wake(&self.word, 1);
                    }
                    return true;
                }
                Err(now) => word = now,
            }
        }
        false
    }
}

#[cfg(not(procession_loom))]
const _: () = assert!(size_of::<RawSemaphore>() == 8);
