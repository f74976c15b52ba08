//! How a panic gets from one process to another: message, place and backtrace are known only inside the panic hook.
//!
//! Our hook comes before the one that was there, which still prints to standard error. It keeps panics of threads that are inside [`catch`] only (others are
//! those threads' matter). Where panics abort, nothing runs after the hook: it answers itself.

use serde::{Deserialize, Serialize};
use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

/// What is known about a panic.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PanicReport {
    pub(crate) message: String,
    /// `file:line:column`; empty if not known.
    pub(crate) location: String,
    pub(crate) backtrace: String,
}

type Abort = Box<dyn Fn(&PanicReport)>;

thread_local! {
    /// Set while this thread runs a function whose panic is to be told: what to do where panics abort.
    static ABORT: RefCell<Option<Abort>> = const { RefCell::new(None) };
    static LAST: RefCell<Option<PanicReport>> = const { RefCell::new(None) };
}

/// Puts our hook before the one that is there. Once in a process that will [`catch`], and again after code that may have put in a hook of its own.
pub(crate) fn listen() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        note(info);
        previous(info);
    }));
}

fn note(info: &PanicHookInfo<'_>) {
    // A thread that is just ending has no such variable any more.
    let _ = ABORT.try_with(|abort| {
        let abort = abort.try_borrow();
        let Some(abort) = abort.as_deref().ok().and_then(Option::as_ref) else {
            return;
        };
        let report = report(info);
        if cfg!(panic = "abort") {
            abort(&report);
        }
        LAST.set(Some(report));
    });
}

/// Calls `function`; what a panic says goes to `abort` first if it will end the process at once.
pub(crate) fn catch<R>(
    function: impl FnOnce() -> R,
    abort: impl Fn(&PanicReport) + 'static,
) -> Result<R, PanicReport> {
    let outer = ABORT.replace(Some(Box::new(abort)));
    let result = catch_unwind(AssertUnwindSafe(function));
    ABORT.set(outer);
    result.map_err(|payload| {
        let message = text(payload.as_ref());
        // `resume_unwind` calls no hook: what is kept may be of an earlier panic, that the function caught.
        let last = LAST.take().filter(|last| last.message == message);
        // Dropping a payload may panic again.
        std::mem::forget(payload);
        last.unwrap_or(PanicReport {
            message,
            ..PanicReport::default()
        })
    })
}

fn report(info: &PanicHookInfo<'_>) -> PanicReport {
    PanicReport {
        message: text(info.payload()),
        location: info.location().map(ToString::to_string).unwrap_or_default(),
        backtrace: Backtrace::force_capture().to_string(),
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic whose payload is not a text".to_owned())
}
