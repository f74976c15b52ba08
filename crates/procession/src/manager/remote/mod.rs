//! Clients outside the family: sockets, with mutual authentication.
//!
//! 1. `address`: where, and the key. 2. `stream`: TCP or Unix. 3. `frame`: how bytes are cut into messages, and how each is sealed. 4. `handshake`: both sides
//!    prove that they have the key. 5. `listener`: the server's side; `link`: the client's.
//!
//! # What a stranger can do
//! Open a connection, and be dropped: after [`HANDSHAKE_TIME`](handshake::HANDSHAKE_TIME) if it says too little, at once if it says anything wrong or
//! if [`MAX_STRANGERS`](listener::MAX_STRANGERS) others have come since. Nothing that it sends is looked at beyond 128 bytes, and no thread of a
//! client waits for it. Only after both have proved the key is a function's name read.

mod address;
mod frame;
mod handshake;
mod link;
mod listener;
mod stream;

pub use address::{Address, AuthKey};
pub use link::RemoteManager;
pub(super) use link::{Lease, Link};
pub(super) use listener::Doors;
pub(super) use stream::Stream;
