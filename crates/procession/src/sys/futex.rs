//! Sleeping on a word of shared memory.
//!
//! Always the *shared* form: a private futex is keyed by the process's own address space and would never wake
//! another process (invariant I4).

use rustix::io::Errno;
use rustix::thread::futex::{
    ClockId, Flags, Timespec, Wait, WaitFlags, WaitPtr, WaitvFlags, wait as futex_wait, waitv,
    wake as futex_wake,
};
use rustix::time::clock_gettime;
use std::cell::Cell;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Most words that one thread can sleep on at a time.
pub(crate) const MAX_WORDS: usize = 128;

/// How a sleep on several words ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Any {
    /// Somebody woke the word of this number. Others may have been woken with it, and are not told of.
    Woken(usize),
    /// A word had changed before we slept, or a signal came.
    Changed,
    /// The limit passed.
    TimedOut,
    /// The kernel cannot do it (before Linux 5.16) or must not (a filter).
    Unsupported,
}

/// Sleeps while each of at most [`MAX_WORDS`] words is what is expected of it, at most `limit`.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], limit: Duration) -> Any {
    let mut waits = [Wait::new(); MAX_WORDS];
    for (wait, (word, expected)) in waits.iter_mut().zip(words) {
        wait.val = u64::from(*expected);
        wait.uaddr = WaitPtr::new(word.as_ptr().cast());
        wait.flags = WaitFlags::SIZE_U32;
    }
    let waits = &waits[..words.len().min(MAX_WORDS)];
    let until = instant_after(limit);
    match waitv(waits, WaitvFlags::empty(), Some(&until), ClockId::Monotonic) {
        Ok(index) => Any::Woken(index),
        Err(Errno::AGAIN | Errno::INTR) => Any::Changed,
        Err(Errno::TIMEDOUT) => Any::TimedOut,
        Err(_) => Any::Unsupported,
    }
}

/// What the monotonic clock will show in so long.
fn instant_after(limit: Duration) -> Timespec {
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = now.tv_nsec + i64::from(limit.subsec_nanos());
    let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    Timespec {
        tv_sec: now
            .tv_sec
            .saturating_add(seconds)
            .saturating_add(nanos / 1_000_000_000),
        tv_nsec: nanos % 1_000_000_000,
    }
}

thread_local! {
    static INTERRUPTIBLE: Cell<bool> = const { Cell::new(false) };
    static INTERRUPTED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a signal is to end this thread's waits, from now on; how it was before.
pub(crate) fn set_interruptible(interruptible: bool) -> bool {
    INTERRUPTED.set(false);
    INTERRUPTIBLE.replace(interruptible)
}

/// A signal has come in a sleep that was none of ours.
pub(crate) fn note_signal() {
    INTERRUPTED.set(INTERRUPTIBLE.get());
}

/// Whether a signal has come in a sleep since the wait became interruptible.
#[inline]
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.get()
}

/// Sleeps while `*word == expected`, at most `limit`. `false`: the limit passed and nobody woke us. `true`: a wake, a changed word, a signal.
pub(crate) fn wait(word: &AtomicU32, expected: u32, limit: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    match futex_wait(word, Flags::empty(), expected, Some(&timeout)) {
        Ok(()) | Err(Errno::AGAIN) => true,
        Err(Errno::INTR) => {
            note_signal();
            // Nobody woke us: the kernel says so if somebody did.
            !INTERRUPTIBLE.get()
        }
        Err(Errno::TIMEDOUT) => false,
        // Every caller looks at its state again after a sleep, so an error the kernel does not document
        // costs time, never correctness.
        Err(_) => {
            std::thread::sleep(limit.min(Duration::from_millis(1)));
            true
        }
    }
}

/// Wakes up to `count` sleepers of `word`; says how many were asleep.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    // The only failures are a misaligned or unmapped word, which the type rules out.
    futex_wake(word, Flags::empty(), count).map_or(0, |woken| woken as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_changed_word_does_not_sleep() {
        let word = AtomicU32::new(1);
        assert!(wait(&word, 0, Duration::from_secs(3600)));
    }

    #[test]
    fn any_of_many_words_ends_the_sleep() {
        let words: Vec<_> = (0..MAX_WORDS).map(|_| AtomicU32::new(0)).collect();
        let long = Duration::from_secs(3600);
        let all = |expected| words.iter().map(move |word| (word, expected));
        words[77].store(1, Ordering::SeqCst);
        let ended = wait_any(&all(0).collect::<Vec<_>>(), long);
        assert!([Any::Changed, Any::Unsupported].contains(&ended));
        words[77].store(0, Ordering::SeqCst);
        let ended = wait_any(&all(0).collect::<Vec<_>>(), Duration::from_millis(1));
        assert!([Any::TimedOut, Any::Unsupported].contains(&ended));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| wait_any(&all(0).collect::<Vec<_>>(), long));
            while !sleeper.is_finished() {
                wake(&words[99], 1);
                std::thread::yield_now();
            }
            let ended = sleeper.join().expect("no panic");
            assert!([Any::Woken(99), Any::Unsupported].contains(&ended));
        });
    }

    #[test]
    fn a_wake_ends_the_sleep() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while word.load(Ordering::SeqCst) == 0 {
                    wait(&word, 0, Duration::from_secs(3600));
                }
            });
            word.store(1, Ordering::SeqCst);
            wake(&word, 1);
        });
    }
}
