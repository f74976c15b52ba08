//! Fd: file descriptors inside messages.
//!
//! Shared memory cannot carry a descriptor. The sender keeps a duplicate and puts an object into the message that says whose and
//! which number; the receiver copies it with `pidfd_getfd`. The object lives as long as the message, or a receiver that is just reading it, does:
//!
//! ```text
//! sender:    duplicate -> table; object {owner, number}; message holds the object
//! receiver:  hold the object; copy the descriptor; let go            message freed -> object gone
//! sender:    whenever it patrols, packs or unpacks one: duplicates whose object is gone are closed
//! ```
//!
//! So a message that is never received, whose receiver dies, or that is received twice ("redelivery") leaks nothing, and a number is never reused while a receiver may
//! ask for it: the object is held meanwhile.
//!
//! The table's lock is held over every fork: a child that found it locked by a thread that it lacks would stop in its first wait.

use super::{explain, pack_hold};
use crate::atomic::{AtomicU32, Ordering};
use crate::family::{Owner, mind_forks, on_patrol};
use crate::heap::{Death, Handle, HeapError, Object, Shared, me, the_heap};
use crate::kinds::Kind;
use crate::sys::atfork::Handlers;
use crate::sys::doorbell::fetch;
use rustix::io::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A descriptor on its way, as it lies in the heap.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedFd {
    /// Whose it is.
    owner: AtomicU32,
    /// Its number there.
    number: AtomicU32,
}

impl Object for SharedFd {
    const KIND: Kind = Kind::Fd;

    fn reap(&self, _death: Death) {}
}

/// A duplicate kept for a receiver.
struct Lent {
    owner: Owner,
    object: Handle,
    /// Open as long as it is in the table.
    _fd: OwnedFd,
}

static LENT: Mutex<Vec<Lent>> = Mutex::new(Vec::new());

fn lent() -> MutexGuard<'static, Vec<Lent>> {
    LENT.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static HELD: RefCell<Option<MutexGuard<'static, Vec<Lent>>>> = const { RefCell::new(None) };
}

extern "C" fn before_fork() {
    if HELD.with_borrow(Option::is_none) {
        HELD.set(Some(lent()));
    }
}

extern "C" fn after_fork() {
    HELD.take();
}

/// Has duplicates closed in time, and the table whole in every forked child; from the first one on.
fn watch_over() {
    static HANDLERS: Handlers = Handlers::new(before_fork, after_fork, after_fork);
    mind_forks(&HANDLERS);
    on_patrol(Fd::release_sent_if_any);
}

/// A file descriptor that can travel inside messages: a socket, a file, a pipe, anything open.
///
/// The receiver gets a descriptor of its own for the same open file; the sender's own one is untouched. Put it wherever serde
/// goes: in a struct, a tuple, a `Vec`.
///
/// The sender must be alive when the message is *received*, and the receiver must be allowed to look into it: the same user, and where
/// `kernel.yama.ptrace_scope` is 1 (Ubuntu, Debian and others) also one of its ancestors, or `CAP_SYS_PTRACE`. From parent to child under scope 1
/// rather let the child inherit the descriptor, or have the sender call `prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY)`.
///
/// Until the message is gone the sender holds a duplicate, which it closes the next time it waits for a while, sends or receives a descriptor, or
/// calls [`Fd::release_sent`]. A peer that waits for end of file on the other side of a socket sees it only then.
///
/// # Crash safety
/// A sender that dies takes its duplicate along: the receiver's `get` says so ([`DecodeError`](crate::DecodeError)). A message that is never received, and a receiver that
/// dies, leak nothing.
///
/// # Examples
/// ```
/// use procession::{Fd, Queue};
/// use std::io::{Read, Write};
///
/// let (mut reading, writing) = std::io::pipe()?;
/// let queue = Queue::<(String, Fd)>::unbounded()?;
/// queue.put(("log".to_owned(), Fd::from(std::os::fd::OwnedFd::from(writing))))?;
///
/// let (_name, fd) = queue.get()?;
/// let mut file = std::fs::File::from(fd.into_inner());
/// file.write_all(b"hello")?;
/// drop(file);
/// Fd::release_sent();
/// let mut text = String::new();
/// reading.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Fd(OwnedFd);

impl Fd {
    /// The descriptor itself.
    #[must_use]
    pub fn into_inner(self) -> OwnedFd {
        self.0
    }

    /// Closes this process's duplicates of descriptors that were received, or whose message is gone. Happens by itself when the process
    /// waits.
    pub fn release_sent() {
        // In a forked child: copies of the parent's duplicates.
        lent().retain(|entry| entry.owner == me());
        let objects: Vec<_> = lent().iter().map(|entry| entry.object).collect();
        // Without the lock: letting the object go may free it.
        let is_gone = |object: &Handle| Shared::<SharedFd>::open(*object).is_err();
        let gone: Vec<_> = objects.into_iter().filter(is_gone).collect();
        lent().retain(|entry| !gone.contains(&entry.object));
    }
}

impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Fd> for OwnedFd {
    fn from(fd: Fd) -> Self {
        fd.0
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl IntoRawFd for Fd {
    fn into_raw_fd(self) -> RawFd {
        self.0.into_raw_fd()
    }
}

impl Serialize for Fd {
    /// Inside a message only.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        Self::release_sent_if_any();
        let copy = rustix::io::fcntl_dupfd_cloexec(&self.0, 0).map_err(|errno| {
            S::Error::custom(explain(format_args!(
                "cannot duplicate file descriptor {}: {errno}",
                self.as_raw_fd()
            )))
        })?;
        let object = Shared::create(|object: &SharedFd, _| {
            object.owner.store(me().to_word(), Ordering::Relaxed);
            object
                .number
                .store(copy.as_raw_fd().cast_unsigned(), Ordering::Relaxed);
        })
        .map_err(|error| S::Error::custom(explain(error)))?;
        let handle = object.handle();
        if !pack_hold(|| object.hold()) {
            return Err(S::Error::custom(
                "a file descriptor can only be serialised inside a message of procession (a queue, a pipe, a process argument)",
            ));
        }
        watch_over();
        lent().push(Lent {
            owner: me(),
            object: handle,
            _fd: copy,
        });
        handle.to_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let bytes = <[u8; 16]>::deserialize(deserializer)?;
        let object = Shared::<SharedFd>::open(Handle::from_bytes(bytes))
            .map_err(|error| D::Error::custom(explain(error)))?;
        receive(&object)
            .map(Self)
            .map_err(|error| D::Error::custom(explain(error)))
    }
}

impl Fd {
    fn release_sent_if_any() {
        // Where it is locked another thread is at it, or this one is about to fork: a patrol waits for neither.
        if LENT.try_lock().is_ok_and(|lent| !lent.is_empty()) {
            Self::release_sent();
        }
    }
}

/// Copies the descriptor that the object names into this process.
fn receive(object: &SharedFd) -> Result<OwnedFd, String> {
    let owner = Owner::from_word(object.owner.load(Ordering::SeqCst))
        .ok_or_else(|| HeapError::Corrupt("a descriptor has no owner").to_string())?;
    let heap = the_heap();
    let identity = heap.participants()[owner.slot()].identity();
    let gone = |pid: u32| {
        format!(
            "process {pid} that sent the file descriptor has ended, and the descriptor with it; the sender must live until it is received"
        )
    };
    let Some(identity) = identity.filter(|_| !heap.is_gone(owner)) else {
        return Err(gone(identity.map_or(0, |identity| identity.pid)));
    };
    let number = object.number.load(Ordering::SeqCst).cast_signed();
    let fetched = fetch(identity.pid, number);
    // The pid was its own until after we looked through it.
    if heap.is_gone(owner) {
        return Err(gone(identity.pid));
    }
    let pid = identity.pid;
    fetched.map_err(|errno| match errno {
        Errno::PERM | Errno::ACCESS => format!(
            "not permitted to copy file descriptor {number} of process {pid}: needs the same user, and with kernel.yama.ptrace_scope=1 \
             an ancestor of it or CAP_SYS_PTRACE (or PR_SET_PTRACER there)"
        ),
        Errno::BADF => format!("process {pid} has closed file descriptor {number} that it sent (it started another program?)"),
        Errno::MFILE | Errno::NFILE => format!("no file descriptor is free for the one that process {pid} sent: {errno}"),
        errno => format!("cannot copy file descriptor {number} of process {pid}: {errno}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::atfork::child_comes_through;

    #[test]
    fn a_child_does_not_wait_for_a_thread_it_left_behind() {
        watch_over();
        assert!(child_comes_through(lent, || drop(lent())));
    }
}
