//! A world for loom: a futex that never times out by itself, deaths, and a clock that a test turns on.
//!
//! A sleep compares and enqueues under one mutex, which a wake takes too, as the kernel's bucket lock
//! does; a wake finds only those asleep. So where a wake is lost, loom reports a deadlock. Sleeps with a deadline
//! end when some thread calls [`World::expire`], sleeps in general (one slice each) when it calls
//! [`World::end_slices`]. Spinning is off: it would only repeat the reads that loom explores anyway.

use super::super::{Deadline, Port, Slept};
use crate::atomic::{AtomicU32, Ordering, kill};
use crate::family::Owner;
use loom::sync::{Condvar, Mutex, MutexGuard};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as StdOrdering};
use std::time::Instant;

#[derive(Clone)]
struct Sleeper {
    address: usize,
    is_timed: bool,
    ended: Arc<Mutex<Option<Slept>>>,
    bell: Arc<Condvar>,
}

#[derive(Default)]
struct State {
    sleepers: Vec<Sleeper>,
    dead: Vec<Owner>,
    has_expired: bool,
    slices_end: bool,
}

/// What all ports of one model share.
pub(super) struct World(Mutex<State>);

/// One participant's port.
pub(super) struct LoomPort {
    world: Arc<World>,
    me: Owner,
    has_sliced: Cell<bool>,
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::default())))
    }

    pub(super) fn port(self: &Arc<Self>, slot: usize) -> LoomPort {
        LoomPort {
            world: self.clone(),
            me: owner(slot),
            has_sliced: Cell::new(false),
        }
    }

    /// The death of `owner` can be proved from now on.
    pub(super) fn bury(&self, owner: Owner) {
        self.lock().dead.push(owner);
    }

    /// All deadlines have passed from now on.
    pub(super) fn expire(&self) {
        let mut state = self.lock();
        state.has_expired = true;
        state.end(usize::MAX, Slept::TimedOut, |sleeper| sleeper.is_timed);
    }

    /// Whoever sleeps wakes by itself, and whoever does not will do so once.
    pub(super) fn end_slices(&self) {
        let mut state = self.lock();
        state.slices_end = true;
        state.end(usize::MAX, Slept::Again, |_| true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn end(&mut self, count: usize, how: Slept, which: impl Fn(&Sleeper) -> bool) -> usize {
        let mut left = count;
        self.sleepers.retain(|sleeper| {
            if left == 0 || !which(sleeper) {
                return true;
            }
            left -= 1;
            *sleeper.ended.lock().unwrap() = Some(how);
            sleeper.bell.notify_one();
            false
        });
        count - left
    }
}

impl Port for LoomPort {
    fn me(&self) -> Owner {
        self.me
    }

    fn is_gone(&self, owner: Owner) -> bool {
        self.world.lock().dead.contains(&owner)
    }

    fn spin(&self, _turn: u32) -> bool {
        false
    }

    fn sleep(&self, word: &AtomicU32, expected: u32, deadline: Deadline) -> Slept {
        let mut state = self.world.lock();
        if word.load(Ordering::Relaxed) != expected {
            return Slept::Again;
        }
        if deadline.is_some() && state.has_expired {
            return Slept::TimedOut;
        }
        if state.slices_end && !self.has_sliced.replace(true) {
            return Slept::Again;
        }
        let sleeper = Sleeper {
            address: std::ptr::from_ref(word).addr(),
            is_timed: deadline.is_some(),
            ended: Arc::new(Mutex::new(None)),
            bell: Arc::new(Condvar::new()),
        };
        state.sleepers.push(sleeper.clone());
        // From here on only `ended` matters: whoever ends the sleep has taken it off the list.
        let mut ended = sleeper.ended.lock().unwrap();
        drop(state);
        loop {
            if let Some(how) = *ended {
                return how;
            }
            ended = sleeper.bell.wait(ended).unwrap();
        }
    }

    fn wake(&self, word: &AtomicU32, count: u32) -> u32 {
        kill::step();
        let address = std::ptr::from_ref(word).addr();
        self.world
            .lock()
            .end(count as usize, Slept::Again, |sleeper| {
                sleeper.address == address
            }) as u32
    }
}

/// The participant in `slot`.
pub(super) fn owner(slot: usize) -> Owner {
    Owner::new(slot, 1)
}

/// A deadline; it passes when the test says so.
pub(super) fn some_time() -> Deadline {
    Some(Instant::now())
}

/// Explores all schedules of `model` with at most `preemptions` preemptions.
pub(super) fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// Runs `test` with a victim that dies before its first write, its second, ..., until it no longer dies.
///
/// `test` gets the fuel and a flag to raise when the victim was killed.
pub(super) fn at_each_kill_point(test: impl Fn(u32, Arc<AtomicBool>)) {
    for fuel in 0.. {
        let was_killed = Arc::new(AtomicBool::new(false));
        test(fuel, was_killed.clone());
        if !was_killed.load(StdOrdering::Relaxed) {
            assert!(fuel > 0, "the victim never did anything");
            return;
        }
    }
}

/// Runs `body` as a victim; once dead it is buried and `reap` runs, by another participant's port. Says whether it died.
pub(super) fn victim(
    world: &World,
    who: Owner,
    fuel: u32,
    was_killed: &AtomicBool,
    body: impl FnOnce(),
    reap: impl FnOnce(),
) -> bool {
    let killed = kill::with_fuel(fuel, body);
    if killed {
        was_killed.store(true, StdOrdering::Relaxed);
        world.bury(who);
        reap();
    }
    killed
}

/// Waits for both threads, and gives what they returned.
pub(super) fn join_all<T>(threads: [loom::thread::JoinHandle<T>; 2]) -> [T; 2] {
    threads.map(|thread| thread.join().unwrap())
}

/// A counter that loses counts unless its users exclude each other.
pub(super) struct Guarded(loom::sync::atomic::AtomicU32);

impl Guarded {
    pub(super) fn new() -> Self {
        Self(loom::sync::atomic::AtomicU32::new(0))
    }

    pub(super) fn add(&self) {
        let seen = self.get();
        self.0.store(seen + 1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
