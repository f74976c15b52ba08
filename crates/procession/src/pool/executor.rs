//! Executor: workers for tasks of all kinds, with futures.

use super::builder::PoolBuilder;
use super::crew::Crew;
use super::error::{PoolError, SubmitError};
use super::feed::Feed;
use super::future::Future;
use super::map::{Map, MapFuture};
use super::task::TaskOptions;
use crate::process::Portable;
use crate::sync::deadline_after;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Workers (processes, or threads) to which tasks are submitted one by one, each with a [`Future`].
///
/// The same engine as [`Pool`](crate::Pool), with the interface of `concurrent.futures`. Dropping it ends it at once; [`shutdown`](Executor::shutdown) lets it finish.
///
/// # Crash safety
/// As [`Pool`](crate::Pool).
///
/// # Examples
/// ```
/// use procession::{Executor, TaskOptions};
/// use std::time::Duration;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let executor = Executor::new(2)?;
///     let careful = TaskOptions::new().timeout(Duration::from_secs(10)).retries(1);
///     let future = executor.submit_with(careful, |x: f64| x.sqrt(), 2.0)?;
///     assert!((future.result()? - 1.4142).abs() < 0.001);
///     executor.shutdown();
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `procession.futures.ProcessPoolExecutor`, and `ThreadPoolExecutor`
#[doc(alias = "ProcessPoolExecutor")]
pub struct Executor {
    crew: Crew,
    /// It is not to be ended when it is dropped.
    runs_on: AtomicBool,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("workers", &self.workers())
            .finish_non_exhaustive()
    }
}

impl Executor {
    pub(super) fn of(crew: Crew) -> Self {
        Self {
            crew,
            runs_on: AtomicBool::new(false),
        }
    }

    /// An executor of so many processes, with no special options. Zero runs tasks inline.
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn new(workers: usize) -> Result<Self, PoolError> {
        Self::builder().workers(workers).build_executor()
    }

    /// An executor of so many threads of this process.
    ///
    /// # Errors
    /// [`PoolError`].
    #[doc(alias = "ThreadPoolExecutor")]
    pub fn threads(workers: usize) -> Result<Self, PoolError> {
        Self::builder().threads().workers(workers).build_executor()
    }

    /// An executor with options; end with [`build_executor`](PoolBuilder::build_executor).
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// How many workers there are, or, inline, 0.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.crew.size()
    }

    /// Submits one task.
    ///
    /// # Errors
    /// [`SubmitError`]: the executor was shut down or is broken, or the arguments cannot be sent.
    ///
    /// # Examples
    /// See [`Future`].
    pub fn submit<A: Portable, R: Portable>(
        &self,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<Future<R>, SubmitError> {
        let future = self.crew.future(function, arguments, None)?;
        self.crew.entrust();
        Ok(future)
    }

    /// Submits one task with options: time limit, retries, priority, name.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_with<A: Portable, R: Portable>(
        &self,
        options: TaskOptions,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<Future<R>, SubmitError> {
        let future = self
            .crew
            .future(function, arguments, Some(Box::new(options)))?;
        self.crew.entrust();
        Ok(future)
    }

    /// The results of `function` over the items, in order of the items, as they come. See [`Map`].
    pub fn map<'a, A: Portable, R: Portable>(
        &self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A, IntoIter: 'a>,
    ) -> Map<'a, A, R> {
        Map::new(self.crew.clone(), function, items, true)
    }

    /// A map whose items are pushed; its results come in order of the items, or as they are done. See [`Feed`].
    pub fn feed<A: Portable, R: Portable>(
        &self,
        function: fn(A) -> R,
        ordered: bool,
    ) -> Feed<A, R> {
        Feed::new(self.crew.clone(), function, ordered)
    }

    /// Submits all items at once, each with these options, and gives a handle to all their results.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn map_with<A: Portable, R: Portable>(
        &self,
        options: &TaskOptions,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapFuture<R>, SubmitError> {
        MapFuture::start(&self.crew, function, items, Some(options))
    }

    /// Takes no more tasks and waits until all are done and the workers have ended.
    ///
    /// # Blocking
    /// Until then.
    pub fn shutdown(&self) {
        self.crew.join(None);
    }

    /// As [`shutdown`](Self::shutdown), waiting at most `timeout`; whether all is done.
    pub fn shutdown_timeout(&self, timeout: Duration) -> bool {
        self.crew.join(deadline_after(timeout))
    }

    /// Cancels all tasks that no worker has begun.
    ///
    /// # Examples
    /// ```
    /// use procession::{Executor, TaskError};
    ///
    /// let executor = Executor::threads(1)?;
    /// let futures = (0..3).map(|_| executor.submit(|()| std::thread::sleep(std::time::Duration::from_millis(20)), ()));
    /// let futures: Vec<_> = futures.collect::<Result<_, _>>()?;
    /// executor.cancel_pending();
    /// assert_eq!(futures[2].result(), Err(TaskError::Cancelled));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "cancel_futures")]
    pub fn cancel_pending(&self) {
        self.crew.abandon(None);
    }

    /// Whether it was closed, all is done and all workers have ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.crew.is_finished()
    }

    /// Whether the calling process made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.crew.is_ours()
    }

    /// Takes no more tasks, and does not wait: tasks that were submitted are done if the executor lives long enough.
    #[doc(alias = "wait=False")]
    pub fn close(&self) {
        self.crew.close();
    }

    /// Takes no more tasks, and from now on lets the executor do what it was given although it is dropped; it ends by itself then. Without this, dropping ends it at once.
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let executor = procession::Executor::new(1)?;
    ///     let future = executor.submit(|x: u8| x + 1, 1)?;
    ///     executor.let_run();
    ///     drop(executor);
    ///     assert_eq!(future.result(), Ok(2));
    ///     Ok(())
    /// }
    /// ```
    pub fn let_run(&self) {
        self.crew.close();
        self.runs_on.store(true, Ordering::Relaxed);
    }

    /// Takes no more tasks, ends those that run by killing their workers, and fails all that are not done with [`TaskError::Terminated`](crate::TaskError::Terminated).
    #[doc(alias = "kill_workers")]
    pub fn terminate(&self) {
        self.crew.terminate();
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if !*self.runs_on.get_mut() {
            self.crew.terminate();
        }
    }
}
