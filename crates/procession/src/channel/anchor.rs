//! An object that keeps another object alive: a pipe's end its pipe, a producer's token its queue.
//!
//! The hold is an envelope that lists the target and is part of the holding object. It is let go when that object is destroyed, that is when the
//! last process that held it has dropped it, exited or died; so the target can be told that nobody is left on that side.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::heap::{
    Block, BlockRef, Container, Handle, HeapError, fill_envelope, list_len, the_heap,
};
use std::convert::Infallible;

/// What an anchored object holds. All zero: nothing yet.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(super) struct Anchor {
    index: AtomicU32,
    generation: AtomicU32,
    envelope: AtomicU64,
}

impl Anchor {
    /// The envelope that will hold `target`, which the caller holds meanwhile.
    pub(super) fn envelope(target: Handle) -> Result<Block, HeapError> {
        let envelope = Block::alloc(list_len(1))?;
        fill_envelope(&envelope, &[target]);
        Ok(envelope)
    }

    /// Names the target, before anybody can see the object.
    pub(super) fn point_at(&self, target: Handle) {
        self.index.store(target.index(), Ordering::Relaxed);
        self.generation
            .store(target.generation(), Ordering::Relaxed);
    }

    /// Holds the target from now on. The object must be live: a block can only be part of one that will be destroyed in order.
    pub(super) fn tie(&self, me: Container, envelope: Block) {
        let tied = envelope.attach(me, |reference| {
            self.envelope.store(reference.to_bits(), Ordering::SeqCst);
            Ok::<(), Infallible>(())
        });
        debug_assert!(tied.is_ok());
    }

    pub(super) fn target(&self) -> Handle {
        let index = self.index.load(Ordering::Relaxed);
        Handle::new(the_heap(), index, self.generation.load(Ordering::Relaxed))
    }

    /// For [`crate::heap::Object::contains`].
    pub(super) fn contains(&self, block: BlockRef) -> bool {
        self.envelope.load(Ordering::SeqCst) == block.to_bits()
    }

    /// Lets go; for [`crate::heap::Object::destroy`]. Doing it again does nothing.
    pub(super) fn release(&self, me: Container) {
        let envelope = BlockRef::from_bits(self.envelope.load(Ordering::SeqCst));
        drop(envelope.and_then(|block| Block::reclaim(block, me)));
    }
}
