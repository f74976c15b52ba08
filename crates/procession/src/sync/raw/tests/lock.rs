//! The lock with real threads.

use super::super::{Acquired, NotHeld, RawLock, TimedOut, WouldBlock};
use super::test_port::{World, far, now, owner, soon, until, zeroed};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

#[test]
fn excludes() {
    const ROUNDS: u64 = 20_000;
    let world = World::without_slices();
    let lock: RawLock = zeroed();
    let count = AtomicU64::new(0);
    thread::scope(|scope| {
        for slot in 1..=4 {
            let (world, lock, count) = (&world, &lock, &count);
            scope.spawn(move || {
                let port = world.port(slot);
                for _ in 0..ROUNDS {
                    lock.acquire(&port, None).unwrap();
                    count.store(count.load(Relaxed) + 1, Relaxed);
                    lock.release(&port).unwrap();
                }
            });
        }
    });
    assert_eq!(count.into_inner(), 4 * ROUNDS);
    assert_eq!(lock.owner(), None);
}

#[test]
fn anybody_may_release_but_only_a_held_lock() {
    let world = World::new();
    let lock = RawLock::new();
    assert_eq!(lock.release(&world.port(1)), Err(NotHeld));
    lock.try_acquire(&world.port(1)).unwrap();
    assert_eq!(lock.owner(), Some(owner(1)));
    assert_eq!(lock.try_acquire(&world.port(1)), Err(WouldBlock));
    lock.release(&world.port(2)).unwrap();
    assert_eq!(lock.release(&world.port(1)), Err(NotHeld));
}

#[test]
fn times_out_on_a_held_lock_only() {
    let world = World::new();
    let lock = RawLock::new();
    assert_eq!(
        lock.acquire(&world.port(1), now()),
        Ok(Acquired { recovered: false })
    );
    assert_eq!(lock.acquire(&world.port(2), now()), Err(TimedOut));
    assert_eq!(lock.acquire(&world.port(2), soon()), Err(TimedOut));
    lock.release(&world.port(1)).unwrap();
    assert_eq!(
        lock.acquire(&world.port(2), far()),
        Ok(Acquired { recovered: false })
    );
}

#[test]
fn a_waiter_takes_over_from_the_dead() {
    let world = World::new();
    let lock = RawLock::new();
    lock.try_acquire(&world.port(1)).unwrap();
    thread::scope(|scope| {
        let heir = scope.spawn(|| lock.acquire(&world.port(2), None));
        world.bury(owner(1));
        assert_eq!(heir.join().unwrap(), Ok(Acquired { recovered: true }));
    });
    assert_eq!(lock.acquire(&world.port(3), now()), Err(TimedOut));
    lock.release(&world.port(2)).unwrap();
    assert_eq!(
        lock.try_acquire(&world.port(3)),
        Ok(Acquired { recovered: false })
    );
}

#[test]
fn reaping_hands_on_at_once_and_only_once() {
    let world = World::without_slices();
    let lock = RawLock::new();
    lock.try_acquire(&world.port(1)).unwrap();
    thread::scope(|scope| {
        let heir = scope.spawn(|| lock.acquire(&world.port(2), far()));
        assert!(!lock.reap(&world.port(3), owner(4)), "it held nothing");
        world.bury(owner(1));
        assert!(lock.reap(&world.port(3), owner(1)));
        assert_eq!(heir.join().unwrap(), Ok(Acquired { recovered: true }));
    });
    assert!(!lock.reap(&world.port(3), owner(1)));
    until(|| lock.owner() == Some(owner(2)));
}
