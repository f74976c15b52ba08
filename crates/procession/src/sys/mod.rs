//! The only place that talks to the operating system.
//!
//! - `elf_hook` runs a function before `main`;
//! - `error` says what was attempted when a system call failed;
//! - `fork` forks, as a child or as a sibling;
//! - `limits` tells how many processors and how much memory are ours to use;
//! - `object` names code addresses so that another process can find them;
//! - `parent` acts when the parent dies;
//! - `pidfd` watches, signals and reaps one process;
//! - `signal` names and blocks signals;
//! - `spawn` starts a program.
//!
//! # Safety
//! Everything that needs a raw system call or a raw pointer to mapped memory is here, behind a safe front.

mod elf_hook;
mod error;
mod fork;
mod limits;
mod object;
mod parent;
mod pidfd;
mod signal;
mod spawn;
