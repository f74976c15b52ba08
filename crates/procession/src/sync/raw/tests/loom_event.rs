//! Every schedule of a few threads on one event.
//!
//! Bounds: 3 threads, one set each; 3 preemptions.

use super::super::RawEvent;
use super::loom_port::{
    Guarded, World, at_each_kill_point, explore, join_all, owner, some_time, victim,
};
use loom::thread;
use std::sync::Arc;

struct Scene {
    event: RawEvent,
    count: Guarded,
    world: Arc<World>,
}

fn scene() -> Arc<Scene> {
    Arc::new(Scene {
        event: RawEvent::new(),
        count: Guarded::new(),
        world: World::new(),
    })
}

#[test]
fn set_lets_all_waiters_through_and_publishes() {
    explore(3, || {
        let scene = scene();
        let waiters = [1, 2].map(|slot| {
            let scene = scene.clone();
            thread::spawn(move || {
                scene.event.wait(&scene.world.port(slot), None).unwrap();
                assert_eq!(scene.count.get(), 1);
            })
        });
        scene.count.add();
        scene.event.set(&scene.world.port(3));
        join_all(waiters);
    });
}

#[test]
fn a_producer_and_a_clearing_consumer_never_miss_each_other() {
    explore(3, || {
        let scene = scene();
        let producer = scene.clone();
        let producer = thread::spawn(move || {
            for _ in 0..2 {
                producer.count.add();
                producer.event.set(&producer.world.port(1));
            }
        });
        let port = scene.world.port(2);
        loop {
            scene.event.wait(&port, None).unwrap();
            scene.event.clear();
            if scene.count.get() == 2 {
                break;
            }
        }
        producer.join().unwrap();
    });
}

#[test]
fn a_pulse_frees_who_slept_and_a_timeout_who_came_late() {
    explore(3, || {
        let scene = scene();
        let waiter = scene.clone();
        let waiter = thread::spawn(move || {
            let _either = waiter.event.wait(&waiter.world.port(1), some_time());
        });
        scene.event.set(&scene.world.port(2));
        scene.event.clear();
        scene.world.expire();
        waiter.join().unwrap();
        assert!(!scene.event.is_set());
    });
}

#[test]
fn a_setter_that_dies_anywhere_strands_nobody() {
    at_each_kill_point(|fuel, was_killed| {
        explore(3, move || {
            let scene = scene();
            let waiters = [1, 2].map(|slot| {
                let scene = scene.clone();
                thread::spawn(move || scene.event.wait(&scene.world.port(slot), None).unwrap())
            });
            let reaper = scene.world.port(4);
            victim(
                &scene.world,
                owner(3),
                fuel,
                &was_killed,
                || scene.event.set(&scene.world.port(3)),
                || {
                    scene.event.reap(&reaper, owner(3));
                    if !scene.event.is_set() {
                        scene.event.set(&reaper);
                    }
                },
            );
            join_all(waiters);
        });
    });
}
