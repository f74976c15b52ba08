//! One plain value in memory that a process and its forked children share.
//!
//! # Safety
//! The mapping is as long as `T` at least, page-aligned, zeroed (a valid `T`: `FromZeros`), and lives until
//! `drop`. `T: Sync` says that it may be used through `&T` from several threads, which is all that several
//! processes add to, as long as it holds no pointers: give it atomics.
#![expect(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use zerocopy::FromZeros;

use super::os;

/// A zeroed `T`, shared with every child forked from now on.
pub(crate) struct Shared<T: FromZeros + Sync> {
    at: NonNull<u8>,
    value: PhantomData<T>,
}

impl<T: FromZeros + Sync> Shared<T> {
    const LEN: usize = if size_of::<T>() == 0 {
        1
    } else {
        size_of::<T>()
    };

    /// Maps a new one.
    pub(crate) fn new() -> Self {
        assert!(
            align_of::<T>() <= 4096,
            "a page is the largest alignment there is"
        );
        let at = os::map_shared(Self::LEN).expect("map shared memory for a test");
        Self {
            at,
            value: PhantomData,
        }
    }
}

impl<T: FromZeros + Sync> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped, aligned, initialised and long enough, see the header; only `&T` is ever given out.
        unsafe { self.at.cast().as_ref() }
    }
}

impl<T: FromZeros + Sync> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: borrows end before drop, and LEN is what `new` mapped.
        unsafe { os::unmap_shared(self.at, Self::LEN) };
    }
}
