//! Buffers of the family heap as Python memory: what a large array arrives in *is* the block that it was sent in.
#![expect(unsafe_code, reason = "the buffer protocol is a C interface")]

use procession::Buffer;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ffi::c_int;
use std::ptr::NonNull;

/// Bytes of the family heap that this process owns, writable, through the buffer protocol (`memoryview`, `numpy.frombuffer`).
///
/// Freed when the last view of it is gone. In a forked child it must not be used: the block stays the parent's.
#[pyclass(frozen, module = "procession._procession", name = "Buffer")]
pub(crate) struct PyBuffer {
    /// Owns the bytes; not looked at any more.
    _buffer: Buffer,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the bytes belong to the engine's buffer, which may change threads and is not used but for its end.
unsafe impl Send for PyBuffer {}
// SAFETY: this is never written after it was made. The bytes are handed out as raw memory, whose users take turns as those of any writable Python buffer do.
unsafe impl Sync for PyBuffer {}

impl PyBuffer {
    pub(crate) fn new(mut buffer: Buffer) -> Self {
        let bytes = NonNull::from(&mut *buffer);
        Self {
            start: bytes.cast(),
            len: bytes.len(),
            _buffer: buffer,
        }
    }
}

#[pymethods]
impl PyBuffer {
    /// Allocate `size` zero bytes.
    #[new]
    fn zeroed(py: Python<'_>, size: isize) -> PyResult<Self> {
        use crate::error::Raise;
        let size = usize::try_from(size)
            .map_err(|_| PyValueError::new_err("'size' must be a positive integer"))?;
        let buffer = py.detach(|| Buffer::zeroed(size)).map_err(Raise::raise)?;
        Ok(Self::new(buffer))
    }

    fn __len__(&self) -> usize {
        self.len
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("view is null"));
        }
        let this = slf.get();
        let len = isize::try_from(this.len)
            .map_err(|_| PyBufferError::new_err("the buffer is too long"))?;
        let start = this.start.as_ptr().cast();
        // SAFETY: `view` is the caller's, as the protocol says; the bytes live as long as `slf`, to which the view takes a reference, and never move.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, len, 0, flags) };
        if filled == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}

/// The bytes of any object that has the buffer protocol.
pub(crate) enum ByteView<'py> {
    Bytes(Bound<'py, PyBytes>),
    Other(PyUntypedBuffer),
}

impl<'py> ByteView<'py> {
    /// A view of the object's bytes; what is not contiguous is copied first.
    pub(crate) fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return Ok(Self::Bytes(bytes.clone()));
        }
        let view = PyUntypedBuffer::get(object)?;
        if view.is_c_contiguous() {
            return Ok(Self::Other(view));
        }
        let view = pyo3::types::PyMemoryView::from(object)?;
        Ok(Self::Bytes(view.call_method0("tobytes")?.cast_into()?))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes().len(),
            Self::Other(view) => view.len_bytes(),
        }
    }

    /// Copies `into.len()` bytes, from number `start` on.
    ///
    /// # Panics
    /// There are not so many.
    pub(crate) fn copy(&self, start: usize, into: &mut [u8]) {
        let end = start.checked_add(into.len());
        assert!(end.is_some_and(|end| end <= self.len()), "within the view");
        match self {
            Self::Bytes(bytes) => {
                into.copy_from_slice(&bytes.as_bytes()[start..start + into.len()]);
            }
            Self::Other(view) => {
                let from = view.buf_ptr().cast::<u8>().wrapping_add(start);
                // SAFETY: the view is contiguous and keeps its memory where it is; the range lies within it, as asserted; `into` is another's.
                unsafe { std::ptr::copy(from, into.as_mut_ptr(), into.len()) };
            }
        }
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyBuffer>()
}
