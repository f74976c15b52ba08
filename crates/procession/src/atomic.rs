//! The only door to atomics: `core`'s, or loom's when the model checker runs.
//!
//! State machines under `sync/raw` and `channel/ring` take their atomics from here, so the code that
//! loom explores (`--cfg procession_loom`) is the code that ships. A loom atomic carries a history and
//! cannot lie in a mapped heap, which is why those machines take `&State` and never an address.

#[cfg(not(procession_loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(procession_loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
