//! Forking: as a child, or as a sibling.
//!
//! - [`fork`] is the C library's, so that everybody's at-fork handlers run.
//! - [`clone_as_sibling`] makes the new process a child of *our parent*. A forkserver's template uses it: the process
//!   that asked for a worker is then its real parent, can wait for it and is told its exit status, with no relay.
//!   The C library has no such call, so its at-fork handlers do not run (ours do), and it is refused unless
//!   the process has a single thread: then no lock can be held by a thread that the copy lacks.
//!
//! # Safety
//! Forking copies the memory of all threads but only the calling thread, and other threads keep writing while
//! the copy is made; [`fork`] is therefore `unsafe`, and [`fork_alone`] is the safe form. The raw `clone` tells the
//! kernel to keep what the C library keeps per thread (the cached thread id, the robust list) as its own `fork` would.
#![expect(unsafe_code)]

use super::error::failed;
use super::pidfd::{Child, Pidfd};
use super::signal;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Pid, WaitOptions, getpid, getppid, kill_process, waitpid};
use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::{io, ptr};

/// On which side of a fork we are.
#[derive(Debug)]
pub(crate) enum Fork {
    /// In the process that forked.
    Parent(Child),
    /// In the new process.
    Child,
}

/// Forks this process.
///
/// # Errors
/// The kernel's refusal (no memory, too many processes); or no pidfd could be had for the child, which is then
/// killed and reaped.
///
/// # Safety
/// If other threads exist, their locks may stay locked for ever in the child, and what they were writing without
/// a lock (lock-free structures, say) may be in a state that never existed. The child must not touch such data.
/// Nor may it use exclusive (`&mut`) access to memory that it still shares with the parent.
pub(crate) unsafe fn fork() -> io::Result<Fork> {
    let gate = Gate::if_needed()?;
    // SAFETY: the duty about other threads' data is the caller's (see above); the code from here to the return in the
    // child makes system calls only.
    match unsafe { libc::fork() } {
        -1 => Err(failed("fork", io::Error::last_os_error())),
        0 => {
            if let Some(gate) = gate {
                gate.pass();
            }
            Ok(Fork::Child)
        }
        pid => {
            let child = adopt(pid);
            if let Some(gate) = gate {
                gate.open();
            }
            child.map(Fork::Parent)
        }
    }
}

/// Forks a process that has a single thread; an error ([`io::ErrorKind::ResourceBusy`]) if it has more.
pub(crate) fn fork_alone() -> io::Result<Fork> {
    refuse_threads()?;
    // SAFETY: this is the only thread and cannot start another meanwhile, so no other thread's data exist. Memory
    // shared with the parent is the family heap, which is atomics and raw copies only (I1).
    unsafe { fork() }
}

/// A promise of the user that forking is fine although other threads exist: the duties of [`fork`] are theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise(());

impl Promise {
    /// # Safety
    /// As [`fork`].
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// Forks: freely with a promise, else only a process that has a single thread.
pub(crate) fn fork_promised(promise: Option<Promise>) -> io::Result<Fork> {
    if promise.is_none() {
        return fork_alone();
    }
    // SAFETY: whoever made the promise answers for what the child touches.
    unsafe { fork() }
}

/// Takes charge of a child that was just started.
///
/// The pid cannot mean another process yet: it is our unreaped child, unless somebody else in this process (or the
/// kernel, see [`Gate`]) reaped it already, and that is found out.
pub(crate) fn adopt(pid: i32) -> io::Result<Child> {
    let id = pid.unsigned_abs();
    match Pidfd::open(id) {
        Ok(pidfd) if pidfd.is_our_child() => Ok(Child { pid: id, pidfd }),
        Ok(_) => Err(io::Error::other(format!(
            "child {pid} was reaped by someone else at once"
        ))),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound
                && super::error::errno(&error) != Some(libc::ESRCH)
                && let Some(pid) = Pid::from_raw(pid)
            {
                // Nobody could ever wait for it without a descriptor: undo the start.
                let _ = kill_process(pid, rustix::process::Signal::KILL);
                while waitpid(Some(pid), WaitOptions::empty()).err()
                    == Some(rustix::io::Errno::INTR)
                {}
            }
            Err(failed(format!("watch child {pid}"), error))
        }
    }
}

/// Holds a new child back until the parent has its pidfd.
///
/// Needed only if the kernel reaps our children for us (SIGCHLD ignored): a child that ends at once would be
/// gone, its pid perhaps reused, before `pidfd_open`.
struct Gate {
    event: OwnedFd,
    parent: Pid,
}

impl Gate {
    fn if_needed() -> io::Result<Option<Self>> {
        if !signal::children_reaped_by_kernel() {
            return Ok(None);
        }
        let event =
            eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| failed("make an eventfd", error))?;
        Ok(Some(Self {
            event,
            parent: getpid(),
        }))
    }

    /// In the parent: lets the child go.
    fn open(self) {
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// In the child: waits for the parent, or for its death.
    fn pass(self) {
        let slice = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        loop {
            let mut fds = [PollFd::new(&self.event, PollFlags::IN)];
            let opened = poll(&mut fds, Some(&slice)).is_ok_and(|ready| ready > 0);
            if opened || getppid() != Some(self.parent) {
                return;
            }
        }
    }
}

/// Forks this process, which must have a single thread, as a child of its *parent*.
///
/// The new process is in every other way like a forked one. In the caller the returned `pidfd` can watch and signal it;
/// only the common parent can learn its exit status (send it the descriptor).
///
/// # Errors
/// [`io::ErrorKind::ResourceBusy`] if there are other threads; [`io::ErrorKind::Unsupported`] where the machine or
/// the kernel cannot do it (fork normally then); the kernel's refusal, among others if we are the init process.
pub(crate) fn clone_as_sibling() -> io::Result<Fork> {
    refuse_threads()?;
    let thread_id = rustix::thread::get_clear_child_tid_address()
        .ok()
        .flatten()
        .ok_or_else(unsupported)?;
    let robust = RobustList::of_this_thread();
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_PARENT
        | libc::CLONE_PIDFD
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID
        | libc::SIGCHLD;
    let pid = raw_clone(flags as c_ulong, &mut pidfd, thread_id.as_ptr());
    match pid {
        -1 => Err(failed("clone as a sibling", io::Error::last_os_error())),
        0 => {
            robust.install();
            Ok(Fork::Child)
        }
        pid => {
            // SAFETY: with CLONE_PIDFD a successful clone stored a new descriptor that nobody else owns.
            let fd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::Parent(Child {
                pid: u32::try_from(pid).unwrap_or(0),
                pidfd: Pidfd::from(fd),
            }))
        }
    }
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "cannot clone as a sibling here")
}

/// `clone` without a new stack: returns twice, as `fork` does. -1 with errno set on failure.
///
/// Only ever called by a single-threaded process, with the address of this thread's cached id.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64"
))]
fn raw_clone(flags: c_ulong, pidfd: &mut c_int, thread_id: *mut c_void) -> c_long {
    let pidfd = ptr::from_mut(pidfd);
    let none = ptr::null_mut::<c_void>();
    // The kernel's order of the last two arguments is x86's own.
    let (fourth, fifth) = if cfg!(target_arch = "x86_64") {
        (thread_id, none)
    } else {
        (none, thread_id)
    };
    // SAFETY: without CLONE_VM the child has its own copy of all memory, this stack included, and a null stack keeps
    // the stack pointer: both returns find their frame. `pidfd` is a live int. `thread_id` is where the C library
    // caches this thread's id (the kernel told us), which the copy must have updated, as the C library's own fork does.
    unsafe { libc::syscall(libc::SYS_clone, flags, none, pidfd, fourth, fifth) }
}

#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64"
)))]
fn raw_clone(_: c_ulong, _: &mut c_int, _: *mut c_void) -> c_long {
    -1
}

/// The list of robust mutexes that the C library registered for this thread; the kernel forgets it in a new process.
struct RobustList {
    head: *mut c_void,
    size: usize,
}

impl RobustList {
    fn of_this_thread() -> Self {
        let mut list = Self {
            head: ptr::null_mut(),
            size: 0,
        };
        // SAFETY: the call stores one pointer and one size in the two locals it is given.
        unsafe {
            libc::syscall(
                libc::SYS_get_robust_list,
                0,
                &raw mut list.head,
                &raw mut list.size,
            )
        };
        list
    }

    /// Registers the list for the calling thread, which must be a copy of the thread it was read from.
    fn install(&self) {
        if !self.head.is_null() {
            // SAFETY: the head lies in this thread's own control block, which the copy has at the same address.
            unsafe { libc::syscall(libc::SYS_set_robust_list, self.head, self.size) };
        }
    }
}

/// How many threads this process has.
pub(crate) fn thread_count() -> io::Result<usize> {
    // The link count of a task directory is two plus its threads: one call, where reading `status` takes three.
    if let Ok(stat) = rustix::fs::stat(c"/proc/self/task")
        && let Ok(links) = usize::try_from(stat.st_nlink)
        && links > 2
    {
        return Ok(links - 2);
    }
    let threads =
        std::fs::read_dir("/proc/self/task").map_err(|error| failed("count our threads", error))?;
    Ok(threads.count())
}

fn refuse_threads() -> io::Result<()> {
    match thread_count()? {
        1 => Ok(()),
        count => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("fork a process that has {count} threads"),
        )),
    }
}

/// Whether the calling thread is the one that the process began with.
pub(crate) fn is_main_thread() -> bool {
    rustix::thread::gettid() == getpid()
}

/// Ends this process at once: no destructors, no exit handlers, nothing flushed.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pidfd::ExitStatus;

    /// Runs `f` in a forked child of this multi-threaded test process and waits for its exit code.
    fn in_child(f: impl FnOnce() -> i32) -> ExitStatus {
        // SAFETY: the children in these tests touch only their own data, and allocate (the C library's allocator
        // survives a fork).
        match unsafe { fork() }.expect("fork") {
            Fork::Child => exit_now(f()),
            Fork::Parent(child) => child.pidfd.wait_status().expect("wait"),
        }
    }

    /// Opens the sibling whose pid a template sent: our child, and reaped by nobody but us.
    fn receive_sibling(from: &impl std::os::fd::AsFd) -> Pidfd {
        let mut pid = [0; 4];
        assert_eq!(rustix::io::read(from, &mut pid), Ok(4));
        Pidfd::open(u32::from_ne_bytes(pid)).expect("our unreaped child")
    }

    #[test]
    fn forks_and_learns_the_exit_code() {
        assert_eq!(in_child(|| 42), ExitStatus::Exited(42));
    }

    #[test]
    fn counts_threads() {
        let many = thread_count().expect("count");
        assert!(many >= 2, "libtest runs tests on threads: {many}");
        assert_eq!(
            in_child(|| thread_count().map_or(99, |count| count as i32)),
            ExitStatus::Exited(1)
        );
        assert!(!is_main_thread());
        assert_eq!(
            in_child(|| i32::from(is_main_thread())),
            ExitStatus::Exited(1)
        );
    }

    #[test]
    fn refuses_to_fork_threads() {
        assert_eq!(
            fork_alone().map_err(|e| e.kind()).err(),
            Some(io::ErrorKind::ResourceBusy)
        );
        assert_eq!(
            clone_as_sibling().map_err(|e| e.kind()).err(),
            Some(io::ErrorKind::ResourceBusy)
        );
    }

    #[test]
    fn sibling_is_reaped_by_the_grandparent() {
        let (from, to) = io::pipe().expect("pipe");
        let template = in_child(|| {
            let parent = getppid();
            match clone_as_sibling() {
                Ok(Fork::Child) => {
                    // `raise` needs the cached thread id to be right: it would signal the template otherwise.
                    if getppid() == parent && thread_count().is_ok_and(|count| count == 1) {
                        // SAFETY: raising a signal has no preconditions.
                        unsafe { libc::raise(libc::SIGTERM) };
                    }
                    1
                }
                Ok(Fork::Parent(sibling)) => {
                    let mine = sibling.pidfd.is_our_child();
                    // Alive or dead, the pidfd works here too.
                    let ended = sibling.pidfd.wait(None).unwrap_or(false);
                    let sent = rustix::io::write(&to, &sibling.pid.to_ne_bytes());
                    if !mine && ended && sent == Ok(4) {
                        0
                    } else {
                        2
                    }
                }
                Err(_) => 3,
            }
        });
        assert_eq!(template, ExitStatus::Exited(0));
        let sibling = receive_sibling(&from);
        assert!(sibling.is_our_child());
        let killed = ExitStatus::Signaled {
            signal: libc::SIGTERM,
            core_dumped: false,
        };
        assert_eq!(sibling.wait_status().ok(), Some(killed));
    }

    #[test]
    fn forks_while_the_kernel_reaps() {
        let status = in_child(|| {
            // SAFETY: SIG_IGN is a valid handler.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            for _ in 0..20 {
                let Ok(Fork::Parent(child)) = fork_alone().inspect(|fork| {
                    if matches!(fork, Fork::Child) {
                        exit_now(5);
                    }
                }) else {
                    return 1;
                };
                match child.pidfd.wait_status() {
                    Ok(ExitStatus::Exited(5) | ExitStatus::Unknown) => {}
                    _ => return 2,
                }
            }
            0
        });
        assert_eq!(status, ExitStatus::Exited(0));
    }
}
