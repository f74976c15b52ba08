//! Who holds which object: a set of participants for each object, never a counter (H3).
//!
//! Two levels. *Shared*: one bit per (participant, object) in the participant's holder row. *Private*: how many handles this process
//! has, in memory of its own, which a fork copies together with the handles themselves. The private count's steps from and to zero set
//! and clear the shared bit, under a `BUSY` mark that keeps threads of one process from doing both at once.
//!
//! **Add before remove.** Whoever passes an object on sets the receiver's bit before it clears its own, and before each
//! removal the object's epoch is counted up. Whoever removed the last bit it knows of reads the object's word, looks through all rows,
//! and frees by a CAS on that very word: if the object moved between rows meanwhile, the epoch differs and it looks again
//! (scenario "moving holder"). That decision is `sync/raw/holding.rs`, which loom explores.
//!
//! **Death.** Before the bit is set: no hold. After: the reaper clears the row. Between clearing a bit and looking for others:
//! the reaper's sweep finds the orphan. Never is anything freed early.

use super::layout::SUMMARY_GRANULES;
use super::mapping::{Heap, me};
use super::{BlockRef, envelope, object};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::raw::holding::{self, Marks};

/// From here on a count is a mark: a thread of this process, or of one that it was forked from, is setting or clearing the shared bit.
const BUSY: u32 = 1 << 31;

/// How many forks this process is away from its family's first mapping; tells our own marks from those of threads that a fork left behind.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The mark of a thread of this process.
fn busy() -> u32 {
    BUSY | FORKS.load(Ordering::Relaxed)
}

/// How many handles a count speaks of. `None`: a thread is just changing it. One that did not come along in a fork will never finish: what it was
/// about to hold, nobody here holds.
fn handles(seen: u32) -> Option<u32> {
    match seen {
        count if count < BUSY => Some(count),
        mark if mark == busy() => None,
        _ => Some(0),
    }
}

/// Slot + 1 of a child that is being forked right now: new holds are written into its row too.
static FORKING: AtomicU32 = AtomicU32::new(0);

/// The marks of the object at `index`.
struct Marked {
    heap: &'static Heap,
    index: u32,
    /// A message that may list it: to be asked before all others.
    listed_in: Option<BlockRef>,
}

impl Marks for Marked {
    fn word(&self) -> &AtomicU64 {
        &self.heap.words()[self.index as usize]
    }

    fn is_held(&self) -> bool {
        self.heap.is_held(self.index)
    }

    fn is_listed(&self, generation: u32) -> bool {
        let listed_in = |block| self.heap.lists(block, self.index, generation);
        object::in_flight(self.heap, self.index)
            && (self.listed_in.is_some_and(listed_in)
                || envelope::find(self.heap, self.index, generation))
    }
}

impl Heap {
    /// Adds one handle of this process. The caller knows that the object cannot go meanwhile (it holds it, or a message does).
    #[inline]
    pub(crate) fn hold(&self, index: u32) {
        let count = &self.counts()[index as usize];
        let mut seen = count.load(Ordering::Relaxed);
        loop {
            let Some(held) = handles(seen) else {
                std::thread::yield_now();
                seen = count.load(Ordering::Relaxed);
                continue;
            };
            let next = if held == 0 { busy() } else { held + 1 };
            match count.compare_exchange_weak(seen, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if handles(seen) == Some(0) {
            self.set_bit(me().slot(), index);
            // After set_bit (SeqCst): either the forking thread's copy sees the bit, or we see its slot.
            match FORKING.load(Ordering::SeqCst) {
                0 => {}
                child => self.set_bit(child as usize - 1, index),
            }
            count.store(1, Ordering::Release);
        }
    }

    /// Drops one handle of this process; frees the object if nobody is left.
    #[inline]
    pub(crate) fn unhold(&'static self, index: u32) {
        self.unhold_listed(index, None);
    }

    /// As [`Heap::unhold`], with an envelope that may list the object: looked at first.
    #[inline]
    pub(crate) fn unhold_listed(&'static self, index: u32, envelope: Option<BlockRef>) {
        let count = &self.counts()[index as usize];
        let mut seen = count.load(Ordering::Relaxed);
        loop {
            let Some(held) = handles(seen) else {
                std::thread::yield_now();
                seen = count.load(Ordering::Relaxed);
                continue;
            };
            let next = match held {
                0 => return,
                1 => busy(),
                n => n - 1,
            };
            match count.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen == 1 {
            holding::let_go(&self.words()[index as usize], || {
                self.clear_bit(me().slot(), index);
            });
            count.store(0, Ordering::Release);
            self.free_unless(index, envelope);
        }
    }

    /// Sets the bit of another slot: a child that is about to start gets what it will need.
    pub(crate) fn hold_for(&self, slot: usize, index: u32) {
        self.set_bit(slot, index);
    }

    /// Frees a live object that no participant and no message in flight holds.
    pub(crate) fn free_if_unheld(&'static self, index: u32) {
        self.free_unless(index, None);
    }

    fn free_unless(&'static self, index: u32, listed_in: Option<BlockRef>) {
        let marks = Marked {
            heap: self,
            index,
            listed_in,
        };
        if holding::claim(&marks, me().slot()) {
            object::destroy(self, index);
        }
    }

    /// Whether any participant's row has the bit.
    pub(crate) fn is_held(&self, index: u32) -> bool {
        (0..self.slots_used()).any(|slot| self.has_bit(slot, index))
    }

    pub(crate) fn has_bit(&self, slot: usize, index: u32) -> bool {
        self.has_page(slot, index as usize / SUMMARY_GRANULES)
            && self.row(slot)[index as usize / 64].load(Ordering::SeqCst) & (1 << (index % 64)) != 0
    }

    fn has_page(&self, slot: usize, page: usize) -> bool {
        self.summary(slot)[page / 64].load(Ordering::SeqCst) & (1 << (page % 64)) != 0
    }

    fn set_bit(&self, slot: usize, index: u32) {
        let page = index as usize / SUMMARY_GRANULES;
        if !self.has_page(slot, page) {
            self.summary(slot)[page / 64].fetch_or(1 << (page % 64), Ordering::SeqCst);
        }
        self.row(slot)[index as usize / 64].fetch_or(1 << (index % 64), Ordering::SeqCst);
    }

    fn clear_bit(&self, slot: usize, index: u32) {
        self.row(slot)[index as usize / 64].fetch_and(!(1 << (index % 64)), Ordering::SeqCst);
    }

    /// Calls `f` with each object that `slot` holds.
    pub(crate) fn each_held(&self, slot: usize, mut f: impl FnMut(u32)) {
        let words_per_page = SUMMARY_GRANULES / 64;
        for (summary_at, summary) in self.summary(slot).iter().enumerate() {
            for page in bits(summary.load(Ordering::SeqCst)) {
                let first = (summary_at * 64 + page) * words_per_page;
                let row = self.row(slot);
                for (at, word) in row.iter().enumerate().skip(first).take(words_per_page) {
                    for bit in bits(word.load(Ordering::SeqCst)) {
                        f((at * 64 + bit) as u32);
                    }
                }
            }
        }
    }

    /// Gives everything that a dead participant held back. Done again after a crash it changes nothing more.
    pub(crate) fn clear_row(&self, slot: usize) {
        self.each_held(slot, |index| {
            holding::let_go(&self.words()[index as usize], || {
                self.clear_bit(slot, index);
            });
        });
        for summary in self.summary(slot) {
            summary.store(0, Ordering::SeqCst);
        }
    }

    /// Before a fork: the child's row becomes a copy of ours, and stays one until [`Heap::end_fork`].
    pub(crate) fn begin_fork(&self, child: usize) {
        FORKING.store(child as u32 + 1, Ordering::SeqCst);
        self.each_held(me().slot(), |index| self.set_bit(child, index));
    }

    /// After a fork, in the parent.
    pub(crate) fn end_fork(&self) {
        FORKING.store(0, Ordering::SeqCst);
    }

    /// In a process cloned from a template that is another participant: none of the template's handles counts here.
    pub(crate) fn forget_holds(&self) {
        self.each_held(me().slot(), |index| {
            self.counts()[index as usize].store(0, Ordering::Relaxed);
        });
    }

    /// After a fork, in the child (already the new participant): holds that were changing hands in other threads of the parent are ours no more.
    pub(crate) fn settle_after_fork(&'static self) {
        FORKING.store(0, Ordering::SeqCst);
        FORKS.fetch_add(1, Ordering::Relaxed);
        self.each_held(me().slot(), |index| {
            let count = &self.counts()[index as usize];
            if handles(count.load(Ordering::Relaxed)) == Some(0) {
                count.store(1, Ordering::Relaxed);
                self.unhold(index);
            }
        });
    }
}

/// Positions of the set bits.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros() as usize;
            word &= word - 1;
            bit
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::object::Shared;
    use super::*;
    use crate::channel::SharedQueue;
    use crate::sys::fork::{Fork, exit_now, fork};
    use std::time::{Duration, Instant};

    #[test]
    #[expect(unsafe_code, reason = "fork")]
    fn a_child_does_not_wait_for_a_thread_it_left_behind() {
        let object = Shared::create(|_: &SharedQueue, _| ()).expect("object");
        let heap = super::super::the_heap();
        // A place that nobody else uses: inside the object.
        let index = object.handle().index() + 1;
        heap.counts()[index as usize].store(busy(), Ordering::SeqCst);
        // SAFETY: the child touches atomics only.
        let child = match unsafe { fork() }.expect("fork") {
            Fork::Child => {
                heap.hold(index);
                let held = heap.has_bit(me().slot(), index);
                heap.unhold(index);
                exit_now(i32::from(held && !heap.has_bit(me().slot(), index)))
            }
            Fork::Parent(child) => child,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let ended = child.pidfd.wait(Some(deadline)).expect("wait");
        let _ = child.pidfd.send_signal(crate::sys::signal::KILL);
        let status = child.pidfd.wait_status().expect("status");
        heap.counts()[index as usize].store(0, Ordering::SeqCst);
        assert!(ended, "it waits for ever");
        assert_eq!(status, crate::sys::pidfd::ExitStatus::Exited(1));
    }
}
