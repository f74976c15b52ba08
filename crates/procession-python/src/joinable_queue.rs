//! The joinable queue of the engine under `procession.queues`.

use crate::queue::{Objects, PyQueue};
use crate::wait::wait;
use procession::{JoinableQueue, Letter, Packed};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// A queue that knows when all its items have been dealt with.
#[pyclass(frozen, subclass, extends = PyQueue, module = "procession._procession", name = "JoinableQueue")]
pub(crate) struct PyJoinableQueue;

fn joinable(slf: &Bound<'_, PyJoinableQueue>) -> PyResult<JoinableQueue<Letter, Packed>> {
    let queue: &Objects = slf.as_super().get().queue()?;
    Ok(JoinableQueue::from(queue.clone()))
}

#[pymethods]
impl PyJoinableQueue {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let _ = kwargs;
        let base = PyQueue::from_parcel(args.get_item(0).ok().as_ref())?;
        Ok(PyClassInitializer::from(base).add_subclass(Self))
    }

    /// Say that an item that was taken has been dealt with.
    fn task_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        joinable(slf)?
            .task_done()
            .map_err(|_| PyValueError::new_err("task_done() called too many times"))
    }

    /// Wait until all items have been dealt with.
    fn join(slf: &Bound<'_, Self>) -> PyResult<()> {
        let queue = joinable(slf)?;
        if queue.unfinished() == 0 {
            return Ok(());
        }
        let joined = wait(slf.py(), None, |until| {
            queue.join_deadline(until).then_some(())
        })?;
        debug_assert!(joined.is_some());
        Ok(())
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyJoinableQueue>()
}
