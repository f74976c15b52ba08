//! Being told of forks, whoever makes them; and what is left of private locks in a forked child.
#![expect(unsafe_code, reason = "pthread_atfork, atexit")]
//!
//! A child has one thread. Whatever another thread of its parent had locked at the fork is locked in the child for ever, and what it was about to initialise once
//! (`Once`, `OnceLock`) is never done. So a private lock that a child may need is held over every fork ([`Handlers`]); one that belongs to threads which
//! only the parent has is not waited for in the child ([`lock_unless_left`]); and nothing that a fork can meet is a `Once` ([`super::set_once`]).
//!
//! # Safety
//! The handlers are plain functions that stay valid for ever; the engine is never unloaded.

use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// What is done before each fork of this process, then in it and in the new one (glibc's `fork` and all that is built on it; not `vfork`, `posix_spawn` or a
/// bare `clone`, whose children exec at once).
///
/// They may be registered twice, one right after the other, and must not mind: that happens in a child that was forked while another thread registered them.
pub(crate) struct Handlers {
    prepare: extern "C" fn(),
    parent: extern "C" fn(),
    child: extern "C" fn(),
    registered: AtomicBool,
    /// Whose thread registers them, or did.
    registrar: AtomicU32,
}

impl Handlers {
    pub(crate) const fn new(
        prepare: extern "C" fn(),
        parent: extern "C" fn(),
        child: extern "C" fn(),
    ) -> Self {
        Self {
            prepare,
            parent,
            child,
            registered: AtomicBool::new(false),
            registrar: AtomicU32::new(0),
        }
    }

    /// From here on they run. Fails for lack of memory only.
    #[inline]
    pub(crate) fn register(&self) -> Result<(), Errno> {
        if self.registered.load(Ordering::Acquire) {
            return Ok(());
        }
        self.register_first()
    }

    #[cold]
    fn register_first(&self) -> Result<(), Errno> {
        let process = std::process::id();
        // One at a time, so that their order is that of their layers. Another process's thread is one that did not come along in a fork.
        while self.registrar.swap(process, Ordering::AcqRel) == process {
            if self.registered.load(Ordering::Acquire) {
                return Ok(());
            }
            std::thread::yield_now();
        }
        let (prepare, parent, child) = (self.prepare, self.parent, self.child);
        // SAFETY: three functions of the required type.
        let result = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        if result != 0 {
            self.registrar.store(0, Ordering::Release);
            return Err(Errno::from_raw_os_error(result));
        }
        self.registered.store(true, Ordering::Release);
        Ok(())
    }
}

/// Locks what only the threads of one process use; a forked copy too, unless a thread that did not come along holds it (`None`).
pub(crate) fn lock_unless_left<T>(
    mutex: &Mutex<T>,
    is_ours: impl FnOnce() -> bool,
) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) if is_ours() => {
            Some(mutex.lock().unwrap_or_else(PoisonError::into_inner))
        }
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Runs `f` when the process exits in order.
pub(crate) fn on_exit(f: extern "C" fn()) {
    // Fails only for lack of memory; then the process counts as one that did not say good-bye.
    // SAFETY: a function of the required type.
    let _ = unsafe { libc::atexit(f) };
}

/// Forks while another thread holds something; whether the child comes to the end of `act`.
#[cfg(test)]
#[expect(unsafe_code, reason = "fork")]
pub(crate) fn child_comes_through<G>(hold: impl FnOnce() -> G + Send, act: impl FnOnce()) -> bool {
    use super::fork::{Fork, exit_now, fork};
    use super::pidfd::ExitStatus;
    use std::time::{Duration, Instant};
    let (says, hears) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let held = hold();
            says.send(()).expect("send");
            // Long enough for a fork that does not wait for it.
            std::thread::sleep(Duration::from_millis(50));
            drop(held);
        });
        hears.recv().expect("held");
        // SAFETY: the child touches what the test is about.
        let child = match unsafe { fork() }.expect("fork") {
            Fork::Child => {
                act();
                exit_now(0)
            }
            Fork::Parent(child) => child,
        };
        let patience = Instant::now() + Duration::from_secs(20);
        let _ = child.pidfd.wait(Some(patience)).expect("wait");
        let _ = child.pidfd.send_signal(super::signal::KILL);
        child.pidfd.wait_status().expect("status") == ExitStatus::Exited(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_not_waited_for_in_a_child() {
        extern "C" fn nothing() {}
        static HANDLERS: Handlers = Handlers::new(nothing, nothing, nothing);
        let begin = || {
            HANDLERS
                .registrar
                .store(std::process::id(), Ordering::SeqCst)
        };
        let act = || assert!(HANDLERS.register().is_ok());
        assert!(child_comes_through(begin, act));
        HANDLERS.registrar.store(0, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| HANDLERS.register().expect("handlers"));
            }
        });
        assert!(HANDLERS.registered.load(Ordering::SeqCst));
    }

    #[test]
    fn a_copy_does_not_wait_for_a_thread_it_left_behind() {
        let mutex = Mutex::new(());
        let parent = std::process::id();
        let is_ours = || std::process::id() == parent;
        let act = || assert!(lock_unless_left(&mutex, is_ours).is_none());
        assert!(child_comes_through(|| mutex.lock(), act));
        assert!(lock_unless_left(&mutex, is_ours).is_some());
    }
}
