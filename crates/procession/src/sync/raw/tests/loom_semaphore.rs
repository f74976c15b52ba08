//! Every schedule of a few threads on one semaphore.
//!
//! Bounds: 3 threads (one more in `a_timeout_...`), up to two permits; 3 preemptions (2 where a kill point varies).

use super::super::RawSemaphore;
use super::loom_port::{
    Guarded, World, at_each_kill_point, explore, join_all, owner, some_time, victim,
};
use loom::thread;
use std::sync::Arc;

struct Scene {
    semaphore: RawSemaphore,
    count: Guarded,
    world: Arc<World>,
}

fn scene(value: u32) -> Arc<Scene> {
    let semaphore = RawSemaphore::new();
    semaphore.init(value, None).unwrap();
    Arc::new(Scene {
        semaphore,
        count: Guarded::new(),
        world: World::new(),
    })
}

impl Scene {
    fn take(&self, slot: usize) {
        self.semaphore
            .acquire(&self.world.port(slot), None)
            .unwrap();
    }

    fn give(&self, slot: usize, count: u32) {
        self.semaphore
            .release(&self.world.port(slot), count)
            .unwrap();
    }
}

#[test]
fn two_releases_let_two_waiters_through() {
    explore(3, || {
        let scene = scene(0);
        let takers = [1, 2].map(|slot| {
            let scene = scene.clone();
            thread::spawn(move || scene.take(slot))
        });
        scene.give(3, 1);
        scene.give(3, 1);
        join_all(takers);
        assert_eq!(scene.semaphore.value(), 0);
    });
}

#[test]
fn one_release_of_two_lets_two_waiters_through() {
    explore(3, || {
        let scene = scene(0);
        let takers = [1, 2].map(|slot| {
            let scene = scene.clone();
            thread::spawn(move || scene.take(slot))
        });
        scene.give(3, 2);
        join_all(takers);
        assert_eq!(scene.semaphore.value(), 0);
    });
}

#[test]
fn as_a_lock_it_excludes() {
    explore(3, || {
        let scene = scene(1);
        let visit = |scene: &Scene, slot| {
            scene.take(slot);
            scene.count.add();
            scene.give(slot, 1);
        };
        let others = [1, 2].map(|slot| {
            let scene = scene.clone();
            thread::spawn(move || visit(&scene, slot))
        });
        visit(&scene, 3);
        join_all(others);
        assert_eq!(scene.count.get(), 3);
        assert_eq!(scene.semaphore.value(), 1);
    });
}

#[test]
fn a_timeout_takes_nobodys_wake() {
    explore(2, || {
        let scene = scene(0);
        let patient = scene.clone();
        let patient = thread::spawn(move || patient.take(1));
        let hasty = scene.clone();
        let hasty = thread::spawn(move || {
            let port = hasty.world.port(2);
            if hasty.semaphore.acquire(&port, some_time()).is_ok() {
                hasty.semaphore.release(&port, 1).unwrap();
            }
        });
        scene.give(3, 1);
        scene.world.expire();
        patient.join().unwrap();
        hasty.join().unwrap();
        assert_eq!(scene.semaphore.value(), 0);
    });
}

#[test]
fn a_taker_that_dies_anywhere_strands_nobody() {
    // Two permits for the victim and one survivor: the survivor must get one whatever the victim did.
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let scene = scene(0);
            let survivor = scene.clone();
            let survivor = thread::spawn(move || survivor.take(1));
            let giver = scene.clone();
            let giver = thread::spawn(move || {
                giver.give(2, 1);
                giver.give(2, 1);
            });
            let reaper = scene.world.port(4);
            victim(
                &scene.world,
                owner(3),
                fuel,
                &was_killed,
                || scene.take(3),
                || scene.semaphore.reap(&reaper, owner(3)),
            );
            survivor.join().unwrap();
            giver.join().unwrap();
            assert!(scene.semaphore.value() <= 1);
        });
    });
}

#[test]
fn a_giver_that_dies_anywhere_strands_nobody() {
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let scene = scene(0);
            let takers = [1, 2].map(|slot| {
                let scene = scene.clone();
                thread::spawn(move || scene.take(slot))
            });
            let reaper = scene.world.port(4);
            victim(
                &scene.world,
                owner(3),
                fuel,
                &was_killed,
                || {
                    scene.give(3, 1);
                    scene.give(3, 1);
                },
                || {
                    scene.semaphore.reap(&reaper, owner(3));
                    // What it had not given yet, others give.
                    scene.semaphore.release(&reaper, 2).unwrap();
                },
            );
            join_all(takers);
        });
    });
}
