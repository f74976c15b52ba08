//! The Python package's native half, `procession._procession`: translation between Python objects and the engine, and nothing else.
//!
//! 1. `message`: what travels: a pickled object, its out-of-band buffers, the shared objects in it; `pickle`: objects to messages and back; `letter`: the
//!    form in which they go through queues and pipes.
//! 2. `wait`: the one door to everything that blocks: lets other threads run, waits, looks after signals. `error`: the one table from engine errors to Python exceptions. `quick`: methods without PyO3's way into them.
//! 3. A file for each concept, named as in the engine. Classes are frozen and keep no state of their own beyond the engine's handle.
#![expect(
    clippy::result_large_err,
    reason = "a letter that was refused comes back in the error; in a box each would cost an allocation"
)]

mod barrier;
mod buffer;
mod condition;
mod connection;
mod error;
mod event;
mod joinable_queue;
mod letter;
mod lock;
mod manager;
mod message;
mod pickle;
mod plain;
mod pool;
mod process;
mod queue;
mod quick;
mod rlock;
mod semaphore;
mod shared_memory;
mod simple_queue;
mod wait;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _procession(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    message::register(module)?;
    pickle::register(module)?;
    buffer::register(module)?;
    process::register(module)?;
    queue::register(module)?;
    joinable_queue::register(module)?;
    simple_queue::register(module)?;
    connection::register(module)?;
    shared_memory::register(module)?;
    lock::register(module)?;
    manager::register(module)?;
    pool::register(module)?;
    rlock::register(module)?;
    semaphore::register(module)?;
    condition::register(module)?;
    event::register(module)?;
    barrier::register(module)
}
