//! rayon: threads of this process, which share everything and die together. What can be had without isolation.

use crate::harness::Result;
use crate::pool::{WORKERS, expect_spun, expect_sum, spin, square};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

fn pool(threads: usize) -> Result<ThreadPool> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| (0..2_000_u64).into_par_iter().map(square).sum::<u64>());
    Ok(pool)
}

/// Squares that many numbers.
pub(crate) fn bulk(operations: u64) -> Result<Duration> {
    let pool = pool(WORKERS)?;
    let started = Instant::now();
    let squares: Vec<u64> = pool.install(|| (0..operations).into_par_iter().map(square).collect());
    let sum = squares.into_iter().fold(0, u64::wrapping_add);
    let elapsed = started.elapsed();
    expect_sum(operations, sum)?;
    Ok(elapsed)
}

/// One task after the other.
pub(crate) fn one_by_one(operations: u64, pause: Option<Duration>) -> Result<Duration> {
    let pool = pool(WORKERS)?;
    crate::pool::in_turn(operations, pause, |number| {
        Ok(pool.install(|| square(number)))
    })
}

/// Spawns tasks by lots, and waits for the results of the lot.
pub(crate) fn spawns(operations: u64, lot: u64) -> Result<Duration> {
    let pool = pool(WORKERS)?;
    let mut sum = 0_u64;
    let started = Instant::now();
    for first in (0..operations).step_by(lot as usize) {
        let (sender, receiver) = channel();
        for number in first..operations.min(first + lot) {
            let sender = sender.clone();
            pool.spawn(move || {
                // The receiver waits for all of them.
                let _ = sender.send(square(number));
            });
        }
        drop(sender);
        sum = receiver.into_iter().fold(sum, u64::wrapping_add);
    }
    let elapsed = started.elapsed();
    expect_sum(operations, sum)?;
    Ok(elapsed)
}

/// That many tasks that spin, over so many threads.
pub(crate) fn spins(threads: usize, tasks: u64, turns: u64) -> Result<Duration> {
    let pool = pool(threads)?;
    let started = Instant::now();
    let results: Vec<u64> =
        pool.install(|| (0..tasks).into_par_iter().map(|_| spin(turns)).collect());
    let elapsed = started.elapsed();
    expect_spun(&results, tasks, turns)?;
    Ok(elapsed)
}
