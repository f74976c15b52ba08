//! A buffer in the family heap that one process owns and can give away without copying it, alone or inside other values.
//!
//! Alone (codec `Raw`) the block itself is the message. Inside a serde value it travels in an object of its own, which the message holds:
//!
//! ```text
//! sender:    block -> object; message holds the object
//! receiver:  claimer 0 -> me; block -> 0; the block is mine          message freed -> object gone, and a block that is still in it
//! ```
//!
//! | claimer | block | meaning | if the claimer dies here |
//! |---|---|---|---|
//! | 0 | some | nobody has received it | - |
//! | some | some | that process is just taking it | claimer becomes 0 (`reap`), or the next receiver steps in its place |
//! | some | 0 | taken | the block was its own and is freed; it stays taken |
//!
//! Whoever *keeps* the message (a task that may be tried again) copies the bytes and looks afterwards whether the block was still there: it goes once and never comes back,
//! so then nobody had written to it meanwhile.
//!
//! # Giving away while serialising
//! serde shows a value by reference only, and others may look at its bytes until it is dropped. So a buffer that is to be moved is only *expected* while its
//! value is serialised, and moves into its object when it is dropped ([`HandOver`]).

use super::codec::{packing_consumes, unpacking_keeps};
use super::{explain, pack_hold};
use crate::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::family::{self, Owner};
use crate::heap::{
    Block, BlockRef, Container, Death, Handle, HeapError, Object, Shared, block_bytes, me, myself,
    the_heap,
};
use crate::kinds::Kind;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::ops::{Deref, DerefMut};

const ONE_BLOCK: &str = "invariant: a buffer has its block until it is dropped";

/// Bytes in shared memory, owned by this process until they are sent: written in place, sent by handing over 16 bytes, read in place.
///
/// Send it alone, with the codec [`Raw`](crate::Raw), or anywhere inside a value that serde can handle: in a tuple, a struct, a `Vec<Buffer>`, through a queue or a pipe, as a
/// process's argument or result. Alone, and in results, the bytes are never copied; inside other messages they are copied once, by the sender, who keeps
/// the original. A `Vec<u8>` inside a value is copied byte by byte on both sides: for many bytes use a buffer.
///
/// # Crash safety
/// If the process dies, the buffer is freed; if it dies while sending, the buffer either arrives whole or is freed.
///
/// # Panics
/// A buffer stays its process's own over a fork: in the child, reading, writing or sending the copy panics, and dropping it frees nothing. So buffers among the arguments of a
/// process that is started by [`StartMethod::Fork`](crate::StartMethod::Fork) are of no use to it; send them through a queue.
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
///
/// let named: Queue<(String, Buffer)> = Queue::unbounded()?;
/// named.put(("frame 1".to_owned(), Buffer::from_slice(b"copied once")?))?;
/// let (_name, frame) = named.get()?;
/// assert_eq!(&frame[..], b"copied once");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.Buffer`
#[derive(Debug)]
pub struct Buffer {
    /// Until it is dropped or taken apart.
    block: Option<Block>,
    len: usize,
    /// What it came in. Let go with the buffer, when the message has gone: as the last holder of an object in a message we would search for that.
    came_in: Option<Shared<SharedBuffer>>,
}

impl Buffer {
    /// Allocates `len` bytes whose content is undefined (old bytes of this family); write before you read.
    ///
    /// # Errors
    /// [`HeapError::Full`] at the heap limit, [`HeapError::TooLarge`] beyond the heap's size.
    pub fn new(len: usize) -> Result<Self, HeapError> {
        family::join()?;
        Ok(Self::from_parts(Block::alloc(len)?, len))
    }

    /// Allocates `len` zero bytes.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub fn zeroed(len: usize) -> Result<Self, HeapError> {
        family::join()?;
        Ok(Self::from_parts(Block::alloc_zeroed(len)?, len))
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
            block: Some(block),
            came_in: None,
        }
    }

    pub(crate) fn into_parts(mut self) -> (Block, usize) {
        let block = self.block.take().expect(ONE_BLOCK);
        (block, self.len)
    }

    #[inline]
    fn block(&self) -> &Block {
        self.block.as_ref().expect(ONE_BLOCK)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.block().as_slice()[..self.len]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        let block = self.block.as_mut().expect(ONE_BLOCK);
        &mut block.as_mut_slice()[..len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if myself().is_none() {
            // A forked process that is no participant holds nothing.
            std::mem::forget(self.came_in.take());
        }
        if HANDING_OVER.get() > 0
            && let Some(block) = self.block.take()
        {
            hand_over(block);
        }
    }
}

impl Serialize for Buffer {
    /// Inside a message only.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object = self
            .put_into_message()
            .map_err(|reason| serde::ser::Error::custom(explain(reason)))?;
        object.to_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Buffer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let handle = Handle::from_bytes(<[u8; 16]>::deserialize(deserializer)?);
        let received = Shared::<SharedBuffer>::open(handle)
            .map_err(|error| error.to_string())
            .and_then(|object| {
                let taken = if unpacking_keeps() {
                    object.copy_out()
                } else {
                    take_out(&object)
                };
                taken.map(|mut buffer| {
                    buffer.came_in = Some(object);
                    buffer
                })
            });
        received.map_err(|reason| serde::de::Error::custom(explain(reason)))
    }
}

impl Buffer {
    /// Makes the message that is being packed hold an object with the bytes.
    fn put_into_message(&self) -> Result<Handle, String> {
        let consumed = packing_consumes().ok_or(
            "a buffer can only be serialised inside a message of procession (a queue, a pipe, a process argument or result)",
        )?;
        let text = |error: HeapError| error.to_string();
        // Also the proof that it is not a forked copy.
        let bytes: &[u8] = self;
        let object = Shared::create(|object: &SharedBuffer, _| {
            object.len.store(self.len as u64, Ordering::Relaxed);
        })
        .map_err(text)?;
        if !(consumed && expect(self.block().reference(), &object)) {
            let mut block = Block::alloc(self.len).map_err(text)?;
            block.as_mut_slice()[..self.len].copy_from_slice(bytes);
            fill(&object, block);
        }
        let handle = object.handle();
        pack_hold(|| object.hold());
        Ok(handle)
    }
}

/// A buffer on its way, as it lies in the heap.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedBuffer {
    /// Who takes the block, or took it.
    claimer: AtomicU32,
    spare: AtomicU32,
    len: AtomicU64,
    block: AtomicU64,
}
const _: () = assert!(size_of::<SharedBuffer>() == 24);

impl Object for SharedBuffer {
    const KIND: Kind = Kind::Buffer;

    fn reap(&self, death: Death) {
        if self.block().is_some() {
            let dead = death.owner.to_word();
            // Fails if it is not the dead one's, or another receiver has stepped in its place.
            let _ = self
                .claimer
                .compare_exchange(dead, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    fn contains(&self, block: BlockRef) -> bool {
        self.block() == Some(block)
    }

    fn destroy(&self, container: Container) {
        drop(
            self.block()
                .and_then(|block| Block::reclaim(block, container)),
        );
    }
}

const TAKEN: &str = "the buffer in the message was received already";

impl SharedBuffer {
    fn block(&self) -> Option<BlockRef> {
        BlockRef::from_bits(self.block.load(Ordering::SeqCst))
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// Makes us the one who may take the block, instead of nobody or of somebody who died of it.
    fn claim(&self) -> bool {
        let mut seen = 0;
        loop {
            match self.claimer.compare_exchange(
                seen,
                me().to_word(),
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => return true,
                Err(0) => seen = 0,
                Err(now) => match Owner::from_word(now) {
                    Some(other) if the_heap().is_gone(other) => seen = now,
                    _ => return false,
                },
            }
        }
    }

    fn copy_out(&self) -> Result<Buffer, String> {
        let block = self.block().ok_or(TAKEN)?;
        let text = |error: HeapError| error.to_string();
        let bytes = block_bytes(block, self.len()).map_err(text)?;
        let mut buffer = Buffer::new(self.len()).map_err(text)?;
        bytes
            .read(&mut buffer)
            .map_err(|_| "a buffer changed its length")?;
        // Pairs with the one in `take_out`: had we seen anything of a taker's, we would now see that the block has gone.
        fence(Ordering::SeqCst);
        if self.block() == Some(block) {
            Ok(buffer)
        } else {
            Err(TAKEN.to_owned())
        }
    }
}

fn fill(object: &Shared<SharedBuffer>, block: Block) {
    let filled = block.attach(object.container(), |reference| {
        object.block.store(reference.to_bits(), Ordering::SeqCst);
        Ok::<(), Infallible>(())
    });
    debug_assert!(filled.is_ok());
}

fn take_out(object: &Shared<SharedBuffer>) -> Result<Buffer, String> {
    if !object.claim() {
        return Err(TAKEN.to_owned());
    }
    let reference = object.block().ok_or(TAKEN)?;
    let block = Block::detach(reference, object.container(), || {
        object.block.store(0, Ordering::SeqCst);
    })
    .map_err(|error| error.to_string())?;
    fence(Ordering::SeqCst);
    Ok(Buffer::from_parts(block, object.len()))
}

thread_local! {
    /// How many values are being packed to be dropped.
    static HANDING_OVER: Cell<u32> = const { Cell::new(0) };
    static EXPECTED: RefCell<Vec<Expected>> = const { RefCell::new(Vec::new()) };
    /// How many are expected: nearly always none, which is cheaper to see here.
    static EXPECTED_COUNT: Cell<usize> = const { Cell::new(0) };
}

/// A buffer that was serialised and will be dropped.
struct Expected {
    block: BlockRef,
    /// Where it will be, until it is.
    object: Option<Shared<SharedBuffer>>,
}

/// While it exists, buffers that this thread drops go into the objects in which they are expected.
pub(super) struct HandOver {
    /// Expected by others, whose value is being packed around ours.
    others: usize,
}

impl HandOver {
    pub(super) fn begin() -> Self {
        HANDING_OVER.set(HANDING_OVER.get() + 1);
        Self {
            others: EXPECTED_COUNT.get(),
        }
    }

    /// Whether all buffers came.
    pub(super) fn end(self) -> bool {
        if EXPECTED_COUNT.get() == self.others {
            return true;
        }
        EXPECTED.with_borrow(|expected| {
            let ours = expected.iter().skip(self.others);
            ours.into_iter().all(|expected| expected.object.is_none())
        })
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        HANDING_OVER.set(HANDING_OVER.get() - 1);
        if EXPECTED_COUNT.get() == self.others {
            return;
        }
        let ours = EXPECTED.with_borrow_mut(|expected| expected.split_off(self.others));
        EXPECTED_COUNT.set(self.others);
        drop(ours);
    }
}

/// Notes that the block will come. `false`: it is expected elsewhere already.
fn expect(block: BlockRef, object: &Shared<SharedBuffer>) -> bool {
    EXPECTED.with_borrow_mut(|expected| {
        let new = expected.iter().all(|expected| expected.block != block);
        if new {
            let object = Some(object.clone());
            expected.push(Expected { block, object });
            EXPECTED_COUNT.set(expected.len());
        }
        new
    })
}

/// Puts a buffer's block where it is expected; frees it if it is not.
fn hand_over(block: Block) {
    let reference = block.reference();
    let object = EXPECTED.with_borrow_mut(|expected| {
        let found = expected
            .iter_mut()
            .find(|expected| expected.block == reference);
        found.and_then(|expected| expected.object.take())
    });
    if let Some(object) = object.filter(|_| block.is_ours()) {
        fill(&object, block);
    }
}

#[cfg(test)]
mod tests;
