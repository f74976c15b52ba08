//! The engine of one pool or executor, with workers that are Python processes.

use super::callback::wait_for_all;
use super::function::Functions;
use super::outcome::{Manner, broken_pool};
use super::recruit::Staff;
use crate::error::{Raise, at_end_of_object};
use crate::wait::{deadline_after, wait};
use procession::{Executor, PoolError, SubmitError, TaskOptions};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Workers, and the tasks that they have.
#[pyclass(frozen, module = "procession._procession", name = "Crew")]
pub(crate) struct PyCrew {
    /// There until this object goes.
    executor: Option<Executor>,
    pub(super) functions: Functions,
    pub(super) manner: Manner,
    /// What kept the last worker from starting.
    error: Arc<Mutex<Option<PyErr>>>,
}

/// What may be asked for a task: time limit in seconds, retries, priority, name.
pub(super) type Options = (Option<f64>, u32, i32, Option<String>);

pub(super) fn task_options(options: Options) -> PyResult<TaskOptions> {
    let (timeout, retries, priority, name) = options;
    let mut options = TaskOptions::new().retries(retries).priority(priority);
    if let Some(seconds) = timeout {
        let limit = Duration::try_from_secs_f64(seconds)
            .map_err(|_| PyValueError::new_err("timeout must be a positive number of seconds"))?;
        options = options.timeout(limit);
    }
    if let Some(name) = name {
        options = options.name(name);
    }
    Ok(options)
}

impl PyCrew {
    pub(super) fn executor(&self) -> PyResult<&Executor> {
        self.executor
            .as_ref()
            .ok_or_else(|| PyValueError::new_err("Pool not running"))
    }

    /// The exception for a task that was not taken.
    pub(super) fn refusal(&self, py: Python<'_>, error: SubmitError) -> PyErr {
        let text = error.to_string();
        match error {
            SubmitError::Closed if self.manner == Manner::Pool => {
                PyValueError::new_err("Pool not running")
            }
            SubmitError::Closed => {
                PyRuntimeError::new_err("cannot schedule new futures after shutdown")
            }
            SubmitError::Broken(broken) => {
                PyErr::from_value(broken_pool(py, self.manner, &broken).into_bound(py))
            }
            SubmitError::Encode(error) => error.raise(),
            SubmitError::Nameless | SubmitError::NotOurs => PyRuntimeError::new_err(text),
        }
    }

    fn take_error(&self) -> Option<PyErr> {
        take(&self.error)
    }
}

fn take(error: &Mutex<Option<PyErr>>) -> Option<PyErr> {
    error.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Locks what the threads of one process use. `None`: this is a forked copy, and the thread that holds it did not come along.
pub(super) fn lock_unless_left<'a, T>(
    py: Python<'_>,
    mutex: &'a Mutex<T>,
    is_ours: impl FnOnce() -> bool,
) -> Option<MutexGuard<'a, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) if is_ours() => {
            let locked = mutex.lock_py_attached(py);
            Some(locked.unwrap_or_else(PoisonError::into_inner))
        }
        Err(TryLockError::WouldBlock) => None,
    }
}

fn raise(error: PoolError) -> PyErr {
    let text = error.to_string();
    match error {
        PoolError::Heap(error) => error.raise(),
        PoolError::System(error) => error.raise(),
        PoolError::TooManyWorkers { .. } | PoolError::NeedsProcesses { .. } => {
            PyValueError::new_err(text)
        }
        PoolError::Hook { .. } | PoolError::Start(_) => PyOSError::new_err(text),
    }
}

#[pymethods]
impl PyCrew {
    /// Start a crew.
    ///
    /// Args:
    ///     staff: Starts workers: `hire(boot, name)` returns the pid of a process that will call `work(boot, ...)`; `part(pid)` is told of its end and returns its exit code.
    ///     workers: How many.
    ///     name: What their names begin with.
    ///     max_tasks: How many tasks a worker does before it is replaced; 0: any number.
    ///     on_demand: Whether workers are started only when there is something for them to do.
    ///     executor: Whether failures are told in the manner of `concurrent.futures`.
    #[new]
    #[pyo3(signature = (staff, workers, *, name, max_tasks = 0, on_demand = false, executor = false))]
    fn new(
        py: Python<'_>,
        staff: Py<PyAny>,
        workers: usize,
        name: &str,
        max_tasks: u64,
        on_demand: bool,
        executor: bool,
    ) -> PyResult<Self> {
        let (staff, error) = Staff::new(staff);
        let mut builder = Executor::builder()
            .workers(workers)
            .name(name)
            .max_tasks_per_worker(max_tasks)
            .recruit(staff);
        if on_demand {
            builder = builder.on_demand();
        }
        let built = py.detach(|| builder.build_executor());
        // The hook's own exception says more than ours.
        let executor_built =
            built.map_err(|engine| take(&error).unwrap_or_else(|| raise(engine)))?;
        Ok(Self {
            executor: Some(executor_built),
            functions: Functions::default(),
            manner: Manner::of(executor),
            error,
        })
    }

    /// What kept the last worker from starting, once.
    fn start_error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.take_error()
            .map(|error| error.into_value(py).into_any())
    }

    /// Take no more tasks; workers end when they have done what there is.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let executor = self.executor()?;
        py.detach(|| executor.close());
        Ok(())
    }

    /// Close, and wait until all tasks are done, all callbacks have returned and all workers have ended; whether so.
    #[pyo3(signature = (timeout = None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let executor = self.executor()?;
        if !executor.is_ours() {
            return Err(PyRuntimeError::new_err(
                "can only join a pool of this process",
            ));
        }
        let joined = wait(py, deadline_after(timeout)?, |until| {
            executor.shutdown_timeout(left(until)).then_some(())
        })?;
        if joined.is_some() {
            wait_for_all(py)?;
        }
        Ok(joined.is_some())
    }

    /// Kill the workers; what is not done fails.
    fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        let executor = self.executor()?;
        py.detach(|| executor.terminate());
        Ok(())
    }

    /// Cancel what no worker has begun.
    fn cancel_pending(&self, py: Python<'_>) -> PyResult<()> {
        let executor = self.executor()?;
        py.detach(|| executor.cancel_pending());
        Ok(())
    }

    /// Whether this process started it, and no parent of it.
    pub(super) fn is_ours(&self) -> bool {
        self.executor.as_ref().is_some_and(Executor::is_ours)
    }

    /// Whether it was closed, all is done, and all workers have ended.
    fn is_finished(&self) -> bool {
        self.executor.as_ref().is_none_or(Executor::is_finished)
    }

    /// Close, and let what was submitted be done even when this object is gone.
    fn let_run(&self, py: Python<'_>) -> PyResult<()> {
        let executor = self.executor()?;
        py.detach(|| executor.let_run());
        Ok(())
    }
}

pub(super) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

impl Drop for PyCrew {
    fn drop(&mut self) {
        let Some(executor) = self.executor.take() else {
            return;
        };
        // Whoever is starting or burying a worker right now needs the interpreter, and is waited for.
        let mut executor = Some(executor);
        at_end_of_object(|py| {
            let executor = executor.take();
            py.detach(|| drop(executor));
        });
        // Is it still here, the interpreter is gone; workers die with this process.
        std::mem::forget(executor);
    }
}
