//! What processes leave behind: nothing. Counts bytes of the whole family and descriptors of the whole process, so it runs alone, and without
//! libtest's threads.
use procession::{Buffer, JoinFailure, Process, Queue, StartMethod, active_children, heap_stats};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

const METHODS: [StartMethod; 3] = [
    StartMethod::Spawn,
    StartMethod::Fork,
    StartMethod::Forkserver,
];

fn add((a, b): (u64, u64)) -> u64 {
    a + b
}

fn start<A, R>(method: StartMethod, function: fn(A) -> R, arguments: A) -> Process<R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    Process::builder(function, arguments)
        .start_method(method)
        .start()
        .expect("start")
}

type Picture = (String, Vec<Buffer>, Option<Buffer>);

fn picture() -> Picture {
    let plane = |byte| {
        let mut plane = Buffer::new(100_000).expect("buffer");
        plane.fill(byte);
        plane
    };
    (
        "picture".to_owned(),
        vec![plane(1), plane(2)],
        Some(plane(3)),
    )
}

/// Messages with buffers in them that come to nothing.
fn no_buffer_is_left() {
    let round = || {
        let queue = Queue::<Picture>::unbounded().expect("queue");
        queue.put(picture()).expect("put");
        drop(queue.get());
        let dropped = Queue::<Picture>::unbounded().expect("queue");
        dropped.put(picture()).expect("put");
        let result = start(StartMethod::Spawn, |()| picture(), ());
        drop(result.join());
        let unread = start(StartMethod::Spawn, |()| picture(), ());
        while unread.is_alive() {
            std::thread::yield_now();
        }
    };
    round();
    let live = || {
        let stats = heap_stats();
        (stats.live_bytes, stats.objects, stats.blocks)
    };
    let before = live();
    round();
    assert_eq!(live(), before);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("fds").count()
}

fn nothing_is_left() {
    for method in METHODS {
        let round = |i: u64| {
            let queue = Queue::<u64>::unbounded().expect("queue");
            queue.put(i).expect("put");
            let process = start(
                method,
                |queue: Queue<u64>| vec![queue.get().expect("get"); 100],
                queue,
            );
            if i % 5 == 4 {
                process.kill().expect("kill");
                let _ = process.join();
            } else {
                assert_eq!(process.join().expect("result"), vec![i; 100]);
            }
        };
        (0..5).for_each(round);
        let before = (heap_stats().live_bytes, descriptors());
        (0..50).for_each(round);
        let after = (heap_stats().live_bytes, descriptors());
        assert_eq!(after, before, "{method:?}");
    }
}

fn killed_at_any_moment_nothing_is_left() {
    for method in METHODS {
        start(method, add, (1, 1)).join().expect("warm up");
        let before = heap_stats().live_bytes;
        for i in 0..40u64 {
            let text = vec![i; 200];
            let process = start(method, |text: Vec<u64>| text.repeat(3), text.clone());
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_micros(i * 100) {
                std::hint::spin_loop();
            }
            process.kill().expect("kill");
            match process.join() {
                Ok(result) => assert_eq!(result, text.repeat(3)),
                Err(error) => assert!(
                    matches!(error.failure, JoinFailure::Signaled { signal: 9, .. }),
                    "{error}"
                ),
            }
        }
        assert_eq!(heap_stats().live_bytes, before, "{method:?}");
    }
}

fn closures_can_be_forked_by_a_single_thread() {
    let captured = [1, 2, 3];
    let process = Process::fork(|| captured.iter().sum::<i32>()).expect("fork");
    assert_eq!(process.join().expect("result"), 6);
}

fn forgotten_children_are_reaped() {
    let pids: Vec<u32> = (0..20)
        .map(|i| start(METHODS[i % 3], add, (1, 1)).pid())
        .collect();
    while !active_children().is_empty() {
        std::thread::yield_now();
    }
    for pid in pids {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "a zombie is left"
        );
    }
}

/// More children than a family has places, forked by code that knows nothing of families and reaped by it, while nobody here waits for anything.
fn strangers_forks_use_up_no_places() {
    for _ in 0..procession::MAX_PARTICIPANTS + 100 {
        // SAFETY: this process has one thread, and the child ends at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: waits for the child just forked; no status is asked for.
        let reaped = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        assert_eq!(reaped, child);
    }
    for method in METHODS {
        assert_eq!(start(method, add, (1, 2)).join(), Ok(3), "{method:?}");
    }
}

fn main() {
    procession::init();
    closures_can_be_forked_by_a_single_thread();
    forgotten_children_are_reaped();
    strangers_forks_use_up_no_places();
    nothing_is_left();
    no_buffer_is_left();
    killed_at_any_moment_nothing_is_left();
    println!("ok");
}
