//! A value that is set once, by whoever comes first; nobody waits for it.
//!
//! With `OnceLock` all others wait until the first one is done. A fork in the middle leaves it undone in the child, which then waits for ever. Here several may make
//! the value, and one of them is kept.
//!
//! # Safety
//! The pointer is null or comes from `Box::into_raw`, and is written once: what it points to stays until the cell goes.
#![expect(unsafe_code, reason = "a reference behind an atomic pointer")]

use std::fmt;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// See the header.
pub(crate) struct SetOnce<T> {
    value: AtomicPtr<T>,
    _owned: PhantomData<Box<T>>,
}

impl<T: Send + Sync> SetOnce<T> {
    pub(crate) const fn new() -> Self {
        Self {
            value: AtomicPtr::new(null_mut()),
            _owned: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // SAFETY: null, or a value that lives as long as the cell, and is only shared (see the header). Acquire: it is complete.
        unsafe { self.value.load(Ordering::Acquire).as_ref() }
    }

    /// The value; the one that `make` gives if there is none.
    #[inline]
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> T) -> &T {
        match self.get() {
            Some(value) => value,
            None => self.keep(make()),
        }
    }

    /// Keeps `fresh`, unless there is a value already; what is kept.
    #[cold]
    fn keep(&self, fresh: T) -> &T {
        let fresh = Box::into_raw(Box::new(fresh));
        let kept =
            self.value
                .compare_exchange(null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire);
        match kept {
            // SAFETY: it is in the cell now (see the header).
            Ok(_) => unsafe { &*fresh },
            Err(kept) => {
                // SAFETY: it came from `Box::into_raw` just now, and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: it was in the cell, and stays (see the header).
                unsafe { &*kept }
            }
        }
    }
}

impl<T> Drop for SetOnce<T> {
    fn drop(&mut self) {
        let value = *self.value.get_mut();
        if !value.is_null() {
            // SAFETY: it came from `Box::into_raw`, and nobody refers to it: the cell is ours alone.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

impl<T: fmt::Debug + Send + Sync> fmt::Debug for SetOnce<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    #[test]
    fn all_see_the_one_that_is_kept() {
        let cell = SetOnce::<Arc<usize>>::new();
        assert!(cell.get().is_none());
        let all = Barrier::new(4);
        let make = |number| {
            // Nobody waits for anybody who makes one: all do.
            cell.get_or_make(|| {
                all.wait();
                Arc::new(number)
            })
        };
        let seen: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| scope.spawn(move || Arc::clone(make(number))))
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().expect("thread"))
                .collect()
        });
        assert!(seen.iter().all(|value| Arc::ptr_eq(value, &seen[0])));
        let one = Arc::clone(&seen[0]);
        drop(seen);
        drop(cell);
        assert_eq!(Arc::strong_count(&one), 1, "the others are gone");
    }
}
