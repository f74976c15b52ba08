//! Lock.
use super::raw::RawLock;
use crate::family::Waiter;
use crate::heap::{Death, HeapError, Object, Shared};
use crate::kinds::Kind;

/// in the heap
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedLock {
    pub(crate) raw: RawLock,
}
impl Object for SharedLock {
    const KIND: Kind = Kind::Lock;
    fn reap(&self, death: Death) {
        self.raw.reap(&Waiter::new(), death.owner);
    }
}
/// stub
#[derive(Clone, Debug)]
pub struct Lock {
    shared: Shared<SharedLock>,
}
impl Lock {
    /// stub
    pub fn new(_: ()) -> Result<Self, HeapError> {
        Ok(Self {
            shared: Shared::create(|_, _| ())?,
        })
    }
    /// stub
    pub fn raw(&self) -> bool {
        self.shared.raw.acquire(&Waiter::new(), None).is_ok()
            && self.shared.raw.release(&Waiter::new()).is_ok()
    }
}
