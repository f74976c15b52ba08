//! Lock: a lock and unlock, alone with nothing in between, and between two processes with one addition.

use crate::floor::{Robustness, SharedMutex};
use crate::harness::helper::{Helper, say};
use crate::harness::{Case, Result, Subject, Target, Unit};
use crate::ours;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Additions before the clock starts.
const WARM_UP: u64 = 20_000;

pub(crate) fn cases() -> Vec<Case> {
    let uncontended = Case {
        title: "lock: lock+unlock, uncontended",
        unit: Unit::NANOSECONDS,
        subjects: vec![
            Subject::ours(ours::lock_uncontended),
            Subject::peer("std::sync::Mutex, one process only", std_mutex).into_floor(),
            Subject::peer("pthread mutex, shared", |operations| {
                uncontended(operations, Robustness::Plain)
            })
            .into_floor(),
            Subject::peer("pthread mutex, shared and robust", |operations| {
                uncontended(operations, Robustness::Robust)
            })
            .into_floor(),
        ],
        target: Some(Target::Figure(15.0)),
    };
    let contended = Case {
        title: "lock: lock+unlock, contended by 2 processes",
        unit: Unit::MILLION_PAIRS,
        subjects: vec![
            Subject::ours(ours::lock_contended),
            Subject::peer("pthread mutex, shared", |operations| {
                contended(operations, Robustness::Plain)
            })
            .into_floor(),
            Subject::peer("pthread mutex, shared and robust", |operations| {
                contended(operations, Robustness::Robust)
            })
            .into_floor(),
        ],
        target: None,
    };
    vec![uncontended, contended]
}

fn std_mutex(operations: u64) -> Result<Duration> {
    let mutex = Mutex::new(0_u64);
    let started = Instant::now();
    for _ in 0..operations {
        drop(
            black_box(&mutex)
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
    Ok(started.elapsed())
}

fn uncontended(operations: u64, robustness: Robustness) -> Result<Duration> {
    let mutex = SharedMutex::create(robustness)?;
    let started = Instant::now();
    for _ in 0..operations {
        mutex.with(|| ())?;
    }
    Ok(started.elapsed())
}

/// Both processes add until the counter says that many, so that they contend to the very end. The clock starts when both
/// have been at it for a while.
fn contended(operations: u64, robustness: Robustness) -> Result<Duration> {
    let mutex = SharedMutex::create(robustness)?;
    let total = WARM_UP + operations;
    let mut helper = Helper::start(
        "lock",
        &["contend", &mutex.invitation(), &total.to_string()],
    )?;
    helper.expect("ready")?;
    mutex.start().store(1, Release);
    let clocked_from = add_until(&mutex, WARM_UP)?;
    let started = Instant::now();
    add_until(&mutex, total)?;
    helper.expect("done")?;
    let elapsed = started.elapsed();
    helper.finish()?;
    // Where the other process had the lock just then, fewer additions than asked for were clocked.
    let clocked = total.saturating_sub(clocked_from).max(1);
    Ok(elapsed.mul_f64(operations as f64 / clocked as f64))
}

/// Plays the other process of [`contended`].
pub(crate) fn help(arguments: &[&str]) -> Result<()> {
    let &["contend", invitation, operations] = arguments else {
        return Err("lock helper: contend, invitation and operations expected".into());
    };
    let mutex = SharedMutex::open(invitation)?;
    say("ready")?;
    // Pairs with the Release in `contended`.
    while mutex.start().load(Acquire) == 0 {
        spin_loop();
    }
    add_until(&mutex, operations.parse()?)?;
    say("done")
}

/// Adds until the counter says that many or more; returns what it says.
fn add_until(mutex: &SharedMutex, operations: u64) -> Result<u64> {
    loop {
        match mutex.with(|| add(mutex))? {
            count if count >= operations => return Ok(count),
            _ => {}
        }
    }
}

/// Adds one to the counter, whose mutex is held, and returns it.
fn add(mutex: &SharedMutex) -> u64 {
    let count = mutex.counter().load(Relaxed) + 1;
    mutex.counter().store(count, Relaxed);
    count
}
