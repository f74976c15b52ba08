//! The queue of the engine under `procession.queues`.

use crate::error::Raise;
use crate::message::{Message, Object, Parcel, reduce, wrong_parcel};
use crate::pickle::{decode, encode};
use crate::wait::{deadline_after, wait};
use procession::{GetError, Handle, PutError, Queue};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// A queue of Python objects.
#[pyclass(frozen, subclass, module = "procession._procession", name = "Queue")]
pub(crate) struct PyQueue {
    queue: Queue<Message>,
}

#[pymethods]
impl PyQueue {
    /// Make a queue for at most `maxsize` items; 0: as many as the family's memory holds.
    #[new]
    #[pyo3(signature = (maxsize = None, *, ctx = None))]
    fn new(maxsize: Option<&Bound<'_, PyAny>>, ctx: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let _ = ctx;
        let queue = match Parcel::of(maxsize) {
            Some(Object::Queue(queue)) => queue,
            Some(_) => return Err(wrong_parcel()),
            None => {
                let maxsize: i64 = maxsize.map_or(Ok(0), |maxsize| maxsize.extract())?;
                Queue::new(usize::try_from(maxsize).unwrap_or(0)).map_err(Raise::raise)?
            }
        };
        Ok(Self { queue })
    }

    /// Put an item into the queue; it can be taken when this returns.
    #[pyo3(signature = (obj, block = true, timeout = None))]
    fn put(&self, obj: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<()> {
        let py = obj.py();
        let mut refused = match self.queue.try_put(encode(obj)?) {
            Ok(()) => return Ok(()),
            Err(PutError::Full(message)) if block => Some(message),
            Err(error) => return Err(error.raise()),
        };
        let put = wait(py, deadline_after(timeout)?, |until| {
            let message = refused.take()?;
            match self.queue.put_deadline(message, until) {
                Ok(()) => Some(Ok(())),
                Err(PutError::Full(message) | PutError::TimedOut(message)) => {
                    refused = Some(message);
                    None
                }
                Err(error) => Some(Err(error)),
            }
        })?;
        put.unwrap_or(Err(PutError::TimedOut(Message::default())))
            .map_err(Raise::raise)
    }

    /// Take the oldest item.
    #[pyo3(signature = (block = true, timeout = None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let message =
            match self.queue.try_get() {
                Ok(message) => Ok(message),
                Err(GetError::Empty) if block => wait(py, deadline_after(timeout)?, |until| {
                    match self.queue.get_deadline(until) {
                        Err(GetError::Empty | GetError::TimedOut) => None,
                        other => Some(other),
                    }
                })?
                .unwrap_or(Err(GetError::TimedOut)),
                Err(error) => Err(error),
            };
        decode(py, message.map_err(Raise::raise)?)
    }

    /// The name by which `by_name` finds this queue, in any process of the family, while somebody holds it.
    #[getter]
    fn name(&self) -> String {
        let bytes = self.queue.handle().to_bytes();
        format!("{:032x}", u128::from_be_bytes(bytes))
    }

    /// Open a queue by its name.
    #[staticmethod]
    fn by_name(name: &str) -> PyResult<Self> {
        let bytes = u128::from_str_radix(name, 16)
            .map_err(|_| PyValueError::new_err(format!("`{name}` is no name of a queue")))?;
        let handle = Handle::from_bytes(bytes.to_be_bytes());
        let queue = Queue::open(handle).map_err(Raise::raise)?;
        Ok(Self { queue })
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        reduce(slf.as_any(), Object::Queue(slf.get().queue.clone()))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyQueue>()
}
