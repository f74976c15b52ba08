//! What the operations of the locks can say instead of "done": one small type for each way to fail.

/// The lock or permit cannot be had without waiting.
///
/// # Examples
/// ```
/// let lock = procession::Lock::new()?;
/// let _held = lock.acquire();
/// assert_eq!(lock.try_acquire().err(), Some(procession::WouldBlock));
/// # Ok::<(), procession::HeapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("somebody else holds it")]
pub struct WouldBlock;

/// The time ran out first. Nothing was taken.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let event = procession::Event::new()?;
/// assert_eq!(event.wait_timeout(Duration::ZERO), Err(procession::TimedOut));
/// # Ok::<(), procession::HeapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time ran out")]
pub struct TimedOut;

/// A lock was to be released that nobody holds.
///
/// # Examples
/// ```
/// let lock = procession::Lock::new()?;
/// assert_eq!(lock.release(), Err(procession::NotHeld));
/// # Ok::<(), procession::HeapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lock is not held by anybody")]
pub struct NotHeld;

/// A re-entrant lock was to be released by a thread that does not hold it.
///
/// # Examples
/// ```
/// let lock = procession::RLock::new()?;
/// assert_eq!(lock.release(), Err(procession::NotOwner));
/// # Ok::<(), procession::HeapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lock is not held by this thread")]
pub struct NotOwner;

/// The last owner died while it held the lock: what it guards may be half done.
///
/// # Examples
/// ```
/// let lock = procession::Lock::new()?;
/// let guard = lock.acquire().strict()?; // all is well: nobody died
/// # drop(guard);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the last owner died while it held the lock")]
pub struct OwnerDied;
