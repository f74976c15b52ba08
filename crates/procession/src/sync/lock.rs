//! Lock: mutual exclusion between all processes of the family.

use super::deadline::{deadline_after, without_deadline};
use super::error::{NotHeld, OwnerDied, TimedOut, WouldBlock};
use super::raw::{Acquired, Deadline, RawLock};
use crate::family::{Owner, Waiter};
use crate::heap::{Death, HeapError, Object, Shared, me};
use crate::kinds::Kind;
use std::fmt;
use std::time::{Duration, Instant};

/// A lock as it lies in the heap: one granule, of which it needs four bytes.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedLock {
    pub(crate) raw: RawLock,
}
const _: () = assert!(size_of::<SharedLock>() <= 64);

impl Object for SharedLock {
    const KIND: Kind = Kind::Lock;

    fn reap(&self, death: Death) {
        self.raw.reap(&Waiter::new(), death.owner);
    }
}

/// A lock that one thread of one process holds at a time.
///
/// It guards no data of its own, like `multiprocessing.Lock`: see [`Value`](crate::Value) and [`Array`](crate::Array) for data with a
/// lock. It belongs to the process that took it, not to the thread: any thread of any process may release it. It is not
/// re-entrant ([`RLock`](crate::RLock) is). A handle is a few words; clone it, send it, pass it to a child.
///
/// A lock needs 64 bytes of the heap, no file descriptor and no thread; there can be millions.
///
/// # Crash safety
/// If a process dies in possession, the next one gets the lock and is told by [`LockGuard::recovered`]; [`LockGuard::strict`]
/// makes that an error. If the last *waiter* that was woken dies, the next is woken: no death can wedge a lock.
///
/// # Examples
/// ```
/// let lock = procession::Lock::new()?;
/// {
///     let _guard = lock.acquire();
///     assert!(lock.try_acquire().is_err());
/// }
/// assert!(lock.try_acquire().is_ok());
/// # Ok::<(), procession::HeapError>(())
/// ```
///
/// # In Python
/// `procession.Lock`
pub struct Lock {
    shared: Shared<SharedLock>,
    _item: (),
}

impl Lock {
    /// Creates a free lock.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// assert!(!lock.is_locked());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new() -> Result<Self, HeapError> {
        let shared = Shared::create(|_: &SharedLock, _| ())?;
        Ok(Self { shared, _item: () })
    }

    pub(crate) fn raw(&self) -> &RawLock {
        &self.shared.raw
    }

    /// Takes the lock.
    ///
    /// # Blocking
    /// While somebody alive holds it; for ever if that is the calling thread itself.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// let guard = lock.acquire();
    /// assert!(lock.is_locked() && !guard.recovered());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    pub fn acquire(&self) -> LockGuard<'_> {
        let acquired = without_deadline(self.shared.raw.acquire(&Waiter::new(), None));
        LockGuard::new(self, acquired)
    }

    /// Takes the lock if it is free now.
    ///
    /// # Errors
    /// [`WouldBlock`] if somebody holds it, dead or alive: only a waiter asks which.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// let guard = lock.try_acquire()?;
    /// assert!(lock.try_acquire().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<LockGuard<'_>, WouldBlock> {
        match self.shared.raw.try_acquire(&Waiter::new()) {
            Ok(acquired) => Ok(LockGuard::new(self, acquired)),
            Err(_) => Err(WouldBlock),
        }
    }

    /// Takes the lock, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let lock = procession::Lock::new()?;
    /// let guard = lock.acquire_timeout(Duration::MAX)?;
    /// assert!(lock.acquire_timeout(Duration::from_millis(1)).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, TimedOut> {
        self.acquire_until(deadline_after(timeout))
    }

    /// Takes the lock, waiting until `deadline`.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// let _guard = lock.acquire_deadline(std::time::Instant::now())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<LockGuard<'_>, TimedOut> {
        self.acquire_until(Some(deadline))
    }

    fn acquire_until(&self, deadline: Deadline) -> Result<LockGuard<'_>, TimedOut> {
        match self.shared.raw.acquire(&Waiter::new(), deadline) {
            Ok(acquired) => Ok(LockGuard::new(self, acquired)),
            Err(_) => Err(TimedOut),
        }
    }

    /// Frees the lock, whoever holds it: the counterpart of [`LockGuard::into_held`].
    ///
    /// # Errors
    /// [`NotHeld`] if nobody does.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// lock.acquire().into_held();
    /// let elsewhere = lock.clone();
    /// std::thread::spawn(move || elsewhere.release()).join().unwrap()?;
    /// assert!(!lock.is_locked());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn release(&self) -> Result<(), NotHeld> {
        match self.shared.raw.release(&Waiter::new()) {
            Ok(()) => Ok(()),
            Err(_) => Err(NotHeld),
        }
    }

    /// Whether somebody holds the lock; out of date as soon as it is read.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::Lock::new()?.is_locked());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.owner().is_some()
    }

    /// Whether this process holds the lock; out of date as soon as it is read, if other threads may release it.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// let _guard = lock.acquire();
    /// assert!(lock.is_held());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.owner() == Some(me())
    }

    /// Which participant holds the lock; out of date as soon as it is read.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// assert_eq!(lock.owner(), None);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.shared.raw.owner()
    }
}

crate::sync::shared_handle!(Lock, SharedLock, "Lock");

/// Possession of a [`Lock`], until it is dropped.
///
/// In a child that was forked while its parent held the lock, the child's copy of the guard does nothing: the lock is the parent's.
///
/// # Examples
/// ```
/// let lock = procession::Lock::new()?;
/// let guard = lock.acquire();
/// drop(guard);
/// assert!(!lock.is_locked());
/// # Ok::<(), procession::HeapError>(())
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    owner: Owner,
    recovered: bool,
}

impl<'a> LockGuard<'a> {
    #[inline]
    pub(crate) fn new(lock: &'a Lock, acquired: Acquired) -> Self {
        Self {
            lock,
            owner: me(),
            recovered: acquired.recovered,
        }
    }

    pub(crate) fn lock(&self) -> &'a Lock {
        self.lock
    }

    pub(crate) fn note_recovery(&mut self, recovered: bool) {
        self.recovered |= recovered;
    }

    /// Whether the owner before us died in possession: what the lock guards may be half done.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::Lock::new()?.acquire().recovered());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Insists that the owner before us did not die in possession.
    ///
    /// Strictness belongs to the acquisition, not to the lock: a strict acquirer that is refused gives the lock back *with the mark*, so
    /// every other strict one is refused too, until somebody who can repair takes it without `strict` and so removes the mark.
    ///
    /// # Errors
    /// [`OwnerDied`]; the lock has been given back.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// let _guard = lock.acquire().strict()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `Lock(strict=True)`
    pub fn strict(self) -> Result<Self, OwnerDied> {
        if !self.recovered {
            return Ok(self);
        }
        // As if we had died, too.
        self.lock.raw().reap(&Waiter::new(), self.owner);
        std::mem::forget(self);
        Err(OwnerDied)
    }

    /// Keeps the lock held without a guard, until somebody calls [`Lock::release`] or this process ends.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// lock.acquire().into_held();
    /// assert!(lock.is_locked());
    /// lock.release()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_held(self) {
        std::mem::forget(self);
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Not in a forked child, and not what somebody else took after it had been released over our head.
        if self.owner == me() {
            self.lock.raw().release_own(&Waiter::new(), self.owner);
        }
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("lock", self.lock)
            .field("recovered", &self.recovered)
            .finish()
    }
}
