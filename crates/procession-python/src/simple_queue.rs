//! The simple queue of the engine under `procession.queues`.

use crate::queue::PyQueue;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// A queue without bounds, of which little is asked.
#[pyclass(frozen, subclass, extends = PyQueue, module = "procession._procession", name = "SimpleQueue")]
pub(crate) struct PySimpleQueue;

fn open<'a>(slf: &'a Bound<'_, PySimpleQueue>) -> PyResult<&'a PyQueue> {
    let queue = slf.as_super().get();
    if queue.is_closed() {
        return Err(PyOSError::new_err("handle is closed"));
    }
    Ok(queue)
}

#[pymethods]
impl PySimpleQueue {
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

    /// Make an empty queue.
    #[pyo3(signature = (*, ctx = None))]
    fn __init__(slf: &Bound<'_, Self>, ctx: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let _ = ctx;
        slf.as_super().get().init(0)
    }

    /// Put an item into the queue; it can be taken when this returns.
    fn put(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        open(slf)?.put_object(obj)
    }

    /// Remove and return the oldest item, waiting for one.
    fn get<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        open(slf)?.get_object(slf.py(), true, None)
    }

    /// Say whether the queue is empty now.
    fn empty(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(open(slf)?.queue()?.is_empty())
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySimpleQueue>()
}
