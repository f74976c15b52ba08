//! One process: watch it, signal it, and learn how it ended.
//!
//! A pid is only a number, and numbers are reused. A pidfd is the process itself: it becomes readable when the
//! process has ended (also while it is an unreaped zombie), never means another process, and a signal sent through
//! it cannot hit a stranger.
//!
//! # Who may reap
//! Somebody else in this process may reap our children: a SIGCHLD handler that calls `waitpid(-1)`, or the kernel
//! when SIGCHLD is ignored. Then `waitid` says ECHILD and the status is lost to it; kernels since 6.15 still tell it
//! to whoever holds a pidfd (`PIDFD_INFO_EXIT`), older ones do not, and the status is [`ExitStatus::Unknown`]. That
//! the process has *ended* is never in doubt: that is the pidfd's own state.
//!
//! Several threads may ask at once. Each first reads the status without reaping, keeps it, and only then reaps; so
//! whoever is told ECHILD because another of us was quicker finds the status kept.
//!
//! # What it used
//! The system call `waitid` also tells what the process used, in a fifth argument that no library passes on; the look without reaping
//! gives it as well, so status and use are kept together. Only a parent is told.
//!
//! # Safety
//! Unsafe are the system call `waitid`, which fills two structures of ours, reading the status out of one of them, and the ioctl that reads a
//! dead process's status: rustix cannot know its argument type.
#![expect(unsafe_code)]

use super::error::{errno, failed};
use super::signal;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// It exited, with this code.
    Exited(i32),
    /// A signal killed it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
    /// It has ended; how is not known, because somebody else reaped it.
    Unknown,
}

impl ExitStatus {
    /// Decodes the status word of `waitpid`, if it says that the process ended.
    pub(super) fn from_wait_word(word: i32) -> Option<Self> {
        if libc::WIFEXITED(word) {
            Some(Self::Exited(libc::WEXITSTATUS(word)))
        } else if libc::WIFSIGNALED(word) {
            Some(Self::Signaled {
                signal: libc::WTERMSIG(word),
                core_dumped: libc::WCOREDUMP(word),
            })
        } else {
            None
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signaled {
                signal,
                core_dumped: false,
            } => write!(f, "killed by {}", signal::name(*signal)),
            Self::Signaled {
                signal,
                core_dumped: true,
            } => {
                write!(f, "killed by {} (core dumped)", signal::name(*signal))
            }
            Self::Unknown => f.write_str("ended, reaped by someone else"),
        }
    }
}

/// What a process used from its start to its end, together with those of its own children that it waited for.
///
/// The system tells a parent when it reaps its child, also one that was killed. The peak of a process that was started as a program of its own
/// ([`StartMethod::Spawn`](crate::StartMethod::Spawn)) is never below what its parent had resident when it started it: that is how the kernel counts.
///
/// # Examples
/// ```
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let process = procession::Process::start(|()| vec![1_u8; 64 << 20].len(), ())?;
///     process.join()?;
///     let usage = process.usage().expect("it has ended, and is our child");
///     assert!(usage.peak_memory > 64 << 20);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// The most bytes that were ever resident, shared memory included: of one process, not of it and its children together.
    pub peak_memory: u64,
    /// Processor time in the program itself.
    pub user_time: Duration,
    /// Processor time in the kernel on its behalf.
    pub system_time: Duration,
}

impl ProcessUsage {
    fn from_rusage(usage: &libc::rusage) -> Self {
        let time = |time: libc::timeval| {
            let seconds = Duration::from_secs(time.tv_sec.try_into().unwrap_or(0));
            seconds + Duration::from_micros(time.tv_usec.try_into().unwrap_or(0))
        };
        Self {
            // In KiB.
            peak_memory: u64::try_from(usage.ru_maxrss)
                .unwrap_or(0)
                .saturating_mul(1024),
            user_time: time(usage.ru_utime),
            system_time: time(usage.ru_stime),
        }
    }
}

/// A process that this one started.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) pidfd: Pidfd,
}

/// A process, held by a descriptor.
#[derive(Debug)]
pub(crate) struct Pidfd {
    fd: OwnedFd,
    /// How it ended and what it had used, once anybody here has learnt it.
    end: OnceLock<(ExitStatus, ProcessUsage)>,
}

/// What `waitid` says.
enum Asked {
    Running,
    Ended(ExitStatus, ProcessUsage),
    /// It is not our child, or no longer.
    NotOurs,
}

impl Pidfd {
    /// Opens the process that has the id `pid` now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        pidfd_open(signal::to_pid(pid)?, PidfdFlags::empty())
            .map(Self::from)
            .map_err(|error| failed(format!("open process {pid}"), error))
    }

    /// As [`open`](Self::open); of a process that was reaped already, a descriptor that says so: it has ended, nobody knows how.
    pub(crate) fn open_even_if_gone(pid: u32) -> io::Result<Self> {
        match Self::open(pid) {
            Err(error) if errno(&error) == Some(libc::ESRCH) => {
                // Readable, as the pidfd would be; whatever else only a pidfd can answer fails, as it does for a stranger.
                eventfd(1, EventfdFlags::CLOEXEC)
                    .map(Self::from)
                    .map_err(|error| failed(format!("stand in for process {pid}"), error))
            }
            opened => opened,
        }
    }

    /// Waits until the process has ended; `false` says that the deadline came first. `None` waits for ever.
    ///
    /// Does not reap, and works for any process, not only for children.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            });
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(failed("wait for a process", error)),
            }
        }
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        // An error leaves the question open, and "ended" must be proved.
        self.end.get().is_some() || self.wait(Some(Instant::now())).unwrap_or(false)
    }

    /// Sends a signal to exactly this process; `ESRCH` if it has ended and was reaped.
    pub(crate) fn send_signal(&self, signal: i32) -> io::Result<()> {
        pidfd_send_signal(&self.fd, signal::to_rustix(signal)?)
            .map_err(|error| failed(format!("send {} to a process", signal::name(signal)), error))
    }

    /// How the process ended, or `None` while it runs. Reaps it if it is our child.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        if let Some((status, _)) = self.end.get() {
            return Some(*status);
        }
        match self.ask(libc::WNOWAIT) {
            Asked::Running => None,
            Asked::Ended(status, usage) => {
                self.end.get_or_init(|| (status, usage));
                self.ask(0);
                Some(status)
            }
            Asked::NotOurs => self.status_of_stranger(),
        }
    }

    /// As [`exit_status`](Self::exit_status), but leaves a child of ours to whoever reaps it.
    pub(crate) fn peek_status(&self) -> Option<ExitStatus> {
        match self.ask(libc::WNOWAIT) {
            Asked::Running => None,
            Asked::Ended(status, usage) => {
                self.end.get_or_init(|| (status, usage));
                Some(status)
            }
            Asked::NotOurs => self.status_of_stranger(),
        }
    }

    /// The status of a process that we cannot ask the system about, or no longer.
    fn status_of_stranger(&self) -> Option<ExitStatus> {
        // A status that another thread kept before it reaped is complete by now: see the header.
        match self.end.get() {
            Some((status, _)) => Some(*status),
            None => self
                .has_ended()
                .then(|| self.status_told_by_kernel().unwrap_or(ExitStatus::Unknown)),
        }
    }

    /// What the process had used when it ended, if [`peek_status`](Self::peek_status) was told.
    pub(crate) fn usage_if_known(&self) -> Option<ProcessUsage> {
        self.end.get().map(|(_, usage)| *usage)
    }

    /// What the process had used when it ended; `None` while it runs, and if it is not our child or somebody else reaped it. Reaps it as
    /// [`exit_status`](Self::exit_status) does.
    pub(crate) fn usage(&self) -> Option<ProcessUsage> {
        self.exit_status()?;
        self.end.get().map(|(_, usage)| *usage)
    }

    /// Waits until the process has ended, reaps it if it is our child, and tells how it ended.
    pub(crate) fn wait_status(&self) -> io::Result<ExitStatus> {
        loop {
            self.wait(None)?;
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
        }
    }

    /// Whether this is our child (running, or ended and not yet reaped).
    pub(crate) fn is_our_child(&self) -> bool {
        !matches!(self.ask(libc::WNOWAIT), Asked::NotOurs)
    }

    fn ask(&self, options: i32) -> Asked {
        loop {
            return match self.waitid(options | libc::WEXITED | libc::WNOHANG) {
                Err(Errno::INTR) => continue,
                Err(_) => Asked::NotOurs,
                Ok((info, usage)) => ended(&info).map_or(Asked::Running, |status| {
                    Asked::Ended(status, ProcessUsage::from_rusage(&usage))
                }),
            };
        }
    }

    fn waitid(&self, options: i32) -> Result<(libc::siginfo_t, libc::rusage), Errno> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the kernel writes at most one structure of each kind, to our own stack; it knows the descriptor and the options.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                self.fd.as_raw_fd(),
                info.as_mut_ptr(),
                options,
                usage.as_mut_ptr(),
            )
        };
        if result != 0 {
            return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL));
        }
        // SAFETY: numbers only, all of them initialised: zero, or what the kernel wrote.
        let info = unsafe { info.assume_init() };
        // SAFETY: as above.
        let usage = unsafe { usage.assume_init() };
        Ok((info, usage))
    }

    /// The status of a process that was reaped, from kernels that keep it (6.15 and later).
    fn status_told_by_kernel(&self) -> Option<ExitStatus> {
        let mut info = PidfdInfo {
            mask: PIDFD_INFO_EXIT,
            ..PidfdInfo::default()
        };
        // SAFETY: `PidfdInfo` has the layout of the kernel's `struct pidfd_info` in its first version, whose 64
        // bytes the opcode names, and the kernel writes at most as many bytes as the opcode names.
        let question =
            unsafe { rustix::ioctl::Updater::<PIDFD_GET_INFO, PidfdInfo>::new(&mut info) };
        // SAFETY: PIDFD_GET_INFO on a pidfd only fills in the structure; on any other file or on an older kernel it
        // is an unknown request and fails.
        let answer = unsafe { rustix::ioctl::ioctl(&self.fd, question) };
        answer.ok()?;
        (info.mask & PIDFD_INFO_EXIT != 0).then(|| ExitStatus::from_wait_word(info.exit_code))?
    }
}

impl From<OwnedFd> for Pidfd {
    fn from(fd: OwnedFd) -> Self {
        Self {
            fd,
            end: OnceLock::new(),
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How the process ended of which `waitid` speaks; `None`: it speaks of none.
fn ended(info: &libc::siginfo_t) -> Option<ExitStatus> {
    // SAFETY: the structure is all zero or was filled by `waitid`, whose member this is.
    let status = unsafe { info.si_status() };
    match info.si_code {
        libc::CLD_EXITED => Some(ExitStatus::Exited(status)),
        libc::CLD_KILLED | libc::CLD_DUMPED => Some(ExitStatus::Signaled {
            signal: status,
            core_dumped: info.si_code == libc::CLD_DUMPED,
        }),
        _ => None,
    }
}

/// The kernel's `struct pidfd_info`, first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    /// pid, tgid, ppid, and eight user and group ids.
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
const PIDFD_GET_INFO: rustix::ioctl::Opcode =
    rustix::ioctl::opcode::read_write::<PidfdInfo>(0xFF, 11);
const _: () = assert!(size_of::<PidfdInfo>() == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    fn start(script: &str) -> (std::process::Child, Pidfd) {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .expect("start sh");
        let pidfd = Pidfd::open(child.id()).expect("open child");
        (child, pidfd)
    }

    #[test]
    fn tells_exit_code_again_and_again() {
        let (_child, pidfd) = start("exit 7");
        assert_eq!(pidfd.wait_status().ok(), Some(ExitStatus::Exited(7)));
        assert_eq!(pidfd.exit_status(), Some(ExitStatus::Exited(7)));
        assert!(pidfd.has_ended());
        assert!(!pidfd.is_our_child());
    }

    #[test]
    fn tells_signal() {
        let (_child, pidfd) = start("exec sleep 1000");
        assert_eq!(pidfd.exit_status(), None);
        assert!(pidfd.is_our_child());
        assert_eq!(
            pidfd
                .wait(Some(Instant::now() + Duration::from_millis(1)))
                .ok(),
            Some(false)
        );
        pidfd.send_signal(libc::SIGKILL).expect("kill");
        assert_eq!(pidfd.wait(None).ok(), Some(true));
        let killed = ExitStatus::Signaled {
            signal: libc::SIGKILL,
            core_dumped: false,
        };
        assert_eq!(pidfd.exit_status(), Some(killed));
        assert_eq!(killed.to_string(), "killed by SIGKILL");
        assert_eq!(
            crate::sys::error::errno(&pidfd.send_signal(libc::SIGTERM).unwrap_err()),
            Some(libc::ESRCH)
        );
    }

    #[test]
    fn reaped_by_someone_else_is_still_ended() {
        let (mut child, pidfd) = start("exit 3");
        child.wait().expect("reap behind its back");
        let status = pidfd.exit_status().expect("it has ended");
        assert!(
            [ExitStatus::Unknown, ExitStatus::Exited(3)].contains(&status),
            "{status}"
        );
    }

    #[test]
    fn a_look_does_not_reap() {
        let (mut child, pidfd) = start("exit 7");
        pidfd.wait(None).expect("wait");
        for _ in 0..2 {
            assert_eq!(pidfd.peek_status(), Some(ExitStatus::Exited(7)));
        }
        assert!(pidfd.is_our_child() && pidfd.usage_if_known().is_some());
        assert_eq!(child.wait().expect("reap").code(), Some(7));
        assert_eq!(pidfd.peek_status(), Some(ExitStatus::Exited(7)));
    }

    #[test]
    fn tells_what_it_used() {
        let (_child, pidfd) = start("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; kill -9 $$");
        let status = pidfd.wait_status().expect("status");
        assert!(matches!(status, ExitStatus::Signaled { signal: 9, .. }));
        let usage = pidfd.usage().expect("our child");
        assert!(usage.peak_memory > 100 << 10, "{usage:?}");
        assert!(
            usage.user_time + usage.system_time > Duration::ZERO,
            "{usage:?}"
        );
        assert_eq!(pidfd.usage(), Some(usage));
    }

    #[test]
    fn what_it_used_is_not_known_too_early_or_too_late() {
        let (mut child, pidfd) = start("exec sleep 1000");
        assert_eq!(pidfd.usage(), None);
        child.kill().expect("kill");
        child.wait().expect("reap behind its back");
        assert_eq!(pidfd.usage(), None);
        assert!(pidfd.exit_status().is_some());
    }

    #[test]
    fn watches_a_stranger() {
        let pidfd = Pidfd::open(1).expect("open init");
        assert_eq!(pidfd.exit_status(), None);
        assert!(!pidfd.is_our_child());
    }

    #[test]
    fn many_threads_all_learn_the_status() {
        for _ in 0..20 {
            let (_child, pidfd) = start("exit 9");
            std::thread::scope(|scope| {
                let asking: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| pidfd.wait_status().ok()))
                    .collect();
                for thread in asking {
                    assert_eq!(
                        thread.join().expect("no panic"),
                        Some(ExitStatus::Exited(9))
                    );
                }
            });
        }
    }

    #[test]
    fn decodes_wait_words() {
        assert_eq!(
            ExitStatus::from_wait_word(0x0500),
            Some(ExitStatus::Exited(5))
        );
        let dumped = ExitStatus::Signaled {
            signal: 11,
            core_dumped: true,
        };
        assert_eq!(ExitStatus::from_wait_word(0x8b), Some(dumped));
        assert_eq!(ExitStatus::from_wait_word(0x137f), None);
    }
}
