//! Array: a fixed number of pieces of plain old data.

use super::body::{self, BodyGuard, HasBody, OutOfBounds, body_handle, shared_body};
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
    /// An array as it lies in the heap.
    SharedArray,
    Array
);

/// A fixed number of items of plain old data in shared memory, without a lock.
///
/// Items of 1, 2, 4 and 8 bytes are read and written whole; of larger ones, and of ranges, a reader may see half of a change.
///
/// # Examples
/// ```
/// let array = procession::RawArray::from_slice(&[1, 2, 3])?;
/// array.set(1, 20)?;
/// assert_eq!(array.to_vec(), [1, 20, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.RawArray`
pub struct RawArray<T> {
    shared: Shared<SharedArray>,
    bytes: Bytes<'static>,
    _item: PhantomData<fn(T) -> T>,
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> RawArray<T> {
    /// Creates an array of `len` items, all zero.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::RawArray::<u32>::zeroed(1000)?.len(), 1000);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn zeroed(len: usize) -> Result<Self, HeapError> {
        const { assert!(size_of::<T>() != 0, "items have at least one byte") };
        let (shared, bytes) = body::create(len, size_of::<T>())?;
        Ok(Self {
            shared,
            bytes,
            _item: PhantomData,
        })
    }

    /// Creates an array with a copy of `items`.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::RawArray::from_slice(&[1.0, 2.0])?.get(1)?, 2.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_slice(items: &[T]) -> Result<Self, HeapError> {
        let this = Self::zeroed(items.len())?;
        let written = this.bytes.write(items.as_bytes());
        debug_assert!(written.is_ok());
        Ok(this)
    }

    fn part(&self, at: usize, len: usize) -> Result<Bytes<'static>, OutOfBounds> {
        let outside = OutOfBounds {
            index: at.saturating_add(len.saturating_sub(1)).max(self.len()),
            len: self.len(),
        };
        let first = at.checked_mul(size_of::<T>()).ok_or(outside)?;
        let bytes = len.checked_mul(size_of::<T>()).ok_or(outside)?;
        self.bytes.part(first, bytes).map_err(|_| outside)
    }

    /// Reads one item.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::RawArray::from_slice(&[1, 2])?.get(1)?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn get(&self, index: usize) -> Result<T, OutOfBounds> {
        let mut item = T::new_zeroed();
        let read = self.part(index, 1)?.read(item.as_mut_bytes());
        debug_assert!(read.is_ok());
        Ok(item)
    }

    /// Writes one item.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    ///
    /// # Examples
    /// ```
    /// assert!(procession::RawArray::from_slice(&[1, 2])?.set(2, 3).is_err());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    pub fn set(&self, index: usize, item: T) -> Result<(), OutOfBounds> {
        let written = self.part(index, 1)?.write(item.as_bytes());
        debug_assert!(written.is_ok());
        Ok(())
    }

    /// Copies the items from `start` on into a slice, as many as it has.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    ///
    /// # Examples
    /// ```
    /// let mut last_two = [0; 2];
    /// procession::RawArray::from_slice(&[1, 2, 3])?.read_into(1, &mut last_two)?;
    /// assert_eq!(last_two, [2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_into(&self, start: usize, items: &mut [T]) -> Result<(), OutOfBounds> {
        let read = self.part(start, items.len())?.read(items.as_mut_bytes());
        debug_assert!(read.is_ok());
        Ok(())
    }

    /// Writes a slice over the items from `start` on.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    ///
    /// # Examples
    /// ```
    /// let array = procession::RawArray::from_slice(&[1, 2, 3])?;
    /// array.write_from(1, &[20, 30])?;
    /// assert_eq!(array.to_vec(), [1, 20, 30]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_from(&self, start: usize, items: &[T]) -> Result<(), OutOfBounds> {
        let written = self.part(start, items.len())?.write(items.as_bytes());
        debug_assert!(written.is_ok());
        Ok(())
    }

    /// A copy of all items.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::RawArray::from_slice(&[1, 2])?.to_vec(), [1, 2]);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        let mut items = vec![T::new_zeroed(); self.len()];
        let read = self.bytes.read(items.as_mut_bytes());
        debug_assert!(read.is_ok());
        items
    }

    /// Iterates over the items, reading each when its turn comes.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::RawArray::from_slice(&[1, 2])?.iter().sum::<i32>(), 3);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len()).map_while(|index| self.get(index).ok())
    }

    /// How many items there are.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::RawArray::from_slice(&[1, 2])?.len(), 2);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / size_of::<T>()
    }

    /// Whether there are none.
    ///
    /// # Examples
    /// ```
    /// assert!(procession::RawArray::<u8>::zeroed(0)?.is_empty());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == 0
    }
}

body_handle!(RawArray<T>, SharedArray, "RawArray", T);

/// A fixed number of items of plain old data in shared memory, with a re-entrant lock.
///
/// Each operation takes the lock for itself; [`Array::lock`] holds it over several and gives access to all that [`RawArray`] can do.
///
/// # Crash safety
/// If a process dies while it holds the lock, the next one gets it and is told by [`ArrayGuard::recovered`].
///
/// # Examples
/// ```
/// let array = procession::Array::from_slice(&[1, 2, 3])?;
/// let guard = array.lock();
/// guard.set(0, guard.get(0)? + guard.get(2)?)?;
/// drop(guard);
/// assert_eq!(array.to_vec(), [4, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.Array`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Array<T>(RawArray<T>);

impl<T: FromBytes + IntoBytes + Immutable + Copy> Array<T> {
    /// Creates an array of `len` items, all zero.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Array::<u64>::zeroed(3)?.to_vec(), [0, 0, 0]);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn zeroed(len: usize) -> Result<Self, HeapError> {
        RawArray::zeroed(len).map(Self)
    }

    /// Creates an array with a copy of `items`.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Array::from_slice(b"abc")?.get(0)?, b'a');
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_slice(items: &[T]) -> Result<Self, HeapError> {
        RawArray::from_slice(items).map(Self)
    }

    /// Opens an array by its name, if somebody still holds it.
    ///
    /// # Errors
    /// As [`RawArray::open`].
    ///
    /// # Examples
    /// ```
    /// let array = procession::Array::from_slice(b"abc")?;
    /// assert_eq!(procession::Array::<u8>::open(array.handle())?.len(), 3);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn open(handle: Handle) -> Result<Self, HeapError> {
        RawArray::open(handle).map(Self)
    }

    /// The name of this array, to be sent by other means than a message. A name alone holds nothing.
    ///
    /// # Examples
    /// ```
    /// let array = procession::Array::from_slice(b"abc")?;
    /// assert_eq!(array.handle(), array.clone().handle());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// Reads one item.
    ///
    /// # Blocking
    /// While another thread or process holds the lock, as all that follow.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Array::from_slice(&[1, 2])?.get(1)?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get(&self, index: usize) -> Result<T, OutOfBounds> {
        self.lock().get(index)
    }

    /// Writes one item.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    ///
    /// # Examples
    /// ```
    /// procession::Array::from_slice(&[1, 2])?.set(1, 3)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&self, index: usize, item: T) -> Result<(), OutOfBounds> {
        self.lock().set(index, item)
    }

    /// Copies the items from `start` on into a slice, as many as it has.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    ///
    /// # Examples
    /// ```
    /// let mut all = [0; 2];
    /// procession::Array::from_slice(&[1, 2])?.read_into(0, &mut all)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_into(&self, start: usize, items: &mut [T]) -> Result<(), OutOfBounds> {
        self.lock().read_into(start, items)
    }

    /// Writes a slice over the items from `start` on.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    ///
    /// # Examples
    /// ```
    /// assert!(procession::Array::from_slice(&[1, 2])?.write_from(1, &[3, 4]).is_err());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn write_from(&self, start: usize, items: &[T]) -> Result<(), OutOfBounds> {
        self.lock().write_from(start, items)
    }

    /// A copy of all items, as they were at one moment.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Array::from_slice(&[1, 2])?.to_vec(), [1, 2]);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        self.lock().to_vec()
    }

    /// How many items there are.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Array::from_slice(&[1, 2])?.len(), 2);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::Array::from_slice(&[1, 2])?.is_empty());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the lock, once more if this thread has it already.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Array::from_slice(&[1, 2])?.lock().iter().max(), Some(2));
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn lock(&self) -> ArrayGuard<'_, T> {
        self.guard(self.0.shared.body().lock())
    }

    /// Takes the lock if it is free or this thread's own.
    ///
    /// # Errors
    /// [`WouldBlock`].
    ///
    /// # Examples
    /// ```
    /// assert!(procession::Array::from_slice(&[1, 2])?.try_lock().is_ok());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn try_lock(&self) -> Result<ArrayGuard<'_, T>, WouldBlock> {
        Ok(self.guard(self.0.shared.body().try_lock()?))
    }

    /// Takes the lock, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Examples
    /// ```
    /// assert!(procession::Array::from_slice(&[1])?.lock_timeout(std::time::Duration::ZERO).is_ok());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ArrayGuard<'_, T>, TimedOut> {
        let deadline = deadline_after(timeout);
        Ok(self.guard(self.0.shared.body().lock_until(deadline)?))
    }

    fn guard<'a>(&'a self, guard: BodyGuard<'a>) -> ArrayGuard<'a, T> {
        ArrayGuard {
            array: &self.0,
            guard,
        }
    }
}

/// Possession of an [`Array`]'s lock; through it, the items without locking again.
///
/// # Examples
/// ```
/// let array = procession::Array::from_slice(&[1, 2])?;
/// assert_eq!(array.lock().update(0, |n| n + 1)?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct ArrayGuard<'a, T> {
    array: &'a RawArray<T>,
    guard: BodyGuard<'a>,
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> ArrayGuard<'_, T> {
    /// Replaces one item by what `change` makes of it, which is returned.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    ///
    /// # Examples
    /// ```
    /// assert!(procession::Array::from_slice(&[1])?.lock().update(1, |n| n + 1).is_err());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn update(&self, index: usize, change: impl FnOnce(T) -> T) -> Result<T, OutOfBounds> {
        let item = change(self.array.get(index)?);
        self.array.set(index, item)?;
        Ok(item)
    }
}

impl<T> ArrayGuard<'_, T> {
    /// Whether the owner before us died in possession: what it wrote may be half done.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::Array::from_slice(&[1])?.lock().recovered());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.guard.recovered
    }
}

impl<T> Deref for ArrayGuard<'_, T> {
    type Target = RawArray<T>;

    fn deref(&self) -> &RawArray<T> {
        self.array
    }
}

impl<T> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayGuard")
            .field("array", self.array)
            .field("recovered", &self.guard.recovered)
            .finish()
    }
}
