//! Every schedule of a few threads on one re-entrant lock.
//!
//! Bounds: 2-3 threads, two levels deep; 3 preemptions (2 where a kill point varies).

use super::super::{RLockTryError, RawRLock};
use super::loom_port::{Guarded, World, at_each_kill_point, explore, join_all, owner, victim};
use loom::thread;
use std::sync::Arc;

struct Scene {
    lock: RawRLock,
    count: Guarded,
    world: Arc<World>,
}

fn scene() -> Arc<Scene> {
    Arc::new(Scene {
        lock: RawRLock::new(),
        count: Guarded::new(),
        world: World::new(),
    })
}

impl Scene {
    /// Acquires twice, counts, releases twice; says whether the lock was recovered from the dead.
    fn visit(&self, slot: usize, thread: u32) -> bool {
        let port = self.world.port(slot);
        let acquired = self.lock.acquire(&port, thread, None).unwrap();
        assert!(!self.lock.try_acquire(&port, thread).unwrap().recovered);
        assert_eq!(self.lock.depth(&port, thread), 2);
        self.count.add();
        self.lock.release(&port, thread).unwrap();
        self.lock.release(&port, thread).unwrap();
        assert!(!self.lock.is_held_by(&port, thread));
        acquired.recovered
    }
}

#[test]
fn threads_of_one_participant_exclude_each_other() {
    explore(3, || {
        let scene = scene();
        let others = [1, 2].map(|number| {
            let scene = scene.clone();
            thread::spawn(move || scene.visit(1, number))
        });
        join_all(others);
        assert_eq!(scene.count.get(), 2);
    });
}

#[test]
fn a_sibling_never_takes_the_dead_ones_thread_for_its_own() {
    // Thread 1 of participant 3 dies in possession; thread 2 of participant 1 takes over while thread 1 of it asks.
    explore(3, || {
        let scene = scene();
        scene.lock.acquire(&scene.world.port(3), 1, None).unwrap();
        scene.world.bury(owner(3));
        scene.world.end_slices();
        let heir = scene.clone();
        let heir = thread::spawn(move || heir.visit(1, 2));
        let port = scene.world.port(1);
        assert!(!scene.lock.is_held_by(&port, 1));
        match scene.lock.try_acquire(&port, 1) {
            Ok(_) => scene.lock.release(&port, 1).unwrap(),
            Err(error) => assert_eq!(error, RLockTryError::WouldBlock),
        }
        assert!(heir.join().unwrap());
        assert_eq!(scene.count.get(), 1);
    });
}

#[test]
fn a_death_anywhere_resets_the_depth() {
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let scene = scene();
            let survivor = scene.clone();
            let survivor = thread::spawn(move || survivor.visit(1, 1));
            let reaper = scene.world.port(4);
            let killed = victim(
                &scene.world,
                owner(3),
                fuel,
                &was_killed,
                || drop(scene.visit(3, 1)),
                || drop(scene.lock.reap(&reaper, owner(3))),
            );
            assert!(killed || !survivor.join().unwrap());
        });
    });
}
