//! Value: one piece of plain old data.

use super::body::{self, BodyGuard, HasBody, body_handle, shared_body};
use crate::heap::{Handle, HeapError, Shared};
use crate::sync::{TimedOut, WouldBlock, deadline_after};
use crate::sys::bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes};

shared_body!(
    /// A value as it lies in the heap.
    SharedValue,
    Value
);

/// A piece of plain old data in shared memory, without a lock.
///
/// Values of 1, 2, 4 and 8 bytes are read and written whole; of larger ones a reader may see half of a change. [`Value`] has a lock;
/// [`SharedAtomicU64`](crate::SharedAtomicU64) and its kin count without one.
///
/// # Examples
/// ```
/// let value = procession::RawValue::new(1.5)?;
/// value.set(2.5);
/// assert_eq!(value.get(), 2.5);
/// # Ok::<(), procession::HeapError>(())
/// ```
///
/// # In Python
/// `procession.RawValue`
pub struct RawValue<T> {
    shared: Shared<SharedValue>,
    bytes: Bytes<'static>,
    _item: PhantomData<fn(T) -> T>,
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> RawValue<T> {
    /// Creates a value.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::RawValue::new([1u16, 2, 3])?.get(), [1, 2, 3]);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new(value: T) -> Result<Self, HeapError> {
        let (shared, bytes) = body::create(1, size_of::<T>())?;
        let this = Self {
            shared,
            bytes,
            _item: PhantomData,
        };
        this.set(value);
        Ok(this)
    }

    /// Reads the value.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::RawValue::new(7)?.get(), 7);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    pub fn get(&self) -> T {
        let mut value = T::new_zeroed();
        let read = self.bytes.read(value.as_mut_bytes());
        debug_assert!(read.is_ok());
        value
    }

    /// Writes the value.
    ///
    /// # Examples
    /// ```
    /// let value = procession::RawValue::new(7)?;
    /// value.set(8);
    /// assert_eq!(value.get(), 8);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    pub fn set(&self, value: T) {
        let written = self.bytes.write(value.as_bytes());
        debug_assert!(written.is_ok());
    }
}

body_handle!(RawValue<T>, SharedValue, "RawValue", T);

/// A piece of plain old data in shared memory, with a re-entrant lock.
///
/// Each operation takes the lock for itself; [`Value::lock`] holds it over several, and over a change that depends on the old value.
///
/// # Crash safety
/// If a process dies while it holds the lock, the next one gets it and is told by [`ValueGuard::recovered`]. A value of up to 8 bytes is whole
/// even then.
///
/// # Examples
/// ```
/// let counter = procession::Value::new(0u64)?;
/// counter.update(|n| n + 1);
/// assert_eq!(counter.get(), 1);
/// # Ok::<(), procession::HeapError>(())
/// ```
///
/// # In Python
/// `procession.Value`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Value<T>(RawValue<T>);

impl<T: FromBytes + IntoBytes + Immutable + Copy> Value<T> {
    /// Creates a value.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Value::new(7)?.get(), 7);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new(value: T) -> Result<Self, HeapError> {
        RawValue::new(value).map(Self)
    }

    /// Opens a value by its name, if somebody still holds it.
    ///
    /// # Errors
    /// As [`RawValue::open`].
    ///
    /// # Examples
    /// ```
    /// let value = procession::Value::new(7u32)?;
    /// assert_eq!(procession::Value::<u32>::open(value.handle())?.get(), 7);
    /// assert!(procession::Value::<u64>::open(value.handle()).is_err());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn open(handle: Handle) -> Result<Self, HeapError> {
        RawValue::open(handle).map(Self)
    }

    /// The name of this value, to be sent by other means than a message. A name alone holds nothing.
    ///
    /// # Examples
    /// ```
    /// let value = procession::Value::new(7)?;
    /// assert_eq!(value.handle(), value.clone().handle());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// Reads the value.
    ///
    /// # Blocking
    /// While another thread or process holds the lock, as all that follow.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Value::new(7)?.get(), 7);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn get(&self) -> T {
        self.lock().get()
    }

    /// Writes the value.
    ///
    /// # Examples
    /// ```
    /// let value = procession::Value::new(7)?;
    /// value.set(8);
    /// assert_eq!(value.get(), 8);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn set(&self, value: T) {
        self.lock().set(value);
    }

    /// Replaces the value by what `change` makes of it, which is returned.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Value::new(7)?.update(|n| n * 2), 14);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn update(&self, change: impl FnOnce(T) -> T) -> T {
        self.lock().update(change)
    }

    /// Takes the lock, once more if this thread has it already.
    ///
    /// # Examples
    /// ```
    /// let value = procession::Value::new(7)?;
    /// let guard = value.lock();
    /// guard.set(guard.get() + 1);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn lock(&self) -> ValueGuard<'_, T> {
        self.guard(self.0.shared.body().lock())
    }

    /// Takes the lock if it is free or this thread's own.
    ///
    /// # Errors
    /// [`WouldBlock`].
    ///
    /// # Examples
    /// ```
    /// assert!(procession::Value::new(7)?.try_lock().is_ok());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn try_lock(&self) -> Result<ValueGuard<'_, T>, WouldBlock> {
        Ok(self.guard(self.0.shared.body().try_lock()?))
    }

    /// Takes the lock, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Examples
    /// ```
    /// assert!(procession::Value::new(7)?.lock_timeout(std::time::Duration::MAX).is_ok());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ValueGuard<'_, T>, TimedOut> {
        let deadline = deadline_after(timeout);
        Ok(self.guard(self.0.shared.body().lock_until(deadline)?))
    }

    fn guard<'a>(&'a self, guard: BodyGuard<'a>) -> ValueGuard<'a, T> {
        ValueGuard {
            value: &self.0,
            guard,
        }
    }
}

/// Possession of a [`Value`]'s lock; through it, the value without locking again.
///
/// # Examples
/// ```
/// let value = procession::Value::new(7)?;
/// let guard = value.lock();
/// assert_eq!(guard.get(), 7);
/// # Ok::<(), procession::HeapError>(())
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct ValueGuard<'a, T> {
    value: &'a RawValue<T>,
    guard: BodyGuard<'a>,
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> ValueGuard<'_, T> {
    /// Replaces the value by what `change` makes of it, which is returned.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Value::new(7)?.lock().update(|n| n + 1), 8);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn update(&self, change: impl FnOnce(T) -> T) -> T {
        let value = change(self.value.get());
        self.value.set(value);
        value
    }
}

impl<T> ValueGuard<'_, T> {
    /// Whether the owner before us died in possession: a large value may be half written.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::Value::new(7)?.lock().recovered());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.guard.recovered
    }
}

impl<T> Deref for ValueGuard<'_, T> {
    type Target = RawValue<T>;

    fn deref(&self) -> &RawValue<T> {
        self.value
    }
}

impl<T> fmt::Debug for ValueGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueGuard")
            .field("value", self.value)
            .field("recovered", &self.guard.recovered)
            .finish()
    }
}
