//! Waits in steps: what a step leaves as it was, and what giving up means.
use crate::forked::{SOON, forever, fork, until};
use procession::{Barrier, BarrierError, BoundedSemaphore, Condition, Lock, RLock, WaitError};
use std::time::Instant;

fn soon() -> Instant {
    Instant::now() + SOON
}

#[test]
fn a_wait_keeps_its_place_between_steps() {
    let condition = Condition::new().expect("condition");
    let guard = condition.acquire();
    condition.acquire().into_held();
    guard.into_held();
    let mut wait = condition.begin_wait().expect("held");
    assert!(!wait.step(Instant::now()));
    let notifier = fork(|| {
        let _guard = condition.acquire();
        condition.notify_one() == 1
    });
    assert_eq!(notifier.join(), 0);
    assert!(wait.step(soon()) && wait.leave());
    assert!(!wait.leave(), "left already");
    assert_eq!(wait.come_back(soon()), Ok(false));
    drop(wait);
    assert_eq!(condition.n_waiting(), 0);
    condition.release().expect("as deep as before");
    condition.release().expect("as deep as before");
    assert!(condition.release().is_err());
}

#[test]
fn a_notification_that_is_declined_goes_to_the_next() {
    let lock = Lock::new().expect("lock");
    let condition = Condition::with_lock(&lock).expect("condition");
    lock.acquire().into_held();
    let mut wait = condition.begin_wait().expect("held");
    let other = fork(|| condition.wait_timeout(&mut lock.acquire(), SOON) == Ok(true));
    until("waiting", || condition.n_waiting() == 2);
    assert_eq!(condition.notify_one(), 1);
    assert!(wait.step(soon()));
    wait.decline();
    assert_eq!(other.join(), 0);
    drop(wait);
    assert!(!lock.is_locked(), "nobody came back");
}

#[test]
fn only_who_holds_the_lock_can_wait() {
    let lock = Lock::new().expect("lock");
    let condition = Condition::with_lock(&lock).expect("condition");
    assert_eq!(condition.begin_wait().err(), Some(WaitError::NotHeld));
    let owner = fork(|| {
        lock.acquire().into_held();
        forever()
    });
    until("locked", || lock.is_locked());
    assert!(!lock.is_held());
    assert_eq!(condition.begin_wait().err(), Some(WaitError::NotHeld));
    assert!(condition.release().is_err() && lock.is_locked());
    assert_eq!(condition.n_waiting(), 0);
    owner.kill();
    assert!(lock.acquire_deadline(soon()).expect("free").recovered());
}

#[test]
fn a_lock_whose_owner_died_meanwhile_comes_back_recovered() {
    let lock = RLock::new().expect("lock");
    let condition = Condition::with_rlock(&lock).expect("condition");
    lock.acquire().into_held();
    let mut wait = condition.begin_wait().expect("held");
    let owner = fork(|| {
        lock.acquire().into_held();
        forever()
    });
    until("locked", || lock.is_locked());
    assert!(!lock.is_held_here());
    assert!(wait.come_back(Instant::now()).is_err());
    owner.kill();
    assert_eq!(wait.come_back(soon()), Ok(true));
    assert!(lock.is_held() && lock.is_held_here());
}

#[test]
fn a_step_that_takes_too_long_breaks_nothing() {
    let barrier = Barrier::new(2).expect("barrier");
    let mut arrival = barrier.arrive(soon()).expect("first");
    assert_eq!(arrival.step(Instant::now()), None);
    assert!(!barrier.is_broken() && barrier.n_waiting() == 1);
    let other = fork(|| barrier.wait_timeout(SOON).is_ok());
    let passed = arrival.step(soon()).expect("over").expect("passed");
    assert!(!passed.is_leader());
    assert!(!arrival.expire(), "over");
    assert_eq!(arrival.step(soon()), Some(Err(BarrierError::Broken)));
    assert_eq!(other.join(), 0);
}

#[test]
fn time_cannot_break_a_full_round() {
    let barrier = Barrier::new(2).expect("barrier");
    let mut first = barrier.arrive(soon()).expect("first");
    let last = barrier.arrive(soon()).expect("last");
    assert!(last.is_last() && !first.expire());
    assert_eq!(
        barrier.arrive(Instant::now()).err(),
        Some(BarrierError::TimedOut)
    );
    assert!(last.open().expect("opened").is_leader());
    assert!(first.step(soon()).is_some_and(|passed| passed.is_ok()));
    assert!(!barrier.is_broken());
}

#[test]
fn who_expires_or_leaves_breaks_the_round() {
    let barrier = Barrier::new(2).expect("barrier");
    assert!(barrier.arrive(soon()).expect("arrival").expire());
    assert!(barrier.is_broken());
    barrier.reset();
    drop(barrier.arrive(soon()).expect("arrival"));
    assert!(barrier.is_broken());
    barrier.reset();
    let first = barrier.arrive(soon()).expect("arrival");
    assert_eq!(
        first.open().err(),
        Some(BarrierError::Broken),
        "not the last"
    );
    assert!(barrier.is_broken());
}

#[test]
fn a_forked_child_s_copy_of_an_arrival_does_nothing() {
    let barrier = Barrier::new(2).expect("barrier");
    let arrival = barrier.arrive(soon()).expect("arrival");
    let mut arrival = Some(arrival);
    let child = fork(|| {
        drop(arrival.take());
        !barrier.is_broken()
    });
    assert_eq!(child.join(), 0);
    assert!(!barrier.is_broken());
}

#[test]
fn a_bounded_semaphore_knows_its_limit() {
    let semaphore = BoundedSemaphore::new(3).expect("semaphore");
    let _permit = semaphore.acquire();
    assert_eq!((semaphore.value(), semaphore.limit()), (2, 3));
}
