//! A flag to wait for, in one futex word.
//!
//! ```text
//! word = epoch:30 | WAITERS:1 | SET:1
//!
//!   SET  WAITERS   meaning
//!   0    0         clear, nobody sleeps
//!   0    1         clear, somebody may sleep: set must wake
//!   1    0         set
//! ```
//!
//! `epoch` counts how often the flag went from clear to set: a waiter returns if the flag is set *or was* since it
//! came. `set(); clear()` therefore lets through all who waited, as `threading.Event` does and `multiprocessing.Event`
//! does not. (A waiter that sleeps through exactly 2^30 such changes takes them for none, and sleeps on.)
//!
//! **Death.** Every change is one read-modify-write. The one window: a setter dead between that and its wake. The flag
//! is set then, but WAITERS is gone from the word; [`RawEvent::reap`] wakes all *whatever the word says*, and without a
//! reaper sleepers look again after their slice. A dead sleeper leaves at most WAITERS behind: one wake too many.
//!
//! **Ordering.** The Acquire in `wait` and `is_set` pairs with the Release in `set`. `set` writes even when the flag is set
//! already, and `clear` acquires: of a producer (`push; set`) and a consumer (`clear; look`) one always sees the other.

use super::{Deadline, Port, Slept, TimedOut};
use crate::atomic::{AtomicU32, Ordering};
use crate::family::Owner;

/// The flag itself.
const SET: u32 = 1;
/// Somebody may be asleep on the word.
const WAITERS: u32 = 2;
/// One step of the epoch.
const EPOCH: u32 = 4;

/// The event as it lies in the heap. All zero is a clear one.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawEvent {
    word: AtomicU32,
}

/// The word after `set`.
fn set_word(word: u32) -> u32 {
    if word & SET != 0 {
        word
    } else {
        (word & !WAITERS).wrapping_add(EPOCH) | SET
    }
}

/// Whether the flag is set in `now`, or was set at some time after `since`.
fn has_fired(since: u32, now: u32) -> bool {
    now & SET != 0 || now / EPOCH != since / EPOCH
}

impl RawEvent {
    /// A clear event.
    #[cfg(all(test, procession_loom))]
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
        }
    }

    /// Whether the flag is set.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Sets the flag and wakes everybody who waits for it.
    pub(crate) fn set(&self, port: &impl Port) {
        let mut word = self.word.load(Ordering::Relaxed);
        while let Err(now) = self.word.compare_exchange_weak(
            word,
            set_word(word),
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            word = now;
        }
        if word & WAITERS != 0 {
            port.wake(&self.word, super::ALL);
        }
    }

    /// Clears the flag.
    pub(crate) fn clear(&self) {
        self.word.fetch_and(!SET, Ordering::AcqRel);
    }

    /// Waits until the flag is set (or has been, meanwhile), until `deadline` at the longest.
    #[inline]
    pub(crate) fn wait(&self, port: &impl Port, deadline: Deadline) -> Result<(), TimedOut> {
        let since = self.word.load(Ordering::Acquire);
        if since & SET != 0 {
            return Ok(());
        }
        self.wait_slow(port, since, deadline)
    }

    /// What [`has_fired_since`](Self::has_fired_since) is to be asked with: a wait begins now.
    #[cfg(not(procession_loom))]
    pub(crate) fn now(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Whether the flag is set, or was since [`now`](Self::now).
    #[cfg(not(procession_loom))]
    pub(crate) fn has_fired_since(&self, since: u32) -> bool {
        since & SET != 0 || has_fired(since, self.now())
    }

    /// Marks that somebody may sleep, if the flag is clear; the word to sleep on.
    #[cfg(not(procession_loom))]
    pub(crate) fn announce(&self) -> u32 {
        loop {
            let word = self.now();
            if word & SET != 0 {
                return word;
            }
            if self.mark_waiters(word) {
                return word | WAITERS;
            }
        }
    }

    /// The word that its sleepers sleep on.
    #[cfg(not(procession_loom))]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Repeats a wake that `_dead` may have owed. Idempotent.
    pub(crate) fn reap(&self, port: &impl Port, _dead: Owner) {
        port.wake(&self.word, super::ALL);
    }

    #[cold]
    fn wait_slow(&self, port: &impl Port, since: u32, deadline: Deadline) -> Result<(), TimedOut> {
        let mut turn = 0;
        let mut slept = Slept::Again;
        loop {
            let word = self.word.load(Ordering::Acquire);
            if has_fired(since, word) {
                return Ok(());
            }
            if slept == Slept::TimedOut {
                return Err(TimedOut);
            }
            if port.spin(turn) {
                turn = turn.saturating_add(1);
            } else if self.mark_waiters(word) {
                slept = port.sleep(&self.word, word | WAITERS, deadline);
            }
        }
    }

    /// Announces a sleeper; `false` if the word has changed meanwhile.
    fn mark_waiters(&self, word: u32) -> bool {
        let marked = word | WAITERS;
        word == marked
            || self
                .word
                .compare_exchange(word, marked, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(not(procession_loom))]
const _: () = assert!(size_of::<RawEvent>() == 4);
