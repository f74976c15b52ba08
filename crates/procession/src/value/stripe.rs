//! Stripe: a table of references to entries, with the locks that guard it. A list is one stripe, a dict sixteen.
//!
//! ```text
//! stripe --table--> block of slots --> entries, one block each
//!
//! slot = 0: free | 1: was in use | block reference of an entry (then, in a dict, a second word: the key's hash)
//! ```
//!
//! Two locks. `writers` is held for a whole change, which may call out (`update`) and may sleep; whoever holds it is the only one to change
//! table and slots. `lock` is held for the copy of one entry or one store, never while calling out or sleeping: it keeps entries and tables from
//! being freed under a reader. A change takes both, in this order; a reader, and the reaper, only `lock`.
//! So a reader never waits for somebody's closure.
//!
//! **Death.** The truth is in `table` and the slots, and each change is one store to one of these words: a slot (put, replace, take), or `table`
//! (grow, and insert and remove in the midst of a list). Blocks are attached and detached around that store, so one that was on the move goes where the
//! store says (`heap/block.rs`). `live` and `used` are caches: who gets `lock` from a dead owner counts anew, and a death midway makes the next one count.
//! Under `writers` nothing is half done either; who gets it from a dead owner takes `lock` once, for the counts that it will rely on.
//!
//! Scenario "changed from inside": a closure that runs under `writers` and changes the same object would wait for itself, or for another closure that waits for
//! it. Each thread notes in whose closure it is; such a change is refused.

use crate::atomic::{AtomicU64, Ordering};
use crate::family::{Owner, Waiter};
use crate::heap::{
    Block, BlockRef, Container, Death, HeapError, ShortWait, block_table, me, myself,
};
use crate::sync::raw::RawLock;
use std::cell::RefCell;
use std::convert::Infallible;

/// A slot whose entry was taken, in a table where searches must go on behind it.
pub(super) const TAKEN: u64 = 1;
/// Tables of up to so many slots are never made smaller.
const SMALL: usize = 64;

/// A stripe as it lies in the heap: one cache line. All zero: empty, no table. A slot has `WIDTH` words.
#[repr(C, align(64))]
#[derive(Debug, zerocopy::FromBytes)]
pub(super) struct Stripe<const WIDTH: usize> {
    lock: RawLock,
    writers: RawLock,
    /// The block of slots; 0: none yet.
    table: AtomicU64,
    /// Cache: slots with an entry.
    live: AtomicU64,
    /// Cache: slots that are not free.
    used: AtomicU64,
    /// For the object of which this is a part.
    pub(super) own: [AtomicU64; 2],
    spare: [AtomicU64; 2],
}
const _: () = assert!(size_of::<Stripe<1>>() == 64);

thread_local! {
    /// The objects in whose closures this thread is.
    static INSIDE: RefCell<Vec<Container>> = const { RefCell::new(Vec::new()) };
}

/// A change from inside a closure that runs under the same object's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FromInside;

/// The slots of a table.
pub(super) type Words = &'static [AtomicU64];

impl<const WIDTH: usize> Stripe<WIDTH> {
    /// For readers.
    #[inline]
    pub(super) fn lock(&self) -> Held<'_, WIDTH> {
        // Without a deadline this always succeeds.
        let acquired = self.lock.acquire(&ShortWait, None);
        let held = Held { stripe: self };
        if acquired.is_ok_and(|acquired| acquired.recovered) {
            held.recount();
        }
        held
    }

    /// For a change of `me`, the object of which this is a part. Waits for other changes.
    #[inline]
    pub(super) fn write(&self, container: Container) -> Result<Writing<'_, WIDTH>, FromInside> {
        if INSIDE.with_borrow(|inside| inside.contains(&container)) {
            return Err(FromInside);
        }
        // Without a deadline this always succeeds.
        let acquired = self.writers.acquire(&Waiter::new(), None);
        if acquired.is_ok_and(|acquired| acquired.recovered) {
            // The counts may be behind the slots: whoever gets the other lock from the dead one counts anew.
            drop(self.lock());
        }
        Ok(Writing {
            stripe: self,
            container,
            owner: me(),
        })
    }

    /// A participant died. One that did not hold the object was not here.
    pub(super) fn reap(&self, death: Death) {
        if death.held {
            self.lock.reap(&ShortWait, death.owner);
            self.writers.reap(&Waiter::new(), death.owner);
        }
    }

    /// Whether the block is the table or an entry.
    pub(super) fn contains(&self, block: BlockRef) -> bool {
        let held = self.lock();
        let bits = block.to_bits();
        self.table.load(Ordering::SeqCst) == bits
            || held
                .words()
                .unwrap_or_default()
                .iter()
                .step_by(WIDTH)
                .any(|slot| slot.load(Ordering::SeqCst) == bits)
    }

    /// Frees the entries, then the table through which they are found. Can be done again after a death midway.
    pub(super) fn destroy(&self, container: Container) {
        for slot in self.words().unwrap_or_default().iter().step_by(WIDTH) {
            drop(take(slot, 0, container));
        }
        drop(take(&self.table, 0, container));
    }

    fn words(&self) -> Result<Words, HeapError> {
        match BlockRef::from_bits(self.table.load(Ordering::Acquire)) {
            None => Ok(&[]),
            Some(table) => block_table(table, 0),
        }
    }
}

/// Puts `new` into a slot, or as table; gives what was there. Under both locks; the store in the midst is the change.
fn put(slot: &AtomicU64, new: Block, container: Container) -> Result<Option<Block>, HeapError> {
    let old = BlockRef::from_bits(slot.load(Ordering::SeqCst));
    let attach = || {
        let attached = new.attach(container, |reference| {
            slot.store(reference.to_bits(), Ordering::SeqCst);
            Ok::<(), Infallible>(())
        });
        debug_assert!(attached.is_ok());
    };
    match old {
        Some(old) => Block::detach(old, container, attach).map(Some),
        None => {
            attach();
            Ok(None)
        }
    }
}

/// Takes what is in a slot, which says `left` from then on.
fn take(slot: &AtomicU64, left: u64, container: Container) -> Result<Option<Block>, HeapError> {
    BlockRef::from_bits(slot.load(Ordering::SeqCst))
        .map(|old| Block::detach(old, container, || slot.store(left, Ordering::SeqCst)))
        .transpose()
}

/// Possession of `lock`: nothing of the stripe is freed.
#[derive(Debug)]
pub(super) struct Held<'a, const WIDTH: usize> {
    stripe: &'a Stripe<WIDTH>,
}

impl<const WIDTH: usize> Held<'_, WIDTH> {
    /// The table.
    #[inline]
    pub(super) fn words(&self) -> Result<Words, HeapError> {
        self.stripe.words()
    }

    /// How many entries there are.
    #[inline]
    pub(super) fn live(&self) -> usize {
        self.stripe.live.load(Ordering::Relaxed) as usize
    }

    /// After a death: what the slots say.
    #[cold]
    fn recount(&self) {
        let (mut live, mut used) = (0, 0);
        for slot in self.words().unwrap_or_default().iter().step_by(WIDTH) {
            let bits = slot.load(Ordering::SeqCst);
            live += u64::from(BlockRef::from_bits(bits).is_some());
            used += u64::from(bits != 0);
        }
        self.set_counts(live, used);
    }

    fn set_counts(&self, live: u64, used: u64) {
        self.stripe.live.store(live, Ordering::Relaxed);
        self.stripe.used.store(used, Ordering::Relaxed);
    }

    fn add_counts(&self, live: i64, used: i64) {
        let now = |cache: &AtomicU64| cache.load(Ordering::Relaxed);
        self.set_counts(
            now(&self.stripe.live).wrapping_add_signed(live),
            now(&self.stripe.used).wrapping_add_signed(used),
        );
    }
}

impl<const WIDTH: usize> Drop for Held<'_, WIDTH> {
    #[inline]
    fn drop(&mut self) {
        // In a forked child it is not ours.
        if let Some(me) = myself() {
            self.stripe.lock.release_own(&ShortWait, me);
        }
    }
}

/// Possession of `writers`: nobody else changes the stripe.
#[derive(Debug)]
pub(super) struct Writing<'a, const WIDTH: usize> {
    stripe: &'a Stripe<WIDTH>,
    container: Container,
    owner: Owner,
}

impl<const WIDTH: usize> Writing<'_, WIDTH> {
    /// Keeps readers out. What is freed afterwards is freed without it.
    #[inline]
    pub(super) fn lock(&self) -> Held<'_, WIDTH> {
        assert!(
            myself() == Some(self.owner),
            "this change was begun by the process that this one was forked from"
        );
        self.stripe.lock()
    }

    /// The table. Readers do not change it, so this needs no more than `writers`.
    #[inline]
    pub(super) fn words(&self) -> Result<Words, HeapError> {
        self.stripe.words()
    }

    pub(super) fn live(&self) -> usize {
        self.stripe.live.load(Ordering::Relaxed) as usize
    }

    pub(super) fn used(&self) -> usize {
        self.stripe.used.load(Ordering::Relaxed) as usize
    }

    /// Puts an entry into `slot`, of this table; gives the one that was there.
    #[inline]
    pub(super) fn put(&self, slot: &AtomicU64, entry: Block) -> Result<Option<Block>, HeapError> {
        let was_free = i64::from(slot.load(Ordering::Relaxed) == 0);
        let held = self.lock();
        let old = put(slot, entry, self.container)?;
        if old.is_none() {
            held.add_counts(1, was_free);
        }
        drop(held);
        Ok(old)
    }

    /// Takes the entry in `slot`, of this table, leaving 0 or [`TAKEN`].
    pub(super) fn take(&self, slot: &AtomicU64, left: u64) -> Result<Option<Block>, HeapError> {
        let held = self.lock();
        let taken = take(slot, left, self.container)?;
        if taken.is_some() {
            held.add_counts(-1, -i64::from(left == 0));
        }
        drop(held);
        Ok(taken)
    }

    /// Makes `table`, which has the same entries, the table; gives the old one.
    pub(super) fn set_table(&self, table: Block) -> Result<Option<Block>, HeapError> {
        let held = self.lock();
        let old = put(&self.stripe.table, table, self.container)?;
        held.set_counts(self.live() as u64, self.live() as u64);
        drop(held);
        Ok(old)
    }

    /// Makes `table`, which has one entry more, the table: `entry`, whose reference goes into its word `at`.
    pub(super) fn set_table_with(
        &self,
        mut table: Block,
        at: usize,
        entry: Block,
    ) -> Result<Option<Block>, HeapError> {
        let held = self.lock();
        let mut old = None;
        let attached = entry.attach(self.container, |reference| {
            set_word(&mut table, at, reference.to_bits());
            old = put(&self.stripe.table, table, self.container)?;
            Ok(())
        });
        let added = attached.map_err(|(_entry, error): (Block, HeapError)| error);
        if added.is_ok() {
            held.add_counts(1, 1);
        }
        drop(held);
        added.map(|()| old)
    }

    /// Makes `table`, which lacks `entry`, the table; gives the entry and the old table.
    pub(super) fn set_table_without(
        &self,
        table: Block,
        entry: BlockRef,
    ) -> Result<(Block, Option<Block>), HeapError> {
        let held = self.lock();
        let mut old = Ok(None);
        let taken = Block::detach(entry, self.container, || {
            old = put(&self.stripe.table, table, self.container);
        })?;
        match old {
            Ok(old) => {
                held.add_counts(-1, -1);
                drop(held);
                Ok((taken, old))
            }
            Err(error) => {
                // The heap is corrupt and the old table still refers to it: better lost than freed.
                std::mem::forget(taken);
                Err(error)
            }
        }
    }

    /// Takes all entries, one after the other, the last slot first. Nobody sees some of it, unless this process dies midway.
    pub(super) fn take_all(
        &self,
        held: &Held<'_, WIDTH>,
        taken: &mut Vec<Block>,
    ) -> Result<(), HeapError> {
        let words = self.words()?;
        for slot in words.iter().step_by(WIDTH).rev() {
            taken.extend(take(slot, TAKEN, self.container)?);
        }
        // No entry is left, so no search needs the marks.
        for slot in words.iter().step_by(WIDTH) {
            slot.store(0, Ordering::SeqCst);
        }
        held.set_counts(0, 0);
        Ok(())
    }

    /// Whether the table is much too large.
    pub(super) fn is_sparse(&self) -> bool {
        let slots = self.words().unwrap_or_default().len() / WIDTH;
        slots > SMALL && self.live() * 8 < slots
    }

    /// Notes that what follows may call out; see the header.
    pub(super) fn inside(&self) -> Inside {
        INSIDE.with_borrow_mut(|inside| inside.push(self.container));
        Inside
    }
}

impl<const WIDTH: usize> Drop for Writing<'_, WIDTH> {
    #[inline]
    fn drop(&mut self) {
        // In a forked child it is not ours.
        if let Some(me) = myself() {
            self.stripe.writers.release_own(&Waiter::new(), me);
        }
    }
}

/// While this lives, its thread is in a closure.
#[derive(Debug)]
pub(super) struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with_borrow_mut(|inside| inside.pop());
    }
}

/// Writes a word of a table that nobody else sees yet.
pub(super) fn set_word(table: &mut Block, at: usize, bits: u64) {
    table.as_mut_slice()[at * 8..][..8].copy_from_slice(&bits.to_ne_bytes());
}

/// An empty table with at least so many slots of `width` words.
pub(super) fn new_table(slots: usize, width: usize) -> Result<Block, HeapError> {
    Block::alloc_zeroed(slots * width * 8)
}
