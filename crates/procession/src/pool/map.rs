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
use super::feed::{Arrivals, BATCH, Feed};
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
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

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
    feed: Feed<A, R, F>,
    input: Option<Box<dyn Iterator<Item = A> + 'a>>,
    /// Items there will be, if the input says so.
    expected: Option<usize>,
    chunk: Option<usize>,
    progress: Option<Progress<'a>>,
    /// Of the chunk that is being handed out.
    current: VecDeque<Result<R, TaskError>>,
    /// Items handed out.
    handed: usize,
    refusal: Option<SubmitError>,
}

impl<A: Portable, R: Portable, F> fmt::Debug for Map<'_, A, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("submitted", &self.feed.submitted)
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
        Self {
            feed: Feed::new(crew, function, ordered),
            input: Some(Box::new(input)),
            expected,
            chunk: None,
            progress: None,
            current: VecDeque::new(),
            handed: 0,
            refusal: None,
        }
    }

    /// Makes tasks of so many items each, instead of one. A worker's death then costs the chunk, and a time limit is that of the chunk. Zero counts as one.
    #[doc(alias = "chunksize")]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.chunk = Some(items.max(1));
        self
    }

    /// Reads at most so many items (or chunks, with a chunk size) more from the input than results were taken. Less than one counts as one. Without it: 1024 for each worker, fewer if arguments
    /// or results are large (64 MiB of either at the most, but always two for each worker); threads' values are not measured. Inline, one.
    #[doc(alias = "buffersize")]
    pub fn look_ahead(mut self, items: usize) -> Self {
        self.feed.set_look_ahead(items);
        self
    }

    /// Options for each task: time limit, retries, priority, name.
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.feed.options = Some(options);
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

    /// Reads the input as far as the look-ahead allows.
    fn feed(&mut self) {
        while self.input.is_some() && self.refusal.is_none() {
            let room = self.feed.room();
            if room == 0 {
                return;
            }
            match self.chunk {
                None => self.feed_items(room),
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
        let items = self.read(most);
        if !items.is_empty()
            && let Err(error) = self.feed.push(items)
        {
            self.refusal = Some(error);
        }
    }

    fn feed_chunk(&mut self, size: usize) {
        let items = self.read(size);
        if items.is_empty() {
            return;
        }
        let feed = &mut self.feed;
        match feed.crew.submit_chunk(
            feed.function,
            items,
            feed.options.as_ref(),
            Arc::clone(&feed.arrivals) as Arc<dyn Sink>,
            feed.submitted,
        ) {
            Ok(bytes) => {
                feed.bytes += bytes;
                feed.submitted += 1;
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
            if !self.feed.wait_until(deadline) {
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
            if !self.feed.crew.is_ours() {
                return Poll::Ready(Some(Err(TaskError::NotOurs)));
            }
            if self.feed.arrivals.wake_when_ready(waker) {
                self.feed.entrust();
                return Poll::Pending;
            }
        }
    }

    /// One step, without waiting: reads more of the input, takes what is there.
    fn advance(&mut self) -> Step<R> {
        if let Some(result) = self.current.pop_front() {
            return Step::Next(result);
        }
        let mut outcome = self.feed.try_take();
        if outcome.is_none() {
            self.feed();
            if self.feed.in_flight() == 0 {
                let refusal = self.refusal.take();
                return refusal.map_or(Step::End, |refusal| Step::Next(Err(refusal.into())));
            }
            outcome = self.feed.try_take();
        }
        let Some(outcome) = outcome else {
            return Step::Wait;
        };
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
        options: Option<&TaskOptions>,
    ) -> Result<Self, SubmitError> {
        let arrivals = Arc::new(Arrivals::new(true));
        let sink = Arc::clone(&arrivals) as Arc<dyn Sink>;
        let mut items = items.into_iter();
        let mut total = 0;
        loop {
            let some: Vec<_> = items.by_ref().take(BATCH).collect();
            if some.is_empty() {
                break;
            }
            let count = some.len();
            crew.submit_all(function, some, options, &sink, total)?;
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
    #[cfg(test)]
    pub(super) fn arrivals(&self) -> Arc<Arrivals> {
        Arc::clone(&self.arrivals)
    }

    /// Items that have their outcome.
    #[must_use]
    pub fn done(&self) -> usize {
        let content = self.arrivals.content_of(&self.crew);
        content.map_or(0, |content| content.arrived)
    }

    /// Whether all have.
    #[must_use]
    #[doc(alias = "ready")]
    pub fn is_done(&self) -> bool {
        self.done() == self.total
    }

    /// Calls `callback` once all items have their outcome; at once if they have. It runs in whatever thread brings the last one, and must not wait for long.
    pub fn on_done(&self, callback: impl FnOnce() + Send + 'static) {
        self.arrivals
            .tell_when(&self.crew, self.total, Box::new(callback));
        self.crew.entrust();
    }

    /// Whether the calling process made the pool; if not, results that were not there at the fork will never come.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.crew.is_ours()
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
        self.results()?.into_iter().collect()
    }

    /// Waits for all outcomes, in order of the items. They are handed out once.
    ///
    /// # Blocking
    /// Until all items have theirs.
    ///
    /// # Errors
    /// [`TaskError::NotOurs`]: the handle is a copy that a fork made, and they will never come.
    ///
    /// # Examples
    /// ```
    /// let pool = procession::Pool::threads(2)?;
    /// let half = pool.map_async(|x: u32| { assert!(x % 2 == 0); x / 2 }, [4, 5])?;
    /// let results = half.results()?;
    /// assert_eq!(results[0], Ok(2));
    /// assert!(results[1].is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn results(&self) -> Result<Vec<Result<R, TaskError>>, TaskError> {
        if !self.is_done() && !self.crew.wait(&|| self.is_done(), None) {
            return Err(TaskError::NotOurs);
        }
        let mut outcomes = VecDeque::new();
        self.arrivals.take(&self.crew, &mut outcomes);
        let results = outcomes.into_iter().flatten();
        Ok(results
            .map(|outcome| outcome.and_then(super::task::Output::read))
            .collect())
    }
}
