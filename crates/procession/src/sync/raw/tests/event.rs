//! The event with real threads.

use super::super::{RawEvent, TimedOut};
use super::test_port::{World, far, now, owner, soon, zeroed};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

#[test]
fn set_lets_everybody_through_until_cleared() {
    let world = World::without_slices();
    let event: RawEvent = zeroed();
    thread::scope(|scope| {
        for slot in 1..=4 {
            let (world, event) = (&world, &event);
            scope.spawn(move || event.wait(&world.port(slot), None).unwrap());
        }
        event.set(&world.port(5));
    });
    assert!(event.is_set());
    event.set(&world.port(5));
    assert_eq!(event.wait(&world.port(1), now()), Ok(()));
    event.clear();
    event.clear();
    assert!(!event.is_set());
    assert_eq!(event.wait(&world.port(1), now()), Err(TimedOut));
    assert_eq!(event.wait(&world.port(1), soon()), Err(TimedOut));
}

#[test]
fn ping_pong() {
    const ROUNDS: u32 = 5_000;
    let world = World::without_slices();
    let (ping, pong): (RawEvent, RawEvent) = (zeroed(), zeroed());
    let seen = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                ping.wait(&world.port(1), far()).unwrap();
                ping.clear();
                assert_eq!(seen.swap(round + 1, SeqCst), round);
                pong.set(&world.port(1));
            }
        });
        for round in 0..ROUNDS {
            ping.set(&world.port(2));
            pong.wait(&world.port(2), None).unwrap();
            pong.clear();
            assert_eq!(seen.load(SeqCst), round + 1);
        }
    });
}

#[test]
fn a_pulse_frees_all_who_wait() {
    let world = World::without_slices();
    let event: RawEvent = zeroed();
    let through = AtomicU32::new(0);
    thread::scope(|scope| {
        for slot in 1..=3 {
            let (world, event, through) = (&world, &event, &through);
            scope.spawn(move || {
                event.wait(&world.port(slot), None).unwrap();
                through.fetch_add(1, SeqCst);
            });
        }
        // Pulses until all have come: each frees whoever waits at that moment.
        while through.load(SeqCst) < 3 {
            event.set(&world.port(4));
            event.clear();
            thread::yield_now();
        }
    });
    event.reap(&world.port(4), owner(1));
    assert!(!event.is_set());
}
