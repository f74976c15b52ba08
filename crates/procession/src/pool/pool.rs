//! Pool: workers for many tasks of few kinds.

use super::builder::PoolBuilder;
use super::crew::Crew;
use super::error::{PoolError, SubmitError, TaskError};
use super::function::TaskFunction;
use super::future::Future;
use super::map::{Map, MapFuture};
use super::task::TaskOptions;
use crate::process::Portable;
use crate::sync::deadline_after;
use std::fmt;
use std::time::Duration;

/// Workers (processes, or threads) that run functions over many items and bring the results back in order.
///
/// Functions are `fn` items or closures that capture nothing; arguments and results are any serde types, and may contain queues, locks, buffers and other shared
/// objects. Small tasks travel in batches sized by how long they take, so `map` is worth it for functions of a few microseconds.
///
/// Dropping a pool ends it at once, as [`terminate`](Pool::terminate) does. To let it finish: [`close`](Pool::close) and [`join`](Pool::join).
///
/// # Crash safety
/// A worker that dies, of whatever, costs exactly the task that it was running: that one fails with [`TaskError::WorkerDied`], which says how, or is tried again
/// ([`TaskOptions::retries`]). All other tasks never notice, and the worker is replaced. If this process dies, so do its workers.
///
/// # Examples
/// ```
/// use procession::Pool;
///
/// fn is_prime(n: u64) -> bool {
///     n > 1 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init(); // first in main: workers begin here, too
///     let pool = Pool::new(2)?;
///     let primes = pool.map(is_prime, 0..100)?;
///     assert_eq!(primes.iter().filter(|prime| **prime).count(), 25);
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `procession.Pool`, and `procession.pool.ThreadPool`
pub struct Pool {
    crew: Crew,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.workers())
            .finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn of(crew: Crew) -> Self {
        Self { crew }
    }

    /// A pool of so many processes, with no special options. Zero runs tasks inline ([`PoolBuilder::workers`]).
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn new(workers: usize) -> Result<Self, PoolError> {
        Self::builder().workers(workers).build()
    }

    /// A pool of so many threads of this process.
    ///
    /// # Errors
    /// [`PoolError`].
    ///
    /// # Examples
    /// ```
    /// let pool = procession::Pool::threads(2)?;
    /// assert_eq!(pool.map(|x: u8| x + 1, [1, 2])?, [2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ThreadPool")]
    pub fn threads(workers: usize) -> Result<Self, PoolError> {
        Self::builder().threads().workers(workers).build()
    }

    /// A pool with options. See [`PoolBuilder`].
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// How many workers there are, or, inline, 0.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.crew.size()
    }

    /// Runs one task and waits for its result.
    ///
    /// # Blocking
    /// Until the task is done.
    ///
    /// # Errors
    /// [`TaskError`].
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(1)?;
    ///     assert_eq!(pool.apply(|(a, b)| a + b, (1, 2))?, 3);
    ///     Ok(())
    /// }
    /// ```
    pub fn apply<A: Portable, R: Portable>(
        &self,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<R, TaskError> {
        self.crew.future(function, arguments, None)?.result()
    }

    /// Submits one task.
    ///
    /// # Errors
    /// [`SubmitError`]: the pool is closed or broken, or the arguments cannot be sent.
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(1)?;
    ///     let length = pool.apply_async(|word: String| word.len(), "seven".to_owned())?;
    ///     assert_eq!(length.result()?, 5);
    ///     Ok(())
    /// }
    /// ```
    pub fn apply_async<A: Portable, R: Portable>(
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
    /// As [`apply_async`](Self::apply_async).
    pub fn apply_with<A: Portable, R: Portable>(
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

    /// Runs `function` over all items and waits for the results, in order of the items.
    ///
    /// The input is read as workers free up. For options (chunk size, retries, progress): `pool.imap(..).chunk_size(10).collect()`.
    ///
    /// # Blocking
    /// Until all items are done, or one has failed.
    ///
    /// # Errors
    /// The first item's that failed, in order of the items; what no worker has begun by then is not run.
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(2)?;
    ///     let words = ["a", "bc"].map(str::to_owned);
    ///     assert_eq!(pool.map(|word: String| word.len(), words)?, [1, 2]);
    ///     Ok(())
    /// }
    /// ```
    pub fn map<A: Portable, R: Portable>(
        &self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, TaskError> {
        self.imap(function, items).all()
    }

    /// Submits all items at once (the input must end) and gives a handle to all their results.
    ///
    /// # Errors
    /// As [`apply_async`](Self::apply_async).
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(2)?;
    ///     let squares = pool.map_async(|x: u32| x * x, 1..=3)?;
    ///     assert_eq!(squares.result()?, [1, 4, 9]);
    ///     Ok(())
    /// }
    /// ```
    pub fn map_async<A: Portable, R: Portable>(
        &self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<MapFuture<R>, SubmitError> {
        MapFuture::start(&self.crew, function, items, None)
    }

    /// As [`map`](Self::map), for functions of several arguments.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    ///
    /// # Examples
    /// ```
    /// fn power(base: u64, exponent: u32) -> u64 {
    ///     base.pow(exponent)
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(2)?;
    ///     assert_eq!(pool.starmap(power as fn(u64, u32) -> u64, [(2, 3), (3, 2)])?, [8, 9]);
    ///     Ok(())
    /// }
    /// ```
    pub fn starmap<F: TaskFunction>(
        &self,
        function: F,
        items: impl IntoIterator<Item = F::Arguments>,
    ) -> Result<Vec<F::Output>, TaskError> {
        Map::new(self.crew.clone(), function, items, true).all()
    }

    /// As [`map_async`](Self::map_async), for functions of several arguments.
    ///
    /// # Errors
    /// As [`apply_async`](Self::apply_async).
    pub fn starmap_async<F: TaskFunction>(
        &self,
        function: F,
        items: impl IntoIterator<Item = F::Arguments>,
    ) -> Result<MapFuture<F::Output>, SubmitError> {
        MapFuture::start(&self.crew, function, items, None)
    }

    /// The results of `function` over the items, in order of the items, as they come. See [`Map`].
    pub fn imap<'a, A: Portable, R: Portable>(
        &self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A, IntoIter: 'a>,
    ) -> Map<'a, A, R> {
        Map::new(self.crew.clone(), function, items, true)
    }

    /// The results of `function` over the items, in the order in which they are done. See [`Map`].
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(2)?;
    ///     let sum: u64 = pool.imap_unordered(|x: u64| x * x, 1..=3).sum::<Result<_, _>>()?;
    ///     assert_eq!(sum, 14);
    ///     Ok(())
    /// }
    /// ```
    pub fn imap_unordered<'a, A: Portable, R: Portable>(
        &self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A, IntoIter: 'a>,
    ) -> Map<'a, A, R> {
        Map::new(self.crew.clone(), function, items, false)
    }

    /// Takes no more tasks; workers end when they have done what there is.
    pub fn close(&self) {
        self.crew.close();
    }

    /// Closes the pool and waits until all tasks are done and all workers have ended.
    ///
    /// # Blocking
    /// Until then.
    pub fn join(&self) {
        self.crew.join(None);
    }

    /// As [`join`](Self::join), waiting at most `timeout`; whether all is done.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.crew.join(deadline_after(timeout))
    }

    /// Ends the pool at once: worker processes are killed, and tasks that are not done have [`TaskError::Terminated`]. Threads cannot be killed: they end after the task
    /// that they run.
    ///
    /// # Blocking
    /// For the moment that it takes the system to end the processes.
    pub fn terminate(&self) {
        self.crew.terminate();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.crew.terminate();
    }
}
