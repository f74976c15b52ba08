//! Condition: exact notifications, killed waiters, killed owners, more waiters than cells.
use crate::forked::{SOON, forever, fork, until};
use procession::{Condition, HoldsLock, Lock, Queue, RLock, WaitError};
use std::time::Duration;

#[test]
fn notifies_exactly_so_many() {
    let condition = Condition::new().expect("condition");
    let children: Vec<_> = (0..4)
        .map(|_| fork(|| condition.wait_timeout(&mut condition.acquire(), SOON) == Ok(true)))
        .collect();
    until("waiting", || condition.n_waiting() == 4);
    assert_eq!(condition.notify(3), 3);
    assert_eq!(condition.n_waiting(), 1);
    assert_eq!(condition.notify_all(), 1);
    for child in children {
        assert_eq!(child.join(), 0);
    }
}

#[test]
fn a_notification_for_a_killed_waiter_goes_to_the_next() {
    let condition = Condition::new().expect("condition");
    let wait = || condition.wait_timeout(&mut condition.acquire(), SOON) == Ok(true);
    let first = fork(wait);
    until("first waits", || condition.n_waiting() == 1);
    let second = fork(wait);
    until("second waits", || condition.n_waiting() == 2);
    first.kill();
    assert_eq!(first.join(), -9);
    assert!(condition.notify_one() <= 1);
    assert_eq!(second.join(), 0);
}

#[test]
fn the_lock_of_a_killed_owner_is_recovered() {
    let condition = Condition::new().expect("condition");
    let child = fork(|| {
        let _guard = condition.acquire();
        condition.notify_one();
        forever()
    });
    until("locked", || {
        condition.acquire_timeout(Duration::ZERO).is_err()
    });
    child.kill();
    let mut guard = condition.acquire_timeout(SOON).expect("recovered");
    assert!(guard.recovered());
    assert_eq!(
        condition.wait_timeout(&mut guard, Duration::ZERO),
        Ok(false)
    );
}

#[test]
fn many_wait_at_one_time() {
    const MANY: usize = 200; // 10 inline, the rest in pages
    let condition = Condition::new().expect("condition");
    std::thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| {
                condition
                    .wait_timeout(&mut condition.acquire(), SOON)
                    .expect("wait")
            });
        }
        until("waiting", || condition.n_waiting() == MANY);
        assert_eq!(condition.notify_all(), MANY);
    });
}

fn ping(condition: &Condition, held: &mut impl HoldsLock) -> Result<bool, WaitError> {
    condition.wait_timeout(held, Duration::ZERO)
}

#[test]
fn uses_the_lock_it_is_given() {
    let (lock, rlock) = (Lock::new().expect("lock"), RLock::new().expect("rlock"));
    let plain = Condition::with_lock(&lock).expect("condition");
    let nested = Condition::with_rlock(&rlock).expect("condition");
    let mut guard = lock.acquire();
    assert_eq!(ping(&plain, &mut guard), Ok(false));
    assert_eq!(ping(&nested, &mut guard), Err(WaitError::WrongLock));
    lock.release().expect("held");
    assert_eq!(ping(&plain, &mut guard), Err(WaitError::NotHeld));
    let (_outer, mut inner) = (rlock.acquire(), rlock.acquire());
    assert_eq!(ping(&nested, &mut inner), Ok(false));
    assert_eq!(rlock.depth(), 2);
}

#[test]
fn brings_its_lock_along() {
    let queue = Queue::<Condition>::unbounded().expect("queue");
    {
        let lock = Lock::new().expect("lock");
        queue
            .put(Condition::with_lock(&lock).expect("condition"))
            .expect("put");
    }
    let child = fork(|| {
        let condition = queue.get().expect("get");
        ping(&condition, &mut condition.acquire()) == Ok(false)
    });
    assert_eq!(child.join(), 0);
}
