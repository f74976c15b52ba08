//! The one table from engine errors to Python exceptions. Types and `errno` are those that CPython raises in the same place.

use procession::{
    AboveLimit, DecodeError, EncodeError, GetError, HeapError, NewBarrierError, NewSemaphoreError,
    NotHeld, NotOwner, OwnerDied, PutError, RecvError, SendError, WaitError,
};
use pyo3::exceptions::{PyAssertionError, PyEOFError, PyMemoryError, PyOSError, PyValueError};
use pyo3::import_exception;
use pyo3::prelude::*;
use std::io;

import_exception!(queue, Empty);
import_exception!(queue, Full);
import_exception!(pickle, UnpicklingError);

import_exception!(threading, BrokenBarrierError);

/// Exceptions of the package that have the name of an engine error.
mod exceptions {
    pyo3::import_exception!(procession.synchronize, OwnerDied);
}

/// Runs the Python part of an object's end, if the interpreter is still there.
///
/// Objects end at any time, also while an exception is on its way through the interpreter: it is put aside meanwhile. Code that runs with it would take it for its own.
pub(crate) fn at_end_of_object(end: impl FnOnce(Python<'_>)) {
    Python::try_attach(|py| {
        let raised = PyErr::take(py);
        end(py);
        if let Some(raised) = raised {
            raised.restore(py);
        }
    });
}

/// An engine error that becomes a Python exception.
pub(crate) trait Raise {
    /// The exception.
    fn raise(self) -> PyErr;
}

impl Raise for HeapError {
    fn raise(self) -> PyErr {
        let text = self.to_string();
        match self {
            Self::Full { .. } | Self::TooLarge { .. } => PyMemoryError::new_err(text),
            Self::Stale | Self::OtherFamily | Self::WrongKind { .. } => PyValueError::new_err(text),
            _ => PyOSError::new_err(text),
        }
    }
}

impl Raise for io::Error {
    fn raise(self) -> PyErr {
        match self.kind() {
            io::ErrorKind::InvalidInput if self.raw_os_error().is_none() => {
                PyValueError::new_err(self.to_string())
            }
            _ => self.into(),
        }
    }
}

impl Raise for EncodeError {
    fn raise(self) -> PyErr {
        match self {
            Self::Heap(error) => error.raise(),
            Self::Serialize(_) | Self::TooManyHandles(_) => PyValueError::new_err(self.to_string()),
        }
    }
}

impl Raise for DecodeError {
    fn raise(self) -> PyErr {
        match self {
            Self::Heap(error) => error.raise(),
            Self::Deserialize { .. } => UnpicklingError::new_err(self.to_string()),
        }
    }
}

impl Raise for GetError {
    fn raise(self) -> PyErr {
        match self {
            Self::Empty | Self::TimedOut => Empty::new_err(()),
            Self::Closed => PyValueError::new_err(self.to_string()),
            Self::Decode(error) => error.raise(),
        }
    }
}

impl<T> Raise for PutError<T> {
    fn raise(self) -> PyErr {
        match self {
            Self::Full(_) | Self::TimedOut(_) => Full::new_err(()),
            Self::Closed(_) => PyValueError::new_err(self.to_string()),
            Self::Encode(error, _) => error.raise(),
        }
    }
}

impl<T> Raise for SendError<T> {
    fn raise(self) -> PyErr {
        match self {
            // `errno` makes it a `BrokenPipeError`.
            Self::Broken(_) => PyOSError::new_err((BROKEN_PIPE, "Broken pipe")),
            Self::ReadOnly(_) => PyOSError::new_err("connection is read-only"),
            Self::Encode(error, _) => error.raise(),
            Self::Full(_) | Self::TimedOut(_) => PyOSError::new_err(self.to_string()),
        }
    }
}

/// `errno` of a pipe that nobody reads from.
const BROKEN_PIPE: i32 = 32;

impl Raise for RecvError {
    fn raise(self) -> PyErr {
        match self {
            Self::Eof => PyEOFError::new_err(()),
            Self::WriteOnly => PyOSError::new_err("connection is write-only"),
            Self::Decode(error) => error.raise(),
            Self::Empty | Self::TimedOut => PyOSError::new_err(self.to_string()),
        }
    }
}

/// What releasing too often is called, whatever was released.
const TOO_MANY_RELEASES: &str = "semaphore or lock released too many times";

impl Raise for NotHeld {
    fn raise(self) -> PyErr {
        PyValueError::new_err(TOO_MANY_RELEASES)
    }
}

impl Raise for AboveLimit {
    fn raise(self) -> PyErr {
        PyValueError::new_err(TOO_MANY_RELEASES)
    }
}

impl Raise for NotOwner {
    fn raise(self) -> PyErr {
        PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
    }
}

impl Raise for OwnerDied {
    fn raise(self) -> PyErr {
        exceptions::OwnerDied::new_err(self.to_string())
    }
}

impl Raise for WaitError {
    fn raise(self) -> PyErr {
        match self {
            Self::WrongLock | Self::NotHeld => {
                PyAssertionError::new_err("must acquire() condition before using wait()")
            }
            Self::Heap(error) => error.raise(),
        }
    }
}

impl Raise for NewSemaphoreError {
    fn raise(self) -> PyErr {
        match self {
            Self::TooLarge { .. } => PyValueError::new_err(self.to_string()),
            Self::Heap(error) => error.raise(),
        }
    }
}

impl Raise for NewBarrierError {
    fn raise(self) -> PyErr {
        match self {
            Self::Parties { parties: 0, .. } => PyValueError::new_err("parties must be > 0"),
            Self::Parties { .. } => PyValueError::new_err(self.to_string()),
            Self::Heap(error) => error.raise(),
        }
    }
}
