//! Our own side of every case. This is the one file to fill in: a function that returns `None` is not built
//! yet, and its row shows `-`.
//!
//! Rules that keep a case fair: set everything up before the clock starts, start the other processes with
//! `procession`'s own `Process` (spawn unless the case says otherwise), stop the clock only when the *receiver*
//! has said that it has everything, check that nothing is lost or reordered, and end all processes before
//! returning. `operations` is chosen by the harness to fill about 150 ms (40 ms with `--quick`); it begins with 4.

use crate::harness::Attempt;
use std::time::Duration;

/// FILL IN: `procession`'s call that must come first in `main` (it does: see `main.rs`).
pub(crate) fn init() {}

// ---- pipe -------------------------------------------------------------------------------------------------

/// FILL IN: one-way `Pipe` of u64: send `0..operations` to a child that checks the order and confirms the last.
/// Warm up with a few thousand messages first, as `link::stream` does.
pub(crate) fn pipe_one_way(_operations: u64) -> Attempt<Duration> {
    None
}

// ---- queue ------------------------------------------------------------------------------------------------

/// FILL IN: the same through a bounded `Queue` of u64: this process puts, one child gets.
pub(crate) fn queue_one_to_one(_operations: u64) -> Attempt<Duration> {
    None
}

/// FILL IN: one `Queue` of u64 that 4 children put into and 4 others get from, one message a call. Each
/// producer puts a quarter (round up). The clock runs from the word to begin until every message has been got;
/// check their number and sum.
pub(crate) fn queue_four_to_four(_operations: u64) -> Attempt<Duration> {
    None
}

// ---- pingpong ---------------------------------------------------------------------------------------------

/// FILL IN: `operations` round trips of a u64 over a duplex `Pipe`, back to back; a child echoes.
pub(crate) fn pingpong_awake(_operations: u64) -> Attempt<Duration> {
    None
}

/// FILL IN: the same, with `thread::sleep(pause)` before each trip; returns the sum of the trips alone. The
/// child must wait as users would have it wait (default spin, then sleep): the pause outlasts any spin.
pub(crate) fn pingpong_asleep(_operations: u64, _pause: Duration) -> Attempt<Duration> {
    None
}

// ---- buffers ----------------------------------------------------------------------------------------------

/// FILL IN: copy a private `Vec` of `len` bytes to a child through a channel, `operations` times. Use
/// `buffers::mark` before each send and `buffers::check` in the child, so that every page is seen there.
pub(crate) fn buffers_copied(_operations: u64, _len: usize) -> Attempt<Duration> {
    None
}

/// FILL IN: `loan(len)` and `send` without filling, `operations` times; the child checks the length and drops
/// the buffer. Called with 64 MiB and 64 KiB; the first few are warm-up and not clocked.
pub(crate) fn buffers_loaned(_operations: u64, _len: usize) -> Attempt<Duration> {
    None
}

// ---- lock -------------------------------------------------------------------------------------------------

/// FILL IN: lock and unlock, nothing in between, `operations` times, with nobody else there.
pub(crate) fn lock_uncontended(_operations: u64) -> Attempt<Duration> {
    None
}

/// FILL IN: this process and one child both lock, add one and unlock until the number says `operations`, as in
/// `lock::contended`; the clock runs from when both are at it until the child has said that it is done.
pub(crate) fn lock_contended(_operations: u64) -> Attempt<Duration> {
    None
}

// ---- process ----------------------------------------------------------------------------------------------

/// FILL IN: start `process::double(n)` by `spawn`, join it, check the result; `operations` times in a row.
pub(crate) fn process_spawn(_operations: u64) -> Attempt<Duration> {
    None
}

/// FILL IN: the same by `fork`.
pub(crate) fn process_fork(_operations: u64) -> Attempt<Duration> {
    None
}

/// FILL IN: the same by `forkserver`, whose template is started before the clock.
pub(crate) fn process_forkserver(_operations: u64) -> Attempt<Duration> {
    None
}

// ---- scale ------------------------------------------------------------------------------------------------

/// FILL IN: how many locks, up to `limit`, can be alive at once (`scale::fit`). Called in a process of its own whose
/// RLIMIT_NOFILE is 256.
pub(crate) fn locks_alive(_limit: u64) -> Attempt<u64> {
    None
}

/// FILL IN: the same for queues.
pub(crate) fn queues_alive(_limit: u64) -> Attempt<u64> {
    None
}

/// FILL IN: heap bytes of one lock: live bytes after making 1000 of them, less those before, by 1000.
pub(crate) fn lock_bytes() -> Attempt<f64> {
    None
}

/// FILL IN: heap bytes of one empty queue, likewise.
pub(crate) fn queue_bytes() -> Attempt<f64> {
    None
}

/// FILL IN: make a lock and drop it, `operations` times.
pub(crate) fn lock_create_drop(_operations: u64) -> Attempt<Duration> {
    None
}

/// FILL IN: make an unbounded queue of u64 and drop it, `operations` times.
pub(crate) fn queue_create_drop(_operations: u64) -> Attempt<Duration> {
    None
}

/// FILL IN: make both ends of a pipe and drop them, `operations` times.
pub(crate) fn pipe_create_drop(_operations: u64) -> Attempt<Duration> {
    None
}
