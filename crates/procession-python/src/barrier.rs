//! The barrier of the engine under `procession.synchronize`.

use crate::error::{BrokenBarrierError, Raise};
use crate::message::{Object, Parcel, Reduced, reduce_with, wrong_parcel};
use crate::wait::{Deadline, deadline_after, wait};
use procession::embed::{BarrierArrival, selective_barrier, take_part};
use procession::{Barrier, BarrierError, BarrierWaitResult};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::OnceLock;

/// A meeting point.
#[pyclass(frozen, subclass, module = "procession._procession", name = "Barrier")]
pub(crate) struct PyBarrier {
    /// Made by `__init__`, or taken from a parcel.
    made: OnceLock<Made>,
}

struct Made {
    barrier: Barrier,
    action: Option<Py<PyAny>>,
    timeout: Option<f64>,
}

impl Raise for BarrierError {
    fn raise(self) -> PyErr {
        BrokenBarrierError::new_err(())
    }
}

impl PyBarrier {
    fn made(&self) -> PyResult<&Made> {
        self.made
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the barrier's __init__ was not called"))
    }
}

/// A barrier that this process was given: it is a party. One that it inherited by a fork is somebody else's, until it arrives.
fn given(barrier: Barrier) -> Barrier {
    take_part(&barrier);
    barrier
}

/// Arrives. The time does not count here, as in `threading`.
fn arrive<'a>(py: Python<'_>, barrier: &'a Barrier) -> PyResult<BarrierArrival<'a>> {
    let arrived = wait(py, None, |until| match barrier.arrive(until) {
        Err(BarrierError::TimedOut) => None,
        other => Some(other),
    })?;
    arrived
        .unwrap_or(Err(BarrierError::TimedOut))
        .map_err(Raise::raise)
}

/// Waits for the others. An exception out of a signal's handler breaks the barrier.
fn pass(
    py: Python<'_>,
    mut arrival: BarrierArrival<'_>,
    deadline: Deadline,
) -> PyResult<BarrierWaitResult> {
    let mut passed = wait(py, deadline, |until| arrival.step(until))?;
    if passed.is_none() {
        if arrival.expire() {
            return Err(BarrierError::TimedOut.raise());
        }
        // The last party is there, and decides.
        passed = wait(py, None, |until| arrival.step(until))?;
    }
    passed
        .unwrap_or(Err(BarrierError::Broken))
        .map_err(Raise::raise)
}

#[pymethods]
impl PyBarrier {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let _ = kwargs;
        let made = match Parcel::of(args.get_item(0).ok().as_ref()) {
            Some(Object::Barrier(barrier)) => Made {
                barrier: given(barrier),
                action: args.get_item(1)?.extract()?,
                timeout: args.get_item(2)?.extract()?,
            }
            .into(),
            Some(_) => return Err(wrong_parcel()),
            None => OnceLock::new(),
        };
        Ok(Self { made })
    }

    /// Have the barrier wait for so many.
    fn __init__(
        &self,
        parties: i64,
        action: Option<Py<PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let parties = usize::try_from(parties.max(0))
            .map_err(|_| PyValueError::new_err("too many parties"))?;
        let made = Made {
            barrier: selective_barrier(parties).map_err(Raise::raise)?,
            action,
            timeout,
        };
        self.made
            .set(made)
            .map_err(|_| PyRuntimeError::new_err("a barrier cannot be made twice"))
    }

    /// Say that this process is a party: if it is killed, the barrier breaks.
    fn _take_part(&self) -> PyResult<()> {
        take_part(&self.made()?.barrier);
        Ok(())
    }

    /// Wait for the others; return how many had come before.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<usize> {
        let made = self.made()?;
        let arrival = arrive(py, &made.barrier)?;
        if !arrival.is_last() {
            let deadline = deadline_after(timeout.or(made.timeout))?;
            return pass(py, arrival, deadline).map(|passed| passed.index());
        }
        // Should it fail, the arrival is dropped, and the barrier breaks.
        if let Some(action) = &made.action {
            action.call0(py)?;
        }
        let opened = arrival.open().map_err(Raise::raise)?;
        Ok(opened.index())
    }

    /// Begin anew; whoever waits now gets `BrokenBarrierError`.
    fn reset(&self) -> PyResult<()> {
        self.made()?.barrier.reset();
        Ok(())
    }

    /// Break the barrier until it is reset.
    fn abort(&self) -> PyResult<()> {
        self.made()?.barrier.abort();
        Ok(())
    }

    /// How many parties it takes.
    #[getter]
    fn parties(&self) -> PyResult<usize> {
        Ok(self.made()?.barrier.parties())
    }

    /// How many wait.
    #[getter]
    fn n_waiting(&self) -> PyResult<usize> {
        Ok(self.made()?.barrier.n_waiting())
    }

    /// Whether the barrier is broken.
    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.made()?.barrier.is_broken())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let made = slf.get().made()?;
        let rest = (&made.action, made.timeout).into_pyobject(slf.py())?;
        reduce_with(slf.as_any(), Object::Barrier(made.barrier.clone()), rest)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.made.get() {
            Some(made) => visit.call(&made.action),
            None => Ok(()),
        }
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyBarrier>()
}
