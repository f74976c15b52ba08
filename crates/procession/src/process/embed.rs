//! For those who run the engine inside another language's runtime, whose children that runtime starts.
//!
//! Rust programs need none of this: [`Process`](crate::Process) does it all. A runtime that executes its own interpreter and forks with its own hooks (the Python package)
//! does the starting itself and asks the engine for what it cannot do: a place in the family, and joining it.
//!
//! ```text
//! parent   Place::reserve -> execute the program with `invitation` among its arguments and `fd` kept open -> taken_by(pid)
//! child    join_family(invitation)
//! ```
//!
//! A child that is forked needs nothing: the engine notices the fork. Its parent says which process it is ([`forked_as`]).
//!
//! Waits that such a runtime must interrupt for its signals: [`interruptible`], [`ConditionWait`], [`BarrierArrival`].

use crate::sync::{Barrier, NewBarrierError};
pub use crate::sync::{BarrierArrival, ConditionWait};

use crate::family::{
    Invitation, Owner, Role, attach, fork_with_hooks, join, leave, patrol, reap_dead, reap_process,
    reserve_place,
};
use crate::heap::{Handle, Heap, HeapError, me, the_heap};
use crate::sys::fork::Fork;
use crate::sys::parent::{OnDeath, on_parent_death};
use crate::sys::pidfd::Pidfd;
use crate::sys::{env, futex, signal};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A place in the family, for a process that is about to be executed.
///
/// Dropped without [`taken_by`](Self::taken_by), by the process that reserved it, it is given up.
///
/// # Crash safety
/// If this process dies before the child has joined, the place is freed by the family; a child that comes too late is refused.
#[derive(Debug)]
pub struct Place {
    heap: &'static Heap,
    owner: Owner,
    /// Who reserved it. A forked child's copy is nobody's.
    creator: Owner,
    taken: bool,
}

impl Place {
    /// Reserves a place; founds the family if there is none.
    ///
    /// # Errors
    /// The heap cannot be made, or all places are taken.
    pub fn reserve() -> Result<Self, HeapError> {
        let heap = join()?;
        let creator = me();
        let owner = reserve_place(heap, creator)?;
        Ok(Self {
            heap,
            owner,
            creator,
            taken: false,
        })
    }

    /// The descriptor that the child must inherit, under this very number.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.heap.fd().as_raw_fd()
    }

    /// What the child gives to [`join_family`].
    #[must_use]
    pub fn invitation(&self) -> String {
        let invitation = Invitation {
            heap: self.fd(),
            owner: self.owner,
            role: Role::Guest,
        };
        invitation.text()
    }

    /// Has the child hold an object from now on: it can open it even if everybody else has let go.
    pub fn hold(&self, handle: Handle) {
        self.heap.hold_for(self.owner.slot(), handle.index());
    }

    /// Which participant the child will be.
    #[cfg(test)]
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// The child was started, and has this pid.
    pub fn taken_by(mut self, pid: u32) {
        self.taken = true;
        self.heap.note_pid(self.owner, pid);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.taken && self.creator == me() {
            self.heap.note_death(self.owner);
            reap_dead(self.heap);
        }
    }
}

/// Makes this process the participant that it was invited as.
///
/// # Crash safety
/// If this process dies before it has joined, the place is given back like that of any participant that died: whoever invited it has said who it is
/// ([`Place::taken_by`]), or is dead, too.
///
/// # Errors
/// The text is no invitation, the descriptor was not passed on, or the place was given up meanwhile; [`io::ErrorKind::AlreadyExists`]: this process has a family.
pub fn join_family(invitation: &str) -> io::Result<()> {
    let invalid = || {
        let text = format!("`{invitation}` is no invitation into a family");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    let invitation = Invitation::parse(invitation)
        .filter(|invitation| invitation.role == Role::Guest)
        .ok_or_else(invalid)?;
    if crate::heap::heap().is_some() {
        let text = "this process has a family already";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    attach(env::inherited(invitation.heap)?, invitation.owner).map_err(io::Error::other)?;
    Ok(())
}

/// Says that this process ends in order, so that its death breaks no barrier that it has not arrived at. For ends that skip `exit` (`_exit`).
pub fn leave_family() {
    leave();
}

/// This process as a participant of its family: a number that no other process of the family ever has. Joins or founds the family if need be.
///
/// # Errors
/// The heap cannot be made.
///
/// # Examples
/// ```
/// use procession::embed;
///
/// let me = embed::participant()?;
/// assert!(embed::is_there(me));
/// # Ok::<(), procession::HeapError>(())
/// ```
pub fn participant() -> Result<u32, HeapError> {
    join()?;
    Ok(me().to_word())
}

/// Whether a participant of this process's family has not ended yet. Asks the system.
#[must_use]
pub fn is_there(participant: u32) -> bool {
    crate::heap::heap().is_some()
        && Owner::from_word(participant).is_some_and(|owner| !the_heap().is_gone(owner))
}

/// Forks this single-threaded process; the child is a child of *our parent*, which can wait for it and is told how it ended.
///
/// `None`: in the child. The C library's fork handlers do not run, the engine's do.
///
/// # Crash safety
/// If this process dies before the fork, the place that it had reserved for the child is free again; after it, the child is a participant of its own and goes on.
///
/// # Errors
/// Other threads exist ([`io::ErrorKind::ResourceBusy`]); the kernel's refusal.
pub fn fork_sibling() -> io::Result<Option<u32>> {
    match fork_with_hooks()? {
        Fork::Child => Ok(None),
        Fork::Parent(child) => Ok(Some(child.pid)),
    }
}

/// Says that the child `pid` is what this thread has just forked, by whatever means that run the C library's fork handlers. Nothing happens if it forked nothing.
///
/// Children whose parents say nothing are participants, too; the name is for those that are killed before they have come up: what such a child held (all that its
/// parent held at the fork) is given back as soon as anybody looks. Of a child without a name the family has to find out that it is none of its parent's children, which
/// takes up to two seconds longer.
///
/// # Crash safety
/// If this process dies before, the child goes on.
///
/// # Examples
/// ```
/// use procession::embed;
///
/// // As after `fork` returned this pid, which it did not here.
/// embed::forked_as(4711);
/// ```
pub fn forked_as(pid: u32) {
    crate::family::forked_as(pid);
}

/// Has this process killed when the process `parent` has ended; at once, if it has. It dies as any participant that is killed.
///
/// `started_by_main_thread`: the parent's main thread started us; if in doubt, `false`.
///
/// # Errors
/// The system's refusal.
pub fn die_with(parent: u32, started_by_main_thread: bool) -> io::Result<()> {
    match Pidfd::open(parent) {
        Ok(pidfd) => on_parent_death(pidfd, started_by_main_thread, OnDeath::Signal(signal::KILL)),
        Err(_) => signal::send(std::process::id(), signal::KILL),
    }
}

/// Runs `wait`, in which a signal that this thread handles ends each sleep as if its time had run out. Only in waits with a timeout or deadline: others go on.
///
/// So a runtime can look after its signals and wait again. Without it, all waits go on after a signal. A signal that came before the sleep does not end it: let the deadline
/// be near enough for that.
///
/// # Examples
/// ```
/// use procession::{Queue, GetError, embed};
/// use std::time::{Duration, Instant};
///
/// let queue = Queue::<u32>::unbounded()?;
/// let soon = Instant::now() + Duration::from_millis(5);
/// let got = embed::interruptible(|| queue.get_deadline(soon));
/// assert_eq!(got, Err(GetError::TimedOut));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn interruptible<R>(wait: impl FnOnce() -> R) -> R {
    let before = futex::set_interruptible(true);
    let result = wait();
    futex::set_interruptible(before);
    result
}

/// A duplicate of the descriptor with this number, closed on exec, for runtimes that know descriptors as numbers. It is this process's own: nobody else has to do with it.
///
/// # Errors
/// There is none, or none is free.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use std::os::fd::AsRawFd;
///
/// let (mut reading, writing) = std::io::pipe()?;
/// let copy = procession::embed::duplicate(writing.as_raw_fd())?;
/// drop(writing);
/// std::fs::File::from(copy).write_all(b"on")?;
/// let mut text = String::new();
/// reading.read_to_string(&mut text)?;
/// assert_eq!(text, "on");
/// assert!(procession::embed::duplicate(-1).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    env::duplicate(fd)
}

/// Says that the child with this pid has ended, and is about to be reaped in the system: what it held is given back, and who waits for it told, before anybody goes on.
/// Nothing happens if it lives, or is none of the family.
///
/// # Crash safety
/// If this process dies meanwhile, the next one that looks for the dead begins anew.
pub fn bury(pid: u32) {
    reap_process(pid);
}

/// Looks for the dead, unless somebody of the family did so a moment ago, and gives back what they held. For those who poll: waits do it by themselves.
///
/// # Crash safety
/// As [`bury`].
pub fn look_around() {
    patrol();
}

/// A barrier of which a process is a party only after it has arrived, or called [`take_part`]: for runtimes whose forked children inherit handles that they do not want. One that holds
/// it, is no party and dies, does not break it.
///
/// # Crash safety
/// A party that ends, other than in order, breaks it, as any [`Barrier`].
///
/// # Errors
/// As [`Barrier::new`].
///
/// # Examples
/// ```
/// use procession::embed::{selective_barrier, take_part};
///
/// let barrier = selective_barrier(1)?;
/// take_part(&barrier);
/// assert!(barrier.wait()?.is_leader());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn selective_barrier(parties: usize) -> Result<Barrier, NewBarrierError> {
    Barrier::selective(parties)
}

/// This process is a party of the barrier from now on: its death breaks it, even if it has not arrived yet.
pub fn take_part(barrier: &Barrier) {
    barrier.take_part();
}

/// From now on the descriptors of [`Readiness`](crate::Readiness) in this process, and in those forked from it, say that there *is* something, not that somebody should look: they
/// never become readable by themselves. For runtimes whose programs take a readable descriptor at its word and then wait without a limit.
///
/// Instead of the descriptors a thread of the process looks for peers that were killed. It exists while there are descriptors. A descriptor still stays readable, until it is
/// armed again, when another process has taken what there was, or when whoever rang was stopped in the middle of it.
///
/// # Crash safety
/// Who is killed between putting something and ringing is found by that thread, which rings in its stead; so does the next one that puts something.
pub fn exact_readiness() {
    crate::channel::make_exact();
}
