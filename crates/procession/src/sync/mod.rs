//! Locks and their kin.

pub(crate) mod raw;

#[cfg(not(procession_loom))]
mod lock;
#[cfg(not(procession_loom))]
pub(crate) use lock::SharedLock;
#[cfg(not(procession_loom))]
pub use lock::Lock;
