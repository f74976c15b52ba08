//! Ends a run that hangs: a subject whose helper has died may otherwise spin for ever.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Longest time one round may take, far above what any needs.
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_secs(1);

static TICKS_LEFT: AtomicU64 = AtomicU64::new(PATIENCE.as_secs());

/// Starts watching. The helpers die with the run.
pub(crate) fn start() {
    thread::spawn(|| {
        loop {
            thread::sleep(TICK);
            if TICKS_LEFT.fetch_sub(1, Ordering::Relaxed) <= 1 {
                eprintln!("\nprocession-bench: a round hangs; giving up");
                std::process::exit(3);
            }
        }
    });
}

/// Says that a new round begins.
pub(crate) fn feed() {
    TICKS_LEFT.store(PATIENCE.as_secs(), Ordering::Relaxed);
}
