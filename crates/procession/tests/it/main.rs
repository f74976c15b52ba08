//! Integration tests, one file per concept.
mod array;
mod barrier;
mod condition;
mod event;
mod forked;
mod lock;
mod process;
mod queue;
mod rlock;
mod semaphore;
mod shareable_list;
mod shared_memory;
mod value;

// Tests start this binary again: it must become the child before libtest's `main`.
procession::init_before_main!();
