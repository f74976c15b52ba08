//! The thread on which callbacks run: one for the whole process, started when there is the first.
//!
//! Whatever thread brings a result may hold locks of the program's; a callback that wants one of them must not run there. A forked child has a thread of its own when it needs one.
//!
//! The thread is Python's, and so is its loop (`procession.pool._run_callbacks`): when the interpreter ends, it is stopped wherever it is, and frames of Rust below would not survive that.

use crate::wait::wait;
use pyo3::prelude::*;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{ThreadId, current};
use std::time::Duration;

/// Longest wait for callbacks before signals are looked after.
const SLICE: Duration = Duration::from_millis(20);

enum Job {
    /// A callback, and its argument.
    Call(Py<PyAny>, Py<PyAny>),
    /// Somebody waits for all that came before.
    Mark(Sender<()>),
}

/// The line to the thread, and the process whose thread it is.
struct Line {
    process: u32,
    sender: Sender<Job>,
    thread: Arc<OnceLock<ThreadId>>,
}

/// Leaked; null: none. Without a lock: it could be held by another thread at the moment of a fork, and for ever in the child.
static LINE: AtomicPtr<Line> = AtomicPtr::new(null_mut());

/// The thread's end of the line.
#[pyclass(frozen, module = "procession._procession", name = "Callbacks")]
pub(super) struct PyCallbacks {
    jobs: Mutex<Receiver<Job>>,
    thread: Arc<OnceLock<ThreadId>>,
}

#[pymethods]
impl PyCallbacks {
    /// Wait for the next callback, and return it with its argument; `None`: there will be no more.
    fn take(&self, py: Python<'_>) -> Option<(Py<PyAny>, Py<PyAny>)> {
        self.thread.get_or_init(|| current().id());
        // Only the thread itself comes here.
        let jobs = || self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let job = jobs().try_recv();
            let job = job.or_else(|_| py.detach(|| jobs().recv())).ok()?;
            match job {
                Job::Call(callback, argument) => return Some((callback, argument)),
                // Fails if whoever waited has given up.
                Job::Mark(waiting) => drop(waiting.send(())),
            }
        }
    }

    /// Report what a callback raised.
    #[staticmethod]
    fn complain(callback: &Bound<'_, PyAny>, error: Bound<'_, PyAny>) {
        PyErr::from_value(error).write_unraisable(callback.py(), Some(callback));
    }
}

/// Has the thread there.
pub(super) fn start(py: Python<'_>) -> PyResult<()> {
    let known = LINE.load(Ordering::Acquire);
    if ours(known).is_some() {
        return Ok(());
    }
    let (sender, jobs) = channel();
    let thread = Arc::default();
    let line = Line {
        process: std::process::id(),
        sender,
        thread: Arc::clone(&thread),
    };
    let jobs = Mutex::new(jobs);
    let module = py.import("procession.pool")?;
    module.call_method1("_start_callbacks", (PyCallbacks { jobs, thread },))?;
    let line = Box::into_raw(Box::new(line));
    let swapped = LINE.compare_exchange(known, line, Ordering::AcqRel, Ordering::Acquire);
    if swapped.is_err() {
        // Another thread was faster; the one that was started here ends.
        give_back(line);
    }
    Ok(())
}

/// Has `callback` called with `argument` soon.
pub(super) fn post(callback: Py<PyAny>, argument: Py<PyAny>) {
    if let Some(line) = ours(LINE.load(Ordering::Acquire)) {
        // Cannot fail: the thread never ends.
        drop(line.sender.send(Job::Call(callback, argument)));
    }
}

/// Waits until all callbacks that were posted have returned. One that waits for itself does not.
pub(super) fn wait_for_all(py: Python<'_>) -> PyResult<()> {
    let Some(line) = ours(LINE.load(Ordering::Acquire)) else {
        return Ok(());
    };
    let (mark, marked) = channel();
    if line.thread.get() == Some(&current().id()) || line.sender.send(Job::Mark(mark)).is_err() {
        return Ok(());
    }
    let all = move |_| match marked.recv_timeout(SLICE) {
        Err(RecvTimeoutError::Timeout) => None,
        _ => Some(()),
    };
    wait(py, None, all).map(drop)
}

/// The line, if it is this process's.
#[expect(unsafe_code, reason = "a static that is replaced without a lock")]
fn ours(line: *mut Line) -> Option<&'static Line> {
    // SAFETY: a pointer that was in `LINE` comes from `Box::into_raw` and is never freed; it is only shared from then on.
    let line = unsafe { line.as_ref() };
    line.filter(|line| line.process == std::process::id())
}

#[expect(unsafe_code, reason = "a static that is replaced without a lock")]
fn give_back(line: *mut Line) {
    // SAFETY: it comes from `Box::into_raw` in `start`, and did not get into `LINE`: nobody else has seen it.
    drop(unsafe { Box::from_raw(line) });
}
