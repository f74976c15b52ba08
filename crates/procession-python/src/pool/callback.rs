//! The thread on which callbacks run: one for the whole process, started when there is the first.
//!
//! Whatever thread brings a result may hold locks of the program's; a callback that wants one of them must not run there. A forked child has a thread of its own when it needs one.

use pyo3::prelude::*;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::mpsc::{Sender, channel};

type Job = Box<dyn FnOnce(Python<'_>) + Send>;

/// The line to the thread, and the process whose thread it is.
struct Line {
    process: u32,
    sender: Sender<Job>,
}

/// Leaked; null: none. Without a lock: it could be held by another thread at the moment of a fork, and for ever in the child.
static LINE: AtomicPtr<Line> = AtomicPtr::new(null_mut());

/// Has `job` run soon.
pub(super) fn post(job: impl FnOnce(Python<'_>) + Send + 'static) {
    let mut job: Job = Box::new(job);
    let here = std::process::id();
    let known = LINE.load(Ordering::Acquire);
    if let Some(line) = line_at(known).filter(|line| line.process == here) {
        match line.sender.send(job) {
            Ok(()) => return,
            Err(unsent) => job = unsent.0,
        }
    }
    let (sender, jobs) = channel::<Job>();
    // Cannot fail: the other end is here.
    let _ = sender.send(job);
    let thread = std::thread::Builder::new().name("procession-callbacks".to_owned());
    let started = thread.spawn(move || {
        for job in jobs {
            // None: the interpreter is gone, and with it whoever wanted to know.
            let _ = Python::try_attach(job);
        }
    });
    if started.is_err() {
        return;
    }
    let process = here;
    let line = Box::into_raw(Box::new(Line { process, sender }));
    let swapped = LINE.compare_exchange(known, line, Ordering::AcqRel, Ordering::Acquire);
    if swapped.is_err() {
        // Another thread was faster; this line ends when its one job is done.
        give_back(line);
    }
}

#[expect(unsafe_code, reason = "a static that is replaced without a lock")]
fn line_at(line: *mut Line) -> Option<&'static Line> {
    // SAFETY: a pointer that was in `LINE` comes from `Box::into_raw` and is never freed; it is only shared from then on.
    unsafe { line.as_ref() }
}

#[expect(unsafe_code, reason = "a static that is replaced without a lock")]
fn give_back(line: *mut Line) {
    // SAFETY: it comes from `Box::into_raw` in `post`, and did not get into `LINE`: nobody else has seen it.
    drop(unsafe { Box::from_raw(line) });
}
