//! A server process that owns state, and proxies through which everybody uses it.
//!
//! 1. `manager`: starting and ending the server. 2. `client`: what can be asked of a server, by the family or from outside; `proxy`: one state of it.
//!    3. `line`: a thread's connection to a server of its family; `remote`: sockets, for everybody else. 4. `server`, `registry`, `cell`: the other side.
//!    5. `protocol`: what both say to each other. 6. `ticket`: who still has a proxy. 7. `fate`: how a server ended. 8. `ready`: dict, list, namespace, queue, counter.
//!
//! # What a request is
//! A function that the client names (`sys::call`), the number of a state, and an argument. The server finds the function, which brings along the code that knows the types: that
//! takes the state's lock, checks that the state *is* of the function's type, reads the argument, and writes the answer. The server itself knows no type.
//!
//! # Who lives how long
//! - *A state* is kept while its ticket, a shared object without content, is held: by proxies in any process of the family, by messages on their way, by the server itself for
//!   names (`publish`) and for clients outside the family. Whoever drops the last hold, or reaps the process that had it, rings the server, which then looks
//!   which tickets are gone. The server itself only knows the ticket's name, which holds nothing.
//! - *A connection* ends with its client's thread or process; the server's thread for it then ends. At most [`MAX_CLIENTS`] at a time.
//! - *The server* ends when the manager is shut down or dropped, or its process's parent dies (it is daemonic).
//!
//! # What a death leaves behind
//! - *Client, while it asks:* the function runs to its end or not at all; nobody takes the answer, and what is in it is let go with the message.
//! - *Client, with proxies:* its row is reaped by whoever looks (the server's own threads do, while they wait), and the tickets go as above.
//! - *Client, after the server has created a state for it but before it took the proxy:* the answer in flight is the only holder, and goes with the pipe.
//! - *Server:* its ends of all pipes are closed; each client that waits looks for itself, too, so that a forked child of the server that inherited the ends cannot
//!   keep anybody waiting. All later calls fail, with how it ended.

mod cell;
mod client;
mod error;
mod fate;
mod line;
#[expect(
    clippy::module_inception,
    reason = "one home per concept: Manager is in manager"
)]
mod manager;
mod protocol;
mod proxy;
mod ready;
mod registry;
mod remote;
mod server;
mod ticket;

pub use client::ManagerClient;
pub use error::{ConnectError, ManagerError, ManagerStartError, TryPutError};
pub use manager::{Manager, ManagerBuilder};
pub use proxy::Proxy;
pub use ready::{CounterProxy, DictProxy, ListProxy, NamespaceProxy, QueueProxy};
pub use remote::{Address, AuthKey, RemoteManager};
pub use server::MAX_CLIENTS;
pub(crate) use ticket::SharedTicket;
