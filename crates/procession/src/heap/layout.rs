//! Where everything lies in the heap, as a function of the heap's size alone.
//!
//! ```text
//! header | participants | row summaries | holder rows | granule words | granule links | spans | unit words | unit links
//!        | object region (spans of 64-byte granules)            | unit region (runs of 64 KiB units)
//! ```
//!
//! Shared objects and small blocks live in the object region, in *granules* of 64 bytes; everything over 32 KiB is a run of
//! *units* of 64 KiB. All tables are sparse: a page nobody touched does not exist.

use super::error::HeapError;
use crate::atomic::{AtomicU32, AtomicU64};
use crate::family::MAX_PARTICIPANTS;
use crate::sync::raw::RawLock;
use zerocopy::FromBytes;

/// Smallest piece of the object region, in bytes; also the alignment of every object and block.
pub(crate) const GRANULE: usize = 64;
/// Bytes of a span and of a unit.
pub(crate) const UNIT: usize = 64 * 1024;
/// Granules in one span.
pub(crate) const SPAN_GRANULES: usize = UNIT / GRANULE;
/// Granules whose holder bits fill one page of a holder row.
pub(crate) const SUMMARY_GRANULES: usize = 4096 * 8;

/// Smallest heap that is worth having.
pub(crate) const MIN_TOTAL: u64 = 256 << 20;
/// The size we ask for first; sparse.
pub(crate) const MAX_TOTAL: u64 = 1 << 40;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"process\x01");
pub(crate) const VERSION: u32 = 1;

/// First page of the heap.
#[repr(C)]
#[derive(Debug, FromBytes)]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU32,
    pub(crate) family: AtomicU32,
    pub(crate) total: AtomicU64,
    /// Most bytes of spans and units the family may have allocated at one time.
    pub(crate) limit: AtomicU64,
    /// Inode of the memfd, to find it in `/proc/PID/maps`.
    pub(crate) inode: AtomicU64,
    /// Guards splitting and merging of runs of units. Death inside needs no repair: every step is one store.
    pub(crate) units_lock: RawLock,
    /// Held by whoever reaps.
    pub(crate) reap_lock: RawLock,
    /// Participant slots that were ever used.
    pub(crate) slots_used: AtomicU32,
    /// Spans that were ever used.
    pub(crate) spans_used: AtomicU32,
    /// Units that were ever used; beyond lies untouched space.
    pub(crate) units_used: AtomicU32,
    /// Where the next search for a free run begins; a hint.
    pub(crate) rover: AtomicU32,
    /// Spans whose owner died, waiting for adoption; a hint.
    pub(crate) orphans: AtomicU32,
    pub(crate) spare: AtomicU32,
    /// Bytes of spans and units in use; recounted by each reap.
    pub(crate) used: AtomicU64,
    /// Bytes of free runs whose pages are kept; recounted by each reap.
    pub(crate) warm: AtomicU64,
    /// When somebody last looked for dead participants (monotonic ms).
    pub(crate) last_patrol: AtomicU64,
    /// Participants reaped since the family began.
    pub(crate) reaped: AtomicU64,
}
const _: () = assert!(size_of::<Header>() <= 4096);

/// One row of the participant table; `family/participant.rs` says what the fields mean.
#[repr(C, align(64))]
#[derive(Debug, FromBytes)]
pub(crate) struct Participant {
    pub(crate) word: AtomicU32,
    pub(crate) creator: AtomicU32,
    pub(crate) pid: AtomicU64,
    pub(crate) started: AtomicU64,
    pub(crate) joined_ms: AtomicU64,
    pub(crate) ward_pid: AtomicU64,
    pub(crate) ward_started: AtomicU64,
    pub(crate) flags: AtomicU32,
    pub(crate) spare: [AtomicU32; 3],
}
const _: () = assert!(size_of::<Participant>() == 64);

/// One row of the span table.
#[repr(C)]
#[derive(Debug, FromBytes)]
pub(crate) struct Span {
    /// `state:4 | owner:10 | generation | class:8` (the length field of a [`super::word::Word`] holds the class).
    pub(crate) word: AtomicU64,
    /// Counted up after each free: tells the owner to look for free blocks again. A hint.
    pub(crate) freed: AtomicU32,
    pub(crate) spare: AtomicU32,
}
const _: () = assert!(size_of::<Span>() == 16);

/// Byte offsets and lengths of all tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) total: usize,
    pub(crate) granules: usize,
    pub(crate) units: usize,
    pub(crate) participants_at: usize,
    pub(crate) summaries_at: usize,
    pub(crate) rows_at: usize,
    pub(crate) words_at: usize,
    pub(crate) links_at: usize,
    pub(crate) spans_at: usize,
    pub(crate) unit_words_at: usize,
    pub(crate) unit_links_at: usize,
    pub(crate) objects_at: usize,
    pub(crate) units_at: usize,
}

impl Layout {
    /// The layout of a heap of `total` bytes (a power of two).
    pub(crate) fn new(total: u64) -> Result<Self, HeapError> {
        if !total.is_power_of_two() || !(MIN_TOTAL..=MAX_TOTAL).contains(&total) {
            return Err(HeapError::Corrupt("impossible heap size"));
        }
        let total =
            usize::try_from(total).map_err(|_| HeapError::Corrupt("impossible heap size"))?;
        // 1/128 of the space for small things, at least 8 MiB: 8 GiB of locks and queues in the usual terabyte.
        let object_bytes = (total / 128).max(8 << 20);
        let granules = object_bytes / GRANULE;
        let mut at = 4096;
        let mut take = |bytes: usize| {
            let start = at;
            at += bytes.next_multiple_of(4096);
            start
        };
        let participants_at = take(MAX_PARTICIPANTS * size_of::<Participant>());
        let summaries_at = take(MAX_PARTICIPANTS * Self::summary_words(granules) * 8);
        let rows_at = take(MAX_PARTICIPANTS * (granules / 8));
        let words_at = take(granules * 8);
        let links_at = take(granules * 8);
        let spans_at = take(granules / SPAN_GRANULES * size_of::<Span>());
        let unit_words_at = take(total / UNIT * 8);
        let unit_links_at = take(total / UNIT * 8);
        let objects_at = take(object_bytes).next_multiple_of(UNIT);
        let units_at = (objects_at + object_bytes).next_multiple_of(UNIT);
        let units = (total - units_at) / UNIT;
        Ok(Self {
            total,
            granules,
            units,
            participants_at,
            summaries_at,
            rows_at,
            words_at,
            links_at,
            spans_at,
            unit_words_at,
            unit_links_at,
            objects_at,
            units_at,
        })
    }

    /// `u64` words of one participant's row summary.
    pub(crate) fn summary_words(granules: usize) -> usize {
        granules
            .div_ceil(SUMMARY_GRANULES)
            .div_ceil(64)
            .next_multiple_of(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_and_do_not_overlap() {
        for shift in 28..=40 {
            let layout = Layout::new(1 << shift).expect("layout");
            let starts = [
                layout.participants_at,
                layout.summaries_at,
                layout.rows_at,
                layout.words_at,
                layout.links_at,
                layout.spans_at,
                layout.unit_words_at,
                layout.unit_links_at,
                layout.objects_at,
                layout.units_at,
            ];
            assert!(starts.is_sorted(), "{layout:?}");
            assert!(layout.units_at + layout.units * UNIT <= layout.total);
            assert!(
                layout.units >= layout.total / UNIT / 2,
                "more than half is for payload: {layout:?}"
            );
            assert!(layout.units <= super::super::word::MAX_UNITS as usize);
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for total in [0, 1, 4096, (1 << 30) + 1, 1 << 41, u64::MAX] {
            assert!(Layout::new(total).is_err());
        }
    }
}
