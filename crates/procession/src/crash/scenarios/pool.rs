//! A pool's worker: takes a task, runs it, puts the result, rings; and the pool's recall of what was not begun.
//!
//! Whatever happens, the results that were put and the tasks that were not taken are all there, in order, and what is in neither is one task at most:
//! the one in hand.

use super::super::{Fault, Killed, Landing};
use super::stage::{Act, Helper};
use crate::pool::trial::{Cargo, Hand, Letter, Trial};
use crate::{WorkerReport, work};
use std::cell::Cell;

/// Task 0 is carried out before the first step, for caches and scratch space; two more are on the way when the victim dies; 3 and 4 stay.
const TASKS: u64 = 5;
/// The definition of the function, and task 0.
const WARM_UP: usize = 2;

fn warm_worker<C: Cargo>(trial: &Trial<C>) -> Hand {
    let mut hand = trial.hand();
    (0..WARM_UP).for_each(|_| hand.one_record());
    hand
}

/// The accounting of the dead worker's tasks; it had begun `begun` of them besides task 0.
fn account<C: Cargo>(trial: &Trial<C>, begun: u64, killed: &Killed) -> Result<(), Fault> {
    account_for(trial, Vec::new(), begun, killed)
}

/// The same if some results were taken already.
fn account_for<C: Cargo>(
    trial: &Trial<C>,
    mut done: Vec<u64>,
    begun: u64,
    killed: &Killed,
) -> Result<(), Fault> {
    done.extend(trial.results()?);
    let left = trial.recall()?;
    let first_left = TASKS - left.len() as u64;
    let in_order = done.iter().copied().eq(0..done.len() as u64);
    let held = first_left.checked_sub(done.len() as u64);
    let fine = in_order
        && left.iter().copied().eq(first_left..TASKS)
        && held.is_some_and(|held| held <= 1)
        && first_left <= begun + 1;
    if !fine {
        return Err(format!("done {done:?}, not begun {left:?}").into());
    }
    if killed.landing == Landing::Finished && (held != Some(0) || first_left != begun + 1) {
        return Err(format!("finished, but done {done:?}, not begun {left:?}").into());
    }
    goes_on(trial)
}

/// Both lanes go on working: with a survivor as the worker.
fn goes_on<C: Cargo>(trial: &Trial<C>) -> Result<(), Fault> {
    trial.define();
    (90..93).for_each(|number| trial.give(number));
    trial.work(4);
    let found = trial.results()?;
    if found != [90, 91, 92] || trial.results_waiting() != 0 {
        return Err(format!("the lanes go on with {found:?}").into());
    }
    Ok(())
}

/// The victim carries out `begun` tasks.
fn working<C: Cargo>(name: &str, begun: u64) -> Act<Trial<C>, Hand> {
    Act::new(
        name,
        || Trial::<C>::new(0..TASKS),
        warm_worker,
        move |_, mut hand| (0..begun).for_each(|_| hand.one_record()),
    )
    .judge(move |trial, killed| account(&trial, begun, killed))
}

#[test]
fn crash_pool_worker_small() {
    working::<u64>("pool worker, small tasks", 2).play();
}

#[test]
fn crash_pool_worker_block() {
    working::<Vec<u64>>("pool worker, a task in a block", 1).play_thinned();
}

#[test]
fn crash_pool_worker_handles() {
    working::<Letter>("pool worker, a task with a handle inside", 1).play_thinned();
}

/// Between the death and the burial the pool takes back what was not begun, as it does before it kills.
#[test]
fn crash_pool_worker_recalled() {
    let recalled = std::rc::Rc::new(Cell::new(Vec::new()));
    let also = std::rc::Rc::clone(&recalled);
    Act::new(
        "pool worker, tasks recalled before it is buried",
        || Trial::<u64>::new(0..TASKS),
        warm_worker,
        |_, mut hand| hand.one_record(),
    )
    .witness(move |trial| also.set(trial.recall().expect("a lock that can be had")))
    .judge(move |trial, _| {
        let done = trial.results()?;
        let left = recalled.take();
        let held = TASKS as usize - done.len() - left.len();
        let first_left = TASKS - left.len() as u64;
        let whole = done.iter().copied().eq(0..done.len() as u64)
            && left.iter().copied().eq(first_left..TASKS);
        if !whole || held > 1 || !trial.recall()?.is_empty() {
            return Err(format!("done {done:?}, recalled {left:?}").into());
        }
        goes_on(&trial)
    })
    .play();
}

/// The bell has a sleeper: one of the pool's threads.
#[test]
fn crash_pool_worker_rousing_the_pool() {
    let props = || {
        let trial = Trial::<u64>::new(0..TASKS);
        let helper = Helper::start(&mut || trial.wait_for(2));
        helper.until_asleep();
        (trial, helper)
    };
    Act::new(
        "pool worker, the pool asleep on its bell",
        props,
        |(trial, _)| warm_worker(trial),
        |_, mut hand| hand.one_record(),
    )
    .judge(|(trial, helper), killed| {
        // The result is there: the sleeper comes by it whatever became of the ring. Otherwise it needs another.
        if trial.results_waiting() < 2 {
            trial.nudge();
        }
        helper.joins()?;
        account(&trial, 1, killed)
    })
    .play();
}

/// The lane of results is full, and the victim waits for room.
#[test]
fn crash_pool_worker_waiting_for_room() {
    Act::new(
        "pool worker, waiting for room for a result",
        || (Trial::<u64>::new(0..TASKS), Cell::new(Vec::new())),
        |(trial, _)| {
            let hand = warm_worker(trial);
            trial.fill();
            hand
        },
        |_, mut hand| hand.one_record(),
    )
    .rouse(|(trial, taken)| {
        let mut done = taken.take();
        done.extend(trial.results().expect("results"));
        taken.set(done);
        true
    })
    .judge(|(trial, taken), killed| account_for(&trial, taken.take(), 1, killed))
    .play();
}

/// A pool that dies while it takes back: what it had not committed is there, and the worker goes on.
fn recalling<C: Cargo>(name: &str) -> Act<Trial<C>> {
    let part = |_: &Trial<C>| {
        let other = Trial::<C>::new(0..2);
        assert_eq!(other.recall().map(|left| left.len()), Ok(2));
    };
    Act::new(
        name,
        || Trial::<C>::new(0..TASKS),
        part,
        |trial, ()| drop(trial.recall()),
    )
    .judge(|trial, killed| {
        let left = trial.recall()?;
        let first = TASKS - left.len() as u64;
        if !left.iter().copied().eq(first..TASKS) {
            return Err(format!("left {left:?}").into());
        }
        if killed.landing == Landing::Finished && !left.is_empty() {
            return Err(format!("recalled, and left {left:?}").into());
        }
        goes_on(&trial)
    })
}

#[test]
fn crash_pool_recall_small() {
    recalling::<u64>("pool recall, small tasks").play();
}

#[test]
fn crash_pool_recall_block() {
    recalling::<Vec<u64>>("pool recall, tasks in blocks").play_thinned();
}

#[test]
fn crash_pool_recall_handles() {
    recalling::<Letter>("pool recall, tasks with handles inside").play_thinned();
}

// Workers that somebody else started: the whole life of one, from its boot to its dismissal.

fn live(boot: &[u8]) {
    assert_eq!(work(boot, || Ok::<_, WorkerReport>(()), || true), Ok(0));
}

/// Two tasks, and the end.
fn contract<C: Cargo>() -> (Trial<C>, Vec<u8>) {
    let trial = Trial::new(0..2);
    trial.stop();
    let boot = trial.boot();
    (trial, boot)
}

fn recruited<C: Cargo>(name: &str) -> Act<(Trial<C>, Vec<u8>)> {
    Act::new(
        name,
        contract::<C>,
        |_| {
            let (other, boot) = contract::<C>();
            live(&boot);
            std::mem::forget(other);
        },
        |(_, boot), ()| live(boot),
    )
    .judge(|(trial, _), killed| {
        let done = trial.results()?;
        let left = trial.recall()?;
        let in_order = done.iter().copied().eq(0..done.len() as u64);
        let held = (2 - left.len()).checked_sub(done.len());
        let behind = left.iter().copied().eq(2 - left.len() as u64..2);
        let finished = killed.landing == Landing::Finished;
        if !in_order || !behind || held.is_none_or(|held| held > 1 || (finished && held > 0)) {
            return Err(format!("done {done:?}, not begun {left:?}").into());
        }
        if finished && !left.is_empty() {
            return Err(format!("dismissed, and left {left:?}").into());
        }
        goes_on(&trial)
    })
}

#[test]
fn crash_recruited_worker() {
    // A seventh of its life: what it does with tasks is walked through above.
    recruited::<u64>("recruited worker, boot to dismissal")
        .play_by(|sweep| sweep.thin(true).shard(0, 7));
}

#[test]
fn crash_reapers_of_recruited_workers() {
    recruited::<Letter>("recruited worker, tasks with handles inside").play_with_dying_reapers(29);
}

/// A worker of whose beginning the embedder says that it failed: the pool hears of it or of the death.
#[test]
fn crash_recruited_worker_resigns() {
    let resign = |boot: &[u8]| {
        let why = WorkerReport {
            message: "no database".to_owned(),
            ..WorkerReport::default()
        };
        assert!(work(boot, || Err(why), || true).is_ok_and(|code| code != 0));
    };
    Act::new(
        "recruited worker, resigns",
        contract::<u64>,
        move |_| {
            let (other, boot) = contract::<u64>();
            resign(&boot);
            std::mem::forget(other);
        },
        move |(_, boot), ()| resign(boot),
    )
    .judge(|(trial, _), killed| {
        let said = trial.results_waiting();
        let fine = said == 1 || (said == 0 && killed.landing != Landing::Finished);
        if !fine || trial.recall()? != [0, 1] {
            return Err(format!("{said} said, or a task is lost").into());
        }
        Ok(())
    })
    .play_thinned();
}
