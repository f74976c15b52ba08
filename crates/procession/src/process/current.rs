//! Who this process is, and who its parent is.

use super::children::state;
use super::function::Person;
use crate::family::Owner;
use crate::heap::{Presence, heap, myself};
use crate::sys::fork::is_main_thread;
use crate::sys::parent::{OnDeath, on_parent_death};
use crate::sys::pidfd::Pidfd;
use crate::sys::signal;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a child knows about itself.
#[derive(Debug)]
pub(super) struct Me {
    pub(super) person: Person,
}

/// Says who this process is, from now on.
pub(super) fn set(person: Person) {
    state().me = Some(Arc::new(Me { person }));
}

/// A name for the next child: `Process-3`, or `Process-1:3` for the third child of `Process-1`.
pub(super) fn next_name() -> String {
    let mut state = state();
    state.started += 1;
    let number = state.started;
    let parent = state.me.as_ref().map(|me| me.person.name.as_str());
    match parent.filter(|name| name.starts_with(PREFIX)) {
        Some(parent) => format!("{parent}:{number}"),
        None => format!("{PREFIX}{number}"),
    }
}

const PREFIX: &str = "Process-";

/// The calling process.
///
/// # In Python
/// `procession.current_process`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentProcess {
    name: String,
    pid: u32,
    daemon: bool,
    is_child: bool,
}

impl CurrentProcess {
    /// The name it was given; `MainProcess` if it was not started by this crate.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it is ended when its parent ends.
    #[must_use]
    pub fn daemon(&self) -> bool {
        self.daemon
    }

    /// Whether it was started by this crate.
    #[must_use]
    pub fn is_child(&self) -> bool {
        self.is_child
    }
}

/// The calling process.
///
/// # Examples
/// ```
/// procession::init();
/// assert_eq!(procession::current().name(), "MainProcess");
/// assert!(!procession::current().is_child());
/// ```
#[must_use]
pub fn current() -> CurrentProcess {
    let me = state().me.clone();
    let person = me.as_ref().map(|me| &me.person);
    CurrentProcess {
        name: person
            .map_or("MainProcess", |person| &person.name)
            .to_owned(),
        pid: std::process::id(),
        daemon: person.is_some_and(|person| person.daemon),
        is_child: person.is_some(),
    }
}

/// The process that started this one.
///
/// # In Python
/// `procession.parent_process`
#[derive(Debug)]
pub struct ParentProcess {
    pid: u32,
    /// `None`: it has ended already.
    pidfd: Option<Pidfd>,
}

impl ParentProcess {
    /// Its pid. Once it has ended the number may mean another process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.pidfd.as_ref().is_some_and(|pidfd| !pidfd.has_ended())
    }

    /// Waits until it has ended, at most `timeout` (`None`: for ever). `false`: it still runs.
    ///
    /// # Blocking
    /// Until it has ended or the time is up.
    ///
    /// # Errors
    /// The system's refusal to wait.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        // A timeout beyond the clock's range is no timeout.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.pidfd
            .as_ref()
            .map_or(Ok(true), |pidfd| pidfd.wait(deadline))
    }
}

/// The process that started this one; `None` if this process was not started by this crate.
///
/// # Examples
/// ```
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     assert!(procession::parent_process().is_none());
///     let process = procession::Process::start(|()| procession::parent_process().map(|p| p.pid()), ())?;
///     assert_eq!(process.join()?, Some(std::process::id()));
///     Ok(())
/// }
/// ```
#[must_use]
pub fn parent_process() -> Option<ParentProcess> {
    let me = state().me.clone()?;
    let pid = me.person.parent_pid;
    Some(ParentProcess {
        pid,
        pidfd: me.person.parent_owner().and_then(|owner| open(pid, owner)),
    })
}

/// The parent, if it has not ended. Asking the family after the pid was opened proves that the pid was not reused before.
fn open(pid: u32, owner: Owner) -> Option<Pidfd> {
    let pidfd = Pidfd::open(pid).ok()?;
    let participant = &heap()?.participants()[owner.slot()];
    let there = participant.presence() == (Presence::Live, owner.generation());
    (there && !heap()?.is_gone(owner)).then_some(pidfd)
}

/// A process with which another one dies, as that one must know it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ParentRef {
    pid: u32,
    owner: u32,
    /// Its main thread starts the child, so the kernel can tell the child of its death.
    by_main_thread: bool,
}

impl ParentRef {
    /// The calling process, about to start a child in this thread.
    pub(crate) fn here() -> Option<Self> {
        Some(Self {
            pid: std::process::id(),
            owner: myself()?.to_word(),
            by_main_thread: is_main_thread(),
        })
    }

    /// Has the calling process killed when this one has died; at once if it has.
    pub(crate) fn die_with(self) -> io::Result<()> {
        let owner = Owner::from_word(self.owner);
        match owner.and_then(|owner| open(self.pid, owner)) {
            Some(parent) => {
                on_parent_death(parent, self.by_main_thread, OnDeath::Signal(signal::KILL))
            }
            None => signal::send(std::process::id(), signal::KILL),
        }
    }
}

/// Has this daemonic process killed when its parent has died.
pub(super) fn die_with_parent(person: &Person) -> io::Result<()> {
    let parent = ParentRef {
        pid: person.parent_pid,
        owner: person.parent,
        by_main_thread: person.by_main_thread,
    };
    parent.die_with()
}
