//! What the parent learns when a child panics, exits or is killed, and what becomes of a lock it held.

use procession::{Event, JoinFailure, Lock, Process};

fn divide((a, b): (i32, i32)) -> i32 {
    a / b
}

fn leave(code: i32) -> i32 {
    std::process::exit(code)
}

/// Never ends by itself, and never lets go of the lock.
fn hog((lock, held): (Lock, Event)) {
    let _guard = lock.acquire();
    held.set();
    loop {
        std::thread::park();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let fine = Process::start(divide, (42, 6))?;
    println!("a child that is fine      {}", fine.join()?);

    let unlucky = Process::builder(divide, (42, 0)).name("unlucky").start()?;
    match unlucky.join().map_err(|error| error.failure) {
        Err(JoinFailure::Panicked {
            message, location, ..
        }) => {
            println!("a child that panics       {message}");
            println!(
                "                          at {}",
                location.unwrap_or_default()
            );
        }
        other => println!("unexpected: {other:?}"),
    }

    let leaver = Process::builder(leave, 3).name("leaver").start()?;
    println!(
        "a child that exits        {}",
        leaver.join().expect_err("it returned nothing")
    );

    let (lock, held) = (Lock::new()?, Event::new()?);
    let hog = Process::builder(hog, (lock.clone(), held.clone()))
        .name("hog")
        .start()?;
    held.wait();
    hog.kill()?; // SIGKILL, while it holds the lock
    println!(
        "a child that is killed    {}",
        hog.join().expect_err("it was killed")
    );

    let guard = lock.acquire(); // would hang for ever, were the lock not recovered
    println!(
        "the lock it held          is ours; its owner died: {}",
        guard.recovered()
    );
    Ok(())
}
