//! Those who run a pool's tasks: processes, or threads (or, inline, whoever submits).

use super::context::Context;
use super::error::{SubmitError, TaskError};
use super::function::TaskFunction;
use super::future::{Cell, Future};
use super::hub::Hub;
use super::map::{call_each, run_chunk};
use super::record::{Packed, TaskId};
use super::task::{Job, LocalCall, Outcome, Output, Sink, TaskOptions};
use super::threads::Threads;
use crate::process::catch_panic;
use crate::sync::raw::Deadline;
use crate::sys::atfork::lock_unless_left;
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard};

/// Who runs the tasks.
#[derive(Clone)]
pub(super) enum Crew {
    Processes(Arc<Hub>),
    Threads(Arc<Threads>),
}

/// What a task needs beyond its function and arguments.
pub(super) struct Way {
    pub(super) options: Option<Box<TaskOptions>>,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) index: usize,
}

impl Crew {
    /// Submits one task and gives its future.
    pub(super) fn future<F: TaskFunction>(
        &self,
        function: F,
        arguments: F::Arguments,
        options: Option<Box<TaskOptions>>,
    ) -> Result<Future<F::Output>, SubmitError> {
        let cell = Arc::new(Cell::default());
        let way = Way {
            options,
            sink: Arc::clone(&cell) as Arc<dyn Sink>,
            index: 0,
        };
        let id = self.submit(function, arguments, way)?;
        Ok(Future::new(cell, self.clone(), id))
    }

    pub(super) fn submit<F: TaskFunction>(
        &self,
        function: F,
        arguments: F::Arguments,
        way: Way,
    ) -> Result<TaskId, SubmitError> {
        match self {
            Self::Processes(hub) => {
                let number = hub.function(run_call::<F>, function)?;
                let job = Job::pack(arguments, &mut Vec::new())?;
                hub.submit(number, job, way.options, way.sink, way.index)
            }
            Self::Threads(threads) => {
                let again = way
                    .options
                    .as_ref()
                    .is_some_and(|options| options.retries > 0);
                threads.submit(local_call(function, arguments, again)?, way)
            }
        }
    }

    /// Submits several tasks of one sink, numbered from `index` on.
    pub(super) fn submit_all<F: TaskFunction>(
        &self,
        function: F,
        arguments: Vec<F::Arguments>,
        options: Option<&TaskOptions>,
        sink: &Arc<dyn Sink>,
        index: usize,
    ) -> Result<usize, SubmitError> {
        let Self::Processes(hub) = self else {
            for (at, arguments) in arguments.into_iter().enumerate() {
                let way = Way {
                    options: options.cloned().map(Box::new),
                    sink: Arc::clone(sink),
                    index: index + at,
                };
                self.submit(function, arguments, way)?;
            }
            return Ok(0);
        };
        let number = hub.function(run_call::<F>, function)?;
        let mut space = Vec::new();
        let jobs: Vec<_> = arguments
            .into_iter()
            .map(|arguments| Job::pack(arguments, &mut space))
            .collect();
        let bytes = jobs.iter().flatten().map(Job::size).sum();
        hub.submit_all(number, jobs.into_iter(), options, sink, index)?;
        Ok(bytes)
    }

    /// Waits until `is_done`, at the longest until `deadline`, doing the crew's work meanwhile; whether it is done.
    pub(super) fn wait(&self, is_done: &dyn Fn() -> bool, deadline: Deadline) -> bool {
        match self {
            Self::Processes(hub) => hub.is_ours() && hub.wait(is_done, deadline),
            Self::Threads(threads) => threads.wait(is_done, deadline),
        }
    }

    /// Has threads that wait look again.
    pub(super) fn announce(&self) {
        match self {
            // In a forked copy nobody waits.
            _ if !self.is_ours() => {}
            Self::Processes(hub) => hub.announce(),
            Self::Threads(threads) => threads.announce(),
        }
    }

    /// Locks what this crew's threads use. `None`: this is a forked copy, and a thread that holds it did not come along.
    pub(super) fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> Option<MutexGuard<'a, T>> {
        lock_unless_left(mutex, || self.is_ours())
    }

    /// Cancels a task; one that runs only if `running` says so, and never in a thread.
    pub(super) fn cancel(&self, id: TaskId, running: bool) -> bool {
        match self {
            Self::Processes(hub) => hub.is_ours() && hub.cancel(id, running),
            Self::Threads(threads) => threads.cancel(id),
        }
    }

    pub(super) fn is_running(&self, id: TaskId) -> bool {
        match self {
            Self::Processes(hub) => hub.is_ours() && hub.is_running(id),
            Self::Threads(threads) => threads.is_running(id),
        }
    }

    /// The caller will not wait now; the crew must look after what is outstanding.
    pub(super) fn entrust(&self) {
        if let Self::Processes(hub) = self
            && hub.is_ours()
        {
            hub.entrust();
        }
    }

    /// Forgets tasks that no worker has begun: of this sink, or all.
    pub(super) fn abandon(&self, sink: Option<&Arc<dyn Sink>>) {
        match self {
            Self::Processes(hub) if hub.is_ours() => hub.abandon(sink),
            Self::Processes(_) => {}
            Self::Threads(threads) => threads.abandon(sink),
        }
    }

    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Processes(hub) => hub.is_ours(),
            Self::Threads(threads) => threads.is_ours(),
        }
    }

    /// Whether it was closed, and all is done.
    pub(super) fn is_finished(&self) -> bool {
        match self {
            Self::Processes(hub) => hub.is_ours() && hub.has_finished(),
            Self::Threads(threads) => threads.is_ours() && threads.has_finished(),
        }
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Self::Processes(hub) => hub.settings.workers,
            Self::Threads(threads) => threads.size(),
        }
    }

    pub(super) fn close(&self) {
        match self {
            Self::Processes(hub) if hub.is_ours() => hub.close(),
            Self::Processes(_) => {}
            Self::Threads(threads) => threads.close(),
        }
    }

    pub(super) fn join(&self, deadline: Deadline) -> bool {
        match self {
            Self::Processes(hub) => hub.is_ours() && hub.join(deadline),
            Self::Threads(threads) => threads.join(deadline),
        }
    }

    pub(super) fn terminate(&self) {
        match self {
            Self::Processes(hub) => hub.terminate(),
            Self::Threads(threads) => threads.terminate(),
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Processes(one), Self::Processes(two)) => Arc::ptr_eq(one, two),
            (Self::Threads(one), Self::Threads(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

/// The runner of a function.
pub(super) fn run_call<F: TaskFunction>(function: F, context: &Context) -> i32 {
    context.perform(|arguments| function.call(arguments))
}

/// A task for a thread. If it may be tried again its arguments are packed, to be made anew each time.
fn local_call<F: TaskFunction>(
    function: F,
    arguments: F::Arguments,
    again: bool,
) -> Result<LocalCall, SubmitError> {
    if again {
        let packed = Packed::new(&arguments)?;
        return Ok(Box::new(move || call(function, packed.read()?)));
    }
    let mut arguments = Some(arguments);
    Ok(Box::new(move || {
        let arguments = arguments.take().ok_or(TaskError::AlreadyTaken)?;
        call(function, arguments)
    }))
}

fn call<F: TaskFunction>(function: F, arguments: F::Arguments) -> Outcome {
    match catch_panic(|| function.call(arguments), |_| ()) {
        Ok(result) => Ok(Output::Local(Box::new(result) as Box<dyn Any + Send>)),
        Err(report) => Err(TaskError::panicked(report)),
    }
}

impl Crew {
    /// Submits several items as one task; the bytes of its arguments.
    pub(super) fn submit_chunk<F: TaskFunction>(
        &self,
        function: F,
        items: Vec<F::Arguments>,
        options: Option<&TaskOptions>,
        sink: Arc<dyn Sink>,
        index: usize,
    ) -> Result<usize, SubmitError> {
        let way = Way {
            options: options.cloned().map(Box::new),
            sink,
            index,
        };
        match self {
            Self::Processes(hub) => {
                let number = hub.function(run_chunk::<F>, function)?;
                let job = Job::pack(items, &mut Vec::new())?;
                let bytes = job.size();
                hub.submit(number, job, way.options, way.sink, way.index)?;
                Ok(bytes)
            }
            Self::Threads(threads) => {
                let again = way
                    .options
                    .as_ref()
                    .is_some_and(|options| options.retries > 0);
                threads.submit(local_chunk(function, items, again)?, way)?;
                Ok(0)
            }
        }
    }
}

/// A chunk for a thread.
fn local_chunk<F: TaskFunction>(
    function: F,
    items: Vec<F::Arguments>,
    again: bool,
) -> Result<LocalCall, SubmitError> {
    let packed = if again {
        Some(Packed::new(&items)?)
    } else {
        None
    };
    let mut items = Some(items);
    Ok(Box::new(move || {
        let items = match items.take() {
            Some(items) => items,
            None => packed
                .as_ref()
                .map_or(Err(TaskError::AlreadyTaken), Packed::read)?,
        };
        let results = call_each(function, items);
        Ok(Output::Local(Box::new(results) as Box<dyn Any + Send>))
    }))
}
