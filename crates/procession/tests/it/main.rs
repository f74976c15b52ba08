//! Integration tests, one file per concept.
mod array;
mod barrier;
mod condition;
mod event;
mod forked;
mod lock;
mod queue;
mod rlock;
mod semaphore;
mod shareable_list;
mod shared_memory;
mod value;
