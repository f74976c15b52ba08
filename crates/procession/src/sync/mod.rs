//! Locks and their kin.

pub(crate) mod raw;
