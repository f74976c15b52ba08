//! Matrix multiplication in shared memory: workers read both factors and write their rows of the product where they belong.

use procession::{Pool, RawArray};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Instant;

/// Rows of one task: they stay in the cache while a row of `b` after the other is read.
const ROWS: usize = 32;

/// Three square matrices, row by row. What travels with each task is three handles, not the numbers.
#[derive(Clone, Serialize, Deserialize)]
struct Product {
    size: usize,
    a: RawArray<f64>,
    b: RawArray<f64>,
    c: RawArray<f64>,
}

/// Computes some rows of `c`.
fn multiply((product, rows): (Product, Range<usize>)) {
    let Product { size, a, b, c } = product;
    let mut ours = vec![0.0; rows.len() * size];
    a.read_into(rows.start * size, &mut ours)
        .expect("rows of a");
    let mut sums = vec![0.0; rows.len() * size];
    let mut row = vec![0.0; size];
    for k in 0..size {
        b.read_into(k * size, &mut row).expect("a row of b");
        for (sums, ours) in sums.chunks_mut(size).zip(ours.chunks(size)) {
            add_scaled(sums, ours[k], &row);
        }
    }
    c.write_from(rows.start * size, &sums).expect("rows of c");
}

fn add_scaled(sums: &mut [f64], factor: f64, row: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += factor * value;
    }
}

/// The same, by one thread in memory of its own.
fn sequentially(size: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut c = vec![0.0; size * size];
    for (sums, ours) in c.chunks_mut(ROWS * size).zip(a.chunks(ROWS * size)) {
        for (k, row) in b.chunks(size).enumerate() {
            for (sums, ours) in sums.chunks_mut(size).zip(ours.chunks(size)) {
                add_scaled(sums, ours[k], row);
            }
        }
    }
    c
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let size: usize = std::env::args()
        .nth(1)
        .map_or(Ok(2048), |arg| arg.parse())?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut matrix = || -> Vec<f64> { (0..size * size).map(|_| random.f64()).collect() };
    let (a, b) = (matrix(), matrix());
    let product = Product {
        size,
        a: RawArray::from_slice(&a)?,
        b: RawArray::from_slice(&b)?,
        c: RawArray::zeroed(size * size)?,
    };
    let workers = procession::cpu_count().max(2);
    let pool = Pool::new(workers)?;

    println!("two matrices of {size} x {size} numbers, {ROWS} rows for each task");
    let report = |name: &str, start: Instant| {
        let took = start.elapsed().as_secs_f64();
        let speed = 2.0 * (size as f64).powi(3) / took / 1e9;
        println!("  {name:<14} {took:>6.2} s  {speed:>5.1} GFLOP/s");
        took
    };
    let start = Instant::now();
    let expected = sequentially(size, &a, &b);
    let alone = report("1 process", start);

    let start = Instant::now();
    let parts = (0..size)
        .step_by(ROWS)
        .map(|row| (product.clone(), row..size.min(row + ROWS)));
    pool.map(multiply, parts)?;
    let together = report(&format!("{workers} processes"), start);

    assert!(product.c.to_vec() == expected, "the products differ");
    println!(
        "the same to the last bit, {:.2} times as fast",
        alone / together
    );
    Ok(())
}
