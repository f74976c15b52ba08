//! What is done, or will be: what the results of one call and of a map have in common.

use super::call::Reply;
use super::callback;
use super::crew::{left, lock_unless_left};
use super::map::All;
use super::outcome::{Manner, Settled, settle};
use crate::wait::{deadline_after, wait};
use procession::{Future, TaskError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Mutex;
use std::time::Duration;

/// What was submitted to a crew.
pub(super) enum Submitted {
    /// Nothing: it could not be sent.
    Nothing,
    /// One call.
    Call(Future<Reply>),
    /// A call for each item, or for each chunk of them.
    Map(All),
}

impl Submitted {
    fn is_done(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Call(future) => future.is_done(),
            Self::Map(all) => all.future.is_done(),
        }
    }

    fn is_ours(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Call(future) => future.is_ours(),
            Self::Map(all) => all.future.is_ours(),
        }
    }

    fn wait_timeout(&self, limit: Duration) -> bool {
        match self {
            Self::Nothing => true,
            Self::Call(future) => future.wait_timeout(limit),
            Self::Map(all) => all.future.wait_timeout(limit),
        }
    }

    fn on_done(&self, tell: impl FnOnce() + Send + 'static) {
        match self {
            Self::Nothing => tell(),
            Self::Call(future) => future.on_done(tell),
            Self::Map(all) => all.future.on_done(tell),
        }
    }

    /// What came of it; it is done.
    fn outcome(&self, py: Python<'_>, manner: Manner, function: &Py<PyAny>) -> Settled {
        match self {
            Self::Nothing => settle(py, manner, function, Err(TaskError::NotDone)),
            Self::Call(future) => settle(py, manner, function, future.try_result()),
            Self::Map(all) => all.outcome(py, manner, function),
        }
    }
}

/// What a crew does, or has done.
#[pyclass(
    frozen,
    subclass,
    weakref,
    module = "procession._procession",
    name = "Pending"
)]
pub(crate) struct PyPending {
    pub(super) submitted: Submitted,
    manner: Manner,
    function: Py<PyAny>,
    settled: Mutex<Option<Settled>>,
}

impl PyPending {
    pub(super) fn new(
        submitted: Submitted,
        manner: Manner,
        function: &Bound<'_, PyAny>,
        settled: Option<Settled>,
    ) -> Self {
        Self {
            submitted,
            manner,
            function: function.clone().unbind(),
            settled: Mutex::new(settled),
        }
    }

    /// What came of it; it is done.
    fn settle(&self, py: Python<'_>) -> Settled {
        // Unpickling under the lock may let other threads run, which come here, or fork.
        let slot = lock_unless_left(py, &self.settled, || self.submitted.is_ours());
        let Some(mut settled) = slot else {
            return settle(py, self.manner, &self.function, Err(TaskError::NotOurs));
        };
        let outcome = || self.submitted.outcome(py, self.manner, &self.function);
        match settled.get_or_insert_with(outcome) {
            Ok(object) => Ok(object.clone_ref(py)),
            Err(error) => Err(error.clone_ref(py)),
        }
    }
}

#[pymethods]
impl PyPending {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // An exception's traceback leads to whoever asked for the result, and so to this. While it is locked, it is in use, and no garbage.
        if let Ok(Some(Ok(object) | Err(object))) = self.settled.try_lock().as_deref() {
            visit.call(object)?;
        }
        visit.call(&self.function)
    }

    fn __clear__(&self) {
        let settled = self.settled.try_lock().ok();
        drop(settled.and_then(|mut settled| settled.take()));
    }

    /// Whether there is a result, or an exception.
    fn is_done(&self) -> bool {
        self.submitted.is_done()
    }

    /// Whether this process submitted it, and no parent of it: what is not done at a fork never is in the child.
    fn is_ours(&self) -> bool {
        self.submitted.is_ours()
    }

    /// Wait until it is done, at most so many seconds; whether it is.
    #[pyo3(signature = (timeout = None))]
    fn wait_done(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        if self.submitted.is_done() {
            return Ok(true);
        }
        let done = wait(py, deadline_after(timeout)?, |until| {
            if !self.submitted.is_ours() {
                return Some(false);
            }
            self.submitted.wait_timeout(left(until)).then_some(true)
        })?;
        Ok(done.unwrap_or(false))
    }

    /// Return the result, of a map the list of results, or raise the first exception; it is done.
    fn fetch(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.settle(py)
            .map_err(|error| PyErr::from_value(error.into_bound(py)))
    }

    /// Return the first exception; `None` if there is a result. It is done.
    fn failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.settle(py).err()
    }

    /// Call `callback(self)` once it is done, on the thread for callbacks.
    fn when_done(slf: &Bound<'_, Self>, callback: Py<PyAny>) -> PyResult<()> {
        callback::start(slf.py())?;
        let this = slf.clone().into_any().unbind();
        let tell = move || callback::post(callback, this);
        slf.get().submitted.on_done(tell);
        Ok(())
    }
}
