//! Bytes that several processes read and write at the same time.
#![expect(unsafe_code, reason = "atomic access to mapped bytes")]
//!
//! Copied piece by piece with relaxed atomics, each piece the largest aligned power of two (at most 8 bytes) that fits: an aligned item of 1, 2, 4 or 8
//! bytes is never torn, and nothing here is a data race. What is larger can be torn; that is what the locks are for.
//!
//! # Safety
//! [`Shared bytes`](Bytes) are in a mapping that covers them for as long as the value lives, which whoever makes one promises. No Rust reference to
//! plain data in them exists elsewhere.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// A range of shared bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    data: NonNull<u8>,
    len: usize,
    _mapped: PhantomData<&'a [AtomicU8]>,
}

// SAFETY: access is by atomics only.
unsafe impl Send for Bytes<'_> {}
// SAFETY: as above.
unsafe impl Sync for Bytes<'_> {}

/// A range that does not lie inside the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfRange;

impl<'a> Bytes<'a> {
    /// # Safety
    /// `len` bytes at `data` are mapped, readable and writable, for `'a`, and are accessed by atomics or raw copies only.
    pub(crate) const unsafe fn new(data: NonNull<u8>, len: usize) -> Self {
        Self {
            data,
            len,
            _mapped: PhantomData,
        }
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The part from `at` on, `len` bytes long.
    #[inline]
    pub(crate) fn part(self, at: usize, len: usize) -> Result<Self, OutOfRange> {
        let end = at.checked_add(len).ok_or(OutOfRange)?;
        if end > self.len {
            return Err(OutOfRange);
        }
        // SAFETY: `at <= self.len`, so this is inside the range or one past its end.
        let data = unsafe { self.data.add(at) };
        Ok(Self { data, len, ..self })
    }

    /// Copies everything out; the lengths must be equal.
    #[inline]
    pub(crate) fn read(self, into: &mut [u8]) -> Result<(), OutOfRange> {
        if into.len() != self.len {
            return Err(OutOfRange);
        }
        let mut at = 0;
        while at < self.len {
            let target = &mut into[at..];
            at += match self.piece(at) {
                8 => {
                    let words = self.words(at);
                    for (target, word) in target.chunks_exact_mut(8).zip(words) {
                        target.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
                    }
                    words.len() * 8
                }
                4 => {
                    let word = self.atomic::<AtomicU32>(at).load(Relaxed);
                    target[..4].copy_from_slice(&word.to_ne_bytes());
                    4
                }
                2 => {
                    let word = self.atomic::<AtomicU16>(at).load(Relaxed);
                    target[..2].copy_from_slice(&word.to_ne_bytes());
                    2
                }
                _ => {
                    target[0] = self.atomic::<AtomicU8>(at).load(Relaxed);
                    1
                }
            };
        }
        Ok(())
    }

    /// Copies everything in; the lengths must be equal.
    #[inline]
    pub(crate) fn write(self, from: &[u8]) -> Result<(), OutOfRange> {
        if from.len() != self.len {
            return Err(OutOfRange);
        }
        let mut at = 0;
        while at < self.len {
            let source = &from[at..];
            at += match self.piece(at) {
                8 => {
                    let words = self.words(at);
                    for (source, word) in source.chunks_exact(8).zip(words) {
                        word.store(u64::from_ne_bytes(array(source)), Relaxed);
                    }
                    words.len() * 8
                }
                4 => {
                    let word = u32::from_ne_bytes(array(&source[..4]));
                    self.atomic::<AtomicU32>(at).store(word, Relaxed);
                    4
                }
                2 => {
                    let word = u16::from_ne_bytes(array(&source[..2]));
                    self.atomic::<AtomicU16>(at).store(word, Relaxed);
                    2
                }
                _ => {
                    self.atomic::<AtomicU8>(at).store(source[0], Relaxed);
                    1
                }
            };
        }
        Ok(())
    }

    /// Sets every byte to `byte`.
    pub(crate) fn fill(self, byte: u8) {
        for cell in self.cells() {
            cell.store(byte, Relaxed);
        }
    }

    /// The bytes, one by one.
    pub(crate) fn cells(self) -> &'a [AtomicU8] {
        // SAFETY: as promised to `new`; any byte is an AtomicU8.
        unsafe { std::slice::from_raw_parts(self.data.cast().as_ptr(), self.len) }
    }

    /// The word at the beginning of an aligned range of 8 bytes or more.
    pub(crate) fn word(self, at: usize) -> Result<&'a AtomicU64, OutOfRange> {
        let part = self.part(at, 8)?;
        if part.piece(0) != 8 {
            return Err(OutOfRange);
        }
        Ok(part.atomic::<AtomicU64>(0))
    }

    /// All whole words from `at` on, which is aligned and has at least one (`piece(at) == 8`).
    #[inline]
    fn words(self, at: usize) -> &'a [AtomicU64] {
        debug_assert!(self.piece(at) == 8);
        // SAFETY: `at` is inside the range.
        let first = unsafe { self.data.add(at) }.cast::<AtomicU64>();
        // SAFETY: `at` is aligned and so many words fit between it and the end of the mapped range; any bytes are an AtomicU64.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), (self.len - at) / 8) }
    }

    /// The size of the largest piece that can be accessed at `at`.
    #[inline]
    fn piece(self, at: usize) -> usize {
        let left = self.len - at;
        let address = self.data.as_ptr() as usize + at;
        let aligned = 1 << address.trailing_zeros().min(3);
        if left >= aligned {
            aligned
        } else {
            1 << left.ilog2()
        }
    }

    #[inline]
    fn atomic<T>(self, at: usize) -> &'a T {
        debug_assert!(at + size_of::<T>() <= self.len);
        // SAFETY: callers pass a position inside the range.
        let place = unsafe { self.data.add(at) }.cast::<T>();
        debug_assert!(place.is_aligned());
        // SAFETY: inside the mapped range and aligned (`piece`); T is one of the atomics above, of which any bytes are a value.
        unsafe { place.as_ref() }
    }
}

/// A slice as the array that it is as long as.
#[inline]
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes
        .try_into()
        .expect("invariant: a piece is as long as its slice")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copies_any_range(content: Vec<u8>, at in 0usize..40, len in 0usize..40) {
            let memory: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(0)).collect();
            // SAFETY: lives as long as the test, accessed through `bytes` only.
            let bytes = unsafe { Bytes::new(NonNull::from(memory.as_slice()).cast(), 128) };
            let source: Vec<u8> = content.iter().copied().chain(1..).take(len).collect();
            let part = bytes.part(at, len).expect("inside");
            part.write(&source).expect("write");
            let mut back = vec![0; len];
            part.read(&mut back).expect("read");
            prop_assert_eq!(back, source);
            prop_assert!(bytes.cells()[..at].iter().all(|cell| cell.load(Relaxed) == 0));
            prop_assert!(bytes.cells()[at + len..].iter().all(|cell| cell.load(Relaxed) == 0));
        }
    }

    #[test]
    fn checks_bounds() {
        let memory = [const { AtomicU64::new(0) }; 2];
        // SAFETY: as above.
        let bytes = unsafe { Bytes::new(NonNull::from(&memory).cast(), 16) };
        assert_eq!(bytes.part(9, 8).err(), Some(OutOfRange));
        assert_eq!(bytes.part(usize::MAX, 2).err(), Some(OutOfRange));
        assert!(bytes.part(16, 0).is_ok());
        assert_eq!(bytes.write(&[0; 3]), Err(OutOfRange));
        assert_eq!(bytes.word(4).err(), Some(OutOfRange));
    }
}
