//! Ping-pong over a pipe: the parent sends a number, the child returns its successor.

use procession::{Connection, Pipe, Process};
use std::time::Instant;

/// Answers until nobody holds the other end any more.
fn answer(pipe: Connection<u64>) {
    while let Ok(number) = pipe.recv() {
        if pipe.send(number + 1).is_err() {
            break;
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();

    let rounds: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(20_000), |arg| arg.parse())?;
    let (ours, theirs) = Pipe::duplex::<u64, u64>()?;
    let child = Process::start(answer, theirs)?;

    ours.send(0)?; // the first round trip takes as long as the child takes to start
    let mut number = ours.recv()?;
    let start = Instant::now();
    for _ in 0..rounds {
        ours.send(number)?;
        number = ours.recv()?;
    }
    let elapsed = start.elapsed();

    drop(ours); // end of file for the child, whose loop ends
    child.join()?;

    println!("{rounds} round trips, and the number is {number}");
    println!(
        "{:.2?} each, {elapsed:.1?} together",
        elapsed / rounds.max(1) as u32
    );
    Ok(())
}
