//! Envelopes: blocks that carry handles of shared objects (G4).
//!
//! A message with handles in it travels in a block that begins with the list of them: `count`, then one entry for each. *Being in the list of an allocated
//! envelope* is a hold, as good as a bit in a holder row: the object lives as long as the message does, whoever has it.
//!
//! To know quickly that an object is in no list, its link word counts the entries. The count is raised before an entry is
//! written and lowered after it is gone, so a death can leave it too high, never too low; too high costs a search through the envelopes ([`find`]) when the last
//! holder goes, nothing more.

use super::block::{Block, BlockRef, ENVELOPE, link_at, word_at};
use super::error::HeapError;
use super::handle::Handle;
use super::mapping::{Heap, the_heap};
use super::object::{self, Hold};
use super::word::Word;
use crate::atomic::{AtomicU64, Ordering};
use crate::sync::raw::holding;
use std::ptr::NonNull;

const ENTRY: u64 = 1 << 63;
/// Most handles in one message.
pub(crate) const MAX_HANDLES: usize = 1 << 16;

/// Bytes that the list of `count` handles takes at the beginning of an envelope.
pub(crate) fn list_len(count: usize) -> usize {
    8 + count * 8
}

/// Writes the list into a block, which becomes an envelope. The caller holds every object.
pub(crate) fn fill(block: &Block, handles: &[Handle]) {
    let heap = the_heap();
    let words = heap.atomics(block.as_slice());
    words[0].store(0, Ordering::SeqCst);
    for word in &words[1..=handles.len()] {
        word.store(0, Ordering::SeqCst);
    }
    words[0].store(handles.len() as u64, Ordering::SeqCst);
    block.mark_envelope();
    for (word, handle) in words[1..].iter().zip(handles) {
        object::count_in_flight(heap, handle.index());
        let entry = ENTRY | (u64::from(handle.generation()) << 32) | u64::from(handle.index());
        word.store(entry, Ordering::SeqCst);
    }
}

/// Holds on everything that an envelope lists, given its words. The caller keeps the envelope where it is meanwhile.
pub(crate) fn hold_all(words: &'static [AtomicU64]) -> Vec<Hold> {
    let heap = the_heap();
    let listed = list(words)
        .iter()
        .filter_map(|word| decode(heap, word.load(Ordering::SeqCst)));
    listed
        .map(|(index, generation)| Hold::new(heap, Handle::new(heap, index, generation)))
        .collect()
}

/// Drops the list of an envelope that is about to be freed. The objects that nobody else holds go with it.
pub(crate) fn release_all(block: &Block) {
    let heap = the_heap();
    for word in list(heap.atomics(block.as_slice())) {
        let Some((index, _)) = decode(heap, word.load(Ordering::SeqCst)) else {
            continue;
        };
        holding::let_go(&heap.words()[index as usize], || {
            word.store(0, Ordering::SeqCst);
        });
        object::uncount_in_flight(heap, index);
        heap.free_if_unheld(index);
    }
}

impl Heap {
    /// Whether this block is an allocated envelope that lists the object.
    pub(crate) fn lists(&'static self, block: BlockRef, index: u32, generation: u32) -> bool {
        let (Ok(at), Ok(link)) = (word_at(self, block), link_at(self, block)) else {
            return false;
        };
        let peeked = Block::peek(block).ok();
        let place = peeked.filter(|_| is_envelope(Word::load(at), link));
        place.is_some_and(|place| names(self, place, index, generation))
    }
}

fn names(heap: &'static Heap, place: (NonNull<u8>, usize), index: u32, generation: u32) -> bool {
    list(heap.atomics_at(place.0, place.1))
        .iter()
        .any(|word| decode(heap, word.load(Ordering::SeqCst)) == Some((index, generation)))
}

/// Whether any allocated envelope lists the object.
pub(crate) fn find(heap: &'static Heap, index: u32, generation: u32) -> bool {
    let mut found = false;
    let lists_it = |data, size| names(heap, (data, size), index, generation);
    heap.each_small(|block, size, word| {
        if !found && is_envelope(word, &heap.links()[block as usize]) {
            found = lists_it(heap.granule(block), size);
        }
    });
    if found {
        return true;
    }
    heap.each_run(|unit, word| {
        if !found && is_envelope(word, &heap.unit_links()[unit as usize]) {
            found = lists_it(heap.unit(unit), word.len() as usize * super::layout::UNIT);
        }
    });
    found
}

/// How many handles the envelope lists, by its own word; bounded by its size.
pub(crate) fn count(bytes: &[u8]) -> Result<usize, HeapError> {
    let corrupt = HeapError::Corrupt("an envelope's list does not fit its block");
    let head: [u8; 8] = bytes
        .get(..8)
        .and_then(|head| head.try_into().ok())
        .ok_or(corrupt.clone())?;
    let count = usize::try_from(u64::from_ne_bytes(head)).map_err(|_| corrupt.clone())?;
    if count > MAX_HANDLES || list_len(count) > bytes.len() {
        Err(corrupt)
    } else {
        Ok(count)
    }
}

fn is_envelope(word: Word, link: &AtomicU64) -> bool {
    word.state().is_allocated()
        && word.state() != super::word::State::LIVE
        && link.load(Ordering::SeqCst) & ENVELOPE != 0
}

fn list(words: &'static [AtomicU64]) -> &'static [AtomicU64] {
    let Some((head, rest)) = words.split_first() else {
        return &[];
    };
    let count = usize::try_from(head.load(Ordering::SeqCst))
        .unwrap_or(0)
        .min(rest.len())
        .min(MAX_HANDLES);
    &rest[..count]
}

fn decode(heap: &Heap, entry: u64) -> Option<(u32, u32)> {
    let index = entry as u32;
    let known = entry & ENTRY != 0 && (index as usize) < heap.layout().granules;
    known.then_some((index, ((entry >> 32) & 0xff_ffff) as u32))
}
