//! Semaphores. A permit that the dead had taken is not refunded, and none is made or lost besides: what the word says at the death
//! is what it says after the burial, and the survivors get every one of those permits.

use super::super::{Fault, Killed, Landing, Shared as Table};
use super::stage::{Act, Helper};
use crate::{BoundedSemaphore, Semaphore};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(3);

/// Everything there is can be taken, nothing else, and a release brings it back.
fn holds(semaphore: &Semaphore, permits: u32) -> Result<(), Fault> {
    if semaphore.value() != permits {
        return Err(format!("{} permits, should be {permits}", semaphore.value()).into());
    }
    for taken in 0..permits {
        match semaphore.acquire_timeout(SOON) {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(Fault::Wedged(format!("permit {taken} cannot be taken"))),
        }
    }
    if semaphore.try_acquire().is_ok() {
        return Err("a permit too many".into());
    }
    semaphore
        .release(1)
        .map_err(|error| Fault::from(error.to_string()))?;
    if semaphore.acquire_timeout(SOON).is_err() {
        return Err(Fault::Wedged("a new permit cannot be taken".into()));
    }
    Ok(())
}

/// How far the victim has come, as it says itself.
type Progress = Table<[AtomicU64; 1]>;

/// Two permits, of which the victim takes one and gives it back.
fn free(name: &str, fresh: impl Fn() -> Semaphore + 'static) {
    Act::new(
        name,
        move || (fresh(), Progress::new(), Cell::new(0)),
        |_| (),
        |(semaphore, progress, _), ()| {
            semaphore.acquire().forget();
            progress[0].store(1, Ordering::SeqCst);
            assert_eq!(semaphore.release(1), Ok(()));
            progress[0].store(2, Ordering::SeqCst);
        },
    )
    .witness(|(semaphore, _, left)| left.set(semaphore.value()))
    .judge(|(semaphore, progress, left), killed| {
        let progress = progress[0].load(Ordering::SeqCst);
        let done = killed.landing == Landing::Finished;
        let allowed: &[u32] = if done || progress == 2 { &[2] } else { &[1, 2] };
        if !allowed.contains(&left.get()) {
            return Err(format!("{left:?} permits at progress {progress}").into());
        }
        holds(&semaphore, left.get())
    })
    .play();
}

#[test]
fn crash_semaphore_free() {
    free("semaphore acquire and release, free", || {
        Semaphore::new(2).expect("semaphore")
    });
}

#[test]
fn crash_semaphore_bounded() {
    free("bounded semaphore acquire and release, free", || {
        (*BoundedSemaphore::new(2).expect("semaphore")).clone()
    });
}

/// No permit, and the victim waits for one; the survivor gives it.
#[test]
fn crash_semaphore_waiting() {
    Act::new(
        "semaphore acquire, waiting for a permit",
        || {
            let semaphore = Semaphore::new(0).expect("semaphore");
            (semaphore, Progress::new(), Cell::new(0), Cell::new(0))
        },
        |_| (),
        |(semaphore, progress, ..), ()| {
            semaphore.acquire().forget();
            progress[0].store(1, Ordering::SeqCst);
        },
    )
    .rouse(|(semaphore, _, given, _)| {
        if given.replace(1) == 0 {
            assert_eq!(semaphore.release(1), Ok(()));
        }
        true
    })
    .witness(|(semaphore, .., left)| left.set(semaphore.value()))
    .judge(|(semaphore, progress, given, left), _| {
        let (given, left) = (given.get(), left.get());
        let taken = progress[0].load(Ordering::SeqCst) == 1;
        if left > given || (taken && (given, left) != (1, 0)) {
            return Err(format!("{left} of {given} permits left, taken: {taken}").into());
        }
        holds(&semaphore, left)
    })
    .play();
}

/// Somebody who sleeps for one permit and keeps it.
struct Sleeper {
    helper: Helper,
    got: Progress,
}

impl Sleeper {
    fn start(semaphore: &Semaphore) -> Self {
        let got = Progress::new();
        let helper = Helper::start(&mut || {
            semaphore.acquire().forget();
            got[0].store(1, Ordering::SeqCst);
        });
        helper.until_asleep();
        Self { helper, got }
    }

    fn has_got(&self) -> bool {
        self.got[0].load(Ordering::SeqCst) == 1
    }
}

/// Waits until everybody has a permit (`true`), or nobody does, none is left and all sleep on (`false`).
fn settled(semaphore: &Semaphore, sleepers: &[Sleeper]) -> Result<bool, Fault> {
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        if sleepers.iter().all(Sleeper::has_got) {
            return Ok(true);
        }
        // In this order: whoever has taken the last permit does not sleep before it says so.
        let none_left = semaphore.value() == 0;
        let all_asleep = sleepers.iter().all(|sleeper| sleeper.helper.sleeps());
        if none_left && all_asleep && !sleepers.iter().any(Sleeper::has_got) {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    let got = sleepers.iter().filter(|sleeper| sleeper.has_got()).count();
    let left = semaphore.value();
    Err(Fault::Wedged(format!(
        "{got} waiters have one, and {left} are left"
    )))
}

/// The victim releases as many permits as there are sleepers, all in one or none.
fn waited_for(name: &str, count: u32) {
    let props = move || {
        let semaphore = Semaphore::new(0).expect("semaphore");
        let sleepers: Vec<Sleeper> = (0..count).map(|_| Sleeper::start(&semaphore)).collect();
        (semaphore, sleepers)
    };
    Act::new(
        name,
        props,
        |_| (),
        move |(semaphore, _), ()| assert_eq!(semaphore.release(count), Ok(())),
    )
    .judge(move |(semaphore, sleepers), killed| {
        if !settled(&semaphore, &sleepers)? {
            if killed.landing == Landing::Finished {
                return Err("released, and no permit is there".into());
            }
            assert_eq!(semaphore.release(count), Ok(()));
        }
        for sleeper in sleepers {
            sleeper.helper.joins()?;
        }
        holds(&semaphore, 0)
    })
    .play();
}

#[test]
fn crash_semaphore_release_one() {
    waited_for("semaphore release, a waiter asleep", 1);
}

#[test]
fn crash_semaphore_release_two() {
    waited_for("semaphore release of two, two waiters asleep", 2);
}

/// The victim and a helper sleep; the survivor gives so many permits, one by one, and the victim may take the wake with it.
fn wake_taken(name: &str, permits: u32) {
    let props = || {
        let semaphore = Semaphore::new(0).expect("semaphore");
        let sleeper = Sleeper::start(&semaphore);
        (semaphore, sleeper, Progress::new(), Cell::new(0))
    };
    Act::new(
        name,
        props,
        |_| (),
        |(semaphore, _, progress, _), ()| {
            semaphore.acquire().forget();
            progress[0].store(1, Ordering::SeqCst);
        },
    )
    .rouse(move |(semaphore, .., given)| {
        // The helper may have got all there was before: then there must be more.
        for _ in 0..permits {
            given.set(given.get() + 1);
            assert_eq!(semaphore.release(1), Ok(()));
        }
        true
    })
    .judge(|(semaphore, sleeper, progress, given), killed| {
        let mut given = given.get();
        let victim_took = progress[0].load(Ordering::SeqCst) == 1;
        // What the victim has not taken with it, the helper gets.
        if !settled(&semaphore, std::slice::from_ref(&sleeper))? {
            assert_eq!(semaphore.release(1), Ok(()));
            given += 1;
        }
        sleeper.helper.joins()?;
        conserved(&semaphore, given, victim_took, killed)
    })
    .play_thinned();
}

/// One went to the helper; one, or none, to the victim.
fn conserved(
    semaphore: &Semaphore,
    given: u32,
    victim_took: bool,
    killed: &Killed,
) -> Result<(), Fault> {
    let left = semaphore.value();
    let by_victim = given - 1 - left;
    let fine = match (victim_took, killed.landing) {
        (true, _) | (_, Landing::Finished) => by_victim == 1,
        (false, _) => by_victim <= 1,
    };
    if !fine {
        return Err(format!("{given} given, {left} left, the victim had {victim_took}").into());
    }
    holds(semaphore, left)
}

#[test]
fn crash_semaphore_wake_taken() {
    wake_taken("semaphore acquire, two asleep, one permit", 1);
}

#[test]
fn crash_semaphore_baton_taken() {
    wake_taken("semaphore acquire, two asleep, two permits", 2);
}
