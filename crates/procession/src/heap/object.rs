//! Shared objects: one struct of atomics in the heap, held by any number of processes.
#![expect(
    unsafe_code,
    reason = "turns the place of a held object into a reference"
)]
//!
//! The link word of an object's first granule says what it is and in how many messages it is:
//! `kind:16 | 0:16 | in flight:32`.
//!
//! # Safety
//! A [`Shared<T>`] exists only while the private count of its granule is above zero in this process, so the object is `LIVE` with `kind == T::KIND` and its
//! place is not reused. `T: FromBytes` with interior mutability only (atomics), so `&T` to bytes that peers change is sound, whatever they write.

use super::error::HeapError;
use super::handle::Handle;
use super::mapping::{Heap, me, the_heap};
use super::spans::MAX_SMALL;
use super::word::{State, Word};
use super::{BlockRef, Container};
use crate::atomic::{AtomicU64, Ordering};
use crate::family::Owner;
use crate::kinds::{self, Kind};
use crate::sync::raw::holding;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

const KIND_SHIFT: u32 = 48;
const IN_FLIGHT: u64 = 0xffff_ffff;

/// A participant is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) owner: Owner,
    /// It left in order.
    pub(crate) clean: bool,
    /// It held the object that is told of its death.
    pub(crate) held: bool,
    /// That object: what its blocks belong to.
    pub(crate) object: Container,
}

/// What every type of shared object says about itself. All-zero bytes must be a valid value.
pub(crate) trait Object: zerocopy::FromBytes + Sync + 'static {
    /// Which one it is.
    const KIND: Kind;

    /// A participant died: take back what it had here, wake those who waited for it. Idempotent.
    fn reap(&self, death: Death);

    /// Whether the block is part of this object now. Asked for blocks whose attacher or detacher died midway.
    fn contains(&self, _block: BlockRef) -> bool {
        false
    }

    /// Nobody holds the object any more: free its blocks. Done again from the start if the process dies midway.
    fn destroy(&self, _container: Container) {}
}

/// A counted handle to an object of the heap.
#[derive(Debug)]
pub(crate) struct Shared<T: Object> {
    index: u32,
    generation: u32,
    place: NonNull<T>,
    _type: PhantomData<&'static T>,
}

// SAFETY: gives `&T` of a `T: Sync` that outlives every handle; the counts are atomics.
unsafe impl<T: Object> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Object> Sync for Shared<T> {}

impl<T: Object> Shared<T> {
    /// Creates an object from all-zero bytes, initialised by `init` before anybody else can see it.
    pub(crate) fn create(init: impl FnOnce(&T, Container)) -> Result<Self, HeapError> {
        const { assert!(size_of::<T>() <= MAX_SMALL && align_of::<T>() <= super::layout::GRANULE) };
        let heap = crate::family::join()?;
        let (index, owned) = heap.take_small(size_of::<T>())?;
        let generation = owned.generation();
        let container = Container { index, generation };
        let bytes = heap.granule(index);
        // SAFETY: the block is OWNED by us, at least this long, and no reference to it exists.
        unsafe { bytes.write_bytes(0, size_of::<T>()) };
        heap.links()[index as usize]
            .store(u64::from(T::KIND.number()) << KIND_SHIFT, Ordering::SeqCst);
        // A hold first, then LIVE: killed between, the block is still OWNED and is freed as such.
        heap.hold(index);
        let this = Self {
            index,
            generation,
            place: bytes.cast(),
            _type: PhantomData,
        };
        init(&this, container);
        heap.words()[index as usize].store(owned.with(State::LIVE, 0).0, Ordering::SeqCst);
        Ok(this)
    }

    /// A handle to an object, if it still exists.
    pub(crate) fn open(handle: Handle) -> Result<Self, HeapError> {
        let heap = handle.locate()?;
        let index = handle.index();
        heap.hold(index);
        let checked = check::<T>(heap, handle);
        match checked {
            Ok(()) => Ok(Self {
                index,
                generation: handle.generation(),
                place: heap.granule(index).cast(),
                _type: PhantomData,
            }),
            Err(error) => {
                heap.unhold(index);
                Err(error)
            }
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle::new(the_heap(), self.index, self.generation)
    }

    /// One more hold, without the type.
    pub(crate) fn hold(&self) -> Hold {
        Hold::new(the_heap(), self.handle())
    }

    /// How blocks that belong to this object name it.
    pub(crate) fn container(&self) -> Container {
        Container {
            index: self.index,
            generation: self.generation,
        }
    }
}

/// A hold on some object, whatever it is.
#[derive(Debug)]
pub(crate) struct Hold {
    handle: Handle,
    /// The envelope that lists the object, too; 0: none that we know.
    envelope: AtomicU64,
}

impl Hold {
    /// One more hold on an object that cannot go meanwhile: something that stays holds it.
    pub(super) fn new(heap: &Heap, handle: Handle) -> Self {
        heap.hold(handle.index());
        Self {
            handle,
            envelope: AtomicU64::new(0),
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// One more hold on the same object.
    pub(crate) fn again(&self) -> Self {
        Self::new(the_heap(), self.handle)
    }

    /// Notes that the envelope lists the object. If ours is the last hold in a process, that spares a search through all envelopes.
    pub(crate) fn also_in(&self, envelope: BlockRef) {
        self.envelope.store(envelope.to_bits(), Ordering::Relaxed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let envelope = BlockRef::from_bits(self.envelope.load(Ordering::Relaxed));
        the_heap().unhold_listed(self.handle.index(), envelope);
    }
}

fn check<T: Object>(heap: &Heap, handle: Handle) -> Result<(), HeapError> {
    // Our bit is set. Counting the epoch up makes whoever was about to free the object look again; whoever freed it
    // before has changed the state.
    let word = holding::come(&heap.words()[handle.index() as usize]);
    if word.state() != State::LIVE || word.generation() != handle.generation() {
        return Err(HeapError::Stale);
    }
    let found = kind(heap, handle.index());
    if found == Some(T::KIND) {
        return Ok(());
    }
    Err(HeapError::WrongKind {
        expected: T::KIND.name(),
        found: found.map_or("unknown object", Kind::name),
    })
}

impl<T: Object> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: held, hence LIVE and a `T` (module header); mapped for as long as the process lives.
        unsafe { self.place.as_ref() }
    }
}

impl<T: Object> Clone for Shared<T> {
    fn clone(&self) -> Self {
        the_heap().hold(self.index);
        Self { ..*self }
    }
}

impl<T: Object> Drop for Shared<T> {
    fn drop(&mut self) {
        the_heap().unhold(self.index);
    }
}

impl<T: Object> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.container() == other.container()
    }
}

/// What the object at `index` is.
pub(crate) fn kind(heap: &Heap, index: u32) -> Option<Kind> {
    Kind::from_number((heap.links()[index as usize].load(Ordering::SeqCst) >> KIND_SHIFT) as u16)
}

/// For the reaper and for destruction: the object at `index`, which its state keeps from being reused meanwhile.
pub(crate) fn view<T: Object>(heap: &'static Heap, index: u32) -> &'static T {
    // SAFETY: any bytes are a `T`, the place is mapped for ever and holds a block of at least its class; callers
    // checked the kind. If the object goes meanwhile we read atomics of whatever follows, never unmapped memory.
    unsafe { heap.granule(index).cast::<T>().as_ref() }
}

/// Raises the number of messages that carry the object.
pub(crate) fn count_in_flight(heap: &Heap, index: u32) {
    heap.links()[index as usize].fetch_add(1, Ordering::SeqCst);
}

/// Lowers it again, never below zero.
pub(crate) fn uncount_in_flight(heap: &Heap, index: u32) {
    let link = &heap.links()[index as usize];
    let _ = link.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |link| {
        (link & IN_FLIGHT != 0).then(|| link - 1)
    });
}

/// Whether the object may be in a message.
pub(crate) fn in_flight(heap: &Heap, index: u32) -> bool {
    heap.links()[index as usize].load(Ordering::SeqCst) & IN_FLIGHT != 0
}

/// Frees what the object at `index` consists of, then its place. The caller put it into `DESTROYING`, or reaps whoever did.
pub(crate) fn destroy(heap: &'static Heap, index: u32) {
    let at = &heap.words()[index as usize];
    let word = Word::load(at);
    if let Some(kind) = kind(heap, index) {
        kinds::destroy(
            heap,
            kind,
            index,
            Container {
                index,
                generation: word.generation(),
            },
        );
    }
    let owned = word.with(State::OWNED, me().slot());
    let mut now = Word::load(at);
    while now.state() == State::DESTROYING && now.generation() == word.generation() {
        match now.swap(at, owned) {
            Ok(()) => return heap.free_small(index, owned),
            Err(changed) => now = changed,
        }
    }
}
