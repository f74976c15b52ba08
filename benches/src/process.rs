//! Process: start a process that runs a function, join it, and have the result; one after the other.
//!
//! The floors start a process that ends at once, without any function or result: a new image of this binary,
//! and a bare `fork`.

use crate::harness::helper::SUBCOMMAND;
use crate::harness::{Case, Result, Subject, Target, Unit};
use crate::ours;
use std::io::Error;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<Case> {
    let procspawn = || Subject::peer("procspawn spawn and join", spawn_procspawn);
    let command =
        || Subject::peer("Command of this binary, ends at once", spawn_command).into_floor();
    vec![
        Case {
            title: "process: spawn and join a function",
            unit: Unit::PROCESSES,
            subjects: vec![Subject::ours(ours::process_spawn), procspawn(), command()],
            target: Some(Target::Times(1.3, "procspawn")),
        },
        Case {
            title: "process: forkserver, start and join a function",
            unit: Unit::PROCESSES,
            subjects: vec![
                Subject::ours(ours::process_forkserver),
                procspawn(),
                command(),
            ],
            target: Some(Target::Times(4.0, "procspawn")),
        },
        Case {
            title: "process: fork and join a function",
            unit: Unit::PROCESSES,
            subjects: vec![
                Subject::ours(ours::process_fork),
                Subject::peer("fork, _exit and waitpid", fork).into_floor(),
            ],
            target: None,
        },
    ]
}

/// The function that is run; ours runs the same.
pub(crate) fn double(number: u64) -> u64 {
    number * 2
}

fn spawn_procspawn(operations: u64) -> Result<Duration> {
    let started = Instant::now();
    for number in 0..operations {
        if procspawn::spawn(number, double).join()? != double(number) {
            return Err("the function returned something else".into());
        }
    }
    Ok(started.elapsed())
}

fn spawn_command(operations: u64) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..operations {
        let mut command = Command::new("/proc/self/exe");
        let status = command
            .args([SUBCOMMAND, "process"])
            .stdin(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(format!("the process ended badly: {status}").into());
        }
    }
    Ok(started.elapsed())
}

fn fork(operations: u64) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..operations {
        // SAFETY: the child calls nothing but `_exit`, which is safe after a fork among threads.
        match unsafe { libc::fork() } {
            -1 => return Err(Error::last_os_error().into()),
            // SAFETY: ends the child at once, without running anything of the parent's.
            0 => unsafe { libc::_exit(0) },
            child => wait_for(child)?,
        }
    }
    Ok(started.elapsed())
}

fn wait_for(child: libc::pid_t) -> Result<()> {
    let child = rustix::process::Pid::from_raw(child).ok_or("fork returned no process id")?;
    rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())?;
    Ok(())
}
