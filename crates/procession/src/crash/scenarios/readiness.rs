//! Descriptors that say when a channel has something: whoever waits is rung, by whoever is left, and never for nothing.
//!
//! The survivors listen by a bare doorbell, which never rings by itself: what is forgotten stays forgotten.

use super::super::{Fault, Killed, Landing};
use super::stage::Act;
use crate::channel::{Listeners, Seat};
use crate::sys::doorbell::{Doorbell, readable};
use crate::{Plain, Queue};
use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::Instant;

type Line = Queue<u64, Plain>;

/// A queue and who listens to it.
struct Ear {
    queue: Line,
    bell: Doorbell,
    seat: Seat,
}

impl Ear {
    /// Of an empty queue, armed.
    fn armed() -> Self {
        let ear = Self::of(Queue::unbounded().expect("queue"));
        assert!(!ear.arm());
        ear
    }

    fn of(queue: Line) -> Self {
        let bell = Doorbell::new().expect("bell");
        let shared = queue.shared();
        let seat = shared
            .channel
            .listeners()
            .claim(shared.container(), bell.name())
            .expect("a cell");
        Self { queue, bell, seat }
    }

    fn listeners(&self) -> &Listeners {
        self.queue.shared().channel.listeners()
    }

    /// As [`Readiness::arm`](crate::Readiness::arm).
    fn arm(&self) -> bool {
        self.listeners().settle(&self.seat);
        self.bell.drain();
        self.listeners().arm(&self.seat);
        let ready = !self.queue.is_empty();
        if ready {
            self.listeners().ring_self(&self.seat);
        }
        ready
    }

    fn is_rung(&self) -> bool {
        !readable(&[self.bell.as_fd()], Some(Instant::now()))
            .expect("poll")
            .is_empty()
    }

    /// Takes all there is, if there was a ring, and nothing if there was none.
    fn drain(&self) -> Result<Vec<u64>, Fault> {
        let mut found = Vec::new();
        while let Ok(number) = self.queue.try_get() {
            if found.is_empty() && !self.is_rung() {
                return Err(Fault::Wedged(format!("{number} is there and no ring")));
            }
            found.push(number);
        }
        if found.is_empty() && self.is_rung() {
            return Err("rung for nothing".into());
        }
        Ok(found)
    }

    /// Armed again it is rung for the next item, and for nothing before.
    fn works(&self) -> Result<(), Fault> {
        for number in 900..903 {
            if self.arm() || self.is_rung() {
                return Err("rung for what was taken".into());
            }
            self.queue.put(number).expect("put");
            if self.drain()? != [number] {
                return Err(format!("{number} did not come").into());
            }
        }
        Ok(())
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        if self.seat.is_mine() {
            self.listeners().release(&self.seat);
        }
    }
}

fn put(queue: &Line, number: u64) {
    queue.put(number).expect("put");
}

/// The victim's first ring makes the socket to ring with.
fn warm() {
    let other = Ear::armed();
    put(&other.queue, 1);
}

/// What the dead writer put, if it did, is told by the reaper at the latest; otherwise the next item is.
fn told(ear: &Ear, killed: &Killed) -> Result<(), Fault> {
    if ear.queue.ever_put() == 0 {
        if killed.landing == Landing::Finished || ear.is_rung() {
            return Err("finished, or rung, and nothing is there".into());
        }
        put(&ear.queue, 100);
    }
    if ear.drain()? != [100] {
        return Err("another item than was put".into());
    }
    ear.works()
}

fn ringing() -> Act<Ear> {
    Act::new(
        "queue put, a descriptor armed",
        Ear::armed,
        |_| warm(),
        |ear, ()| put(&ear.queue, 100),
    )
    .judge(|ear, killed| told(&ear, killed))
}

#[test]
fn crash_ring() {
    ringing().play();
}

/// The next writer comes before anybody has looked for the dead: it rings for both.
#[test]
fn crash_ring_and_the_next_before_the_reaper() {
    Act::new(
        "queue put, a descriptor armed, the next comes before the reaper",
        || (Ear::armed(), Cell::new(false)),
        |_| warm(),
        |(ear, _), ()| put(&ear.queue, 100),
    )
    .witness(|(ear, rung)| {
        put(&ear.queue, 200);
        rung.set(ear.is_rung());
    })
    .judge(|(ear, rung), killed| {
        let found = ear.drain()?;
        let fine = found == [100, 200] || (found == [200] && killed.landing != Landing::Finished);
        if !fine || !rung.get() {
            return Err(format!("found {found:?}, rung: {rung:?}").into());
        }
        ear.works()
    })
    .play();
}

/// The victim listens, too, and arms its own bell beside the survivor's.
fn arming(name: &str, is_there: bool) -> Act<Ear, Ear> {
    let part = move |ear: &Ear| {
        warm();
        let own = Ear::of(ear.queue.clone());
        assert!(!own.arm());
        if is_there {
            put(&ear.queue, 100);
        }
        own
    };
    Act::new(name, Ear::armed, part, move |_, own| {
        assert_eq!(own.arm(), is_there);
        std::mem::forget(own);
    })
}

/// Its place is free afterwards.
#[test]
fn crash_arm() {
    arming("listener armed, another one is", false)
        .judge(|ear, _| {
            if ear.is_rung() {
                return Err("rung for nothing".into());
            }
            ear.works()?;
            let next = Ear::of(ear.queue.clone());
            if !next.seat.follows(&ear.seat) {
                return Err(Fault::Leaked("the dead listener's cell is taken".into()));
            }
            Ok(())
        })
        .play();
}

/// Something came: `arm` rings the victim's own bell.
#[test]
fn crash_arm_with_an_item_there() {
    arming("listener armed, an item is there", true)
        .judge(|ear, killed| told(&ear, killed))
        .play();
}

fn making() -> Act<Line> {
    let whole = |queue: &Line| drop(queue.readiness().expect("readiness"));
    Act::new(
        "readiness made and dropped, the first of a queue",
        || Queue::unbounded().expect("queue"),
        move |_: &Line| whole(&Queue::unbounded().expect("queue")),
        move |queue, ()| whole(queue),
    )
    .judge(|queue, _| {
        put(&queue, 1);
        if queue.try_get() == Ok(1) {
            Ok(())
        } else {
            Err("the queue is damaged".into())
        }
    })
}

#[test]
fn crash_make_readiness() {
    making().play_thinned();
}

#[test]
fn crash_reapers_of_ringers() {
    ringing().play_with_dying_reapers(11);
    making().play_with_dying_reapers(31);
}
