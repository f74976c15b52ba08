//! Every schedule of a few threads at one barrier.
//!
//! Bounds: 2 parties (3 in one test), 2-3 threads, up to two rounds; 3 preemptions (2 in `a_reset_breaks_...`).

use super::super::{BarrierError, Parties, RawArrival, RawBarrier};
use super::loom_port::{
    Guarded, World, at_each_kill_point, explore, join_all, owner, some_time, victim,
};
use crate::atomic::AtomicU64;
use loom::thread;
use std::sync::Arc;

struct Scene {
    barrier: RawBarrier,
    records: Vec<RawArrival>,
    /// Who takes part, where not all do who could.
    parties: [AtomicU64; 1],
    count: Guarded,
    world: Arc<World>,
}

fn scene(parties: usize) -> Arc<Scene> {
    Arc::new(Scene {
        barrier: RawBarrier::new(),
        records: (0..parties).map(|_| RawArrival::new()).collect(),
        parties: [AtomicU64::new(0)],
        count: Guarded::new(),
        world: World::new(),
    })
}

impl Scene {
    fn pass(&self, slot: usize) -> Result<u32, BarrierError> {
        self.barrier
            .pass(&self.records, &self.world.port(slot), None)
    }

    /// As a selective barrier's reap.
    fn reap_party(&self, dead: usize, by: usize) {
        let port = self.world.port(by);
        self.barrier.reap(&self.records, &port, owner(dead));
        Parties(&self.parties).reap(&self.barrier, &port, owner(dead), |listed| listed);
    }
}

#[test]
fn two_rounds_of_two() {
    explore(3, || {
        let scene = scene(2);
        let other = scene.clone();
        let other = thread::spawn(move || {
            other.count.add();
            let first = other.pass(1).unwrap();
            let second = other.pass(1).unwrap();
            [first, second]
        });
        let first = scene.pass(2).unwrap();
        assert_eq!(scene.count.get(), 1, "what was done before is seen after");
        let second = scene.pass(2).unwrap();
        let others = other.join().unwrap();
        assert_eq!([first + others[0], second + others[1]], [1, 1]);
        assert_eq!(scene.barrier.n_waiting(), 0);
    });
}

#[test]
fn an_abort_frees_who_waits() {
    explore(3, || {
        let scene = scene(2);
        let other = scene.clone();
        let other = thread::spawn(move || other.pass(1));
        scene.barrier.abort(&scene.world.port(2));
        assert_eq!(other.join().unwrap(), Err(BarrierError::Broken));
        assert!(scene.barrier.is_broken());
    });
}

#[test]
fn a_timeout_breaks_for_all_or_for_none() {
    explore(3, || {
        let scene = scene(2);
        let hasty = scene.clone();
        let hasty = thread::spawn(move || {
            hasty
                .barrier
                .pass(&hasty.records, &hasty.world.port(1), some_time())
        });
        let clock = scene.clone();
        let clock = thread::spawn(move || clock.world.expire());
        let mine = scene.pass(2);
        clock.join().unwrap();
        assert_eq!(hasty.join().unwrap().is_ok(), mine.is_ok());
        assert_eq!(scene.barrier.is_broken(), mine.is_err());
    });
}

#[test]
fn a_reset_breaks_a_round_for_all_or_for_none() {
    explore(2, || {
        let scene = scene(2);
        let others = [1, 2].map(|slot| {
            let scene = scene.clone();
            thread::spawn(move || {
                let port = scene.world.port(slot);
                scene.barrier.pass(&scene.records, &port, some_time())
            })
        });
        scene.barrier.reset(&scene.records, &scene.world.port(3));
        scene.world.expire();
        let [first, second] = join_all(others);
        // Thrown out together, let through together, or one thrown out and the other alone in the next round.
        assert!(first.is_ok() == second.is_ok());
        assert!(first.is_err() || first != second);
    });
}

#[test]
fn a_reset_barrier_works_again() {
    explore(3, || {
        let scene = scene(2);
        let other = scene.clone();
        let other = thread::spawn(move || match other.pass(1) {
            Err(_) => other.pass(1),
            passed => passed,
        });
        scene.barrier.reset(&scene.records, &scene.world.port(2));
        let mine = scene.pass(2).unwrap();
        assert_eq!(mine + other.join().unwrap().unwrap(), 1);
    });
}

#[test]
fn a_party_that_dies_anywhere_breaks_the_round_it_was_in() {
    at_each_kill_point(|fuel, was_killed| {
        explore(3, move || {
            let scene = scene(2);
            let survivor = scene.clone();
            let survivor = thread::spawn(move || survivor.pass(1));
            let reaper = scene.world.port(4);
            let killed = victim(
                &scene.world,
                owner(3),
                fuel,
                &was_killed,
                || drop(scene.pass(3)),
                || {
                    if !scene.barrier.reap(&scene.records, &reaper, owner(3)) {
                        // It had not arrived, or all had got through: who expects it says so.
                        scene.barrier.abort(&reaper);
                    }
                },
            );
            let survived = survivor.join().unwrap();
            assert!(killed || survived.is_ok());
            scene.barrier.reset(&scene.records, &reaper);
            assert_eq!(scene.barrier.n_waiting(), 0);
            assert!(!scene.barrier.is_broken());
            assert!(
                scene.barrier.arrive(&scene.records, &reaper, None).is_ok(),
                "reset is complete"
            );
        });
    });
}

#[test]
fn reaping_an_arrived_party_frees_who_waits_for_the_third() {
    explore(3, || {
        let scene = scene(3);
        let dead = scene
            .barrier
            .arrive(&scene.records, &scene.world.port(3), None);
        assert!(!dead.unwrap().is_last);
        let survivor = scene.clone();
        let survivor = thread::spawn(move || survivor.pass(1));
        scene.world.bury(owner(3));
        assert!(
            scene
                .barrier
                .reap(&scene.records, &scene.world.port(2), owner(3))
        );
        assert_eq!(survivor.join().unwrap(), Err(BarrierError::Broken));
    });
}

#[test]
fn a_waiter_notices_the_death_by_itself() {
    explore(3, || {
        let scene = scene(2);
        let arrival = scene
            .barrier
            .arrive(&scene.records[..], &scene.world.port(3), None);
        assert!(!arrival.unwrap().is_last);
        let full = scene.clone();
        // The second party arrives, and both the first (never leaving) and it are in: kill the last one before it opens.
        let last = scene
            .barrier
            .arrive(&scene.records[..], &scene.world.port(2), None);
        assert!(last.unwrap().is_last);
        let late = thread::spawn(move || full.pass(1));
        scene.world.bury(owner(2));
        scene.world.end_slices();
        assert_eq!(late.join().unwrap(), Err(BarrierError::Broken));
    });
}

#[test]
fn a_party_killed_anywhere_is_missed_and_who_is_none_is_not() {
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let scene = scene(2);
            let survivor = scene.clone();
            let survivor = thread::spawn(move || {
                let port = survivor.world.port(1);
                // Its own end, for a victim that was no party yet.
                survivor.barrier.pass(&survivor.records, &port, some_time())
            });
            let mut is_party = false;
            let killed = victim(
                &scene.world,
                owner(3),
                fuel,
                &was_killed,
                || {
                    Parties(&scene.parties).enter(owner(3));
                    is_party = true;
                    drop(scene.pass(3));
                },
                || scene.reap_party(3, 4),
            );
            if killed && !is_party {
                assert!(!scene.barrier.is_broken(), "nobody is missing");
                scene.world.expire();
            }
            let survived = survivor.join().unwrap();
            assert!(killed || survived.is_ok());
            if killed && is_party {
                assert!(scene.barrier.is_broken());
            }
        });
    });
}

#[test]
fn a_reaper_killed_anywhere_leaves_the_missed_party_to_the_next() {
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let scene = scene(2);
            // A party that has not arrived, and never will.
            Parties(&scene.parties).enter(owner(3));
            scene.world.bury(owner(3));
            let survivor = scene.clone();
            let survivor = thread::spawn(move || survivor.pass(1));
            victim(
                &scene.world,
                owner(2),
                fuel,
                &was_killed,
                || scene.reap_party(3, 2),
                || {
                    scene.reap_party(3, 4);
                    scene.reap_party(2, 4);
                },
            );
            assert_eq!(survivor.join().unwrap(), Err(BarrierError::Broken));
        });
    });
}
