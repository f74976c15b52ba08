//! The floors: the least the machine can do for the same job, with nothing made safe.
//!
//! 1. `map` - shared memory both processes see.
//! 2. `ring`, `line`, `kernel_pipe` - links made of it, or of `pipe(2)`.
//! 3. `mutex` - pthread mutexes in it.

mod kernel_pipe;
mod line;
mod map;
mod mutex;
mod ring;

pub(crate) use kernel_pipe::KernelPipe;
pub(crate) use line::{SleepingLine, SpinningLine};
pub(crate) use mutex::{Robustness, SharedMutex};
pub(crate) use ring::Ring;

use crate::harness::Result;

/// Looks at a condition this often before giving the CPU away: far more than a hand-over takes.
const SPINS: u32 = 500;

/// Polls until there is something; the one way of busy waiting that ring, line and iceoryx2 share.
///
/// Where both processes have a CPU it only spins; where they must share one it yields, lest it measure
/// the scheduler's time slice.
#[inline]
pub(crate) fn wait_until<T>(mut poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    loop {
        for _ in 0..SPINS {
            if let Some(found) = poll()? {
                return Ok(found);
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}
