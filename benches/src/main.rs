//! `procession-bench` measures procession beside its peers in one run.
//!
//! A *case* is one question ("how many u64 per second cross a pipe?"). Its *subjects* answer it: ours, the
//! peers (`ipc-channel`, `iceoryx2`, `procspawn`, `rayon`), and floors, which are the least the machine can do. The
//! rounds of the subjects alternate, so that whatever else the machine is doing hits all of them alike; ratios
//! are taken round by round. Nothing here is a test: a missed target is printed, never an error.
//!
//! `README.md` beside this crate says what each case measures and how fairness is kept.

mod buffers;
mod cli;
mod floor;
mod harness;
mod link;
mod lock;
mod ours;
mod peer;
mod pingpong;
mod pipe;
mod pool;
mod process;
mod queue;
mod scale;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Children of ours and of procspawn never come back from these two calls, so nothing may precede them.
    ours::init();
    procspawn::init();
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("procession-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
