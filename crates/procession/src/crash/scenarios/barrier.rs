//! Barriers. A party that dies breaks the barrier, so what must hold: nobody waits for ever, all of a round agree on whether they met,
//! and after a reset it is as new.

use super::super::{Fault, Killed, Landing, Shared as Table};
use super::stage::{Act, Helper};
use crate::{Barrier, BarrierError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(3);

const PASSED: u64 = 1;
const BROKEN: u64 = 2;
const LATE: u64 = 3;

fn outcome(passed: Result<crate::BarrierWaitResult, BarrierError>) -> u64 {
    match passed {
        Ok(_) => PASSED,
        Err(BarrierError::Broken) => BROKEN,
        Err(BarrierError::TimedOut) => LATE,
    }
}

/// Another party, and what became of it.
struct Party {
    helper: Helper,
    outcome: Table<AtomicU64>,
}

impl Party {
    fn start(barrier: &Barrier, go: impl Fn()) -> Self {
        let outcome = Table::<AtomicU64>::new();
        let helper = Helper::start(&mut || {
            go();
            outcome.store(self::outcome(barrier.wait()), Ordering::SeqCst);
        });
        Self { helper, outcome }
    }

    fn asleep(barrier: &Barrier) -> Self {
        let party = Self::start(barrier, || ());
        party.helper.until_asleep();
        party
    }

    fn joins(self) -> Result<u64, Fault> {
        let Self { helper, outcome } = self;
        helper.joins()?;
        Ok(outcome.load(Ordering::SeqCst))
    }
}

fn barrier(parties: usize) -> Barrier {
    Barrier::new(parties).expect("barrier")
}

/// Broken it is, by the death; after a reset all parties get through.
fn works(barrier: &Barrier) -> Result<(), Fault> {
    if !barrier.is_broken() {
        return Err("a party died, and the barrier is whole".into());
    }
    barrier.reset();
    if barrier.is_broken() || barrier.n_waiting() != 0 {
        return Err(Fault::Wedged("the reset does not end".into()));
    }
    let others: Vec<Party> = (1..barrier.parties())
        .map(|_| Party::asleep(barrier))
        .collect();
    if barrier.n_waiting() != others.len() {
        return Err(format!("{} wait, not {}", barrier.n_waiting(), others.len()).into());
    }
    let ours = outcome(barrier.wait_timeout(SOON));
    for other in others {
        let theirs = other.joins()?;
        if (ours, theirs) != (PASSED, PASSED) {
            return Err(format!("a new round: {ours} and {theirs}").into());
        }
    }
    Ok(())
}

/// The victim comes first; the other party comes once the victim sleeps, or when it is dead.
#[test]
fn crash_barrier_first() {
    let props = || {
        let barrier = barrier(2);
        let go = Table::<AtomicU64>::new();
        let other = Party::start(&barrier, || {
            while go.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
        });
        (barrier, other, go, Table::<AtomicU64>::new())
    };
    Act::new(
        "barrier wait, the other comes later",
        props,
        |_| (),
        |(barrier, .., passed), ()| {
            passed.store(outcome(barrier.wait()), Ordering::SeqCst);
        },
    )
    .rouse(|(_, _, go, _)| {
        go.store(1, Ordering::SeqCst);
        true
    })
    .judge(|(barrier, other, go, passed), killed| {
        let met = go.swap(1, Ordering::SeqCst) == 1;
        let theirs = other.joins()?;
        let passed = passed.load(Ordering::SeqCst);
        let finished = killed.landing == Landing::Finished;
        let fine = match theirs {
            PASSED => met && passed != BROKEN,
            BROKEN => passed != PASSED && !finished,
            _ => false,
        };
        if !fine {
            return Err(format!("came in its life: {met}; {theirs} and {passed}").into());
        }
        works(&barrier)
    })
    .play();
}

/// All others are there, and the victim comes last.
fn last(name: &str, parties: usize) {
    let props = move || {
        let barrier = barrier(parties);
        let others: Vec<Party> = (1..parties).map(|_| Party::asleep(&barrier)).collect();
        (barrier, others, Table::<AtomicU64>::new())
    };
    Act::new(
        name,
        props,
        |_| (),
        |(barrier, _, passed), ()| {
            passed.store(outcome(barrier.wait()), Ordering::SeqCst);
        },
    )
    .judge(|(barrier, others, passed), killed| {
        let passed = passed.load(Ordering::SeqCst);
        let theirs: Vec<u64> = others
            .into_iter()
            .map(Party::joins)
            .collect::<Result<_, _>>()?;
        let finished = passed == PASSED || killed.landing == Landing::Finished;
        let agree = theirs.iter().all(|outcome| *outcome == theirs[0]);
        let fine = match theirs[0] {
            PASSED => passed != BROKEN,
            BROKEN => !finished,
            _ => false,
        };
        if !agree || !fine {
            return Err(format!("they do not agree: {theirs:?}, the victim {passed}").into());
        }
        works(&barrier)
    })
    .play();
}

#[test]
fn crash_barrier_last() {
    last("barrier wait, coming last of three", 3);
}

/// Five parties: the records lie in a block.
#[test]
fn crash_barrier_last_of_many() {
    last("barrier wait, coming last of five", 5);
}

/// The action runs, and its process dies: nobody gets through before it is done.
#[test]
fn crash_barrier_action() {
    let props = || {
        let barrier = barrier(2);
        let other = Party::asleep(&barrier);
        (barrier, other, Table::<[AtomicU64; 2]>::new())
    };
    Act::new(
        "barrier wait, coming last, with an action",
        props,
        |_| (),
        |(barrier, _, steps), ()| {
            let passed = barrier.wait_with(|| {
                steps[0].store(1, Ordering::SeqCst);
                steps[1].store(1, Ordering::SeqCst);
            });
            assert_eq!(outcome(passed), PASSED);
        },
    )
    .judge(|(barrier, other, steps), killed| {
        let theirs = other.joins()?;
        let acted = steps[1].load(Ordering::SeqCst) == 1;
        let fine = match theirs {
            PASSED => acted,
            BROKEN => killed.landing != Landing::Finished,
            _ => false,
        };
        if !fine {
            return Err(format!("acted: {acted}, the other: {theirs}").into());
        }
        works(&barrier)
    })
    .play();
}

/// The victim resets while somebody waits, who must be told.
#[test]
fn crash_barrier_reset() {
    let props = || {
        let barrier = barrier(2);
        let other = Party::asleep(&barrier);
        (barrier, other)
    };
    Act::new(
        "barrier reset, a party asleep",
        props,
        |_| (),
        |(barrier, _), ()| barrier.reset(),
    )
    .judge(|(barrier, other), _| match other.joins()? {
        BROKEN => works(&barrier),
        other => Err(format!("reset, and the party that waited got {other}").into()),
    })
    .play();
}

#[test]
fn crash_barrier_abort_and_reset() {
    Act::new(
        "barrier abort and reset, nobody there",
        || barrier(2),
        |_| (),
        |barrier, ()| {
            barrier.abort();
            barrier.reset();
        },
    )
    .judge(|barrier, _| works(&barrier))
    .play();
}

// Selective barriers, and parties that arrive and wait in steps: who has not said that it takes part is missed by nobody.

fn selective(parties: usize) -> Barrier {
    Barrier::selective(parties).expect("barrier")
}

/// How far the victim of a selective barrier came.
const TAKES_PART: u64 = 1;
const MET: u64 = 2;

/// What the survivors of a selective barrier have.
struct Meeting {
    barrier: Barrier,
    other: Party,
    /// Lets the other come, if it waits for that.
    go: Table<AtomicU64>,
    progress: Table<AtomicU64>,
}

impl Meeting {
    /// Of two; the other is there, or comes later.
    fn new(is_there: bool) -> Self {
        let barrier = selective(2);
        let go = Table::<AtomicU64>::new();
        go.store(is_there.into(), Ordering::SeqCst);
        let other = Party::start(&barrier, || {
            while go.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
        });
        if is_there {
            other.helper.until_asleep();
        }
        Self {
            barrier,
            other,
            go,
            progress: Table::new(),
        }
    }

    fn note(&self, progress: u64) {
        self.progress.store(progress, Ordering::SeqCst);
    }

    fn judge(self, killed: &Killed) -> Result<(), Fault> {
        let Self {
            barrier,
            other,
            go,
            progress,
        } = self;
        let progress = progress.load(Ordering::SeqCst);
        if !barrier.is_broken() {
            // Nobody was missed: the survivor takes the place.
            if progress != 0 || killed.landing == Landing::Finished {
                return Err(format!("a party died, and the barrier is whole: {progress}").into());
            }
            go.store(1, Ordering::SeqCst);
            let ours = outcome(barrier.wait_timeout(SOON));
            let theirs = other.joins()?;
            return if (ours, theirs) == (PASSED, PASSED) {
                Ok(())
            } else {
                Err(format!("without the victim: {ours} and {theirs}").into())
            };
        }
        let had_gone = go.swap(1, Ordering::SeqCst) == 1;
        let fine = match other.joins()? {
            PASSED => had_gone,
            BROKEN => progress != MET,
            _ => false,
        };
        if !fine {
            return Err(format!("the other does not agree; the victim came to {progress}").into());
        }
        works(&barrier)
    }
}

#[test]
fn crash_selective_barrier_first() {
    Act::new(
        "selective barrier, arrives and waits in steps, the other comes later",
        || Meeting::new(false),
        |_| (),
        |meeting, ()| {
            let mut arrival = (meeting.barrier.arrive(Instant::now())).expect("arrive");
            meeting.note(TAKES_PART);
            let passed = loop {
                let later = Instant::now() + Duration::from_secs(3600);
                if let Some(passed) = arrival.step(later) {
                    break passed;
                }
            };
            assert_eq!(outcome(passed), PASSED);
            meeting.note(MET);
        },
    )
    .rouse(|meeting| {
        meeting.go.store(1, Ordering::SeqCst);
        true
    })
    .judge(Meeting::judge)
    .play();
}

/// The victim arrives as the last, and opens.
fn opening() -> Act<Meeting> {
    Act::new(
        "selective barrier, arrives last and opens",
        || Meeting::new(true),
        |_| (),
        |meeting, ()| {
            let arrival = (meeting.barrier.arrive(Instant::now())).expect("arrive");
            meeting.note(TAKES_PART);
            assert!(arrival.is_last() && arrival.open().is_ok());
            meeting.note(MET);
        },
    )
    .judge(Meeting::judge)
}

#[test]
fn crash_selective_barrier_last() {
    opening().play();
}

/// The victim says that it takes part, and never arrives.
fn taking_part() -> Act<Meeting> {
    Act::new(
        "selective barrier, takes part",
        || Meeting::new(true),
        |_| (),
        |meeting, ()| {
            meeting.barrier.take_part();
            meeting.note(TAKES_PART);
        },
    )
    .judge(Meeting::judge)
}

#[test]
fn crash_selective_barrier_takes_part() {
    taking_part().play();
}

#[test]
fn crash_reapers_of_parties() {
    taking_part().play_with_dying_reapers(1);
    opening().play_with_dying_reapers(9);
}

/// The time is over for the victim, which breaks the round for all.
#[test]
fn crash_selective_barrier_expires() {
    let props = || {
        let barrier = selective(3);
        let other = Party::asleep(&barrier);
        (barrier, other, Table::<AtomicU64>::new())
    };
    Act::new(
        "selective barrier, arrives and expires",
        props,
        |_| (),
        |(barrier, _, progress), ()| {
            let mut arrival = barrier.arrive(Instant::now()).expect("arrive");
            progress.store(TAKES_PART, Ordering::SeqCst);
            assert!(arrival.step(Instant::now()).is_none() && arrival.expire());
        },
    )
    .judge(|(barrier, other, progress), killed| {
        let took_part = progress.load(Ordering::SeqCst) == TAKES_PART;
        if !barrier.is_broken() {
            if took_part || killed.landing == Landing::Finished {
                return Err("a party died, and the barrier is whole".into());
            }
            barrier.abort();
        }
        match other.joins()? {
            BROKEN => works(&barrier),
            theirs => Err(format!("the other got {theirs}").into()),
        }
    })
    .play_thinned();
}
