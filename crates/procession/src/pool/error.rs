//! What can go wrong with a task, and with a pool.

use crate::channel::EncodeError;
use crate::heap::HeapError;
use crate::process::{PanicReport, StartError};
use crate::sys::pidfd::ExitStatus;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a task gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The function panicked. Its worker goes on.
    #[error("task panicked{}: {message}", At(location))]
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column`, if known.
        location: Option<String>,
        /// The backtrace in the worker, as text; empty if there is none.
        backtrace: String,
    },
    /// The worker that ran it died; no other task was harmed.
    #[error(transparent)]
    WorkerDied(#[from] Box<WorkerDied>),
    /// It ran longer than it may ([`TaskOptions::timeout`](crate::TaskOptions::timeout)); its worker was replaced.
    #[error("task ran longer than {limit:?}; its worker was replaced")]
    TimedOut {
        /// How long it may run.
        limit: Duration,
    },
    /// It was cancelled.
    #[error("task was cancelled")]
    Cancelled,
    /// The pool was terminated, or dropped, before the task was done.
    #[error("pool was terminated before the task was done")]
    Terminated,
    /// The pool can run nothing any more.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The worker could not read the arguments.
    #[error("worker cannot read the arguments of the task: {reason}")]
    UndecodableArguments {
        /// The cause.
        reason: String,
    },
    /// The function returned what cannot be sent.
    #[error("result of the task cannot be sent: {reason}")]
    UnencodableResult {
        /// The cause.
        reason: String,
    },
    /// The function returned, but its result is not one here.
    #[error("result of the task cannot be read: {reason}")]
    UndecodableResult {
        /// The cause.
        reason: String,
    },
    /// The worker does not have the function, or is another build of the program.
    #[error("worker cannot find the function of the task: {reason}")]
    FunctionNotFound {
        /// The cause.
        reason: String,
    },
    /// The task was never begun: its arguments could not be sent, or the pool takes no more tasks.
    #[error("task was not submitted")]
    NotSubmitted(#[from] Arc<SubmitError>),
    /// It is not done yet (`result_timeout`, `try_result`).
    #[error("task is not done yet")]
    NotDone,
    /// Somebody has taken the result already.
    #[error("result of the task was taken already")]
    AlreadyTaken,
    /// This process did not start the pool: the handle is a copy that a fork made.
    #[error("pool belongs to the process that this one was forked from")]
    NotOurs,
}

impl TaskError {
    pub(super) fn panicked(report: PanicReport) -> Self {
        Self::Panicked {
            message: report.message,
            location: Some(report.location).filter(|location| !location.is_empty()),
            backtrace: report.backtrace,
        }
    }
}

/// ` at file:line:column`, or nothing.
struct At<'a>(&'a Option<String>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(location) => write!(f, " at {location}"),
            None => Ok(()),
        }
    }
}

/// A worker died while it ran a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerDied {
    /// The worker's name.
    pub worker: String,
    /// Its pid.
    pub pid: u32,
    /// How it ended: signal or exit code.
    pub status: ExitStatus,
    /// The task: the name of its function's type, and its number in the map that it belongs to, if it does.
    pub task: String,
    /// The most memory that the worker ever had resident, in bytes, if known.
    pub peak_memory: Option<u64>,
    /// It was killed by SIGKILL that we did not send, and the system says that it killed somebody of our control group for lack of memory.
    pub likely_out_of_memory: bool,
    /// Which try of the task this was, from 1.
    pub tries: u32,
}

impl fmt::Display for WorkerDied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            worker,
            pid,
            status,
            task,
            ..
        } = self;
        write!(
            f,
            "worker `{worker}` (pid {pid}) {status} while it ran {task}"
        )?;
        if self.likely_out_of_memory {
            f.write_str("; likely out of memory")?;
        }
        if let Some(peak) = self.peak_memory {
            write!(f, " (peak {} MiB)", peak >> 20)?;
        }
        if self.tries > 1 {
            write!(f, ", try {}", self.tries)?;
        }
        Ok(())
    }
}

impl std::error::Error for WorkerDied {}

/// Why a pool can run nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The initializer failed in one worker after the other.
    #[error(
        "pool is broken: its initializer failed in {tries} workers one after the other: {message}"
    )]
    Initializer {
        /// How many workers were tried.
        tries: u32,
        /// What the last panic said, and where.
        message: String,
        /// The backtrace of the last one.
        backtrace: String,
        /// What a worker of an embedder said beyond that ([`WorkerReport`](crate::WorkerReport)); else empty.
        detail: Vec<u8>,
    },
    /// Workers end before they come up.
    #[error(
        "pool is broken: {tries} workers one after the other ended before they were ready; the last one {status}{hint}"
    )]
    Workers {
        /// How many workers were tried.
        tries: u32,
        /// How the last one ended.
        status: ExitStatus,
        /// What that may mean; empty, or begins with a separator.
        hint: &'static str,
    },
    /// No worker can be started.
    #[error("pool is broken: no worker can be started: {reason}")]
    Start {
        /// The cause.
        reason: String,
    },
}

/// Why a task was not submitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The pool was closed, shut down or terminated.
    #[error("pool takes no more tasks: it was closed")]
    Closed,
    /// The pool can run nothing any more.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The arguments cannot be sent.
    #[error("arguments of the task cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    /// The function lies in code that another process could not find (made at run time, say).
    #[error("function lies in no program or library that can be identified")]
    Nameless,
    /// This process did not start the pool: the handle is a copy that a fork made.
    #[error("pool belongs to the process that this one was forked from")]
    NotOurs,
}

impl From<SubmitError> for TaskError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Broken(broken) => Self::Broken(broken),
            SubmitError::NotOurs => Self::NotOurs,
            other => Self::NotSubmitted(Arc::new(other)),
        }
    }
}

/// Why a pool was not made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// More workers than a family has places for.
    #[error("cannot start {wanted} workers: a family has at most {limit} processes")]
    TooManyWorkers {
        /// How many were wanted.
        wanted: usize,
        /// How many can be.
        limit: usize,
    },
    /// An option that needs processes was given to a pool of threads.
    #[error("{option} needs a pool of processes")]
    NeedsProcesses {
        /// The option.
        option: &'static str,
    },
    /// The initializer or finalizer, or its argument, cannot be sent to workers.
    #[error("{which} cannot be sent to workers")]
    Hook {
        /// `initializer` or `finalizer`.
        which: &'static str,
        /// The cause.
        source: SubmitError,
    },
    /// The family heap cannot be made, or is full.
    #[error("no room in the family heap for a pool")]
    Heap(#[from] HeapError),
    /// The first worker could not be started.
    #[error("cannot start a worker")]
    Start(#[from] StartError),
    /// The system refused a thread or a descriptor.
    #[error("cannot start the pool's supervisor")]
    System(#[from] std::io::Error),
}
