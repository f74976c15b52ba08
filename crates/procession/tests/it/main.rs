//! Integration tests, one file per concept.

mod array;
mod barrier;
mod batch;
mod buffer;
mod condition;
mod crash_pool;
mod event;
mod fd;
mod forked;
mod lock;
mod pool;
mod pool_hostile;
mod process;
mod queue;
mod ready;
mod ready_fork;
mod rlock;
mod semaphore;
mod shareable_list;
mod shared_memory;
mod value;
mod wait;

// Tests start this binary again: it must become the child before libtest's `main`.
procession::init_before_main!();
