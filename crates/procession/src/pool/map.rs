//! Maps: one function over many items, lazily.
//!
//! ```text
//! input --feed--> submitted, not taken: at most the look-ahead --take--> the caller
//! ```
//!
//! Nothing runs ahead of the caller by more than the look-ahead, counted in items and, for arguments and for results, in bytes: an endless input or a slow consumer costs bounded
//! memory. The thread that calls `next` feeds; there is no thread beside it.
//!
//! A *chunk* is one task for the pool: its items are run one after the other by one worker and their results come together. Without a chunk size, items are tasks of their own
//! and travel in batches that the pool sizes by itself, so that a worker's death costs one item.

use super::context::Context;
use super::crew::Crew;
use super::error::{SubmitError, TaskError};
use super::function::TaskFunction;
use super::task::{Outcome, Sink, TaskOptions};
use crate::process::Portable;
use crate::process::{PanicReport, catch_panic};
use crate::sync::deadline_after;
use crate::sync::raw::Deadline;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Items ahead of the caller for each worker, unless said otherwise.
const AHEAD_PER_WORKER: usize = 1024;
/// Bytes of arguments that are ahead of the workers, and of results that wait for the caller, before the input is read no further.
const BYTES_AHEAD: usize = 64 << 20;
/// Items read from the input at one time.
const FEED: usize = 256;

/// Where the outcomes of a map arrive.
#[derive(Default)]
struct Arrivals {
    content: Mutex<Content>,
    /// Outcomes that can be taken: all of them, or those whose turn it is.
    ready: AtomicUsize,
    ordered: bool,
}

#[derive(Default)]
struct Content {
    /// In order of arrival, or by number from `base` on.
    outcomes: VecDeque<Option<Outcome>>,
    base: usize,
    arrived: usize,
    /// Bytes of all results so far, for their mean.
    total: usize,
    /// Who polls the map's stream.
    waker: Option<Waker>,
}

impl Arrivals {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) > 0
    }

    /// Has `waker` woken when something is ready; `false`: something is.
    fn wake_when_ready(&self, waker: &Waker) -> bool {
        let mut content = self.content();
        if self.is_ready() {
            return false;
        }
        content.waker = Some(waker.clone());
        true
    }

    /// Takes what is ready.
    fn take(&self, into: &mut VecDeque<Option<Outcome>>) {
        let mut content = self.content();
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
        if !ready {
            return;
        }
        self.ready.store(1, Ordering::Release);
        let waker = content.waker.take();
        drop(content);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What a look for the next result finds.
enum Step<R> {
    Next(Result<R, TaskError>),
    /// It is not there yet.
    Wait,
    End,
}

/// What is called after each item, with the numbers of items done and of all there will be (if known).
type Progress<'a> = Box<dyn FnMut(usize, Option<usize>) + 'a>;

/// The results of a map, as they come: an iterator over `Result<R, TaskError>`.
///
/// Made by [`Pool::imap`](crate::Pool::imap) and its kin. It begins to read its input when `next` is called first, and keeps the workers busy from then on with a bounded look-ahead. Dropping it
/// forgets what no worker has begun.
///
/// # Blocking
/// `next` waits for the next result. It never waits for ever: a task whose worker dies yields an error.
///
/// # Crash safety
/// A worker that dies costs the one item that it was running (or the chunk, if a chunk size was given): that item is an error, or is tried again if
/// [`TaskOptions::retries`] says so. All others yield their results, once and in order.
///
/// # Examples
/// ```
/// use procession::Pool;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let pool = Pool::new(2)?;
///     // An endless input: read as far as needed, and a little ahead.
///     let first: Vec<u64> = pool.imap(|x: u64| x * x, 0..).take(4).collect::<Result<_, _>>()?;
///     assert_eq!(first, [0, 1, 4, 9]);
///     Ok(())
/// }
/// ```
///
/// # In Python
/// What `Pool.imap` and `Pool.imap_unordered` return
#[must_use = "a map is lazy: nothing runs until its results are asked for"]
pub struct Map<'a, A: Portable, R: Portable, F = fn(A) -> R> {
    crew: Crew,
    function: F,
    input: Option<Box<dyn Iterator<Item = A> + 'a>>,
    /// Items there will be, if the input says so.
    expected: Option<usize>,
    arrivals: Arc<Arrivals>,
    options: Option<TaskOptions>,
    chunk: Option<usize>,
    look_ahead: Option<usize>,
    progress: Option<Progress<'a>>,
    /// Taken from the arrivals, not yet by the caller.
    taken: VecDeque<Option<Outcome>>,
    /// Of the chunk that is being handed out.
    current: VecDeque<Result<R, TaskError>>,
    /// Tasks submitted, and tasks taken.
    submitted: usize,
    received: usize,
    /// Items handed out.
    handed: usize,
    /// Bytes of arguments submitted.
    bytes: usize,
    refusal: Option<SubmitError>,
    _items: PhantomData<A>,
}

impl<A: Portable, R: Portable, F> fmt::Debug for Map<'_, A, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("submitted", &self.submitted)
            .field("handed", &self.handed)
            .finish_non_exhaustive()
    }
}

impl<'a, A, R, F> Map<'a, A, R, F>
where
    A: Portable,
    R: Portable,
    F: TaskFunction<Arguments = A, Output = R>,
{
    pub(super) fn new(
        crew: Crew,
        function: F,
        items: impl IntoIterator<Item = A, IntoIter: 'a>,
        ordered: bool,
    ) -> Self {
        let input = items.into_iter();
        let expected = match input.size_hint() {
            (low, Some(high)) if low == high => Some(high),
            _ => None,
        };
        let arrivals = Arrivals {
            ordered,
            ..Arrivals::default()
        };
        Self {
            crew,
            function,
            input: Some(Box::new(input)),
            expected,
            arrivals: Arc::new(arrivals),
            options: None,
            chunk: None,
            look_ahead: None,
            progress: None,
            taken: VecDeque::new(),
            current: VecDeque::new(),
            submitted: 0,
            received: 0,
            handed: 0,
            bytes: 0,
            refusal: None,
            _items: PhantomData,
        }
    }

    /// Makes tasks of so many items each, instead of one. A worker's death then costs the chunk, and a time limit is that of the chunk. Zero counts as one.
    #[doc(alias = "chunksize")]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.chunk = Some(items.max(1));
        self
    }

    /// Reads at most so many items (or chunks, with a chunk size) more from the input than results were taken. Less than one counts as one. Without it: 1024 for each worker, fewer if arguments
    /// or results are large (64 MiB of either at the most, but always two for each worker).
    #[doc(alias = "buffersize")]
    pub fn look_ahead(mut self, items: usize) -> Self {
        self.look_ahead = Some(items.max(1));
        self
    }

    /// Options for each task: time limit, retries, priority, name.
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// Has `progress` called in this thread after each result, with how many there were and how many there will be (if the input says so).
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(2)?;
    ///     let mut seen = Vec::new();
    ///     let doubled: Vec<u32> = pool
    ///         .imap(|x: u32| 2 * x, vec![1, 2])
    ///         .on_progress(|done, all| seen.push((done, all)))
    ///         .collect::<Result<_, _>>()?;
    ///     assert_eq!((doubled, seen), (vec![2, 4], vec![(1, Some(2)), (2, Some(2))]));
    ///     Ok(())
    /// }
    /// ```
    pub fn on_progress(mut self, progress: impl FnMut(usize, Option<usize>) + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// As [`Iterator::next`], waiting at most `timeout`. `Some(Err(TaskError::NotDone))`: it is not there yet; nothing is lost.
    ///
    /// # In Python
    /// `IMapIterator.next(timeout)`
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<R, TaskError>> {
        self.next_until(deadline_after(timeout))
    }

    /// All results; the first error ends the map, and what no worker has begun is forgotten.
    pub(super) fn all(self) -> Result<Vec<R>, TaskError> {
        self.collect()
    }

    /// Tasks that may be ahead of the caller now.
    fn window(&self) -> usize {
        let workers = self.crew.size().max(1);
        if let Some(look_ahead) = self.look_ahead {
            return look_ahead;
        }
        let content = self.arrivals.content();
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

    /// Reads the input as far as the look-ahead allows.
    fn feed(&mut self) {
        while self.input.is_some() && self.refusal.is_none() {
            let ahead = self.submitted - self.received;
            let room = self.window().saturating_sub(ahead);
            // Many at a time: each time costs a lock.
            if room == 0 || (room < FEED.min(ahead / 2)) {
                return;
            }
            match self.chunk {
                None => self.feed_items(room.min(FEED)),
                Some(size) => self.feed_chunk(size),
            }
        }
    }

    fn read(&mut self, most: usize) -> Vec<A> {
        let Some(input) = &mut self.input else {
            return Vec::new();
        };
        let items: Vec<_> = input.take(most).collect();
        if items.len() < most {
            self.input = None;
        }
        items
    }

    fn feed_items(&mut self, most: usize) {
        // One by one while nobody knows how large they are.
        let most = if self.submitted == 0 { 1 } else { most };
        let items = self.read(most);
        let count = items.len();
        if count == 0 {
            return;
        }
        let sink = Arc::clone(&self.arrivals) as Arc<dyn Sink>;
        match self.crew.submit_all(
            self.function,
            items,
            self.options.as_ref(),
            &sink,
            self.submitted,
        ) {
            Ok(bytes) => {
                self.bytes += bytes;
                self.submitted += count;
            }
            Err(error) => self.refusal = Some(error),
        }
    }

    fn feed_chunk(&mut self, size: usize) {
        let items = self.read(size);
        if items.is_empty() {
            return;
        }
        let sink = Arc::clone(&self.arrivals) as Arc<dyn Sink>;
        match self.crew.submit_chunk(
            self.function,
            items,
            self.options.as_ref(),
            sink,
            self.submitted,
        ) {
            Ok(bytes) => {
                self.bytes += bytes;
                self.submitted += 1;
            }
            Err(error) => self.refusal = Some(error),
        }
    }

    fn next_until(&mut self, deadline: Deadline) -> Option<Result<R, TaskError>> {
        loop {
            match self.advance() {
                Step::Next(result) => return self.hand_out(result),
                Step::End => return None,
                Step::Wait => {}
            }
            let arrivals = Arc::clone(&self.arrivals);
            if !self.crew.wait(&|| arrivals.is_ready(), deadline) {
                let over = match deadline {
                    None => TaskError::NotOurs,
                    Some(_) => TaskError::NotDone,
                };
                return Some(Err(over));
            }
        }
    }

    /// For the stream: the next result, or `waker` will be told.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Option<Result<R, TaskError>>> {
        loop {
            match self.advance() {
                Step::Next(result) => return Poll::Ready(self.hand_out(result)),
                Step::End => return Poll::Ready(None),
                Step::Wait => {}
            }
            if self.arrivals.wake_when_ready(waker) {
                self.crew.entrust();
                return Poll::Pending;
            }
        }
    }

    /// One step, without waiting: reads more of the input, takes what is there.
    fn advance(&mut self) -> Step<R> {
        if let Some(result) = self.current.pop_front() {
            return Step::Next(result);
        }
        if self.taken.is_empty() {
            self.feed();
            if self.submitted == self.received {
                let refusal = self.refusal.take();
                return refusal.map_or(Step::End, |refusal| Step::Next(Err(refusal.into())));
            }
            if !self.arrivals.is_ready() {
                return Step::Wait;
            }
            self.arrivals.take(&mut self.taken);
        }
        let Some(outcome) = self.taken.pop_front().flatten() else {
            return Step::Wait;
        };
        self.received += 1;
        if self.chunk.is_none() {
            return Step::Next(outcome.and_then(super::task::Output::read));
        }
        self.open_chunk(outcome);
        // A chunk is never empty.
        self.current.pop_front().map_or(Step::Wait, Step::Next)
    }

    /// The results of a chunk's items; if the chunk as a whole failed, that is one error.
    fn open_chunk(&mut self, outcome: Outcome) {
        let items = outcome.and_then(super::task::Output::read::<Vec<Result<R, PanicReport>>>);
        match items {
            Ok(items) => {
                let results = items
                    .into_iter()
                    .map(|item| item.map_err(TaskError::panicked));
                self.current.extend(results);
            }
            Err(error) => self.current.push_back(Err(error)),
        }
    }

    fn hand_out(&mut self, result: Result<R, TaskError>) -> Option<Result<R, TaskError>> {
        self.handed += 1;
        if let Some(progress) = &mut self.progress {
            progress(self.handed, self.expected);
        }
        Some(result)
    }
}

impl<A, R, F> Iterator for Map<'_, A, R, F>
where
    A: Portable,
    R: Portable,
    F: TaskFunction<Arguments = A, Output = R>,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self
            .expected
            .map(|expected| expected.saturating_sub(self.handed));
        (
            if self.chunk.is_none() {
                left.unwrap_or(0)
            } else {
                0
            },
            left,
        )
    }
}

impl<A: Portable, R: Portable, F> Drop for Map<'_, A, R, F> {
    fn drop(&mut self) {
        if self.submitted > self.received {
            self.crew
                .abandon(&(Arc::clone(&self.arrivals) as Arc<dyn Sink>));
        }
    }
}

/// A chunk on its way: the function is named beside its items.
pub(super) fn run_chunk<F: TaskFunction>(function: F, context: &Context) -> i32 {
    context.perform(|items| call_each(function, items))
}

/// Calls the function with each item; a panic is that item's matter.
pub(super) fn call_each<F: TaskFunction>(
    function: F,
    items: Vec<F::Arguments>,
) -> Vec<Result<F::Output, PanicReport>> {
    items
        .into_iter()
        .map(|item| catch_panic(|| function.call(item), |_| ()))
        .collect()
}

/// The results of a map that runs while its caller does something else.
///
/// # In Python
/// `multiprocessing.pool.MapResult`
#[doc(alias = "MapResult")]
pub struct MapFuture<R> {
    crew: Crew,
    arrivals: Arc<Arrivals>,
    total: usize,
    _result: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for MapFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapFuture")
            .field("total", &self.total)
            .field("done", &self.done())
            .finish_non_exhaustive()
    }
}

impl<R: Portable> MapFuture<R> {
    pub(super) fn start<F: TaskFunction<Output = R>>(
        crew: &Crew,
        function: F,
        items: impl IntoIterator<Item = F::Arguments>,
    ) -> Result<Self, SubmitError> {
        let arrivals = Arc::new(Arrivals {
            ordered: true,
            ..Arrivals::default()
        });
        let sink = Arc::clone(&arrivals) as Arc<dyn Sink>;
        let mut items = items.into_iter();
        let mut total = 0;
        loop {
            let some: Vec<_> = items.by_ref().take(FEED).collect();
            if some.is_empty() {
                break;
            }
            let count = some.len();
            crew.submit_all(function, some, None, &sink, total)?;
            total += count;
        }
        crew.entrust();
        Ok(Self {
            crew: crew.clone(),
            arrivals,
            total,
            _result: PhantomData,
        })
    }
}

impl<R> MapFuture<R> {
    /// Items that have their outcome.
    #[must_use]
    pub fn done(&self) -> usize {
        self.arrivals.content().arrived
    }

    /// Whether all have.
    #[must_use]
    #[doc(alias = "ready")]
    pub fn is_done(&self) -> bool {
        self.done() == self.total
    }

    /// Waits until all items have their outcome, at most for `timeout`; whether they have.
    ///
    /// # Blocking
    /// At most so long.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_done() || self.crew.wait(&|| self.is_done(), deadline_after(timeout))
    }
}

impl<R: DeserializeOwned + 'static> MapFuture<R> {
    /// Waits for all results.
    ///
    /// # Blocking
    /// Until all items have their outcome.
    ///
    /// # Errors
    /// The first item's that failed.
    #[doc(alias = "get")]
    pub fn result(self) -> Result<Vec<R>, TaskError> {
        if !self.is_done() && !self.crew.wait(&|| self.is_done(), None) {
            return Err(TaskError::NotOurs);
        }
        let mut outcomes = VecDeque::new();
        self.arrivals.take(&mut outcomes);
        let results = outcomes.into_iter();
        results
            .flatten()
            .map(|outcome| outcome.and_then(super::task::Output::read))
            .collect()
    }
}
