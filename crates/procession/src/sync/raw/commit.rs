//! The commit word of one side of a channel: how many items and bytes were ever put, or ever taken.
//!
//! ```text
//! word = items:32 | bytes:32, both modulo 2^32
//! ```
//!
//! Both counts share one word so that *one store* makes a record visible (or gone): before it nothing happened, after it everything did. Producers store
//! `tail` under their lock, consumers `head` under theirs.
//!
//! **Ordering.** [`RawCommit::publish`] (Release) pairs with [`RawCommit::theirs`] (Acquire): whoever sees a tail sees the records before it; whoever sees a head knows
//! that what lies before it has been read and may be overwritten. [`RawCommit::look`] (SeqCst) is for a sleeper's second look after it set its bell.

use crate::atomic::{AtomicU64, Ordering};

/// Items and bytes, ever put or ever taken, modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) items: u32,
    pub(crate) bytes: u32,
}

impl Commit {
    #[inline]
    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            items: (word >> 32) as u32,
            bytes: word as u32,
        }
    }

    #[inline]
    pub(crate) fn to_word(self) -> u64 {
        (u64::from(self.items) << 32) | u64::from(self.bytes)
    }

    /// One item more, and the position behind it.
    #[inline]
    pub(crate) fn advance(self, bytes: u32) -> Self {
        Self {
            items: self.items.wrapping_add(1),
            bytes,
        }
    }
}

/// A commit word as it lies in the heap. All zero: nothing yet.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawCommit {
    word: AtomicU64,
}

impl RawCommit {
    /// Nothing yet.
    #[cfg(procession_loom)]
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
        }
    }

    /// Our own side's position, under our lock.
    #[inline]
    pub(crate) fn own(&self) -> Commit {
        Commit::from_word(self.word.load(Ordering::Relaxed))
    }

    /// The other side's position.
    #[inline]
    pub(crate) fn theirs(&self) -> Commit {
        Commit::from_word(self.word.load(Ordering::Acquire))
    }

    /// Either side's position, in the order that everybody agrees on.
    #[inline]
    pub(crate) fn look(&self) -> Commit {
        Commit::from_word(self.word.load(Ordering::SeqCst))
    }

    /// The one store.
    #[inline]
    pub(crate) fn publish(&self, commit: Commit) {
        self.word.store(commit.to_word(), Ordering::Release);
    }
}
