//! Semaphore: a count of permits.

use super::deadline::{deadline_after, without_deadline};
use super::error::{TimedOut, WouldBlock};
use super::raw::{Deadline, RawSemaphore, SEMAPHORE_MAX};
use crate::family::{Owner, Waiter};
use crate::heap::{Death, HeapError, Object, Shared, me};
use crate::kinds::Kind;
use std::fmt;
use std::time::{Duration, Instant};

/// A semaphore as it lies in the heap, bounded or not.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedSemaphore {
    raw: RawSemaphore,
}
const _: () = assert!(size_of::<SharedSemaphore>() <= 64);

impl Object for SharedSemaphore {
    const KIND: Kind = Kind::Semaphore;

    fn reap(&self, death: Death) {
        self.raw.reap(&Waiter::new(), death.owner);
    }
}

/// Why a semaphore was not created.
///
/// # Examples
/// ```
/// use procession::{NewSemaphoreError, Semaphore};
///
/// let error = Semaphore::new(u32::MAX).expect_err("more than there can be");
/// assert!(matches!(error, NewSemaphoreError::TooLarge { .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NewSemaphoreError {
    /// The first value is above the largest possible one.
    #[error("semaphore cannot start at {value}; the largest value is {largest}")]
    TooLarge {
        /// What was asked for.
        value: u32,
        /// The largest value a semaphore can have.
        largest: u32,
    },
    /// No room in the family heap.
    #[error(transparent)]
    Heap(#[from] HeapError),
}

/// More permits were given back than fit. None was added.
///
/// # Examples
/// ```
/// let semaphore = procession::BoundedSemaphore::new(1)?;
/// assert_eq!(semaphore.release(1), Err(procession::AboveLimit));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("semaphore released too many times")]
pub struct AboveLimit;

/// A counter of permits: taking one waits while there is none.
///
/// Nobody owns a permit: whoever likes may release, so a semaphore serves as a signal, too. For the common case of permits that go back where they came
/// from, [`acquire`](Semaphore::acquire) returns a guard that does so.
///
/// # Crash safety
/// The count is never torn, and no death leaves a waiter asleep beside a permit. Permits that a dead process had taken stay taken, as in
/// POSIX: the heap cannot know whether they were its own or a signal that it consumed.
///
/// # Examples
/// ```
/// let semaphore = procession::Semaphore::new(2)?;
/// let first = semaphore.acquire();
/// let second = semaphore.acquire();
/// assert!(semaphore.try_acquire().is_err());
/// drop(first);
/// assert_eq!(semaphore.value(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.Semaphore`
pub struct Semaphore {
    shared: Shared<SharedSemaphore>,
    _item: (),
}

impl Semaphore {
    /// Creates a semaphore with `value` permits, and no limit but the largest value that fits (2^31 - 1).
    ///
    /// # Errors
    /// [`NewSemaphoreError`].
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Semaphore::new(3)?.value(), 3);
    /// # Ok::<(), procession::NewSemaphoreError>(())
    /// ```
    pub fn new(value: u32) -> Result<Self, NewSemaphoreError> {
        Self::with_limit(value, SEMAPHORE_MAX)
    }

    pub(super) fn with_limit(value: u32, limit: u32) -> Result<Self, NewSemaphoreError> {
        let too_large = NewSemaphoreError::TooLarge {
            value,
            largest: limit.min(SEMAPHORE_MAX),
        };
        if value > limit || limit > SEMAPHORE_MAX {
            return Err(too_large);
        }
        let mut initialised = Ok(());
        let shared = Shared::create(|semaphore: &SharedSemaphore, _| {
            initialised = semaphore.raw.init(value, Some(limit));
        })?;
        initialised
            .map(|()| Self { shared, _item: () })
            .map_err(|_| too_large)
    }

    pub(crate) fn raw(&self) -> &RawSemaphore {
        &self.shared.raw
    }

    /// Takes a permit.
    ///
    /// # Blocking
    /// While there is none.
    ///
    /// # Examples
    /// ```
    /// let semaphore = procession::Semaphore::new(1)?;
    /// let _permit = semaphore.acquire();
    /// assert_eq!(semaphore.value(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn acquire(&self) -> SemaphorePermit<'_> {
        without_deadline(self.shared.raw.acquire(&Waiter::new(), None));
        SemaphorePermit::new(self)
    }

    /// Takes a permit if there is one now.
    ///
    /// # Errors
    /// [`WouldBlock`].
    ///
    /// # Examples
    /// ```
    /// assert!(procession::Semaphore::new(0)?.try_acquire().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, WouldBlock> {
        match self.shared.raw.try_acquire() {
            Ok(()) => Ok(SemaphorePermit::new(self)),
            Err(_) => Err(WouldBlock),
        }
    }

    /// Takes a permit, waiting at most `timeout` for one.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Examples
    /// ```
    /// let semaphore = procession::Semaphore::new(0)?;
    /// assert!(semaphore.acquire_timeout(std::time::Duration::ZERO).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<SemaphorePermit<'_>, TimedOut> {
        self.acquire_until(deadline_after(timeout))
    }

    /// Takes a permit, waiting for one until `deadline`.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Examples
    /// ```
    /// let semaphore = procession::Semaphore::new(1)?;
    /// let _permit = semaphore.acquire_deadline(std::time::Instant::now())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, TimedOut> {
        self.acquire_until(Some(deadline))
    }

    fn acquire_until(&self, deadline: Deadline) -> Result<SemaphorePermit<'_>, TimedOut> {
        match self.shared.raw.acquire(&Waiter::new(), deadline) {
            Ok(()) => Ok(SemaphorePermit::new(self)),
            Err(_) => Err(TimedOut),
        }
    }

    /// Adds `count` permits and wakes as many waiters.
    ///
    /// # Errors
    /// [`AboveLimit`]; then none was added.
    ///
    /// # Examples
    /// ```
    /// let semaphore = procession::Semaphore::new(0)?;
    /// semaphore.release(2)?;
    /// assert_eq!(semaphore.value(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn release(&self, count: u32) -> Result<(), AboveLimit> {
        match self.shared.raw.release(&Waiter::new(), count) {
            Ok(()) => Ok(()),
            Err(_) => Err(AboveLimit),
        }
    }

    /// How many permits there are; out of date as soon as it is read.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Semaphore::new(1)?.value(), 1);
    /// # Ok::<(), procession::NewSemaphoreError>(())
    /// ```
    #[must_use]
    pub fn value(&self) -> u32 {
        self.shared.raw.value()
    }

    /// The most permits there can be.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::BoundedSemaphore::new(3)?.limit(), 3);
    /// # Ok::<(), procession::NewSemaphoreError>(())
    /// ```
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.shared.raw.limit()
    }
}

crate::sync::shared_handle!(Semaphore, SharedSemaphore, "Semaphore");

/// A permit of a [`Semaphore`], given back when it is dropped.
///
/// In a child that was forked meanwhile, the child's copy of it does nothing: the permit is the parent's.
///
/// # Examples
/// ```
/// let semaphore = procession::Semaphore::new(1)?;
/// drop(semaphore.acquire());
/// assert_eq!(semaphore.value(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the permit is given back when it is dropped"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    owner: Owner,
}

impl<'a> SemaphorePermit<'a> {
    #[inline]
    pub(crate) fn new(semaphore: &'a Semaphore) -> Self {
        Self {
            semaphore,
            owner: me(),
        }
    }

    /// Keeps the permit taken: somebody else will [`release`](Semaphore::release) it, or nobody (it was a signal).
    ///
    /// # Examples
    /// ```
    /// let semaphore = procession::Semaphore::new(1)?;
    /// semaphore.acquire().forget();
    /// assert_eq!(semaphore.value(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for SemaphorePermit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.owner == me() {
            // Above the limit: somebody gave back what was ours. There is nothing left to give.
            let _ = self.semaphore.release(1);
        }
    }
}

impl fmt::Debug for SemaphorePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit")
            .field("semaphore", self.semaphore)
            .finish()
    }
}
