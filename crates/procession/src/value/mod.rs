//! Data in shared memory.
//!
//! 1. `value`, `array`: plain old data, with and without a lock; `body`: where they keep it. 2. `atomic`: numbers that need no lock.
//! 3. `shared_memory`: bytes, anonymous or under a name that other programs know. 4. `shareable_list`: a list of mixed items.
//! 5. `shared_dict`, `shared_list`: maps and lists of any serde type that grow; `stripe`, `entry`: what both consist of.

mod array;
mod atomic;
mod body;
mod entry;
mod shareable_list;
mod shared_dict;
mod shared_list;
mod shared_memory;
mod stripe;
#[expect(
    clippy::module_inception,
    reason = "a concept has its name in every layer"
)]
mod value;

pub(crate) use array::SharedArray;
pub use array::{Array, ArrayGuard, RawArray};
pub(crate) use atomic::SharedAtomic;
pub use atomic::{
    SharedAtomicBool, SharedAtomicI32, SharedAtomicI64, SharedAtomicU32, SharedAtomicU64,
};
pub use body::OutOfBounds;
pub(crate) use shareable_list::SharedItems;
pub use shareable_list::{GetItemError, Item, SetItemError, ShareableList};
pub(crate) use shared_dict::SharedDictBody;
pub use shared_dict::{DictError, SharedDict};
pub(crate) use shared_list::SharedListBody;
pub use shared_list::{ListError, SharedList};
pub(crate) use shared_memory::SharedBytes;
pub use shared_memory::{NamedSharedMemory, SharedMemory};
pub(crate) use value::SharedValue;
pub use value::{RawValue, Value, ValueGuard};
