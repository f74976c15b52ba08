//! Factorials in parallel: one process for each number, all results through one queue.

use procession::{Process, Queue};

const BASE: u64 = 1_000_000_000;

/// The decimal digits of n!
fn factorial(n: u64) -> String {
    let mut limbs = vec![1]; // in base 10^9, lowest first
    for factor in 2..=n {
        let mut carry = 0;
        for limb in &mut limbs {
            carry += *limb * factor;
            *limb = carry % BASE;
            carry /= BASE;
        }
        while carry > 0 {
            limbs.push(carry % BASE);
            carry /= BASE;
        }
    }
    let padded: String = limbs
        .iter()
        .rev()
        .map(|limb| format!("{limb:09}"))
        .collect();
    padded.trim_start_matches('0').to_owned()
}

fn compute((n, results): (u64, Queue<(u64, String)>)) {
    results.put((n, factorial(n))).expect("the queue is open");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let mut numbers = std::env::args()
        .skip(1)
        .map(|n| n.parse())
        .collect::<Result<Vec<u64>, _>>()?;
    if numbers.is_empty() {
        numbers = vec![5, 10, 20, 30, 100, 1000, 5000];
    }

    let results = Queue::unbounded()?;
    let workers = numbers
        .iter()
        .map(|&n| Process::start(compute, (n, results.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    for worker in &workers {
        worker.join()?;
    }
    results.close();

    let mut factorials: Vec<_> = results.iter().collect::<Result<_, _>>()?; // in the order in which they were ready
    factorials.sort();
    for (n, digits) in &factorials {
        match digits.len() {
            0..=40 => println!("{n:>6}! = {digits}"),
            len => println!(
                "{n:>6}! = {}…{} ({len} digits)",
                &digits[..12],
                &digits[len - 12..]
            ),
        }
    }
    Ok(())
}
