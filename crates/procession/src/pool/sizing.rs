//! How many workers, and whether there is memory for more work.

use crate::sys::limits::{cpu_count, memory, oom_kills};
use std::time::{Duration, Instant};

/// Memory is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Without a limit of its own, a worker is taken to need this much.
const PER_WORKER: u64 = 64 << 20;
/// Kept free unless the pool was told how much: a sixteenth of what there is, at most this.
const RESERVE: u64 = 512 << 20;

/// Workers for this machine: one for each processor that is ours, fewer if memory is short.
pub(super) fn default_workers(max_memory: u64) -> usize {
    let each = if max_memory == 0 {
        PER_WORKER
    } else {
        max_memory
    };
    let fit = memory().map_or(u64::MAX, |memory| memory.headroom() / each);
    let (cpus, fit) = (cpu_count(), usize::try_from(fit).unwrap_or(usize::MAX));
    if fit < cpus {
        tracing::info!(
            cpus,
            fit,
            bytes_per_worker = each,
            "fewer workers than processors: memory is short"
        );
    }
    cpus.min(fit).max(1)
}

/// Decides whether more tasks may be begun.
pub(super) struct Admission {
    /// Bytes to be kept free.
    reserve: u64,
    looked: Option<Instant>,
    paused: bool,
    oom_kills: Option<u64>,
}

impl Admission {
    /// Keeps `reserve` bytes free; `None`: a share of what there is.
    pub(super) fn new(reserve: Option<u64>) -> Self {
        let share = || memory().map_or(0, |memory| (memory.limit() / 16).min(RESERVE));
        Self {
            reserve: reserve.unwrap_or_else(share),
            looked: None,
            paused: false,
            oom_kills: oom_kills(),
        }
    }

    /// Whether there is memory for more.
    pub(super) fn allows(&mut self) -> bool {
        if self.reserve == 0 {
            return true;
        }
        let now = Instant::now();
        if self
            .looked
            .is_none_or(|then| now.duration_since(then) >= LOOK_EVERY)
        {
            self.looked = Some(now);
            self.look();
        }
        !self.paused
    }

    fn look(&mut self) {
        let Ok(memory) = memory() else { return };
        let (free, reserve) = (memory.headroom(), self.reserve);
        let short = free < reserve;
        if short && !self.paused {
            tracing::warn!(
                free,
                reserve,
                "memory is short: no more tasks are begun for now"
            );
        } else if !short && self.paused {
            tracing::info!(free, reserve, "memory is there again: tasks are begun");
        }
        self.paused = short;
    }

    /// Whether the system has killed somebody of our control group for lack of memory since the last time.
    pub(super) fn saw_oom_kill(&mut self) -> bool {
        let now = oom_kills();
        let more = now > self.oom_kills;
        self.oom_kills = now;
        more
    }
}
