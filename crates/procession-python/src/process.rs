//! Places in the family for interpreters that Python starts.

use crate::error::Raise;
use crate::queue::PyQueue;
use procession::embed;
use procession::embed::Place;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A place in the family for a process that is about to be executed. Given up when this object goes, unless it was taken.
#[pyclass(frozen, module = "procession._procession", name = "Place")]
struct PyPlace {
    place: Mutex<Option<Place>>,
}

impl PyPlace {
    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<R>(&self, question: impl FnOnce(&Place) -> R) -> PyResult<R> {
        let place = self.place();
        let place = place.as_ref().map(question);
        place.ok_or_else(|| PyValueError::new_err("the place was taken already"))
    }
}

#[pymethods]
impl PyPlace {
    /// Reserve a place.
    #[new]
    fn new() -> PyResult<Self> {
        let place = Place::reserve().map_err(Raise::raise)?;
        Ok(Self {
            place: Mutex::new(Some(place)),
        })
    }

    /// The descriptor that the child must inherit under its own number.
    #[getter]
    fn fd(&self) -> PyResult<RawFd> {
        self.ask(Place::fd)
    }

    /// What the child gives to `join_family`.
    #[getter]
    fn invitation(&self) -> PyResult<String> {
        self.ask(Place::invitation)
    }

    /// Have the child hold a queue from now on: it can open it even if everybody else has let go, and what is in it goes with the child.
    fn hold(&self, queue: &PyQueue) -> PyResult<()> {
        let handle = queue.queue()?.handle();
        self.ask(|place| place.hold(handle))
    }

    /// Say which process took the place.
    fn taken_by(&self, pid: u32) {
        if let Some(place) = self.place().take() {
            place.taken_by(pid);
        }
    }
}

/// Make this process the member of the family that it was invited as.
#[pyfunction]
fn join_family(invitation: &str) -> PyResult<()> {
    embed::join_family(invitation).map_err(Raise::raise)
}

/// Say that this process ends in order, before an `os._exit`.
#[pyfunction]
fn leave_family() {
    embed::leave_family();
}

/// Fork this single-threaded process; the child becomes a child of *its parent*. Returns the pid, or 0 in the child.
#[pyfunction]
#[expect(
    unsafe_code,
    reason = "the interpreter's own fork hooks are C functions"
)]
fn fork_sibling() -> PyResult<u32> {
    // SAFETY: called with the interpreter attached, and paired with one of the two below, as its documentation says.
    unsafe { ffi::PyOS_BeforeFork() };
    let forked = embed::fork_sibling();
    match forked {
        // SAFETY: this is the child, whose only thread is the one that called `PyOS_BeforeFork`.
        Ok(None) => unsafe { ffi::PyOS_AfterFork_Child() },
        // SAFETY: this is the parent, after the fork or after it failed.
        _ => unsafe { ffi::PyOS_AfterFork_Parent() },
    }
    Ok(forked.map_err(Raise::raise)?.unwrap_or(0))
}

/// Say that the child `pid` is what this thread has just forked: where it is killed before it has come up, what it held goes back to the others at once.
#[pyfunction]
fn forked_as(pid: u32) {
    embed::forked_as(pid);
}

/// Have this process killed when the process `parent` has ended.
#[pyfunction]
#[pyo3(signature = (parent, *, by_main_thread = false))]
fn die_with(parent: u32, by_main_thread: bool) -> PyResult<()> {
    embed::die_with(parent, by_main_thread).map_err(Raise::raise)
}

/// Say that the child with this pid has ended, before it is reaped: what it held goes back to the others.
#[pyfunction]
fn bury(py: Python<'_>, pid: u32) {
    py.detach(|| embed::bury(pid));
}

/// Return how many CPUs this process may use: affinity and control-group quota count.
#[pyfunction]
fn cpu_count() -> usize {
    procession::cpu_count()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(join_family, module)?)?;
    module.add_function(wrap_pyfunction!(leave_family, module)?)?;
    module.add_function(wrap_pyfunction!(fork_sibling, module)?)?;
    module.add_function(wrap_pyfunction!(forked_as, module)?)?;
    module.add_function(wrap_pyfunction!(die_with, module)?)?;
    module.add_function(wrap_pyfunction!(bury, module)?)?;
    module.add_function(wrap_pyfunction!(cpu_count, module)?)?;
    module.add_class::<PyPlace>()
}
