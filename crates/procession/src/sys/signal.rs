//! Signals: their names, sending one, and keeping all of them away for a moment.
//!
//! # Safety
//! The unsafe blocks call libc on signal sets and actions that live on our own stack, and turn a checked
//! number into rustix's signal type.
#![expect(unsafe_code)]

use super::error::failed;
use rustix::process::{Pid, Signal};
use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::{io, ptr};

/// Every signal that has a name on all Linux machines (the numbers differ between them).
const NAMES: [(i32, &str); 30] = [
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGCHLD, "SIGCHLD"),
    (libc::SIGCONT, "SIGCONT"),
    (libc::SIGSTOP, "SIGSTOP"),
    (libc::SIGTSTP, "SIGTSTP"),
    (libc::SIGTTIN, "SIGTTIN"),
    (libc::SIGTTOU, "SIGTTOU"),
    (libc::SIGURG, "SIGURG"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGWINCH, "SIGWINCH"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGSYS, "SIGSYS"),
];

/// Asks a process to end.
pub(crate) const TERM: i32 = libc::SIGTERM;
/// Ends a process.
pub(crate) const KILL: i32 = libc::SIGKILL;

/// The highest signal number of the kernel.
pub(crate) const HIGHEST: i32 = 64;

/// The name of a signal: `SIGKILL`, `SIGRTMIN+2`, or `signal 99` for a number that is none.
pub(crate) fn name(signal: i32) -> Cow<'static, str> {
    if let Some((_, name)) = NAMES.iter().find(|(number, _)| *number == signal) {
        return Cow::Borrowed(name);
    }
    match signal - libc::SIGRTMIN() {
        0 => Cow::Borrowed("SIGRTMIN"),
        above if above > 0 && signal <= libc::SIGRTMAX() => Cow::Owned(format!("SIGRTMIN+{above}")),
        _ => Cow::Owned(format!("signal {signal}")),
    }
}

/// A number as rustix's signal type; an error if the kernel knows no such signal.
pub(crate) fn to_rustix(signal: i32) -> io::Result<Signal> {
    if !(1..=HIGHEST).contains(&signal) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("no signal {signal}"),
        ));
    }
    // SAFETY: the number is in the kernel's range, so it is not zero (the only invalid value). rustix also asks
    // that libc's reserved signals are not misused; it means handlers for them, and we only ever send.
    Ok(unsafe { Signal::from_raw_unchecked(signal) })
}

/// Sends `signal` to the process `pid`. Pids are reused: prefer [`Pidfd::send_signal`](super::pidfd::Pidfd).
pub(crate) fn send(pid: u32, signal: i32) -> io::Result<()> {
    let to = to_pid(pid)?;
    rustix::process::kill_process(to, to_rustix(signal)?)
        .map_err(|error| failed(format!("send {} to process {pid}", name(signal)), error))
}

/// A pid as rustix's type; an error for zero and for what no pid can be (both would mean "a group" to `kill`).
pub(crate) fn to_pid(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no process can have the id {pid}"),
            )
        })
}

/// How this process treats a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    Default,
    Ignored,
    Handled,
}

/// How this process treats `signal` now, and whether the kernel reaps its children for it (`SA_NOCLDWAIT`).
fn action(signal: i32) -> io::Result<(Disposition, bool)> {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action only asks; the old one is written to our own, large enough, local.
    if unsafe { libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: sigaction succeeded, so it filled in the structure.
    let old = unsafe { old.assume_init() };
    let disposition = match old.sa_sigaction {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignored,
        _ => Disposition::Handled,
    };
    Ok((disposition, old.sa_flags & libc::SA_NOCLDWAIT != 0))
}

/// How this process treats `signal` now.
pub(crate) fn disposition(signal: i32) -> io::Result<Disposition> {
    Ok(action(signal)?.0)
}

/// Whether the kernel reaps our children at once, so that a pid may be reused while we still hold it.
pub(crate) fn children_reaped_by_kernel() -> bool {
    action(libc::SIGCHLD)
        .is_ok_and(|(disposition, no_wait)| no_wait || disposition == Disposition::Ignored)
}

/// Sets `signal` back to its default action. Makes one system call and nothing else: fit for a forked child.
pub(crate) fn set_default(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_DFL is a valid handler for every signal; libc itself refuses the signals it reserves.
    if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A set of signals.
#[derive(Clone, Copy)]
pub(crate) struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// No signal.
    pub(crate) fn empty() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset only writes to the set it is given, our local.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset cannot fail for a valid pointer and filled in the whole set.
        Self(unsafe { set.assume_init() })
    }

    /// Every signal.
    pub(crate) fn full() -> Self {
        let mut set = Self::empty();
        // SAFETY: sigfillset only writes to the set it is given, our local.
        unsafe { libc::sigfillset(&raw mut set.0) };
        set
    }

    /// This set and `signal`, which must be a number from [`NAMES`].
    pub(crate) fn with(mut self, signal: i32) -> Self {
        // SAFETY: sigaddset only writes to the set it is given, our local, and checks the number.
        unsafe { libc::sigaddset(&raw mut self.0, signal) };
        self
    }

    /// The libc form.
    pub(crate) fn as_raw(&self) -> &libc::sigset_t {
        &self.0
    }

    /// Makes this the calling thread's mask and returns the old mask. One system call: fit for a forked child.
    pub(crate) fn install(&self) -> Self {
        let mut old = Self::empty();
        // SAFETY: both sets are initialised locals; with SIG_SETMASK the call cannot fail.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, &raw mut old.0) };
        old
    }
}

/// Keeps every signal from the calling thread until it is dropped.
///
/// A thread started meanwhile inherits the mask and keeps it.
pub(crate) struct Blocked {
    before: SignalSet,
    /// The mask is the thread's: a guard must be dropped where it was made.
    _this_thread: std::marker::PhantomData<*const ()>,
}

impl Blocked {
    /// Blocks all signals.
    pub(crate) fn all() -> Self {
        Self {
            before: SignalSet::full().install(),
            _this_thread: std::marker::PhantomData,
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.before.install();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name(libc::SIGKILL), "SIGKILL");
        assert_eq!(name(libc::SIGSEGV), "SIGSEGV");
        assert_eq!(name(libc::SIGRTMIN()), "SIGRTMIN");
        assert_eq!(name(libc::SIGRTMIN() + 3), "SIGRTMIN+3");
        assert_eq!(name(99), "signal 99");
        assert_eq!(name(-1), "signal -1");
    }

    #[test]
    fn every_name_has_its_own_number() {
        let mut numbers: Vec<_> = NAMES.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), NAMES.len());
    }

    #[test]
    fn refuses_what_would_mean_a_group_or_nothing() {
        for pid in [0, u32::MAX] {
            assert_eq!(
                send(pid, libc::SIGTERM).map_err(|e| e.kind()),
                Err(io::ErrorKind::InvalidInput)
            );
        }
        for signal in [0, -1, 65] {
            assert!(to_rustix(signal).is_err());
        }
    }

    #[test]
    fn blocks_and_restores() {
        let before = SignalSet::empty().install();
        {
            let _blocked = Blocked::all();
            send(std::process::id(), libc::SIGWINCH).expect("signal ourselves");
        }
        before.install();
        assert_eq!(disposition(libc::SIGUSR1).ok(), Some(Disposition::Default));
    }
}
