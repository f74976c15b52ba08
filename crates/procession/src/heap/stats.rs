//! Figures about the heap, read from the words themselves.

use super::layout::UNIT;
use super::mapping::{Heap, heap};
use super::word::State;
use crate::atomic::Ordering;

/// How much of the family heap is in use. A walk through all state words: exact when nobody allocates meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapStats {
    /// Bytes of all allocated objects and blocks.
    pub live_bytes: u64,
    /// Shared objects.
    pub objects: u64,
    /// Blocks: messages, rings, buffers.
    pub blocks: u64,
    /// Bytes of spans and units set aside, whether or not every block in them is used; what counts against the limit.
    pub used_bytes: u64,
    /// Bytes of freed runs whose pages are kept for the next big block.
    pub warm_bytes: u64,
    /// The family's limit for `used_bytes`.
    pub limit: u64,
    /// Processes in the family.
    pub participants: u64,
}

/// Figures about the family heap of this process; all zero if it has none yet.
///
/// # Examples
/// ```
/// let before = procession::heap_stats().live_bytes;
/// let lock = procession::Lock::new()?;
/// assert!(procession::heap_stats().live_bytes > before);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use]
pub fn heap_stats() -> HeapStats {
    heap().map(Heap::stats).unwrap_or_default()
}

impl Heap {
    pub(crate) fn stats(&self) -> HeapStats {
        let header = self.header();
        let mut stats = HeapStats {
            used_bytes: header.used.load(Ordering::Relaxed),
            warm_bytes: header.warm.load(Ordering::Relaxed),
            limit: header.limit.load(Ordering::Relaxed),
            participants: self
                .participants()
                .iter()
                .filter(|p| p.presence().0 == super::participant::Presence::Live)
                .count() as u64,
            ..HeapStats::default()
        };
        self.each_small(|_, size, word| {
            if word.state().is_allocated() {
                stats.live_bytes += size as u64;
                if word.state() == State::LIVE {
                    stats.objects += 1;
                } else {
                    stats.blocks += 1;
                }
            }
        });
        self.each_run(|_, word| {
            if word.state().is_allocated() {
                stats.live_bytes += u64::from(word.len()) * UNIT as u64;
                stats.blocks += 1;
            }
        });
        stats
    }
}
