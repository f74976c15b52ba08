//! One-word mutual exclusion that records its owner and survives the owner's death.
//!
//! ```text
//! word = WAITERS:1 | RECOVERED:1 | owner:30
//!
//!   word                     meaning
//!   0                        free
//!   owner                    held, nobody sleeps
//!   WAITERS | owner          held, somebody may sleep: release must wake one
//!   RECOVERED (| WAITERS)    free; the last owner died holding it, the next one is told so
//! ```
//!
//! Not a pthread robust mutex: those answer EPERM when another process releases, which
//! `multiprocessing.Lock` allows, and their wait lists belong to glibc.
//!
//! **Death.** Between any two instructions the word is one of the above. A dead owner's word is taken back by
//! whoever proves the death first: a waiter after one slice of sleep, or the reaper ([`RawLock::reap`]).
//!
//! **Baton.** Whoever sleeps is covered by WAITERS in the word, or by somebody who was woken and has not yet looked
//! (it will take the lock with WAITERS set, or set it before it sleeps again). A kill can drop that baton: a releaser dies
//! between its CAS and its wake, or a woken sleeper dies before it looks; the word then says nothing of those still asleep,
//! not even when somebody else has barged in. So `reap` wakes one *whatever the word says*, and without a
//! reaper they look again after their slice (scenario "wake consumed by the dead", ARCHITECTURE.md).

use super::{Deadline, Port, Slept};
use crate::atomic::{AtomicU32, Ordering};
use crate::family::{OWNER_MASK, Owner};

/// Somebody may be asleep on the word.
const WAITERS: u32 = 1 << 31;
/// Free, but the last owner died in possession.
const RECOVERED: u32 = 1 << 30;

/// How an acquisition went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acquired {
    /// The previous owner died while it held the lock: what it guarded may be half done.
    pub(crate) recovered: bool,
}

/// The lock is held by somebody alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WouldBlock;

/// The deadline passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

/// Release of a lock that nobody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotHeld;

/// The lock word as it lies in the heap. All zero is a free lock.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawLock {
    word: AtomicU32,
}

impl RawLock {
    /// A free lock.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
        }
    }

    /// Takes the lock if it is free, without waiting and without asking whether the owner is alive.
    #[inline]
    pub(crate) fn try_acquire(&self, port: &impl Port) -> Result<Acquired, WouldBlock> {
        // Acquire pairs with the Release in `release`.
        match self.word.compare_exchange(
            0,
            port.me().to_word(),
            Ordering::Acquire,
            Ordering::Relaxed,
        ) {
            Ok(_) => Ok(Acquired { recovered: false }),
            Err(word) => self.try_acquire_marked(word, port),
        }
    }

    /// Takes the lock, waiting until `deadline` at the longest; takes it over from an owner that is gone.
    #[inline]
    pub(crate) fn acquire(
        &self,
        port: &impl Port,
        deadline: Deadline,
    ) -> Result<Acquired, TimedOut> {
        match self.try_acquire(port) {
            Ok(acquired) => Ok(acquired),
            Err(WouldBlock) => self.acquire_slow(port, deadline),
        }
    }

    /// Frees the lock, whoever holds it, and wakes one sleeper.
    #[inline]
    pub(crate) fn release(&self, port: &impl Port) -> Result<(), NotHeld> {
        // Fast path: held without sleepers. Release pairs with the Acquire of the next owner; SeqCst so that a caller
        // may look at a waiter flag right after, knowing its own earlier stores are visible (Dekker).
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & OWNER_MASK == 0 {
                return Err(NotHeld);
            }
            match self
                .word
                .compare_exchange_weak(word, 0, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if word & WAITERS != 0 {
            port.wake(&self.word, 1);
        }
        Ok(())
    }

    /// Frees the lock if `owner` holds it, and wakes one sleeper. For guards: what somebody else holds now is not theirs.
    #[inline]
    #[cfg_attr(procession_loom, expect(dead_code, reason = "used by the front-end"))]
    pub(crate) fn release_own(&self, port: &impl Port, owner: Owner) {
        // As in `release`, but it knows what the word will be, nearly always.
        let mut word = owner.to_word();
        while let Err(now) =
            self.word
                .compare_exchange(word, 0, Ordering::SeqCst, Ordering::Relaxed)
        {
            if now & OWNER_MASK != owner.to_word() {
                return;
            }
            word = now;
        }
        if word & WAITERS != 0 {
            port.wake(&self.word, 1);
        }
    }

    /// Marks that somebody may sleep, if the lock is held; the word to sleep on, which is marked, or free.
    #[cfg(not(procession_loom))]
    pub(crate) fn announce(&self) -> u32 {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & OWNER_MASK != 0 && word & WAITERS == 0 {
            let marked = word | WAITERS;
            match self
                .word
                .compare_exchange(word, marked, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => return marked,
                Err(now) => word = now,
            }
        }
        word
    }

    /// The word that its sleepers sleep on.
    #[cfg(not(procession_loom))]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Gives the lock back on behalf of `dead`, if it held it: the next owner learns of it. Idempotent.
    pub(crate) fn reap(&self, port: &impl Port, dead: Owner) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & OWNER_MASK == dead.to_word() {
            match self.word.compare_exchange_weak(
                word,
                RECOVERED,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    port.wake(&self.word, super::ALL);
                    return true;
                }
                Err(now) => word = now,
            }
        }
        // The dead one may have dropped the baton: see the header.
        port.wake(&self.word, 1);
        false
    }

    /// Who holds it now; only a hint by the time it is read.
    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::from_word(self.word.load(Ordering::Relaxed))
    }

    /// Takes a word that is free but not zero (RECOVERED, or WAITERS left behind by a recovery).
    fn try_acquire_marked(&self, mut word: u32, port: &impl Port) -> Result<Acquired, WouldBlock> {
        while word & OWNER_MASK == 0 {
            let taken = (word & WAITERS) | port.me().to_word();
            match self
                .word
                .compare_exchange_weak(word, taken, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => {
                    return Ok(Acquired {
                        recovered: word & RECOVERED != 0,
                    });
                }
                Err(now) => word = now,
            }
        }
        Err(WouldBlock)
    }

    #[cold]
    fn acquire_slow(&self, port: &impl Port, deadline: Deadline) -> Result<Acquired, TimedOut> {
        let mut turn = 0;
        while port.spin(turn) {
            if let Ok(acquired) = self.try_acquire(port) {
                return Ok(acquired);
            }
            turn = turn.saturating_add(1);
        }
        loop {
            let word = self.word.load(Ordering::Relaxed);
            // Whoever has slept takes the lock with WAITERS set: others may sleep still.
            if word & OWNER_MASK == 0 {
                let taken = WAITERS | port.me().to_word();
                if self
                    .word
                    .compare_exchange(word, taken, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
                {
                    return Ok(Acquired {
                        recovered: word & RECOVERED != 0,
                    });
                }
                continue;
            }
            if word & WAITERS == 0
                && self
                    .word
                    .compare_exchange(word, word | WAITERS, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            let slept = port.sleep(&self.word, word | WAITERS, deadline);
            if let Some(acquired) = self.take_over(port) {
                return Ok(acquired);
            }
            if slept == Slept::TimedOut {
                return self.try_acquire(port).map_err(|WouldBlock| TimedOut);
            }
        }
    }

    /// Takes the lock from an owner that is proved gone.
    fn take_over(&self, port: &impl Port) -> Option<Acquired> {
        let word = self.word.load(Ordering::Relaxed);
        let owner = Owner::from_word(word)?;
        if owner == port.me() || !port.is_gone(owner) {
            return None;
        }
        let taken = WAITERS | port.me().to_word();
        self.word
            .compare_exchange(word, taken, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Acquired { recovered: true })
    }
}
