//! Which processors a process may run on, and how urgently.

use super::error::failed;
use rustix::process::nice;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// The processors that this process may run on, by number.
pub(crate) fn allowed() -> io::Result<Vec<usize>> {
    let set =
        sched_getaffinity(None).map_err(|error| failed("ask for the processors allowed", error))?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

/// Keeps this thread, and those it will start, on one processor.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| failed(format!("stay on processor {cpu}"), error))
}

/// Adds to the niceness of this thread, and of those it will start: the higher, the less urgent, up to 19.
pub(crate) fn be_nicer(by: i32) -> io::Result<()> {
    match nice(by) {
        Ok(_) => Ok(()),
        Err(error) => Err(failed(format!("be nicer by {by}"), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_one_processor() {
        let before = allowed().expect("allowed");
        let last = *before.last().expect("at least one");
        let after = std::thread::spawn(move || {
            pin(last).expect("pin");
            allowed().expect("allowed")
        });
        assert_eq!(after.join().expect("thread"), [last]);
        assert_eq!(allowed().expect("allowed"), before);
    }
}
