//! How a user's wait waits: spin while that pays, then sleep in slices, and look around for the dead after each.
//!
//! A futex round trip costs about 45 us on a small virtual machine and a hand-over between two spinning processes 0.1 us, so
//! spinning for about the cost of a sleep is never worse than twice the best choice. Each thread keeps its own budget: waits that were
//! short raise it, waits that were long lower it, so a thread that waits for slow things (or on a machine with more runnable
//! threads than CPUs) soon stops burning its CPU.
//!
//! *A cold start.* Whoever had to wake the other side, for the first time in a while, sleeps at once: the other side may come up on this very CPU,
//! and until then there is nothing to see. If such waits follow each other closely, the next ones spin.

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

/// Limits of the spin budget, in nanoseconds.
const MIN_BUDGET: u32 = 1_000;
const MAX_BUDGET: u32 = 50_000;
/// Turns between two looks at the clock.
const CLOCK_TURNS: u32 = 32;
/// Turns of pure spinning before the CPU is offered to others in between.
const POLITE_AFTER: u32 = 256;
/// Waits that follow the wake of a sleeper within this time of each other are not cold.
const WARM: Duration = Duration::from_micros(100);

thread_local! {
    static BUDGET: Cell<u32> = const { Cell::new(MAX_BUDGET / 4) };
    /// When a wait last followed the wake of a sleeper.
    static LAST_CALL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The port of one wait. Make a new one for each operation.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    spinning_since: Cell<Option<Instant>>,
    sleeps: Cell<u32>,
    /// The last sleep was a whole slice without a wake.
    dull: Cell<bool>,
}

impl Waiter {
    #[inline]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn spin_on(&self, turn: u32) -> bool {
        if turn % CLOCK_TURNS == CLOCK_TURNS - 1 {
            let since = self.spinning_since.get().unwrap_or_else(Instant::now);
            self.spinning_since.set(Some(since));
            if since.elapsed().as_nanos() > u128::from(BUDGET.get()) {
                return false;
            }
        }
        if turn > POLITE_AFTER && turn.is_multiple_of(CLOCK_TURNS) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
        true
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
        if turn == 0 {
            return has_company() && !(has_woken() && is_cold());
        }
        self.spin_on(turn)
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
        if let Some(since) = self.spinning_since.get() {
            learn(since);
        }
    }
}

/// Whether the last wait that followed the wake of a sleeper, as this one does, was long ago.
#[cold]
fn is_cold() -> bool {
    let now = Instant::now();
    let last = LAST_CALL.replace(Some(now));
    last.is_none_or(|last| now.duration_since(last) > WARM)
}

/// What the wait that began at `since` says about the next one: a short one is worth spinning for, whether or not we slept in the end.
#[cold]
fn learn(since: Instant) {
    let waited = u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX);
    let budget = BUDGET.get();
    BUDGET.set(if waited <= MAX_BUDGET {
        budget.max(waited.saturating_mul(2)).min(MAX_BUDGET)
    } else {
        (budget / 2).max(MIN_BUDGET)
    });
}
