//! RLock: nesting, threads, death in possession.
use crate::forked::{SOON, forever, fork, until};
use procession::{NotOwner, OwnerDied, RLock};
use std::time::Duration;

#[test]
fn nests_in_one_thread_only() {
    let lock = RLock::new().expect("lock");
    let outer = lock.acquire();
    let inner = lock.try_acquire().expect("ours");
    assert_eq!(lock.depth(), 2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(lock.try_acquire().is_err() && !lock.is_held());
            assert!(lock.acquire_timeout(Duration::from_millis(5)).is_err());
            assert_eq!(lock.release(), Err(NotOwner));
        });
    });
    drop(outer);
    assert_eq!(lock.depth(), 1);
    drop(inner);
    assert!(!lock.is_locked());
}

#[test]
fn a_forked_child_does_not_own_its_parents_lock() {
    let lock = RLock::new().expect("lock");
    let guard = lock.acquire();
    let child =
        fork(|| !lock.is_held() && lock.release() == Err(NotOwner) && lock.try_acquire().is_err());
    assert_eq!(child.join(), 0);
    drop(guard);
}

#[test]
fn the_lock_of_a_killed_owner_is_recovered() {
    let lock = RLock::new().expect("lock");
    let child = fork(|| {
        lock.acquire().into_held();
        lock.acquire().into_held();
        forever()
    });
    until("acquire", || lock.is_locked());
    child.kill();
    let strict = lock.acquire_timeout(SOON).expect("recovered").strict();
    assert_eq!(strict.err(), Some(OwnerDied));
    let guard = lock.acquire();
    assert!(guard.recovered() && lock.depth() == 1);
    drop(guard);
    assert!(!lock.acquire().recovered());
}
