//! How a panic gets from the child to its parent: message, place and backtrace are known only inside the panic hook.
//!
//! Our hook comes before the one that was there, which still prints to standard error. It keeps panics of the function's own thread only (others are
//! that thread's matter). Where panics abort, nothing runs after the hook: it answers itself.

use serde::{Deserialize, Serialize};
use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

/// What is known about a panic.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct PanicReport {
    pub(super) message: String,
    /// `file:line:column`; empty if not known.
    pub(super) location: String,
    pub(super) backtrace: String,
}

thread_local! {
    /// Whether this thread runs the function of the process.
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<PanicReport>> = const { RefCell::new(None) };
}

/// Does what the first call of [`catch`] does for the first time in a process, so that its clones need not.
pub(super) fn rehearse() {
    LAST.set(None);
}

/// Calls `function`; what a panic says goes to `abort` first if it will end the process at once.
pub(super) fn catch<R>(
    function: impl FnOnce() -> R,
    abort: impl Fn(&PanicReport) + Send + Sync + 'static,
) -> Result<R, PanicReport> {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if ACTIVE.get() {
            let report = report(info);
            if cfg!(panic = "abort") {
                abort(&report);
            }
            LAST.set(Some(report));
        }
        previous(info);
    }));
    ACTIVE.set(true);
    let result = catch_unwind(AssertUnwindSafe(function));
    ACTIVE.set(false);
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
