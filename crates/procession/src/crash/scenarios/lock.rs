//! Locks, and whatever else is taken and given back: implement [`Exclusive`] for it and call the four scenarios.

use super::super::{Fault, Shared as Table};
use super::stage::{Act, Helper};
use crate::family::{Owner, Waiter};
use crate::heap::{Object, Shared, me};
use crate::sync::SharedLock;
use crate::sync::raw::{Acquired, TimedOut};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An object that one participant has at a time, and that its death gives back.
pub(super) trait Exclusive: Object {
    const NAME: &'static str;
    /// Takes it, within the time; says whether the last owner died in possession.
    fn take(&self, limit: Option<Duration>) -> Result<bool, TimedOut>;
    fn give(&self);
    /// Whom it names as its owner, dead or alive.
    fn owner(&self) -> Option<Owner>;
}

impl Exclusive for SharedLock {
    const NAME: &'static str = "lock";

    fn take(&self, limit: Option<Duration>) -> Result<bool, TimedOut> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        self.raw
            .acquire(&Waiter::new(), deadline)
            .map(|Acquired { recovered }| recovered)
    }

    fn give(&self) {
        let _ = self.raw.release(&Waiter::new());
    }

    fn owner(&self) -> Option<Owner> {
        self.raw.owner()
    }
}

pub(super) const SOON: Option<Duration> = Some(Duration::from_secs(3));

fn fresh<L: Exclusive>() -> Shared<L> {
    Shared::create(|_, _| ()).expect("create")
}

/// Twice, so that a word left in a strange state shows.
fn usable<L: Exclusive>(lock: &L) -> Result<(), Fault> {
    for _ in 0..2 {
        if lock.take(SOON).is_err() {
            return Err(Fault::Wedged(format!("{} cannot be taken", L::NAME)));
        }
        lock.give();
    }
    Ok(())
}

/// The next owner is told exactly if the victim died in possession.
fn tells_of<L: Exclusive>(lock: &L, died_in: bool) -> Result<(), Fault> {
    match lock.take(SOON) {
        Err(_) => Err(Fault::Wedged(format!("{} cannot be taken", L::NAME))),
        Ok(recovered) if recovered == died_in => {
            lock.give();
            usable(lock)
        }
        Ok(recovered) => {
            Err(format!("died in possession: {died_in}, recovered: {recovered}").into())
        }
    }
}

pub(super) fn uncontended<L: Exclusive>() {
    Act::new(
        &format!("{} acquire and release, free", L::NAME),
        || (fresh::<L>(), Cell::new(false)),
        |_| (),
        |(lock, _), ()| {
            let _ = lock.take(None);
            lock.give();
        },
    )
    .witness(|(lock, died_in)| died_in.set(lock.owner().is_some()))
    .judge(|(lock, died_in), _| tells_of(&*lock, died_in.get()))
    .play();
}

/// The survivor has it; the victim waits, gets it, gives it back.
pub(super) fn contended<L: Exclusive>() {
    Act::new(
        &format!("{} acquire, held by another", L::NAME),
        || {
            let lock = fresh::<L>();
            let _ = lock.take(None);
            (lock, Cell::new(true), Cell::new(false))
        },
        |_| (),
        |(lock, ..), ()| {
            let _ = lock.take(None);
            lock.give();
        },
    )
    .rouse(|(lock, held, _)| {
        if held.replace(false) {
            lock.give();
        }
        true
    })
    .witness(|(lock, _, died_in)| {
        died_in.set(lock.owner().is_some_and(|owner| owner != me()));
    })
    .judge(|(lock, held, died_in), _| {
        if held.get() {
            lock.give();
        }
        tells_of(&*lock, died_in.get())
    })
    .play();
}

/// The victim has it and gives it back while somebody sleeps for it.
pub(super) fn waited_for<L: Exclusive>() {
    let props = || {
        let lock = fresh::<L>();
        let stage = Table::<[AtomicU64; 2]>::new();
        let _ = lock.take(None);
        let helper = Helper::start(&mut || {
            while stage[0].load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            assert!(lock.take(SOON).is_ok());
            stage[1].store(1, Ordering::SeqCst);
            lock.give();
        });
        lock.give();
        (lock, helper, stage)
    };
    Act::new(
        &format!("{} release, a waiter asleep", L::NAME),
        props,
        |(lock, helper, stage)| {
            let _ = lock.take(None);
            stage[0].store(1, Ordering::SeqCst);
            helper.until_asleep();
        },
        |(lock, ..), ()| lock.give(),
    )
    .judge(|(lock, helper, stage), _| {
        helper.joins()?;
        if stage[1].load(Ordering::SeqCst) != 1 {
            return Err(Fault::Wedged("the waiter did not get it".into()));
        }
        usable(&*lock)
    })
    .play();
}

/// Its owner is dead; the victim takes it over, and dies.
pub(super) fn taken_over<L: Exclusive>() {
    let props = || {
        let lock = fresh::<L>();
        let helper = Helper::start(&mut || {
            let _ = lock.take(None);
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        helper.until_asleep();
        helper.kill();
        (lock, helper)
    };
    Act::new(
        &format!("{} acquire, taking over from the dead", L::NAME),
        props,
        |_| (),
        |(lock, _), ()| {
            let _ = lock.take(None);
            lock.give();
        },
    )
    .rouse(|_| true)
    .judge(|(lock, _helper), _| usable(&*lock))
    .play_by(|sweep| sweep.max_steps(20_000));
}

#[test]
fn crash_lock_uncontended() {
    uncontended::<SharedLock>();
}

#[test]
fn crash_lock_contended() {
    contended::<SharedLock>();
}

#[test]
fn crash_lock_waited_for() {
    waited_for::<SharedLock>();
}

#[test]
fn crash_lock_taken_over() {
    taken_over::<SharedLock>();
}
