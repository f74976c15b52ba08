//! How long a task must be for processes to pay, and how that goes with the number of workers.
//!
//! The task spins for a fixed number of turns. *Ideal* is what one thread does with these tasks in a plain loop, times the workers; it
//! is measured in every round beside the others, so figures in percent of it are paired like all ratios here. The figure of a row
//! itself is in percent of the calibrated length, which was measured once, at the best of many tries; the row `ideal` says how true
//! that still is.

use super::{Kind, expect_spun, spin};
use crate::harness::rounds::CaseResult;
use crate::harness::{Case, Result, Subject, Target, Unit};
use crate::ours::pool as ours;
use crate::peer::rayon;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Microseconds of the tasks of the curve, and the title of their case.
const LENGTHS: [(u64, &str); 9] = [
    (1, "pool: tasks of 1 us on all CPUs"),
    (3, "pool: tasks of 3 us on all CPUs"),
    (10, "pool: tasks of 10 us on all CPUs"),
    (30, "pool: tasks of 30 us on all CPUs"),
    (100, "pool: tasks of 100 us on all CPUs"),
    (300, "pool: tasks of 300 us on all CPUs"),
    (1_000, "pool: tasks of 1 ms on all CPUs"),
    (3_000, "pool: tasks of 3 ms on all CPUs"),
    (10_000, "pool: tasks of 10 ms on all CPUs"),
];

/// Workers, and the title of their case; as far as there are CPUs.
const CREWS: [(usize, &str); 9] = [
    (1, "pool: scaling, tasks of 100 us, 1 worker"),
    (2, "pool: scaling, tasks of 100 us, 2 workers"),
    (4, "pool: scaling, tasks of 100 us, 4 workers"),
    (8, "pool: scaling, tasks of 100 us, 8 workers"),
    (16, "pool: scaling, tasks of 100 us, 16 workers"),
    (32, "pool: scaling, tasks of 100 us, 32 workers"),
    (64, "pool: scaling, tasks of 100 us, 64 workers"),
    (128, "pool: scaling, tasks of 100 us, 128 workers"),
    (256, "pool: scaling, tasks of 100 us, 256 workers"),
];
const SCALING_LENGTH: u64 = 100;

const IDEAL: &str = "ideal: one thread's plain loop x workers";
/// The share of ideal from which on processes are said to pay.
const PAYS: f64 = 0.9;

pub(super) fn cases() -> Vec<Case> {
    let cpus = cpus();
    let curve = LENGTHS
        .into_iter()
        .map(|(length, title)| case(title, length, cpus));
    let crews = CREWS.into_iter().filter(|(workers, _)| *workers <= cpus);
    let scaling = crews.map(|(workers, title)| case(title, SCALING_LENGTH, workers));
    curve.chain(scaling).collect()
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn case(title: &'static str, length: u64, workers: usize) -> Case {
    Case {
        title,
        unit: Unit::share_of(length as f64 * 1e-6 / workers as f64),
        subjects: vec![
            Subject::ours(move |operations| {
                Some(by(workers, operations, |tasks| {
                    ours::spins(Kind::Spawn, workers, tasks, turns(length))
                }))
            }),
            Subject::peer("rayon (threads)", move |operations| {
                by(workers, operations, |tasks| {
                    rayon::spins(workers, tasks, turns(length))
                })
            }),
            Subject::peer(IDEAL, move |operations| {
                ideal(operations, workers, turns(length))
            })
            .into_floor(),
        ],
        target: None::<Target>,
    }
}

/// Gives each worker equally many tasks, at least as many as asked for, and reckons the time of those asked for.
fn by(workers: usize, operations: u64, run: impl Fn(u64) -> Result<Duration>) -> Result<Duration> {
    let tasks = operations.next_multiple_of(workers as u64);
    Ok(run(tasks)?.mul_f64(operations as f64 / tasks as f64))
}

/// A share of the tasks, in this thread.
fn ideal(operations: u64, workers: usize, turns: u64) -> Result<Duration> {
    let tasks = operations.div_ceil(workers as u64);
    let mut results = Vec::with_capacity(tasks as usize);
    let started = Instant::now();
    results.extend((0..tasks).map(|_| spin(turns)));
    let elapsed = started.elapsed();
    expect_spun(&results, tasks, turns)?;
    Ok(elapsed.mul_f64(operations as f64 / (tasks * workers as u64) as f64))
}

/// Turns of a task that spins for so many microseconds.
fn turns(microseconds: u64) -> u64 {
    static PER_MICROSECOND: OnceLock<f64> = OnceLock::new();
    let rate = PER_MICROSECOND.get_or_init(calibrate);
    ((microseconds as f64 * rate) as u64).max(1)
}

/// Turns in a microsecond, the most of many tries.
fn calibrate() -> f64 {
    const TURNS: u64 = 200_000;
    let rates = (0..50).map(|_| {
        let started = Instant::now();
        std::hint::black_box(spin(std::hint::black_box(TURNS)));
        TURNS as f64 / (started.elapsed().as_secs_f64() * 1e6)
    });
    rates.fold(0.0, f64::max)
}

/// A point of the curve: shares of ideal, paired by rounds.
struct Point {
    length: u64,
    processes: f64,
    rayon: f64,
}

/// Prints the curve, if its cases were measured.
pub(crate) fn print(results: &[CaseResult<'_>]) {
    let points: Vec<Point> = LENGTHS
        .into_iter()
        .filter_map(|(length, title)| {
            point(length, results.iter().find(|it| it.case.title == title)?)
        })
        .collect();
    if points.len() < 2 {
        return;
    }
    let cpus = cpus();
    println!("\npool: share of ideal by length of task, {cpus} workers on {cpus} CPUs");
    println!(
        "  {:>9} {:>12} {:>12} {:>22}",
        "task", "processes", "rayon", "cost beyond ideal, us"
    );
    for point in &points {
        let cost = point.length as f64 * (1.0 / point.processes - 1.0);
        println!(
            "  {:>6} us {:>10.1} % {:>10.1} % {cost:>22.2}",
            point.length,
            100.0 * point.processes,
            100.0 * point.rayon
        );
    }
    for (name, share) in [
        ("processes", (|it| it.processes) as fn(&Point) -> f64),
        ("rayon", |it| it.rayon),
    ] {
        let shares: Vec<_> = points
            .iter()
            .map(|it| (it.length as f64, share(it)))
            .collect();
        match pays_from(&shares) {
            Some(length) => println!("  {name}: 90 % of ideal from tasks of {length:.1} us on"),
            None => println!("  {name}: 90 % of ideal not reached"),
        }
    }
}

fn point(length: u64, result: &CaseResult<'_>) -> Option<Point> {
    let row = |name: &str| {
        let mut subjects = result.case.subjects.iter();
        subjects.position(|subject| subject.name.starts_with(name))
    };
    let ideal = row(IDEAL)?;
    let share = |of: usize| result.ratio(of, ideal).map(|it| it.median);
    Some(Point {
        length,
        processes: share(row("procession")?)?,
        rayon: share(row("rayon")?)?,
    })
}

/// The shortest length from which on all are [`PAYS`] or more, between two points on a logarithmic scale of lengths.
fn pays_from(points: &[(f64, f64)]) -> Option<f64> {
    let from = points.iter().rposition(|(_, share)| *share < PAYS);
    let Some(below) = from else {
        return points.first().map(|(length, _)| *length);
    };
    let ((short, low), (long, high)) = (points[below], *points.get(below + 1)?);
    let part = (PAYS - low) / (high - low);
    Some(short * (long / short).powf(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pays_between_the_points() {
        let points = [(1.0, 0.2), (10.0, 0.8), (100.0, 1.0)];
        let length = pays_from(&points).expect("it pays");
        assert!((length - 31.62).abs() < 0.1, "{length}");
        assert_eq!(pays_from(&points[..2]), None);
        assert_eq!(pays_from(&points[2..]), Some(100.0));
        // One that falls back counts from there.
        assert_eq!(
            pays_from(&[(1.0, 1.0), (2.0, 0.8), (4.0, 1.0)]).map(f64::round),
            Some(3.0)
        );
    }

    #[test]
    fn spinning_is_not_optimised_away() {
        assert_eq!(spin(0), 1);
        assert_ne!(spin(2), spin(3));
    }
}
