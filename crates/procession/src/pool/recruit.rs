//! Workers that somebody else starts: for embedders whose workers must be processes of their own making, such as interpreters of another language.
//!
//! ```text
//! pool:    Recruit::hire(boot, name) -> pid        whenever a worker is to start, on the thread that builds the pool, later on the supervisor's
//! worker:  work(boot)                              joins the lanes, runs tasks until told to end; its return is the worker's end
//! pool:    Recruit::part(pid, status)              once the end was seen and the family has its locks back
//! ```
//!
//! Deaths, retries, time limits and replacement are the same as for workers that the pool starts itself: all that is needed is the pid. The pool watches and signals such a worker
//! through a pidfd and never reaps it: the zombie belongs to whoever started the process, who is told.
//!
//! A boot is a name, not a hold: it may travel by any means, any number of times, and is worth nothing once the pool has buried the worker that it was made for.

use super::employee::Employee;
use super::record::Tag;
use super::worker::{self, INITIALIZER_FAILED, Order};
use crate::channel::{pack, unpack_keeping};
use crate::process::{PanicReport, StartError};
use crate::sys::pidfd::ExitStatus;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Starts the workers of a pool: a hook for embedders, given to [`PoolBuilder::recruit`](crate::PoolBuilder::recruit).
///
/// # Crash safety
/// A worker that dies before or while it calls [`work`] is replaced like any other; if that goes on, the pool is [`Broken`](crate::Broken).
///
/// # Examples
/// Workers that are started as processes of this crate, which a pool without a hook does by itself:
/// ```
/// use procession::{Pool, Process, Recruit, StartMethod, WorkerReport, work};
/// use std::error::Error;
///
/// struct Plain;
///
/// impl Recruit for Plain {
///     fn hire(&self, boot: &[u8], name: &str) -> Result<u32, Box<dyn Error + Send + Sync>> {
///         let live = |boot: Vec<u8>| drop(work(&boot, || Ok::<_, WorkerReport>(()), || true));
///         let process = Process::builder(live, boot.to_vec()).name(name).daemon(true).start()?;
///         Ok(process.pid())
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn Error>> {
///     procession::init();
///     let pool = Pool::builder().workers(2).recruit(Plain).build()?;
///     assert_eq!(pool.map(|x: u32| x + 1, [1, 2])?, [2, 3]);
///     Ok(())
/// }
/// ```
pub trait Recruit: Send + Sync + 'static {
    /// Starts a process that will call [`work`] with `boot`, and gives its pid. No lock of the pool is held.
    ///
    /// It may have ended by then; reap it in [`part`](Self::part), not before: a pid that is free may be somebody else's.
    ///
    /// # Errors
    /// Whatever kept it from starting; its text becomes that of [`StartError::Recruit`].
    fn hire(&self, boot: &[u8], name: &str) -> Result<u32, Box<dyn Error + Send + Sync>>;

    /// A worker has ended. `status` is [`ExitStatus::Unknown`] if it is no child of this process; whoever knows better says so. No lock of the pool is held.
    fn part(&self, pid: u32, status: ExitStatus) -> ExitStatus {
        let _ = pid;
        status
    }
}

/// What a worker says of its own beginning if that failed.
///
/// # Examples
/// See [`work`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerReport {
    /// What went wrong.
    pub message: String,
    /// Where, as text; may be empty.
    pub backtrace: String,
    /// More of it, for whoever built the pool; may be empty.
    pub detail: Vec<u8>,
}

/// Why a process is no worker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process cannot be a worker: {reason}")]
pub struct BootError {
    reason: String,
}

/// The life of a worker that a [`Recruit`] started: first `initialize`, then one task after the other in the calling thread, until the pool wants no more. Gives the exit
/// code that the process should end with.
///
/// `signalled` is called when a signal has interrupted the wait for a task: a runtime looks after its signals there. `false`: the worker leaves, as if it had done enough.
///
/// The process dies with the pool's process.
///
/// # Blocking
/// Until the pool dismisses the worker.
///
/// # Errors
/// [`BootError`]: the pool is gone, or the boot is none. What `initialize` reports is told to the pool, which is [`Broken::Initializer`](crate::Broken::Initializer) if it happens again and again.
///
/// # Examples
/// ```
/// use procession::{WorkerReport, work};
///
/// let stale = work(b"no boot", || Ok::<_, WorkerReport>(()), || true);
/// assert!(stale.is_err());
/// ```
pub fn work(
    boot: &[u8],
    initialize: impl FnOnce() -> Result<(), WorkerReport>,
    mut signalled: impl FnMut() -> bool,
) -> Result<i32, BootError> {
    let order = read(boot)?;
    if let Some(parent) = order.parent {
        parent.die_with().map_err(|error| BootError {
            reason: error.to_string(),
        })?;
    }
    if let Err(report) = initialize() {
        let WorkerReport {
            message,
            backtrace,
            detail,
        } = report;
        let report = PanicReport {
            message,
            location: String::new(),
            backtrace,
            detail,
        };
        worker::resign(&order, Tag::InitializerFailed, report);
        return Ok(INITIALIZER_FAILED);
    }
    Ok(worker::serve(&order, &mut signalled))
}

fn read(boot: &[u8]) -> Result<Order, BootError> {
    unpack_keeping(boot).map_err(|error| BootError {
        reason: error.to_string(),
    })
}

/// The hook of a pool.
#[derive(Clone)]
pub(super) struct Hiring(pub(super) Arc<dyn Recruit>);

impl fmt::Debug for Hiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recruit")
    }
}

impl Hiring {
    /// Has a worker started.
    pub(super) fn hire(&self, order: &Order, name: String) -> Result<Employee, StartError> {
        let mut boot = Vec::new();
        // What the boot names is held by the pool for as long as the worker may need it.
        if let Err(source) = pack(order, &mut boot) {
            return Err(StartError::Encode { name, source });
        }
        match self.0.hire(&boot, &name) {
            Ok(pid) => Employee::recruited(name, pid, Arc::clone(&self.0)),
            Err(error) => {
                let reason = error.to_string();
                Err(StartError::Recruit { name, reason })
            }
        }
    }
}
