//! Our pools and executors, of processes (and, where a case says so, of threads).
//!
//! A pool is started anew each round, has answered before the clock starts, and is dropped after it has stopped.

use crate::buffers::{check, mark};
use crate::harness::Result;
use crate::pool::{Kind, LARGE, both, expect_sum, spin, square};
use procession::{Barrier, Buffer, Executor, Future, Pool, PoolBuilder, StartMethod};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Tasks before the clock starts.
const WARM_UP: u64 = 2_000;
/// Buffers before the clock starts.
const WARM_UP_BUFFERS: u64 = 3;
/// Buffers that may be ahead of their reader.
const BUFFERS_AHEAD: usize = 2;

fn builder(kind: Kind, workers: usize) -> PoolBuilder {
    let builder = Pool::builder().workers(workers);
    match kind {
        Kind::Spawn => builder.start_method(StartMethod::Spawn),
        Kind::Forkserver => builder.start_method(StartMethod::Forkserver),
        Kind::Threads => builder.threads(),
    }
}

/// Starts a pool and has it warmed up.
fn warm(kind: Kind, workers: usize) -> Result<Pool> {
    let pool = builder(kind, workers).build()?;
    pool.map(square, 0..WARM_UP)?;
    Ok(pool)
}

/// How the results of many tiny tasks come back.
#[derive(Clone, Copy)]
pub(crate) enum Bulk {
    Map,
    Unordered,
    /// So many items are one task.
    Chunks(usize),
}

/// Squares that many numbers.
pub(crate) fn bulk(kind: Kind, bulk: Bulk, operations: u64) -> Result<Duration> {
    let pool = warm(kind, crate::pool::WORKERS)?;
    let started = Instant::now();
    let sum = match bulk {
        Bulk::Map => sum(pool.map(square, 0..operations)?),
        Bulk::Unordered => pool
            .imap_unordered(square, 0..operations)
            .try_fold(0_u64, |sum, result| -> Result<u64> {
                Ok(sum.wrapping_add(result?))
            })?,
        Bulk::Chunks(size) => {
            let results = pool.imap(square, 0..operations).chunk_size(size);
            sum(results.collect::<std::result::Result<Vec<_>, _>>()?)
        }
    };
    let elapsed = started.elapsed();
    expect_sum(operations, sum)?;
    Ok(elapsed)
}

fn sum(results: Vec<u64>) -> u64 {
    results.into_iter().fold(0, u64::wrapping_add)
}

/// One task after the other, each begun when the one before is done; after a pause that is not counted, if there is one.
pub(crate) fn one_by_one(kind: Kind, operations: u64, pause: Option<Duration>) -> Result<Duration> {
    let pool = warm(kind, crate::pool::WORKERS)?;
    crate::pool::in_turn(operations, pause, |number| Ok(pool.apply(square, number)?))
}

/// Submits tasks to an executor by lots and then asks for the results of the lot.
pub(crate) fn futures(kind: Kind, operations: u64, lot: u64) -> Result<Duration> {
    let executor: Executor = builder(kind, crate::pool::WORKERS).build_executor()?;
    executor
        .map(square, 0..WARM_UP)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let mut total = 0_u64;
    let started = Instant::now();
    for first in (0..operations).step_by(lot as usize) {
        let last = operations.min(first + lot);
        let futures: Vec<Future<u64>> = (first..last)
            .map(|number| executor.submit(square, number))
            .collect::<std::result::Result<_, _>>()?;
        for future in futures {
            total = total.wrapping_add(future.result()?);
        }
    }
    let elapsed = started.elapsed();
    expect_sum(operations, total)?;
    Ok(elapsed)
}

/// That many tasks that spin, over so many workers.
pub(crate) fn spins(kind: Kind, workers: usize, tasks: u64, turns: u64) -> Result<Duration> {
    let pool = warm(kind, workers)?;
    // The pool learns how long such a task takes before the clock starts, as it would early in a long map.
    pool.map(spin, (0..2 * workers).map(|_| turns))?;
    let started = Instant::now();
    let results = pool.map(spin, (0..tasks).map(|_| turns))?;
    let elapsed = started.elapsed();
    crate::pool::expect_spun(&results, tasks, turns)?;
    Ok(elapsed)
}

// ---- buffers ----------------------------------------------------------------------------------------------

/// Private bytes, marked anew, become a `Buffer` that a worker reads.
pub(crate) fn buffer_arguments(operations: u64) -> Result<Duration> {
    let pool = builder(Kind::Spawn, 1).build()?;
    let mut source = vec![0_u8; LARGE];
    let mut send = |count: u64| -> Result<()> {
        let buffers = (0..count).map(|number| {
            mark(&mut source, number);
            let buffer = Buffer::from_slice(&source).expect("room for a buffer");
            (buffer, number)
        });
        let mut results = pool.imap(read_buffer, buffers).look_ahead(BUFFERS_AHEAD);
        results.try_for_each(|result| Ok(result?))
    };
    send(WARM_UP_BUFFERS)?;
    let started = Instant::now();
    send(operations)?;
    Ok(started.elapsed())
}

fn read_buffer((buffer, number): (Buffer, u64)) {
    check(&buffer, LARGE, number).expect("marks");
}

/// The same the other way: a worker's private bytes become a `Buffer` that this process reads.
pub(crate) fn buffer_results(operations: u64) -> Result<Duration> {
    let pool = builder(Kind::Spawn, 1).build()?;
    let receive = |count: u64| -> Result<()> {
        let results = pool.imap(write_buffer, 0..count).look_ahead(BUFFERS_AHEAD);
        (0..count)
            .zip(results)
            .try_for_each(|(number, buffer)| check(&buffer?, LARGE, number))
    };
    receive(WARM_UP_BUFFERS)?;
    let started = Instant::now();
    receive(operations)?;
    Ok(started.elapsed())
}

thread_local! {
    /// The private bytes of a worker.
    static SOURCE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn write_buffer(number: u64) -> Buffer {
    SOURCE.with_borrow_mut(|source| {
        source.resize(LARGE, 0);
        mark(source, number);
        Buffer::from_slice(source).expect("room for a buffer")
    })
}

// ---- start ------------------------------------------------------------------------------------------------

/// Starts pools until both workers have answered; ends them off the clock.
pub(crate) fn start(kind: Kind, operations: u64) -> Result<Duration> {
    // A forkserver's template is started before the clock.
    answered(kind)?;
    let mut elapsed = Duration::ZERO;
    for _ in 0..operations {
        let started = Instant::now();
        let (pool, _) = answered(kind)?;
        elapsed += started.elapsed();
        drop(pool);
    }
    Ok(elapsed)
}

/// Starts pools, has both workers answer, closes and joins them.
pub(crate) fn cycle(kind: Kind, operations: u64) -> Result<Duration> {
    answered(kind)?;
    let started = Instant::now();
    for _ in 0..operations {
        let (pool, _) = answered(kind)?;
        pool.close();
        pool.join();
    }
    Ok(started.elapsed())
}

/// Private memory of a worker that has answered and has nothing to do.
pub(crate) fn idle_memory(kind: Kind) -> Result<f64> {
    let (pool, workers) = answered(kind)?;
    let memory = crate::pool::mean_private_memory(&workers);
    drop(pool);
    memory
}

/// A pool of two, both of whom have answered with their process id.
fn answered(kind: Kind) -> Result<(Pool, [u32; 2])> {
    let pool = builder(kind, 2).build()?;
    let meeting = Barrier::new(2)?;
    let first = pool.apply_async(meet, meeting.clone())?;
    let second = pool.apply_async(meet, meeting)?;
    let workers = [first.result()?, second.result()?];
    if kind != Kind::Threads {
        both(workers)?;
    }
    Ok((pool, workers))
}

/// Waits for the other worker, so that neither can run both tasks.
fn meet(meeting: Barrier) -> u32 {
    meeting.wait().expect("the other worker");
    std::process::id()
}
