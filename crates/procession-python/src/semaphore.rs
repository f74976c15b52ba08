//! The semaphores of the engine under `procession.synchronize`.

use crate::error::Raise;
use crate::message::{Object, Parcel, Reduced, reduce, wrong_parcel};
use crate::quick::{self, Originals, Quick};
use crate::wait::{Truth, deadline_after, wait};
use procession::{BoundedSemaphore, Semaphore, embed};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::OnceLock;

/// `EINVAL`, as `sem_open` says it.
const INVALID: i32 = 22;

/// A count of permits.
#[pyclass(
    frozen,
    subclass,
    module = "procession._procession",
    name = "Semaphore"
)]
pub(crate) struct PySemaphore {
    /// Made by `__init__`, or taken from a parcel.
    semaphore: OnceLock<Semaphore>,
}

impl PySemaphore {
    #[inline]
    fn semaphore(&self) -> PyResult<&Semaphore> {
        self.semaphore
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the semaphore's __init__ was not called"))
    }

    fn give(&self) -> PyResult<()> {
        self.semaphore()?.release(1).map_err(Raise::raise)
    }

    #[cold]
    fn acquire_slow(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let semaphore = self.semaphore()?;
        let permit = if block {
            wait(py, deadline_after(timeout)?, |until| {
                semaphore
                    .acquire_deadline(until)
                    .map(|permit| permit.forget())
                    .ok()
            })?
        } else {
            embed::look_around();
            None
        };
        Ok(permit.is_some())
    }
}

#[pymethods]
impl PySemaphore {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let _ = kwargs;
        let semaphore = match Parcel::of(args.get_item(0).ok().as_ref()) {
            Some(Object::Semaphore(semaphore)) => semaphore.into(),
            Some(_) => return Err(wrong_parcel()),
            None => OnceLock::new(),
        };
        Ok(Self { semaphore })
    }

    /// Give the semaphore its first value, which is also its largest if `bounded`.
    #[pyo3(signature = (value, bounded = false))]
    fn __init__(&self, value: i32, bounded: bool) -> PyResult<()> {
        let value =
            u32::try_from(value).map_err(|_| PyOSError::new_err((INVALID, "Invalid argument")))?;
        let semaphore = if bounded {
            BoundedSemaphore::new(value).map(|bounded| (*bounded).clone())
        } else {
            Semaphore::new(value)
        };
        self.semaphore
            .set(semaphore.map_err(Raise::raise)?)
            .map_err(|_| PyRuntimeError::new_err("a semaphore cannot be made twice"))
    }

    /// Take a permit; say whether that succeeded.
    #[inline]
    #[pyo3(signature = (block = Truth(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<bool> {
        match self.semaphore()?.try_acquire() {
            Ok(permit) => {
                permit.forget();
                Ok(true)
            }
            Err(_) => self.acquire_slow(py, block.0, timeout),
        }
    }

    /// Add a permit.
    #[inline]
    fn release(&self) -> PyResult<()> {
        self.give()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, Truth(true), None)
    }

    #[pyo3(signature = (exc_type = None, exc_value = None, exc_tb = None))]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        exc_tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, exc_tb);
        self.give()
    }

    /// Say whether there is no permit.
    fn locked(&self) -> PyResult<bool> {
        self._is_zero()
    }

    /// Return how many permits there are.
    fn get_value(&self) -> PyResult<u32> {
        self._get_value()
    }

    /// The most permits that there can be.
    #[getter]
    fn maxvalue(&self) -> PyResult<u32> {
        self.semaphore().map(Semaphore::limit)
    }

    fn _get_value(&self) -> PyResult<u32> {
        self.semaphore().map(Semaphore::value)
    }

    fn _is_zero(&self) -> PyResult<bool> {
        self._get_value().map(|value| value == 0)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let semaphore = slf.get().semaphore()?.clone();
        reduce(slf.as_any(), Object::Semaphore(semaphore))
    }
}

impl Quick for PySemaphore {
    #[inline]
    fn quick_take(&self) -> bool {
        let permit = self.semaphore.get().map(Semaphore::try_acquire);
        let Some(Ok(permit)) = permit else {
            return false;
        };
        permit.forget();
        true
    }

    #[inline]
    fn quick_give(&self) -> bool {
        let given = self.semaphore.get().map(|semaphore| semaphore.release(1));
        matches!(given, Some(Ok(())))
    }

    fn originals() -> &'static Originals {
        static ORIGINALS: Originals = Originals::new();
        &ORIGINALS
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySemaphore>()?;
    quick::install::<PySemaphore>(module)
}
