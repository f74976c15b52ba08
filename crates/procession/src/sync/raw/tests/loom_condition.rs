//! Every schedule of a few threads on one condition.
//!
//! Bounds: 2 cells, 3 threads, one notification or two; 3 preemptions (2 where a kill point varies).

use super::super::{RawCell, RawCondition, Waited};
use super::loom_port::{LoomPort, World, at_each_kill_point, explore, owner, some_time, victim};
use loom::thread;
use std::sync::Arc;

struct Scene {
    condition: RawCondition,
    cells: [RawCell; 2],
    world: Arc<World>,
}

fn scene() -> Arc<Scene> {
    Arc::new(Scene {
        condition: RawCondition::new(),
        cells: [RawCell::new(), RawCell::new()],
        world: World::new(),
    })
}

impl Scene {
    fn claim(&self, port: &LoomPort) -> usize {
        self.condition.claim(&self.cells, port).unwrap()
    }

    fn assert_all_free(&self) {
        assert!(self.cells.iter().all(|cell| cell.owner().is_none()));
    }
}

#[test]
fn a_notification_is_never_lost() {
    explore(3, || {
        let scene = scene();
        let waiter = scene.clone();
        let port = scene.world.port(1);
        let index = scene.claim(&port);
        let waiter = thread::spawn(move || {
            waiter
                .condition
                .wait(&waiter.cells, index, &waiter.world.port(1), None)
        });
        assert_eq!(
            scene
                .condition
                .notify(&scene.cells, 1, &scene.world.port(2)),
            1
        );
        assert_eq!(waiter.join().unwrap(), Waited::Notified);
        scene.assert_all_free();
    });
}

#[test]
fn a_timeout_that_loses_the_race_counts_as_notified() {
    explore(3, || {
        let scene = scene();
        let index = scene.claim(&scene.world.port(1));
        let waiter = scene.clone();
        let waiter = thread::spawn(move || {
            waiter
                .condition
                .wait(&waiter.cells, index, &waiter.world.port(1), some_time())
        });
        let clock = scene.clone();
        let clock = thread::spawn(move || clock.world.expire());
        let told = scene
            .condition
            .notify(&scene.cells, 1, &scene.world.port(2));
        clock.join().unwrap();
        assert_eq!(waiter.join().unwrap() == Waited::Notified, told == 1);
        scene.assert_all_free();
    });
}

#[test]
fn one_notification_wakes_exactly_one_of_two() {
    explore(3, || {
        let scene = scene();
        let waiters = [1, 2].map(|slot| {
            let index = scene.claim(&scene.world.port(slot));
            let scene = scene.clone();
            thread::spawn(move || {
                let port = scene.world.port(slot);
                scene
                    .condition
                    .wait(&scene.cells, index, &port, some_time())
            })
        });
        let told = scene
            .condition
            .notify(&scene.cells, 1, &scene.world.port(3));
        scene.world.expire();
        let notified = waiters.map(|waiter| waiter.join().unwrap() == Waited::Notified);
        assert_eq!(told, 1);
        assert_eq!(notified, [true, false], "the oldest, and nobody else");
    });
}

#[test]
fn two_notifiers_wake_two() {
    explore(2, || {
        let scene = scene();
        let waiters = [1, 2].map(|slot| {
            let index = scene.claim(&scene.world.port(slot));
            let scene = scene.clone();
            thread::spawn(move || {
                scene
                    .condition
                    .wait(&scene.cells, index, &scene.world.port(slot), None)
            })
        });
        let notifier = scene.clone();
        let notifier = thread::spawn(move || {
            notifier
                .condition
                .notify(&notifier.cells, 1, &notifier.world.port(3))
        });
        let told = scene
            .condition
            .notify(&scene.cells, 1, &scene.world.port(4));
        assert_eq!(told + notifier.join().unwrap(), 2);
        assert!(waiters.map(|waiter| waiter.join().unwrap()) == [Waited::Notified; 2]);
    });
}

#[test]
fn a_waiter_that_dies_anywhere_passes_its_notification_on() {
    // The victim is older, so it is the one notified. Either it returned, or the survivor gets its notification.
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let scene = scene();
            let first = scene.claim(&scene.world.port(3));
            let second = scene.claim(&scene.world.port(1));
            let survivor = scene.clone();
            let survivor = thread::spawn(move || {
                survivor
                    .condition
                    .wait(&survivor.cells, second, &survivor.world.port(1), None)
            });
            let notifier = scene.clone();
            let notifier = thread::spawn(move || {
                notifier
                    .condition
                    .notify(&notifier.cells, 1, &notifier.world.port(2))
            });
            let port = scene.world.port(3);
            let killed = victim(
                &scene.world,
                owner(3),
                fuel,
                &was_killed,
                || drop(scene.condition.wait(&scene.cells, first, &port, None)),
                || {
                    scene
                        .condition
                        .reap(&scene.cells, &scene.world.port(4), owner(3))
                },
            );
            assert_eq!(notifier.join().unwrap(), 1);
            if !killed {
                scene
                    .condition
                    .notify(&scene.cells, 1, &scene.world.port(4));
            }
            assert_eq!(survivor.join().unwrap(), Waited::Notified);
            scene.assert_all_free();
        });
    });
}

#[test]
fn a_claimer_that_dies_anywhere_leaves_no_cell() {
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let scene = scene();
            let survivor = scene.clone();
            let survivor = thread::spawn(move || {
                let port = survivor.world.port(1);
                let index = survivor.claim(&port);
                survivor.condition.withdraw(&survivor.cells, index, &port);
            });
            let port = scene.world.port(3);
            victim(
                &scene.world,
                owner(3),
                fuel,
                &was_killed,
                || {
                    let index = scene.claim(&port);
                    scene.condition.withdraw(&scene.cells, index, &port);
                },
                || {
                    scene
                        .condition
                        .reap(&scene.cells, &scene.world.port(4), owner(3))
                },
            );
            survivor.join().unwrap();
            scene.assert_all_free();
        });
    });
}

#[test]
fn a_notifier_that_dies_anywhere_strands_nobody() {
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let scene = scene();
            let index = scene.claim(&scene.world.port(1));
            let waiter = scene.clone();
            let waiter = thread::spawn(move || {
                waiter
                    .condition
                    .wait(&waiter.cells, index, &waiter.world.port(1), None)
            });
            let reaper = scene.world.port(4);
            victim(
                &scene.world,
                owner(3),
                fuel,
                &was_killed,
                || {
                    drop(
                        scene
                            .condition
                            .notify(&scene.cells, 1, &scene.world.port(3)),
                    )
                },
                || {
                    scene.condition.reap(&scene.cells, &reaper, owner(3));
                    scene.condition.notify(&scene.cells, 1, &reaper);
                },
            );
            assert_eq!(waiter.join().unwrap(), Waited::Notified);
        });
    });
}
