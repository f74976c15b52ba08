//! The result of one call, that is there or will be: what `AsyncResult` and `Future` have in common.

use super::call::{Call, Kind, Reply};
use super::callback;
use super::crew::{Options, PyCrew, left, task_options};
use super::outcome::{Manner, Settled, clear_settled, settle, visit_settled};
use super::worker::answer;
use crate::pickle::encode;
use crate::wait::{deadline_after, wait};
use procession::{Future, SubmitError, TaskError};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::{Mutex, MutexGuard};

/// A task of a crew.
#[pyclass(
    frozen,
    subclass,
    weakref,
    module = "procession._procession",
    name = "Task"
)]
pub(crate) struct PyTask {
    /// None: it could not be sent.
    future: Option<Future<Reply>>,
    manner: Manner,
    function: Py<PyAny>,
    settled: Mutex<Option<Settled>>,
}

impl PyTask {
    fn settled_slot(&self, py: Python<'_>) -> MutexGuard<'_, Option<Settled>> {
        // Unpickling under the lock may let other threads run, which come here.
        self.settled
            .lock_py_attached(py)
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What came of it; it is done.
    fn settle(&self, py: Python<'_>) -> Settled {
        let mut settled = self.settled_slot(py);
        let settled = settled.get_or_insert_with(|| {
            let outcome = self.future.as_ref().map(Future::try_result);
            settle(
                py,
                self.manner,
                &self.function,
                outcome.unwrap_or(Err(TaskError::NotDone)),
            )
        });
        match settled {
            Ok(object) => Ok(object.clone_ref(py)),
            Err(error) => Err(error.clone_ref(py)),
        }
    }
}

#[pymethods]
impl PyTask {
    /// Submit a call. What cannot be pickled is an exception of the task.
    #[new]
    #[pyo3(signature = (crew, kind, function, arguments, options = None))]
    fn new(
        crew: &Bound<'_, PyCrew>,
        kind: Kind,
        function: &Bound<'_, PyAny>,
        arguments: &Bound<'_, PyAny>,
        options: Option<Options>,
    ) -> PyResult<Self> {
        let py = crew.py();
        let crew = crew.get();
        let unsent = |error: PyErr| Self {
            future: None,
            manner: crew.manner,
            function: function.clone().unbind(),
            settled: Mutex::new(Some(Err(error.into_value(py).into_any()))),
        };
        let call = crew.functions.once(function).and_then(|function| {
            Ok(Call {
                kind,
                function,
                arguments: encode(arguments)?,
            })
        });
        let call = match call {
            Ok(call) => call,
            Err(error) if error.is_instance_of::<PyException>(py) => return Ok(unsent(error)),
            Err(error) => return Err(error),
        };
        let executor = crew.executor()?;
        let submitted = match options {
            None => executor.submit(answer, call),
            Some(options) => executor.submit_with(task_options(options)?, answer, call),
        };
        match submitted {
            Ok(future) => Ok(Self {
                future: Some(future),
                manner: crew.manner,
                function: function.clone().unbind(),
                settled: Mutex::new(None),
            }),
            Err(error @ SubmitError::Encode(_)) => Ok(unsent(crew.refusal(py, error))),
            Err(error) => Err(crew.refusal(py, error)),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit_settled(&self.settled, &visit)?;
        visit.call(&self.function)
    }

    fn __clear__(&self) {
        clear_settled(&self.settled);
    }

    /// Whether there is a result, or an exception.
    fn is_done(&self) -> bool {
        self.future.as_ref().is_none_or(Future::is_done)
    }

    /// Wait until it is done, at most so many seconds; whether it is.
    #[pyo3(signature = (timeout = None))]
    fn wait_done(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let Some(future) = self.future.as_ref().filter(|future| !future.is_done()) else {
            return Ok(true);
        };
        let done = wait(py, deadline_after(timeout)?, |until| {
            if !future.is_ours() {
                return Some(false);
            }
            future.wait_timeout(left(until)).then_some(true)
        })?;
        Ok(done.unwrap_or(false))
    }

    /// Return the result or raise the exception of a task that is done.
    fn fetch(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.settle(py)
            .map_err(|error| PyErr::from_value(error.into_bound(py)))
    }

    /// Return the exception of a task that is done; `None` if it has a result.
    fn failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.settle(py).err()
    }

    /// Whether a worker has it in hand.
    fn is_running(&self) -> bool {
        self.future.as_ref().is_some_and(Future::is_running)
    }

    /// Cancel it; one that runs only if `running`: then its worker is killed and replaced. Whether it was cancelled.
    fn revoke(&self, py: Python<'_>, running: bool) -> bool {
        let Some(future) = &self.future else {
            return false;
        };
        py.detach(|| {
            if running {
                future.cancel()
            } else {
                future.cancel_pending()
            }
        })
    }

    /// Whether it was cancelled.
    fn is_revoked(&self) -> bool {
        self.future.as_ref().is_some_and(Future::is_cancelled)
    }

    /// Call `callback(task)` once it is done, on the thread for callbacks.
    fn when_done(slf: &Bound<'_, Self>, callback: Py<PyAny>) -> PyResult<()> {
        callback::start(slf.py())?;
        let task = slf.clone().into_any().unbind();
        let tell = move || callback::post(callback, task);
        match &slf.get().future {
            Some(future) => future.on_done(tell),
            None => tell(),
        }
        Ok(())
    }
}
