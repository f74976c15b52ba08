//! The engine under the single-step killer: one file per concept.
//!
//! `stage` is what they share: who the victim is, what must be true after every death, helpers that sleep in a wait.
//! Each lane founds a family of its own, so a failure in one scenario cannot disturb another; the victim is a forked child,
//! which the engine's own at-fork hook makes a participant.

mod stage;

mod barrier;
mod buffer;
mod condition;
mod estate;
mod event;
mod heap;
mod letter;
mod lock;
mod membership;
mod pipe;
mod pool;
mod queue;
mod readiness;
mod reclaim;
mod rlock;
mod semaphore;
mod shared_dict;
mod shared_list;
mod storm;
mod total;
mod value;
