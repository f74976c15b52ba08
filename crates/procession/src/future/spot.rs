//! What a future waits at: a word in the heap that is woken when it may be worth trying again.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::raw::RawBell;
use std::fmt;

/// One word that futures wait at, and the state behind it. Keeps the object alive.
pub(super) trait Spot: Send + Sync + fmt::Debug {
    /// The word that sleepers of this state sleep on.
    fn word(&self) -> &AtomicU32;

    /// Makes sure that whoever changes the state wakes the word; what the word is meanwhile. Called under the board's lock; look
    /// [`is_ready`](Self::is_ready) afterwards.
    fn announce(&self) -> u32;

    /// Whether an attempt that failed when the state was `seen` may succeed now.
    fn is_ready(&self, seen: u64) -> bool;

    /// Nobody waits here any more. Not called in a forked child for what its parent announced.
    fn withdraw(&self) {}

    /// Whether a change concerns all who wait, not just one.
    fn is_for_all(&self) -> bool {
        false
    }

    /// Whether the reactor may go on sleeping here for a moment when nobody waits any more: the next wait then needs no system call.
    fn may_linger(&self) -> bool {
        true
    }
}

/// A sleeper counted in at a bell, on behalf of all futures at one spot.
#[derive(Debug, Default)]
pub(super) struct Sleeper {
    /// The epoch it was counted in, and [`IN`].
    counted: AtomicU64,
}

const IN: u64 = 1 << 32;

impl Sleeper {
    /// Counts in, unless that is done already and not forgotten by a reaper.
    pub(super) fn announce(&self, bell: &RawBell) -> u32 {
        let counted = self.counted.load(Ordering::Relaxed);
        let still = (counted & IN != 0).then(|| bell.still_in(counted as u32));
        if let Some(rings) = still.flatten() {
            return rings;
        }
        let (rings, epoch) = bell.count_in();
        self.counted.store(IN | u64::from(epoch), Ordering::Relaxed);
        rings
    }

    /// Counts out.
    pub(super) fn withdraw(&self, bell: &RawBell) {
        let counted = self.counted.swap(0, Ordering::Relaxed);
        if counted & IN != 0 {
            bell.count_out(counted as u32);
        }
    }
}
