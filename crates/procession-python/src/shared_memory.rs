//! Anonymous shared memory as Python memory: what `procession.sharedctypes` makes its objects in.
#![expect(unsafe_code, reason = "the buffer protocol is a C interface")]

use crate::error::Raise;
use crate::message::{Object, Parcel, handle_of, name_of, reduce, wrong_parcel};
use procession::SharedMemory;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::ffi::c_int;

/// Bytes of the family heap that all processes of the family share, writable, through the buffer protocol (`memoryview`, `ctypes`, `numpy.frombuffer`).
///
/// They live as long as any process holds such an object or a view of one; pickled, it is the same bytes wherever it arrives.
#[pyclass(
    frozen,
    subclass,
    weakref,
    module = "procession._procession",
    name = "SharedMemory"
)]
pub(crate) struct PySharedMemory {
    memory: SharedMemory,
}

#[pymethods]
impl PySharedMemory {
    /// Allocate `size` zero bytes.
    #[new]
    fn new(size: &Bound<'_, PyAny>) -> PyResult<Self> {
        let memory = match Parcel::of(Some(size)) {
            Some(Object::SharedMemory(memory)) => memory,
            Some(_) => return Err(wrong_parcel()),
            None => {
                let size = usize::try_from(size.extract::<isize>()?)
                    .map_err(|_| PyValueError::new_err("'size' must be a positive integer"))?;
                SharedMemory::new(size).map_err(Raise::raise)?
            }
        };
        Ok(Self { memory })
    }

    fn __len__(&self) -> usize {
        self.memory.len()
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("view is null"));
        }
        let bytes = slf.get().memory.as_atomics();
        let start = bytes.as_ptr().cast_mut();
        let len = isize::try_from(bytes.len())
            .map_err(|_| PyBufferError::new_err("the memory is too long"))?;
        // SAFETY: `view` is the caller's, as the protocol says; the bytes are atomics, which may be written through a shared reference, and live as long as `slf`,
        // to which the view takes a reference.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start.cast(), len, 0, flags) };
        if filled == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        reduce(slf.as_any(), Object::SharedMemory(slf.get().memory.clone()))
    }

    /// The name by which `by_name` finds this memory, in any process of the family, while somebody holds it.
    #[getter]
    fn name(&self) -> String {
        name_of(self.memory.handle())
    }

    /// Open shared memory by its name.
    #[staticmethod]
    fn by_name(name: &str) -> PyResult<Self> {
        let memory = SharedMemory::open(handle_of(name)?).map_err(Raise::raise)?;
        Ok(Self { memory })
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySharedMemory>()
}
