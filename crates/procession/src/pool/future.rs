//! Future: a result that will be there.

use super::crew::Crew;
use super::error::TaskError;
use super::record::TaskId;
use super::task::{Outcome, Sink};
use crate::sync::deadline_after;
use crate::sync::raw::Deadline;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

type Callback = Box<dyn FnOnce() + Send>;

/// Where the outcome of one task arrives.
#[derive(Default)]
pub(super) struct Cell {
    content: Mutex<Content>,
    done: AtomicBool,
}

#[derive(Default)]
struct Content {
    outcome: Option<Outcome>,
    wakers: Vec<Waker>,
    callbacks: Vec<Callback>,
    cancelled: bool,
}

impl Cell {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

impl Sink for Cell {
    fn complete(&self, _index: usize, outcome: Outcome) {
        let mut content = self.content();
        content.cancelled = matches!(outcome, Err(TaskError::Cancelled));
        content.outcome = Some(outcome);
        let wakers = std::mem::take(&mut content.wakers);
        let callbacks = std::mem::take(&mut content.callbacks);
        self.done.store(true, Ordering::Release);
        drop(content);
        // Callbacks first: what they let go is there when who awaits goes on.
        callbacks.into_iter().for_each(|callback| callback());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The result of a task, which is there or will be.
///
/// It can be waited for by threads ([`result`](Future::result)) and awaited under any runtime (`.await`). A thread that waits does
/// the pool's work meanwhile; nothing needs a thread of its own. Dropping a future changes nothing: the task runs all the same.
///
/// # Crash safety
/// If the task's worker dies, the future has [`TaskError::WorkerDied`]. If the pool is terminated or dropped, [`TaskError::Terminated`]. It never waits for what cannot come.
///
/// # Cancel safety
/// `.await` can be dropped and begun again at any time; the result stays.
///
/// # Examples
/// ```
/// use procession::Executor;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let executor = Executor::new(2)?;
///     let futures: Vec<_> = (1..=3u64).map(|x| executor.submit(|x| x * x, x)).collect::<Result<_, _>>()?;
///     let squares: Vec<u64> = futures.iter().map(|future| future.result()).collect::<Result<_, _>>()?;
///     assert_eq!(squares, [1, 4, 9]);
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `concurrent.futures.Future`, and `multiprocessing.pool.AsyncResult`
#[doc(alias = "AsyncResult")]
pub struct Future<R> {
    pub(super) cell: Arc<Cell>,
    pub(super) crew: Crew,
    pub(super) id: TaskId,
    pub(super) _result: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for Future<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Future")
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}

impl<R> Future<R> {
    pub(super) fn new(cell: Arc<Cell>, crew: Crew, id: TaskId) -> Self {
        Self {
            cell,
            crew,
            id,
            _result: PhantomData,
        }
    }

    /// `None`: as [`Crew::lock`].
    fn content(&self) -> Option<MutexGuard<'_, Content>> {
        self.crew.lock(&self.cell.content)
    }

    /// Whether there is an outcome: a result, an error, or that it was cancelled.
    #[must_use]
    #[doc(alias = "ready")]
    pub fn is_done(&self) -> bool {
        self.cell.is_done()
    }

    /// Whether a worker has begun the task and not ended it.
    #[must_use]
    #[doc(alias = "running")]
    pub fn is_running(&self) -> bool {
        !self.is_done() && self.crew.is_running(self.id)
    }

    /// Whether the calling process made the pool; if not, a result that was not there at the fork will never come.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.crew.is_ours()
    }

    /// Whether it was cancelled.
    #[must_use]
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        self.content().is_some_and(|content| content.cancelled)
    }

    /// Cancels the task, also if it runs: then its worker is killed and replaced, and nothing else is harmed. `false`: it has its outcome already, or runs in a
    /// thread, which cannot be killed.
    ///
    /// # Crash safety
    /// What the task held (locks, half a file) is as after the death of any process.
    ///
    /// # Examples
    /// ```
    /// use procession::{Executor, TaskError};
    /// use std::time::Duration;
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let executor = Executor::new(1)?;
    ///     let endless = executor.submit(|()| loop { std::thread::sleep(Duration::from_secs(1)) }, ())?;
    ///     let short = executor.submit(|()| 7, ())?;
    ///     assert!(endless.cancel());
    ///     assert_eq!(endless.result(), Err::<(), _>(TaskError::Cancelled));
    ///     assert_eq!(short.result(), Ok(7)); // by the new worker
    ///     Ok(())
    /// }
    /// ```
    pub fn cancel(&self) -> bool {
        !self.is_done() && self.crew.cancel(self.id, true)
    }

    /// Cancels the task if no worker has begun it. `false`: it runs, or has its outcome.
    ///
    /// # Examples
    /// ```
    /// let executor = procession::Executor::threads(1)?;
    /// let first = executor.submit(|()| std::thread::sleep(std::time::Duration::from_millis(50)), ())?;
    /// while !first.is_running() {
    ///     std::thread::yield_now();
    /// }
    /// let second = executor.submit(|()| (), ())?;
    /// assert!(second.cancel_pending() && !first.cancel_pending());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `Future.cancel`
    pub fn cancel_pending(&self) -> bool {
        !self.is_done() && self.crew.cancel(self.id, false)
    }

    /// Waits until the task has its outcome.
    ///
    /// # Blocking
    /// Until then.
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits at most `timeout`; whether the task has its outcome.
    ///
    /// # Blocking
    /// At most so long.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(deadline_after(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> bool {
        self.is_done() || self.crew.wait(&|| self.is_done(), deadline)
    }

    /// Calls `callback` once the task has its outcome; at once if it has. It runs in whatever thread brings the outcome, and must not wait for long.
    ///
    /// # In Python
    /// `Future.add_done_callback`
    #[doc(alias = "add_done_callback")]
    pub fn on_done(&self, callback: impl FnOnce() + Send + 'static) {
        let Some(mut content) = self.content() else {
            return;
        };
        if self.is_done() {
            drop(content);
            return callback();
        }
        content.callbacks.push(Box::new(callback));
        drop(content);
        self.crew.entrust();
    }
}

impl<R: DeserializeOwned + 'static> Future<R> {
    /// Waits for the result. It is handed out once.
    ///
    /// # Blocking
    /// Until the task has its outcome.
    ///
    /// # Errors
    /// [`TaskError`]; [`TaskError::AlreadyTaken`] the second time.
    #[doc(alias = "get")]
    pub fn result(&self) -> Result<R, TaskError> {
        self.wait();
        self.take()
    }

    /// As [`result`](Self::result), waiting at most `timeout`.
    ///
    /// # Errors
    /// [`TaskError::NotDone`] if the time ran out (the task goes on), and those of `result`.
    pub fn result_timeout(&self, timeout: Duration) -> Result<R, TaskError> {
        self.result_until(deadline_after(timeout))
    }

    /// As [`result`](Self::result), waiting until `deadline`.
    ///
    /// # Errors
    /// As [`result_timeout`](Self::result_timeout).
    pub fn result_deadline(&self, deadline: Instant) -> Result<R, TaskError> {
        self.result_until(Some(deadline))
    }

    /// As [`result`](Self::result), without waiting.
    ///
    /// # Errors
    /// As [`result_timeout`](Self::result_timeout).
    pub fn try_result(&self) -> Result<R, TaskError> {
        self.result_timeout(Duration::ZERO)
    }

    fn result_until(&self, deadline: Deadline) -> Result<R, TaskError> {
        if self.wait_until(deadline) {
            self.take()
        } else {
            Err(TaskError::NotDone)
        }
    }

    fn take(&self) -> Result<R, TaskError> {
        if !self.is_done() {
            // Only in a forked copy nothing will come.
            return Err(TaskError::NotOurs);
        }
        let Some(mut content) = self.content() else {
            return Err(TaskError::NotOurs);
        };
        let outcome = content.outcome.take();
        drop(content);
        outcome.ok_or(TaskError::AlreadyTaken)??.read()
    }
}

impl<R: DeserializeOwned + 'static> std::future::Future for Future<R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.crew.is_ours() {
            return Poll::Ready(self.take());
        }
        let mut content = self.cell.content();
        if self.is_done() {
            drop(content);
            return Poll::Ready(self.take());
        }
        if !content
            .wakers
            .iter()
            .any(|waker| waker.will_wake(context.waker()))
        {
            content.wakers.push(context.waker().clone());
        }
        drop(content);
        // Nobody may be driving: then the supervisor does.
        self.crew.entrust();
        Poll::Pending
    }
}

/// When [`wait_futures`] returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReturnWhen {
    /// When all have their outcome.
    #[default]
    AllCompleted,
    /// When one has.
    FirstCompleted,
    /// When one has failed, or all have their outcome.
    FirstException,
}

/// Waits for several futures: those that have their outcome, and those that have not.
///
/// # Blocking
/// Until what `when` says, or for `timeout`; `None` waits for ever.
///
/// # Examples
/// ```
/// use procession::{Executor, ReturnWhen, wait_futures};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let executor = Executor::new(2)?;
///     let futures = (0..4u32).map(|x| executor.submit(|x| x, x)).collect::<Result<Vec<_>, _>>()?;
///     let (done, pending) = wait_futures(futures, None, ReturnWhen::AllCompleted);
///     assert_eq!((done.len(), pending.len()), (4, 0));
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `concurrent.futures.wait`
pub fn wait_futures<R>(
    futures: impl IntoIterator<Item = Future<R>>,
    timeout: Option<Duration>,
    when: ReturnWhen,
) -> (Vec<Future<R>>, Vec<Future<R>>) {
    let futures: Vec<_> = futures.into_iter().collect();
    let deadline = timeout.and_then(deadline_after);
    let failed = |future: &Future<R>| {
        let content = future.content();
        future.is_done() && content.is_some_and(|content| matches!(content.outcome, Some(Err(_))))
    };
    // Copies that a fork made: what they have, they have; nothing more will come.
    let awaited: Vec<_> = futures.iter().filter(|future| future.is_ours()).collect();
    let all = || awaited.iter().all(|future| future.is_done());
    let is_enough = || match when {
        ReturnWhen::AllCompleted => all(),
        ReturnWhen::FirstCompleted => awaited.is_empty() || futures.iter().any(Future::is_done),
        ReturnWhen::FirstException => futures.iter().any(failed) || all(),
    };
    wait_any_crew(&awaited, &is_enough, deadline);
    futures.into_iter().partition(Future::is_done)
}

/// Waits on the crew of the futures; if they are of several, in turn.
fn wait_any_crew<R>(futures: &[&Future<R>], is_enough: &dyn Fn() -> bool, deadline: Deadline) {
    let Some(first) = futures.first() else { return };
    if futures
        .iter()
        .all(|future| future.crew.is_same(&first.crew))
    {
        first.crew.wait(is_enough, deadline);
        return;
    }
    let turn = Duration::from_millis(2);
    while !is_enough() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        for future in futures.iter().filter(|future| !future.is_done()) {
            future.crew.entrust();
        }
        if let Some(open) = futures.iter().find(|future| !future.is_done()) {
            open.crew.wait(is_enough, deadline_after(turn));
        }
    }
}

/// The futures, each as soon as it has its outcome.
///
/// # Blocking
/// `next` waits for the next one.
///
/// # Examples
/// ```
/// use procession::{Executor, as_completed};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let executor = Executor::new(2)?;
///     let futures = (0..4u32).map(|x| executor.submit(|x| x, x)).collect::<Result<Vec<_>, _>>()?;
///     let sum: u32 = as_completed(futures).map(|future| future.result()).sum::<Result<_, _>>()?;
///     assert_eq!(sum, 6);
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `concurrent.futures.as_completed`
pub fn as_completed<R>(futures: impl IntoIterator<Item = Future<R>>) -> AsCompleted<R> {
    let futures: Vec<_> = futures.into_iter().map(Some).collect();
    let arrived = Arc::new(Mutex::new(std::collections::VecDeque::new()));
    for (index, future) in futures.iter().enumerate() {
        let arrived = Arc::clone(&arrived);
        let Some(future) = future else { continue };
        if future.is_ours() {
            future.on_done(move || lock(&arrived).push_back(index));
        } else {
            // A copy that a fork made: nothing will come, and its result says so.
            lock(&arrived).push_back(index);
        }
    }
    AsCompleted {
        left: futures.len(),
        futures,
        arrived,
    }
}

type Arrived = Mutex<std::collections::VecDeque<usize>>;

fn lock(arrived: &Arrived) -> MutexGuard<'_, std::collections::VecDeque<usize>> {
    arrived.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Made by [`as_completed`].
#[derive(Debug)]
pub struct AsCompleted<R> {
    futures: Vec<Option<Future<R>>>,
    arrived: Arc<Arrived>,
    left: usize,
}

impl<R> Iterator for AsCompleted<R> {
    type Item = Future<R>;

    fn next(&mut self) -> Option<Future<R>> {
        if self.left == 0 {
            return None;
        }
        let turn = Duration::from_millis(2);
        loop {
            if let Some(index) = lock(&self.arrived).pop_front() {
                self.left -= 1;
                return self.futures[index].take();
            }
            let mut open = self.futures.iter().flatten();
            let first = open.next()?;
            let same = open.all(|future| future.crew.is_same(&first.crew));
            let deadline = if same { None } else { deadline_after(turn) };
            first
                .crew
                .wait(&|| !lock(&self.arrived).is_empty(), deadline);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<R> ExactSizeIterator for AsCompleted<R> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Executor;
    use crate::sys::atfork::child_comes_through;
    use std::sync::Barrier;

    /// What a child may ask of its parent's futures.
    #[test]
    fn a_copy_never_waits() {
        static GATE: Barrier = Barrier::new(2);
        let executor = Executor::threads(1).expect("threads");
        let submit = || executor.submit(|()| GATE.wait().is_leader(), ());
        let future = submit().expect("future");
        let many = executor
            .map_with(&super::super::TaskOptions::new(), |x: u8| x, [1u8])
            .expect("map");
        let (cell, arrivals) = (Arc::clone(&future.cell), many.arrivals());
        let act = || {
            assert!(!future.is_cancelled() && !future.cancel());
            future.on_done(|| ());
            assert_eq!(future.result(), Err(TaskError::NotOurs));
            let mut context = Context::from_waker(Waker::noop());
            let (mut one, two) = (future, many);
            let polled = std::future::Future::poll(Pin::new(&mut one), &mut context);
            assert_eq!(polled, Poll::Ready(Err(TaskError::NotOurs)));
            assert!(!two.is_done() && two.results().is_err());
            two.on_done(|| ());
            let (done, pending) = wait_futures([one], None, ReturnWhen::AllCompleted);
            assert_eq!((done.len(), pending.len()), (0, 1));
            assert_eq!(as_completed(pending).count(), 1);
        };
        let hold = || (cell.content.lock(), arrivals.content());
        assert!(child_comes_through(hold, act));
        GATE.wait();
    }
}
