//! All results of a map whose items were submitted at once.

use super::call::{Call, Kind, Reply};
use super::crew::{Options, PyCrew, task_options};
use super::function::Shipped;
use super::outcome::{Manner, Settled, settle};
use super::pending::{PyPending, Submitted};
use super::worker::answer;
use crate::message::Message;
use crate::pickle::encode;
use procession::{MapFuture, TaskOptions};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};
use std::sync::{Arc, Mutex, PoisonError};

/// A map of a crew.
#[pyclass(frozen, subclass, extends = PyPending, module = "procession._procession", name = "MapTask")]
pub(crate) struct PyMapTask;

/// All calls of a map.
pub(super) struct All {
    pub(super) future: MapFuture<Reply>,
    kind: Kind,
    /// Exceptions of items that could not be pickled, and of the iterable itself, in order.
    errors: Mutex<Vec<Py<PyAny>>>,
}

impl All {
    /// The list of results, or the first exception; all are done.
    pub(super) fn outcome(&self, py: Python<'_>, manner: Manner, function: &Py<PyAny>) -> Settled {
        self.gather(py, manner, function)
            .unwrap_or_else(|error| Err(error.into_value(py).into_any()))
    }

    fn gather(&self, py: Python<'_>, manner: Manner, function: &Py<PyAny>) -> PyResult<Settled> {
        let errors = || self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let results = PyList::empty(py);
        let outcomes = self.future.results().unwrap_or_default();
        for outcome in outcomes {
            if matches!(outcome, Ok(Reply::Absent)) {
                return Ok(Err(errors().remove(0)));
            }
            match settle(py, manner, function, outcome) {
                Ok(answer) => self.kind.add(&results, answer.into_bound(py))?,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(match errors().pop() {
            Some(error) => Err(error),
            None => Ok(results.into_any().unbind()),
        })
    }
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
    ) -> PyResult<PyClassInitializer<Self>> {
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
        // Until the last call was made.
        future.on_done(move || drop(shipped));
        let all = All {
            future,
            kind,
            errors: Mutex::new(errors.collect()),
        };
        let base = PyPending::new(Submitted::Map(all), crew.manner, function, None);
        Ok(PyClassInitializer::from(base).add_subclass(Self))
    }
}
