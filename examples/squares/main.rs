//! Squares of a large list: each process gets a part of it as its argument and returns the squares.

use procession::Process;
use std::time::Instant;

fn squares(numbers: Vec<u64>) -> Vec<u64> {
    numbers.into_iter().map(|n| n * n).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let len: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(2_000_000), |arg| arg.parse())?;
    let processes = procession::cpu_count().max(2);
    let numbers: Vec<u64> = (1..=len).collect();
    let part = numbers.len().div_ceil(processes).max(1);

    let start = Instant::now();
    let workers = numbers
        .chunks(part)
        .map(|part| Process::start(squares, part.to_vec()))
        .collect::<Result<Vec<_>, _>>()?;
    let mut squared = Vec::with_capacity(numbers.len());
    for worker in &workers {
        squared.extend(worker.join()?); // in the order of the parts
    }
    let elapsed = start.elapsed();

    let sum: u128 = squared.iter().map(|&square| u128::from(square)).sum();
    let n = u128::from(len);
    assert_eq!(
        sum,
        n * (n + 1) * (2 * n + 1) / 6,
        "the formula knows better"
    );

    println!(
        "{} squares from {} processes in {elapsed:.1?}",
        squared.len(),
        workers.len()
    );
    println!("the first: {:?}", &squared[..squared.len().min(6)]);
    println!("the sum:   {sum}, as the formula says");
    Ok(())
}
