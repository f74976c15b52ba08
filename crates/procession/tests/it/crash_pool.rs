//! Storms of random kills against pools, and pools whose own process is killed. For `make crash`: they count bytes, descriptors and threads of the whole
//! process, so nothing else may run beside them.

use crate::forked::until;
use procession::{
    ActiveChild, Pool, Process, StartMethod, TaskOptions, active_children, as_completed, heap_stats,
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Whether this test is the only one that runs.
fn alone() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let joined = arguments.join(" ");
    let alone = joined.contains("--test-threads=1") || joined.contains("--test-threads 1");
    if !alone {
        println!("crash: skipped, needs --test-threads=1 (make crash)");
    }
    alone
}

/// Ends a test that hangs, which is what it looks for.
fn watch(over: &AtomicBool) {
    let begun = Instant::now();
    while !over.load(Ordering::SeqCst) {
        if begun.elapsed() > Duration::from_secs(300) {
            eprintln!("crash: it hangs");
            std::process::abort();
        }
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

/// Says that it is over, also to those who wait while a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Numbers as good as random, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

fn workers() -> Vec<ActiveChild> {
    let children = active_children().into_iter();
    children
        .filter(|child| child.name().starts_with("storm"))
        .collect()
}

fn send(child: &ActiveChild, signal: Signal) {
    if let Some(pid) = Pid::from_raw(child.pid() as i32) {
        // It may have ended by itself: our own child, so the pid is nobody else's until it was waited for.
        let _ = kill_process(pid, signal);
    }
}

/// Kills random workers, and stops some for a while.
struct Storm {
    dice: Dice,
    stops: usize,
    /// Each lets one that was stopped go on. Threads that need nothing of the engine: the stopped one may hold a lock of the heap, which
    /// holds everybody up until it goes on (ARCHITECTURE.md, "Known gaps").
    rousers: Vec<JoinHandle<()>>,
}

impl Storm {
    fn new(seed: u64, stops: usize) -> Self {
        Self {
            dice: Dice(seed),
            stops,
            rousers: Vec::new(),
        }
    }

    /// One kill, at a random moment, of somebody who is there. `false`: there is nobody.
    fn strike(&mut self) -> bool {
        let pause = Duration::from_micros(self.dice.roll(1500) as u64);
        std::thread::sleep(pause);
        let workers = workers();
        if workers.is_empty() {
            return false;
        }
        if self.stops > 0 && self.dice.roll(5) == 0 {
            let child = workers[self.dice.roll(workers.len())].clone();
            send(&child, Signal::STOP);
            self.rousers.push(std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(3));
                send(&child, Signal::CONT);
            }));
            self.stops -= 1;
        }
        let victim = &workers[self.dice.roll(workers.len())];
        victim.kill().is_ok()
    }

    fn end(&mut self) {
        for rouser in self.rousers.drain(..) {
            rouser.join().expect("rouser");
        }
    }
}

/// Kills so far, and how far the work is: neither runs away from the other.
pub(crate) struct Pace {
    killed: AtomicUsize,
    kills: usize,
    done: AtomicUsize,
    all: usize,
}

/// Kills ahead of the work.
const AHEAD: usize = 20;

impl Pace {
    /// The work is so far: waits until there were as many kills as fit.
    pub(crate) fn keep(&self, done: usize) {
        self.done.store(done, Ordering::SeqCst);
        while self.killed.load(Ordering::SeqCst) * self.all < self.kills * done {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn may_kill(&self) -> bool {
        let (killed, done) = (
            self.killed.load(Ordering::SeqCst),
            self.done.load(Ordering::SeqCst),
        );
        killed < self.kills && killed * self.all <= self.kills * done + AHEAD * self.all
    }
}

/// Runs `work`, which has so many steps, during so many kills.
pub(crate) fn under_fire<R>(
    seed: u64,
    (kills, stops): (usize, usize),
    all: usize,
    work: impl FnOnce(&Pace) -> R,
) -> R {
    let pace = Pace {
        killed: AtomicUsize::new(0),
        kills,
        done: AtomicUsize::new(0),
        all,
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut storm = Storm::new(seed, stops);
            while !over.load(Ordering::SeqCst) {
                if !pace.may_kill() {
                    storm.end();
                    std::thread::sleep(Duration::from_micros(200));
                } else if storm.strike() {
                    pace.killed.fetch_add(1, Ordering::SeqCst);
                }
            }
            storm.end();
        });
        let _over = Over(&over);
        work(&pace)
    })
}

#[derive(Debug, PartialEq)]
struct Belongings {
    bytes: u64,
    objects: u64,
    blocks: u64,
    descriptors: usize,
    threads: usize,
}

fn entries(of: &str) -> usize {
    std::fs::read_dir(of).expect("proc").count()
}

fn belongings() -> Belongings {
    let stats = heap_stats();
    Belongings {
        bytes: stats.live_bytes,
        objects: stats.objects,
        blocks: stats.blocks,
        descriptors: entries("/proc/self/fd"),
        threads: entries("/proc/self/task"),
    }
}

fn has_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, look).is_ok()
}

/// Runs a storm; afterwards everything is as it was before.
pub(crate) fn leaves_nothing(storm: impl Fn(bool)) {
    if !alone() {
        return;
    }
    let over = AtomicBool::new(false);
    let (before, begun) = std::thread::scope(|scope| {
        let watchdog = scope.spawn(|| watch(&over));
        let till = Over(&over);
        let threads = entries("/proc/self/task");
        // Once in small, for whatever is made once.
        storm(false);
        until("end of the rehearsal", || {
            !has_children() && entries("/proc/self/task") == threads
        });
        let (before, begun) = (belongings(), Instant::now());
        storm(true);
        drop(till);
        watchdog.thread().unpark();
        let threads = before.threads - 1;
        (Belongings { threads, ..before }, begun)
    });
    println!("crash: it took {:.1?}", begun.elapsed());
    let as_before = || belongings() == before && !has_children();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !as_before() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(belongings(), before);
    assert!(!has_children(), "children, or zombies, are left");
}

fn retrying() -> TaskOptions {
    TaskOptions::new().retries(100_000)
}

/// About 50 us of work.
fn work(number: u64) -> u64 {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_micros(50) {
        std::hint::spin_loop();
    }
    number * 3
}

fn pool(workers: usize) -> Pool {
    let builder = Pool::builder().workers(workers).name("storm");
    builder.build().expect("pool")
}

#[test]
fn crash_storm_map() {
    leaves_nothing(|for_real| {
        let (tasks, kills, stops) = if for_real {
            (100_000, 2000, 200)
        } else {
            (100, 3, 0)
        };
        let pool = pool(4);
        let done = under_fire(2027, (kills, stops), tasks, |pace| {
            let results = pool.imap(work, 0..tasks as u64).options(retrying());
            let mut done = 0;
            for result in results {
                assert_eq!(result.expect("a result"), 3 * done as u64);
                done += 1;
                pace.keep(done);
            }
            done
        });
        assert_eq!(done, tasks, "none is missing");
    });
}

#[test]
fn crash_storm_futures() {
    leaves_nothing(|for_real| {
        let (tasks, kills) = if for_real { (5000, 300) } else { (50, 2) };
        let pool = pool(4);
        let mut numbers = under_fire(31, (kills, kills / 10), tasks, |pace| {
            let futures = (0..tasks as u64)
                .map(|number| pool.apply_with(retrying(), work, number).expect("submit"));
            let mut numbers = Vec::new();
            for future in as_completed(futures.collect::<Vec<_>>()) {
                numbers.push(future.result().expect("a result"));
                pace.keep(numbers.len());
            }
            numbers
        });
        numbers.sort_unstable();
        assert!(
            numbers
                .into_iter()
                .eq((0..tasks as u64).map(|number| 3 * number))
        );
    });
}

#[test]
fn crash_storm_large() {
    leaves_nothing(|for_real| {
        let (tasks, kills) = if for_real { (2000, 200) } else { (20, 2) };
        let pool = pool(4);
        under_fire(32, (kills, kills / 10), tasks, |pace| {
            let input = (0..tasks).map(|number| vec![number as u8; 100 * 1024]);
            let flip = |bytes: Vec<u8>| bytes.into_iter().map(|byte| !byte).collect::<Vec<u8>>();
            let results = pool.imap(flip, input).options(retrying());
            let mut done = 0;
            for result in results {
                let bytes = result.expect("a result");
                assert_eq!(bytes.len(), 100 * 1024);
                assert!(bytes.iter().all(|byte| *byte == !(done as u8)));
                done += 1;
                pace.keep(done);
            }
            assert_eq!(done, tasks, "none is missing");
        });
    });
}

fn take_a_while(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// Workers are killed as soon as they are there: mostly before they are ready.
#[test]
fn crash_storm_starting() {
    leaves_nothing(|for_real| {
        let (tasks, kills) = if for_real { (2000, 200) } else { (20, 2) };
        let builder = Pool::builder().workers(4).name("storm");
        let pool = builder.initializer(take_a_while, 2).build().expect("pool");
        under_fire(33, (kills, 0), tasks, |pace| {
            let results = pool.imap(work, 0..tasks as u64).options(retrying());
            let mut done = 0;
            for result in results {
                assert_eq!(result.expect("a result"), 3 * done as u64);
                done += 1;
                pace.keep(done);
            }
            assert_eq!(done, tasks, "none is missing");
        });
    });
}

/// Killed while the pool closes: what was submitted is done all the same, and `join` comes back.
#[test]
fn crash_storm_closing() {
    leaves_nothing(|for_real| {
        let rounds = if for_real { 60 } else { 2 };
        under_fire(34, (10 * rounds, 0), rounds, |pace| {
            for round in 0..rounds {
                pace.done.store(round, Ordering::SeqCst);
                let pool = pool(2);
                let futures: Vec<_> = (0..100)
                    .map(|number| pool.apply_with(retrying(), work, number).expect("submit"))
                    .collect();
                pool.close();
                pool.join();
                for (number, future) in futures.iter().enumerate() {
                    assert!(future.is_done());
                    assert_eq!(future.result(), Ok(3 * number as u64));
                }
            }
        });
    });
}

fn mebibyte(number: u64) -> Vec<u8> {
    vec![number as u8; 1 << 20]
}

/// A consumer that is slower than the workers: results wait for it, but no more than `Map::look_ahead` says (64 MiB, or two for each worker).
#[test]
fn crash_slow_consumer() {
    if !alone() {
        return;
    }
    let read = AtomicUsize::new(0);
    let pool = pool(2);
    let before = heap_stats().live_bytes;
    let input = (0..).inspect(|_| {
        read.fetch_add(1, Ordering::SeqCst);
    });
    let (mut most, mut ahead) = (0, 0);
    for (number, result) in pool.imap(mebibyte, input).take(150).enumerate() {
        assert_eq!(result.expect("a result")[0], number as u8);
        // Time for the workers to run ahead as far as they may.
        std::thread::sleep(Duration::from_millis(10));
        most = most.max(heap_stats().live_bytes.saturating_sub(before));
        ahead = ahead.max(read.load(Ordering::SeqCst) - number);
    }
    println!("crash: at most {} MiB, {ahead} items ahead", most >> 20);
    // A block takes whole units of 64 KiB.
    let block = (1 << 20) + (64 << 10);
    assert!(most <= (64 + 4 + 1) * block, "{most} bytes");
    assert!(most > 4 * block, "nobody ran ahead: the test tests nothing");
    assert!(ahead <= 64 + 4, "{ahead} items ahead");
}

// The pool's own process is killed.

/// In the environment of a parent and, inherited, of all its descendants.
const MARKER: &str = "PROCESSION_CRASH_PARENT";
const PARENTS: usize = 200;
/// So many at the same time.
const TOGETHER: usize = 4;

fn sleep_long(_: ()) {
    std::thread::sleep(Duration::from_secs(1000));
}

/// A task with children of its own.
fn nested(number: u64) -> u64 {
    // As its parent, a worker, it ends with whoever started it.
    let sleeper = Process::builder(sleep_long as fn(()), ());
    let sleeper = sleeper.start().expect("process");
    let pool = Pool::new(1).expect("pool");
    let sum = pool.map(work, 0..number).expect("map").len() as u64;
    drop(sleeper.kill());
    sum
}

/// Makes pools and maps until it is killed.
fn parent(method: u8) {
    let method = [StartMethod::Spawn, StartMethod::Forkserver][usize::from(method)];
    loop {
        let builder = Pool::builder().workers(2).start_method(method);
        let pool = builder.build().expect("pool");
        let futures: Vec<_> = (0..2)
            .map(|number| pool.apply_async(nested, number + 3).expect("submit"))
            .collect();
        let results = pool.map(work, 0..500).expect("map");
        assert_eq!(results.len(), 500);
        let large = pool.map(|bytes: Vec<u8>| bytes, vec![vec![1u8; 100_000]; 20]);
        assert_eq!(large.expect("map").len(), 20);
        assert_eq!(futures[1].result(), Ok(4));
    }
}

/// Processes that have this in their environment.
fn marked(marker: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ
            .split(|byte| *byte == 0)
            .any(|variable| variable == marker.as_bytes())
        {
            let status = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            found.push((pid, status));
        }
    }
    found
}

fn names(of: &std::path::Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    names
}

#[test]
fn crash_parents() {
    if !alone() {
        return;
    }
    let scratch = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("crash_parents");
    std::fs::create_dir_all(&scratch).expect("folder");
    let shm = std::path::Path::new("/dev/shm");
    let before = names(shm);
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for lane in 0..TOGETHER {
            let (next, scratch) = (&next, &scratch);
            scope.spawn(move || {
                let mut dice = Dice(77 + lane as u64);
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= PARENTS {
                        return;
                    }
                    kill_one_parent(number, dice.roll(400) as u64, scratch);
                }
            });
        }
    });
    assert_eq!(names(&scratch), Vec::<std::ffi::OsString>::new());
    let left: Vec<_> = names(shm)
        .into_iter()
        // Benches that somebody else runs have such files.
        .filter(|name| !name.to_string_lossy().contains("bench"))
        .filter(|name| !before.contains(name))
        .collect();
    assert!(left.is_empty(), "left in /dev/shm: {left:?}");
    assert!(!has_children());
    println!("crash: {PARENTS} parents killed in {:.1?}", begun.elapsed());
}

fn kill_one_parent(number: usize, millis: u64, scratch: &std::path::Path) {
    let process = Process::builder(parent as fn(u8), (number % 2) as u8)
        .env(MARKER, number.to_string())
        .env("TMPDIR", scratch)
        .start()
        .expect("parent");
    std::thread::sleep(Duration::from_millis(millis));
    process.kill().expect("kill");
    let killed = Instant::now();
    let marker = format!("{MARKER}={number}");
    let status = process.join().expect_err("killed").to_string();
    assert!(status.contains("SIGKILL"), "the parent failed: {status}");
    loop {
        let left = marked(&marker);
        if left.is_empty() {
            return;
        }
        assert!(
            killed.elapsed() < Duration::from_secs(20),
            "parent {number}, killed after {millis} ms, left {left:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
