//! The one mapping of this process, and typed views of its tables.
#![expect(unsafe_code, reason = "turns offsets of the mapping into references")]
//!
//! # Safety
//! Every view is a slice of atomics (`FromBytes`: any bytes are a value, I1) at an offset that [`Layout`] computed for the
//! mapped length, in memory that is never unmapped. Payload pointers are handed out as raw pointers only; `block.rs` and
//! `object.rs` say who may follow them.

use super::error::HeapError;
use super::layout::{
    GRANULE, Header, Layout, MAGIC, MAX_TOTAL, MIN_TOTAL, Participant, Span, UNIT, VERSION,
};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::{MAX_PARTICIPANTS, Owner};
use crate::sys::map::{self, Mapping};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;

/// The heap as this process sees it.
#[derive(Debug)]
pub(crate) struct Heap {
    map: Mapping,
    /// Private: how many handles of each object this process has.
    counts: Mapping,
    layout: Layout,
    fd: OwnedFd,
}

static HEAP: OnceLock<Heap> = OnceLock::new();
/// Which participant this process is; changes in a forked child. 0: none yet.
static ME: AtomicU32 = AtomicU32::new(0);

/// The heap of this process, if it has joined a family.
#[inline]
pub(crate) fn heap() -> Option<&'static Heap> {
    HEAP.get()
}

/// The heap, where the caller holds something that proves there is one.
#[inline]
pub(crate) fn the_heap() -> &'static Heap {
    HEAP.get()
        .expect("invariant: whoever holds a shared object has joined a family")
}

/// The participant that this process is.
#[inline]
pub(crate) fn me() -> Owner {
    Owner::from_word(ME.load(Ordering::Relaxed))
        .expect("this forked process got no place in the family (too many participants) and must not use its objects")
}

/// The participant that this process is, if it is one.
pub(crate) fn myself() -> Option<Owner> {
    Owner::from_word(ME.load(Ordering::Relaxed))
}

/// This process is no participant (a forked child for which there was no slot).
pub(crate) fn set_nobody() {
    ME.store(0, Ordering::SeqCst);
}

/// Says which participant this process is from now on.
pub(crate) fn set_me(owner: Owner) {
    ME.store(owner.to_word(), Ordering::SeqCst);
}

/// Makes `heap` the heap of this process; at most once.
pub(crate) fn install(heap: Heap) -> Result<&'static Heap, HeapError> {
    HEAP.set(heap)
        .map_err(|_| HeapError::Corrupt("this process already has a heap"))?;
    Ok(the_heap())
}

impl Heap {
    /// Founds a new family: the largest sparse heap that the system grants.
    pub(crate) fn create(limit: u64) -> Result<Self, HeapError> {
        let mut total = largest_total();
        loop {
            match Self::create_sized(total, limit) {
                Err(HeapError::System { .. }) if total > MIN_TOTAL => total >>= 1,
                result => return result,
            }
        }
    }

    fn create_sized(total: u64, limit: u64) -> Result<Self, HeapError> {
        let fd = map::create_sealed("procession", total)
            .map_err(|errno| HeapError::system("create the family heap", errno))?;
        let heap = Self::map(fd, total)?;
        let mut family = [0u8; 4];
        rustix::rand::getrandom(&mut family, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| HeapError::system("draw a family id", errno))?;
        let header = heap.header();
        header
            .family
            .store(u32::from_le_bytes(family) | 1, Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.total.store(total, Ordering::Relaxed);
        header.limit.store(limit, Ordering::Relaxed);
        let inode = map::inode(&heap.fd)
            .map_err(|errno| HeapError::system("stat the family heap", errno))?;
        header.inode.store(inode, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(heap)
    }

    /// Maps the heap that a parent handed down; checks that it is one.
    pub(crate) fn attach(fd: OwnedFd) -> Result<Self, HeapError> {
        let total = map::sealed_len(&fd)
            .map_err(|errno| HeapError::system("inspect the inherited heap", errno))?
            .ok_or(HeapError::Corrupt(
                "the inherited descriptor is not a sealed heap",
            ))?;
        let heap = Self::map(fd, total)?;
        let header = heap.header();
        if header.magic.load(Ordering::Acquire) != MAGIC
            || header.total.load(Ordering::Relaxed) != total
        {
            return Err(HeapError::Corrupt(
                "the inherited file is not a family heap",
            ));
        }
        if header.version.load(Ordering::Relaxed) != VERSION {
            return Err(HeapError::Corrupt(
                "the family was founded by another version of procession",
            ));
        }
        Ok(heap)
    }

    fn map(fd: OwnedFd, total: u64) -> Result<Self, HeapError> {
        let layout = Layout::new(total)?;
        let map = map::map_shared(&fd, layout.total)
            .map_err(|errno| HeapError::system("map the family heap", errno))?;
        let counts = map::map_private(layout.granules * 4)
            .map_err(|errno| HeapError::system("map the handle counts", errno))?;
        Ok(Self {
            map,
            counts,
            layout,
            fd,
        })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn family(&self) -> u32 {
        self.header().family.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn header(&self) -> &'static Header {
        &self.table::<Header>(0, 1)[0]
    }

    pub(crate) fn participants(&self) -> &'static [Participant] {
        self.table(self.layout.participants_at, MAX_PARTICIPANTS)
    }

    /// Which pages of `slot`'s holder row were ever written.
    pub(crate) fn summary(&self, slot: usize) -> &'static [AtomicU64] {
        let words = Layout::summary_words(self.layout.granules);
        self.table(
            self.layout.summaries_at + slot % MAX_PARTICIPANTS * words * 8,
            words,
        )
    }

    /// One bit for each granule: whether `slot` holds the object there.
    pub(crate) fn row(&self, slot: usize) -> &'static [AtomicU64] {
        let words = self.layout.granules / 64;
        self.table(
            self.layout.rows_at + slot % MAX_PARTICIPANTS * words * 8,
            words,
        )
    }

    #[inline]
    pub(crate) fn words(&self) -> &'static [AtomicU64] {
        self.table(self.layout.words_at, self.layout.granules)
    }

    #[inline]
    pub(crate) fn links(&self) -> &'static [AtomicU64] {
        self.table(self.layout.links_at, self.layout.granules)
    }

    pub(crate) fn spans(&self) -> &'static [Span] {
        self.table(
            self.layout.spans_at,
            self.layout.granules / super::layout::SPAN_GRANULES,
        )
    }

    pub(crate) fn unit_words(&self) -> &'static [AtomicU64] {
        self.table(self.layout.unit_words_at, self.layout.units)
    }

    pub(crate) fn unit_links(&self) -> &'static [AtomicU64] {
        self.table(self.layout.unit_links_at, self.layout.units)
    }

    /// Private to this process: handles per granule.
    #[inline]
    pub(crate) fn counts(&self) -> &'static [AtomicU32] {
        // SAFETY: `counts` was mapped with 4 bytes per granule, zeroed, never unmapped; any bytes are an AtomicU32.
        unsafe {
            std::slice::from_raw_parts(self.counts.base.as_ptr().cast(), self.layout.granules)
        }
    }

    /// Address of a granule of the object region; of its first for an index that a peer made up.
    #[inline]
    pub(crate) fn granule(&self, index: u32) -> NonNull<u8> {
        let known = (index as usize) < self.layout.granules;
        let index = if known { index as usize } else { 0 };
        self.at(self.layout.objects_at + index * GRANULE)
    }

    /// Address of a unit; of the first for an index that a peer made up.
    #[inline]
    pub(crate) fn unit(&self, index: u32) -> NonNull<u8> {
        let known = (index as usize) < self.layout.units;
        let index = if known { index as usize } else { 0 };
        self.at(self.layout.units_at + index * UNIT)
    }

    /// Bytes of the heap from an address inside it to its end.
    #[inline]
    pub(crate) fn room_behind(&self, place: NonNull<u8>) -> usize {
        self.map.len.saturating_sub(self.offset_of(place))
    }

    /// Where in the heap that is: the same number in all processes.
    #[inline]
    pub(crate) fn offset_of(&self, place: NonNull<u8>) -> usize {
        (place.as_ptr() as usize).wrapping_sub(self.map.base.as_ptr() as usize)
    }

    /// The words of a block of the heap, for access that others may share.
    pub(crate) fn atomics(&self, bytes: &[u8]) -> &'static [AtomicU64] {
        self.atomics_at(NonNull::from(bytes).cast(), bytes.len())
    }

    /// As [`Heap::atomics`], by address; what lies outside the heap is cut off.
    pub(crate) fn atomics_at(&self, data: NonNull<u8>, bytes: usize) -> &'static [AtomicU64] {
        let offset = (data.as_ptr() as usize).wrapping_sub(self.map.base.as_ptr() as usize);
        if offset >= self.map.len || !offset.is_multiple_of(8) {
            return &[];
        }
        self.table(offset, bytes.min(self.map.len - offset) / 8)
    }

    /// Has the system map pages that every start of a process will touch, before anybody waits for it. Writes to nothing shared.
    pub(crate) fn touch(&self) {
        let tables = [
            self.words(),
            self.links(),
            self.summary(0),
            self.atomics_at(self.granule(0), GRANULE),
        ];
        for first in tables.iter().filter_map(|table| table.first()) {
            std::hint::black_box(first.load(Ordering::Relaxed));
        }
        std::hint::black_box(self.spans()[0].word.load(Ordering::Relaxed));
        std::hint::black_box(self.participants()[0].word.load(Ordering::Relaxed));
        self.counts()[0].fetch_add(0, Ordering::Relaxed);
    }

    /// Gives the pages of a run of units back to the system, so that they read as zeros. `false`: it did not take them.
    pub(crate) fn punch_units(&self, index: u32, len: u32) -> bool {
        let offset = self.layout.units_at as u64 + u64::from(index) * UNIT as u64;
        map::punch_hole(&self.fd, offset, u64::from(len) * UNIT as u64).is_ok()
    }

    #[inline]
    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.map.len);
        // SAFETY: callers pass offsets below the mapped length (reduced modulo the table's size).
        unsafe { self.map.base.add(offset) }
    }

    #[inline]
    fn table<T: zerocopy::FromBytes>(&self, offset: usize, len: usize) -> &'static [T] {
        debug_assert!(
            offset + len * size_of::<T>() <= self.map.len && offset.is_multiple_of(align_of::<T>())
        );
        // SAFETY: Layout keeps every table inside the mapping; T is a struct of atomics (FromBytes, interior mutability
        // throughout), so shared references to changing bytes are sound.
        unsafe { std::slice::from_raw_parts(self.at(offset).as_ptr().cast(), len) }
    }
}

/// The largest heap to ask for: 1 TiB, or half of the address space limit.
fn largest_total() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    let room = limit.map_or(MAX_TOTAL, |bytes| bytes / 2);
    let power = 1 << (63 - room.max(1).leading_zeros());
    power.clamp(MIN_TOTAL, MAX_TOTAL)
}
