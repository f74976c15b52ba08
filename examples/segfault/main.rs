//! A worker that really segfaults: its task fails with an error that says how, the others go on, and the pool is whole again.

use procession::{Executor, TaskOptions};

/// Adds up a few numbers in 48 MiB of memory; for one of the tasks that goes wrong.
fn sum(n: u64) -> u64 {
    let numbers: Vec<u64> = (0..6 << 20).map(|index| index % (n + 1)).collect();
    if n == 3 {
        // A field at offset 8 of a struct that is not there.
        let nowhere = std::ptr::without_provenance_mut::<u64>(8);
        // SAFETY: none. This is the bug that the example is about: nothing is mapped there.
        unsafe { nowhere.write_volatile(n) };
    }
    numbers.iter().sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let executor = Executor::builder()
        .workers(2)
        .name("adder")
        .build_executor()?;
    let submit = |n| executor.submit_with(TaskOptions::new().name(format!("sum {n}")), sum, n);
    let futures = (1..=6).map(submit).collect::<Result<Vec<_>, _>>()?;
    for (n, future) in (1..).zip(&futures) {
        match future.result() {
            Ok(sum) => println!("sum {n}   {sum}"),
            Err(error) => println!("sum {n}   {error}"),
        }
    }

    println!("sum 7   {}, by whoever is there now", submit(7)?.result()?);
    Ok(())
}
