//! The family heap: one sparse memfd, mapped by every participant, in which every shared object lives.
//!
//! 1. `layout`: where everything lies. 2. `word`: the state word of a block, the one truth. 3. `mapping`: typed views.
//! 4. `participant`: the table of who is there, proof of death. 5. `holders`: who holds which object. 6. `spans`, `units`: small and big
//!    allocation. 7. `object`, `block`, `bytes`, `envelope`: shared objects, owned and shared bytes, messages with handles. 8. `reclaim`: after a death.
//! 9. `port`: how the heap's own short locks wait. 10. `handle`, `error`, `stats`.

mod block;
mod bytes;
mod envelope;
mod error;
mod handle;
mod holders;
mod layout;
mod mapping;
mod object;
mod participant;
mod port;
mod reclaim;
mod spans;
mod stats;
mod units;
use crate::sync::raw::word;

pub(crate) use block::{Block, BlockRef, Container};
pub(crate) use bytes::{block_bytes, block_table, inline_bytes};
pub(crate) use envelope::{
    MAX_HANDLES, count as envelope_count, fill as fill_envelope, hold_all, list_len,
};
pub use error::HeapError;
pub use handle::Handle;
pub(crate) use mapping::{Heap, heap, install, me, myself, set_me, set_nobody, the_heap};
pub(crate) use object::{Death, Hold, Object, Shared, view};
pub(crate) use participant::{CLEAN, Presence};
pub(crate) use port::{ShortWait, has_company, has_woken, sleep_slice, wake};
pub(crate) use spans::{Local, lock_local};
pub use stats::{HeapStats, heap_stats};
pub(crate) use units::lock_known;
#[cfg(test)]
pub(crate) use word::{State, Word};
