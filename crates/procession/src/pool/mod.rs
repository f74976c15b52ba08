//! Pools and executors: many tasks over few workers.
//!
//! 1. `pool`, `executor`, `builder`, `map`, `feed`, `stream`, `function`, `future`: what users see. 2. `crew`: processes or threads, the one place where the two part. 3. `hub`: what all handles of a
//!    pool of processes share; `collect`, `dispatch`, `staff`, `supervisor`: its four jobs; `pending`, `task`, `small`: its tables; `sizing`: how many workers, how much memory. 4. `lane`, `record`: what
//!    the pool and a worker share, and what they say. 5. `worker`, `context`: the worker's side; `employee`: its process; `recruit`: workers that an embedder starts. 6. `threads`: workers that are threads. 7. `error`.
//!
//! The protocol between pool and worker, with its deaths, is in `README.md` beside this file.

mod builder;
mod collect;
mod context;
mod crew;
mod dispatch;
mod employee;
mod error;
mod executor;
mod feed;
mod function;
mod future;
#[cfg(test)]
mod hostile;
mod hub;
mod lane;
mod map;
mod pending;
#[expect(
    clippy::module_inception,
    reason = "one home per concept: Pool is in pool"
)]
mod pool;
mod record;
mod recruit;
mod sizing;
mod small;
mod staff;
mod stream;
mod supervisor;
mod task;
mod threads;
#[cfg(test)]
pub(crate) mod trial;
mod worker;

pub use builder::PoolBuilder;
pub use context::fail_task;
pub use error::{Broken, PoolError, SubmitError, TaskError, WorkerDied};
pub use executor::Executor;
pub use feed::{Feed, FeedWaiter};
pub use function::TaskFunction;
pub use future::{AsCompleted, Future, ReturnWhen, as_completed, wait_futures};
pub(crate) use lane::{SharedPool, SharedWorker};
pub use map::{Map, MapFuture};
pub use pool::Pool;
pub use recruit::{BootError, Recruit, WorkerReport, work};
pub use stream::MapStream;
pub use task::TaskOptions;
