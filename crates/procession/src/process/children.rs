//! All children of this process that nobody has seen the end of, and what becomes of them when this process ends.
//!
//! One lock guards the list and who we are. It is held over every fork, from its first use on, so the child finds it whole; the child
//! starts with no children.

use super::current::Me;
use super::panic;
use super::process::Core;
use super::start::forkserver::Template;
use crate::family;
use crate::heap::myself;
use crate::sys::atfork::{self, Handlers};
use crate::sys::pidfd::{ExitStatus, ProcessUsage};
use crate::sys::signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long daemonic children have to end after SIGTERM when their parent exits; then they are killed.
const GRACE: Duration = Duration::from_secs(2);

/// What this process knows about itself and its children.
#[derive(Default)]
pub(super) struct State {
    pub(super) children: Vec<Arc<Core>>,
    /// The forkserver, once one was needed.
    pub(super) template: Option<Arc<Mutex<Option<Template>>>>,
    pub(super) me: Option<Arc<Me>>,
    /// Processes started so far, for their names.
    pub(super) started: u32,
}

static STATE: Mutex<State> = Mutex::new(State {
    children: Vec::new(),
    template: None,
    me: None,
    started: 0,
});

static HANDLERS: Handlers = Handlers::new(before_fork, after_fork, in_child);

/// From here on no fork finds the list locked, or the panic hook on its way.
pub(super) fn mind_forks() {
    family::mind_forks(&HANDLERS);
}

pub(super) fn state() -> MutexGuard<'static, State> {
    mind_forks();
    lock()
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static HELD: RefCell<Option<MutexGuard<'static, State>>> = const { RefCell::new(None) };
}

extern "C" fn before_fork() {
    if HELD.with_borrow(Option::is_none) {
        panic::expect();
        HELD.set(Some(lock()));
    }
}

extern "C" fn after_fork() {
    HELD.take();
}

extern "C" fn in_child() {
    let Some(mut state) = HELD.take() else { return };
    let theirs = (std::mem::take(&mut state.children), state.template.take());
    state.started = 0;
    if myself().is_some() {
        drop(theirs);
    } else {
        // No participant: it must not touch the records that the copies name.
        std::mem::forget(theirs);
    }
}

/// Has the end of this process handled; from the first start on.
pub(super) fn watch_over() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.load(Ordering::Acquire) {
        // By two threads that come at once: twice, which does no harm.
        atfork::on_exit(at_exit);
        DONE.store(true, Ordering::Release);
    }
}

/// Puts a child on the list, and takes those off that have ended.
pub(super) fn add(core: &Arc<Core>) {
    let ended = {
        let mut state = state();
        let ended = ended(&state.children);
        state.children.push(Arc::clone(core));
        ended
    };
    for core in &ended {
        core.settle();
    }
}

/// Takes a child off the list.
pub(super) fn remove(core: &Core) {
    let mut state = state();
    let at = state
        .children
        .iter()
        .position(|child| std::ptr::eq(&**child, core));
    let removed = at.map(|at| state.children.swap_remove(at));
    drop(state);
    drop(removed);
}

/// Those of the children that have ended, asked in one system call.
fn ended(children: &[Arc<Core>]) -> Vec<Arc<Core>> {
    let mut fds: Vec<_> = children
        .iter()
        .map(|child| PollFd::from_borrowed_fd(child.sentinel(), PollFlags::IN))
        .collect();
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if fds.is_empty() || !poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0) {
        return Vec::new();
    }
    let ready = fds.iter().map(|fd| !fd.revents().is_empty());
    let both = children.iter().zip(ready);
    both.filter(|(_, ready)| *ready)
        .map(|(child, _)| Arc::clone(child))
        .collect()
}

/// A child of this process, whatever its function returns.
///
/// # Examples
/// ```
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let process = procession::Process::start(|()| (), ())?;
///     for child in procession::active_children() {
///         println!("{} has pid {}", child.name(), child.pid());
///     }
///     process.join()?;
///     assert!(procession::active_children().is_empty());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ActiveChild {
    core: Arc<Core>,
}

impl ActiveChild {
    /// The name of the process.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.core.pid
    }

    /// Whether it is ended when its parent ends.
    #[must_use]
    pub fn daemon(&self) -> bool {
        self.core.daemon
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.core.status().is_none()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.core.status()
    }

    /// What it used from its start to its end, if it has ended and nobody else reaped it.
    #[must_use]
    pub fn usage(&self) -> Option<ProcessUsage> {
        self.core.usage()
    }

    /// Asks it to end, with SIGTERM. Nothing happens if it has ended.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn terminate(&self) -> std::io::Result<()> {
        self.core.signal(signal::TERM)
    }

    /// Ends it, with SIGKILL. Nothing happens if it has ended.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn kill(&self) -> std::io::Result<()> {
        self.core.signal(signal::KILL)
    }
}

/// All children of this process that still run. Those that have ended are reaped.
///
/// # Examples
/// See [`ActiveChild`].
///
/// # In Python
/// `procession.active_children`
#[must_use]
pub fn active_children() -> Vec<ActiveChild> {
    let children = state().children.clone();
    let running = children
        .into_iter()
        .filter(|core| core.settle_if_ended().is_none());
    running.map(|core| ActiveChild { core }).collect()
}

extern "C" fn at_exit() {
    end_all();
}

/// The end of this process: daemonic children are ended, the others waited for.
pub(super) fn end_all() {
    if myself().is_none() {
        return;
    }
    let children = state().children.clone();
    let (daemons, others): (Vec<_>, Vec<_>) = children.into_iter().partition(|core| core.daemon);
    for daemon in &daemons {
        let _ = daemon.signal(signal::TERM);
    }
    let deadline = Instant::now() + GRACE;
    for daemon in &daemons {
        if !daemon.wait(Some(deadline)).unwrap_or(true) {
            let _ = daemon.signal(signal::KILL);
            let _ = daemon.wait(None);
        }
        daemon.settle();
    }
    for other in &others {
        let _ = other.wait(None);
        other.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::atfork::child_comes_through;

    #[test]
    fn a_child_does_not_wait_for_a_thread_it_left_behind() {
        assert!(child_comes_through(state, || drop(state())));
    }
}
