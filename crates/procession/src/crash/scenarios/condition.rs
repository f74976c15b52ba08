//! Conditions: waiting, notifying, and a notification whose addressee dies.

use super::super::{Fault, Landing, Shared as Table};
use super::stage::{Act, Helper};
use crate::heap::Shared;
use crate::sync::SharedCondition;
use crate::sync::raw::Cells;
use crate::{Condition, Lock};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(3);

fn with_own_lock() -> Condition {
    Condition::new().expect("condition")
}

fn with_plain_lock() -> Condition {
    let lock = Lock::new().expect("lock");
    Condition::with_lock(&lock).expect("condition")
}

/// Waits once, for ever.
fn wait(condition: &Condition) {
    let mut guard = condition.acquire();
    assert!(condition.wait(&mut guard).is_ok());
}

/// Somebody who waits once, and must be told.
fn sleeper(condition: &Condition) -> Helper {
    let helper = Helper::start(&mut || wait(condition));
    helper.until_asleep();
    helper
}

/// Cells that belong to somebody, waiting or told.
fn occupied(condition: &Condition) -> usize {
    let shared = Shared::<SharedCondition>::open(condition.handle()).expect("open");
    shared.each().filter(|cell| cell.owner().is_some()).count()
}

/// Nobody is in it, its lock is free, a notification goes nowhere, and a new waiter is told.
fn works(condition: &Condition) -> Result<(), Fault> {
    if (occupied(condition), condition.notify_one()) != (0, 0) {
        return Err(Fault::Leaked("a cell of nobody".into()));
    }
    if condition.acquire_timeout(SOON).is_err() {
        return Err(Fault::Wedged("its lock cannot be taken".into()));
    }
    let helper = sleeper(condition);
    let told = condition.notify_one();
    if told != 1 {
        return Err(format!("one waits, {told} were told").into());
    }
    helper.joins()?;
    match (condition.n_waiting(), occupied(condition)) {
        (0, 0) => Ok(()),
        other => Err(format!("after a round, waiting and occupied: {other:?}").into()),
    }
}

/// One wait was ended by one notification, or by none if the victim died; the condition still works.
fn told_once(condition: &Condition, told: usize, landing: Landing) -> Result<(), Fault> {
    if told > 1 || (landing == Landing::Finished && told != 1) {
        return Err(format!("one wait ended by {told} notifications").into());
    }
    works(condition)
}

/// The victim waits; the survivor notifies it.
fn waiting(name: &str, fresh: fn() -> Condition) {
    Act::new(
        name,
        move || (fresh(), Cell::new(0)),
        |_| (),
        |(condition, _), ()| wait(condition),
    )
    .rouse(|(condition, told)| {
        told.set(told.get() + condition.notify_one());
        true
    })
    .judge(|(condition, told), killed| told_once(&condition, told.get(), killed.landing))
    .play();
}

#[test]
fn crash_condition_wait() {
    waiting("condition wait", with_own_lock);
}

#[test]
fn crash_condition_wait_plain() {
    waiting("condition wait, with a plain lock", with_plain_lock);
}

/// The victim notifies, holding the lock or not; whom it has told comes by the lock whatever became of the wake.
fn notifying(
    name: &str,
    waiters: usize,
    notify: impl Fn(&Condition) -> usize + 'static,
    expected: usize,
) {
    let props = move || {
        let condition = with_own_lock();
        let helpers: Vec<Helper> = (0..waiters).map(|_| sleeper(&condition)).collect();
        (condition, helpers, Cell::new(0))
    };
    Act::new(
        name,
        props,
        |_| (),
        move |(condition, ..), ()| assert_eq!(notify(condition), expected),
    )
    .witness(|(condition, _, waiting)| waiting.set(condition.n_waiting()))
    .judge(move |(condition, helpers, waiting), killed| {
        let told = waiters - waiting.get();
        if told > expected || (killed.landing == Landing::Finished && told != expected) {
            return Err(format!("{told} told, should be {expected}").into());
        }
        // No burial takes a notification back or makes one.
        let rest = condition.notify_all();
        if told + rest != waiters {
            return Err(format!("{told} told by the dead, {rest} by us, of {waiters}").into());
        }
        helpers.into_iter().try_for_each(Helper::joins)?;
        works(&condition)
    })
    .play();
}

#[test]
fn crash_condition_notify_one() {
    notifying(
        "condition notify one, a waiter asleep",
        1,
        Condition::notify_one,
        1,
    );
}

#[test]
fn crash_condition_notify_one_of_two() {
    notifying(
        "condition notify one, two waiters asleep",
        2,
        Condition::notify_one,
        1,
    );
}

#[test]
fn crash_condition_notify_inside() {
    let inside = |condition: &Condition| {
        let _guard = condition.acquire();
        condition.notify_one()
    };
    notifying(
        "condition notify one, holding the lock, a waiter asleep",
        1,
        inside,
        1,
    );
}

#[test]
fn crash_condition_notify_all() {
    notifying(
        "condition notify all, three waiters asleep",
        3,
        Condition::notify_all,
        3,
    );
}

/// What the survivor of `crash_condition_passed_on` has.
struct Heirs {
    condition: Condition,
    /// Waits from the moment on when the victim sleeps.
    heir: RefCell<Option<Helper>>,
    came_back: Table<AtomicU64>,
    told: Cell<usize>,
    /// Cells taken, and waiters, at the death.
    seen: Cell<(usize, usize)>,
}

/// The victim waits, then somebody younger does; the victim is notified and dies before or after it takes note.
#[test]
fn crash_condition_passed_on() {
    let props = || Heirs {
        condition: with_own_lock(),
        heir: RefCell::new(None),
        came_back: Table::new(),
        told: Cell::new(0),
        seen: Cell::new((0, 0)),
    };
    Act::new(
        "condition wait, notified and dead: passed on",
        props,
        |_| (),
        |heirs, ()| {
            wait(&heirs.condition);
            heirs.came_back.store(1, Ordering::SeqCst);
        },
    )
    .rouse(|heirs| {
        if heirs.told.get() == 0 {
            heirs.heir.replace(Some(sleeper(&heirs.condition)));
            heirs.told.set(heirs.condition.notify_one());
        }
        true
    })
    .witness(|heirs| {
        let cells = occupied(&heirs.condition);
        heirs.seen.set((cells, heirs.condition.n_waiting()));
    })
    .judge(|heirs, killed| {
        let Heirs {
            condition,
            heir,
            came_back,
            told,
            seen,
        } = heirs;
        let Some(heir) = heir.into_inner() else {
            // The victim did not come to its sleep.
            return works(&condition);
        };
        if told.get() != 1 {
            return Err(format!("two wait, {told:?} were told").into());
        }
        let waits = condition.n_waiting();
        let came_back = came_back.load(Ordering::SeqCst) == 1;
        let fine = match seen.get() {
            // The victim had not taken note: its notification is the heir's now.
            (2, _) => waits == 0 && !came_back,
            // It had, and nobody else is told.
            (1, 1) => waits == 1,
            // The heir itself was the reaper, quicker than we.
            (_, 0) => waits == 0 && !came_back && killed.landing != Landing::Finished,
            _ => false,
        };
        if !fine {
            return Err(format!(
                "at the death, cells and waiters {seen:?}; now {waits} wait, came back: {came_back}"
            )
            .into());
        }
        if waits == 1 && condition.notify_one() != 1 {
            return Err("who waits is not told".into());
        }
        heir.joins()?;
        works(&condition)
    })
    .play_thinned();
}

// Waits in steps.

/// Until it is told.
fn step_by_step(wait: &mut crate::embed::ConditionWait<'_>) {
    while !wait.step(Instant::now() + Duration::from_secs(3600)) {}
}

#[test]
fn crash_condition_steps() {
    Act::new(
        "condition wait in steps",
        || (with_own_lock(), Cell::new(0)),
        |_| (),
        |(condition, _), ()| {
            condition.acquire().into_held();
            let mut wait = condition.begin_wait().expect("held");
            step_by_step(&mut wait);
            assert!(wait.leave());
            let later = Instant::now() + Duration::from_secs(3600);
            assert_eq!(wait.come_back(later), Ok(false));
            drop(wait);
            condition.release().expect("held");
        },
    )
    .rouse(|(condition, told)| {
        told.set(told.get() + condition.notify_one());
        true
    })
    .judge(|(condition, told), killed| told_once(&condition, told.get(), killed.landing))
    .play_thinned();
}

/// The victim was told and does not want to be: whoever waits behind it is, by the victim or by its reaper.
#[test]
fn crash_condition_declined() {
    let props = || Heirs {
        condition: with_own_lock(),
        heir: RefCell::new(None),
        came_back: Table::new(),
        told: Cell::new(0),
        seen: Cell::new((0, 0)),
    };
    Act::new(
        "condition wait in steps, told and declined",
        props,
        |_| (),
        |heirs, ()| {
            heirs.condition.acquire().into_held();
            let mut wait = heirs.condition.begin_wait().expect("held");
            step_by_step(&mut wait);
            wait.decline();
        },
    )
    .rouse(|heirs| {
        if heirs.told.get() == 0 {
            heirs.heir.replace(Some(sleeper(&heirs.condition)));
            heirs.told.set(heirs.condition.notify_one());
        }
        true
    })
    .judge(|heirs, _| {
        if let Some(heir) = heirs.heir.into_inner() {
            heir.joins()?;
        }
        works(&heirs.condition)
    })
    .play_thinned();
}
