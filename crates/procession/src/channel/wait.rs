//! Waiting for the first of several things: queues, connections, and whatever has a file descriptor.

use super::connection::Connection;
use super::core::Channel;
use super::joinable_queue::JoinableQueue;
use super::listeners::Seat;
use super::queue::Queue;
use super::simple_queue::SimpleQueue;
use crate::family::{Owner, Waiter, patrol};
use crate::heap::{Container, HeapError, me};
use crate::sync::deadline_after;
use crate::sync::raw::{Deadline, Port};
use crate::sys::doorbell::{self, Doorbell};
use crate::sys::futex;
use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// First sleep before looking for dead peers; each further one is twice as long ...
const FIRST_SLICE: Duration = Duration::from_millis(10);
/// ... up to this.
const LAST_SLICE: Duration = Duration::from_millis(160);

thread_local! {
    /// This thread's bell and the participant it was made for.
    static BELL: Cell<Option<(Owner, Doorbell)>> = const { Cell::new(None) };
}

/// Something that [`wait`] and [`Select`] can wait for: queues (an item, or closed), connections (a message, or end of file), and
/// everything that is [`AsFd`] (readable): sockets, pipes, and processes as pidfds.
pub trait Waitable {
    /// What to look at.
    #[doc(hidden)]
    fn source(&self) -> Source<'_>;
}

/// What to look at. Not for others to make.
pub struct Source<'a>(What<'a>);

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

enum What<'a> {
    Channel(&'a Channel, Container),
    Fd(BorrowedFd<'a>),
}

impl<F: AsFd> Waitable for F {
    fn source(&self) -> Source<'_> {
        Source(What::Fd(self.as_fd()))
    }
}

impl<T, C> Waitable for Queue<T, C> {
    fn source(&self) -> Source<'_> {
        Source(What::Channel(&self.shared.channel, self.shared.container()))
    }
}

impl<T, C> Waitable for SimpleQueue<T, C> {
    fn source(&self) -> Source<'_> {
        self.0.source()
    }
}

impl<T, C> Waitable for JoinableQueue<T, C> {
    fn source(&self) -> Source<'_> {
        self.0.source()
    }
}

impl<S, R, C> Waitable for Connection<S, R, C> {
    fn source(&self) -> Source<'_> {
        let (channel, container) = self.watched();
        Source(What::Channel(channel, container))
    }
}

/// Waits until at least one of `items` is ready, or the timeout is over (`None`: for ever). Returns the numbers of all that are, in
/// ascending order; none if the time ran out.
///
/// If a queue or connection is ready already, there is no system call for it. However many are waited for, a thread that has to sleep
/// needs one descriptor (kept for the next time) and no other thread.
///
/// # Blocking
/// Until something is ready, at most `timeout`. A timeout of zero only looks.
///
/// # Crash safety
/// A connection whose last peer was killed is ready (end of file) within a fraction of a second. Items put by a process that was killed right
/// after are noticed.
///
/// # Errors
/// [`HeapError::System`] without a free descriptor, [`HeapError::Full`] if no place to wait can be made.
///
/// # Examples
/// ```
/// use procession::{Pipe, Queue, wait};
/// use std::time::Duration;
///
/// let queue = Queue::<u32>::unbounded()?;
/// let (receiver, sender) = Pipe::one_way::<String>()?;
/// let (mut reading, writing) = std::io::pipe()?;
/// assert!(wait(&[&queue, &receiver, &reading], Some(Duration::ZERO))?.is_empty());
/// sender.send("hello".to_owned())?;
/// drop(writing); // end of file
/// assert_eq!(wait(&[&queue, &receiver, &reading], None)?, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.connection.wait`
pub fn wait(
    items: &[&dyn Waitable],
    timeout: impl Into<Option<Duration>>,
) -> Result<Vec<usize>, HeapError> {
    wait_until(items, timeout.into().and_then(deadline_after))
}

/// A list of things to wait for, built up one by one.
///
/// # Examples
/// ```
/// use procession::{Queue, Select};
///
/// let (orders, returns) = (Queue::<u32>::unbounded()?, Queue::<String>::unbounded()?);
/// let mut select = Select::new();
/// let (order, back) = (select.add(&orders), select.add(&returns));
/// returns.put("broken".to_owned())?;
/// for ready in select.wait(None)? {
///     match ready {
///         i if i == order => println!("{}", orders.get()?),
///         i if i == back => assert_eq!(returns.get()?, "broken"),
///         _ => unreachable!(),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Select<'a> {
    items: Vec<&'a dyn Waitable>,
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select")
            .field("len", &self.items.len())
            .finish()
    }
}

impl<'a> Select<'a> {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds something; returns its number.
    pub fn add(&mut self, item: &'a dyn Waitable) -> usize {
        self.items.push(item);
        self.items.len() - 1
    }

    /// As [`wait`].
    ///
    /// # Errors
    /// As [`wait`].
    pub fn wait(&self, timeout: impl Into<Option<Duration>>) -> Result<Vec<usize>, HeapError> {
        wait(&self.items, timeout)
    }

    /// As [`wait`], until a point in time.
    ///
    /// # Errors
    /// As [`wait`].
    pub fn wait_deadline(&self, deadline: Instant) -> Result<Vec<usize>, HeapError> {
        wait_until(&self.items, Some(deadline))
    }
}

fn wait_until(items: &[&dyn Waitable], deadline: Deadline) -> Result<Vec<usize>, HeapError> {
    let watch = Watch::new(items);
    let ready = watch.look()?;
    if !ready.is_empty() || deadline.is_some_and(|at| at <= Instant::now()) {
        return Ok(ready);
    }
    let waiter = Waiter::new();
    let mut turn = 0;
    while !watch.channels.is_empty() && !watch.has_ready_channel() && waiter.spin(turn) {
        turn += 1;
    }
    if watch.has_ready_channel() {
        return watch.look();
    }
    watch.sleep(deadline)
}

/// The things waited for, sorted by how one waits for them; each with its number.
struct Watch<'a> {
    channels: Vec<(usize, &'a Channel, Container)>,
    fds: Vec<BorrowedFd<'a>>,
    fd_numbers: Vec<usize>,
}

impl<'a> Watch<'a> {
    fn new(items: &[&'a dyn Waitable]) -> Self {
        let (mut channels, mut fds, mut fd_numbers) = (Vec::new(), Vec::new(), Vec::new());
        for (number, item) in items.iter().enumerate() {
            match item.source().0 {
                What::Channel(channel, container) => channels.push((number, channel, container)),
                What::Fd(fd) => {
                    fds.push(fd);
                    fd_numbers.push(number);
                }
            }
        }
        Self {
            channels,
            fds,
            fd_numbers,
        }
    }

    fn has_ready_channel(&self) -> bool {
        self.channels
            .iter()
            .any(|(_, channel, _)| channel.is_ready())
    }

    /// What is ready now. Without descriptors in the list there is no system call.
    fn look(&self) -> Result<Vec<usize>, HeapError> {
        let channels = self
            .channels
            .iter()
            .filter(|(_, channel, _)| channel.is_ready());
        let mut ready: Vec<_> = channels.map(|(number, ..)| *number).collect();
        if !self.fds.is_empty() {
            let fds = doorbell::readable(&self.fds, Some(Instant::now())).map_err(failed)?;
            ready.extend(fds.into_iter().map(|index| self.fd_numbers[index]));
            ready.sort_unstable();
        }
        Ok(ready)
    }

    fn sleep(&self, deadline: Deadline) -> Result<Vec<usize>, HeapError> {
        if self.channels.is_empty() {
            return self.sleep_on(None, deadline);
        }
        let bell = match BELL.take() {
            Some((owner, bell)) if owner == me() => bell,
            // Of the process that we were forked from, or none.
            _ => Doorbell::new().map_err(failed)?,
        };
        let result = self.sleep_on(Some(&bell), deadline);
        BELL.set(Some((me(), bell)));
        result
    }

    /// Channels need a bell.
    fn sleep_on(
        &self,
        bell: Option<&Doorbell>,
        deadline: Deadline,
    ) -> Result<Vec<usize>, HeapError> {
        let mut places = Places(Vec::with_capacity(self.channels.len()));
        let mut polled = self.fds.clone();
        if let Some(bell) = bell {
            for &(_, channel, container) in &self.channels {
                let seat = channel.listeners().claim(container, bell.name())?;
                places.0.push((channel, seat));
            }
            polled.push(bell.as_fd());
        }
        let mut slice = FIRST_SLICE;
        loop {
            if let Some(bell) = bell {
                bell.drain();
            }
            for (channel, seat) in &places.0 {
                channel.listeners().arm(seat);
            }
            let ready = self.look()?;
            if !ready.is_empty() || deadline.is_some_and(|at| at <= Instant::now()) {
                return Ok(ready);
            }
            let mut until = Instant::now() + slice;
            until = deadline.map_or(until, |at| until.min(at));
            if doorbell::readable(&polled, Some(until))
                .map_err(failed)?
                .is_empty()
            {
                if futex::interrupted() {
                    return Ok(Vec::new());
                }
                patrol();
                slice = (slice * 2).min(LAST_SLICE);
            }
        }
    }
}

/// Cells taken for one wait.
struct Places<'a>(Vec<(&'a Channel, Seat)>);

impl Drop for Places<'_> {
    fn drop(&mut self) {
        for (channel, seat) in &self.0 {
            channel.listeners().release(seat);
        }
    }
}

fn failed(errno: rustix::io::Errno) -> HeapError {
    HeapError::system("wait for file descriptors", errno)
}
