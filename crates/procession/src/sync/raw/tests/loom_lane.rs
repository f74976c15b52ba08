//! Every schedule of a few processes on one lane of a channel: two locks, two commit words, two bells.
//!
//! The lane here is `channel/core.rs` without the heap: same machines, same order of steps, with a ring of one or two cells in place of
//! segments. The cells are relaxed atomics: a commit word that published too early, or freed too early, would let some schedule read a
//! value that is not the one put.
//!
//! Bounds: up to 2 producers and 2 consumers, 2 messages, a ring of 1 or 2 cells; 3 preemptions, 2 where a kill point varies.

use super::super::{Port, RawBell, RawCommit, RawLock};
use super::loom_port::{World, at_each_kill_point, explore, join_all, owner, victim};
use crate::atomic::{AtomicU32, Ordering, fence};
use loom::thread;
use std::sync::Arc;

struct Lane {
    producers: RawLock,
    consumers: RawLock,
    tail: RawCommit,
    head: RawCommit,
    items: RawBell,
    room: RawBell,
    cells: Vec<AtomicU32>,
    world: Arc<World>,
}

fn lane(cells: usize) -> Arc<Lane> {
    Arc::new(Lane {
        producers: RawLock::new(),
        consumers: RawLock::new(),
        tail: RawCommit::new(),
        head: RawCommit::new(),
        items: RawBell::new(),
        room: RawBell::new(),
        cells: (0..cells).map(|_| AtomicU32::new(0)).collect(),
        world: World::new(),
    })
}

impl Lane {
    fn try_put(&self, port: &impl Port, value: u32) -> bool {
        self.producers.acquire(port, None).unwrap();
        let (tail, head) = (self.tail.own(), self.head.theirs());
        let room = tail.items.wrapping_sub(head.items) < self.cells.len() as u32;
        if room {
            let cell = &self.cells[tail.items as usize % self.cells.len()];
            cell.store(value, Ordering::Relaxed);
            self.tail.publish(tail.advance(tail.bytes + 8));
        }
        self.producers.release(port).unwrap();
        if room {
            fence(Ordering::SeqCst);
            self.items.ring(port, 1);
        }
        room
    }

    fn put(&self, slot: usize, value: u32) {
        let port = self.world.port(slot);
        loop {
            let head = self.head.look();
            if self.try_put(&port, value) {
                return;
            }
            self.room.sleep(&port, None, || self.head.look() != head);
        }
    }

    fn try_get(&self, port: &impl Port) -> Option<u32> {
        self.consumers.acquire(port, None).unwrap();
        let (head, tail) = (self.head.own(), self.tail.theirs());
        let value = (head != tail).then(|| {
            let cell = &self.cells[head.items as usize % self.cells.len()];
            let value = cell.load(Ordering::Relaxed);
            self.head.publish(head.advance(head.bytes + 8));
            value
        });
        self.consumers.release(port).unwrap();
        if value.is_some() {
            fence(Ordering::SeqCst);
            self.room.ring(port, 1);
            if self.items.has_sleepers() && self.has_items() {
                self.items.ring(port, 1);
            }
        }
        value
    }

    fn get(&self, slot: usize) -> u32 {
        let port = self.world.port(slot);
        loop {
            if let Some(value) = self.try_get(&port) {
                return value;
            }
            self.items.sleep(&port, None, || self.has_items());
        }
    }

    fn has_items(&self) -> bool {
        self.head.look() != self.tail.look()
    }

    fn reap(&self, dead: usize) {
        let port = self.world.port(9);
        self.producers.reap(&port, owner(dead));
        self.consumers.reap(&port, owner(dead));
        self.items.reap(&port);
        self.room.reap(&port);
    }
}

#[test]
fn keeps_order_and_wakes() {
    explore(3, || {
        let lane = lane(1);
        let consumer = {
            let lane = lane.clone();
            thread::spawn(move || [lane.get(1), lane.get(1)])
        };
        lane.put(2, 10);
        lane.put(2, 11);
        assert_eq!(consumer.join().unwrap(), [10, 11]);
    });
}

#[test]
fn serves_two_consumers() {
    explore(3, || {
        let lane = lane(2);
        let consumers = [1, 2].map(|slot| {
            let lane = lane.clone();
            thread::spawn(move || lane.get(slot))
        });
        lane.put(3, 10);
        lane.put(3, 11);
        let mut got = join_all(consumers);
        got.sort_unstable();
        assert_eq!(got, [10, 11]);
    });
}

#[test]
fn serves_two_producers_in_a_full_ring() {
    explore(3, || {
        let lane = lane(1);
        let producers = [1, 2].map(|slot| {
            let lane = lane.clone();
            thread::spawn(move || lane.put(slot, slot as u32))
        });
        let mut got = [lane.get(3), lane.get(3)];
        join_all(producers);
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
    });
}

#[test]
fn a_reap_loses_no_ring() {
    explore(3, || {
        let lane = lane(2);
        let consumer = {
            let lane = lane.clone();
            thread::spawn(move || lane.get(1))
        };
        lane.reap(2);
        lane.put(3, 11);
        assert_eq!(consumer.join().unwrap(), 11);
    });
}

#[test]
fn survives_a_producer_killed_anywhere() {
    // The victim's message arrives whole or not at all; the survivor's arrives, whatever lock or ring the victim had in hand.
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let lane = lane(2);
            let consumer = {
                let lane = lane.clone();
                thread::spawn(move || {
                    let first = lane.get(1);
                    if first == 10 { lane.get(1) } else { first }
                })
            };
            let (world, who) = (lane.world.clone(), owner(2));
            victim(
                &world,
                who,
                fuel,
                &was_killed,
                || lane.put(2, 10),
                || lane.reap(2),
            );
            lane.put(3, 11);
            assert_eq!(consumer.join().unwrap(), 11);
        });
    });
}

#[test]
fn survives_a_consumer_killed_anywhere() {
    // Two messages, one victim, one survivor: the survivor gets the second at the latest, the first if the victim had not committed.
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let lane = lane(1);
            let producer = {
                let lane = lane.clone();
                thread::spawn(move || {
                    lane.put(1, 10);
                    lane.put(1, 11);
                })
            };
            let (world, who) = (lane.world.clone(), owner(2));
            let mut taken = None;
            let body = || taken = Some(lane.get(2));
            let killed = victim(&world, who, fuel, &was_killed, body, || lane.reap(2));
            let got = lane.get(3);
            if got == 10 {
                assert!(
                    killed && taken.is_none(),
                    "redelivered only if it was never committed"
                );
                assert_eq!(lane.get(3), 11);
            } else {
                assert_eq!(got, 11);
            }
            producer.join().unwrap();
        });
    });
}
