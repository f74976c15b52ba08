//! Messages between processes.
//!
//! 1. `ring`: records in a segment, visible by one store. 2. `core`: the channel, a chain of segments with a lock and a bell per side. 3. `codec`,
//!    `buffer`: values to bytes. 4. `queue`, `simple_queue`, `joinable_queue`, `producer`. 5. `connection`: the two ends of a pipe (`anchor`: one object holding another).
//!    6. `batch`: many items at once. 7. `listeners`, `readiness`, `wait`: waiting through file descriptors, and for several things. 8. `descriptor`: file
//!    descriptors in messages. 9. `letter`: messages whose types the channel does not know.

mod anchor;
mod batch;
mod buffer;
mod codec;
mod connection;
mod core;
mod descriptor;
mod joinable_queue;
mod letter;
mod listeners;
mod producer;
mod queue;
mod readiness;
mod ring;
mod simple_queue;
mod wait;

pub(crate) use self::core::{
    Batch, Channel, Delivery, GetFault, INLINE_MAX, Parcel, Patience, PutFault, Sink,
};
pub use batch::{GetManyError, PutManyError};
pub use buffer::Buffer;
pub(crate) use buffer::SharedBuffer;
pub(crate) use codec::unpack_keeping;
pub use codec::{Codec, DecodeError, EncodeError, Plain, Raw, Serde};
pub(crate) use codec::{
    block_payload, explain, pack, pack_block, pack_consuming, pack_hold, pack_plain, unpack,
    with_scratch,
};
pub use connection::{Connection, Pipe, RecvError, SendError};
pub(crate) use connection::{SharedEnd, SharedPipe};
pub use descriptor::Fd;
pub(crate) use descriptor::SharedFd;
pub use joinable_queue::{JoinableQueue, TooManyDone};
pub use letter::{Letter, Packed};
#[cfg(test)]
pub(crate) use listeners::{Listeners, Seat};
pub use producer::Producer;
pub(crate) use producer::SharedProducer;
pub(crate) use queue::SharedQueue;
pub use queue::{GetError, PutError, Queue};
pub use readiness::Readiness;
pub(crate) use readiness::{Watched, make_exact};
pub use simple_queue::SimpleQueue;
pub use wait::{Select, Waitable, wait};
