//! A buffer in the family heap that one process owns and can give away without copying it.

use crate::family;
use crate::heap::{Block, HeapError};
use std::ops::{Deref, DerefMut};

/// Bytes in shared memory, owned by this process until they are sent: written in place, sent by handing over 16 bytes, read in place.
///
/// # Crash safety
/// If the process dies, the buffer is freed; if it dies while sending, the buffer either arrives whole or is freed.
///
/// # Panics
/// A buffer stays its process's own over a fork: in the child, reading, writing or sending the copy panics, and dropping it frees nothing.
///
/// # Examples
/// ```
/// use procession::{Buffer, Queue, Raw};
///
/// let frames: Queue<Buffer, Raw> = Queue::unbounded()?;
/// let mut frame = Buffer::zeroed(64 << 20)?; // 64 MiB, never copied
/// frame[..5].copy_from_slice(b"hello");
/// frames.put(frame)?;
/// assert_eq!(&frames.get()?[..5], b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Buffer {
    block: Block,
    len: usize,
}

impl Buffer {
    /// Allocates `len` bytes whose content is undefined (old bytes of this family); write before you read.
    ///
    /// # Errors
    /// [`HeapError::Full`] at the heap limit, [`HeapError::TooLarge`] beyond the heap's size.
    pub fn new(len: usize) -> Result<Self, HeapError> {
        family::join()?;
        Ok(Self {
            block: Block::alloc(len)?,
            len,
        })
    }

    /// Allocates `len` zero bytes.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub fn zeroed(len: usize) -> Result<Self, HeapError> {
        family::join()?;
        Ok(Self {
            block: Block::alloc_zeroed(len)?,
            len,
        })
    }

    /// Allocates a copy of `bytes`.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, HeapError> {
        let mut buffer = Self::new(bytes.len())?;
        buffer.copy_from_slice(bytes);
        Ok(buffer)
    }

    /// Shortens the buffer to `len` bytes; longer than it is has no effect.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub(crate) fn from_parts(block: Block, len: usize) -> Self {
        Self {
            len: len.min(block.capacity()),
            block,
        }
    }

    pub(crate) fn into_parts(self) -> (Block, usize) {
        (self.block, self.len)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block.as_slice()[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        &mut self.block.as_mut_slice()[..len]
    }
}
