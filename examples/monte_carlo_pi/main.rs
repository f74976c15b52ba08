//! π from random points: the share of them that falls into a quarter of a circle. Here, in threads and in processes: one line chooses.

use procession::{Pool, TaskError};
use std::f64::consts::PI;
use std::time::Instant;

/// Points of one task.
const POINTS: u64 = 1 << 20;

/// How many of the task's points lie in the circle. The seed decides, so that everybody gets the same.
fn hits((seed, points): (u64, u64)) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut is_inside = || {
        let (x, y) = (random.f64(), random.f64());
        x * x + y * y < 1.0
    };
    (0..points).map(|_| u64::from(is_inside())).sum()
}

fn all_hits(pool: &Pool, points: u64) -> Result<u64, TaskError> {
    let tasks = (0..points.div_ceil(POINTS)).map(|n| (n, POINTS.min(points - n * POINTS)));
    pool.imap_unordered(hits, tasks).sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let points: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000_000), |arg| arg.parse())?;
    println!("{points} points, {} tasks", points.div_ceil(POINTS));
    let mut counts = vec![];
    let mut measure = |name: &str, pool: Pool| -> Result<(), TaskError> {
        let start = Instant::now();
        let count = all_hits(&pool, points)?;
        let took = start.elapsed().as_secs_f64();
        let pi = 4.0 * count as f64 / points as f64;
        let speed = points as f64 / took / 1e6;
        println!("  {name:<14} π = {pi:.6}  {took:>6.2} s  {speed:>5.0} million/s");
        counts.push(count);
        Ok(())
    };
    let workers = procession::cpu_count().max(2);
    measure("here", Pool::new(0)?)?; // no workers: whoever submits a task runs it
    measure(&format!("{workers} threads"), Pool::threads(workers)?)?;
    measure(&format!("{workers} processes"), Pool::new(workers)?)?;

    assert!(counts.iter().all(|&count| count == counts[0]));
    let pi = 4.0 * counts[0] as f64 / points as f64;
    let expected = (PI * (4.0 - PI) / points as f64).sqrt();
    println!(
        "all three the same; off by {:.6}, where {expected:.6} is usual",
        (pi - PI).abs()
    );
    Ok(())
}
