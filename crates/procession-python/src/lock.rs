//! The lock of the engine under `procession.synchronize`.

use crate::error::Raise;
use crate::message::{Object, Parcel, Reduced, reduce_with, wrong_parcel};
use crate::quick::{self, Originals, Quick};
use crate::wait::{Truth, deadline_after, wait};
use procession::{Lock, LockGuard, OwnerDied, embed};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// A lock that is not recursive.
#[pyclass(frozen, subclass, module = "procession._procession", name = "Lock")]
pub(crate) struct PyLock {
    lock: Lock,
    last: LastTaker,
    strict: AtomicBool,
}

/// Who took a lock last through one Python object, and whether its owner had died then.
///
/// The engine's lock belongs to a process; which of its threads it was, only `repr` and the assertions of a condition want to know.
#[derive(Default)]
struct LastTaker(AtomicUsize);

/// Bit of [`LastTaker`]: the owner before had died. The rest is the address of the thread's [`MARK`].
const RECOVERED: usize = 1;

thread_local! {
    /// Something of its own for each thread, at an even address.
    static MARK: u64 = const { 0 };
}

fn this_thread() -> usize {
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

impl LastTaker {
    #[inline]
    fn set(&self, recovered: bool) {
        let word = this_thread() | usize::from(recovered);
        self.0.store(word, Ordering::Relaxed);
    }

    fn is_this_thread(&self) -> bool {
        self.0.load(Ordering::Relaxed) & !RECOVERED == this_thread()
    }

    fn recovered(&self) -> bool {
        self.0.load(Ordering::Relaxed) & RECOVERED != 0
    }

    /// Whoever it was has released it.
    #[inline]
    fn forget(&self) {
        let recovered = self.0.load(Ordering::Relaxed) & RECOVERED;
        self.0.store(recovered, Ordering::Relaxed);
    }
}

/// Keeps a lock that was just taken, without a guard; whether its owner before had died.
fn keep(guard: LockGuard<'_>, strict: bool) -> Result<bool, OwnerDied> {
    let guard = if strict { guard.strict()? } else { guard };
    let recovered = guard.recovered();
    guard.into_held();
    Ok(recovered)
}

impl PyLock {
    fn made(lock: Lock, strict: bool) -> Self {
        Self {
            lock,
            last: LastTaker::default(),
            strict: AtomicBool::new(strict),
        }
    }

    pub(crate) fn engine(&self) -> &Lock {
        &self.lock
    }

    /// Whether this thread holds the lock, as far as this object knows.
    pub(crate) fn is_mine(&self) -> bool {
        self.lock.is_held() && self.last.is_this_thread()
    }

    /// Takes note of an acquisition by this thread.
    #[inline]
    pub(crate) fn note(&self, recovered: bool) {
        self.last.set(recovered);
    }

    #[inline]
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<()> {
        self.acquire(py, Truth(true), None).map(drop)
    }

    #[inline]
    pub(crate) fn give(&self) -> PyResult<()> {
        self.last.forget();
        self.lock.release().map_err(Raise::raise)
    }

    fn strict(&self) -> bool {
        self.strict.load(Ordering::Relaxed)
    }

    #[cold]
    fn acquire_slow(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let strict = self.strict();
        let attempt = |until: Instant| {
            let guard = self.lock.acquire_deadline(until).ok()?;
            Some(keep(guard, strict))
        };
        let kept = if block {
            wait(py, deadline_after(timeout)?, attempt)?
        } else {
            embed::look_around();
            let guard = self.lock.try_acquire().ok();
            guard.map(|guard| keep(guard, strict))
        };
        let Some(kept) = kept else { return Ok(false) };
        self.last.set(kept.map_err(Raise::raise)?);
        Ok(true)
    }
}

#[pymethods]
impl PyLock {
    /// Make a free lock.
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let _ = kwargs;
        match Parcel::of(args.get_item(0).ok().as_ref()) {
            Some(Object::Lock(lock)) => Ok(Self::made(lock, args.get_item(1)?.is_truthy()?)),
            Some(_) => Err(wrong_parcel()),
            None => Lock::new()
                .map(|lock| Self::made(lock, false))
                .map_err(Raise::raise),
        }
    }

    /// Take the lock; say whether that succeeded.
    #[inline]
    #[pyo3(signature = (block = Truth(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<bool> {
        match self.lock.try_acquire() {
            Ok(guard) => {
                let kept = keep(guard, self.strict());
                self.last.set(kept.map_err(Raise::raise)?);
                Ok(true)
            }
            Err(_) => self.acquire_slow(py, block.0, timeout),
        }
    }

    /// Free the lock, whoever holds it.
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

    /// Say whether somebody holds the lock.
    fn locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Whether the owner before the last one that took the lock through this object had died in possession: what the lock guards may be half done.
    #[getter]
    fn recovered(&self) -> bool {
        self.last.recovered()
    }

    /// Whether taking the lock after an owner that died in possession raises `OwnerDied`.
    #[getter(strict)]
    fn is_strict(&self) -> bool {
        self.strict()
    }

    #[setter(strict)]
    fn set_strict(&self, strict: bool) {
        self.strict.store(strict, Ordering::Relaxed);
    }

    fn _is_mine(&self) -> bool {
        self.is_mine()
    }

    fn _count(&self) -> u32 {
        u32::from(self.lock.is_held())
    }

    fn _get_value(&self) -> u32 {
        u32::from(!self.lock.is_locked())
    }

    fn _is_zero(&self) -> bool {
        self.lock.is_locked()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let this = slf.get();
        let rest = (this.strict(),).into_pyobject(slf.py())?;
        reduce_with(slf.as_any(), Object::Lock(this.lock.clone()), rest)
    }
}

impl Quick for PyLock {
    #[inline]
    fn quick_take(&self) -> bool {
        let Ok(guard) = self.lock.try_acquire() else {
            return false;
        };
        let Ok(recovered) = keep(guard, self.strict()) else {
            return false;
        };
        self.last.set(recovered);
        true
    }

    #[inline]
    fn quick_give(&self) -> bool {
        self.last.forget();
        self.lock.release().is_ok()
    }

    fn originals() -> &'static Originals {
        static ORIGINALS: Originals = Originals::new();
        &ORIGINALS
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyLock>()?;
    quick::install::<PyLock>(module)
}
