//! The condition of the engine under `procession.synchronize`.

use crate::error::Raise;
use crate::lock::PyLock;
use crate::message::{Object, Parcel, Reduced, reduce_with, wrong_parcel};
use crate::rlock::PyRLock;
use crate::wait::{Deadline, deadline_after, insist, wait};
use procession::{Condition, embed::ConditionWait};
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::OnceLock;
use std::time::Instant;

/// A condition variable.
#[pyclass(
    frozen,
    subclass,
    module = "procession._procession",
    name = "Condition"
)]
pub(crate) struct PyCondition {
    /// Made by `__init__`, or taken from a parcel.
    made: OnceLock<Made>,
}

struct Made {
    condition: Condition,
    lock: Companion,
}

/// The lock of a condition.
enum Companion {
    Lock(Py<PyLock>),
    RLock(Py<PyRLock>),
}

impl Companion {
    fn of(lock: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(lock) = lock.cast::<PyLock>() {
            return Ok(Self::Lock(lock.clone().unbind()));
        }
        if let Ok(lock) = lock.cast::<PyRLock>() {
            return Ok(Self::RLock(lock.clone().unbind()));
        }
        let class = lock.get_type();
        Err(PyTypeError::new_err(format!(
            "the lock of a condition must be a Lock or RLock of this package, not {class}"
        )))
    }

    fn condition(&self) -> PyResult<Condition> {
        match self {
            Self::Lock(lock) => Condition::with_lock(lock.get().engine()),
            Self::RLock(lock) => Condition::with_rlock(lock.get().engine()),
        }
        .map_err(Raise::raise)
    }

    fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Lock(lock) => lock.as_any(),
            Self::RLock(lock) => lock.as_any(),
        }
    }

    fn is_mine(&self) -> bool {
        match self {
            Self::Lock(lock) => lock.get().is_mine(),
            Self::RLock(lock) => lock.get().is_mine(),
        }
    }

    fn note(&self, recovered: bool) {
        match self {
            Self::Lock(lock) => lock.get().note(recovered),
            Self::RLock(lock) => lock.get().note(recovered),
        }
    }
}

/// A wait that other Python threads' running does not hurt: it is used by the thread that began it only, which waits in between.
struct InThisThread<'a>(ConditionWait<'a>);

#[expect(
    unsafe_code,
    reason = "PyO3 asks for `Send` where it means `usable without the GIL`"
)]
// SAFETY: `Python::detach` runs its closure on the calling thread; nothing here is sent anywhere.
unsafe impl Send for InThisThread<'_> {}

impl InThisThread<'_> {
    fn step(&mut self, until: Instant) -> Option<()> {
        self.0.step(until).then_some(())
    }

    fn come_back(&mut self, until: Instant) -> Option<bool> {
        self.0.come_back(until).ok()
    }
}

impl PyCondition {
    fn made(&self) -> PyResult<&Made> {
        self.made
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("the condition's __init__ was not called"))
    }

    /// Waits for a notification, then for the lock.
    ///
    /// A handler's exception ends the first, and is raised when the lock is ours again; only a second exception, meanwhile, is raised at once.
    fn wait_until(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        let made = self.made()?;
        if !made.lock.is_mine() {
            return Err(PyAssertionError::new_err(
                "must acquire() condition before using wait()",
            ));
        }
        let mut waiting = InThisThread(made.condition.begin_wait().map_err(Raise::raise)?);
        let waited = wait(py, deadline, |until| waiting.step(until));
        // Whoever gives up because of an exception takes no notification with it.
        let notified = match &waited {
            Ok(_) => waiting.0.leave(),
            Err(_) => {
                waiting.0.decline();
                false
            }
        };
        let (recovered, raised) = insist(py, |until| waiting.come_back(until))?;
        made.lock.note(recovered);
        waited?;
        raised?;
        Ok(notified)
    }

    fn notify_up_to(&self, count: usize) -> PyResult<()> {
        let made = self.made()?;
        if !made.lock.is_mine() {
            return Err(PyAssertionError::new_err("lock is not owned"));
        }
        made.condition.notify(count);
        Ok(())
    }
}

#[pymethods]
impl PyCondition {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let _ = kwargs;
        let made = match Parcel::of(args.get_item(0).ok().as_ref()) {
            Some(Object::Condition(condition)) => Made {
                condition,
                lock: Companion::of(&args.get_item(1)?)?,
            }
            .into(),
            Some(_) => return Err(wrong_parcel()),
            None => OnceLock::new(),
        };
        Ok(Self { made })
    }

    /// Have the condition use this lock.
    fn __init__(&self, lock: &Bound<'_, PyAny>) -> PyResult<()> {
        let lock = Companion::of(lock)?;
        let condition = lock.condition()?;
        self.made
            .set(Made { condition, lock })
            .map_err(|_| PyRuntimeError::new_err("a condition cannot be made twice"))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        match &self.made()?.lock {
            Companion::Lock(lock) => lock.get().take(py)?,
            Companion::RLock(lock) => lock.get().take(py)?,
        }
        Ok(true)
    }

    #[pyo3(signature = (exc_type = None, exc_value = None, exc_tb = None))]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        exc_tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, exc_tb);
        match &self.made()?.lock {
            Companion::Lock(lock) => lock.get().give(),
            Companion::RLock(lock) => lock.get().give(),
        }
    }

    /// Release the lock, wait for a notification, take the lock again; say whether there was one before the time ran out.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.wait_until(py, deadline_after(timeout)?)
    }

    /// Wait until the predicate is true or the time runs out; return what it returned last.
    #[pyo3(signature = (predicate, timeout = None))]
    fn wait_for<'py>(
        &self,
        predicate: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut result = predicate.call0()?;
        if result.is_truthy()? {
            return Ok(result);
        }
        let deadline = deadline_after(timeout)?;
        while !result.is_truthy()? && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            self.wait_until(predicate.py(), deadline)?;
            result = predicate.call0()?;
        }
        Ok(result)
    }

    /// Wake up to `n` of those who wait, the longest waiting first.
    #[pyo3(signature = (n = 1))]
    fn notify(&self, n: i64) -> PyResult<()> {
        self.notify_up_to(usize::try_from(n).unwrap_or(0))
    }

    /// Wake all who wait.
    fn notify_all(&self) -> PyResult<()> {
        self.notify_up_to(usize::MAX)
    }

    /// The lock of the condition.
    #[getter]
    fn _lock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.made()?.lock.object().bind(py).clone())
    }

    /// How many wait.
    fn _waiting(&self) -> PyResult<usize> {
        Ok(self.made()?.condition.n_waiting())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let made = slf.get().made()?;
        let rest = (made.lock.object(),).into_pyobject(slf.py())?;
        let condition = made.condition.clone();
        reduce_with(slf.as_any(), Object::Condition(condition), rest)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyCondition>()
}
