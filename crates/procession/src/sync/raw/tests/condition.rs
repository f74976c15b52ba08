//! The condition with real threads, and a lock where one is needed.

use super::super::{RawCell, RawCondition, RawLock, Waited};
use super::test_port::{World, far, now, owner, soon, until, zeroed};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

fn cells<const N: usize>() -> [RawCell; N] {
    std::array::from_fn(|_| zeroed())
}

#[test]
fn notifies_the_oldest_first_and_exactly_as_many_as_asked() {
    let world = World::without_slices();
    let (condition, cells): (RawCondition, _) = (zeroed(), cells::<5>());
    let port = |slot| world.port(slot);
    let claim = |slot| condition.claim(&cells, &port(slot)).unwrap();
    let wait = |index, slot| condition.wait(&cells, index, &port(slot), now());
    // The first cell is used again by the youngest, so cell order is not the order of arrival.
    let gone = claim(1);
    let (second, third) = (claim(2), claim(3));
    assert_eq!(wait(gone, 1), Waited::TimedOut);
    let youngest = claim(4);
    assert_eq!(youngest, gone);
    assert_eq!(condition.waiting(&cells), 3);
    assert_eq!(condition.notify(&cells, 2, &port(9)), 2);
    assert_eq!(wait(youngest, 4), Waited::TimedOut);
    assert_eq!(wait(second, 2), Waited::Notified);
    assert_eq!(wait(third, 3), Waited::Notified);
    assert_eq!(condition.notify(&cells, usize::MAX, &port(9)), 0);
}

#[test]
fn tickets_may_wrap_around() {
    let world = World::new();
    let cells = cells::<2>();
    let condition = RawCondition::starting_at(u32::MAX);
    let old = condition.claim(&cells, &world.port(1)).unwrap();
    let young = condition.claim(&cells, &world.port(2)).unwrap();
    assert_eq!(condition.notify(&cells, 1, &world.port(3)), 1);
    assert_eq!(
        condition.wait(&cells, young, &world.port(2), now()),
        Waited::TimedOut
    );
    assert_eq!(
        condition.wait(&cells, old, &world.port(1), now()),
        Waited::Notified
    );
}

#[test]
fn is_full_when_all_cells_wait() {
    let world = World::new();
    let (condition, cells): (RawCondition, _) = (zeroed(), cells::<1>());
    let index = condition.claim(&cells, &world.port(1)).unwrap();
    assert_eq!(condition.claim(&cells, &world.port(2)), None);
    assert_eq!(
        condition.wait(&cells, index, &world.port(1), soon()),
        Waited::TimedOut
    );
    assert_eq!(condition.claim(&cells, &world.port(2)), Some(index));
    assert_eq!(
        condition.wait(&cells, 7, &world.port(2), far()),
        Waited::TimedOut
    );
}

#[test]
fn skips_the_dead_and_passes_on_what_they_had() {
    let world = World::new();
    let (condition, cells): (RawCondition, _) = (zeroed(), cells::<4>());
    let told = condition.claim(&cells, &world.port(1)).unwrap();
    condition.claim(&cells, &world.port(2)).unwrap();
    let third = condition.claim(&cells, &world.port(3)).unwrap();
    let fourth = condition.claim(&cells, &world.port(4)).unwrap();
    assert_eq!(condition.notify(&cells, 1, &world.port(9)), 1);
    world.bury(owner(1));
    world.bury(owner(2));
    // 1 died notified: its reap tells 3, for 2 is known to be dead.
    condition.reap(&cells, &world.port(9), owner(1));
    condition.reap(&cells, &world.port(9), owner(1));
    assert_eq!(cells[told].owner(), None);
    assert_eq!(
        condition.wait(&cells, third, &world.port(3), now()),
        Waited::Notified
    );
    condition.reap(&cells, &world.port(9), owner(2));
    // Whoever withdraws after it was told passes that on, too.
    let fifth = condition.claim(&cells, &world.port(5)).unwrap();
    assert_eq!(condition.notify(&cells, 1, &world.port(9)), 1);
    condition.withdraw(&cells, fourth, &world.port(4));
    assert_eq!(
        condition.wait(&cells, fifth, &world.port(5), now()),
        Waited::Notified
    );
    assert!(cells.iter().all(|cell| cell.owner().is_none()));
}

#[test]
fn as_many_return_as_were_notified() {
    const ROUNDS: usize = 3_000;
    let world = World::without_slices();
    let (condition, cells): (RawCondition, _) = (zeroed(), cells::<4>());
    let lock: RawLock = zeroed();
    let (notified, left) = (AtomicUsize::new(0), AtomicUsize::new(4));
    let told = thread::scope(|scope| {
        for slot in 1..=4 {
            let (world, condition, cells, lock) = (&world, &condition, &cells, &lock);
            let (notified, left) = (&notified, &left);
            scope.spawn(move || {
                let port = world.port(slot);
                for round in 0..ROUNDS {
                    lock.acquire(&port, None).unwrap();
                    let index = condition.claim(cells, &port).unwrap();
                    lock.release(&port).unwrap();
                    let deadline = if round % 3 == 0 { now() } else { None };
                    if condition.wait(cells, index, &port, deadline) == Waited::Notified {
                        notified.fetch_add(1, SeqCst);
                    }
                }
                left.fetch_sub(1, SeqCst);
            });
        }
        let port = world.port(9);
        let mut told = 0;
        while left.load(SeqCst) > 0 {
            lock.acquire(&port, None).unwrap();
            told += condition.notify(&cells, 1 + told % 2, &port);
            lock.release(&port).unwrap();
        }
        told
    });
    assert_eq!(notified.into_inner(), told);
    until(|| cells.iter().all(|cell| cell.owner().is_none()));
}
