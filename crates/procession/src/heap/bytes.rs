//! Blocks that stay part of a container, seen by whoever holds the container.
#![expect(unsafe_code, reason = "turns places of the heap into views")]
//!
//! # Safety
//! The heap is never unmapped, so a view stays readable for ever; while its container is held it is also the container's. Views are of atomics
//! only, or copy by atomics ([`Bytes`]).

use super::block::{Block, BlockRef};
use super::error::HeapError;
use super::mapping::the_heap;
use crate::atomic::AtomicU64;
use crate::sys::bytes::Bytes;
use std::ptr::NonNull;

/// The bytes of an attached block, at least `len` long.
pub(crate) fn block_bytes(reference: BlockRef, len: usize) -> Result<Bytes<'static>, HeapError> {
    let (data, capacity) = Block::peek(reference)?;
    if len > capacity {
        return Err(HeapError::Corrupt("a container is longer than its block"));
    }
    // SAFETY: inside a block of the heap, which is never unmapped; its owner is the container, which gives out nothing but such views.
    Ok(unsafe { Bytes::new(data, len) })
}

/// The bytes of words that lie in an object of the heap.
pub(crate) fn inline_bytes(words: &[AtomicU64], len: usize) -> Result<Bytes<'static>, HeapError> {
    let within = the_heap().atomics_at(NonNull::from(words).cast(), size_of_val(words));
    if within.len() != words.len() || len > size_of_val(words) {
        return Err(HeapError::Corrupt("an object is longer than its place"));
    }
    // SAFETY: `atomics_at` found the words in the heap, which is never unmapped.
    Ok(unsafe { Bytes::new(NonNull::from(within).cast(), len) })
}

/// The content of an attached block from byte `skip` on as a table of `T`s. `T` must consist of atomics only.
pub(crate) fn block_table<T: zerocopy::FromBytes + Sync>(
    reference: BlockRef,
    skip: usize,
) -> Result<&'static [T], HeapError> {
    const { assert!(align_of::<T>() <= 8) };
    let (data, capacity) = Block::peek(reference)?;
    if skip > capacity || !skip.is_multiple_of(8) {
        return Err(HeapError::Corrupt("a table begins outside its block"));
    }
    // SAFETY: `skip <= capacity`.
    let start = unsafe { data.add(skip) };
    // SAFETY: inside a block of the heap, never unmapped, aligned to 8; T is made of atomics (FromBytes: any bytes are a value).
    Ok(unsafe {
        std::slice::from_raw_parts(start.cast().as_ptr(), (capacity - skip) / size_of::<T>())
    })
}
