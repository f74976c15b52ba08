//! Blocks of bytes: owned by one process, or part of one container.
#![expect(
    unsafe_code,
    reason = "gives out the bytes of an owned block as a slice"
)]
//!
//! ```text
//! OWNED(me) --attach--> ATTACHING(me) --commit--> ATTACHED --detach--> DETACHING(you) --commit--> OWNED(you) --drop--> free
//! ```
//!
//! The container is a queue (or another object that keeps blocks); `commit` is its one store that makes the block part of it, or no part any more. If
//! the process dies on either side of that store, the reaper asks the container which side it was ([`crate::kinds`], `contains`).
//! So a message is delivered exactly once or, if the receiver died before its commit, once more; never leaked, never freed early.
//!
//! # Safety
//! A [`Block`] is good only in the process that its word names as owner, and is not `Clone`: its bytes are reached through this value alone,
//! so the borrow checker's rules for `&Block`/`&mut Block` hold for the bytes. The copy that a forked child finds in its memory is dead: it
//! shows no bytes, cannot be given away and frees nothing. A peer that breaks the protocol can still write to them; then
//! their content is arbitrary, but every byte pattern is a valid `u8`.

use super::envelope;
use super::error::HeapError;
use super::layout::UNIT;
use super::mapping::{Heap, me, myself, the_heap};
use super::spans::MAX_SMALL;
use super::word::{State, Word};
use crate::atomic::{AtomicU64, Ordering};
use crate::family::Owner;
use std::ptr::NonNull;

/// A link word says whose part a block is: `envelope:1 | 0:7 | generation:24 | index:32` of the container.
pub(crate) const ENVELOPE: u64 = 1 << 63;

/// Names a block inside the family: `unit:1 | generation:24 | index:32`. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRef(u64);

const UNIT_BIT: u64 = 1 << 63;
const SOME_BIT: u64 = 1 << 62;

impl BlockRef {
    fn new(is_unit: bool, index: u32, generation: u32) -> Self {
        let unit = if is_unit { UNIT_BIT } else { 0 };
        Self(unit | SOME_BIT | (u64::from(generation) << 32) | u64::from(index))
    }

    /// Decodes what a peer wrote; `None` if it can be no reference.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits & SOME_BIT != 0).then_some(Self(bits))
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    fn is_unit(self) -> bool {
        self.0 & UNIT_BIT != 0
    }

    fn index(self) -> u32 {
        self.0 as u32
    }

    fn generation(self) -> u32 {
        ((self.0 >> 32) & 0xff_ffff) as u32
    }
}

/// The container of a block: an object, by granule and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Container {
    fn link(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    pub(crate) fn from_link(link: u64) -> Self {
        Self {
            index: link as u32,
            generation: ((link >> 32) & 0xff_ffff) as u32,
        }
    }
}

/// Bytes in the family heap that this process alone owns. Freed on drop.
#[derive(Debug)]
pub(crate) struct Block {
    reference: BlockRef,
    word: Word,
    /// The participant that this process was when it got the block.
    owner: Owner,
    data: NonNull<u8>,
    capacity: usize,
    zeroed: bool,
}

// SAFETY: a block is owned by the process, not by a thread; its bytes are reached through `&`/`&mut` of this value only.
unsafe impl Send for Block {}
// SAFETY: as above; `&Block` gives read access only.
unsafe impl Sync for Block {}

impl Block {
    /// Allocates at least `bytes`; the content is undefined (but never another family's).
    pub(crate) fn alloc(bytes: usize) -> Result<Self, HeapError> {
        let heap = the_heap();
        if bytes <= MAX_SMALL {
            let (index, word) = heap.take_small(bytes)?;
            heap.links()[index as usize].store(0, Ordering::SeqCst);
            return Ok(Self::of_small(heap, index, word, bytes));
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let taken = heap.take_units(units)?;
        heap.unit_links()[taken.unit as usize].store(0, Ordering::SeqCst);
        // Not by struct update: the temporary would be dropped, and with it the block freed.
        let mut block = Self::of_units(heap, taken.unit, taken.word);
        block.zeroed = taken.zeroed;
        Ok(block)
    }

    /// Allocates at least `bytes`, all zero.
    pub(crate) fn alloc_zeroed(bytes: usize) -> Result<Self, HeapError> {
        let mut block = Self::alloc(bytes)?;
        if !block.zeroed {
            block.as_mut_slice().fill(0);
        }
        Ok(block)
    }

    fn of_small(heap: &Heap, index: u32, word: Word, bytes: usize) -> Self {
        let capacity = heap.small_size(index).unwrap_or(bytes);
        let reference = BlockRef::new(false, index, word.generation());
        Self {
            reference,
            word,
            owner: me(),
            data: heap.granule(index),
            capacity,
            zeroed: false,
        }
    }

    fn of_units(heap: &Heap, unit: u32, word: Word) -> Self {
        let reference = BlockRef::new(true, unit, word.generation());
        let capacity = word.len() as usize * UNIT;
        Self {
            reference,
            word,
            owner: me(),
            data: heap.unit(unit),
            capacity,
            zeroed: false,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn reference(&self) -> BlockRef {
        self.reference
    }

    /// Whether it is not a copy of the block of a process that we were forked from.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        myself() == Some(self.owner)
    }

    #[inline]
    fn assert_ours(&self) {
        assert!(
            self.is_ours(),
            "this buffer belongs to the process that this one was forked from"
        );
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.assert_ours();
        // SAFETY: `capacity` bytes at `data` are ours (see the module's Safety section) as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.capacity) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.assert_ours();
        // SAFETY: as in `as_slice`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.capacity) }
    }

    /// Marks the block as one that carries handles (`envelope.rs`); must come before the first is written.
    pub(crate) fn mark_envelope(&self) {
        self.link().store(ENVELOPE, Ordering::SeqCst);
    }

    /// Makes the block part of `container`: `commit` gets its reference and makes it visible there. If `commit` declines, the
    /// block stays ours and is handed back with the reason.
    pub(crate) fn attach<E>(
        mut self,
        container: Container,
        commit: impl FnOnce(BlockRef) -> Result<(), E>,
    ) -> Result<(), (Self, E)> {
        self.assert_ours();
        let link = self.link();
        link.store(
            (link.load(Ordering::Relaxed) & ENVELOPE) | container.link(),
            Ordering::SeqCst,
        );
        let attaching = self.transition(State::ATTACHING);
        match commit(self.reference) {
            Ok(()) => {
                // A receiver may have it already: then its word is no longer ours to change.
                let _ = attaching.swap(self.at(), attaching.with(State::ATTACHED, 0));
                std::mem::forget(self);
                Ok(())
            }
            Err(error) => {
                self.transition(State::OWNED);
                let flag = self.link().load(Ordering::Relaxed) & ENVELOPE;
                self.link().store(flag, Ordering::SeqCst);
                Err((self, error))
            }
        }
    }

    /// Takes a block out of `container`: `commit` makes it no part any more. The caller holds the lock that makes it the only one to do so.
    pub(crate) fn detach(
        reference: BlockRef,
        container: Container,
        commit: impl FnOnce(),
    ) -> Result<Self, HeapError> {
        let heap = the_heap();
        let at = word_at(heap, reference)?;
        let link = link_at(heap, reference)?.load(Ordering::SeqCst);
        let mut word = Word::load(at);
        loop {
            let in_container = word.state() == State::ATTACHED || word.state() == State::ATTACHING
                // A receiver that died before its commit had it in hand; the container still has it.
                || word.state() == State::DETACHING;
            if !in_container
                || word.generation() != reference.generation()
                || Container::from_link(link) != container
            {
                return Err(HeapError::Corrupt(
                    "a message refers to a block that is not the queue's",
                ));
            }
            match word.swap(at, word.with(State::DETACHING, me().slot())) {
                Ok(()) => break,
                Err(now) => word = now,
            }
        }
        commit();
        let detaching = word.with(State::DETACHING, me().slot());
        let owned = detaching.with(State::OWNED, me().slot());
        at.store(owned.0, Ordering::SeqCst);
        let is_unit = reference.is_unit();
        Ok(if is_unit {
            Self::of_units(heap, reference.index(), owned)
        } else {
            Self::of_small(heap, reference.index(), owned, 0)
        })
    }

    /// Takes a block from a container that is being destroyed, whatever state its transfer was in. `None`: it is gone already.
    pub(crate) fn reclaim(reference: BlockRef, container: Container) -> Option<Self> {
        Self::detach(reference, container, || ()).ok()
    }

    /// Where a block lies, unchecked but inside the heap, and how many bytes of the heap follow: for a container that follows its own
    /// references under its own locks, many times a microsecond.
    #[inline]
    pub(crate) fn place(reference: BlockRef) -> (NonNull<u8>, usize) {
        let heap = the_heap();
        let place = if reference.is_unit() {
            heap.unit(reference.index())
        } else {
            heap.granule(reference.index())
        };
        (place, heap.room_behind(place))
    }

    /// Shows the bytes of a block that stays part of its container, to whoever holds the container and keeps
    /// the block from being detached meanwhile.
    pub(crate) fn peek(reference: BlockRef) -> Result<(NonNull<u8>, usize), HeapError> {
        let heap = the_heap();
        let word = Word::load(word_at(heap, reference)?);
        if !word.state().is_allocated() || word.generation() != reference.generation() {
            return Err(HeapError::Corrupt(
                "a container refers to a block that is not allocated",
            ));
        }
        if reference.is_unit() {
            return Ok((heap.unit(reference.index()), word.len() as usize * UNIT));
        }
        let size = heap
            .small_size(reference.index())
            .ok_or(HeapError::Corrupt("block in an unused span"))?;
        Ok((heap.granule(reference.index()), size))
    }

    fn transition(&mut self, state: State) -> Word {
        self.word = self.word.with(state, me().slot());
        self.at().store(self.word.0, Ordering::SeqCst);
        self.word
    }

    fn at(&self) -> &'static AtomicU64 {
        let heap = the_heap();
        let index = self.reference.index() as usize;
        if self.reference.is_unit() {
            &heap.unit_words()[index]
        } else {
            &heap.words()[index]
        }
    }

    fn link(&self) -> &'static AtomicU64 {
        let heap = the_heap();
        let index = self.reference.index() as usize;
        if self.reference.is_unit() {
            &heap.unit_links()[index]
        } else {
            &heap.links()[index]
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        if self.link().load(Ordering::Relaxed) & ENVELOPE != 0 {
            envelope::release_all(self);
            // A free place is no envelope: whoever takes it may die before it has written a link of its own.
            self.link().store(0, Ordering::SeqCst);
        }
        let heap = the_heap();
        if self.reference.is_unit() {
            heap.free_units(self.reference.index(), self.word);
        } else {
            heap.free_small(self.reference.index(), self.word);
        }
    }
}

/// The state word that a reference from a peer names; checked.
pub(crate) fn word_at(heap: &Heap, reference: BlockRef) -> Result<&'static AtomicU64, HeapError> {
    let table = if reference.is_unit() {
        heap.unit_words()
    } else {
        heap.words()
    };
    table
        .get(reference.index() as usize)
        .ok_or(HeapError::Corrupt("block reference out of range"))
}

/// The link word of it; checked.
pub(crate) fn link_at(heap: &Heap, reference: BlockRef) -> Result<&'static AtomicU64, HeapError> {
    let table = if reference.is_unit() {
        heap.unit_links()
    } else {
        heap.links()
    };
    table
        .get(reference.index() as usize)
        .ok_or(HeapError::Corrupt("block reference out of range"))
}

/// For the reaper: the block at `index` as ours, once its word says so.
pub(crate) fn seize(heap: &Heap, is_unit: bool, index: u32, owned: Word) -> Block {
    if is_unit {
        Block::of_units(heap, index, owned)
    } else {
        Block::of_small(heap, index, owned, 0)
    }
}

/// For the reaper: the reference of the block at `index`.
pub(crate) fn reference_of(is_unit: bool, index: u32, word: Word) -> BlockRef {
    BlockRef::new(is_unit, index, word.generation())
}
