//! Readiness: a file descriptor that says when a channel has something.

use super::connection::SharedPipe;
use super::core::Channel;
use super::listeners::Seat;
use super::queue::SharedQueue;
use crate::atomic::{AtomicU32, Ordering};
use crate::family::{Owner, mind_forks, patrol};
use crate::heap::{Container, HeapError, Shared, me, myself};
use crate::sys::atfork::Handlers;
use crate::sys::doorbell::Alarm;
use crate::sys::signal::Blocked;
use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// A process rings itself this often, however many it has, to look for dead peers.
const LOOK_AROUND: Duration = Duration::from_millis(200);

/// How many there are in this process.
static ALIVE: AtomicU32 = AtomicU32::new(0);

/// Descriptors never become readable by themselves: a thread looks around instead.
static EXACT: AtomicBool = AtomicBool::new(false);
/// The participant whose thread looks around. That of the process that we were forked from is none of ours.
static LOOKOUT: AtomicU32 = AtomicU32::new(0);

/// Read by whoever arms a descriptor, written by whoever forks: a child arms those of its parent anew, and finds none of them locked.
static ARMING: RwLock<()> = RwLock::new(());

static HANDLERS: Handlers = Handlers::new(before_fork, after_fork, after_fork);

thread_local! {
    static HELD: RefCell<Option<RwLockWriteGuard<'static, ()>>> = const { RefCell::new(None) };
}

fn keep_from_forking() -> RwLockReadGuard<'static, ()> {
    mind_forks(&HANDLERS);
    ARMING.read().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn before_fork() {
    if HELD.with_borrow(Option::is_none) {
        HELD.set(Some(ARMING.write().unwrap_or_else(PoisonError::into_inner)));
    }
}

extern "C" fn after_fork() {
    HELD.take();
}

/// From now on descriptors say that there *is* something: for programs that take a readable descriptor at its word. Dead peers are looked for by a thread of this process,
/// which exists while there are descriptors.
pub(crate) fn make_exact() {
    EXACT.store(true, Ordering::Relaxed);
}

/// Starts the thread, unless it runs.
fn look_around_by_thread() {
    let me = me().to_word();
    if LOOKOUT.swap(me, Ordering::SeqCst) == me {
        return;
    }
    // Signals are for the program's threads.
    let blocked = Blocked::all();
    let thread = std::thread::Builder::new()
        .name("procession-look".to_owned())
        .spawn(look_around);
    drop(blocked);
    if thread.is_err() {
        // The next descriptor tries again; until then, whoever waits in the engine looks around.
        LOOKOUT.store(0, Ordering::SeqCst);
    }
}

fn look_around() {
    loop {
        std::thread::sleep(LOOK_AROUND);
        let Some(me) = myself().map(Owner::to_word) else {
            return;
        };
        patrol();
        if ALIVE.load(Ordering::SeqCst) != 0 {
            continue;
        }
        LOOKOUT.store(0, Ordering::SeqCst);
        // Made meanwhile: ours to look after, unless its maker started another thread.
        if ALIVE.load(Ordering::SeqCst) == 0 || LOOKOUT.swap(me, Ordering::SeqCst) == me {
            return;
        }
    }
}

/// The channel it is about, kept alive.
#[derive(Debug)]
pub(crate) enum Watched {
    Queue(Shared<SharedQueue>),
    /// The pipe and the lane to be read.
    Pipe(Shared<SharedPipe>, usize),
}

impl Watched {
    pub(crate) fn channel(&self) -> (&Channel, Container) {
        match self {
            Self::Queue(queue) => (&queue.channel, queue.container()),
            Self::Pipe(pipe, lane) => (&pipe.lanes[*lane], pipe.container()),
        }
    }
}

/// A file descriptor that is readable when a queue or connection may have something, for poll, epoll, tokio and their like.
///
/// Never read from it and never write to it: wait until it is readable, take what the queue has, and *arm* it when the queue is empty.
///
/// ```text
/// loop {
///     try_get   got one: deal with it, again
///     Empty:    if arm() says that something came meanwhile, again
///               wait until the descriptor is readable, again
/// }
/// ```
///
/// It is level-triggered: once readable it stays so until [`arm`](Readiness::arm) finds the channel empty. Between two calls of `arm` whoever puts rings at most once,
/// so a busy receiver costs senders no system call. Readable says "look", not "there is": another consumer may have been quicker, and while it is idle it becomes
/// readable by itself a few times a second, so that peers that were killed are noticed and their connections come to an end.
///
/// Made on demand: until then channels have no descriptors. It takes three (close-on-exec), belongs to the process that made it, and keeps a queue alive, but not
/// the other side of a pipe waiting: dropping the [`Connection`](crate::Connection) itself is what closes that end. In a forked child the first `arm` replaces what
/// lies behind the descriptor's number by the child's own; register it with the child's own epoll after that.
///
/// # Crash safety
/// Whoever puts and is killed between any two instructions leaves an item that the next ring, or the look-around, makes known. If this process is
/// killed, the next one that looks for the dead takes its place in the channel back.
///
/// # Examples
/// ```
/// use procession::{GetError, Queue};
///
/// let queue = Queue::<u32>::unbounded()?;
/// let readiness = queue.readiness()?;
/// # let sender = queue.clone();
/// let child = std::thread::spawn(move || sender.put(7).unwrap());
/// let item = loop {
///     match queue.try_get() {
///         Err(GetError::Empty) => {
///             if !readiness.arm()? {
///                 rustix::event::poll(&mut [rustix::event::PollFd::new(&readiness, rustix::event::PollFlags::IN)], None)?;
///             }
///         }
///         other => break other?,
///     }
/// };
/// assert_eq!(item, 7);
/// # child.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// With tokio, put it into an `AsyncFd`:
/// ```
/// use procession::{GetError, Queue, Readiness};
/// use tokio::io::{Interest, unix::AsyncFd};
///
/// async fn get(queue: &Queue<u32>, ready: &AsyncFd<Readiness>) -> Result<u32, Box<dyn std::error::Error>> {
///     loop {
///         match queue.try_get() {
///             Err(GetError::Empty) => {
///                 if !ready.get_ref().arm()? {
///                     ready.readable().await?.clear_ready();
///                 }
///             }
///             other => return Ok(other?),
///         }
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
/// let queue = Queue::unbounded()?;
/// // SAFETY: a Readiness keeps its descriptor, and the same one, for as long as it lives.
/// let ready = unsafe { AsyncFd::register_with_interest(queue.readiness()?, Interest::READABLE)? };
/// queue.put(7)?;
/// assert_eq!(get(&queue, &ready).await?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Readiness {
    seat: Mutex<Option<Seat>>,
    alarm: Alarm,
    watched: Watched,
}

impl Readiness {
    pub(super) fn new(watched: Watched) -> Result<Self, HeapError> {
        // Counted first: the thread that looks around ends when there are none.
        ALIVE.fetch_add(1, Ordering::SeqCst);
        let alarm = alarm().inspect_err(|_| {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        })?;
        let this = Self {
            seat: Mutex::new(None),
            alarm,
            watched,
        };
        let (channel, container) = this.watched.channel();
        let seat = channel.listeners().claim(container, this.alarm.name())?;
        *this.seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(seat);
        this.arm()?;
        Ok(this)
    }

    /// Makes the descriptor unreadable until something comes. `true`: there is something already (or the channel has come to its end); then it
    /// stays readable. Call it when the channel was found empty, before waiting.
    ///
    /// # Errors
    /// In a forked child, the first time: as [`Queue::readiness`](crate::Queue::readiness). Else never.
    pub fn arm(&self) -> Result<bool, HeapError> {
        if self.quiet()? {
            // Not inside: it takes locks that a fork may hold while it waits for us.
            patrol();
        }
        let _no_fork = keep_from_forking();
        let seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seat) = seat.as_ref() else {
            return Err(HeapError::Corrupt("a listener has no cell"));
        };
        let (channel, _) = self.watched.channel();
        channel.listeners().arm(seat);
        let ready = channel.is_ready();
        if ready {
            channel.listeners().ring_self(seat);
        }
        Ok(ready)
    }

    /// Forgets all rings so far; whether it had rung by itself.
    fn quiet(&self) -> Result<bool, HeapError> {
        let (channel, container) = self.watched.channel();
        let _no_fork = keep_from_forking();
        let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        if !seat.as_ref().is_some_and(Seat::is_mine) {
            // The parent's: not to be drained, not to be given back.
            *seat = None;
            let name = alarm().and_then(|fresh| {
                (self.alarm.renew(fresh)).map_err(|errno| HeapError::system(MAKING, errno))
            })?;
            *seat = Some(channel.listeners().claim(container, name)?);
        }
        if let Some(seat) = seat.as_ref() {
            channel.listeners().settle(seat);
        }
        Ok(self.alarm.drain())
    }
}

const MAKING: &str = "make a descriptor for waiting";

fn alarm() -> Result<Alarm, HeapError> {
    let alive = ALIVE.load(Ordering::Relaxed);
    let period = if EXACT.load(Ordering::Relaxed) {
        look_around_by_thread();
        None
    } else {
        Some(LOOK_AROUND.saturating_mul(alive.max(1)))
    };
    Alarm::new(period).map_err(|errno| HeapError::system(MAKING, errno))
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }
}

impl AsRawFd for Readiness {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
        let seat = self.seat.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = seat.as_ref().filter(|seat| seat.is_mine()) {
            self.watched.channel().0.listeners().release(seat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Queue;
    use crate::sys::atfork::child_comes_through;

    #[test]
    fn a_child_arms_what_its_parent_was_arming() {
        let queue = Queue::<u8>::unbounded().expect("queue");
        let readiness = queue.readiness().expect("readiness");
        let hold = || (keep_from_forking(), readiness.seat.lock());
        assert!(child_comes_through(hold, || {
            assert_eq!(readiness.arm(), Ok(false));
        }));
    }
}
