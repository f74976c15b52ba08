//! How many processes per second each start method starts and joins, beside `std::process::Command`.
//!
//! ```text
//! cargo run --release --example start_times
//! ```
use procession::{Process, StartMethod};
use std::error::Error;
use std::time::{Duration, Instant};

/// Long enough for a stable figure, short enough to wait for.
const TIME: Duration = Duration::from_millis(1500);

fn per_second(mut once: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    once()?;
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < TIME {
        once()?;
        count += 1;
    }
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}

fn add((a, b): (u64, u64)) -> u64 {
    a + b
}

fn main() -> Result<(), Box<dyn Error>> {
    procession::init();
    if std::env::var_os("NOTHING").is_some() {
        return Ok(());
    }
    println!("{:<24} {:>14}", "method", "start+join /s");
    for method in [
        StartMethod::Spawn,
        StartMethod::Fork,
        StartMethod::Forkserver,
    ] {
        let rate = per_second(|| {
            let process = Process::builder(add, (1, 2)).start_method(method).start()?;
            assert_eq!(process.join()?, 3);
            Ok(())
        })?;
        println!("{:<24} {rate:>14.0}", format!("{method:?}"));
    }
    let program = std::env::current_exe()?;
    for (name, program) in [
        ("Command(/bin/true)", "/bin/true".as_ref()),
        ("Command(this program)", program.as_path()),
    ] {
        let rate = per_second(|| {
            std::process::Command::new(program)
                .env("NOTHING", "1")
                .status()?;
            Ok(())
        })?;
        println!("{name:<24} {rate:>14.0}");
    }
    Ok(())
}
