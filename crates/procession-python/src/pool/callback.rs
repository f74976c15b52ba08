//! The thread on which callbacks run: one for the whole process, started when there is the first.
//!
//! Whatever thread brings a result may hold locks of the program's; a callback that wants one of them must not run there. A forked child has a thread of its own when it needs one.

use pyo3::prelude::*;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

type Job = Box<dyn FnOnce(Python<'_>) + Send>;

/// The line to the thread, and the process whose thread it is.
static LINE: Mutex<Option<(u32, Sender<Job>)>> = Mutex::new(None);

/// Has `job` run soon.
pub(super) fn post(job: impl FnOnce(Python<'_>) + Send + 'static) {
    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    let here = std::process::id();
    let job: Job = Box::new(job);
    let job = match &*line {
        Some((process, sender)) if *process == here => match sender.send(job) {
            Ok(()) => return,
            Err(unsent) => unsent.0,
        },
        _ => job,
    };
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
    if started.is_ok() {
        *line = Some((here, sender));
    }
}
