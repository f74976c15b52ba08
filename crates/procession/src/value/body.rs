//! Where values, arrays, lists and anonymous memory keep their bytes: in the object itself if they fit, else in one attached block.
//!
//! The block is attached before anybody else can know the object and stays until the object is destroyed, so a handle may keep its place.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::{Owner, Waiter};
use crate::heap::{
    Block, BlockRef, Container, HeapError, Object, Shared, block_bytes, inline_bytes, me,
};
use crate::sync::raw::{Deadline, RLockError, RLockTryError, RawRLock};
use crate::sync::{TimedOut, WouldBlock, this_thread};
use crate::sys::bytes::Bytes;
use std::convert::Infallible;
use std::marker::PhantomData;

/// Words of content that fit into the object.
const INLINE: usize = 3;

/// An object with bytes, as it lies in the heap: one granule.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct Body {
    lock: RawRLock,
    /// Number of items.
    len: AtomicU64,
    /// Bytes of one item.
    item: AtomicU32,
    spare: AtomicU32,
    /// The block, if the bytes are not inline.
    block: AtomicU64,
    inline: [AtomicU64; INLINE],
}
const _: () = assert!(size_of::<Body>() == 64);

/// Objects that consist of a [`Body`].
pub(crate) trait HasBody: Object {
    fn body(&self) -> &Body;
}

/// Declares a shared object that consists of a [`Body`].
macro_rules! shared_body {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Debug, zerocopy::FromBytes)]
        pub(crate) struct $name($crate::value::body::Body);

        impl $crate::value::body::HasBody for $name {
            fn body(&self) -> &$crate::value::body::Body {
                &self.0
            }
        }

        impl $crate::heap::Object for $name {
            const KIND: $crate::kinds::Kind = $crate::kinds::Kind::$kind;

            fn reap(&self, death: $crate::heap::Death) {
                self.0.reap(death.owner);
            }

            fn contains(&self, block: $crate::heap::BlockRef) -> bool {
                self.0.contains(block)
            }

            fn destroy(&self, container: $crate::heap::Container) {
                self.0.destroy(container);
            }
        }
    };
}

/// `handle`, `open`, `Clone`, `Debug` and serde for a struct of `shared: Shared<$layout>`, `bytes` and `_item`. Opening checks that the items are as
/// large as `$item`.
macro_rules! body_handle {
    ($name:ident $(<$param:ident>)?, $layout:ty, $label:literal, $item:ty) => {
        impl $(<$param>)? $name $(<$param>)? {
            /// The name of this object, to be sent by other means than a message. A name alone holds nothing.
            #[must_use]
            pub fn handle(&self) -> crate::heap::Handle {
                self.shared.handle()
            }

            /// Opens the object by its name, if somebody still holds it.
            ///
            /// # Errors
            /// [`HeapError::Stale`](crate::HeapError::Stale), [`HeapError::OtherFamily`](crate::HeapError::OtherFamily),
            /// [`HeapError::WrongKind`](crate::HeapError::WrongKind), also if its items are not as large as ours.
            pub fn open(handle: crate::heap::Handle) -> Result<Self, crate::heap::HeapError> {
                let shared = crate::heap::Shared::<$layout>::open(handle)?;
                let bytes = $crate::value::body::open(&shared, size_of::<$item>())?;
                Ok(Self { shared, bytes, _item: Default::default() })
            }

            fn hold(&self) -> crate::heap::Hold {
                self.shared.hold()
            }
        }

        impl $(<$param>)? Clone for $name $(<$param>)? {
            /// One more handle to the same object.
            fn clone(&self) -> Self {
                Self { shared: self.shared.clone(), bytes: self.bytes, _item: Default::default() }
            }
        }

        crate::sync::handle_serde!($name $(<$param>)?, $label);
    };
}

pub(super) use {body_handle, shared_body};

/// Something lies outside an array or a piece of memory. Nothing was read or written.
///
/// # Examples
/// ```
/// use procession::{Array, OutOfBounds};
///
/// let array = Array::from_slice(&[1, 2, 3])?;
/// assert_eq!(array.get(3), Err(OutOfBounds { index: 3, len: 3 }));
/// # Ok::<(), procession::HeapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position {index} is outside a length of {len}")]
pub struct OutOfBounds {
    /// The first position that would have been outside.
    pub index: usize,
    /// How many there are.
    pub len: usize,
}

/// Creates an object of `len` items of `item` bytes each, all zero.
pub(super) fn create<S: HasBody>(
    len: usize,
    item: usize,
) -> Result<(Shared<S>, Bytes<'static>), HeapError> {
    let bytes = len.checked_mul(item).ok_or(HeapError::TooLarge {
        requested: u64::MAX,
        largest: isize::MAX as u64,
    })?;
    let shared = Shared::create(|object: &S, _| {
        let body = object.body();
        body.len.store(len as u64, Ordering::Relaxed);
        body.item.store(item as u32, Ordering::Relaxed);
    })?;
    if bytes > INLINE * 8 {
        let block = Block::alloc_zeroed(bytes)?;
        let attached = block.attach(shared.container(), |reference| {
            shared
                .body()
                .block
                .store(reference.to_bits(), Ordering::SeqCst);
            Ok::<(), Infallible>(())
        });
        debug_assert!(attached.is_ok());
    }
    let place = shared.body().bytes()?;
    Ok((shared, place))
}

/// Where the bytes of an object are, whose items must have `item` bytes.
pub(super) fn open<S: HasBody>(
    shared: &Shared<S>,
    item: usize,
) -> Result<Bytes<'static>, HeapError> {
    let body = shared.body();
    if body.item.load(Ordering::Relaxed) as usize != item {
        return Err(HeapError::WrongKind {
            expected: "object with items of this size",
            found: "object with items of another size",
        });
    }
    body.bytes()
}

impl Body {
    fn block(&self) -> Option<BlockRef> {
        BlockRef::from_bits(self.block.load(Ordering::Acquire))
    }

    fn bytes(&self) -> Result<Bytes<'static>, HeapError> {
        let len = self
            .len()
            .checked_mul(self.item.load(Ordering::Relaxed) as usize)
            .ok_or(HeapError::Corrupt("an object with an impossible length"))?;
        match self.block() {
            Some(block) => block_bytes(block, len),
            None => inline_bytes(&self.inline, len),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn reap(&self, dead: Owner) {
        self.lock.reap(&Waiter::new(), dead);
    }

    pub(crate) fn contains(&self, block: BlockRef) -> bool {
        self.block() == Some(block)
    }

    pub(crate) fn destroy(&self, container: Container) {
        drop(
            self.block()
                .and_then(|block| Block::reclaim(block, container)),
        );
    }

    #[inline]
    pub(super) fn lock(&self) -> BodyGuard<'_> {
        match self.lock.acquire(&Waiter::new(), this_thread(), None) {
            Ok(acquired) => BodyGuard::new(self, acquired.recovered),
            Err(_) => panic!("a thread locked a value 2^32-1 times"),
        }
    }

    pub(super) fn try_lock(&self) -> Result<BodyGuard<'_>, WouldBlock> {
        match self.lock.try_acquire(&Waiter::new(), this_thread()) {
            Ok(acquired) => Ok(BodyGuard::new(self, acquired.recovered)),
            Err(RLockTryError::WouldBlock) => Err(WouldBlock),
            Err(RLockTryError::Overflow) => panic!("a thread locked a value 2^32-1 times"),
        }
    }

    pub(super) fn lock_until(&self, deadline: Deadline) -> Result<BodyGuard<'_>, TimedOut> {
        match self.lock.acquire(&Waiter::new(), this_thread(), deadline) {
            Ok(acquired) => Ok(BodyGuard::new(self, acquired.recovered)),
            Err(RLockError::TimedOut) => Err(TimedOut),
            Err(RLockError::Overflow) => panic!("a thread locked a value 2^32-1 times"),
        }
    }
}

/// Possession of a body's lock.
pub(super) struct BodyGuard<'a> {
    body: &'a Body,
    pub(super) recovered: bool,
    _in_this_thread: PhantomData<*const ()>,
}

impl<'a> BodyGuard<'a> {
    #[inline]
    fn new(body: &'a Body, recovered: bool) -> Self {
        debug_assert_eq!(body.lock.owner(), Some(me()));
        Self {
            body,
            recovered,
            _in_this_thread: PhantomData,
        }
    }
}

impl Drop for BodyGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // In a forked child it is not ours, which the lock itself knows.
        let _ = self.body.lock.release(&Waiter::new(), this_thread());
    }
}
