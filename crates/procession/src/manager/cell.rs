//! Cell: one state in the server, with its lock.
//!
//! A panic poisons nothing: the lock is released, and the state is what the function left. Calls that wait for the state to change sleep on `changed`; whoever has
//! used the state wakes them, if there are any.

use super::protocol::Peer;
use crate::process::{PanicReport, catch_panic};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest sleep before a waiting call looks whether anybody still waits for it.
const SLICE: Duration = Duration::from_millis(100);

/// A state.
#[derive(Debug)]
pub(super) struct Cell<S> {
    state: Mutex<S>,
    changed: Condvar,
    /// Calls that sleep; counted under the lock.
    waiting: AtomicUsize,
}

/// What became of a call that waits.
#[derive(Debug)]
pub(super) enum Waited<R> {
    Done(R),
    TimedOut,
    Panicked(PanicReport),
    /// The client is gone.
    Deserted,
}

impl<S> Cell<S> {
    pub(super) fn new(state: S) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `function` on the state.
    pub(super) fn with<R>(&self, function: impl FnOnce(&mut S) -> R) -> Result<R, PanicReport> {
        let mut state = self.lock();
        let result = catch_panic(|| function(&mut state), |_| ());
        drop(state);
        self.wake();
        result
    }

    fn wake(&self) {
        // A call counts itself before it lets go of the lock, which we have had since.
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.changed.notify_all();
        }
    }

    /// Runs `attempt` on the state now and after each change, until it gives something.
    pub(super) fn wait<R>(
        &self,
        mut attempt: impl FnMut(&mut S) -> Option<R>,
        deadline: Option<Instant>,
        peer: &Peer,
    ) -> Waited<R> {
        let mut state = self.lock();
        loop {
            let waited = match catch_panic(|| attempt(&mut state), |_| ()) {
                Err(report) => Waited::Panicked(report),
                Ok(Some(result)) => Waited::Done(result),
                Ok(None) if deadline.is_some_and(|at| at <= Instant::now()) => Waited::TimedOut,
                Ok(None) if peer.is_gone() => Waited::Deserted,
                Ok(None) => {
                    state = self.sleep(state, deadline);
                    continue;
                }
            };
            drop(state);
            self.wake();
            return waited;
        }
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, S>, deadline: Option<Instant>) -> MutexGuard<'a, S> {
        let left = deadline.map_or(SLICE, |at| at.saturating_duration_since(Instant::now()));
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let slept = self.changed.wait_timeout(state, left.min(SLICE));
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        slept.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_leaves_what_it_had_done() {
        let cell = Cell::new(1);
        let report = cell.with(|n| -> u32 {
            *n = 2;
            panic!("now {n}")
        });
        assert_eq!(report.expect_err("a panic").message, "now 2");
        assert_eq!(cell.with(|n| *n).expect("not poisoned"), 2);
    }

    #[test]
    fn nobody_waits_for_the_deserted() {
        let cell = Cell::new(1);
        let tried = cell.wait(|n| (*n == 1).then_some(*n), None, &Peer::Nobody);
        assert!(
            matches!(tried, Waited::Done(1)),
            "one attempt is always made"
        );
        let tried = cell.wait(|_| None::<()>, None, &Peer::Nobody);
        assert!(matches!(tried, Waited::Deserted));
        let tried = cell.wait(|_| None::<()>, Some(Instant::now()), &Peer::Nobody);
        assert!(matches!(tried, Waited::TimedOut));
        let tried = cell.wait(|_| -> Option<()> { panic!("no") }, None, &Peer::Nobody);
        assert!(matches!(tried, Waited::Panicked(report) if report.message == "no"));
    }

    #[test]
    fn every_change_wakes_those_who_wait() {
        use crate::channel::Pipe;
        let (line, _other) = Pipe::with_codec().expect("pipe");
        let peer = Peer::Line(line);
        let cell = Cell::new(0u32);
        std::thread::scope(|scope| {
            let (cell, peer) = (&cell, &peer);
            let waiter = |want: u32| {
                scope.spawn(move || cell.wait(|n| (*n >= want).then_some(*n), None, peer))
            };
            let waiters = [waiter(3), waiter(1), waiter(2)];
            for _ in 0..3 {
                cell.with(|n| *n += 1).expect("with");
            }
            for waiter in waiters {
                assert!(matches!(
                    waiter.join().expect("thread"),
                    Waited::Done(1..=3)
                ));
            }
        });
    }
}
