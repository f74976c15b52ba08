//! Every schedule of a few threads on one lock.
//!
//! Bounds: 3 threads (the main one included), one or two acquisitions each; 3 preemptions (2 where a kill point varies).

use super::super::{RawLock, TimedOut};
use super::loom_port::{
    Guarded, World, at_each_kill_point, explore, join_all, owner, some_time, victim,
};
use loom::thread;
use std::sync::Arc;

struct Scene {
    lock: RawLock,
    count: Guarded,
    world: Arc<World>,
}

fn scene() -> Arc<Scene> {
    Arc::new(Scene {
        lock: RawLock::new(),
        count: Guarded::new(),
        world: World::new(),
    })
}

impl Scene {
    /// Acquires, counts, releases; says whether the lock was recovered from the dead.
    fn visit(&self, slot: usize) -> bool {
        let port = self.world.port(slot);
        let acquired = self.lock.acquire(&port, None).unwrap();
        self.count.add();
        self.lock.release(&port).unwrap();
        acquired.recovered
    }
}

#[test]
fn three_exclude_each_other() {
    explore(3, || {
        let scene = scene();
        let others = [1, 2].map(|slot| {
            let scene = scene.clone();
            thread::spawn(move || scene.visit(slot))
        });
        scene.visit(3);
        join_all(others);
        assert_eq!(scene.count.get(), 3);
        assert_eq!(scene.lock.owner(), None);
    });
}

#[test]
fn two_twice_exclude_each_other() {
    explore(3, || {
        let scene = scene();
        let other = scene.clone();
        let other = thread::spawn(move || (other.visit(1), other.visit(1)));
        scene.visit(2);
        scene.visit(2);
        other.join().unwrap();
        assert_eq!(scene.count.get(), 4);
    });
}

#[test]
fn a_timeout_takes_nobodys_wake() {
    explore(2, || {
        let scene = scene();
        let holder = scene.world.port(1);
        scene.lock.acquire(&holder, None).unwrap();
        let patient = scene.clone();
        let patient = thread::spawn(move || patient.visit(2));
        let hasty = scene.clone();
        let hasty = thread::spawn(move || {
            let port = hasty.world.port(3);
            match hasty.lock.acquire(&port, some_time()) {
                Ok(_) => hasty.lock.release(&port).unwrap(),
                Err(TimedOut) => {}
            }
        });
        scene.lock.release(&holder).unwrap();
        scene.world.expire();
        patient.join().unwrap();
        hasty.join().unwrap();
        assert_eq!(scene.lock.owner(), None);
    });
}

#[test]
fn a_death_anywhere_is_survived() {
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let scene = scene();
            let survivors = [1, 2].map(|slot| {
                let scene = scene.clone();
                thread::spawn(move || scene.visit(slot))
            });
            let reaper = scene.world.port(4);
            let killed = victim(
                &scene.world,
                owner(3),
                fuel,
                &was_killed,
                || drop(scene.visit(3)),
                || drop(scene.lock.reap(&reaper, owner(3))),
            );
            let recovered = join_all(survivors);
            assert!(killed || recovered == [false, false]);
            assert!(recovered != [true, true]);
            assert!(scene.count.get() >= 2);
            assert_eq!(scene.lock.owner(), None);
        });
    });
}

#[test]
fn two_compete_to_take_over_from_the_dead() {
    explore(3, || {
        let scene = scene();
        scene.lock.acquire(&scene.world.port(3), None).unwrap();
        let heirs = [1, 2].map(|slot| {
            let scene = scene.clone();
            thread::spawn(move || scene.visit(slot))
        });
        scene.world.bury(owner(3));
        scene.world.end_slices();
        let recovered = join_all(heirs);
        assert!(recovered[0] != recovered[1], "exactly one takes over");
        assert_eq!(scene.count.get(), 2);
    });
}

#[test]
fn a_reaper_and_an_heir_do_not_both_recover() {
    explore(3, || {
        let scene = scene();
        scene.lock.acquire(&scene.world.port(3), None).unwrap();
        let heir = scene.clone();
        let heir = thread::spawn(move || heir.visit(1));
        scene.world.bury(owner(3));
        scene.world.end_slices();
        scene.lock.reap(&scene.world.port(2), owner(3));
        assert!(heir.join().unwrap());
        assert!(!scene.visit(2));
    });
}
