//! Pool: tasks over worker processes, beside procspawn's pool (processes) and rayon (threads).
//!
//! 1. This file: tiny tasks, large arguments and results, start and memory. 2. `curve`: what a task must cost for processes to pay, and how that grows with
//!    the workers.
//!
//! The functions that tasks call are here, so that all subjects call the same.

mod curve;

use crate::buffers;
use crate::harness::helper::{Helper, say};
use crate::harness::{Case, Result, Subject, Target, Unit};
use crate::ours::pool::{self as ours, Bulk};
use crate::peer::{procspawn, rayon};
use std::time::{Duration, Instant};

pub(crate) use curve::print as print_curve;

/// Workers of all cases that do not say otherwise.
pub(crate) const WORKERS: usize = 2;
/// Bytes of a large argument or result.
pub(crate) const LARGE: usize = 64 << 20;
/// Futures that are open at one time.
const LOT: u64 = 1_000;
/// Items of a chunk, for those who make chunks.
const CHUNK: usize = 1_000;
/// Idle time before a task that has to wake its worker: longer than any sensible spin.
const PAUSE: Duration = Duration::from_micros(300);
/// Most tasks of one round with pauses, which take far longer than the tasks.
const PAUSED: u64 = 300;

/// Who our workers are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Spawn,
    Forkserver,
    Threads,
}

pub(crate) fn cases() -> Vec<Case> {
    let small = [bulk(), one_by_one(), futures(), waking()];
    let large = [arguments(), results()];
    let life = [start(), cycle(), memory()];
    let mut cases: Vec<Case> = small.into_iter().chain(large).chain(life).collect();
    cases.extend(curve::cases());
    cases
}

fn bulk() -> Case {
    let ours = |way| move |operations| Some(ours::bulk(Kind::Spawn, way, operations));
    Case {
        title: "pool: tiny tasks in bulk, 2 workers",
        unit: Unit::MILLION_TASKS,
        subjects: vec![
            Subject::ours(ours(Bulk::Map)),
            Subject::also_ours("procession imap_unordered", ours(Bulk::Unordered)),
            Subject::also_ours("procession, chunks of 1000", ours(Bulk::Chunks(CHUNK))),
            Subject::also_ours("procession, threads", |operations| {
                Some(ours::bulk(Kind::Threads, Bulk::Map, operations))
            }),
            Subject::peer("procspawn pool, 128 in flight", procspawn::bulk),
            Subject::peer("procspawn pool, Vec of 1000 a task", |operations| {
                procspawn::bulk_in_chunks(operations, CHUNK as u64)
            }),
            Subject::peer("rayon (threads)", rayon::bulk),
        ],
        target: Some(Target::Figure(1.0)),
    }
}

fn one_by_one() -> Case {
    Case {
        title: "pool: one task at a time, 2 workers",
        unit: Unit::THOUSAND_TASKS,
        subjects: vec![
            Subject::ours(|operations| Some(ours::one_by_one(Kind::Spawn, operations, None))),
            Subject::also_ours("procession, threads", |operations| {
                Some(ours::one_by_one(Kind::Threads, operations, None))
            }),
            Subject::peer("procspawn pool", |operations| {
                procspawn::one_by_one(operations, None)
            }),
            Subject::peer("rayon (threads), install", |operations| {
                rayon::one_by_one(operations, None)
            }),
        ],
        target: Some(Target::Figure(150.0)),
    }
}

fn futures() -> Case {
    Case {
        title: "pool: executor, 1000 submits, then 1000 results",
        unit: Unit::THOUSAND_TASKS,
        subjects: vec![
            Subject::ours(|operations| Some(ours::futures(Kind::Spawn, operations, LOT))),
            Subject::also_ours("procession, threads", |operations| {
                Some(ours::futures(Kind::Threads, operations, LOT))
            }),
            Subject::peer("procspawn pool, 128 in flight", procspawn::bulk),
            Subject::peer("rayon (threads), spawn and channel", |operations| {
                rayon::spawns(operations, LOT)
            }),
        ],
        target: None,
    }
}

fn waking() -> Case {
    Case {
        title: "pool: one task, after 300 us of idling",
        unit: Unit::MICROSECONDS,
        subjects: vec![
            Subject::ours(|operations| {
                Some(paused(operations, |operations| {
                    ours::one_by_one(Kind::Spawn, operations, Some(PAUSE))
                }))
            }),
            Subject::also_ours("procession, threads", |operations| {
                Some(paused(operations, |operations| {
                    ours::one_by_one(Kind::Threads, operations, Some(PAUSE))
                }))
            }),
            Subject::peer("procspawn pool", |operations| {
                paused(operations, |operations| {
                    procspawn::one_by_one(operations, Some(PAUSE))
                })
            }),
            Subject::peer("rayon (threads), install", |operations| {
                paused(operations, |operations| {
                    rayon::one_by_one(operations, Some(PAUSE))
                })
            }),
        ],
        target: None,
    }
}

/// Runs at most [`PAUSED`] of the operations and reckons the time of all.
fn paused(operations: u64, run: impl Fn(u64) -> Result<Duration>) -> Result<Duration> {
    let some = operations.min(PAUSED);
    Ok(run(some)?.mul_f64(operations as f64 / some as f64))
}

fn arguments() -> Case {
    Case {
        title: "pool: 64 MiB argument, copied and read",
        unit: Unit::gigabytes(LARGE),
        subjects: vec![
            Subject::ours(|operations| Some(ours::buffer_arguments(operations))),
            Subject::peer("procspawn pool, Vec<u8>", procspawn::large_arguments),
            Subject::peer("memcpy within one process, warm", buffers::memcpy).into_floor(),
        ],
        target: Some(Target::Figure(8.0)),
    }
}

fn results() -> Case {
    Case {
        title: "pool: 64 MiB result, copied and read",
        unit: Unit::gigabytes(LARGE),
        subjects: vec![
            Subject::ours(|operations| Some(ours::buffer_results(operations))),
            Subject::peer("procspawn pool, Vec<u8>", procspawn::large_results),
            Subject::peer("memcpy within one process, warm", buffers::memcpy).into_floor(),
        ],
        target: Some(Target::Figure(8.0)),
    }
}

fn start() -> Case {
    Case {
        title: "pool: start of 2 workers until both have answered",
        unit: Unit::MILLISECONDS,
        subjects: vec![
            Subject::ours(|operations| Some(ours::start(Kind::Spawn, operations))),
            Subject::also_ours("procession, forkserver", |operations| {
                Some(ours::start(Kind::Forkserver, operations))
            }),
            Subject::peer("procspawn pool", procspawn::start),
        ],
        target: None,
    }
}

fn cycle() -> Case {
    Case {
        title: "pool: start, use and close, 2 workers",
        unit: Unit::POOLS,
        subjects: vec![
            Subject::ours(|operations| Some(ours::cycle(Kind::Spawn, operations))),
            Subject::also_ours("procession, forkserver", |operations| {
                Some(ours::cycle(Kind::Forkserver, operations))
            }),
            Subject::also_ours("procession, threads", |operations| {
                Some(ours::cycle(Kind::Threads, operations))
            }),
            Subject::peer("procspawn pool", procspawn::cycle),
        ],
        target: None,
    }
}

fn memory() -> Case {
    Case {
        title: "pool: private resident memory of an idle worker",
        unit: Unit::KIBIBYTES,
        subjects: vec![
            Subject::ours_counted(|| Some(ours::idle_memory(Kind::Spawn))),
            Subject::also_ours_counted("procession, forkserver", || {
                Some(ours::idle_memory(Kind::Forkserver))
            }),
            Subject::peer_counted("procspawn pool", procspawn::idle_memory),
            Subject::peer_counted("this binary, asleep in main", idle_binary).into_floor(),
        ],
        target: None,
    }
}

// ---- what all subjects share ------------------------------------------------------------------------------

/// The tiny task.
pub(crate) fn square(number: u64) -> u64 {
    number.wrapping_mul(number)
}

/// Compares with the sum of the squares of the first numbers.
pub(crate) fn expect_sum(operations: u64, sum: u64) -> Result<()> {
    match (0..operations).map(square).fold(0, u64::wrapping_add) {
        right if right == sum => Ok(()),
        right => Err(format!("sum {sum} instead of {right}").into()),
    }
}

/// Time of that many tasks, one after the other, each after a pause that is not counted.
pub(crate) fn in_turn(
    operations: u64,
    pause: Option<Duration>,
    mut run: impl FnMut(u64) -> Result<u64>,
) -> Result<Duration> {
    let mut sum = 0_u64;
    let mut elapsed = Duration::ZERO;
    let begun = Instant::now();
    for number in 0..operations {
        let Some(pause) = pause else {
            sum = sum.wrapping_add(run(number)?);
            continue;
        };
        std::thread::sleep(pause);
        let started = Instant::now();
        sum = sum.wrapping_add(run(number)?);
        elapsed += started.elapsed();
    }
    if pause.is_none() {
        elapsed = begun.elapsed();
    }
    expect_sum(operations, sum)?;
    Ok(elapsed)
}

/// The task that takes long: so many dependent multiplications.
pub(crate) fn spin(turns: u64) -> u64 {
    (0..turns).fold(1, |value: u64, _| {
        std::hint::black_box(value.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1))
    })
}

/// Checks the results of tasks that spun.
pub(crate) fn expect_spun(results: &[u64], tasks: u64, turns: u64) -> Result<()> {
    let right = spin(turns);
    if results.len() as u64 == tasks && results.iter().all(|&result| result == right) {
        Ok(())
    } else {
        Err("the tasks returned something else".into())
    }
}

/// Both workers of a pool have answered, not one twice.
pub(crate) fn both(workers: [u32; 2]) -> Result<()> {
    if workers[0] == workers[1] {
        return Err("one worker has answered twice".into());
    }
    Ok(())
}

/// KiB of resident memory that belong to one process alone: pages that it wrote, or that nobody else maps. Not counted: the shared pages
/// of program and libraries, and of shared memory such as the family heap.
pub(crate) fn mean_private_memory(processes: &[u32]) -> Result<f64> {
    let mut sum = 0.0;
    for process in processes {
        let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        let private = text.lines().filter(|line| line.starts_with("Private_"));
        for line in private.filter(|line| !line.starts_with("Private_Hugetlb")) {
            let figure = line.split_whitespace().nth(1);
            sum += figure.ok_or("a line without a figure")?.parse::<f64>()?;
        }
    }
    Ok(sum / processes.len() as f64)
}

/// The floor of memory: this binary in a helper role that waits.
fn idle_binary() -> Result<f64> {
    let mut helper = Helper::start("pool", &[])?;
    let process = helper.hear()?.parse()?;
    mean_private_memory(&[process])
}

/// Plays the idle process.
pub(crate) fn help() -> Result<()> {
    say(&std::process::id().to_string())?;
    crate::harness::helper::expect("end")
}
