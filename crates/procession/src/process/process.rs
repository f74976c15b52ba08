//! Process: the handle of a child.

use super::bootstrap::NO_PLACE;
use super::builder::{Options, ProcessBuilder};
use super::children;
use super::error::{JoinError, JoinFailure, StartError};
use super::record::{self, Outcome, Payload, SharedProcess};
use super::{PanicReport, start};
use crate::channel::unpack;
use crate::family::{Owner, reap_dead};
use crate::heap::{Shared, the_heap};
use crate::sys::atfork::lock_unless_left;
use crate::sys::limits::{ProcessMemory, process_memory};
use crate::sys::pidfd::{Child, ExitStatus, Pidfd, ProcessUsage};
use crate::sys::{error::errno, fork, signal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

/// A child, whatever its function returns.
pub(crate) struct Core {
    pub(super) name: String,
    pub(super) daemon: bool,
    pub(super) pid: u32,
    pidfd: Pidfd,
    owner: Owner,
    /// The process that started it: a forked copy of the handle is good for nothing.
    creator: u32,
    /// It was executed, so it had to call `init()`.
    executed: bool,
    /// Until somebody takes the result.
    record: Mutex<Option<Shared<SharedProcess>>>,
    /// Its death is known to the family.
    settled: Once,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("pid", &self.pid)
            .field("daemon", &self.daemon)
            .finish_non_exhaustive()
    }
}

impl Core {
    pub(super) fn new(
        (name, daemon): (String, bool),
        child: Child,
        owner: Owner,
        record: Shared<SharedProcess>,
        executed: bool,
    ) -> Arc<Self> {
        let core = Arc::new(Self {
            name,
            daemon,
            pid: child.pid,
            pidfd: child.pidfd,
            owner,
            creator: std::process::id(),
            executed,
            record: Mutex::new(Some(record)),
            settled: Once::new(),
        });
        children::add(&core);
        core
    }

    pub(crate) fn sentinel(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for the end; `false`: the deadline came first.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        self.pidfd.wait(deadline)
    }

    /// How it ended, if it has; then its traces are gone, too.
    pub(super) fn settle_if_ended(&self) -> Option<ExitStatus> {
        if !self.pidfd.has_ended() {
            return None;
        }
        self.settle()
    }

    /// After its end was seen: reaps it in the family, and then, its pid free for others, in the system. Whoever comes second waits for the first: it may rely on it as well.
    pub(super) fn settle(&self) -> Option<ExitStatus> {
        // A forked child's copy may be one that a thread of its parent was just settling: not touched.
        if self.is_ours() {
            self.settled.call_once(|| {
                let heap = the_heap();
                heap.note_death(self.owner);
                reap_dead(heap);
                children::remove(self);
            });
        }
        self.pidfd.exit_status()
    }

    pub(crate) fn status(&self) -> Option<ExitStatus> {
        self.settle_if_ended()
    }

    pub(super) fn usage(&self) -> Option<ProcessUsage> {
        self.status()?;
        self.pidfd.usage()
    }

    /// Sends a signal; to a process that has ended, nothing.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        match self.pidfd.send_signal(signal) {
            // No such process.
            Err(error) if errno(&error) == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    fn is_ours(&self) -> bool {
        self.creator == std::process::id()
    }

    fn take_record(&self) -> Option<Shared<SharedProcess>> {
        lock_unless_left(&self.record, || self.is_ours())?.take()
    }

    fn join<R: DeserializeOwned>(&self, deadline: Option<Instant>) -> Result<R, JoinFailure> {
        if !self.is_ours() {
            return Err(JoinFailure::NotOurs);
        }
        let failed = |error: io::Error| JoinFailure::System {
            reason: error.to_string(),
        };
        if !self.pidfd.wait(deadline).map_err(failed)? {
            return Err(JoinFailure::TimedOut);
        }
        let status = self.settle();
        let record = self.take_record().ok_or(JoinFailure::AlreadyJoined)?;
        match record::take_answer(&record) {
            Some((outcome, payload)) => answer(outcome, payload.as_ref()),
            None => Err(self.no_answer(status, &record)),
        }
    }

    fn no_answer(&self, status: Option<ExitStatus>, record: &Shared<SharedProcess>) -> JoinFailure {
        match status {
            Some(ExitStatus::Signaled {
                signal,
                core_dumped,
            }) => JoinFailure::Signaled {
                signal,
                core_dumped,
            },
            Some(ExitStatus::Exited(NO_PLACE)) if !record::came_up(record) => {
                let reason = "it could not join the family (its standard error says why)";
                JoinFailure::SetupFailed {
                    reason: reason.to_owned(),
                }
            }
            Some(ExitStatus::Exited(code)) if self.executed && !record::came_up(record) => {
                JoinFailure::InitForgotten { code }
            }
            Some(ExitStatus::Exited(code)) => JoinFailure::Exited { code },
            Some(ExitStatus::Unknown) | None => JoinFailure::Unknown,
        }
    }
}

/// What an answer says.
fn answer<R: DeserializeOwned>(
    outcome: Outcome,
    payload: Result<&Payload, &crate::heap::HeapError>,
) -> Result<R, JoinFailure> {
    let bytes = payload.and_then(|payload| payload.bytes().map_err(|_| &CORRUPT));
    let undecodable = |reason: String| JoinFailure::UndecodableResult { reason };
    let bytes = bytes.map_err(|error| undecodable(error.to_string()))?;
    if outcome == Outcome::Returned {
        return unpack(bytes).map_err(|error| undecodable(error.to_string()));
    }
    if outcome == Outcome::Panicked {
        let report: PanicReport = unpack(bytes).unwrap_or_default();
        return Err(JoinFailure::Panicked {
            message: report.message,
            location: Some(report.location).filter(|location| !location.is_empty()),
            backtrace: report.backtrace,
        });
    }
    let reason = unpack(bytes).unwrap_or_default();
    Err(match outcome {
        Outcome::UndecodableArguments => JoinFailure::UndecodableArguments { reason },
        Outcome::MismatchedBuild => JoinFailure::MismatchedBuild { reason },
        Outcome::SetupFailed => JoinFailure::SetupFailed { reason },
        Outcome::UnencodableResult => JoinFailure::UnencodableResult { reason },
        Outcome::FunctionNotFound | Outcome::Returned | Outcome::Panicked => {
            JoinFailure::FunctionNotFound { reason }
        }
    })
}

static CORRUPT: crate::heap::HeapError =
    crate::heap::HeapError::Corrupt("an answer does not fit its block");

/// A function that runs in a process of its own.
///
/// The function is any `fn` item or closure that captures nothing; its arguments and its result are any serde types, and may contain
/// queues, locks and other shared objects. Dropping the handle neither ends the process nor waits for it: when this process ends, daemonic children
/// are ended and the others waited for.
///
/// # Crash safety
/// A child that is killed, at whatever instruction, gives an error here that says so; what it held is taken back when its end is seen ([`join`](Self::join),
/// [`is_alive`](Self::is_alive), [`exit_code`](Self::exit_code), [`active_children`](crate::active_children)), or by any other process of the family.
///
/// # Examples
/// ```
/// use procession::{Process, Queue};
///
/// fn square(x: u64, results: &Queue<u64>) {
///     results.put(x * x).expect("queue");
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init(); // first in main: children begin here, too
///     let results = Queue::unbounded()?;
///     let process = Process::start(|(x, results)| square(x, &results), (7, results.clone()))?;
///     process.join()?;
///     assert_eq!(results.get()?, 49);
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `procession.Process`
#[must_use = "a process that is dropped goes on; join it to have its result"]
pub struct Process<R> {
    core: Arc<Core>,
    _result: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

impl<R> Process<R> {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            _result: PhantomData,
        }
    }

    /// A process that will run `function`, with options to be set before its [`start`](ProcessBuilder::start).
    ///
    /// # Examples
    /// See [`ProcessBuilder`].
    pub fn builder<A>(function: fn(A) -> R, arguments: A) -> ProcessBuilder<A, R> {
        ProcessBuilder {
            function,
            arguments,
            options: Options::default(),
        }
    }

    /// Starts a process that runs `function`, by [`StartMethod::Spawn`](crate::StartMethod::Spawn).
    ///
    /// # Errors
    /// [`StartError`].
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let process = procession::Process::start(|(a, b)| a + b, (1, 2))?;
    ///     assert_eq!(process.join()?, 3);
    ///     Ok(())
    /// }
    /// ```
    pub fn start<A>(function: fn(A) -> R, arguments: A) -> Result<Self, StartError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        start::start(function, arguments, Options::default())
    }

    /// Forks a child that runs `function`, which may capture anything. The child has a copy of this process; only the result is sent.
    ///
    /// # Errors
    /// [`StartError::MultiThreaded`] if this process has other threads.
    ///
    /// # Examples
    /// ```
    /// use procession::{Process, StartError};
    ///
    /// let words = vec!["a", "b"];
    /// match Process::fork(move || words.len()) {
    ///     Ok(process) => assert_eq!(process.join()?, 2),
    ///     Err(StartError::MultiThreaded { threads }) => assert!(threads > 1),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fork(function: impl FnOnce() -> R) -> Result<Self, StartError>
    where
        R: Serialize + DeserializeOwned,
    {
        start::fork::start(function, Options::default())
    }

    /// As [`Process::fork`], although this process may have other threads.
    ///
    /// # Safety
    /// As [`ProcessBuilder::allow_threads`].
    ///
    /// # Errors
    /// [`StartError`].
    ///
    /// # Examples
    /// ```
    /// let word = String::from("captured");
    /// // SAFETY: the function only allocates.
    /// let process = unsafe { procession::Process::fork_with_threads(move || word + "!") }?;
    /// assert_eq!(process.join()?, "captured!");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(unsafe_code, reason = "a contract that only the user can keep")]
    pub unsafe fn fork_with_threads(function: impl FnOnce() -> R) -> Result<Self, StartError>
    where
        R: Serialize + DeserializeOwned,
    {
        // SAFETY: the contract is the same, and the caller's.
        let promise = Some(unsafe { fork::Promise::new() });
        let options = Options {
            promise,
            ..Options::default()
        };
        start::fork::start(function, options)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The name of the process.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Its pid. Once the process was joined the number may mean another one.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.core.pid
    }

    /// Whether it is ended when this process ends.
    #[must_use]
    pub fn daemon(&self) -> bool {
        self.core.daemon
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.core.status().is_none()
    }

    /// The same, without reaping it.
    pub(crate) fn is_running(&self) -> bool {
        !self.core.pidfd.has_ended()
    }

    /// Waits for its end and reaps it, whatever it returned.
    pub(crate) fn wait_ended(&self) -> io::Result<()> {
        self.core.wait(None)?;
        self.core.settle();
        Ok(())
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.core.status()
    }

    /// Its exit code, or minus the number of the signal that killed it; `None` while it runs. 255 if somebody else reaped it.
    #[must_use]
    #[doc(alias = "exitcode")]
    pub fn exit_code(&self) -> Option<i32> {
        Some(match self.core.status()? {
            ExitStatus::Exited(code) => code,
            ExitStatus::Signaled { signal, .. } => -signal,
            ExitStatus::Unknown => 255,
        })
    }

    /// Asks it to end, with SIGTERM. Nothing happens if it has ended.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn terminate(&self) -> io::Result<()> {
        self.core.signal(signal::TERM)
    }

    /// Ends it, with SIGKILL. Nothing happens if it has ended.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn kill(&self) -> io::Result<()> {
        self.core.signal(signal::KILL)
    }

    /// A descriptor that becomes readable when the process ends, for poll and epoll. A pidfd: no sibling can inherit it and keep it quiet.
    #[must_use]
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.core.sentinel()
    }

    /// Its memory. All zero once it has ended.
    ///
    /// # Errors
    /// `/proc` cannot be read, or the process has been joined.
    pub fn memory(&self) -> io::Result<ProcessMemory> {
        process_memory(self.core.pid)
    }

    /// What it used from its start to its end, also if it was killed. `None` while it runs, and if somebody else reaped it.
    ///
    /// # Examples
    /// See [`ProcessUsage`].
    #[must_use]
    pub fn usage(&self) -> Option<ProcessUsage> {
        self.core.usage()
    }

    /// Lets go of the process's result and of everything else, if it has ended.
    ///
    /// # Errors
    /// The handle itself, if the process still runs.
    pub fn close(self) -> Result<(), Self> {
        if self.is_alive() {
            return Err(self);
        }
        drop(self.core.take_record());
        Ok(())
    }
}

impl<R: DeserializeOwned> Process<R> {
    /// Waits until the process has ended; its result, once.
    ///
    /// # Blocking
    /// Until the process has ended.
    ///
    /// # Errors
    /// [`JoinError`] says who died, of what.
    ///
    /// # Examples
    /// ```
    /// use procession::{JoinFailure, Process};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let process = Process::start(|()| std::process::exit(3), ())?;
    ///     let error: procession::JoinError = Process::<()>::join(&process).expect_err("no result");
    ///     assert_eq!(error.failure, JoinFailure::Exited { code: 3 });
    ///     Ok(())
    /// }
    /// ```
    pub fn join(&self) -> Result<R, JoinError> {
        self.join_until(None)
    }

    /// As [`join`](Self::join), waiting at most `timeout`.
    ///
    /// # Errors
    /// [`JoinFailure::TimedOut`] if the process still runs, and those of `join`.
    pub fn join_timeout(&self, timeout: Duration) -> Result<R, JoinError> {
        self.join_until(Instant::now().checked_add(timeout))
    }

    /// As [`join`](Self::join), waiting until `deadline`.
    ///
    /// # Errors
    /// As [`join_timeout`](Self::join_timeout).
    pub fn join_deadline(&self, deadline: Instant) -> Result<R, JoinError> {
        self.join_until(Some(deadline))
    }

    fn join_until(&self, deadline: Option<Instant>) -> Result<R, JoinError> {
        self.core.join(deadline).map_err(|failure| JoinError {
            name: self.core.name.clone(),
            pid: self.core.pid,
            failure,
        })
    }
}

impl<R> AsFd for Process<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::{Presence, ShortWait};

    #[test]
    #[expect(unsafe_code, reason = "fork with threads")]
    fn whoever_asks_second_may_rely_on_it_as_well() {
        // SAFETY: the child only returns.
        let child = unsafe { Process::fork_with_threads(|| ()) }.expect("fork");
        let heap = the_heap();
        // Nobody is reaped meanwhile, by whoever asks first.
        let reaping = &heap.header().reap_lock;
        assert!(reaping.acquire(&ShortWait, None).is_ok());
        child.core.wait(None).expect("wait");
        std::thread::scope(|scope| {
            let asks = || {
                assert_eq!(child.exit_status(), Some(ExitStatus::Exited(0)));
                let owner = child.core.owner;
                let state = heap.participants()[owner.slot()].presence();
                assert_ne!(state, (Presence::Dead, owner.generation()));
            };
            let threads = [scope.spawn(asks), scope.spawn(asks)];
            // Long enough for one that would not wait.
            std::thread::sleep(Duration::from_millis(50));
            let both_wait = threads.iter().all(|thread| !thread.is_finished());
            assert!(reaping.release(&ShortWait).is_ok());
            assert!(both_wait);
        });
    }
}
