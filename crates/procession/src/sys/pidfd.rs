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
//! # Safety
//! The one unsafe thing here is the ioctl that reads a dead process's status: rustix cannot know its argument type.
#![expect(unsafe_code)]

use super::error::failed;
use super::signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Instant;

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
    /// How it ended, once anybody here has learnt it.
    status: OnceLock<ExitStatus>,
}

/// What `waitid` says.
enum Asked {
    Running,
    Ended(ExitStatus),
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
        self.status.get().is_some() || self.wait(Some(Instant::now())).unwrap_or(false)
    }

    /// Sends a signal to exactly this process; `ESRCH` if it has ended and was reaped.
    pub(crate) fn send_signal(&self, signal: i32) -> io::Result<()> {
        pidfd_send_signal(&self.fd, signal::to_rustix(signal)?)
            .map_err(|error| failed(format!("send {} to a process", signal::name(signal)), error))
    }

    /// How the process ended, or `None` while it runs. Reaps it if it is our child.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        if let Some(status) = self.status.get() {
            return Some(*status);
        }
        match self.ask(WaitIdOptions::NOWAIT) {
            Asked::Running => None,
            Asked::Ended(status) => {
                self.status.get_or_init(|| status);
                self.ask(WaitIdOptions::empty());
                Some(status)
            }
            // A status that another thread kept before it reaped is complete by now: see the header.
            Asked::NotOurs => match self.status.get() {
                Some(status) => Some(*status),
                None => self
                    .has_ended()
                    .then(|| self.status_told_by_kernel().unwrap_or(ExitStatus::Unknown)),
            },
        }
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
        !matches!(self.ask(WaitIdOptions::NOWAIT), Asked::NotOurs)
    }

    fn ask(&self, options: WaitIdOptions) -> Asked {
        loop {
            let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            return match waitid(WaitId::PidFd(self.fd.as_fd()), options) {
                Err(Errno::INTR) => continue,
                Err(_) => Asked::NotOurs,
                Ok(None) => Asked::Running,
                Ok(Some(ended)) => {
                    if let Some(code) = ended.exit_status() {
                        Asked::Ended(ExitStatus::Exited(code))
                    } else if let Some(signal) = ended.terminating_signal() {
                        Asked::Ended(ExitStatus::Signaled {
                            signal,
                            core_dumped: ended.dumped(),
                        })
                    } else {
                        Asked::Running
                    }
                }
            };
        }
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
            status: OnceLock::new(),
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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
