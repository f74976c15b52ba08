//! procspawn's pool, as its documentation shows it: spawn everything, then join the handles.
//!
//! Each call in flight takes two channels of ipc-channel, four descriptors, of this process, and it panics where there are none left. So
//! at most [`WINDOW`] are in flight, which fits the usual limit of 1024; more were not faster.

use crate::buffers::{check, mark};
use crate::harness::Result;
use crate::pool::{LARGE, WORKERS, both, expect_sum, square};
use procspawn::{JoinHandle, Pool};
use serde::{Serialize, de::DeserializeOwned};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Calls in flight.
const WINDOW: usize = 128;
/// Longest time for one call, far above what any needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tasks before the clock starts.
const WARM_UP: u64 = 100;

fn join<R: Serialize + DeserializeOwned>(mut handle: JoinHandle<R>) -> Result<R> {
    Ok(handle.join_timeout(PATIENCE)?)
}

/// Calls the function with all items, a window of them in flight, and hands over the results in order.
fn for_each<A, R>(
    pool: &Pool,
    window: usize,
    items: impl Iterator<Item = A>,
    function: fn(A) -> R,
    mut result: impl FnMut(R) -> Result<()>,
) -> Result<()>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    let mut flying = VecDeque::with_capacity(window);
    for item in items {
        if flying.len() == window
            && let Some(oldest) = flying.pop_front()
        {
            result(join(oldest)?)?;
        }
        flying.push_back(pool.spawn(item, function));
    }
    flying
        .into_iter()
        .try_for_each(|handle| result(join(handle)?))
}

fn warm() -> Result<Pool> {
    let pool = Pool::new(WORKERS)?;
    for_each(&pool, WINDOW, 0..WARM_UP, square, |_| Ok(()))?;
    Ok(pool)
}

/// Squares that many numbers, one a task.
pub(crate) fn bulk(operations: u64) -> Result<Duration> {
    let pool = warm()?;
    let mut sum = 0_u64;
    let started = Instant::now();
    for_each(&pool, WINDOW, 0..operations, square, |result| {
        sum = sum.wrapping_add(result);
        Ok(())
    })?;
    let elapsed = started.elapsed();
    expect_sum(operations, sum)?;
    Ok(elapsed)
}

/// Squares that many numbers, so many a task.
pub(crate) fn bulk_in_chunks(operations: u64, size: u64) -> Result<Duration> {
    let pool = warm()?;
    let mut sum = 0_u64;
    let started = Instant::now();
    let chunks = (0..operations.div_ceil(size)).map(|at| {
        let first = at * size;
        (first..operations.min(first + size)).collect::<Vec<u64>>()
    });
    for_each(&pool, WINDOW, chunks, square_all, |results| {
        sum = results.into_iter().fold(sum, u64::wrapping_add);
        Ok(())
    })?;
    let elapsed = started.elapsed();
    expect_sum(operations, sum)?;
    Ok(elapsed)
}

fn square_all(numbers: Vec<u64>) -> Vec<u64> {
    numbers.into_iter().map(square).collect()
}

/// One task after the other.
pub(crate) fn one_by_one(operations: u64, pause: Option<Duration>) -> Result<Duration> {
    let pool = warm()?;
    crate::pool::in_turn(operations, pause, |number| join(pool.spawn(number, square)))
}

// ---- large ------------------------------------------------------------------------------------------------

/// Large results that may be ahead of their reader, as many as ours.
const RESULTS_AHEAD: usize = 2;
/// Large arguments: `spawn` blocks until the worker reads them, and the worker gets no second call before the first handle is joined, so
/// one more would wait for ever.
const ARGUMENTS_AHEAD: usize = 1;

/// Marked bytes as an argument.
pub(crate) fn large_arguments(operations: u64) -> Result<Duration> {
    let pool = Pool::new(1)?;
    let mut source = vec![0_u8; LARGE];
    let mut send = |count: u64| {
        let vectors = (0..count).map(|number| {
            mark(&mut source, number);
            (source.clone(), number)
        });
        for_each(&pool, ARGUMENTS_AHEAD, vectors, read_vector, |()| Ok(()))
    };
    send(1)?;
    let started = Instant::now();
    send(operations)?;
    Ok(started.elapsed())
}

fn read_vector((bytes, number): (Vec<u8>, u64)) {
    check(&bytes, LARGE, number).expect("marks");
}

/// Marked bytes as a result.
pub(crate) fn large_results(operations: u64) -> Result<Duration> {
    let pool = Pool::new(1)?;
    let receive = |count: u64| {
        let mut number = 0;
        for_each(&pool, RESULTS_AHEAD, 0..count, write_vector, |bytes| {
            check(&bytes, LARGE, number)?;
            number += 1;
            Ok(())
        })
    };
    receive(1)?;
    let started = Instant::now();
    receive(operations)?;
    Ok(started.elapsed())
}

thread_local! {
    /// The bytes of a worker.
    static SOURCE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn write_vector(number: u64) -> Vec<u8> {
    SOURCE.with_borrow_mut(|source| {
        source.resize(LARGE, 0);
        mark(source, number);
        source.clone()
    })
}

// ---- start ------------------------------------------------------------------------------------------------

/// Starts pools until both workers have answered; ends them off the clock.
pub(crate) fn start(operations: u64) -> Result<Duration> {
    let mut elapsed = Duration::ZERO;
    for _ in 0..operations {
        let started = Instant::now();
        let (pool, _) = answered()?;
        elapsed += started.elapsed();
        drop(pool);
    }
    Ok(elapsed)
}

/// Starts pools, has both workers answer, shuts them down.
pub(crate) fn cycle(operations: u64) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..operations {
        answered()?.0.shutdown();
    }
    Ok(started.elapsed())
}

/// Private memory of a worker that has answered and has nothing to do.
pub(crate) fn idle_memory() -> Result<f64> {
    let (pool, workers) = answered()?;
    let memory = crate::pool::mean_private_memory(&workers);
    drop(pool);
    memory
}

/// A pool of two, both of whom have answered with their process id.
///
/// The thread that carries the first call of a worker takes no other before the handle is joined, so the second call, joined
/// first, is the other worker's.
fn answered() -> Result<(Pool, [u32; 2])> {
    let pool = Pool::new(2)?;
    let first = pool.spawn((), process_id);
    let second = pool.spawn((), process_id);
    let second = join(second)?;
    let workers = [join(first)?, second];
    both(workers)?;
    Ok((pool, workers))
}

fn process_id((): ()) -> u32 {
    std::process::id()
}
