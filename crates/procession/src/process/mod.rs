//! Functions in processes of their own.
//!
//! 1. `process`: the handle; `builder`: its options. 2. `record`: the shared object through which parent and child speak; `function`: what runs a
//!    function whose name and arguments came through it. 3. `start`: the three ways to get a process. 4. `bootstrap`, `setup`, `panic`: a
//!    child's beginning and end. 5. `children`: all children of this process, and its own end. 6. `current`: who am I. 7. `portable`: what can be sent along. 8. `error`.
//!
//! # What a kill leaves behind, step by step
//! Everything that a start makes has an owner at every instant, and whoever reaps that owner takes it back:
//! 1. the record is created: held by the parent's row;
//! 2. the order (function and arguments) is packed: a block owned by the parent, then part of the record (`heap/block.rs` settles a death in between);
//!    objects among the arguments are held by the order's envelope;
//! 3. a place for the child is reserved: `STARTING`, made by the parent; dead as soon as the parent is, while no process is known;
//! 4. the child's row gets a hold on the record: cleared when that place is reaped;
//! 5. the process starts: until it has come up, the place is dead if the parent died before it noted the pid (the child then finds its place gone and
//!    ends), or if the noted process ended;
//! 6. it comes up: `LIVE`, a participant like any other; it takes the order (owned by the child), runs, answers (part of the record again).
//!
//! When the last of parent and child is gone nobody holds the record: it is destroyed with what is still in it. A parent that sees its child's end
//! declares it dead, reaps it in the family, and only then in the system.

mod bootstrap;
mod builder;
mod children;
mod current;
pub mod embed;
mod error;
mod function;
mod panic;
mod portable;
#[expect(
    clippy::module_inception,
    reason = "one home per concept: Process is in process"
)]
mod process;
mod record;
mod setup;
mod start;

pub use bootstrap::{__init_before_main, init};
pub use builder::{ProcessBuilder, Resource, StartMethod, Stdio};
pub use children::{ActiveChild, active_children};
pub(crate) use current::ParentRef;
pub use current::{CurrentProcess, ParentProcess, current, parent_process};
pub use error::{JoinError, JoinFailure, StartError};
pub(crate) use panic::{PanicReport, catch as catch_panic};
pub use portable::Portable;
pub(crate) use process::Core as ProcessCore;
pub use process::Process;
pub(crate) use record::SharedProcess;
