//! The process of a worker, whoever started it.

use super::recruit::Recruit;
use crate::family::reap_process;
use crate::process::{Process, StartError};
use crate::sys::pidfd::{ExitStatus, Pidfd};
use crate::sys::signal;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

/// See the header.
pub(super) enum Employee {
    /// Started by the pool: our child, reaped by us.
    Own(Process<()>),
    /// Started by the embedder, who reaps it.
    Recruited(Recruited),
}

pub(super) struct Recruited {
    name: String,
    pid: u32,
    pidfd: Pidfd,
    recruit: Arc<dyn Recruit>,
    /// Its end has been dealt with.
    end: OnceLock<ExitStatus>,
}

impl Employee {
    pub(super) fn recruited(
        name: String,
        pid: u32,
        recruit: Arc<dyn Recruit>,
    ) -> Result<Self, StartError> {
        // One that has ended, and that somebody reaped, is a worker that died before it came up.
        match Pidfd::open_even_if_gone(pid) {
            Ok(pidfd) => Ok(Self::Recruited(Recruited {
                name,
                pid,
                pidfd,
                recruit,
                end: OnceLock::new(),
            })),
            Err(error) => {
                let status = recruit.part(pid, ExitStatus::Unknown);
                let reason = format!("process {pid} {status}: {error}");
                Err(StartError::Recruit { name, reason })
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Own(process) => process.name(),
            Self::Recruited(recruited) => &recruited.name,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Own(process) => process.pid(),
            Self::Recruited(recruited) => recruited.pid,
        }
    }

    /// Whether it runs; nothing is reaped.
    pub(super) fn is_running(&self) -> bool {
        match self {
            Self::Own(process) => process.is_running(),
            Self::Recruited(recruited) => !recruited.pidfd.has_ended(),
        }
    }

    /// Ends it. One that has ended cannot be killed; that is as good.
    pub(super) fn kill(&self) {
        let _ = match self {
            Self::Own(process) => process.kill(),
            Self::Recruited(recruited) => recruited.pidfd.send_signal(signal::KILL),
        };
    }

    /// How it ended, after its end was seen: then the family has back what it held. Never under the pool's lock.
    pub(super) fn bury(&self) -> ExitStatus {
        match self {
            Self::Own(process) => process.exit_status().unwrap_or(ExitStatus::Unknown),
            Self::Recruited(recruited) => *recruited.end.get_or_init(|| recruited.part()),
        }
    }

    /// Waits for its end.
    pub(super) fn see_off(&self) {
        // Where the system refuses to wait nothing is left to be done.
        let _ = match self {
            Self::Own(process) => process.wait_ended(),
            Self::Recruited(recruited) => recruited.pidfd.wait(None).map(|_| {
                self.bury();
            }),
        };
    }

    /// The most memory that it ever had resident, in bytes, if it has ended and that is known.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let usage = match self {
            Self::Own(process) => process.usage(),
            Self::Recruited(recruited) => recruited.pidfd.usage_if_known(),
        };
        usage.map(|usage| usage.peak_memory)
    }

    /// Whether we know what the exit codes of its start mean.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }
}

impl AsFd for Employee {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(process) => process.as_fd(),
            Self::Recruited(recruited) => recruited.pidfd.as_fd(),
        }
    }
}

impl Recruited {
    fn part(&self) -> ExitStatus {
        let status = self.pidfd.peek_status().unwrap_or(ExitStatus::Unknown);
        // While its zombie keeps the pid from others.
        reap_process(self.pid);
        self.recruit.part(self.pid, status)
    }
}
