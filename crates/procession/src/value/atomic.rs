//! Numbers in shared memory that need no lock.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::heap::{Death, HeapError, Object, Shared};
use crate::kinds::Kind;

/// An atomic number as it lies in the heap; the type of the handle says which of the two words it uses.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedAtomic {
    wide: AtomicU64,
    narrow: AtomicU32,
    spare: AtomicU32,
}
const _: () = assert!(size_of::<SharedAtomic>() <= 64);

impl Object for SharedAtomic {
    const KIND: Kind = Kind::Atomic;

    /// Every change is one instruction: there is nothing to recover.
    fn reap(&self, _death: Death) {}
}

macro_rules! atomics {
    ($($name:ident, $label:literal, $int:ty, $raw:ty, $field:ident;)*) => {$(
        #[doc = concat!("A `", stringify!($int), "` in shared memory that any number of processes change without a lock.")]
        ///
        /// All operations are sequentially consistent: they order what was done before and after them between processes, too.
        ///
        /// # Crash safety
        /// Each operation happens whole or not at all.
        ///
        /// # Examples
        /// ```
        #[doc = concat!("let counter = procession::", $label, "::new(1)?;")]
        /// assert_eq!(counter.fetch_add(2), 1);
        /// assert_eq!(counter.load(), 3);
        /// # Ok::<(), procession::HeapError>(())
        /// ```
        pub struct $name {
            shared: Shared<SharedAtomic>,
            _item: (),
        }

        impl $name {
            /// Creates a number.
            ///
            /// # Errors
            /// [`HeapError`] if the family heap cannot be made or is full.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("assert_eq!(procession::", $label, "::new(7)?.load(), 7);")]
            /// # Ok::<(), procession::HeapError>(())
            /// ```
            pub fn new(value: $int) -> Result<Self, HeapError> {
                let shared = Shared::create(|number: &SharedAtomic, _| {
                    number.$field.store(value as $raw, Ordering::SeqCst);
                })?;
                Ok(Self { shared, _item: () })
            }

            /// Reads it.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("assert_eq!(procession::", $label, "::new(7)?.load(), 7);")]
            /// # Ok::<(), procession::HeapError>(())
            /// ```
            #[inline]
            #[must_use]
            pub fn load(&self) -> $int {
                self.shared.$field.load(Ordering::SeqCst) as $int
            }

            /// Writes it.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let number = procession::", $label, "::new(7)?;")]
            /// number.store(8);
            /// assert_eq!(number.load(), 8);
            /// # Ok::<(), procession::HeapError>(())
            /// ```
            #[inline]
            pub fn store(&self, value: $int) {
                self.shared.$field.store(value as $raw, Ordering::SeqCst);
            }

            /// Writes it and returns what it was.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("assert_eq!(procession::", $label, "::new(7)?.swap(8), 7);")]
            /// # Ok::<(), procession::HeapError>(())
            /// ```
            #[inline]
            pub fn swap(&self, value: $int) -> $int {
                self.shared.$field.swap(value as $raw, Ordering::SeqCst) as $int
            }

            /// Writes `new` if it is `current`; what it was is returned, as an error if it was something else.
            ///
            /// # Errors
            /// What it is.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let number = procession::", $label, "::new(7)?;")]
            /// assert_eq!(number.compare_exchange(1, 2), Err(7));
            /// assert_eq!(number.compare_exchange(7, 8), Ok(7));
            /// # Ok::<(), procession::HeapError>(())
            /// ```
            #[inline]
            pub fn compare_exchange(&self, current: $int, new: $int) -> Result<$int, $int> {
                self.shared
                    .$field
                    .compare_exchange(current as $raw, new as $raw, Ordering::SeqCst, Ordering::SeqCst)
                    .map(|was| was as $int)
                    .map_err(|is| is as $int)
            }

            /// Adds, wrapping around; returns what it was.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("assert_eq!(procession::", $label, "::new(7)?.fetch_add(1), 7);")]
            /// # Ok::<(), procession::HeapError>(())
            /// ```
            #[inline]
            pub fn fetch_add(&self, value: $int) -> $int {
                self.shared.$field.fetch_add(value as $raw, Ordering::SeqCst) as $int
            }

            /// Subtracts, wrapping around; returns what it was.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("assert_eq!(procession::", $label, "::new(7)?.fetch_sub(1), 7);")]
            /// # Ok::<(), procession::HeapError>(())
            /// ```
            #[inline]
            pub fn fetch_sub(&self, value: $int) -> $int {
                self.shared.$field.fetch_sub(value as $raw, Ordering::SeqCst) as $int
            }

            /// Raises it to `value` if it is less; returns what it was.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let number = procession::", $label, "::new(7)?;")]
            /// number.fetch_max(9);
            /// assert_eq!(number.load(), 9);
            /// # Ok::<(), procession::HeapError>(())
            /// ```
            pub fn fetch_max(&self, value: $int) -> $int {
                self.fetch_update(|is| is.max(value))
            }

            /// Lowers it to `value` if it is more; returns what it was.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let number = procession::", $label, "::new(7)?;")]
            /// number.fetch_min(5);
            /// assert_eq!(number.load(), 5);
            /// # Ok::<(), procession::HeapError>(())
            /// ```
            pub fn fetch_min(&self, value: $int) -> $int {
                self.fetch_update(|is| is.min(value))
            }

            /// Replaces it by what `change` makes of it; returns what it was. `change` may be called several times.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let number = procession::", $label, "::new(7)?;")]
            /// number.fetch_update(|n| n * 2);
            /// assert_eq!(number.load(), 14);
            /// # Ok::<(), procession::HeapError>(())
            /// ```
            pub fn fetch_update(&self, mut change: impl FnMut($int) -> $int) -> $int {
                let mut seen = self.load();
                loop {
                    match self.compare_exchange(seen, change(seen)) {
                        Ok(was) => return was,
                        Err(now) => seen = now,
                    }
                }
            }
        }

        crate::sync::shared_handle!($name, SharedAtomic, $label);
    )*};
}

atomics! {
    SharedAtomicU64, "SharedAtomicU64", u64, u64, wide;
    SharedAtomicI64, "SharedAtomicI64", i64, u64, wide;
    SharedAtomicU32, "SharedAtomicU32", u32, u32, narrow;
    SharedAtomicI32, "SharedAtomicI32", i32, u32, narrow;
}

/// A truth value in shared memory that any number of processes change without a lock. [`Event`](crate::Event) is one to wait for.
///
/// # Examples
/// ```
/// let stop = procession::SharedAtomicBool::new(false)?;
/// assert!(!stop.swap(true));
/// assert!(stop.load());
/// # Ok::<(), procession::HeapError>(())
/// ```
pub struct SharedAtomicBool {
    shared: Shared<SharedAtomic>,
    _item: (),
}

impl SharedAtomicBool {
    /// Creates one.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert!(procession::SharedAtomicBool::new(true)?.load());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new(value: bool) -> Result<Self, HeapError> {
        let shared = Shared::create(|flag: &SharedAtomic, _| {
            flag.narrow.store(u32::from(value), Ordering::SeqCst);
        })?;
        Ok(Self { shared, _item: () })
    }

    /// Reads it.
    ///
    /// # Examples
    /// ```
    /// assert!(procession::SharedAtomicBool::new(true)?.load());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn load(&self) -> bool {
        self.shared.narrow.load(Ordering::SeqCst) != 0
    }

    /// Writes it.
    ///
    /// # Examples
    /// ```
    /// let flag = procession::SharedAtomicBool::new(false)?;
    /// flag.store(true);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    pub fn store(&self, value: bool) {
        self.shared.narrow.store(u32::from(value), Ordering::SeqCst);
    }

    /// Writes it and returns what it was: whoever gets `false` from `swap(true)` was first.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::SharedAtomicBool::new(false)?.swap(true));
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    pub fn swap(&self, value: bool) -> bool {
        self.shared.narrow.swap(u32::from(value), Ordering::SeqCst) != 0
    }
}

crate::sync::shared_handle!(SharedAtomicBool, SharedAtomic, "SharedAtomicBool");
