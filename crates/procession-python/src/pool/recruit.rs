//! Workers that Python starts: how they are hired and buried, and their lives.

use super::worker::in_words;
use crate::message::Message;
use crate::pickle::encode;
use procession::{ExitStatus, Recruit, WorkerReport};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

/// Starts workers by a Python object with the methods `hire(boot, name) -> pid` and `part(pid) -> exit code or None`.
pub(super) struct Staff {
    staff: Py<PyAny>,
    /// What kept the last worker from starting.
    error: Arc<Mutex<Option<PyErr>>>,
}

impl Staff {
    pub(super) fn new(staff: Py<PyAny>) -> (Self, Arc<Mutex<Option<PyErr>>>) {
        let error = Arc::default();
        let this = Self {
            staff,
            error: Arc::clone(&error),
        };
        (this, error)
    }
}

impl Recruit for Staff {
    fn hire(&self, boot: &[u8], name: &str) -> Result<u32, Box<dyn Error + Send + Sync>> {
        let hired = Python::attach(|py| {
            let boot = PyBytes::new(py, boot);
            let pid = self.staff.call_method1(py, "hire", (boot, name))?;
            pid.extract(py)
        });
        hired.map_err(|error: PyErr| {
            let text = error.to_string();
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            text.into()
        })
    }

    fn part(&self, pid: u32, status: ExitStatus) -> ExitStatus {
        let code = Python::attach(|py| {
            let code = self.staff.call_method1(py, "part", (pid,))?;
            code.extract::<Option<i32>>(py)
        });
        match (status, code) {
            (ExitStatus::Unknown, Ok(Some(code))) if code < 0 => ExitStatus::Signaled {
                signal: -code,
                core_dumped: false,
            },
            (ExitStatus::Unknown, Ok(Some(code))) => ExitStatus::Exited(code),
            _ => status,
        }
    }
}

/// The exception of an initializer, as the pool is told of it.
pub(super) fn report(py: Python<'_>, error: &PyErr) -> WorkerReport {
    let text = in_words(py, error);
    let detail = match encode(error.value(py)) {
        Ok(Message { bytes, buffers, .. }) if buffers.is_empty() => bytes,
        _ => Vec::new(),
    };
    WorkerReport {
        message: format!("{}: {}", text.type_name, text.message),
        backtrace: text.traceback,
        detail,
    }
}

/// Be a worker: call `initialize`, then run one task after the other until the pool wants no more. Returns the exit code.
#[pyfunction]
pub(super) fn work(py: Python<'_>, boot: Vec<u8>, initialize: Py<PyAny>) -> PyResult<i32> {
    let begin = || {
        Python::attach(|py| match initialize.call0(py) {
            Ok(_) => Ok(()),
            Err(error) => Err(report(py, &error)),
        })
    };
    // A handler that raises ends the worker, as it would any program.
    let raised = Mutex::new(None);
    let signalled = || match Python::attach(|py| py.check_signals()) {
        Ok(()) => true,
        Err(error) => {
            *raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            false
        }
    };
    let code = py.detach(|| procession::work(&boot, begin, signalled));
    if let Some(error) = raised.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    code.map_err(|error| PyValueError::new_err(error.to_string()))
}
