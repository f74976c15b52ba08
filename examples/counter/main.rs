//! Several processes count in one shared number: carelessly, with a lock, and with an atomic.

use procession::{Barrier, Lock, Process, RawValue, SharedAtomicU64};
use serde::{Deserialize, Serialize};

const PROCESSES: u64 = 4;

/// Everything the processes share. It is sent to each of them as an argument.
#[derive(Clone, Serialize, Deserialize)]
struct Shared {
    careless: RawValue<u64>,
    guarded: RawValue<u64>,
    lock: Lock,
    atomic: SharedAtomicU64,
    start: Barrier,
}

fn count((shared, rounds): (Shared, u64)) {
    shared.start.wait().expect("all arrive");
    for _ in 0..rounds {
        // Between reading and writing, another process reads the same number: one of the two updates is lost.
        shared.careless.set(shared.careless.get() + 1);
    }
    for _ in 0..rounds {
        let _guard = shared.lock.acquire();
        shared.guarded.set(shared.guarded.get() + 1);
    }
    for _ in 0..rounds {
        shared.atomic.fetch_add(1);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let rounds: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(500_000), |arg| arg.parse())?;
    let shared = Shared {
        careless: RawValue::new(0)?,
        guarded: RawValue::new(0)?,
        lock: Lock::new()?,
        atomic: SharedAtomicU64::new(0)?,
        start: Barrier::new(PROCESSES as usize)?,
    };
    let workers = (0..PROCESSES)
        .map(|_| Process::start(count, (shared.clone(), rounds)))
        .collect::<Result<Vec<_>, _>>()?;
    for worker in &workers {
        worker.join()?;
    }

    let expected = PROCESSES * rounds;
    println!("{PROCESSES} processes count to {rounds} each, together to {expected}:");
    for (how, counted) in [
        ("without a lock", shared.careless.get()),
        ("with a lock", shared.guarded.get()),
        ("atomically", shared.atomic.load()),
    ] {
        println!("  {how:<15} {counted:>9}   {:>9} lost", expected - counted);
    }
    Ok(())
}
