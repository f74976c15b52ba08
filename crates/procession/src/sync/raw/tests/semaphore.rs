//! The semaphore with real threads.

use super::super::{AboveLimit, RawSemaphore, SEMAPHORE_MAX, TimedOut, WouldBlock};
use super::test_port::{World, far, now, owner, soon, zeroed};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

fn semaphore(value: u32, limit: Option<u32>) -> RawSemaphore {
    let semaphore: RawSemaphore = zeroed();
    semaphore.init(value, limit).unwrap();
    semaphore
}

#[test]
fn never_more_inside_than_permits() {
    const PERMITS: u32 = 3;
    let world = World::without_slices();
    let semaphore = semaphore(PERMITS, Some(PERMITS));
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for slot in 1..=6 {
            let (world, semaphore, inside) = (&world, &semaphore, &inside);
            scope.spawn(move || {
                let port = world.port(slot);
                for _ in 0..10_000 {
                    semaphore.acquire(&port, None).unwrap();
                    assert!(inside.fetch_add(1, SeqCst) < PERMITS);
                    inside.fetch_sub(1, SeqCst);
                    semaphore.release(&port, 1).unwrap();
                }
            });
        }
    });
    assert_eq!(semaphore.value(), PERMITS);
}

#[test]
fn what_is_given_is_taken() {
    const ROUNDS: u32 = 10_000;
    let world = World::without_slices();
    let semaphore = semaphore(0, None);
    thread::scope(|scope| {
        for slot in 1..=3 {
            let (world, semaphore) = (&world, &semaphore);
            scope.spawn(move || {
                let port = world.port(slot);
                (0..2 * ROUNDS).for_each(|_| semaphore.acquire(&port, far()).unwrap());
            });
        }
        for slot in 4..=6 {
            let (world, semaphore) = (&world, &semaphore);
            scope.spawn(move || {
                let port = world.port(slot);
                (0..ROUNDS).for_each(|_| semaphore.release(&port, 2).unwrap());
            });
        }
    });
    assert_eq!(semaphore.value(), 0);
}

#[test]
fn keeps_to_its_limit() {
    let world = World::new();
    let port = world.port(1);
    let bounded = semaphore(2, Some(2));
    assert_eq!(bounded.release(&port, 1), Err(AboveLimit));
    bounded.try_acquire().unwrap();
    assert_eq!(bounded.release(&port, 2), Err(AboveLimit));
    assert_eq!(bounded.value(), 1);
    bounded.release(&port, 1).unwrap();
    let open = semaphore(SEMAPHORE_MAX - 1, None);
    open.release(&port, 1).unwrap();
    assert_eq!(open.release(&port, 1), Err(AboveLimit));
    assert_eq!(open.release(&port, u32::MAX), Err(AboveLimit));
    assert_eq!(open.value(), SEMAPHORE_MAX);
    let refused: RawSemaphore = zeroed();
    assert_eq!(refused.init(3, Some(2)), Err(AboveLimit));
    assert_eq!(refused.init(0, Some(SEMAPHORE_MAX + 1)), Err(AboveLimit));
}

#[test]
fn times_out_without_a_permit_only() {
    let world = World::new();
    let port = world.port(1);
    let semaphore = semaphore(1, None);
    assert_eq!(semaphore.acquire(&port, now()), Ok(()));
    assert_eq!(semaphore.try_acquire(), Err(WouldBlock));
    assert_eq!(semaphore.acquire(&port, now()), Err(TimedOut));
    assert_eq!(semaphore.acquire(&port, soon()), Err(TimedOut));
    semaphore.release(&port, 1).unwrap();
    assert_eq!(semaphore.acquire(&port, far()), Ok(()));
}

#[test]
fn the_dead_get_no_refund() {
    let world = World::new();
    let semaphore = semaphore(2, None);
    semaphore.acquire(&world.port(1), None).unwrap();
    world.bury(owner(1));
    semaphore.reap(&world.port(2), owner(1));
    assert_eq!(semaphore.value(), 1);
}
