//! What the waits of a thread have taught it: how long to spin, and when not to.
//!
//! Pure bookkeeping over the clock; `waiter.rs` says what for.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Limits of the spin budget.
const MIN_BUDGET: Duration = Duration::from_micros(1);
const MAX_BUDGET: Duration = Duration::from_micros(50);
/// A wait that spun in vain and was over within this time is a *miss*: a longer spin would have spared it the sleep, or none would have been
/// better.
const SOON: Duration = Duration::from_micros(200);
/// After so many misses in a row the thread rests from spinning ...
const MISSES: u32 = 3;
/// ... at first for so long, then for twice as long each time ...
const FIRST_REST: Duration = Duration::from_millis(1);
/// ... up to this.
const LAST_REST: Duration = Duration::from_millis(64);
/// A yield that took so long gave the CPU to somebody who does not yield ...
const LONG_YIELD: Duration = Duration::from_micros(500);
/// ... and this many waits do without.
const WITHOUT_YIELD: u32 = 8;
/// Waits that follow the wake of a sleeper within this time of each other are not cold.
const WARM: Duration = Duration::from_micros(100);

/// The habit of a thread.
#[derive(Debug)]
pub(super) struct Habit {
    budget: Cell<Duration>,
    misses: Cell<u32>,
    /// Length of the last rest.
    rest: Cell<Duration>,
    rests_until: Cell<Option<Instant>>,
    /// Waits that are to do without a yield.
    without_yield: Cell<u32>,
    /// When a wait last followed the wake of a sleeper.
    last_call: Cell<Option<Instant>>,
}

impl Habit {
    pub(super) const fn new() -> Self {
        Self {
            budget: Cell::new(Duration::from_micros(12)),
            misses: Cell::new(0),
            rest: Cell::new(Duration::ZERO),
            rests_until: Cell::new(None),
            without_yield: Cell::new(0),
            last_call: Cell::new(None),
        }
    }

    /// How long to spin.
    pub(super) fn budget(&self) -> Duration {
        self.budget.get()
    }

    /// Whether the thread rests from spinning.
    #[inline]
    pub(super) fn rests(&self) -> bool {
        self.rests_until.get().is_some() && self.still_rests(Instant::now())
    }

    #[cold]
    fn still_rests(&self, now: Instant) -> bool {
        let rests = self.rests_until.get().is_some_and(|end| now < end);
        if !rests {
            self.rests_until.set(None);
        }
        rests
    }

    /// Whether the last wait that followed the wake of a sleeper, as this one does, was long ago.
    #[cold]
    pub(super) fn is_cold(&self, now: Instant) -> bool {
        let last = self.last_call.replace(Some(now));
        last.is_none_or(|last| now.duration_since(last) > WARM)
    }

    /// A wait was over while it spun, after so long if it was long enough for a look at the clock: whoever it waited for is awake.
    pub(super) fn hit(&self, waited: Option<Duration>) {
        self.misses.set(0);
        self.rest.set(Duration::ZERO);
        self.rests_until.set(None);
        if let Some(waited) = waited {
            self.raise(waited);
        }
    }

    /// A wait that had spun in vain was over at `now`, after so long.
    pub(super) fn miss(&self, waited: Duration, now: Instant) {
        if waited > SOON {
            self.budget.set((self.budget() / 2).max(MIN_BUDGET));
            return;
        }
        self.raise(waited);
        self.misses.set(self.misses.get().saturating_add(1));
        if self.misses.get() >= MISSES {
            let rest = (self.rest.get() * 2).clamp(FIRST_REST, LAST_REST);
            self.rest.set(rest);
            self.rests_until.set(now.checked_add(rest));
        }
    }

    /// Whether a wait that is about to sleep does so without a yield; asked once each.
    pub(super) fn avoids_yields(&self) -> bool {
        let left = self.without_yield.get();
        self.without_yield.set(left.saturating_sub(1));
        left > 0
    }

    /// A yield was over after so long.
    pub(super) fn yielded(&self, took: Duration) {
        if took > LONG_YIELD {
            self.without_yield.set(WITHOUT_YIELD);
        }
    }

    fn raise(&self, waited: Duration) {
        let budget = self.budget().max(waited.saturating_mul(2));
        self.budget.set(budget.min(MAX_BUDGET));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(20);
    const LONG: Duration = Duration::from_millis(3);

    /// A habit that has begun its first rest, and when.
    fn resting() -> (Habit, Instant) {
        let (habit, now) = (Habit::new(), Instant::now());
        (0..MISSES).for_each(|_| habit.miss(SHORT, now));
        (habit, now)
    }

    #[test]
    fn misses_in_a_row_bring_a_rest() {
        let (habit, now) = (Habit::new(), Instant::now());
        for _ in 1..MISSES {
            habit.miss(SHORT, now);
            assert!(!habit.still_rests(now));
        }
        habit.miss(SHORT, now);
        assert!(habit.still_rests(now));
        assert!(!habit.still_rests(now + FIRST_REST));
    }

    #[test]
    fn rests_grow_until_a_hit() {
        let (habit, mut now) = resting();
        for _ in 0..10 {
            now += LAST_REST;
            habit.miss(SHORT, now);
        }
        assert!(habit.still_rests(now + LAST_REST / 2));
        habit.hit(None);
        assert!(!habit.still_rests(now));
        habit.miss(SHORT, now);
        assert!(!habit.still_rests(now), "a hit has made it begin anew");
    }

    #[test]
    fn long_waits_lower_the_budget_and_bring_no_rest() {
        let (habit, now) = (Habit::new(), Instant::now());
        (0..10).for_each(|_| habit.miss(LONG, now));
        assert!(!habit.still_rests(now));
        assert_eq!(habit.budget(), MIN_BUDGET);
    }

    #[test]
    fn short_waits_raise_the_budget_to_its_limit() {
        let habit = Habit::new();
        habit.hit(Some(SHORT));
        assert_eq!(habit.budget(), SHORT * 2);
        habit.hit(Some(LONG));
        assert_eq!(habit.budget(), MAX_BUDGET);
    }

    #[test]
    fn a_long_yield_is_followed_by_waits_without() {
        let habit = Habit::new();
        habit.yielded(SHORT);
        assert!(!habit.avoids_yields());
        habit.yielded(LONG);
        assert!((0..WITHOUT_YIELD).all(|_| habit.avoids_yields()));
        assert!(!habit.avoids_yields());
    }

    #[test]
    fn a_first_call_is_cold_and_the_next_one_warm() {
        let (habit, now) = (Habit::new(), Instant::now());
        assert!(habit.is_cold(now));
        assert!(!habit.is_cold(now + WARM));
        assert!(habit.is_cold(now + WARM * 3));
    }
}
