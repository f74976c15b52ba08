//! Numbers of the threads of this process, as re-entrant locks record them.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

/// The calling thread's number: never zero, never given out twice in one process. A forked child's thread keeps its
/// number, which is no clash: it is another participant.
#[inline]
pub(crate) fn this_thread() -> u32 {
    match NUMBER.get() {
        0 => number_thread(),
        number => number,
    }
}

#[cold]
fn number_thread() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // After four billion threads numbers come again; zero never does.
    let number = NEXT.fetch_add(1, Ordering::Relaxed).max(1);
    NUMBER.set(number);
    number
}
