//! Integration tests, one file per concept.

mod array;
mod barrier;
mod batch;
mod buffer;
mod condition;
mod crash_letters;
mod crash_pool;
mod embed;
mod event;
mod fd;
mod forked;
mod future;
mod lock;
mod manager;
mod manager_remote;
mod pool;
mod pool_hostile;
mod pool_recruit;
mod process;
mod queue;
mod ready;
mod ready_fork;
mod rlock;
mod semaphore;
mod shareable_list;
mod shared_dict;
mod shared_list;
mod shared_memory;
mod steps;
mod value;
mod wait;

/// Waits until an object is gone: children that other tests fork meanwhile hold all that this process holds, until they end.
fn wait_until_gone<T>(open: impl Fn() -> Result<T, procession::HeapError>) {
    // As long as any other test's children may take.
    let patience = std::time::Instant::now() + 10 * forked::SOON;
    loop {
        match open() {
            // Those that were killed hold it until somebody looks for them.
            Ok(_) => {
                assert!(
                    std::time::Instant::now() < patience,
                    "somebody holds it still"
                );
                procession::embed::look_around();
            }
            Err(error) => return assert_eq!(error, procession::HeapError::Stale),
        }
    }
}

// Tests start this binary again: it must become the child before libtest's `main`.
procession::init_before_main!();
