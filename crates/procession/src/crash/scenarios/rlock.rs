//! Re-entrant locks: all that a lock goes through, and taken several times.

use super::super::{Fault, Shared as Table};
use super::lock::{self, Exclusive, SOON};
use super::stage::{Act, Helper};
use crate::RLock;
use crate::family::{Owner, Waiter};
use crate::sync::raw::{RLockError, TimedOut};
use crate::sync::{SharedRLock, this_thread};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

impl Exclusive for SharedRLock {
    const NAME: &'static str = "rlock";

    fn take(&self, limit: Option<Duration>) -> Result<bool, TimedOut> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        match self.raw.acquire(&Waiter::new(), this_thread(), deadline) {
            Ok(acquired) => Ok(acquired.recovered),
            Err(RLockError::TimedOut | RLockError::Overflow) => Err(TimedOut),
        }
    }

    fn give(&self) {
        let _ = self.raw.release(&Waiter::new(), this_thread());
    }

    fn owner(&self) -> Option<Owner> {
        self.raw.owner()
    }
}

#[test]
fn crash_rlock_uncontended() {
    lock::uncontended::<SharedRLock>();
}

#[test]
fn crash_rlock_contended() {
    lock::contended::<SharedRLock>();
}

#[test]
fn crash_rlock_waited_for() {
    lock::waited_for::<SharedRLock>();
}

#[test]
fn crash_rlock_taken_over() {
    lock::taken_over::<SharedRLock>();
}

/// Whatever depth a dead owner had come to, the next one begins at one.
fn begins_anew(lock: &RLock) -> Result<bool, Fault> {
    let Ok(guard) = lock.acquire_timeout(SOON.unwrap_or_default()) else {
        return Err(Fault::Wedged("the rlock cannot be taken".into()));
    };
    let recovered = guard.recovered();
    let depth = lock.depth();
    drop(guard);
    if depth == 1 && !lock.is_held() && !lock.is_locked() {
        Ok(recovered)
    } else {
        Err(format!("taken once after a death, the rlock is {depth} deep").into())
    }
}

#[test]
fn crash_rlock_nested() {
    Act::new(
        "rlock acquire and release, three deep",
        || (RLock::new().expect("rlock"), Cell::new(false)),
        |_| (),
        |(lock, _), ()| {
            let _ = (lock.acquire(), lock.acquire(), lock.acquire());
        },
    )
    .witness(|(lock, died_in)| died_in.set(lock.is_locked()))
    .judge(|(lock, died_in), _| {
        let recovered = begins_anew(&lock)?;
        if recovered != died_in.get() {
            return Err(format!("recovered: {recovered}, died in possession: {died_in:?}").into());
        }
        begins_anew(&lock).map(drop)
    })
    .play();
}

/// The victim has it twice and gives it back twice while somebody sleeps for it.
#[test]
fn crash_rlock_nested_waited_for() {
    const HELD: usize = 0;
    const LEAVING: usize = 1;
    const TAKEN: usize = 2;
    let props = || {
        let lock = RLock::new().expect("rlock");
        let stage = Table::<[AtomicU64; 3]>::new();
        let helper = Helper::start(&mut || {
            while stage[HELD].load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let guard = lock.acquire();
            // Only a dead owner lets somebody in before its last release.
            assert!(guard.recovered() || stage[LEAVING].load(Ordering::SeqCst) == 1);
            stage[TAKEN].store(1, Ordering::SeqCst);
        });
        (lock, helper, stage)
    };
    Act::new(
        "rlock release, two deep, a waiter asleep",
        props,
        |(lock, helper, stage)| {
            lock.acquire().into_held();
            lock.acquire().into_held();
            stage[HELD].store(1, Ordering::SeqCst);
            helper.until_asleep();
        },
        |(lock, _, stage), ()| {
            assert_eq!(lock.release(), Ok(()));
            stage[LEAVING].store(1, Ordering::SeqCst);
            assert_eq!(lock.release(), Ok(()));
        },
    )
    .judge(|(lock, helper, stage), _| {
        helper.joins()?;
        if stage[TAKEN].load(Ordering::SeqCst) != 1 {
            return Err(Fault::Wedged("the waiter did not get it".into()));
        }
        begins_anew(&lock).map(drop)
    })
    .play();
}
