//! Taking back what a dead participant left.
//!
//! Called under the reap lock, by one process at a time; every step can be done again. If the reaper dies, the next one finds the
//! participant still `DEAD` and begins anew. The order matters:
//!
//! 1. objects give up the dead one's locks, cells and places, and wake who waits;
//! 2. blocks it was moving are settled by asking their container; blocks it owned are freed; destructions it began are finished;
//! 3. its holder row is cleared, epochs first;
//! 4. its spans become orphans;
//! 5. objects that nobody holds are freed (its own, and those it was just letting go).

use super::block::{self, Container};
use super::layout::UNIT;
use super::mapping::{Heap, me};
use super::object::{self, Death};
use super::port::ShortWait;
use super::word::{State, Word};
use crate::atomic::{AtomicU64, Ordering};
use crate::family::Owner;
use crate::kinds;

impl Heap {
    /// Takes everything back from `dead`. The caller holds the reap lock and has proof.
    pub(crate) fn reclaim(&'static self, dead: Owner, clean: bool) {
        // Nothing to mend under it (`units.rs`), but the reaper itself needs it at once.
        self.header().units_lock.reap(&ShortWait, dead);
        self.reap_objects(dead, clean);
        self.settle_small(dead.slot());
        self.settle_units(dead.slot());
        self.clear_row(dead.slot());
        self.orphan_spans(dead.slot());
        self.sweep();
        self.recount();
    }

    fn reap_objects(&'static self, dead: Owner, clean: bool) {
        self.each_small(|index, _, word| {
            let whole = word.state() == State::LIVE || word.state() == State::DESTROYING;
            let kind = object::kind(self, index).filter(|_| whole);
            if let Some(kind) = kind {
                let held = self.has_bit(dead.slot(), index);
                kinds::reap(
                    self,
                    kind,
                    index,
                    Death {
                        owner: dead,
                        clean,
                        held,
                        object: Container {
                            index,
                            generation: word.generation(),
                        },
                    },
                );
            }
        });
    }

    fn settle_small(&'static self, slot: usize) {
        self.each_small(|index, _, word| {
            if word.owner_slot() == slot {
                self.settle(
                    false,
                    index,
                    word,
                    &self.words()[index as usize],
                    &self.links()[index as usize],
                );
            }
        });
    }

    fn settle_units(&'static self, slot: usize) {
        let mut left = Vec::new();
        self.each_run(|unit, word| {
            if word.state().is_allocated() && word.owner_slot() == slot {
                left.push((unit, word));
            }
        });
        for (unit, word) in left {
            self.settle(
                true,
                unit,
                word,
                &self.unit_words()[unit as usize],
                &self.unit_links()[unit as usize],
            );
        }
    }

    /// Decides what becomes of one block of a dead owner.
    fn settle(
        &'static self,
        is_unit: bool,
        index: u32,
        word: Word,
        at: &AtomicU64,
        link: &AtomicU64,
    ) {
        match word.state() {
            State::OWNED => self.seize(is_unit, index, word, at),
            State::DESTROYING
                if !is_unit && turn(word, at, State::DESTROYING, me().slot()).is_some() =>
            {
                object::destroy(self, index);
            }
            State::ATTACHING | State::DETACHING => {
                let container = Container::from_link(link.load(Ordering::SeqCst));
                let reference = block::reference_of(is_unit, index, word);
                if self.is_in(container, reference) {
                    // `None`: a receiver took it meanwhile.
                    let _ = turn(word, at, State::ATTACHED, 0);
                } else {
                    self.seize(is_unit, index, word, at);
                }
            }
            _ => {}
        }
    }

    fn is_in(&'static self, container: Container, reference: block::BlockRef) -> bool {
        let Some(at) = self.words().get(container.index as usize) else {
            return false;
        };
        let word = Word::load(at);
        // One that is being destroyed still needs its parts: whoever goes on with it finds the others through them.
        let whole = word.state() == State::LIVE || word.state() == State::DESTROYING;
        if !whole || word.generation() != container.generation {
            return false;
        }
        object::kind(self, container.index)
            .is_some_and(|kind| kinds::contains(self, kind, container.index, reference))
    }

    /// Makes a block of a dead owner ours, and frees it.
    fn seize(&'static self, is_unit: bool, index: u32, word: Word, at: &AtomicU64) {
        if let Some(owned) = turn(word, at, State::OWNED, me().slot()) {
            drop(block::seize(self, is_unit, index, owned));
        }
    }

    /// Frees live objects that nobody holds.
    fn sweep(&'static self) {
        self.each_small(|index, _, word| {
            if word.state() == State::LIVE && !self.is_held(index) {
                self.free_if_unheld(index);
            }
        });
    }

    /// Sets the usage counters to what the words say; a death between a word and its counter had left them apart.
    fn recount(&self) {
        let spans = (0..self.spans_used())
            .filter(|&span| Word::load(&self.spans()[span as usize].word).state() != State::VOID)
            .count() as u64;
        let (mut used, mut warm) = (spans * UNIT as u64, 0);
        self.each_run(|_, word| {
            let bytes = u64::from(word.len()) * UNIT as u64;
            if word.state().is_allocated() {
                used += bytes;
            } else if word.is_warm() {
                warm += bytes;
            }
        });
        self.header().used.store(used, Ordering::Relaxed);
        self.header().warm.store(warm, Ordering::Relaxed);
    }
}

/// Takes a block from the state in which its dead owner left it. The epoch may be counted up by anybody at any time, by whoever opens a stale
/// handle for one: that alone does not stop us. `None`: it is no longer in that state.
fn turn(left: Word, at: &AtomicU64, state: State, slot: usize) -> Option<Word> {
    let mut word = left;
    loop {
        let next = word.with(state, slot);
        match word.swap(at, next) {
            Ok(()) => return Some(next),
            Err(now) => word = now,
        }
        let same = word.state() == left.state()
            && word.owner_slot() == left.owner_slot()
            && word.generation() == left.generation();
        if !same {
            return None;
        }
    }
}
