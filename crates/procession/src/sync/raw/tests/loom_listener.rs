//! Every schedule of a few processes and one listener with a descriptor: whoever waits on it is rung, and never for nothing.
//!
//! The state is a count of items; its looks have the fence that the sequentially consistent loads of `channel/core.rs` stand for, which loom does not model.
//!
//! Bounds: one listener, who takes everything, one or two ringers with one item each; 3 preemptions.

use super::super::{Audience, RawListener};
use super::loom_port::{World, at_each_kill_point, explore, join_all, owner, victim};
use crate::atomic::{AtomicU32, AtomicU64, Ordering, fence, kill};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::Arc;

const LISTENER: usize = 1;

struct Scene {
    word: AtomicU64,
    armed: AtomicU32,
    /// Rung, and not drained.
    rung: Mutex<bool>,
    bell: Condvar,
    /// Who rings has come to the end of it, or of its life.
    rings: Mutex<()>,
    ends: Condvar,
    put: AtomicU32,
    taken: AtomicU32,
    /// Somebody died: a ring that is on its way may never come.
    has_death: AtomicU32,
    world: Arc<World>,
}

impl Audience for Scene {
    type Bell = ();

    fn armed(&self) -> &AtomicU32 {
        &self.armed
    }

    fn each(&self) -> impl Iterator<Item = (RawListener<'_>, u32, ())> {
        std::iter::once((RawListener(&self.word), 2, ()))
    }

    fn ring(&self, (): &()) -> bool {
        kill::step();
        *self.rung.lock().unwrap() = true;
        self.bell.notify_all();
        true
    }

    /// Sleeps instead of looking again and again, until some ringer has come to its end.
    fn settle(&self, listener: RawListener<'_>) {
        let mut rings = self.rings.lock().unwrap();
        while listener.is_pending() && self.has_death.load(Ordering::SeqCst) == 0 {
            rings = self.ends.wait(rings).unwrap();
        }
    }
}

fn scene() -> Arc<Scene> {
    let scene = Scene {
        word: AtomicU64::new(0),
        armed: AtomicU32::new(0),
        rung: Mutex::new(false),
        bell: Condvar::new(),
        rings: Mutex::new(()),
        ends: Condvar::new(),
        put: AtomicU32::new(0),
        taken: AtomicU32::new(0),
        has_death: AtomicU32::new(0),
        world: World::new(),
    };
    assert!(scene.listener().take(owner(LISTENER)));
    Arc::new(scene)
}

impl Scene {
    fn listener(&self) -> RawListener<'_> {
        RawListener(&self.word)
    }

    fn is_ready(&self) -> bool {
        fence(Ordering::SeqCst);
        self.put.load(Ordering::SeqCst) != self.taken.load(Ordering::SeqCst)
    }

    fn put(&self) {
        self.put.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::SeqCst) != 0 {
            self.notify(|| self.is_ready());
            self.end_ring();
        }
    }

    fn end_ring(&self) {
        drop(self.rings.lock().unwrap());
        self.ends.notify_all();
    }

    /// As `Readiness::arm`.
    fn arm(&self) -> bool {
        self.quieten(self.listener(), owner(LISTENER));
        *self.rung.lock().unwrap() = false;
        self.listener().arm(owner(LISTENER));
        self.armed.fetch_or(2, Ordering::SeqCst);
        let ready = self.is_ready();
        if ready {
            self.tell(self.listener(), &(), || true);
            self.end_ring();
        }
        ready
    }

    /// Sleeps until the bell was rung.
    fn poll(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.bell.wait(rung).unwrap();
        }
    }

    /// Takes one item, as a program does that trusts its descriptor.
    fn take(&self) {
        while !self.is_ready() && !self.arm() {
            self.poll();
            assert!(
                self.is_ready() || self.has_death.load(Ordering::SeqCst) != 0,
                "rung for nothing"
            );
        }
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    fn reap(&self, dead: usize) {
        self.has_death.store(1, Ordering::SeqCst);
        self.end_ring();
        self.bury(owner(dead), || self.is_ready());
    }
}

#[test]
fn whoever_is_rung_finds_something() {
    explore(3, || {
        let scene = scene();
        let ringers = [2, 3].map(|_| {
            let scene = scene.clone();
            thread::spawn(move || scene.put())
        });
        scene.take();
        scene.take();
        join_all(ringers);
        assert!(!scene.arm(), "all are taken");
    });
}

#[test]
fn no_ring_comes_after_the_bell_was_drained() {
    explore(3, || {
        let scene = scene();
        let ringer = {
            let scene = scene.clone();
            thread::spawn(move || scene.put())
        };
        // Twice, as a program does that looks and comes back later.
        scene.arm();
        scene.arm();
        scene.take();
        assert!(!scene.arm());
        ringer.join().unwrap();
        assert!(!*scene.rung.lock().unwrap(), "rung for nothing");
    });
}

#[test]
fn a_ringer_killed_anywhere_leaves_nobody_waiting() {
    at_each_kill_point(|fuel, was_killed| {
        explore(3, move || {
            let scene = scene();
            let listener = {
                let scene = scene.clone();
                thread::spawn(move || scene.take())
            };
            let (world, who) = (scene.world.clone(), owner(2));
            victim(
                &world,
                who,
                fuel,
                &was_killed,
                || scene.put(),
                || scene.reap(2),
            );
            if scene.put.load(Ordering::SeqCst) == 0 {
                scene.put();
            }
            listener.join().unwrap();
        });
    });
}

#[test]
fn a_listener_killed_anywhere_leaves_its_word_to_the_next() {
    at_each_kill_point(|fuel, was_killed| {
        explore(3, move || {
            let scene = scene();
            let ringer = {
                let scene = scene.clone();
                thread::spawn(move || scene.put())
            };
            let (world, who) = (scene.world.clone(), owner(LISTENER));
            victim(
                &world,
                who,
                fuel,
                &was_killed,
                || {
                    scene.arm();
                },
                || scene.reap(LISTENER),
            );
            // The next listener, or the same one.
            scene.listener().take(owner(LISTENER));
            scene.take();
            ringer.join().unwrap();
        });
    });
}
