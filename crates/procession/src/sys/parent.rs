//! Acting when the parent dies.
//!
//! The kernel can send a signal at that moment (`PR_SET_PDEATHSIG`), at no cost. But it means the *thread* that forked
//! us: a child started by a pool's helper thread would be killed when that thread ends. And it remembers the wish per thread
//! of ours: what a thread asked for is forgotten when that thread ends. So it is used only between main threads, and only
//! if the process to watch is our parent in the kernel's eyes. Otherwise a small thread sleeps on the parent's pidfd.
//!
//! # The parent may die first
//! Dying, the parent first gives its children away (their `getppid` changes), then looks whether they want a signal,
//! then its pidfd becomes readable. We first ask for the signal and then look at `getppid`: either we see the change,
//! or the parent sees our wish. The thread needs no such care: a pidfd stays readable.

use super::error::failed;
use super::fork::is_main_thread;
use super::pidfd::Pidfd;
use super::signal::{self, Blocked};
use rustix::process::{getppid, set_parent_process_death_signal};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Stack of the watching thread: it sleeps, then acts once.
const STACK_SIZE: usize = 128 * 1024;

/// What to do when the parent has died.
pub(crate) enum OnDeath {
    /// Send this process a signal.
    Signal(i32),
    /// Call this, on a thread of its own where all signals are blocked.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for ends that want to clean up; tested")
    )]
    Call(Box<dyn FnOnce() + Send>),
}

impl fmt::Debug for OnDeath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => f
                .debug_tuple("Signal")
                .field(&signal::name(*signal))
                .finish(),
            Self::Call(_) => f.write_str("Call"),
        }
    }
}

impl OnDeath {
    fn act(self) -> io::Result<()> {
        match self {
            Self::Signal(signal) => signal::send(std::process::id(), signal),
            Self::Call(call) => {
                call();
                Ok(())
            }
        }
    }
}

/// Has `action` done once, when the process `parent` has ended (at once if it has).
///
/// `forked_by_main_thread` says that the parent's main thread (see
/// [`is_main_thread`]) forked us; if in doubt, `false`. Forked children of ours do not inherit the watch, programs
/// that we execute inherit at most the signal.
pub(crate) fn on_parent_death(
    parent: Pidfd,
    forked_by_main_thread: bool,
    action: OnDeath,
) -> io::Result<()> {
    if let OnDeath::Signal(signal) = action
        && forked_by_main_thread
        && is_main_thread()
        && is_kernel_parent(&parent)
    {
        return signal_from_kernel(&parent, signal);
    }
    watch(parent, action)
}

/// Whether the kernel takes `process` for our parent.
fn is_kernel_parent(process: &Pidfd) -> bool {
    let parent = getppid().map(|pid| pid.as_raw_pid());
    parent.is_some() && parent == pid_of(process)
}

/// The pid of a pidfd, unless the process has been reaped or lies outside our pid name space.
fn pid_of(process: &Pidfd) -> Option<i32> {
    let number = process.as_fd().as_raw_fd();
    parse_fdinfo(&std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?)
}

fn parse_fdinfo(text: &str) -> Option<i32> {
    let value = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    value.trim().parse().ok().filter(|pid| *pid > 0)
}

fn signal_from_kernel(parent: &Pidfd, signal: i32) -> io::Result<()> {
    set_parent_process_death_signal(Some(signal::to_rustix(signal)?))
        .map_err(|error| failed("ask for a signal when the parent dies", error))?;
    // It may have died before it could see our wish: see the header.
    if parent.has_ended() || !is_kernel_parent(parent) {
        return OnDeath::Signal(signal).act();
    }
    Ok(())
}

fn watch(parent: Pidfd, action: OnDeath) -> io::Result<()> {
    // Signals are for the program's own threads: one that this thread took would interrupt nobody's system call.
    let _blocked = Blocked::all();
    std::thread::Builder::new()
        .name("parent-watch".to_owned())
        .stack_size(STACK_SIZE)
        .spawn(move || {
            if parent.wait(None).is_ok() {
                // Nobody is left to tell about an error.
                let _ = action.act();
            }
        })
        .map(drop)
        .map_err(|error| failed("start a thread that watches the parent", error))
}

#[cfg(test)]
mod tests {
    #![expect(unsafe_code, reason = "the tests fork")]

    use super::*;
    use crate::sys::fork::{Fork, exit_now, fork};
    use crate::sys::pidfd::{Child, ExitStatus};

    fn in_child(f: impl FnOnce() -> i32) -> Child {
        // SAFETY: the children in these tests touch only their own data, and allocate.
        match unsafe { fork() }.expect("fork") {
            Fork::Child => exit_now(f()),
            Fork::Parent(child) => child,
        }
    }

    fn sleep_for_ever() -> ! {
        loop {
            let _ = rustix::event::poll(&mut [], None);
        }
    }

    /// A parent that sleeps, and its child, which runs `child` (given the parent) and then sleeps. Kills the parent, and
    /// tells how the child ended. With `late`, `child` is run after the parent's death.
    fn orphan(late: bool, child: impl FnOnce(Pidfd) -> io::Result<()>) -> Option<ExitStatus> {
        // Orphans become ours, so that we can reap them.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .expect("adopt orphans");
        let (from_child, to_us) = io::pipe().expect("pipe");
        let (from_us, to_child) = io::pipe().expect("pipe");
        let parent = in_child(|| {
            in_child(|| {
                let Some(parent) =
                    getppid().and_then(|pid| Pidfd::open(pid.as_raw_pid().cast_unsigned()).ok())
                else {
                    return 1;
                };
                let tell = || rustix::io::write(&to_us, &std::process::id().to_ne_bytes());
                if late {
                    let _ = tell();
                    let _ = rustix::io::read(&from_us, &mut [0u8]);
                }
                if child(parent).is_err() {
                    return 2;
                }
                if !late {
                    let _ = tell();
                }
                sleep_for_ever()
            });
            sleep_for_ever()
        });
        let mut pid = [0; 4];
        assert_eq!(rustix::io::read(&from_child, &mut pid), Ok(4));
        let child = Pidfd::open(u32::from_ne_bytes(pid)).expect("open the child");
        parent
            .pidfd
            .send_signal(libc::SIGKILL)
            .expect("kill the parent");
        let killed = ExitStatus::Signaled {
            signal: libc::SIGKILL,
            core_dumped: false,
        };
        assert_eq!(parent.pidfd.wait_status().ok(), Some(killed));
        assert_eq!(rustix::io::write(&to_child, &[1]), Ok(1));
        child.wait_status().ok()
    }

    fn killed_by(signal: i32) -> Option<ExitStatus> {
        Some(ExitStatus::Signaled {
            signal,
            core_dumped: false,
        })
    }

    #[test]
    fn the_kernel_signals() {
        for late in [false, true] {
            let status = orphan(late, |parent| {
                on_parent_death(parent, true, OnDeath::Signal(libc::SIGTERM))
            });
            assert_eq!(status, killed_by(libc::SIGTERM));
        }
    }

    #[test]
    fn the_kernel_is_asked_only_when_that_is_right() {
        for forked_by_main in [true, false] {
            let status = orphan(false, |parent| {
                on_parent_death(parent, forked_by_main, OnDeath::Signal(libc::SIGKILL))?;
                let signal = rustix::process::parent_process_death_signal()?;
                if signal.is_some() == forked_by_main {
                    Ok(())
                } else {
                    Err(io::Error::other("wrong way"))
                }
            });
            assert_eq!(status, killed_by(libc::SIGKILL));
        }
    }

    #[test]
    fn a_thread_signals_and_calls() {
        for late in [false, true] {
            let signal = || OnDeath::Signal(libc::SIGKILL);
            let status = orphan(late, |parent| on_parent_death(parent, false, signal()));
            assert_eq!(status, killed_by(libc::SIGKILL));
            let call = || OnDeath::Call(Box::new(|| exit_now(9)));
            let status = orphan(late, |parent| on_parent_death(parent, true, call()));
            assert_eq!(status, Some(ExitStatus::Exited(9)));
        }
    }

    #[test]
    fn reads_the_pid_of_a_pidfd() {
        let own = Pidfd::open(std::process::id()).expect("open ourselves");
        assert_eq!(pid_of(&own), Some(std::process::id().cast_signed()));
        assert!(!is_kernel_parent(&own));
        assert_eq!(parse_fdinfo("pos:\t0\nPid:\t-1\nNSpid:\t-1\n"), None);
        assert_eq!(parse_fdinfo("pos:\t0\nPid:\t0\n"), None);
        assert_eq!(parse_fdinfo("pos:\t0\n"), None);
    }
}
