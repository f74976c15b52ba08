//! The re-entrant lock with real threads.

use super::super::{Acquired, NotOwner, RLockError, RLockTryError, RawRLock};
use super::test_port::{World, far, now, owner, zeroed};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

#[test]
fn excludes_other_threads_and_other_participants() {
    const ROUNDS: u64 = 10_000;
    let world = World::without_slices();
    let lock: RawRLock = zeroed();
    let count = AtomicU64::new(0);
    thread::scope(|scope| {
        for (slot, number) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let (world, lock, count) = (&world, &lock, &count);
            scope.spawn(move || {
                let port = world.port(slot);
                for _ in 0..ROUNDS {
                    lock.acquire(&port, number, None).unwrap();
                    lock.acquire(&port, number, now()).unwrap();
                    count.store(count.load(Relaxed) + 1, Relaxed);
                    lock.release(&port, number).unwrap();
                    lock.release(&port, number).unwrap();
                }
            });
        }
    });
    assert_eq!(count.into_inner(), 4 * ROUNDS);
    assert_eq!(lock.owner(), None);
}

#[test]
fn only_its_thread_may_release() {
    let world = World::new();
    let lock = RawRLock::new();
    let port = world.port(1);
    assert_eq!(lock.release(&port, 1), Err(NotOwner));
    lock.acquire(&port, 1, None).unwrap();
    assert_eq!(lock.release(&port, 2), Err(NotOwner));
    assert_eq!(lock.release(&world.port(2), 1), Err(NotOwner));
    assert_eq!(lock.try_acquire(&port, 2), Err(RLockTryError::WouldBlock));
    assert_eq!(lock.acquire(&port, 2, now()), Err(RLockError::TimedOut));
    lock.release(&port, 1).unwrap();
    assert_eq!(lock.release(&port, 1), Err(NotOwner));
}

#[test]
fn a_condition_may_step_outside_and_come_back() {
    let world = World::new();
    let lock = RawRLock::new();
    let port = world.port(1);
    for _ in 0..3 {
        lock.try_acquire(&port, 1).unwrap();
    }
    assert_eq!(lock.release_all(&port, 1), Ok(3));
    assert_eq!(lock.restore(&port, 1, 3), Err(NotOwner));
    lock.acquire(&port, 1, far()).unwrap();
    lock.restore(&port, 1, 3).unwrap();
    assert_eq!(lock.depth(&port, 1), 3);
    assert_eq!(lock.depth(&port, 2), 0);
}

#[test]
fn does_not_count_beyond_its_range() {
    let world = World::new();
    let lock = RawRLock::new();
    let port = world.port(1);
    lock.try_acquire(&port, 1).unwrap();
    lock.force_depth(u32::MAX);
    assert_eq!(lock.try_acquire(&port, 1), Err(RLockTryError::Overflow));
    assert_eq!(lock.acquire(&port, 1, None), Err(RLockError::Overflow));
    assert_eq!(lock.depth(&port, 1), u32::MAX);
}

#[test]
fn recovery_resets_the_depth() {
    let world = World::new();
    let lock = RawRLock::new();
    for _ in 0..3 {
        lock.try_acquire(&world.port(1), 1).unwrap();
    }
    world.bury(owner(1));
    let heir = world.port(2);
    assert_eq!(
        lock.acquire(&heir, 1, None),
        Ok(Acquired { recovered: true })
    );
    assert_eq!(lock.depth(&heir, 1), 1);
    world.bury(owner(2));
    assert!(lock.reap(&world.port(3), owner(2)));
    assert_eq!(
        lock.try_acquire(&world.port(3), 1),
        Ok(Acquired { recovered: true })
    );
    lock.release(&world.port(3), 1).unwrap();
    assert_eq!(
        lock.try_acquire(&world.port(3), 1),
        Ok(Acquired { recovered: false })
    );
}
