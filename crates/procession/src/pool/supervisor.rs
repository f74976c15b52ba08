//! The supervisor: the one thread of a pool of processes.
//!
//! It sleeps on the workers' pidfds, so a death is dealt with at once whoever else is doing what; it looks for tasks that have run too long; and while something is outstanding and
//! no thread of the user waits, it drives (`hub`). With nothing outstanding it sleeps without end.
//!
//! **Waking it.** Submitting costs no system call while it is awake: it says that it is about to sleep, looks once more, and only then sleeps; whoever submits
//! writes to its eventfd only if it says so. After work has come it stays awake for [`LINGER`], looking every few milliseconds, so a program that submits and waits in turn does not pay for a wake each time.

use super::employee::Employee;
use super::hub::Hub;
use crate::sys::clock::monotonic_ns;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks while something is outstanding.
const TICK: Duration = Duration::from_millis(2);
/// How long it stays awake after the last thing was outstanding.
const LINGER: Duration = Duration::from_millis(50);
/// Stack of the thread. Sinks run on it, and with them callbacks of the user.
const STACK: usize = 1 << 20;

/// What wakes the supervisor.
pub(super) struct Alarm {
    /// Gone when there is no supervisor any more.
    fd: Mutex<Option<Arc<OwnedFd>>>,
    asleep: AtomicBool,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            fd: Mutex::new(Some(Arc::new(fd))),
            asleep: AtomicBool::new(false),
        })
    }

    fn fd(&self) -> Option<Arc<OwnedFd>> {
        self.slot().clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is nobody to be woken any more.
    fn close(&self) {
        drop(self.slot().take());
    }

    /// Wakes it if it sleeps.
    #[inline]
    pub(super) fn wake_if_asleep(&self) {
        if self.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Makes it look at everything again.
    pub(super) fn wake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        if let Some(fd) = self.fd() {
            // Full: it will wake anyway.
            let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
        }
    }
}

/// Starts the supervisor of a pool.
pub(super) fn start(hub: &Arc<Hub>) -> io::Result<JoinHandle<()>> {
    let hub = Arc::clone(hub);
    let blocked = crate::sys::signal::Blocked::all();
    let thread = std::thread::Builder::new()
        .name("pool-supervisor".to_owned())
        .stack_size(STACK)
        .spawn(move || supervise(&hub));
    drop(blocked);
    thread
}

fn supervise(hub: &Hub) {
    if let Some(alarm) = hub.alarm.fd() {
        supervise_until_over(hub, &alarm);
    }
    hub.alarm.close();
}

fn supervise_until_over(hub: &Hub, alarm: &OwnedFd) {
    let mut busy = Instant::now();
    let mut idle_drivers = false;
    while !hub.is_over() {
        let outstanding = hub.outstanding() > 0;
        if outstanding {
            busy = Instant::now();
            hub.expire(monotonic_ns());
        }
        let alone = outstanding && hub.drivers() == 0;
        // Twice in a row: a thread that waits for one result after the other is not in each other's way.
        if alone && idle_drivers {
            let deadline = Instant::now() + TICK;
            let enough = || hub.drivers() > 0 || hub.outstanding() == 0 || hub.is_over();
            hub.wait_driving(&enough, Some(deadline));
        }
        idle_drivers = alone;
        let timeout = match (alone, outstanding || busy.elapsed() < LINGER) {
            (true, _) if idle_drivers => Some(Duration::ZERO),
            (_, true) => Some(TICK),
            (_, false) => None,
        };
        if sleep(hub, alarm, timeout) || hub.is_short() {
            hub.look_after();
            if hub.has_finished() {
                return;
            }
        }
    }
}

/// Sleeps until a worker ends, something new comes, or the time is over. Whether to look after the workers.
fn sleep(hub: &Hub, alarm: &OwnedFd, timeout: Option<Duration>) -> bool {
    let processes: Vec<Arc<Employee>> = {
        let state = hub.state();
        state
            .workers
            .iter()
            .map(|worker| Arc::clone(&worker.process))
            .collect()
    };
    if timeout.is_none() {
        hub.alarm.asleep.store(true, Ordering::SeqCst);
        if hub.outstanding() > 0 || hub.is_over() {
            hub.alarm.asleep.store(false, Ordering::SeqCst);
            return false;
        }
    }
    let mut fds = vec![PollFd::new(alarm, PollFlags::IN)];
    let sentinels = processes
        .iter()
        .map(|process| PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN));
    fds.extend(sentinels);
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    // Interrupted or refused: look around, and again.
    let _ = poll(&mut fds, timeout.as_ref());
    hub.alarm.asleep.store(false, Ordering::SeqCst);
    if !fds[0].revents().is_empty() {
        let _ = rustix::io::read(alarm, &mut [0; 8]);
    }
    fds.iter().any(|fd| !fd.revents().is_empty())
}
