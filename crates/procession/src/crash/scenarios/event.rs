//! Events: set while somebody sleeps, waited for, and set for a moment only.

use super::super::{Fault, Landing, Shared as Table};
use super::stage::{Act, Helper};
use crate::Event;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

fn sleeper(event: &Event) -> Helper {
    let helper = Helper::start(&mut || event.wait());
    helper.until_asleep();
    helper
}

fn works(event: &Event) -> Result<(), Fault> {
    for _ in 0..2 {
        event.clear();
        if event.is_set() || event.wait_timeout(std::time::Duration::ZERO).is_ok() {
            return Err("cleared, and set".into());
        }
        event.set();
        if !event.is_set() || event.wait_timeout(std::time::Duration::ZERO).is_err() {
            return Err("set, and clear".into());
        }
    }
    Ok(())
}

#[test]
fn crash_event_set() {
    let props = || {
        let event = Event::new().expect("event");
        let sleepers = [sleeper(&event), sleeper(&event)];
        (event, sleepers)
    };
    Act::new(
        "event set, two waiters asleep",
        props,
        |_| (),
        |(event, _), ()| event.set(),
    )
    .judge(|(event, sleepers), killed| {
        // Once it is set, they come to know of it whatever became of the wake.
        if !event.is_set() {
            if killed.landing == Landing::Finished {
                return Err("set, and clear".into());
            }
            event.set();
        }
        sleepers.into_iter().try_for_each(Helper::joins)?;
        works(&event)
    })
    .play();
}

/// The victim sets and clears: who slept before must get through, even if it looks only afterwards.
#[test]
fn crash_event_pulse() {
    let props = || {
        let event = Event::new().expect("event");
        let helper = sleeper(&event);
        (event, helper, Table::<AtomicU64>::new())
    };
    Act::new(
        "event set and clear, a waiter asleep",
        props,
        |_| (),
        |(event, _, was_set), ()| {
            event.set();
            was_set.store(1, Ordering::SeqCst);
            event.clear();
        },
    )
    .judge(|(event, helper, was_set), killed| {
        let was_set = was_set.load(Ordering::SeqCst) == 1;
        if was_set && killed.landing == Landing::Finished && event.is_set() {
            return Err("cleared, and set".into());
        }
        if !was_set && !event.is_set() {
            event.set();
        }
        helper.joins()?;
        works(&event)
    })
    .play();
}

/// The victim waits beside somebody else; the survivor sets.
#[test]
fn crash_event_wait() {
    let props = || {
        let event = Event::new().expect("event");
        let helper = sleeper(&event);
        (event, helper, Cell::new(false))
    };
    Act::new(
        "event wait, beside another waiter",
        props,
        |_| (),
        |(event, ..), ()| event.wait(),
    )
    .rouse(|(event, _, roused)| {
        roused.set(true);
        event.set();
        true
    })
    .judge(|(event, helper, roused), _| {
        if event.is_set() != roused.get() {
            return Err(format!("set: {}, should be {roused:?}", event.is_set()).into());
        }
        event.set();
        helper.joins()?;
        works(&event)
    })
    .play();
}
