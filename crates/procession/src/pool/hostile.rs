//! Tests: a task that stops its worker at the worst moment, or overwrites its worker's lanes, harms nobody else.

#![expect(unsafe_code, reason = "init_before_main")]

use super::lane::SharedWorker;
use super::worker::my_lanes;
use crate::heap::{me, the_heap};
use crate::{Future, Pool, TaskError};
use rustix::process::{Signal, getpid, kill_process};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

// Workers start this binary again: it must become the worker before libtest's `main`.
crate::init_before_main!();

/// Runs a test that may hang, which is what it looks for.
fn watched(test: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let begun = Instant::now();
            while !over.load(Ordering::SeqCst) {
                if begun.elapsed() > Duration::from_secs(120) {
                    eprintln!("the pool hangs");
                    std::process::abort();
                }
                std::thread::park_timeout(Duration::from_secs(1));
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        over.store(true, Ordering::SeqCst);
        watch.thread().unpark();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn square(x: u64) -> u64 {
    x * x
}

fn squares(pool: &Pool, count: u64) -> Vec<Future<u64>> {
    (0..count)
        .map(|x| pool.apply_async(square, x).expect("submit"))
        .collect()
}

/// Takes the lock that the worker itself and the pool's `take_back` need, and stops.
fn stop_with_the_lock(_: ()) {
    my_lanes().expect("a worker").tasks.keep_consumers_out();
    kill_process(getpid(), Signal::STOP).expect("stop");
}

#[test]
fn a_worker_stopped_with_the_lock_of_its_lane_keeps_nobody() {
    watched(|| {
        let pool = Pool::new(2).expect("pool");
        for _ in 0..3 {
            let before = squares(&pool, 100);
            let stopped = pool.apply_async(stop_with_the_lock, ()).expect("submit");
            let behind = squares(&pool, 100);
            for (x, future) in before.into_iter().enumerate() {
                assert_eq!(future.result(), Ok(square(x as u64)));
            }
            while !stopped.is_running() {
                std::thread::yield_now();
            }
            assert!(stopped.cancel(), "in bounded time");
            assert_eq!(stopped.result(), Err(TaskError::Cancelled));
            for (x, future) in behind.into_iter().enumerate() {
                assert_eq!(future.result(), Ok(square(x as u64)), "{x}");
            }
        }
    });
}

const WORDS: usize = size_of::<SharedWorker>() / 8;

/// Overwrites one word of the lanes of its own worker with something that may look sensible.
fn scribble((word, kind, owner): (usize, u32, u32)) -> u64 {
    let lanes = my_lanes().expect("a worker");
    let words = the_heap().atomics_at(NonNull::from(&*lanes).cast(), size_of::<SharedWorker>());
    let old = words[word].load(Ordering::SeqCst);
    let new = match kind {
        0 => 0,
        1 => u64::MAX,
        // Somebody who is alive and holds no lock.
        2 => u64::from(owner) << 32 | u64::from(owner),
        _ => old.wrapping_add(1 << 32 | 16),
    };
    words[word].store(new, Ordering::SeqCst);
    7
}

fn is_precise<R: PartialEq + std::fmt::Debug>(result: &Result<R, TaskError>, value: &R) -> bool {
    match result {
        Ok(found) => found == value,
        Err(error) => matches!(error, TaskError::WorkerDied(_)),
    }
}

#[test]
fn a_worker_that_overwrites_its_lanes_is_replaced() {
    watched(|| {
        let pool = Pool::new(2).expect("pool");
        let owner = me().to_word();
        for (word, kind) in (0..WORDS).flat_map(|word| (0..4).map(move |kind| (word, kind))) {
            let before = squares(&pool, 5);
            let call = scribble as fn((usize, u32, u32)) -> u64;
            let scribbler = pool.apply_async(call, (word, kind, owner)).expect("submit");
            let behind = squares(&pool, 20);
            let result = scribbler.result();
            assert!(is_precise(&result, &7), "{word}, {kind}: {result:?}");
            for futures in [before, behind] {
                for (x, future) in futures.into_iter().enumerate() {
                    let result = future.result();
                    let right = is_precise(&result, &square(x as u64));
                    assert!(right, "{word}, {kind}: {result:?}");
                }
            }
        }
        let results = pool.map(square, 0..100).expect("the pool goes on");
        assert!(results.into_iter().eq((0..100).map(square)));
    });
}
