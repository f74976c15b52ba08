//! The one door to everything that blocks.
//!
//! Whoever has to wait lets other Python threads run, waits in the engine, and looks after signals when one came (only the main thread runs handlers, as
//! everywhere in Python): a handler that raises, such as Ctrl-C's, ends the wait.

use procession::embed::interruptible;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// Longest wait without a look for signals: one that came just before the sleep did not interrupt it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When to give up; `None`: never.
pub(crate) type Deadline = Option<Instant>;

/// A `block=` argument: anything that is true or false.
#[derive(Clone, Copy)]
pub(crate) struct Truth(pub(crate) bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

/// The deadline that a Python timeout in seconds means now. `None`: no timeout; negative: at once; beyond the clock's range: none.
pub(crate) fn deadline_after(timeout: Option<f64>) -> PyResult<Deadline> {
    let Some(seconds) = timeout else {
        return Ok(None);
    };
    if seconds.is_nan() {
        return Err(PyValueError::new_err(
            "timeout must be a number of seconds, not NaN",
        ));
    }
    let timeout = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    Ok(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
}

/// Ends of what has to be awaited however often a signal comes: the lock of a condition.
///
/// As [`wait`] without a deadline, but goes on after a handler has raised, and gives that exception along; a second one ends the wait.
///
/// # Errors
/// What the second handler raised: nothing was found.
pub(crate) fn insist<T: Send>(
    py: Python<'_>,
    mut attempt: impl FnMut(Instant) -> Option<T> + Send,
) -> PyResult<(T, PyResult<()>)> {
    let mut raised = Ok(());
    loop {
        match wait(py, None, &mut attempt) {
            Ok(Some(found)) => return Ok((found, raised)),
            Ok(None) => {}
            Err(error) if raised.is_ok() => raised = Err(error),
            Err(error) => return Err(error),
        }
    }
}

/// Calls `attempt` with a deadline of its own, other Python threads running meanwhile, until it gives something or `deadline` has passed (`None`).
///
/// `attempt` waits until it has something or until the time that it is given, which may be before the deadline; a signal may end its sleep early.
///
/// # Errors
/// What a signal's handler raised.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    mut attempt: impl FnMut(Instant) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    loop {
        let look = Instant::now() + LOOK_EVERY;
        let until = deadline.map_or(look, |deadline| deadline.min(look));
        if let Some(found) = py.detach(|| interruptible(|| attempt(until))) {
            return Ok(Some(found));
        }
        py.check_signals()?;
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(None);
        }
    }
}
