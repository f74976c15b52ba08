//! Sleeping on a word of shared memory.
//!
//! Always the *shared* form: a private futex is keyed by the process's own address space and would never wake
//! another process (invariant I4).

use rustix::io::Errno;
use rustix::thread::futex::{Flags, Timespec, wait as futex_wait, wake as futex_wake};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `*word == expected`, at most `limit`. `false`: the limit passed and nobody woke us. `true`: a wake, a changed word, a signal.
pub(crate) fn wait(word: &AtomicU32, expected: u32, limit: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    match futex_wait(word, Flags::empty(), expected, Some(&timeout)) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => true,
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
