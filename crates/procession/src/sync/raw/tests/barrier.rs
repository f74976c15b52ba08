//! The barrier with real threads.

use super::super::{BarrierError, RawArrival, RawBarrier};
use super::test_port::{World, far, now, owner, soon, until, zeroed};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

fn records<const N: usize>() -> [RawArrival; N] {
    std::array::from_fn(|_| zeroed())
}

#[test]
fn rounds_do_not_mix_and_indices_are_unique() {
    const PARTIES: usize = 4;
    const ROUNDS: usize = 3_000;
    let world = World::without_slices();
    let (barrier, records): (RawBarrier, _) = (zeroed(), records::<PARTIES>());
    // Each party adds 1 << (8 * index) in its round.
    let rounds: Vec<AtomicU64> = (0..ROUNDS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for slot in 1..=PARTIES {
            let (world, barrier, records, rounds) = (&world, &barrier, &records, &rounds);
            scope.spawn(move || {
                let port = world.port(slot);
                for round in rounds {
                    let index = barrier.pass(records, &port, None).unwrap();
                    round.fetch_add(1 << (8 * index), SeqCst);
                }
            });
        }
    });
    assert!(rounds.iter().all(|round| round.load(SeqCst) == 0x0101_0101));
    assert_eq!(barrier.n_waiting(), 0);
}

#[test]
fn more_threads_than_parties_take_turns() {
    let world = World::without_slices();
    let (barrier, records): (RawBarrier, _) = (zeroed(), records::<2>());
    let sum = AtomicU64::new(0);
    thread::scope(|scope| {
        for slot in 1..=6 {
            let (world, barrier, records, sum) = (&world, &barrier, &records, &sum);
            scope.spawn(move || {
                let index = barrier.pass(records, &world.port(slot), far()).unwrap();
                sum.fetch_add(u64::from(index), SeqCst);
            });
        }
    });
    assert_eq!(sum.into_inner(), 3);
}

#[test]
fn the_last_one_acts_before_anybody_leaves() {
    let world = World::without_slices();
    let (barrier, records): (RawBarrier, _) = (zeroed(), records::<2>());
    let acted = AtomicU64::new(0);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let index = barrier.pass(&records, &world.port(1), None).unwrap();
            (index, acted.load(SeqCst))
        });
        until(|| barrier.n_waiting() == 1);
        let arrival = barrier.arrive(&records, &world.port(2), None).unwrap();
        assert!(arrival.is_last);
        acted.store(1, SeqCst);
        assert_eq!(barrier.open(&records, &world.port(2), arrival), Ok(1));
        assert_eq!(other.join().unwrap(), (0, 1));
    });
}

#[test]
fn a_timeout_breaks_it_until_reset() {
    let world = World::without_slices();
    let (barrier, records): (RawBarrier, _) = (zeroed(), records::<3>());
    thread::scope(|scope| {
        let patient = scope.spawn(|| barrier.pass(&records, &world.port(1), None));
        until(|| barrier.n_waiting() == 1);
        assert_eq!(
            barrier.pass(&records, &world.port(2), soon()),
            Err(BarrierError::TimedOut)
        );
        assert_eq!(patient.join().unwrap(), Err(BarrierError::Broken));
    });
    assert!(barrier.is_broken());
    assert_eq!(barrier.n_waiting(), 0);
    assert_eq!(
        barrier.pass(&records, &world.port(3), None),
        Err(BarrierError::Broken)
    );
    barrier.reset(&records, &world.port(3));
    assert!(!barrier.is_broken());
    assert_eq!(
        barrier.pass(&records, &world.port(3), now()),
        Err(BarrierError::TimedOut)
    );
}

#[test]
fn a_failed_action_and_an_abort_break_it() {
    let world = World::new();
    let (barrier, records): (RawBarrier, _) = (zeroed(), records::<1>());
    let port = world.port(1);
    let arrival = barrier.arrive(&records, &port, None).unwrap();
    barrier.withdraw(&records, &port, arrival);
    assert!(barrier.is_broken());
    barrier.reset(&records, &port);
    assert_eq!(barrier.pass(&records, &port, None), Ok(0));
    let arrival = barrier.arrive(&records, &port, None).unwrap();
    barrier.abort(&port);
    assert_eq!(
        barrier.open(&records, &port, arrival),
        Err(BarrierError::Broken)
    );
    barrier.reset(&records, &port);
    barrier.reset(&records, &port);
    assert_eq!(barrier.pass(&records, &port, None), Ok(0));
}

#[test]
fn a_reset_waits_for_who_is_still_inside() {
    let world = World::new();
    let (barrier, records): (RawBarrier, _) = (zeroed(), records::<2>());
    let inside = barrier.arrive(&records, &world.port(1), None).unwrap();
    barrier.reset(&records, &world.port(2));
    assert!(!barrier.is_broken());
    assert_eq!(
        barrier.pass(&records, &world.port(2), soon()),
        Err(BarrierError::TimedOut)
    );
    let left = barrier.wait(&records, &world.port(1), inside, None);
    assert_eq!(left, Err(BarrierError::Broken));
    thread::scope(|scope| {
        let other = scope.spawn(|| barrier.pass(&records, &world.port(1), None).unwrap());
        assert_eq!(
            barrier.pass(&records, &world.port(2), None).unwrap() + other.join().unwrap(),
            1
        );
    });
}

#[test]
fn the_death_of_an_arrived_party_breaks_it() {
    let world = World::without_slices();
    let (barrier, records): (RawBarrier, _) = (zeroed(), records::<3>());
    thread::scope(|scope| {
        let dead = barrier.arrive(&records, &world.port(1), None).unwrap();
        let waiter = scope.spawn(|| barrier.pass(&records, &world.port(2), None));
        until(|| barrier.n_waiting() == 2);
        assert!(
            !barrier.reap(&records, &world.port(3), owner(4)),
            "it had not arrived"
        );
        world.bury(owner(1));
        drop(dead);
        assert!(barrier.reap(&records, &world.port(3), owner(1)));
        assert!(!barrier.reap(&records, &world.port(3), owner(1)));
        assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken));
    });
    barrier.reset(&records, &world.port(3));
    assert!(!barrier.is_broken());
}

#[test]
fn waiters_notice_a_death_without_a_reaper() {
    let world = World::new();
    let (barrier, records): (RawBarrier, _) = (zeroed(), records::<3>());
    drop(barrier.arrive(&records, &world.port(1), None));
    world.bury(owner(1));
    assert_eq!(
        barrier.pass(&records, &world.port(2), None),
        Err(BarrierError::Broken)
    );
}
