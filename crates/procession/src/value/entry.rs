//! Entries of a dict and items of a list: one block each, with the key, the value and a hold on every shared object in them.
//!
//! ```text
//! number of handles: 8 | one word for each handle | lengths: 8 (value:40 | key:24) | key | value
//! ```
//!
//! It begins as an envelope does, and is one if there are handles: so whatever is inside lives as long as the entry. A list's items have an
//! empty key. An entry never changes; another one takes its place. Its bytes are input: every length is checked when it is read.

use crate::atomic::{AtomicU64, Ordering};
use crate::heap::{
    Block, BlockRef, HeapError, Hold, block_table, envelope_count, fill_envelope, hold_all,
    inline_bytes, list_len,
};
use crate::sys::bytes::{Bytes, OutOfRange};

const WORD: usize = 8;
const KEY_BITS: u32 = 24;
/// Longest key, serialised.
pub(super) const MAX_KEY: usize = (1 << KEY_BITS) - 1;
/// Longest value, serialised.
const MAX_VALUE: usize = (1 << 40) - 1;
/// Bytes of a key that are compared at once.
const CHUNK: usize = 64;

const CORRUPT: HeapError = HeapError::Corrupt("an entry is longer than its block");

/// Makes the block of an entry. `payload` is the key, `key_len` bytes long, and the value behind it.
pub(super) fn make(payload: &[u8], key_len: usize, holds: &[Hold]) -> Result<Block, HeapError> {
    let value_len = payload.len().saturating_sub(key_len);
    for (len, most) in [(key_len, MAX_KEY), (value_len, MAX_VALUE)] {
        if len > most {
            return Err(HeapError::TooLarge {
                requested: len as u64,
                largest: most as u64,
            });
        }
    }
    let list = list_len(holds.len());
    let mut block = Block::alloc(list + WORD + payload.len())?;
    let bytes = block.as_mut_slice();
    let lengths = ((value_len as u64) << KEY_BITS) | key_len as u64;
    bytes[..WORD].fill(0);
    bytes[list..list + WORD].copy_from_slice(&lengths.to_ne_bytes());
    bytes[list + WORD..][..payload.len()].copy_from_slice(payload);
    if !holds.is_empty() {
        let handles: Vec<_> = holds.iter().map(Hold::handle).collect();
        fill_envelope(&block, &handles);
    }
    Ok(block)
}

/// The value in an entry that was taken out of its container.
pub(super) fn value_of(block: &Block) -> Result<&[u8], HeapError> {
    let bytes = block.as_slice();
    let at = list_len(envelope_count(bytes)?);
    let lengths = bytes
        .get(at..at + WORD)
        .and_then(|word| word.try_into().ok());
    let (key, value) = split(u64::from_ne_bytes(lengths.ok_or(CORRUPT)?));
    let start = at + WORD + key;
    bytes.get(start..start + value).ok_or(CORRUPT)
}

fn split(lengths: u64) -> (usize, usize) {
    (lengths as usize & MAX_KEY, (lengths >> KEY_BITS) as usize)
}

/// An entry that stays part of its container, seen by whoever holds the lock that keeps it there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    words: &'static [AtomicU64],
    key: Bytes<'static>,
    value: Bytes<'static>,
}

impl Entry {
    #[inline]
    pub(super) fn open(reference: BlockRef) -> Result<Self, HeapError> {
        let words = block_table::<AtomicU64>(reference, 0)?;
        let load = |at: usize| words.get(at).map(|word| word.load(Ordering::Relaxed));
        let handles = usize::try_from(load(0).ok_or(CORRUPT)?).map_err(|_| CORRUPT)?;
        let at = handles.checked_add(1).ok_or(CORRUPT)?;
        let (key_len, value_len) = split(load(at).ok_or(CORRUPT)?);
        let bytes = inline_bytes(words, size_of_val(words))?;
        let start = (at + 1) * WORD;
        let part = |from, len| bytes.part(from, len).map_err(|OutOfRange| CORRUPT);
        Ok(Self {
            words,
            key: part(start, key_len)?,
            value: part(start + key_len, value_len)?,
        })
    }

    #[inline]
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        let mut chunk = [0; CHUNK];
        let mut same = self.key.len() == key.len();
        for (number, expected) in key.chunks(CHUNK).enumerate() {
            let found = &mut chunk[..expected.len()];
            let part = self.key.part(number * CHUNK, expected.len());
            same = same && part.is_ok_and(|part| part.read(found).is_ok()) && found == expected;
        }
        same
    }

    /// Appends the key.
    pub(super) fn copy_key(&self, into: &mut Vec<u8>) {
        append(self.key, into);
    }

    /// Appends the value.
    #[inline]
    pub(super) fn copy_value(&self, into: &mut Vec<u8>) {
        append(self.value, into);
    }

    /// Keeps the shared objects inside alive beyond the entry.
    #[inline]
    pub(super) fn hold(&self) -> Vec<Hold> {
        hold_all(self.words)
    }
}

#[inline]
fn append(bytes: Bytes<'static>, into: &mut Vec<u8>) {
    let start = into.len();
    into.resize(start + bytes.len(), 0);
    // The lengths are equal, so this always succeeds.
    let _ = bytes.read(&mut into[start..]);
}
