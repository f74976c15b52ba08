//! BoundedSemaphore: a semaphore that notices too many releases.

use super::semaphore::{NewSemaphoreError, Semaphore};
use crate::heap::{Handle, HeapError};
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// A [`Semaphore`] whose value never rises above the one it began with.
///
/// # Examples
/// ```
/// let semaphore = procession::BoundedSemaphore::new(1)?;
/// let permit = semaphore.acquire();
/// drop(permit);
/// assert!(semaphore.release(1).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.BoundedSemaphore`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BoundedSemaphore(Semaphore);

impl BoundedSemaphore {
    /// Creates a semaphore with `value` permits and room for no more.
    ///
    /// # Errors
    /// [`NewSemaphoreError`].
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::BoundedSemaphore::new(3)?.value(), 3);
    /// # Ok::<(), procession::NewSemaphoreError>(())
    /// ```
    pub fn new(value: u32) -> Result<Self, NewSemaphoreError> {
        Semaphore::with_limit(value, value).map(Self)
    }

    /// Opens a semaphore by its name, if somebody still holds it.
    ///
    /// # Errors
    /// As [`Semaphore::open`].
    ///
    /// # Examples
    /// ```
    /// let semaphore = procession::BoundedSemaphore::new(3)?;
    /// let same = procession::BoundedSemaphore::open(semaphore.handle())?;
    /// assert_eq!(same.value(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(handle: Handle) -> Result<Self, HeapError> {
        Semaphore::open(handle).map(Self)
    }
}

impl Deref for BoundedSemaphore {
    type Target = Semaphore;

    fn deref(&self) -> &Semaphore {
        &self.0
    }
}
