//! The options of pools and executors.

use super::context::Context;
use super::crew::{Crew, run_call};
use super::error::{PoolError, SubmitError, TaskError};
use super::executor::Executor;
use super::hub::Hub;
use super::lane::PoolBell;
use super::pool::Pool;
use super::record::{Packed, Tag};
use super::recruit::{Hiring, Recruit};
use super::sizing::default_workers;
use super::staff::{Settings, cpus_to_pin};
use super::supervisor::{self, Alarm};
use super::threads::{Finalizer, Initializer, ThreadSettings, Threads};
use super::worker::Hook;
use crate::family::MAX_PARTICIPANTS;
use crate::process::Portable;
use crate::process::StartMethod;
use crate::sys::call::Call;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Who runs the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Processes,
    Threads,
}

/// A pool or executor that is to be made; from [`Pool::builder`] or [`Executor::builder`].
///
/// # Examples
/// ```
/// use procession::{Pool, StartMethod};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let pool = Pool::builder()
///         .workers(2)
///         .start_method(StartMethod::Forkserver)
///         .initializer(|level: String| println!("worker up, log level {level}"), "info".to_owned())
///         .max_tasks_per_worker(1000)
///         .build()?;
///     assert_eq!(pool.map(|x: i32| -x, [1, 2])?, [-1, -2]);
///     Ok(())
/// }
/// ```
#[must_use = "a builder starts nothing until `build` is called"]
pub struct PoolBuilder {
    kind: Kind,
    workers: Option<usize>,
    name: Option<String>,
    method: StartMethod,
    on_demand: bool,
    hiring: Option<Hiring>,
    initializer: Option<Result<Hook, SubmitError>>,
    finalizer: Option<Result<Hook, SubmitError>>,
    max_tasks: u64,
    max_memory: u64,
    pinned: bool,
    nice: i32,
    memory_reserve: Option<u64>,
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("kind", &self.kind)
            .field("workers", &self.workers)
            .field("name", &self.name)
            .field("start_method", &self.method)
            .finish_non_exhaustive()
    }
}

impl PoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            kind: Kind::Processes,
            workers: None,
            name: None,
            method: StartMethod::default(),
            on_demand: false,
            hiring: None,
            initializer: None,
            finalizer: None,
            max_tasks: 0,
            max_memory: 0,
            pinned: false,
            nice: 0,
            memory_reserve: None,
        }
    }

    /// How many workers. Without it, one for each processor that is ours ([`cpu_count`](crate::cpu_count)), fewer if memory is short.
    /// Zero: tasks are run where they are submitted, by the caller, one after the other; for debugging.
    #[doc(alias = "processes")]
    #[doc(alias = "max_workers")]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Has threads of this process run the tasks, instead of processes.
    pub fn threads(mut self) -> Self {
        self.kind = Kind::Threads;
        self
    }

    /// A name for the workers, which are called `name-1`, `name-2`, ...; `Pool-N` without it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How worker processes come into being.
    ///
    /// By [`StartMethod::Fork`] the first workers are copies of this process as it is when the pool is built, which must have one thread then; those that replace them later, when there is
    /// a supervisor thread, are spawned.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = method;
        self
    }

    /// Starts worker processes when there is something for them to do, instead of all at once: no more than there were tasks at one time. They are started by the supervisor, so
    /// a start that fails is known from the tasks.
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::builder().workers(64).on_demand().build()?;
    ///     let first = pool.apply(|()| std::process::id(), ())?;
    ///     assert_eq!(pool.apply(|()| std::process::id(), ())?, first);
    ///     Ok(())
    /// }
    /// ```
    pub fn on_demand(mut self) -> Self {
        self.on_demand = true;
        self
    }

    /// Has the workers started by `recruit` instead of by the pool itself, which then needs no start method: for embedders. See [`Recruit`].
    pub fn recruit(mut self, recruit: impl Recruit) -> Self {
        self.hiring = Some(Hiring(Arc::new(recruit)));
        self
    }

    /// Calls `function` in each worker before its first task. One that panics ends that worker; if it panics in one worker after the other, the pool is
    /// [`Broken`](crate::Broken), with the panic's message.
    pub fn initializer<A: Portable>(mut self, function: fn(A), argument: A) -> Self {
        self.initializer = Some(hook(function, &argument));
        self
    }

    /// Calls `function` in each worker that ends in order, after its last task. Not in one that is killed.
    pub fn finalizer<A: Portable>(mut self, function: fn(A), argument: A) -> Self {
        self.finalizer = Some(hook(function, &argument));
        self
    }

    /// Replaces each worker process after so many tasks; zero: never. For functions that leak.
    #[doc(alias = "maxtasksperchild")]
    #[doc(alias = "max_tasks_per_child")]
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.max_tasks = tasks;
        self
    }

    /// Replaces each worker process that, after a task, has more private memory resident than so many bytes (shared memory not counted); zero: never.
    pub fn max_memory_per_worker(mut self, bytes: u64) -> Self {
        self.max_memory = bytes;
        self
    }

    /// Keeps each worker process on one processor, in turn.
    pub fn pin_workers(mut self, pinned: bool) -> Self {
        self.pinned = pinned;
        self
    }

    /// Makes worker processes nicer than this one by so much (19 is the most): the system runs them only when nobody else wants the processor. Keeps a service responsive whose
    /// workers are all busy.
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = nice;
        self
    }

    /// Begins no more tasks while less memory than so many bytes is free (of the machine, or of the control group if that is tighter), unless nothing runs at all; zero: never minds. Without it: a sixteenth of what
    /// there is, at most 512 MiB. Said in the log (`tracing`) when it begins and ends.
    pub fn memory_reserve(mut self, bytes: u64) -> Self {
        self.memory_reserve = Some(bytes);
        self
    }

    /// Starts the pool.
    ///
    /// # Errors
    /// [`PoolError`]; nothing is left then.
    pub fn build(self) -> Result<Pool, PoolError> {
        Ok(Pool::of(self.crew()?))
    }

    /// Starts an executor instead.
    ///
    /// # Errors
    /// [`PoolError`]; nothing is left then.
    pub fn build_executor(self) -> Result<Executor, PoolError> {
        Ok(Executor::of(self.crew()?))
    }

    fn crew(self) -> Result<Crew, PoolError> {
        let workers = self
            .workers
            .unwrap_or_else(|| default_workers(self.max_memory));
        if self.kind == Kind::Threads || workers == 0 {
            self.thread_crew(workers)
        } else {
            self.process_crew(workers)
        }
    }

    fn take_name(&mut self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = self.name.take();
        name.unwrap_or_else(|| format!("Pool-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    fn process_crew(mut self, workers: usize) -> Result<Crew, PoolError> {
        let limit = MAX_PARTICIPANTS - 1;
        if workers > limit {
            return Err(PoolError::TooManyWorkers {
                wanted: workers,
                limit,
            });
        }
        let settings = Settings {
            name: self.take_name(),
            workers,
            method: self.method,
            on_demand: self.on_demand,
            hiring: self.hiring,
            initializer: checked("initializer", self.initializer)?,
            finalizer: checked("finalizer", self.finalizer)?,
            max_tasks: self.max_tasks,
            max_memory: self.max_memory,
            cpus: if self.pinned {
                cpus_to_pin()
            } else {
                Vec::new()
            },
            nice: self.nice,
            memory_reserve: self.memory_reserve,
        };
        let hub = Arc::new(Hub::new(settings, PoolBell::new()?, Alarm::new()?));
        let first = if hub.settings.on_demand { 0 } else { workers };
        let started = (0..first).try_for_each(|_| hub.hire());
        let supervised = started
            .map_err(PoolError::from)
            .and_then(|()| Ok(supervisor::start(&hub)?));
        if let Err(error) = supervised {
            hub.terminate();
            return Err(error);
        }
        Ok(Crew::Processes(hub))
    }

    fn thread_crew(mut self, size: usize) -> Result<Crew, PoolError> {
        let needs_processes = [
            ("a limit of tasks per worker", self.max_tasks != 0),
            ("a limit of memory per worker", self.max_memory != 0),
            ("pinning workers", self.pinned),
            ("making workers nice", self.nice != 0),
        ];
        // Inline, for debugging, they are left out.
        if let Some((option, _)) = needs_processes
            .into_iter()
            .find(|(_, asked)| *asked && self.kind == Kind::Threads)
        {
            return Err(PoolError::NeedsProcesses { option });
        }
        let initializer = checked("initializer", self.initializer.take())?;
        let finalizer = checked("finalizer", self.finalizer.take())?;
        let settings = ThreadSettings {
            name: self.take_name(),
            size,
            initializer: initializer.map(|hook| Box::new(move || call_here(&hook)) as Initializer),
            finalizer: finalizer.map(|hook| {
                Box::new(move || {
                    if let Err(error) = call_here(&hook) {
                        tracing::error!(%error, "finalizer of a worker failed");
                    }
                }) as Finalizer
            }),
        };
        Ok(Crew::Threads(Threads::new(settings)?))
    }
}

fn hook<A: Portable>(function: fn(A), argument: &A) -> Result<Hook, SubmitError> {
    Ok(Hook {
        call: Call::name(run_call::<fn(A)>, function).ok_or(SubmitError::Nameless)?,
        argument: Packed::new(argument)?,
    })
}

fn checked(
    which: &'static str,
    hook: Option<Result<Hook, SubmitError>>,
) -> Result<Option<Hook>, PoolError> {
    hook.transpose()
        .map_err(|source| PoolError::Hook { which, source })
}

/// Calls a hook in this thread.
fn call_here(hook: &Hook) -> Result<(), TaskError> {
    let context = Context::default();
    context.load(&hook.argument.bytes);
    let call = hook
        .call
        .resolve::<Context>()
        .map_err(|error| TaskError::FunctionNotFound {
            reason: error.to_string(),
        })?;
    match context.call(&call) {
        Tag::Returned => Ok(()),
        tag => Err(super::collect::failure(
            tag,
            super::task::Output::Bytes(context.answer()),
        )),
    }
}
