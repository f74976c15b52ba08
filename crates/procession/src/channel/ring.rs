//! Records of variable size in a segment of the heap, made visible by one store.
#![expect(unsafe_code, reason = "copies records in and out of the mapped heap")]
//!
//! A channel's two commit words (`sync/raw/commit.rs`) count items and bytes; the bytes are positions here:
//!
//! ```text
//!        head                tail
//!          v                   v
//!   free   | rec | rec | rec | |   free         position p lies at data[(p - base) % capacity] of the segment that covers it
//! ```
//!
//! A record is a header word (`length:32 | tag:8`), the payload, padding to 8 bytes. It never wraps: where the segment's end is too near, a `PAD` record fills
//! the rest, committed by the same store. Before that store nothing of a record is visible, after it everything is: a process that dies on either side leaves no
//! half record (and no claimed but unpublished slot, the hole in every lock-free multi-producer ring; see ARCHITECTURE.md "Why not Vyukov").
//!
//! # Safety
//! Data is reached by raw copies only, in a range that [`Segment::open`] checked to lie inside the heap. Bytes between `tail` and `head + capacity` are
//! written by whoever holds P, bytes between `head` and `tail` are read by whoever holds C, so honest peers never race; what a dishonest one writes is a
//! valid `u8` and every length is checked before use (I6).

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::heap::{Block, BlockRef, HeapError, the_heap};
use std::ptr::NonNull;

/// Bytes of a record's header; records are aligned to it.
const HEADER: u32 = 8;
/// Farther than this from its base a position is not let go. Half the circle would do; a segment is far smaller.
const FAR: u32 = 1 << 30;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// The payload itself.
    Inline,
    /// Reference and length of a block with the payload.
    Block,
    /// As `Block`; the block is an envelope.
    Envelope,
    /// Nothing: the rest of the segment.
    Pad,
}

impl Tag {
    fn from_header(header: u64) -> Option<Self> {
        match (header >> 32) & 0xff {
            1 => Some(Self::Inline),
            2 => Some(Self::Block),
            3 => Some(Self::Envelope),
            4 => Some(Self::Pad),
            _ => None,
        }
    }

    fn to_header(self, len: u32) -> u64 {
        let tag: u64 = match self {
            Self::Inline => 1,
            Self::Block => 2,
            Self::Envelope => 3,
            Self::Pad => 4,
        };
        (tag << 32) | u64::from(len)
    }
}

/// Head of a segment, at the beginning of its block.
#[repr(C, align(64))]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SegmentHead {
    /// The segment that continues this one; 0: none yet. Written once, by a producer.
    pub(crate) next: AtomicU64,
    /// Position of the first byte; later, of the same place some rounds on ([`Segment::keep_near`]).
    base: AtomicU32,
    /// Bytes of data, a power of two.
    capacity: AtomicU32,
    /// Position after the last byte, valid once `next` is set.
    end: AtomicU32,
    spare: AtomicU32,
    /// Whose it is: where the channel lies. One that was led here by a word that a peer overwrote goes no further.
    channel: AtomicU64,
    spare_too: [AtomicU64; 4],
}
const _: () = assert!(size_of::<SegmentHead>() == 64);
const CHANNEL_WORD: usize = std::mem::offset_of!(SegmentHead, channel) / 8;

/// A record that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) tag: Tag,
    /// Bytes of payload.
    pub(crate) len: u32,
    /// Position of the payload.
    at: u32,
    /// Position after the record.
    pub(crate) end: u32,
}

/// A segment of the heap, opened in this process and checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) head: &'static SegmentHead,
    data: NonNull<u8>,
    base: u32,
    mask: u32,
}

impl Segment {
    /// Bytes of a block for a segment of `capacity` bytes (a power of two).
    pub(crate) fn block_size(capacity: u32) -> usize {
        size_of::<SegmentHead>() + capacity as usize
    }

    /// Lays a fresh segment out in a block that is still ours, for the channel that lies at `channel`; its first byte will have position `base`.
    pub(crate) fn format(block: &mut Block, channel: u64, base: u32, capacity: u32) {
        let words = the_heap().atomics(&block.as_slice()[..size_of::<SegmentHead>()]);
        for word in words {
            word.store(0, Ordering::Relaxed);
        }
        words[CHANNEL_WORD].store(channel, Ordering::Relaxed);
        words[1].store(
            u64::from(base) | (u64::from(capacity) << 32),
            Ordering::Release,
        );
    }

    /// Opens the segment that the channel which lies at `channel` refers to.
    #[inline]
    pub(crate) fn open(reference: u64, channel: u64) -> Result<Self, HeapError> {
        let reference =
            BlockRef::from_bits(reference).ok_or(HeapError::Corrupt("not a segment reference"))?;
        let (place, size) = Block::place(reference);
        // SAFETY: at least a granule (64 bytes) of mapped memory, aligned to 64; any bytes are a SegmentHead.
        let head: &'static SegmentHead = unsafe { place.cast::<SegmentHead>().as_ref() };
        let capacity = head.capacity.load(Ordering::Relaxed);
        // A segment that a channel refers to is its own until a consumer leaves it (core.rs), so only a peer that
        // overwrites memory can make this wrong; then we stay inside the heap.
        if !capacity.is_power_of_two()
            || !(HEADER..=FAR).contains(&capacity)
            || capacity as usize > size - size_of::<SegmentHead>()
            || head.channel.load(Ordering::Relaxed) != channel
        {
            return Err(HeapError::Corrupt(
                "a segment makes no sense, or is another channel's",
            ));
        }
        // SAFETY: the head is 64 bytes of a block that is larger.
        let data = unsafe { place.add(size_of::<SegmentHead>()) };
        Ok(Self {
            head,
            data,
            base: head.base.load(Ordering::Relaxed),
            mask: capacity - 1,
        })
    }

    #[inline]
    pub(crate) fn capacity(&self) -> u32 {
        self.mask + 1
    }

    /// Bytes a record with this payload takes, if there were no padding.
    #[inline]
    pub(crate) fn record_size(payload: u32) -> u32 {
        HEADER + payload.next_multiple_of(8)
    }

    /// Where the last record of a closed segment ended.
    pub(crate) fn end(&self) -> u32 {
        self.head.end.load(Ordering::Acquire)
    }

    /// Whether a closed segment holds the record at `position`.
    pub(crate) fn covers(&self, position: u32) -> bool {
        position.wrapping_sub(self.base) < self.end().wrapping_sub(self.base)
    }

    /// Whether nothing was written to the segment yet and it is no smaller than `capacity`.
    pub(crate) fn is_fresh(&self, base: u32, capacity: u32) -> bool {
        self.base == base && self.capacity() >= capacity
    }

    /// Moves `base` on by whole rounds of the segment before `tail` is so far from it that their difference, modulo 2^32, would
    /// say nothing any more. It stays at or behind every unread record, and no record changes its place. The caller holds P, and `tail`
    /// was reached by records for which there was room.
    #[inline]
    pub(crate) fn keep_near(&mut self, tail: u32) {
        let distance = tail.wrapping_sub(self.base);
        if distance > FAR {
            let rounds = (distance - self.capacity()) & !self.mask;
            self.base = self.base.wrapping_add(rounds);
            self.head.base.store(self.base, Ordering::Relaxed);
        }
    }

    /// Closes the segment at `end`, before its successor is linked.
    pub(crate) fn set_end(&self, end: u32) {
        self.head.end.store(end, Ordering::Release);
    }

    /// Bytes that a record of `size` bytes needs at position `tail`, with the padding before it; `None` if they are not free.
    #[inline]
    pub(crate) fn room(&self, tail: u32, head: u32, size: u32) -> Option<u32> {
        // A head before our base reads an older segment: all of ours between base and tail is in use.
        let in_this = head.wrapping_sub(self.base) <= tail.wrapping_sub(self.base);
        let oldest = if in_this { head } else { self.base };
        let used = tail.wrapping_sub(oldest);
        let left_to_end = self.capacity() - (tail.wrapping_sub(self.base) & self.mask);
        let pad = if left_to_end >= size { 0 } else { left_to_end };
        let need = size.checked_add(pad)?;
        (used <= self.capacity() && need <= self.capacity() - used).then_some(need)
    }

    /// Writes a record of `payload` and what follows it at `tail` (and the padding before it); nobody sees it before the commit. Returns the position
    /// after it. The caller holds P and asked [`Segment::room`].
    #[inline]
    pub(crate) fn write(&self, mut tail: u32, tag: Tag, payload: &[u8], more: &[u8]) -> u32 {
        let len = (payload.len() + more.len()) as u32;
        let size = Self::record_size(len);
        let left = self.capacity() - (tail.wrapping_sub(self.base) & self.mask);
        if left < size {
            self.put_header(tail, Tag::Pad.to_header(left.saturating_sub(HEADER)));
            tail = tail.wrapping_add(left);
        }
        self.put_header(tail, tag.to_header(len));
        let to = self.at(tail.wrapping_add(HEADER));
        if payload.len() == 8 {
            // The commonest payload, a word, without a call to memcpy.
            let mut word = [0; 8];
            word.copy_from_slice(payload);
            // SAFETY: room for the record was checked; `to` is 8-aligned like every record.
            unsafe { to.cast::<u64>().write(u64::from_ne_bytes(word)) };
        } else {
            // SAFETY: room for the whole record was checked and it does not cross the end of the segment; P makes us the only writer.
            unsafe { to.copy_from_nonoverlapping(NonNull::from(payload).cast(), payload.len()) };
        }
        if !more.is_empty() {
            // SAFETY: the record's room, as above, begins with that of `payload`.
            let to = unsafe { to.add(payload.len()) };
            // SAFETY: as above; `len` counts both.
            unsafe { to.copy_from_nonoverlapping(NonNull::from(more).cast(), more.len()) };
        }
        tail.wrapping_add(size)
    }

    /// Finds the record at position `head`, skipping padding; `None`: there is none before `tail` (only padding), or the bytes
    /// make no sense.
    #[inline]
    pub(crate) fn find(&self, mut head: u32, tail: u32) -> Option<Found> {
        loop {
            let available = tail.wrapping_sub(head);
            if available < HEADER || available > self.capacity() {
                return None;
            }
            let header = self.get_header(head);
            let (tag, len) = (Tag::from_header(header)?, header as u32);
            let left = self.capacity() - (head.wrapping_sub(self.base) & self.mask);
            let size = HEADER.checked_add(len.checked_next_multiple_of(8)?)?;
            if size > available || size > left {
                return None;
            }
            let end = head.wrapping_add(size);
            if tag != Tag::Pad {
                return Some(Found {
                    tag,
                    len,
                    at: head.wrapping_add(HEADER),
                    end,
                });
            }
            head = end;
        }
    }

    /// The payload of a record, for as long as the caller holds C and has not committed its removal. `f` must only copy.
    #[inline]
    pub(crate) fn payload<R>(&self, found: &Found, f: impl FnOnce(&[u8]) -> R) -> R {
        // SAFETY: `find` checked that the record lies inside the segment; C keeps producers from reusing it.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.at(found.at).as_ptr(), found.len as usize) };
        f(bytes)
    }

    #[inline]
    fn put_header(&self, position: u32, header: u64) {
        // SAFETY: positions are multiples of 8 inside the segment (masked), so the word is in the block and aligned.
        unsafe { self.at(position).cast::<u64>().write(header) };
    }

    #[inline]
    fn get_header(&self, position: u32) -> u64 {
        // SAFETY: as in `put_header`; `at` aligns the position down.
        unsafe { self.at(position).cast::<u64>().read() }
    }

    #[inline]
    fn at(&self, position: u32) -> NonNull<u8> {
        let offset = position.wrapping_sub(self.base) & self.mask & !7;
        // SAFETY: masked by capacity - 1, so inside the data area.
        unsafe { self.data.add(offset as usize) }
    }
}
