//! The only place that talks to the operating system.
//!
//! - `atfork`: being told of forks and of the end of the process; what private locks are in a forked child;
//! - `bytes`: bytes that several processes read and write at the same time;
//! - `call`: calling a function that another process named;
//! - `clock`: monotonic milliseconds that all processes of the machine agree on;
//! - `doorbell`: a descriptor that other processes can make readable;
//! - `elf_hook`: running a function before `main`;
//! - `env`: a child's environment and standard streams;
//! - `error`: what was attempted when a system call failed;
//! - `fork`: forking, as a child or as a sibling;
//! - `futex`: sleeping on and waking a word of shared memory;
//! - `identity`: which process is that, and is it still there;
//! - `limits`: how many processors and how much memory are ours to use;
//! - `map`: the sealed memfd of a family, mapped; giving pages back;
//! - `named`: shared memory under a name that other programs know;
//! - `object`: names of code addresses that another process can find;
//! - `parent`: acting when the parent dies;
//! - `pidfd`: watching, signalling and reaping one process;
//! - `random`: random bytes;
//! - `scheduling`: on which processors, and how urgently;
//! - `set_once`: a value that is set once, and for which no forked child waits;
//! - `signal`: names of signals, blocking them;
//! - `socket`: messages with descriptors; whether a peer is still there;
//! - `spawn`: starting a program.
//!
//! # Safety
//! Everything that needs a raw system call or a raw pointer to mapped memory is here, behind a safe front.

pub(crate) mod atfork;
pub(crate) mod bytes;
pub(crate) mod call;
pub(crate) mod clock;
pub(crate) mod doorbell;
pub(crate) mod elf_hook;
pub(crate) mod env;
pub(crate) mod error;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod identity;
pub(crate) mod limits;
pub(crate) mod map;
pub(crate) mod named;
pub(crate) mod object;
pub(crate) mod parent;
pub(crate) mod pidfd;
pub(crate) mod random;
pub(crate) mod scheduling;
pub(crate) mod set_once;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod spawn;
