//! Locks and their kin.

pub(crate) mod raw;

#[cfg(not(procession_loom))]
mod handle;
#[cfg(not(procession_loom))]
pub(crate) use handle::{handle_serde, shared_handle};
#[cfg(not(procession_loom))]
mod lock;
#[cfg(not(procession_loom))]
pub use lock::Lock;
#[cfg(not(procession_loom))]
pub(crate) use lock::SharedLock;
