//! RLock: a lock that its holder may take again.

use super::deadline::deadline_after;
use super::error::{NotOwner, OwnerDied, TimedOut, WouldBlock};
use super::raw::{Acquired, Deadline, RLockError, RLockTryError, RawRLock};
use super::thread::this_thread;
use crate::family::{Owner, Waiter};
use crate::heap::{Death, HeapError, Object, Shared};
use crate::kinds::Kind;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// A re-entrant lock as it lies in the heap.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedRLock {
    pub(crate) raw: RawRLock,
}
const _: () = assert!(size_of::<SharedRLock>() <= 64);

impl Object for SharedRLock {
    const KIND: Kind = Kind::RLock;

    fn reap(&self, death: Death) {
        self.raw.reap(&Waiter::new(), death.owner);
    }
}

/// What cannot happen by honest nesting: each level costs stack.
pub(super) const TOO_DEEP: &str = "a thread took a re-entrant lock 2^32-1 times";

/// A lock that belongs to one thread of one process, which may take it again and must release it as often.
///
/// # Crash safety
/// As [`Lock`](crate::Lock): if the holder's process dies, the next one gets the lock and is told by [`RLockGuard::recovered`].
///
/// # Examples
/// ```
/// let lock = procession::RLock::new()?;
/// let outer = lock.acquire();
/// let inner = lock.acquire();
/// drop((outer, inner));
/// assert!(!lock.is_locked());
/// # Ok::<(), procession::HeapError>(())
/// ```
///
/// # In Python
/// `procession.RLock`
pub struct RLock {
    shared: Shared<SharedRLock>,
    _item: (),
}

impl RLock {
    /// Creates a free lock.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// assert!(!lock.is_locked());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new() -> Result<Self, HeapError> {
        let shared = Shared::create(|_: &SharedRLock, _| ())?;
        Ok(Self { shared, _item: () })
    }

    pub(super) fn raw(&self) -> &RawRLock {
        &self.shared.raw
    }

    /// Takes the lock, once more if this thread has it already.
    ///
    /// # Blocking
    /// While another thread or process that is alive holds it.
    ///
    /// # Panics
    /// If this thread has taken it 2^32-1 times already.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// let _guard = lock.acquire();
    /// assert!(lock.is_held());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    pub fn acquire(&self) -> RLockGuard<'_> {
        match self.shared.raw.acquire(&Waiter::new(), this_thread(), None) {
            Ok(acquired) => RLockGuard::new(self, acquired),
            Err(_) => panic!("{TOO_DEEP}"),
        }
    }

    /// Takes the lock if it is free or this thread's own.
    ///
    /// # Errors
    /// [`WouldBlock`].
    ///
    /// # Panics
    /// As [`RLock::acquire`].
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// let _guard = lock.acquire();
    /// assert!(lock.try_acquire().is_ok(), "it is ours");
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<RLockGuard<'_>, WouldBlock> {
        match self.shared.raw.try_acquire(&Waiter::new(), this_thread()) {
            Ok(acquired) => Ok(RLockGuard::new(self, acquired)),
            Err(RLockTryError::WouldBlock) => Err(WouldBlock),
            Err(RLockTryError::Overflow) => panic!("{TOO_DEEP}"),
        }
    }

    /// Takes the lock, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Panics
    /// As [`RLock::acquire`].
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// let _guard = lock.acquire_timeout(std::time::Duration::ZERO)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<RLockGuard<'_>, TimedOut> {
        self.acquire_until(deadline_after(timeout))
    }

    /// Takes the lock, waiting until `deadline`.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Panics
    /// As [`RLock::acquire`].
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// let _guard = lock.acquire_deadline(std::time::Instant::now())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<RLockGuard<'_>, TimedOut> {
        self.acquire_until(Some(deadline))
    }

    fn acquire_until(&self, deadline: Deadline) -> Result<RLockGuard<'_>, TimedOut> {
        let port = Waiter::new();
        match self.shared.raw.acquire(&port, this_thread(), deadline) {
            Ok(acquired) => Ok(RLockGuard::new(self, acquired)),
            Err(RLockError::TimedOut) => Err(TimedOut),
            Err(RLockError::Overflow) => panic!("{TOO_DEEP}"),
        }
    }

    /// Undoes one acquisition of this thread that has no guard ([`RLockGuard::into_held`]).
    ///
    /// # Errors
    /// [`NotOwner`] if this thread does not hold the lock.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// lock.acquire().into_held();
    /// lock.release()?;
    /// assert!(!lock.is_locked());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn release(&self) -> Result<(), NotOwner> {
        match self.shared.raw.release(&Waiter::new(), this_thread()) {
            Ok(()) => Ok(()),
            Err(_) => Err(NotOwner),
        }
    }

    /// Whether anybody holds the lock; out of date as soon as it is read.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::RLock::new()?.is_locked());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.owner().is_some()
    }

    /// Whether the calling thread holds the lock.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// let _guard = lock.acquire();
    /// assert!(lock.is_held());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.shared.raw.is_held_by(&Waiter::new(), this_thread())
    }

    /// Whether some thread of this process holds the lock; out of date as soon as it is read.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// let _guard = lock.acquire();
    /// let elsewhere = || assert!(lock.is_held_here() && !lock.is_held());
    /// std::thread::scope(|scope| scope.spawn(elsewhere).join()).unwrap();
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn is_held_here(&self) -> bool {
        self.owner() == Some(crate::heap::me())
    }

    /// How often the calling thread must still release the lock.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// let _guards = (lock.acquire(), lock.acquire());
    /// assert_eq!(lock.depth(), 2);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.shared.raw.depth(&Waiter::new(), this_thread())
    }

    /// Which participant holds the lock; out of date as soon as it is read.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::RLock::new()?.owner(), None);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.shared.raw.owner()
    }
}

crate::sync::shared_handle!(RLock, SharedRLock, "RLock");

/// One acquisition of an [`RLock`], until it is dropped. It stays in the thread that made it.
///
/// # Examples
/// ```
/// let lock = procession::RLock::new()?;
/// drop(lock.acquire());
/// assert!(!lock.is_locked());
/// # Ok::<(), procession::HeapError>(())
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct RLockGuard<'a> {
    lock: &'a RLock,
    recovered: bool,
    _in_this_thread: PhantomData<*const ()>,
}

impl<'a> RLockGuard<'a> {
    #[inline]
    fn new(lock: &'a RLock, acquired: Acquired) -> Self {
        Self {
            lock,
            recovered: acquired.recovered,
            _in_this_thread: PhantomData,
        }
    }

    pub(super) fn lock(&self) -> &RLock {
        self.lock
    }

    pub(super) fn note_recovery(&mut self, recovered: bool) {
        self.recovered |= recovered;
    }

    /// Whether the owner before us died in possession: what the lock guards may be half done.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::RLock::new()?.acquire().recovered());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Insists that the owner before us did not die in possession; see [`LockGuard::strict`](crate::LockGuard::strict).
    ///
    /// # Errors
    /// [`OwnerDied`]; the lock has been given back.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// let _guard = lock.acquire().strict()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn strict(self) -> Result<Self, OwnerDied> {
        if !self.recovered {
            return Ok(self);
        }
        self.lock.raw().abandon(&Waiter::new(), this_thread());
        std::mem::forget(self);
        Err(OwnerDied)
    }

    /// Keeps this acquisition without a guard, until this thread calls [`RLock::release`] or the process ends.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// lock.acquire().into_held();
    /// assert!(lock.is_held());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn into_held(self) {
        std::mem::forget(self);
    }
}

impl Drop for RLockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // In a forked child it is not ours, which the lock itself knows.
        let _ = self.lock.release();
    }
}

impl fmt::Debug for RLockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLockGuard")
            .field("lock", self.lock)
            .field("recovered", &self.recovered)
            .finish()
    }
}
