//! The table of all kinds of shared objects: the one place that knows every concept.
//!
//! The heap lies below the concepts, but when a participant dies it must ask each object to recover. It does so through this
//! table: a number in the heap selects a type, the type's [`Object`] methods do the work. The only upward reference in the layer order.

use crate::heap::{BlockRef, Container, Death, Heap, Object, view};

macro_rules! kinds {
    ($($kind:ident = $number:literal, $name:literal, $type:ty;)*) => {
        /// What a shared object is; the number is part of the heap's layout.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $($kind),* }

        impl Kind {
            pub(crate) const fn number(self) -> u16 {
                match self { $(Self::$kind => $number),* }
            }

            pub(crate) fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$kind),)* _ => None }
            }

            /// For messages.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }
        }

        /// [`Object::reap`] of the object at `index`.
        pub(crate) fn reap(heap: &'static Heap, kind: Kind, index: u32, death: Death) {
            match kind { $(Kind::$kind => view::<$type>(heap, index).reap(death)),* }
        }

        /// [`Object::contains`] of the object at `index`.
        pub(crate) fn contains(heap: &'static Heap, kind: Kind, index: u32, block: BlockRef) -> bool {
            match kind { $(Kind::$kind => view::<$type>(heap, index).contains(block)),* }
        }

        /// [`Object::destroy`] of the object at `index`.
        pub(crate) fn destroy(heap: &'static Heap, kind: Kind, index: u32, container: Container) {
            match kind { $(Kind::$kind => view::<$type>(heap, index).destroy(container)),* }
        }
    };
}

kinds! {
    Lock = 1, "Lock", crate::sync::SharedLock;
    RLock = 2, "RLock", crate::sync::SharedRLock;
    Semaphore = 3, "Semaphore", crate::sync::SharedSemaphore;
    Event = 4, "Event", crate::sync::SharedEvent;
    Condition = 5, "Condition", crate::sync::SharedCondition;
    Barrier = 6, "Barrier", crate::sync::SharedBarrier;
    Queue = 8, "Queue", crate::channel::SharedQueue;
    Pipe = 9, "Pipe", crate::channel::SharedPipe;
    Connection = 10, "Connection", crate::channel::SharedEnd;
    Value = 11, "Value", crate::value::SharedValue;
    Array = 12, "Array", crate::value::SharedArray;
    Atomic = 13, "Atomic", crate::value::SharedAtomic;
    SharedMemory = 14, "SharedMemory", crate::value::SharedBytes;
    ShareableList = 15, "ShareableList", crate::value::SharedItems;
    Producer = 16, "Producer", crate::channel::SharedProducer;
    Buffer = 19, "Buffer", crate::channel::SharedBuffer;
    SharedDict = 17, "SharedDict", crate::value::SharedDictBody;
    SharedList = 18, "SharedList", crate::value::SharedListBody;
    Process = 20, "Process", crate::process::SharedProcess;
    Fd = 21, "Fd", crate::channel::SharedFd;
    Worker = 30, "worker's lanes", crate::pool::SharedWorker;
    Pool = 31, "pool's bell", crate::pool::SharedPool;
    Ticket = 32, "Proxy", crate::manager::SharedTicket;
}
