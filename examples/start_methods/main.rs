//! How long it takes to start a process and to get its result, by each start method.

use procession::{Process, StartMethod};
use std::time::{Duration, Instant};

fn successor(n: u64) -> u64 {
    n + 1
}

/// Starts and joins one process; how long the start alone took, and both.
fn once(method: StartMethod, n: u64) -> Result<(Duration, Duration), Box<dyn std::error::Error>> {
    let begin = Instant::now();
    let process = Process::builder(successor, n)
        .start_method(method)
        .start()?;
    let started = begin.elapsed();
    assert_eq!(process.join()?, n + 1);
    Ok((started, begin.elapsed()))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let rounds: u64 = std::env::args().nth(1).map_or(Ok(100), |arg| arg.parse())?;
    println!("median of {rounds} processes, one after the other");
    println!(
        "{:<12} {:>10} {:>13} {:>15}",
        "method", "start", "start + join", "per second"
    );
    for (name, method) in [
        ("spawn", StartMethod::Spawn),
        ("fork", StartMethod::Fork),
        ("forkserver", StartMethod::Forkserver),
    ] {
        once(method, 0)?; // the first one brings up the forkserver
        let times = (1..=rounds.max(1))
            .map(|n| once(method, n))
            .collect::<Result<Vec<_>, _>>()?;
        let (starts, totals): (Vec<_>, Vec<_>) = times.into_iter().unzip();
        let total = median(totals);
        println!(
            "{name:<12} {:>7} µs {:>10} µs {:>15.0}",
            median(starts).as_micros(),
            total.as_micros(),
            1.0 / total.as_secs_f64()
        );
    }
    Ok(())
}
