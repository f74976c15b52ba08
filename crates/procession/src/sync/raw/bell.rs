//! A doorbell: "something changed, look again", for whoever sleeps on it.
//!
//! ```text
//! sleepers = epoch:12 | count:20     who may be asleep; 0 in the count: ringing is one load
//! rings                              counted up by each ring that finds sleepers; the word they sleep on
//! ```
//!
//! The state itself (is there an item, is there room) lies elsewhere; the bell only carries sleepers over.
//!
//! - *Sleeper*: read `rings`; count itself in; fence; look at the state again; sleep while `rings` is the same; count itself out.
//! - *Ringer*: change the state; fence; if anybody is counted in, count `rings` up and wake.
//!
//! **No lost ring.** Counting in and looking again, against changing the state and reading the count, is Dekker's pattern: both sides put a
//! sequentially consistent fence between, so either the ringer sees the sleeper or the sleeper sees the change. If the ring comes between the look and the
//! sleep, `rings` differs and the kernel does not let the sleeper sleep. (One word with a "may be asleep" bit, cleared by a ringer whose wake found nobody, is not
//! enough: a sleeper can arrive between that wake and the clearing. Loom found it.)
//!
//! **Death.** A ringer that dies between change and wake, or a woken sleeper that dies before it looks, leaves others asleep with work to do: whoever
//! takes something and sees more rings on (baton), the reaper rings, and every sleep is a bounded slice. A sleeper that dies stays counted, which costs a system call
//! each ring until [`RawBell::reap`] begins a new epoch: everybody is woken, and whoever was counted in the old epoch does not count itself out.

use super::{ALL, Deadline, Port, Slept};
use crate::atomic::{AtomicU32, Ordering, fence};

const COUNT: u32 = (1 << 20) - 1;

/// The bell as it lies in the heap. All zero: nobody sleeps.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawBell {
    sleepers: AtomicU32,
    rings: AtomicU32,
}

impl RawBell {
    /// Nobody sleeps.
    #[cfg(procession_loom)]
    pub(crate) fn new() -> Self {
        Self {
            sleepers: AtomicU32::new(0),
            rings: AtomicU32::new(0),
        }
    }

    /// Wakes up to `count` sleepers, if there are any. The caller's change of state must be ordered before by a SeqCst
    /// fence (on x86 any locked instruction is one).
    #[inline]
    pub(crate) fn ring(&self, port: &impl Port, count: u32) {
        if self.has_sleepers() {
            self.ring_sleepers(port, count);
        }
    }

    /// Whether somebody may be asleep.
    #[inline]
    pub(crate) fn has_sleepers(&self) -> bool {
        self.sleepers.load(Ordering::Relaxed) & COUNT != 0
    }

    /// Sleeps once, unless `ready` says that there is no need. Look at the state again afterwards.
    pub(crate) fn sleep(
        &self,
        port: &impl Port,
        deadline: Deadline,
        ready: impl Fn() -> bool,
    ) -> Slept {
        let (rings, epoch) = self.count_in();
        let slept = if ready() {
            Slept::Again
        } else {
            port.sleep(&self.rings, rings, deadline)
        };
        self.count_out(epoch);
        slept
    }

    /// Wakes everybody: the object was closed, or its state changed for all.
    pub(crate) fn ring_all(&self, port: &impl Port) {
        fence(Ordering::SeqCst);
        self.ring(port, ALL);
    }

    /// Somebody died: forgets who is asleep and wakes them all, so that those who live count themselves in again.
    pub(crate) fn reap(&self, port: &impl Port) {
        let mut sleepers = self.sleepers.load(Ordering::SeqCst);
        while sleepers & COUNT != 0 {
            let next = (sleepers & !COUNT).wrapping_add(COUNT + 1);
            match self.sleepers.compare_exchange_weak(
                sleepers,
                next,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => break,
                Err(now) => sleepers = now,
            }
        }
        // Also if nobody is counted: an earlier reaper may have died right here.
        self.ring_sleepers(port, ALL);
    }

    #[cold]
    fn ring_sleepers(&self, port: &impl Port, count: u32) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        port.wake(&self.rings, count);
    }

    /// Counts a sleeper in; what `rings` was before, and the epoch to [count it out](Self::count_out) with. Look at the state afterwards.
    pub(crate) fn count_in(&self) -> (u32, u32) {
        // Before we are counted in: a reap that forgets us counts it up afterwards, and we do not sleep.
        let rings = self.rings.load(Ordering::SeqCst);
        let epoch = self.sleepers.fetch_add(1, Ordering::SeqCst) & !COUNT;
        // Pairs with the ringer's fence: either it sees us, or we see its change.
        fence(Ordering::SeqCst);
        (rings, epoch)
    }

    /// What `rings` is for a sleeper that was counted in; `None` if it was forgotten since and must count itself in again. Look at the state
    /// afterwards.
    #[cfg(not(procession_loom))]
    pub(crate) fn still_in(&self, epoch: u32) -> Option<u32> {
        // In this order, as in `count_in`.
        let rings = self.rings.load(Ordering::SeqCst);
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        fence(Ordering::SeqCst);
        (sleepers & !COUNT == epoch).then_some(rings)
    }

    /// The word that its sleepers sleep on.
    #[cfg(not(procession_loom))]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.rings
    }

    /// Counts a sleeper out, unless it was forgotten since.
    pub(crate) fn count_out(&self, epoch: u32) {
        let mut sleepers = self.sleepers.load(Ordering::Relaxed);
        while sleepers & !COUNT == epoch && sleepers & COUNT != 0 {
            match self.sleepers.compare_exchange_weak(
                sleepers,
                sleepers - 1,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => sleepers = now,
            }
        }
    }
}
