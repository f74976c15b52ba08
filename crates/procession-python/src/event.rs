//! The event of the engine under `procession.synchronize`.

use crate::error::Raise;
use crate::message::{Object, Parcel, Reduced, reduce, wrong_parcel};
use crate::wait::{deadline_after, wait};
use procession::Event;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// A flag to wait for.
#[pyclass(frozen, subclass, module = "procession._procession", name = "Event")]
pub(crate) struct PyEvent {
    event: Event,
}

#[pymethods]
impl PyEvent {
    /// Make an event that is not set.
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let _ = kwargs;
        let event = match Parcel::of(args.get_item(0).ok().as_ref()) {
            Some(Object::Event(event)) => event,
            Some(_) => return Err(wrong_parcel()),
            None => Event::new().map_err(Raise::raise)?,
        };
        Ok(Self { event })
    }

    /// Say whether the event is set.
    fn is_set(&self) -> bool {
        self.event.is_set()
    }

    /// Set the event: whoever waits for it goes on.
    fn set(&self) {
        self.event.set();
    }

    /// Clear the event.
    fn clear(&self) {
        self.event.clear();
    }

    /// Wait until the event is set; say whether it was before the time ran out.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        if self.event.is_set() {
            return Ok(true);
        }
        let deadline = deadline_after(timeout)?;
        let set = wait(py, deadline, |until| self.event.wait_deadline(until).ok())?;
        Ok(set.is_some())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        reduce(slf.as_any(), Object::Event(slf.get().event.clone()))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyEvent>()
}
