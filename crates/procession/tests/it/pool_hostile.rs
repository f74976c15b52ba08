//! Tasks and workers that misbehave: their own task has a precise error, in bounded time, and nobody else notices.

use crate::forked::until;
use procession::{Executor, Future, Pool, TaskError, TaskOptions, active_children};
use rustix::process::{Pid, Signal, getpid, kill_process};
use std::collections::BTreeSet;
use std::time::Duration;

fn square(x: u64) -> u64 {
    x * x
}

fn sleep_long(_: ()) {
    std::thread::sleep(Duration::from_secs(1000));
}

/// Pids of the workers of the pool of this name.
fn pids(pool: &str) -> BTreeSet<u32> {
    let children = active_children().into_iter();
    children
        .filter(|child| child.name().starts_with(&format!("{pool}-")) && child.is_alive())
        .map(|child| child.pid())
        .collect()
}

fn executor(name: &str, workers: usize) -> Executor {
    let builder = Pool::builder().workers(workers).name(name);
    builder.build_executor().expect("executor")
}

fn is_running<R>(future: &Future<R>) -> bool {
    future.is_running()
}

/// All of these come back meanwhile, right.
fn others_go_on(pool: &Executor) {
    let results: Result<Vec<u64>, _> = pool.map(square, 0..300).collect();
    assert!(
        results
            .expect("the others' results")
            .into_iter()
            .eq((0..300).map(square))
    );
}

/// One worker of `before` was replaced, and only one.
fn one_was_replaced(name: &str, before: &BTreeSet<u32>) {
    until("replacement of the worker", || {
        let now = pids(name);
        now.len() == before.len() && now.intersection(before).count() == before.len() - 1
    });
}

/// Waits until all workers have run something.
fn all_up(pool: &Executor, workers: usize) {
    let naps: Vec<_> = (0..workers)
        .map(|_| {
            let nap = |()| std::thread::sleep(Duration::from_millis(20));
            pool.submit(nap, ()).expect("submit")
        })
        .collect();
    naps.into_iter()
        .for_each(|nap| nap.result().expect("a nap"));
}

#[test]
fn a_time_limit_replaces_one_worker() {
    let name = "late";
    let pool = executor(name, 3);
    all_up(&pool, 3);
    let before = pids(name);
    let limit = Duration::from_millis(300);
    let options = TaskOptions::new().timeout(limit);
    let late = pool.submit_with(options, sleep_long, ()).expect("submit");
    until("start of the task", || is_running(&late));
    others_go_on(&pool);
    assert_eq!(late.result(), Err(TaskError::TimedOut { limit }));
    one_was_replaced(name, &before);
    others_go_on(&pool);
    one_was_replaced(name, &before);
}

#[test]
fn cancelling_replaces_one_worker() {
    let name = "cancelled";
    let pool = executor(name, 3);
    all_up(&pool, 3);
    let before = pids(name);
    let running = pool.submit(sleep_long, ()).expect("submit");
    until("start of the task", || is_running(&running));
    others_go_on(&pool);
    assert_eq!(pids(name), before, "nobody was replaced yet");
    assert!(running.cancel());
    assert_eq!(running.result(), Err(TaskError::Cancelled));
    one_was_replaced(name, &before);
    others_go_on(&pool);
    one_was_replaced(name, &before);
}

#[expect(unsafe_code, reason = "signal")]
fn ignore_sigterm(_: ()) {
    // SAFETY: sets a disposition that runs no code.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    std::thread::sleep(Duration::from_secs(1000));
}

/// How a test sees that a worker is where it should be: its task has begun, and the worker does what this says.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[test]
fn a_worker_that_ignores_sigterm_ends_all_the_same() {
    let name = "deaf";
    let pool = executor(name, 2);
    all_up(&pool, 2);
    let before = pids(name);
    let deaf = pool.submit(ignore_sigterm, ()).expect("submit");
    until("start of the task", || is_running(&deaf));
    until("the task ignores the signal", || {
        before.iter().any(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            status.is_ok_and(|status| ignores_sigterm(&status))
        })
    });
    assert!(deaf.cancel());
    assert_eq!(deaf.result(), Err(TaskError::Cancelled));
    one_was_replaced(name, &before);
    let deaf = pool.submit(ignore_sigterm, ()).expect("submit");
    until("start of the task", || is_running(&deaf));
    drop(pool);
    assert_eq!(deaf.result(), Err(TaskError::Terminated));
    assert!(pids(name).is_empty());
}

fn ignores_sigterm(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (libc::SIGTERM - 1)) != 0)
}

fn stop_myself(_: ()) {
    kill_process(getpid(), Signal::STOP).expect("stop");
}

#[test]
fn a_stopped_worker_keeps_nobody() {
    let name = "stopped";
    let pool = executor(name, 2);
    all_up(&pool, 2);
    let before = pids(name);
    let stopped = pool.submit(stop_myself, ()).expect("submit");
    until("the stop", || {
        before.iter().any(|pid| state(*pid) == Some('T'))
    });
    others_go_on(&pool);
    assert_eq!(pids(name), before, "a stopped worker is no dead one");
    assert!(stopped.cancel());
    assert_eq!(stopped.result(), Err(TaskError::Cancelled));
    one_was_replaced(name, &before);

    let limit = Duration::from_millis(200);
    let options = TaskOptions::new().timeout(limit);
    let late = pool.submit_with(options, stop_myself, ()).expect("submit");
    others_go_on(&pool);
    assert_eq!(late.result(), Err(TaskError::TimedOut { limit }));
    others_go_on(&pool);
    let stopped = pool.submit(stop_myself, ()).expect("submit");
    until("the stop", || {
        pids(name).iter().any(|pid| state(*pid) == Some('T'))
    });
    drop(pool);
    assert_eq!(stopped.result(), Err(TaskError::Terminated));
    assert!(pids(name).is_empty());
}

/// A worker that is stopped for a while, from outside, whatever it does just then.
#[test]
fn stopped_and_continued_workers_lose_nothing() {
    let name = "paused";
    let pool = executor(name, 2);
    all_up(&pool, 2);
    let before = pids(name);
    let to_all = |signal| {
        for pid in &before {
            let pid = Pid::from_raw(*pid as i32).expect("pid");
            kill_process(pid, signal).expect("signal");
        }
    };
    for _ in 0..20 {
        let futures: Vec<_> = (0..50)
            .map(|x| pool.submit(square, x).expect("submit"))
            .collect();
        to_all(Signal::STOP);
        assert!(pool.submit(square, 1000).is_ok());
        to_all(Signal::CONT);
        for (x, future) in futures.into_iter().enumerate() {
            assert_eq!(future.result(), Ok(square(x as u64)));
        }
    }
    assert_eq!(pids(name), before);
}

/// Closes everything that it can, and comes back.
#[expect(unsafe_code, reason = "closing what is not ours is the point")]
fn close_everything(x: u64) -> u64 {
    let entries = std::fs::read_dir("/proc/self/fd").expect("fds").flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for fd in names.collect::<Vec<_>>() {
        // SAFETY: not sound: whoever owns it will be surprised, which is what we test.
        unsafe { libc::close(fd) };
    }
    x
}

#[test]
fn a_task_that_closes_all_descriptors_hurts_at_most_itself() {
    let pool = executor("closing", 2);
    all_up(&pool, 2);
    for round in 0..5 {
        match pool
            .submit(close_everything, round)
            .expect("submit")
            .result()
        {
            Ok(result) => assert_eq!(result, round),
            Err(other) => panic!("{other}"),
        }
        others_go_on(&pool);
    }
    pool.shutdown();
    assert!(pids("closing").is_empty());
}

/// Both come back.
#[expect(unsafe_code, reason = "fork")]
fn fork_and_return(x: u64) -> u64 {
    // SAFETY: both sides only return.
    assert!(unsafe { libc::fork() } >= 0);
    x
}

#[test]
fn a_task_that_forks_comes_back_once() {
    let pool = executor("forking", 2);
    all_up(&pool, 2);
    let results: Vec<_> = pool.map(fork_and_return, 0..20).collect();
    for (x, result) in results.into_iter().enumerate() {
        match result {
            Ok(result) => assert_eq!(result, x as u64),
            Err(other) => panic!("{other}"),
        }
    }
    others_go_on(&pool);
    pool.shutdown();
}
