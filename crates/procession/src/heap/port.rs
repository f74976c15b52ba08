//! The world as the heap's own locks see it: the participant table and the futex.
//!
//! Used for the two locks of the heap header and the two locks of each queue, which are held for the length of a memcpy of a
//! small record, never while sleeping or calling out. Waits of users go through `family::Waiter`, which also reaps.

use super::mapping::{me, the_heap};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::Owner;
use crate::sync::raw::{Deadline, Port, Slept};
use crate::sys::clock::monotonic_ms;
use crate::sys::futex;
use crate::sys::set_once::SetOnce;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Longest sleep of a short lock before it asks whether the owner is alive.
const SLICE: Duration = Duration::from_millis(20);
/// Turns of spinning: about 5 us, longer than anybody holds a short lock.
const SPIN_TURNS: u32 = 128;
/// Then the CPU is offered to whoever may hold it, this often.
const YIELD_TURNS: u32 = 8;

/// Port of the short locks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShortWait;

impl Port for ShortWait {
    #[inline]
    fn me(&self) -> Owner {
        me()
    }

    fn is_gone(&self, owner: Owner) -> bool {
        the_heap().is_known_gone(owner) || (may_ask_kernel() && the_heap().is_gone(owner))
    }

    #[inline]
    fn spin(&self, turn: u32) -> bool {
        spin_or_yield(turn, SPIN_TURNS, YIELD_TURNS)
    }

    fn sleep(&self, word: &AtomicU32, expected: u32, deadline: Deadline) -> Slept {
        sleep_slice(word, expected, deadline, SLICE).0
    }

    #[inline]
    fn wake(&self, word: &AtomicU32, count: u32) -> u32 {
        wake(word, count)
    }
}

thread_local! {
    static HAS_WOKEN: Cell<bool> = const { Cell::new(false) };
}

/// Wakes up to `count` sleepers of `word`, and remembers whether there were any.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    let woken = futex::wake(word, count);
    if woken > 0 {
        HAS_WOKEN.set(true);
    }
    woken
}

/// Whether this thread has woken anybody since it was last asked.
#[inline]
pub(crate) fn has_woken() -> bool {
    HAS_WOKEN.get() && HAS_WOKEN.replace(false)
}

/// One turn of waiting without sleep: `spins` turns of pausing (none on one CPU), then `yields` of yielding.
#[inline]
pub(crate) fn spin_or_yield(turn: u32, spins: u32, yields: u32) -> bool {
    let spins = if has_company() { spins } else { 0 };
    if turn < spins {
        for _ in 0..=(turn / 16).min(7) {
            std::hint::spin_loop();
        }
        true
    } else if turn < spins + yields {
        std::thread::yield_now();
        true
    } else {
        false
    }
}

/// Sleeps at most `slice`, less if the deadline comes first. Also says whether somebody woke us.
pub(crate) fn sleep_slice(
    word: &AtomicU32,
    expected: u32,
    deadline: Deadline,
    slice: Duration,
) -> (Slept, bool) {
    let Some(deadline) = deadline else {
        return (Slept::Again, futex::wait(word, expected, slice));
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return (Slept::TimedOut, false);
    }
    // Whoever was woken says so, however late it is: the wake is a baton.
    let woken = futex::wait(word, expected, left.min(slice));
    let over = !woken && Instant::now() >= deadline;
    (if over { Slept::TimedOut } else { Slept::Again }, woken)
}

/// Asking the kernel about an owner costs microseconds and a busy lock wakes its sleepers often: once in so many milliseconds is enough.
const ASK_EVERY_MS: u64 = 5;

fn may_ask_kernel() -> bool {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let (last, now) = (LAST.load(Ordering::Relaxed), monotonic_ms());
    now.wrapping_sub(last) >= ASK_EVERY_MS && LAST.swap(now, Ordering::Relaxed) == last
}

/// Whether more than one CPU is ours: on one, spinning only keeps the other side from running.
#[inline]
pub(crate) fn has_company() -> bool {
    static COMPANY: SetOnce<bool> = SetOnce::new();
    *COMPANY.get_or_make(|| std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1))
}
