//! A doorbell: "something changed, look again", for whoever sleeps on it.
//!
//! ```text
//! word = 0        nobody sleeps: ringing is one load
//! word = WAITERS  somebody may sleep: ringing is a wake
//! ```
//!
//! The state itself (is there an item, is there room) lies elsewhere; the bell only carries sleepers over.
//!
//! - *Sleeper*: set WAITERS; look at the state again; sleep while the word is WAITERS.
//! - *Ringer*: change the state; fence; if WAITERS is set, wake; if nobody was asleep, clear WAITERS.
//!
//! **No lost ring.** Setting the bit and looking again, against changing the state and reading the bit, is Dekker's pattern: both sides are
//! sequentially consistent, so one of them sees the other. If the ringer clears the bit between a sleeper's look and its sleep, the kernel's comparison fails
//! and the sleeper looks again. Clearing never hides a sleeper: it happens only after a wake that found none.
//!
//! **Death.** A ringer that dies between change and wake, or a woken sleeper that dies before it looks, leaves others asleep with work to do: whoever
//! takes something and sees more rings on (baton), the reaper rings, and every sleep is a bounded slice.

use super::{ALL, Deadline, Port, Slept};
use crate::atomic::{AtomicU32, Ordering};

const WAITERS: u32 = 1;

/// The bell as it lies in the heap. All zero: nobody sleeps.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawBell {
    word: AtomicU32,
}

impl RawBell {
    /// Nobody sleeps.
    #[cfg(any(test, procession_loom))]
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
        }
    }

    /// Wakes up to `count` sleepers, if there are any. The caller's change of state must be ordered before by a SeqCst operation or
    /// fence.
    #[inline]
    pub(crate) fn ring(&self, port: &impl Port, count: u32) {
        if self.word.load(Ordering::SeqCst) & WAITERS != 0 {
            self.ring_sleepers(port, count);
        }
    }

    /// Whether somebody may be asleep.
    #[inline]
    pub(crate) fn has_sleepers(&self) -> bool {
        self.word.load(Ordering::Relaxed) & WAITERS != 0
    }

    /// Sleeps once, unless `ready` says that there is no need. Look at the state again afterwards.
    pub(crate) fn sleep(
        &self,
        port: &impl Port,
        deadline: Deadline,
        ready: impl Fn() -> bool,
    ) -> Slept {
        self.word.fetch_or(WAITERS, Ordering::SeqCst);
        if ready() {
            return Slept::Again;
        }
        port.sleep(&self.word, WAITERS, deadline)
    }

    /// Wakes everybody: somebody died, or the object was closed.
    pub(crate) fn ring_all(&self, port: &impl Port) {
        self.ring(port, ALL);
    }

    #[cold]
    fn ring_sleepers(&self, port: &impl Port, count: u32) {
        if port.wake(&self.word, count) == 0 {
            let _ = self
                .word
                .compare_exchange(WAITERS, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}
