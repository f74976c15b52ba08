//! All results of a map whose items were submitted at once.

use super::call::{Call, Kind, Reply};
use super::callback;
use super::crew::{Options, PyCrew, left, task_options};
use super::function::Shipped;
use super::outcome::{Manner, Settled, clear_settled, settle, visit_settled};
use super::worker::answer;
use crate::message::Message;
use crate::pickle::encode;
use crate::wait::{deadline_after, wait};
use procession::{MapFuture, TaskOptions};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyIterator, PyList};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::{Arc, Mutex, PoisonError};

/// A map of a crew.
#[pyclass(
    frozen,
    subclass,
    weakref,
    module = "procession._procession",
    name = "MapTask"
)]
pub(crate) struct PyMapTask {
    future: MapFuture<Reply>,
    kind: Kind,
    manner: Manner,
    function: Py<PyAny>,
    /// Exceptions of items that could not be pickled, and of the iterable itself, in order.
    errors: Mutex<Vec<Py<PyAny>>>,
    settled: Mutex<Option<Settled>>,
}

/// Items as calls. An item that cannot be pickled is a call without arguments, and an error.
pub(super) struct Calls<'a, 'py> {
    pub(super) kind: Kind,
    pub(super) shipped: &'a Arc<Shipped>,
    pub(super) items: Bound<'py, PyIterator>,
    /// Of items that could not be pickled.
    pub(super) errors: Vec<PyErr>,
    /// The iterable's own; it ended with it.
    pub(super) end: Option<PyErr>,
}

impl Iterator for Calls<'_, '_> {
    type Item = Call;

    fn next(&mut self) -> Option<Call> {
        if self.end.is_some() {
            return None;
        }
        let item = match self.items.next()? {
            Ok(item) => item,
            Err(error) => {
                self.end = Some(error);
                return None;
            }
        };
        let (kind, arguments) = match encode(&item) {
            Ok(arguments) => (self.kind, arguments),
            Err(error) if !error.is_instance_of::<PyException>(item.py()) => {
                self.end = Some(error);
                return None;
            }
            Err(error) => {
                self.errors.push(error);
                (Kind::Absent, Message::default())
            }
        };
        Some(Call {
            kind,
            function: self.shipped.reference(),
            arguments,
        })
    }
}

#[pymethods]
impl PyMapTask {
    /// Submit a call for each item.
    #[new]
    #[pyo3(signature = (crew, kind, function, items, options = None))]
    fn new(
        crew: &Bound<'_, PyCrew>,
        kind: Kind,
        function: &Bound<'_, PyAny>,
        items: &Bound<'_, PyAny>,
        options: Option<Options>,
    ) -> PyResult<Self> {
        let py = crew.py();
        let crew = crew.get();
        let shipped = crew.functions.many(function)?;
        let options = options.map_or(Ok(TaskOptions::new()), task_options)?;
        let mut calls = Calls {
            kind,
            shipped: &shipped,
            items: items.try_iter()?,
            errors: Vec::new(),
            end: None,
        };
        let future = crew
            .executor()?
            .map_with(&options, answer, &mut calls)
            .map_err(|error| crew.refusal(py, error))?;
        let errors = calls.errors.into_iter().chain(calls.end);
        let errors = errors.map(|error| error.into_value(py).into_any());
        let this = Self {
            future,
            kind,
            manner: crew.manner,
            function: function.clone().unbind(),
            errors: Mutex::new(errors.collect()),
            settled: Mutex::new(None),
        };
        // Until the last call was made.
        this.future.on_done(move || drop(shipped));
        Ok(this)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit_settled(&self.settled, &visit)?;
        visit.call(&self.function)
    }

    fn __clear__(&self) {
        clear_settled(&self.settled);
    }

    /// Whether all are done.
    fn is_done(&self) -> bool {
        self.future.is_done()
    }

    /// Wait until all are done, at most so many seconds; whether they are.
    #[pyo3(signature = (timeout = None))]
    fn wait_done(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        if self.future.is_done() {
            return Ok(true);
        }
        let done = wait(py, deadline_after(timeout)?, |until| {
            if !self.future.is_ours() {
                return Some(false);
            }
            self.future.wait_timeout(left(until)).then_some(true)
        })?;
        Ok(done.unwrap_or(false))
    }

    /// Return the list of results or raise the first exception; all are done.
    fn fetch(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.settle(py)
            .map_err(|error| PyErr::from_value(error.into_bound(py)))
    }

    /// Return the first exception; `None` if there are results. All are done.
    fn failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.settle(py).err()
    }

    /// Call `callback(task)` once all are done, on the thread for callbacks.
    fn when_done(slf: &Bound<'_, Self>, callback: Py<PyAny>) -> PyResult<()> {
        callback::start(slf.py())?;
        let task = slf.clone().into_any().unbind();
        let tell = move || callback::post(callback, task);
        slf.get().future.on_done(tell);
        Ok(())
    }
}

impl PyMapTask {
    fn settle(&self, py: Python<'_>) -> Settled {
        let slot = self.settled.lock_py_attached(py);
        let mut settled = slot.unwrap_or_else(PoisonError::into_inner);
        let settled = settled.get_or_insert_with(|| {
            self.gather(py)
                .unwrap_or_else(|error| Err(error.into_value(py).into_any()))
        });
        match settled {
            Ok(list) => Ok(list.clone_ref(py)),
            Err(error) => Err(error.clone_ref(py)),
        }
    }

    fn gather(&self, py: Python<'_>) -> PyResult<Settled> {
        let results = PyList::empty(py);
        let outcomes = self.future.results().unwrap_or_default();
        for outcome in outcomes {
            if matches!(outcome, Ok(Reply::Absent)) {
                let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
                return Ok(Err(errors.remove(0)));
            }
            let result = match settle(py, self.manner, &self.function, outcome) {
                Ok(result) => result.into_bound(py),
                Err(error) => return Ok(Err(error)),
            };
            if self.kind.is_chunk() {
                results.call_method1("extend", (result,))?;
            } else {
                results.append(result)?;
            }
        }
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match errors.pop() {
            Some(error) => Err(error),
            None => Ok(results.into_any().unbind()),
        })
    }
}
