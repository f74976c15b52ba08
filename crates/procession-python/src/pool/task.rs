//! One call: what `AsyncResult` and `Future` have in common.

use super::call::{Call, Kind, Reply};
use super::crew::{Options, PyCrew, task_options};
use super::pending::{PyPending, Submitted};
use super::worker::answer;
use crate::pickle::encode;
use procession::{Future, SubmitError};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

/// A task of a crew.
#[pyclass(frozen, subclass, extends = PyPending, module = "procession._procession", name = "Task")]
pub(crate) struct PyTask;

/// The call, if it could be sent.
fn call_of<'a>(slf: &'a Bound<'_, PyTask>) -> Option<&'a Future<Reply>> {
    match &slf.as_super().get().submitted {
        Submitted::Call(future) => Some(future),
        Submitted::Nothing | Submitted::Map(_) => None,
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
    ) -> PyResult<PyClassInitializer<Self>> {
        let py = crew.py();
        let crew = crew.get();
        let task = |submitted, settled| {
            let base = PyPending::new(submitted, crew.manner, function, settled);
            Ok(PyClassInitializer::from(base).add_subclass(Self))
        };
        let unsent = |error: PyErr| {
            let error = error.into_value(py).into_any();
            task(Submitted::Nothing, Some(Err(error)))
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
            Err(error) if error.is_instance_of::<PyException>(py) => return unsent(error),
            Err(error) => return Err(error),
        };
        let executor = crew.executor()?;
        let submitted = match options {
            None => executor.submit(answer, call),
            Some(options) => executor.submit_with(task_options(options)?, answer, call),
        };
        match submitted {
            Ok(future) => task(Submitted::Call(future), None),
            Err(error @ SubmitError::Encode(_)) => unsent(crew.refusal(py, error)),
            Err(error) => Err(crew.refusal(py, error)),
        }
    }

    /// Whether a worker has it in hand.
    fn is_running(slf: &Bound<'_, Self>) -> bool {
        call_of(slf).is_some_and(Future::is_running)
    }

    /// Cancel it; one that runs only if `running`: then its worker is killed and replaced. Whether it was cancelled.
    fn revoke(slf: &Bound<'_, Self>, running: bool) -> bool {
        let Some(future) = call_of(slf) else {
            return false;
        };
        slf.py().detach(|| {
            if running {
                future.cancel()
            } else {
                future.cancel_pending()
            }
        })
    }

    /// Whether it was cancelled.
    fn is_revoked(slf: &Bound<'_, Self>) -> bool {
        call_of(slf).is_some_and(Future::is_cancelled)
    }
}
