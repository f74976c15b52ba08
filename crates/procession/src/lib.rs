//! Run functions in many processes and share locks, queues, pipes and buffers between them.
#![deny(unsafe_code)]

mod atomic;
mod family;
mod sync;

#[cfg(not(procession_loom))]
mod sys;

#[cfg(all(
    test,
    not(procession_loom),
    target_os = "linux",
    target_arch = "x86_64"
))]
mod crash;
