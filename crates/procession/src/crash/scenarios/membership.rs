//! Becoming a member and ceasing to be one: both sides of a fork, attaching to a reserved place, leaving.

use super::super::{Fault, os};
use super::stage::{Act, bury_all, heap};
use crate::embed::{self, Place};
use crate::family::{self, fork_hooks};
use crate::heap::{Presence, me};
use crate::sys::identity::Identity;
use crate::{Plain, Queue};

type Line = Queue<u64, Plain>;

fn line() -> Line {
    let queue = Queue::unbounded().expect("queue");
    assert!(queue.try_put(1).is_ok());
    queue
}

fn intact(queue: &Line) -> Result<(), Fault> {
    bury_all();
    let fine = queue.try_get() == Ok(1) && queue.is_empty() && queue.try_put(2).is_ok();
    if fine {
        Ok(())
    } else {
        Err("the queue that the child was to inherit is damaged".into())
    }
}

/// The parent dies on its way to the fork, or on its way back where the fork failed.
#[test]
fn crash_fork_in_the_parent() {
    let (prepare, in_parent, _) = fork_hooks();
    Act::new(
        "fork, parent's side",
        line,
        |_| (),
        move |_, ()| {
            prepare();
            in_parent();
        },
    )
    .judge(|queue, _| intact(&queue))
    .play_thinned();
}

/// The victim does what the child does; its parent's place is its own old one.
#[test]
fn crash_fork_in_the_child() {
    let (prepare, _, in_child) = fork_hooks();
    Act::new(
        "fork, child's side",
        line,
        move |_| prepare(),
        move |_, ()| in_child(),
    )
    .judge(|queue, _| intact(&queue))
    .play_thinned();
}

/// A real fork; the child ends at once, or goes on for a moment after its parent's death.
#[test]
fn crash_fork() {
    Act::new(
        "fork, with a child that ends at once",
        line,
        |_| (),
        |_, ()| {
            let _ = os::fork(&mut || ());
        },
    )
    .judge(|queue, _| {
        // The grandchild is nobody's to wait for here; it dies with its parent or ends by itself.
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(3);
        let others = || {
            bury_all();
            heap()
                .participants()
                .iter()
                .filter(|participant| participant.presence().0 != Presence::Free)
                .count()
                - 1
        };
        while others() > 0 {
            if std::time::Instant::now() > patience {
                return Err(Fault::Leaked("the grandchild's place is never free".into()));
            }
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        intact(&queue)
    })
    .play_thinned();
}

#[test]
fn crash_attach_to_a_reserved_place() {
    Act::new(
        "attach to a reserved place",
        || (line(), heap().reserve_slot(Some(me())).expect("place")),
        |_| (),
        |(_, owner), ()| {
            family::leave_template();
            assert!(family::come_up(*owner, Identity::current()));
        },
    )
    .judge(|(queue, owner), _| {
        // Its creator (us) knows that the process is dead.
        if !heap().abandon_slot(owner) && !heap().is_gone(owner) {
            return Err(Fault::Leaked("the reserved place is not given back".into()));
        }
        intact(&queue)
    })
    .play_thinned();
}

#[test]
fn crash_leave() {
    Act::new("leave", line, |_| (), |_, ()| family::leave())
        .judge(|queue, _| intact(&queue))
        .play();
}

/// Whoever invites dies before, while or after somebody was started for the place; the guest never joins.
#[test]
fn crash_invite() {
    Act::new(
        "place reserved, with a hold for the guest, and taken",
        line,
        |_| (),
        |queue, ()| {
            let place = Place::reserve().expect("place");
            place.hold(queue.handle());
            // A guest that has ended by the time that it is looked for.
            place.taken_by(std::process::id());
        },
    )
    .judge(|queue, _| intact(&queue))
    .play_thinned();
}

/// The guest comes up, finds what was held for it, and dies.
#[test]
fn crash_guest() {
    Act::new(
        "guest, takes its place and what is held for it",
        || {
            let queue = line();
            let place = Place::reserve().expect("place");
            place.hold(queue.handle());
            let owner = place.owner();
            (queue, place, owner)
        },
        |_| family::leave_template(),
        |(queue, _, owner), ()| {
            assert!(family::come_up(*owner, Identity::current()));
            let queue = Line::open(queue.handle()).expect("it is held");
            std::mem::forget(queue);
            embed::leave_family();
        },
    )
    .judge(|(queue, place, _), _| {
        drop(place);
        intact(&queue)
    })
    .play_thinned();
}
