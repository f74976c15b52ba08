//! The error of the crate's front door.

use crate::heap::HeapError;

/// What went wrong in an operation that can fail in several ways.
pub type Error = HeapError;
