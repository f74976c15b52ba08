use procession::*;
use std::time::Instant;
fn sq(x: u64) -> u64 {
    x * x
}
fn main() {
    procession::init();
    let t = Instant::now();
    let pool = Pool::new(2).unwrap();
    pool.apply(sq, 1).unwrap();
    println!("start of 2 workers + first result: {:?}", t.elapsed());
    for _ in 0..3 {
        let n = 1_000_000u64;
        let t = Instant::now();
        let r = pool.map(sq, 0..n).unwrap();
        assert_eq!(r.len() as u64, n);
        println!("map: {:.2} M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
        let t = Instant::now();
        let r = pool.imap_unordered(sq, 0..n).count();
        assert_eq!(r as u64, n);
        println!(
            "imap_unordered: {:.2} M/s",
            n as f64 / t.elapsed().as_secs_f64() / 1e6
        );
        let n = 20_000u64;
        let t = Instant::now();
        for x in 0..n {
            assert_eq!(pool.apply(sq, x).unwrap(), x * x);
        }
        println!(
            "apply: {:.1} k/s",
            n as f64 / t.elapsed().as_secs_f64() / 1e3
        );
        let n = 100_000u64;
        let t = Instant::now();
        let f: Vec<_> = (0..n).map(|x| pool.apply_async(sq, x).unwrap()).collect();
        let t1 = t.elapsed();
        for (x, f) in f.iter().enumerate() {
            assert_eq!(f.result().unwrap(), (x * x) as u64);
        }
        println!(
            "submit all {:.1} k/s, + result: {:.1} k/s",
            n as f64 / t1.as_secs_f64() / 1e3,
            n as f64 / t.elapsed().as_secs_f64() / 1e3
        );
    }
}
