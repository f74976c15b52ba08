//! Tests of the state machines: with real threads and a real futex, and under the model checker.

#[cfg(not(procession_loom))]
mod barrier;
#[cfg(not(procession_loom))]
mod condition;
#[cfg(not(procession_loom))]
mod event;
#[cfg(not(procession_loom))]
mod lock;
#[cfg(not(procession_loom))]
mod rlock;
#[cfg(not(procession_loom))]
mod semaphore;
#[cfg(not(procession_loom))]
mod test_port;

#[cfg(procession_loom)]
mod loom_barrier;
#[cfg(procession_loom)]
mod loom_condition;
#[cfg(procession_loom)]
mod loom_event;
#[cfg(procession_loom)]
mod loom_holding;
#[cfg(procession_loom)]
mod loom_lane;
#[cfg(procession_loom)]
mod loom_listener;
#[cfg(procession_loom)]
mod loom_lock;
#[cfg(procession_loom)]
mod loom_port;
#[cfg(procession_loom)]
mod loom_rlock;
#[cfg(procession_loom)]
mod loom_semaphore;
