//! The only place that talks to the operating system.
//!
//! 1. `futex`: sleep on and wake a word of shared memory.
//! 2. `map`: the sealed memfd of a family, mapped; private tables; giving pages back.
//! 3. `identity`: which process is that, and is it still there.
//! 4. `clock`: monotonic milliseconds that all processes of the machine agree on.
//! 5. `atfork`: being told of forks and of the end.
//!
//! # Safety
//! Raw system calls and raw pointers to mapped memory stay in this folder, behind safe fronts.

pub(crate) mod atfork;
pub(crate) mod clock;
pub(crate) mod futex;
pub(crate) mod identity;
pub(crate) mod limits;
pub(crate) mod map;
