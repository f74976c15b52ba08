//! Every schedule of holders that come, go and pass an object on, while somebody looks whether it can be freed.
//!
//! The marks here are the heap's without its tables: a row of one bit for each of three participants, looked through in order, and one message with one
//! entry and the count of entries. The steps of passing on are those of `heap/holders.rs`, `heap/envelope.rs` and `heap/object.rs`.
//!
//! Bounds: three participants, one message; 3 preemptions, 2 where a kill point varies.

use super::super::holding::{Marks, claim, come, let_go};
use super::super::word::{State, Word};
use super::loom_port::{World, at_each_kill_point, explore, join_all, owner, victim};
use crate::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32 as Plain, Ordering as StdOrdering};

struct Object {
    word: AtomicU64,
    rows: [AtomicU64; 3],
    in_flight: AtomicU64,
    entry: AtomicU64,
    /// How often somebody got it to destroy.
    claims: Plain,
}

impl Marks for Object {
    fn word(&self) -> &AtomicU64 {
        &self.word
    }

    fn is_held(&self) -> bool {
        self.rows.iter().any(|row| row.load(Ordering::SeqCst) != 0)
    }

    fn is_listed(&self, _generation: u32) -> bool {
        self.in_flight.load(Ordering::SeqCst) != 0 && self.entry.load(Ordering::SeqCst) != 0
    }
}

impl Object {
    /// A live one, held by these.
    fn held_by(slots: &[usize]) -> Arc<Self> {
        let row = |slot| AtomicU64::new(u64::from(slots.contains(&slot)));
        Arc::new(Self {
            word: AtomicU64::new(Word(0).with(State::LIVE, 0).0),
            rows: [row(0), row(1), row(2)],
            in_flight: AtomicU64::new(0),
            entry: AtomicU64::new(0),
            claims: Plain::new(0),
        })
    }

    fn hold(&self, slot: usize) {
        self.rows[slot].fetch_or(1, Ordering::SeqCst);
    }

    fn claim(&self, slot: usize) {
        if claim(self, slot) {
            self.claims.fetch_add(1, StdOrdering::Relaxed);
        }
    }

    fn unhold(&self, slot: usize) {
        self.remove(&self.rows[slot]);
        self.claim(slot);
    }

    /// Of two that remove their marks, one at least finds that the other's is gone: both removals, and the looks behind them, are SeqCst. Loom takes them for
    /// less than that, but knows fences.
    fn remove(&self, mark: &AtomicU64) {
        let_go(&self.word, || {
            mark.fetch_and(0, Ordering::SeqCst);
        });
        fence(Ordering::SeqCst);
    }

    /// Into the message.
    fn send(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        self.entry.store(1, Ordering::SeqCst);
    }

    /// The message is read and freed by `slot`.
    fn receive(&self, slot: usize) {
        self.hold(slot);
        self.drop_message(slot);
    }

    fn drop_message(&self, slot: usize) {
        if self.entry.load(Ordering::SeqCst) != 0 {
            self.remove(&self.entry);
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            self.claim(slot);
        }
    }

    /// By its name alone.
    fn open(&self, slot: usize) -> bool {
        self.hold(slot);
        let there = come(&self.word).state() == State::LIVE;
        if !there {
            self.unhold(slot);
        }
        there
    }

    fn is_live(&self) -> bool {
        Word::load(&self.word).state() == State::LIVE
    }

    fn claims(&self) -> u32 {
        self.claims.load(StdOrdering::Relaxed)
    }

    /// What the reaper does for a dead holder.
    fn reap(&self, dead: usize, reaper: usize) {
        if self.rows[dead].load(Ordering::SeqCst) != 0 {
            self.remove(&self.rows[dead]);
        }
        self.claim(reaper);
    }
}

fn spawn(object: &Arc<Object>, act: impl Fn(&Object) + 'static) -> thread::JoinHandle<()> {
    let object = object.clone();
    thread::spawn(move || act(&object))
}

#[test]
fn a_moving_holder_keeps_the_object() {
    // Against the order of the search, and with it.
    for (from, to) in [(1, 0), (0, 1)] {
        explore(3, move || {
            let object = Object::held_by(&[from]);
            let looker = spawn(&object, |object| object.claim(2));
            object.hold(to);
            object.unhold(from);
            looker.join().unwrap();
            assert!(object.is_live() && object.claims() == 0);
            object.unhold(to);
            assert_eq!((object.is_live(), object.claims()), (false, 1));
        });
    }
}

#[test]
fn a_holder_that_moves_to_and_fro_keeps_the_object() {
    explore(3, || {
        let object = Object::held_by(&[0]);
        let looker = spawn(&object, |object| object.claim(2));
        for (from, to) in [(0, 1), (1, 0)] {
            object.hold(to);
            object.unhold(from);
        }
        looker.join().unwrap();
        assert!(object.is_live() && object.claims() == 0);
    });
}

#[test]
fn a_message_keeps_the_object() {
    explore(3, || {
        let object = Object::held_by(&[0]);
        let looker = spawn(&object, |object| object.claim(2));
        object.send();
        let receiver = spawn(&object, |object| object.receive(1));
        object.unhold(0);
        join_all([looker, receiver]);
        assert!(object.is_live() && object.claims() == 0);
        object.unhold(1);
        assert_eq!((object.is_live(), object.claims()), (false, 1));
    });
}

#[test]
fn the_last_of_all_frees_it_and_nobody_else() {
    explore(3, || {
        let object = Object::held_by(&[0, 1]);
        object.send();
        let others = [
            spawn(&object, |object| object.unhold(1)),
            spawn(&object, |object| object.drop_message(2)),
        ];
        object.unhold(0);
        join_all(others);
        assert_eq!((object.is_live(), object.claims()), (false, 1));
    });
}

#[test]
fn whoever_opens_by_name_has_it_or_has_not() {
    explore(3, || {
        let object = Object::held_by(&[0]);
        let opener = {
            let object = object.clone();
            thread::spawn(move || object.open(1))
        };
        object.unhold(0);
        let opened = opener.join().unwrap();
        assert_eq!(object.is_live(), opened);
        if opened {
            object.unhold(1);
        }
        assert_eq!((object.is_live(), object.claims()), (false, 1));
    });
}

#[test]
fn a_holder_killed_anywhere_while_it_passes_on() {
    at_each_kill_point(|fuel, was_killed| {
        explore(2, move || {
            let object = Object::held_by(&[0]);
            let world = World::new();
            let looker = spawn(&object, |object| object.claim(2));
            let body = || {
                object.hold(1);
                object.unhold(0);
            };
            victim(&world, owner(0), fuel, &was_killed, body, || {
                object.reap(0, 2);
            });
            looker.join().unwrap();
            // With the other one, or with nobody: then it is gone, once.
            let held = object.rows[1].load(Ordering::SeqCst) != 0;
            assert_eq!(object.is_live(), held);
            assert_eq!(object.claims(), u32::from(!held));
        });
    });
}
