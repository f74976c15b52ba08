//! Feed: a map whose items are pushed by whoever has them, and the room for its results.
//!
//! ```text
//! push --> submitted, not taken: at most the look-ahead --> try_next
//! ```
//!
//! [`Map`](super::map::Map) is a feed with an iterator at its mouth. Embedders, whose input is no Rust iterator that could be read on any thread, use it bare.

use super::crew::Crew;
use super::error::{SubmitError, TaskError};
use super::function::TaskFunction;
use super::task::{Outcome, Sink, TaskOptions};
use crate::process::Portable;
use crate::sync::deadline_after;
use crate::sync::raw::Deadline;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// Items ahead of the caller for each worker, unless said otherwise.
const AHEAD_PER_WORKER: usize = 1024;
/// Bytes of arguments that are ahead of the workers, and of results that wait for the caller, before the input is read no further.
const BYTES_AHEAD: usize = 64 << 20;
/// Items submitted at one time: each time costs a lock.
pub(super) const BATCH: usize = 256;

/// Where the outcomes of a map arrive.
#[derive(Default)]
pub(super) struct Arrivals {
    content: Mutex<Content>,
    /// Outcomes that can be taken: all of them, or those whose turn it is.
    ready: AtomicUsize,
    /// There is nothing to wait for: the feed has taken outcomes that nobody has asked it for, or has nothing in flight.
    vain: AtomicBool,
    /// Threads in [`FeedWaiter::wait_timeout`].
    waiters: AtomicUsize,
    ordered: bool,
}

#[derive(Default)]
pub(super) struct Content {
    /// In order of arrival, or by number from `base` on.
    outcomes: VecDeque<Option<Outcome>>,
    base: usize,
    pub(super) arrived: usize,
    /// Bytes of all results so far, for their mean.
    total: usize,
    /// Who polls the map's stream.
    waker: Option<Waker>,
    /// How many there will be, once that is known, and who is to be told then.
    pub(super) expected: Option<usize>,
    pub(super) callbacks: Vec<Callback>,
}

pub(super) type Callback = Box<dyn FnOnce() + Send>;

impl Arrivals {
    pub(super) fn new(ordered: bool) -> Self {
        Self {
            ordered,
            vain: AtomicBool::new(true),
            ..Self::default()
        }
    }

    pub(super) fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For those who take; `None`: as [`Crew::lock`].
    pub(super) fn content_of(&self, crew: &Crew) -> Option<MutexGuard<'_, Content>> {
        crew.lock(&self.content)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) > 0
    }

    /// Says whether waiting is vain; whether somebody is to be told.
    fn set_vain(&self, vain: bool) -> bool {
        // Only the feed writes it. Those who came while it was so did not wait.
        if self.vain.load(Ordering::Relaxed) == vain {
            return false;
        }
        // Either the waiter sees this, or we see the waiter.
        self.vain.store(vain, Ordering::SeqCst);
        vain && self.waiters.load(Ordering::SeqCst) > 0
    }

    /// Has `waker` woken when something is ready; `false`: something is.
    pub(super) fn wake_when_ready(&self, waker: &Waker) -> bool {
        let mut content = self.content();
        if self.is_ready() {
            return false;
        }
        content.waker = Some(waker.clone());
        true
    }

    /// Has `callback` called once so many have arrived; at once if they have.
    pub(super) fn tell_when(&self, crew: &Crew, expected: usize, callback: Callback) {
        let Some(mut content) = self.content_of(crew) else {
            return;
        };
        content.expected = Some(expected);
        content.callbacks.push(callback);
        let callbacks = content.told_now();
        drop(content);
        callbacks.into_iter().for_each(|callback| callback());
    }

    /// Takes what is ready.
    pub(super) fn take(&self, crew: &Crew, into: &mut VecDeque<Option<Outcome>>) {
        let Some(mut content) = self.content_of(crew) else {
            return;
        };
        let outcomes = &mut content.outcomes;
        let gap = outcomes.iter().position(Option::is_none);
        let count = gap.unwrap_or(outcomes.len());
        if gap.is_none() && into.is_empty() {
            std::mem::swap(into, outcomes);
        } else {
            into.extend(outcomes.drain(..count));
        }
        content.base += count;
        self.ready.store(0, Ordering::Release);
    }
}

impl Content {
    /// Notes an outcome; whether one can be taken now.
    fn add(&mut self, index: usize, outcome: Outcome, ordered: bool) -> bool {
        self.total += size(&outcome);
        self.arrived += 1;
        if !ordered {
            self.outcomes.push_back(Some(outcome));
            return true;
        }
        let at = index - self.base;
        if self.outcomes.len() <= at {
            self.outcomes.resize_with(at + 1, || None);
        }
        self.outcomes[at] = Some(outcome);
        at == 0
    }

    /// Those who are to be told now that all are there; once.
    pub(super) fn told_now(&mut self) -> Vec<Callback> {
        if self.expected == Some(self.arrived) {
            std::mem::take(&mut self.callbacks)
        } else {
            Vec::new()
        }
    }
}

fn size(outcome: &Outcome) -> usize {
    outcome.as_ref().map_or(0, super::task::Output::size)
}

impl Sink for Arrivals {
    fn complete(&self, index: usize, outcome: Outcome) {
        self.complete_all(&mut std::iter::once((index, outcome)));
    }

    fn complete_all(&self, outcomes: &mut dyn Iterator<Item = (usize, Outcome)>) {
        let mut content = self.content();
        let mut ready = false;
        for (index, outcome) in outcomes {
            ready |= content.add(index, outcome, self.ordered);
        }
        let mut waker = None;
        if ready {
            self.ready.store(1, Ordering::Release);
            waker = content.waker.take();
        }
        let callbacks = content.told_now();
        drop(content);
        callbacks.into_iter().for_each(|callback| callback());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A map whose items are pushed: made by [`Executor::feed`](crate::Executor::feed).
///
/// Items may be pushed while there is [`room`](Self::room), and results taken meanwhile. Dropping a feed forgets what no worker has begun.
///
/// # Crash safety
/// As [`Map`](crate::Map): a worker that dies costs the one item that it was running.
///
/// # Examples
/// ```
/// use procession::Executor;
/// use std::time::Duration;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let executor = Executor::new(2)?;
///     let mut feed = executor.feed(|x: u32| x * x, true);
///     feed.push(vec![1, 2, 3])?;
///     let mut squares = Vec::new();
///     while feed.in_flight() > 0 {
///         feed.wait_timeout(Duration::from_secs(1));
///         squares.extend(std::iter::from_fn(|| feed.try_next()));
///     }
///     assert_eq!(squares, [Ok(1), Ok(4), Ok(9)]);
///     Ok(())
/// }
/// ```
pub struct Feed<A: Portable, R: Portable, F = fn(A) -> R> {
    pub(super) crew: Crew,
    pub(super) function: F,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) options: Option<TaskOptions>,
    pub(super) look_ahead: Option<usize>,
    /// Taken from the arrivals, not yet by the caller.
    taken: VecDeque<Option<Outcome>>,
    /// Tasks submitted, and tasks taken.
    pub(super) submitted: usize,
    received: usize,
    /// Bytes of arguments submitted.
    pub(super) bytes: usize,
    _items: PhantomData<fn(A) -> R>,
}

impl<A: Portable, R: Portable, F> fmt::Debug for Feed<A, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("submitted", &self.submitted)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl<A, R, F> Feed<A, R, F>
where
    A: Portable,
    R: Portable,
    F: TaskFunction<Arguments = A, Output = R>,
{
    pub(super) fn new(crew: Crew, function: F, ordered: bool) -> Self {
        Self {
            crew,
            function,
            arrivals: Arc::new(Arrivals::new(ordered)),
            options: None,
            look_ahead: None,
            taken: VecDeque::new(),
            submitted: 0,
            received: 0,
            bytes: 0,
            _items: PhantomData,
        }
    }

    /// Whoever waits for results of this feed in other threads goes on if that would be in vain.
    fn tell_waiters(&self) {
        let vain = !self.taken.is_empty() || self.in_flight() == 0;
        if self.arrivals.set_vain(vain) {
            self.crew.announce();
        }
    }

    /// Options for each task that is pushed from now on.
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// At most so many items are to be ahead of the caller; see [`Map::look_ahead`](crate::Map::look_ahead). May be changed at any time.
    pub fn set_look_ahead(&mut self, items: usize) {
        self.look_ahead = Some(items.max(1));
    }

    /// How many items are to be pushed now: none while few would be, because each push costs a lock.
    #[must_use]
    pub fn room(&self) -> usize {
        let ahead = self.in_flight();
        let room = self.window().saturating_sub(ahead);
        if room < BATCH.min(ahead / 2) {
            return 0;
        }
        // One by one while nobody knows how large they are.
        room.min(if self.submitted == 0 { 1 } else { BATCH })
    }

    /// Tasks that may be ahead of the caller now.
    fn window(&self) -> usize {
        if let Some(look_ahead) = self.look_ahead {
            return look_ahead;
        }
        let workers = self.crew.size();
        if workers == 0 {
            return 1;
        }
        let Some(content) = self.arrivals.content_of(&self.crew) else {
            return 0;
        };
        let result = content.total.checked_div(content.arrived).unwrap_or(0);
        let argument = self.bytes.checked_div(self.submitted).unwrap_or(0);
        // Until the first results are there nobody knows how large they are.
        let known = if content.arrived == 0 {
            32
        } else {
            AHEAD_PER_WORKER
        };
        let fit = BYTES_AHEAD
            .checked_div(result.max(argument))
            .unwrap_or(usize::MAX);
        (known * workers).min(fit).max(2 * workers)
    }

    /// Submits items, which follow those before them.
    ///
    /// # Errors
    /// [`SubmitError`]: none was submitted. An item that cannot be sent is an error of its own, as a result.
    pub fn push(&mut self, items: Vec<A>) -> Result<(), SubmitError> {
        let count = items.len();
        let sink = Arc::clone(&self.arrivals) as Arc<dyn Sink>;
        self.bytes += self.crew.submit_all(
            self.function,
            items,
            self.options.as_ref(),
            &sink,
            self.submitted,
        )?;
        self.submitted += count;
        self.tell_waiters();
        Ok(())
    }

    /// Items whose results were not taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.submitted - self.received
    }

    /// The next result, if it is there.
    pub fn try_next(&mut self) -> Option<Result<R, TaskError>> {
        let outcome = self.try_take()?;
        Some(outcome.and_then(super::task::Output::read))
    }

    /// The next outcome, if it is there.
    pub(super) fn try_take(&mut self) -> Option<Outcome> {
        if self.taken.is_empty() && self.arrivals.is_ready() {
            self.arrivals.take(&self.crew, &mut self.taken);
        }
        let outcome = self.taken.pop_front().flatten()?;
        self.received += 1;
        self.tell_waiters();
        Some(outcome)
    }

    /// Waits until the next result is there, at most for `timeout`; whether it is, or nothing is in flight.
    ///
    /// # Blocking
    /// At most so long.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(deadline_after(timeout))
    }

    pub(super) fn wait_until(&self, deadline: Deadline) -> bool {
        !self.taken.is_empty()
            || self.in_flight() == 0
            || self.crew.wait(&|| self.arrivals.is_ready(), deadline)
    }

    /// What waits for results of this feed while others push and take.
    #[must_use]
    pub fn waiter(&self) -> FeedWaiter {
        FeedWaiter {
            crew: self.crew.clone(),
            arrivals: Arc::clone(&self.arrivals),
        }
    }

    /// The caller will not wait now; the tasks are to run all the same.
    pub fn entrust(&self) {
        self.crew.entrust();
    }

    /// Lets what was pushed run although nobody wants the results any more: dropping the feed would forget what no worker has begun. `then` is called when all is done, in whatever thread
    /// brings the last result.
    pub fn let_run(mut self, then: impl FnOnce() + Send + 'static) {
        self.received = self.submitted;
        self.arrivals
            .tell_when(&self.crew, self.submitted, Box::new(then));
        self.entrust();
    }
}

/// Waits for the results of a [`Feed`], on any thread.
#[derive(Clone)]
pub struct FeedWaiter {
    crew: Crew,
    arrivals: Arc<Arrivals>,
}

impl fmt::Debug for FeedWaiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedWaiter")
    }
}

impl FeedWaiter {
    /// Waits until there are results to be taken, at most for `timeout`; whether there are, or nothing is in flight. Another thread may take them first.
    ///
    /// # Blocking
    /// At most so long.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let arrivals = &self.arrivals;
        arrivals.waiters.fetch_add(1, Ordering::SeqCst);
        let is_done = || arrivals.is_ready() || arrivals.vain.load(Ordering::SeqCst);
        let done = self.crew.wait(&is_done, deadline_after(timeout));
        arrivals.waiters.fetch_sub(1, Ordering::SeqCst);
        done
    }
}

impl<A: Portable, R: Portable, F> Drop for Feed<A, R, F> {
    fn drop(&mut self) {
        if self.submitted > self.received {
            self.crew
                .abandon(Some(&(Arc::clone(&self.arrivals) as Arc<dyn Sink>)));
        }
        if self.arrivals.set_vain(true) {
            self.crew.announce();
        }
    }
}
