//! How a user's wait waits: spin while that pays, then sleep in slices, and look around for the dead after each.
//!
//! A futex round trip to a CPU that idles costs about 45 us on a small virtual machine and a hand-over between two spinning processes 0.1 us, so
//! spinning for about the cost of a sleep is never worse than twice the best choice. Each thread keeps its own budget: waits that were
//! short raise it, waits that were long lower it, so a thread that waits for slow things soon stops burning its CPU.
//!
//! *Busy machines.* Where other programs want all CPUs, whom we wait for often cannot run until we go away: spinning is in vain, and a sleep is cheap, since no CPU has to
//! be roused (3 to 5 us for a hand-over on one CPU). The sign of it is a wait that spun in vain and was over soon after all. After a few of these the thread *rests*: it looks for
//! a microsecond, which finds who is awake on another CPU, and sleeps. When the rest is over, one wait tries again what spinning brings; one that is over while it spins ends all rest.
//!
//! *Yields* (`sched_yield`) forfeit a slice to programs that never give anything back (3 ms each, Linux 6.18), and who has forfeited is not let in at once when it is woken. Two that
//! hand over to each other must sleep instead: whoever has woken somebody since its last wait does not yield. Who only receives yields once before it sleeps: meanwhile the sender fills
//! the channel, and need not wake it for every single item. A yield that took a slice is followed by waits without, so that two that wait for each other cannot go on yielding past each other.
//!
//! Measured on 2 CPUs with 2 busy loops, from Python, against the stdlib's same operation: Event 3.3x and more (a yield each 2 us after 15 us of spinning, as it was: 0.85x), Pipe 3.4x (0.98x),
//! Condition 1.3x (0.66x), manager 2.5x (0.01 to 1x), Queue one way 29x (29x; without the one yield 10x). Without the loops nothing is lost.
//!
//! *A cold start.* Whoever had to wake the other side, for the first time in a while, sleeps at once: the other side may come up on this very CPU,
//! and until then there is nothing to see. If such waits follow each other closely, the next ones spin.

use super::habit::Habit;
use crate::atomic::AtomicU32;
use crate::family::{Owner, patrol};
use crate::heap::{has_company, has_woken, me, sleep_slice, the_heap, wake};
use crate::sync::raw::{Deadline, Port, Slept};
use crate::sys::futex::interrupted;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// First sleep before looking around; each further one is twice as long ...
const FIRST_SLICE: Duration = Duration::from_millis(10);
/// ... up to this.
const LAST_SLICE: Duration = Duration::from_millis(160);
/// Turns between two looks at the clock.
const CLOCK_TURNS: u32 = 32;
/// Turns of a thread that rests from spinning.
const REST_TURNS: u32 = 16;

thread_local! {
    static HABIT: Habit = const { Habit::new() };
}

/// The port of one wait. Make a new one for each operation.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    phase: Cell<Phase>,
    /// This thread has woken somebody since its last wait, who may answer.
    has_called: Cell<bool>,
    spinning_since: Cell<Option<Instant>>,
    sleeps: Cell<u32>,
    /// The last sleep was a whole slice without a wake.
    dull: Cell<bool>,
}

/// How far a wait has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nobody has had to wait.
    #[default]
    Fresh,
    Spins,
    /// It spins for the moment that a resting thread does.
    Glances,
    /// It has given the CPU away once, and looks once more.
    Yielded,
    /// Spinning no longer pays.
    Sleeps,
}

impl Waiter {
    #[inline]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn begin(&self) -> Phase {
        self.has_called.set(has_woken());
        HABIT.with(|habit| {
            let is_cold = self.has_called.get() && habit.is_cold(Instant::now());
            if is_cold || !has_company() {
                Phase::Sleeps
            } else if habit.rests() {
                Phase::Glances
            } else {
                Phase::Spins
            }
        })
    }

    /// The end of spinning: a sleep, or one yield before it.
    fn leave_off(&self) -> Phase {
        if self.has_called.get() || HABIT.with(Habit::avoids_yields) {
            return Phase::Sleeps;
        }
        let before = Instant::now();
        std::thread::yield_now();
        HABIT.with(|habit| habit.yielded(before.elapsed()));
        Phase::Yielded
    }

    fn is_spent(&self, turn: u32) -> bool {
        if turn % CLOCK_TURNS != CLOCK_TURNS - 1 {
            return false;
        }
        let since = self.spinning_since.get().unwrap_or_else(Instant::now);
        self.spinning_since.set(Some(since));
        since.elapsed() > HABIT.with(Habit::budget)
    }

    fn learn(&self) {
        let since = self.spinning_since.get();
        HABIT.with(|habit| match (self.phase.get(), since) {
            (Phase::Spins | Phase::Glances, since) => habit.hit(since.map(|since| since.elapsed())),
            (Phase::Yielded | Phase::Sleeps, Some(since)) => {
                habit.miss(since.elapsed(), Instant::now())
            }
            _ => {}
        });
    }
}

impl Port for Waiter {
    #[inline]
    fn me(&self) -> Owner {
        me()
    }

    /// Asks the kernel only after a slice in which nobody woke us: a busy lock wakes its sleepers often.
    fn is_gone(&self, owner: Owner) -> bool {
        the_heap().is_known_gone(owner) || (self.dull.get() && the_heap().is_gone(owner))
    }

    fn is_known_gone(&self, owner: Owner) -> bool {
        the_heap().is_known_gone(owner)
    }

    #[inline]
    fn spin(&self, turn: u32) -> bool {
        let phase = match self.phase.get() {
            Phase::Fresh => self.begin(),
            Phase::Spins if self.is_spent(turn) => self.leave_off(),
            Phase::Glances if turn >= REST_TURNS => self.leave_off(),
            Phase::Yielded => Phase::Sleeps,
            phase => phase,
        };
        self.phase.set(phase);
        if phase == Phase::Sleeps {
            return false;
        }
        if turn > 0 {
            std::hint::spin_loop();
        }
        true
    }

    fn sleep(&self, word: &AtomicU32, expected: u32, deadline: Deadline) -> Slept {
        let sleeps = self.sleeps.get();
        if sleeps > 0 {
            patrol();
        }
        self.sleeps.set(sleeps.saturating_add(1));
        let slice = FIRST_SLICE
            .saturating_mul(1 << sleeps.min(8))
            .min(LAST_SLICE);
        let (slept, woken) = sleep_slice(word, expected, deadline, slice);
        self.dull.set(!woken);
        // Without a deadline the time cannot run out.
        if !woken && deadline.is_some() && interrupted() {
            return Slept::TimedOut;
        }
        slept
    }

    #[inline]
    fn wake(&self, word: &AtomicU32, count: u32) -> u32 {
        wake(word, count)
    }
}

impl Drop for Waiter {
    #[inline]
    fn drop(&mut self) {
        if self.phase.get() != Phase::Fresh {
            self.learn();
        }
    }
}
