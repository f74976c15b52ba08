//! How a panic gets from where it happened to whoever is to know: message, place and backtrace are known only inside the panic hook.
//!
//! Our hook is installed once, before the one that was there, which still prints to standard error. [`catch`] only marks its thread, so it may be called
//! millions of times, on many threads, and inside itself; panics of unmarked threads are none of our business. Where panics abort, nothing runs after
//! the hook: it calls what the thread's callers left for that case.
//!
//! A forked child finds the hook installed ([`expect`] before every fork), and needs no lock of the standard library's that a thread which panics just then may hold for
//! ever. None of our own locks is held meanwhile: a program's hook may want it, and the hooks wait for that one.
//! A program that replaces the hook without calling the one before it takes ours away: a panic is then still caught, with its message alone.

use super::children::mind_forks;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// What is known about a panic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PanicReport {
    pub(crate) message: String,
    /// `file:line:column`; empty if not known.
    pub(crate) location: String,
    pub(crate) backtrace: String,
    /// What an embedder's worker says beyond that.
    pub(crate) detail: Vec<u8>,
}

type Abort = Box<dyn Fn(&PanicReport)>;

static HOOK: Once = Once::new();

thread_local! {
    /// How many calls of [`catch`] this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static LAST: RefCell<Option<PanicReport>> = const { RefCell::new(None) };
    /// What each of the calls wants done if a panic ends the process. Only where panics abort.
    static ABORT: RefCell<Vec<Abort>> = const { RefCell::new(Vec::new()) };
}

/// Does what the first call of [`catch`] does for the first time in a process, so that its clones need not.
pub(super) fn rehearse() {
    LAST.set(None);
}

/// Installs the hook.
pub(super) fn expect() {
    // A thread that panics cannot change hooks.
    if HOOK.is_completed() || std::thread::panicking() {
        return;
    }
    mind_forks();
    HOOK.call_once(install);
}

/// Calls `function`; what a panic says goes to `abort` first if it will end the process at once.
pub(crate) fn catch<R>(
    function: impl FnOnce() -> R,
    abort: impl Fn(&PanicReport) + 'static,
) -> Result<R, PanicReport> {
    expect();
    if cfg!(panic = "abort") {
        ABORT.with_borrow_mut(|aborts| aborts.push(Box::new(abort)));
    }
    if DEPTH.get() == 0 {
        // Of a call before this one, that caught it itself.
        LAST.set(None);
    }
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(function));
    DEPTH.set(DEPTH.get() - 1);
    if cfg!(panic = "abort") {
        ABORT.with_borrow_mut(Vec::pop);
    }
    result.map_err(describe)
}

fn install() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if DEPTH.get() > 0 {
            note(report(info));
        }
        previous(info);
    }));
}

fn note(report: PanicReport) {
    if cfg!(panic = "abort") {
        // The innermost first; if one panics itself, that is the end.
        let aborts = ABORT.take();
        aborts.iter().rev().for_each(|abort| abort(&report));
    }
    LAST.set(Some(report));
}

/// What is known of the panic that ended a call with `payload`.
fn describe(payload: Box<dyn Any + Send>) -> PanicReport {
    let message = text(payload.as_ref());
    // `resume_unwind` calls no hook: what is kept may be of an earlier panic, that the function caught.
    let last = LAST.take().filter(|last| last.message == message);
    // Dropping a payload may panic again.
    std::mem::forget(payload);
    last.unwrap_or(PanicReport {
        message,
        ..PanicReport::default()
    })
}

fn report(info: &PanicHookInfo<'_>) -> PanicReport {
    PanicReport {
        message: text(info.payload()),
        location: info.location().map(ToString::to_string).unwrap_or_default(),
        backtrace: Backtrace::force_capture().to_string(),
        detail: Vec::new(),
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic whose payload is not a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::resume_unwind;

    fn caught<R>(function: impl FnOnce() -> R) -> Result<R, PanicReport> {
        catch(function, |_| ())
    }

    #[test]
    fn many_threads_each_keep_their_own_panic() {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for round in 0..5 {
                        assert_eq!(caught(|| thread), Ok(thread));
                        let report = caught(|| panic!("{thread}, {round}")).expect_err("a panic");
                        assert_eq!(report.message, format!("{thread}, {round}"));
                        assert!(report.location.contains("panic.rs:"), "{report:?}");
                        assert!(!report.backtrace.is_empty());
                    }
                });
            }
        });
    }

    #[test]
    fn inside_each_other() {
        let outer = caught(|| {
            let inner = caught(|| panic!("inner")).expect_err("a panic");
            assert_eq!(inner.message, "inner");
            assert_eq!(DEPTH.get(), 1);
            panic!("outer after {}", inner.message)
        });
        let outer = outer.expect_err("a panic");
        assert_eq!(outer.message, "outer after inner");
        assert!(!outer.location.is_empty());
        assert_eq!(DEPTH.get(), 0);
    }

    #[test]
    fn a_panic_without_a_hook_has_its_message_only() {
        let unknown = PanicReport {
            message: "second".to_owned(),
            ..PanicReport::default()
        };
        let first = || drop(std::panic::catch_unwind(|| panic!("first")));
        let report: Result<(), _> = caught(|| {
            first();
            resume_unwind(Box::new("second"))
        });
        assert_eq!(report, Err(unknown));
        assert_eq!(caught(first), Ok(()));
        let report: Result<(), _> = caught(|| resume_unwind(Box::new("first")));
        let report = report.expect_err("a panic");
        assert_eq!(report.location, "", "it is that of an earlier call");
    }

    #[test]
    fn a_panic_outside_is_not_kept() {
        assert_eq!(caught(|| 1), Ok(1));
        drop(std::panic::catch_unwind(|| panic!("nobody's")));
        assert!(LAST.take().is_none());
    }
}
