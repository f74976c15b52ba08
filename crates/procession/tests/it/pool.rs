//! Pools: every way to give tasks, over processes, threads and inline.

use procession::{
    Broken, Executor, Pool, Queue, StartMethod, SubmitError, TaskError, TaskOptions, as_completed,
};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn square(x: u64) -> u64 {
    x * x
}

fn pools() -> [Pool; 4] {
    let forkserver = Pool::builder()
        .workers(2)
        .start_method(StartMethod::Forkserver);
    [
        Pool::new(2).expect("processes"),
        forkserver.build().expect("forkserver"),
        Pool::threads(2).expect("threads"),
        Pool::new(0).expect("inline"),
    ]
}

#[test]
fn maps_keep_the_order() {
    for pool in pools() {
        let expected: Vec<u64> = (0..1000).map(square).collect();
        assert_eq!(pool.map(square, 0..1000).expect("map"), expected);
        let results: Result<Vec<_>, _> = pool.imap(square, 0..1000).chunk_size(7).collect();
        assert_eq!(results.expect("chunks"), expected);
        let results = pool.map_async(square, 0..1000).expect("submit").result();
        assert_eq!(results.expect("map_async"), expected);
        let results: Result<HashSet<_>, _> = pool.imap_unordered(square, 0..1000).collect();
        assert_eq!(
            results.expect("unordered"),
            expected.iter().copied().collect()
        );
        assert_eq!(pool.map(square, []).expect("nothing"), []);
    }
}

fn weigh(a: u32, b: String, c: Option<u8>) -> usize {
    a as usize + b.len() + usize::from(c.unwrap_or(0))
}

#[test]
fn functions_of_several_arguments_get_tuples() {
    for pool in pools() {
        let items = [(1, "ab".to_owned(), None), (2, String::new(), Some(3))];
        let weights = pool
            .starmap(weigh as fn(u32, String, Option<u8>) -> usize, items)
            .expect("starmap");
        assert_eq!(weights, [3, 5]);
    }
}

#[test]
fn single_tasks_come_back() {
    for pool in pools() {
        assert_eq!(pool.apply(square, 12), Ok(144));
        let futures: Vec<_> = (0..50)
            .map(|x| pool.apply_async(square, x).expect("submit"))
            .collect();
        let sum: u64 = as_completed(futures)
            .map(|future| future.result().expect("result"))
            .sum();
        assert_eq!(sum, (0..50).map(square).sum());
    }
}

fn fail(x: u32) -> u32 {
    assert!(x != 3, "three is too many");
    x
}

#[test]
fn a_panic_is_an_error_of_its_task_alone() {
    for pool in pools() {
        let results: Vec<_> = pool.imap(fail, 0..6).collect();
        for (x, result) in results.into_iter().enumerate() {
            match result {
                Ok(value) => assert_eq!(value as usize, x),
                Err(TaskError::Panicked {
                    message, location, ..
                }) => {
                    assert_eq!((x, message.as_str()), (3, "three is too many"));
                    assert!(location.expect("a place").contains("pool.rs"));
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(matches!(
            pool.map(fail, 0..6),
            Err(TaskError::Panicked { .. })
        ));
        assert_eq!(pool.apply(fail, 1), Ok(1), "the pool goes on");
    }
}

fn die_at_three(x: u32) -> u32 {
    if x == 3 {
        std::process::abort();
    }
    x
}

#[test]
fn a_worker_that_dies_costs_one_task() {
    let pool = Pool::new(2).expect("pool");
    for _ in 0..3 {
        let results: Vec<_> = pool.imap(die_at_three, 0..200).collect();
        assert_eq!(results.len(), 200);
        for (x, result) in results.into_iter().enumerate() {
            match result {
                Ok(value) => assert_eq!(value as usize, x),
                Err(TaskError::WorkerDied(died)) => {
                    assert_eq!(x, 3);
                    assert!(died.to_string().contains("SIGABRT"), "{died}");
                    assert!(died.pid > 0 && died.task.contains('3'), "{died:?}");
                }
                Err(other) => panic!("{x}: {other}"),
            }
        }
    }
}

fn exit_with(code: i32) {
    std::process::exit(code);
}

#[test]
fn a_worker_that_exits_says_its_code() {
    let pool = Pool::new(1).expect("pool");
    let error = pool.apply(exit_with, 7).expect_err("no result");
    assert!(error.to_string().contains("exited with code 7"), "{error}");
    assert_eq!(pool.apply(square, 3), Ok(9));
}

/// Dies the first two times.
fn third_time_lucky(tries: Queue<u32>) -> usize {
    tries.put(1).expect("put");
    if tries.len() < 3 {
        std::process::abort();
    }
    tries.len()
}

#[test]
fn retries_try_again() {
    let pool = Pool::new(2).expect("pool");
    let tries = Queue::unbounded().expect("queue");
    let options = TaskOptions::new().retries(2);
    let future = pool
        .apply_with(options, third_time_lucky, tries.clone())
        .expect("submit");
    assert_eq!(future.result(), Ok(3));
    let options = TaskOptions::new().retries(1).name("unlucky");
    let tries = Queue::unbounded().expect("queue");
    let future = pool
        .apply_with(options, third_time_lucky, tries)
        .expect("submit");
    let error = future.result().expect_err("both tries die");
    assert!(
        error.to_string().contains("task `unlucky`") && error.to_string().contains("try 2"),
        "{error}"
    );
}

fn sleep(millis: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

#[test]
fn a_task_that_runs_too_long_is_ended() {
    for pool in [Pool::new(2).expect("pool"), Pool::threads(2).expect("pool")] {
        let options = TaskOptions::new().timeout(Duration::from_millis(100));
        let late = pool
            .apply_with(options.clone(), sleep, 3000)
            .expect("submit");
        let early = pool.apply_with(options, sleep, 1).expect("submit");
        assert_eq!(early.result(), Ok(1));
        let limit = Duration::from_millis(100);
        assert_eq!(late.result(), Err(TaskError::TimedOut { limit }));
        assert_eq!(pool.map(square, 0..10).expect("map").len(), 10);
    }
}

#[test]
fn pending_and_running_tasks_can_be_cancelled() {
    let pool = Executor::new(1).expect("executor");
    let running = pool.submit(sleep, 1_000_000).expect("submit");
    let pending = pool.submit(sleep, 1_000_000).expect("submit");
    let last = pool.submit(sleep, 1).expect("submit");
    while !running.is_running() {
        std::thread::yield_now();
    }
    assert!(pending.cancel() && running.cancel());
    assert!(pending.is_cancelled() && running.is_cancelled() && !running.cancel());
    assert_eq!(last.result(), Ok(1));
    assert_eq!(running.result(), Err(TaskError::Cancelled));
}

static LEVEL: AtomicU32 = AtomicU32::new(0);

fn set_level(level: u32) {
    LEVEL.store(level, Ordering::SeqCst);
}

fn level(_: ()) -> u32 {
    LEVEL.load(Ordering::SeqCst)
}

fn panic_with(text: String) {
    panic!("{text}");
}

#[test]
fn initializers_run_first() {
    for builder in [Pool::builder(), Pool::builder().threads()] {
        let pool = builder
            .workers(2)
            .initializer(set_level, 5)
            .build()
            .expect("pool");
        assert_eq!(pool.map(level, vec![(); 20]).expect("map"), vec![5; 20]);
    }
}

#[test]
fn an_initializer_that_keeps_failing_breaks_the_pool() {
    for builder in [Pool::builder(), Pool::builder().threads()] {
        let pool = builder
            .workers(2)
            .initializer(panic_with, "no database".to_owned());
        let pool = pool.build().expect("pool");
        // Submitted before the pool knows, or refused because it does.
        let error = pool.apply(square, 1).expect_err("broken");
        let TaskError::Broken(Broken::Initializer { message, .. }) = &error else {
            panic!("{error}");
        };
        assert!(message.contains("no database"), "{message}");
        assert!(matches!(
            pool.apply_async(square, 1),
            Err(SubmitError::Broken(_))
        ));
    }
}

fn pid(_: ()) -> u32 {
    std::process::id()
}

#[test]
fn workers_are_replaced_after_so_many_tasks() {
    let pool = Pool::builder()
        .workers(2)
        .max_tasks_per_worker(5)
        .build()
        .expect("pool");
    let pids = pool.map(pid, vec![(); 40]).expect("map");
    assert_eq!(pids.len(), 40);
    let mut counts = std::collections::HashMap::new();
    for pid in pids {
        *counts.entry(pid).or_insert(0) += 1;
    }
    assert!(counts.values().all(|&count| count <= 5), "{counts:?}");
}

#[test]
fn closed_pools_finish_and_take_nothing_more() {
    for pool in pools() {
        let futures: Vec<_> = (0..20)
            .map(|x| pool.apply_async(square, x).expect("submit"))
            .collect();
        pool.close();
        assert!(matches!(
            pool.apply_async(square, 1),
            Err(SubmitError::Closed)
        ));
        pool.join();
        assert!(futures.iter().all(procession::Future::is_done));
        assert_eq!(futures[19].result(), Ok(361));
    }
}

#[test]
fn terminated_pools_say_so() {
    let pool = Pool::new(2).expect("pool");
    let futures: Vec<_> = (0..5)
        .map(|_| pool.apply_async(sleep, 1_000_000).expect("submit"))
        .collect();
    pool.terminate();
    for future in futures {
        assert_eq!(future.result(), Err(TaskError::Terminated));
    }
    assert_eq!(
        pool.apply(square, 1).expect_err("closed").to_string(),
        "task was not submitted"
    );
}

fn nested(x: u64) -> u64 {
    let pool = Pool::new(2).expect("nested pool");
    pool.map(square, 0..x).expect("map").into_iter().sum()
}

#[test]
fn pools_within_tasks_work() {
    let pool = Pool::new(2).expect("pool");
    assert_eq!(pool.map(nested, [3, 4]).expect("map"), [5, 14]);
}

#[test]
fn large_arguments_and_results_travel() {
    let pool = Pool::new(2).expect("pool");
    let items: Vec<Vec<u8>> = (0..10).map(|x| vec![x; 100_000]).collect();
    let back = pool
        .map(|bytes: Vec<u8>| bytes, items.clone())
        .expect("map");
    assert_eq!(back, items);
}

#[test]
fn endless_inputs_are_read_as_far_as_needed() {
    for pool in pools() {
        let read = AtomicU32::new(0);
        let endless = (0..).inspect(|_| {
            read.fetch_add(1, Ordering::Relaxed);
        });
        let some: Result<Vec<_>, _> = pool
            .imap(square, endless)
            .look_ahead(10)
            .take(100)
            .collect();
        assert_eq!(some.expect("results").len(), 100);
        assert!(read.load(Ordering::Relaxed) <= 110, "{read:?}");
    }
}

fn maps_from_a_forking_pool(_: ()) -> (u64, usize) {
    let builder = Pool::builder().workers(2).start_method(StartMethod::Fork);
    let pool = builder.build().expect("one thread, so it can fork");
    let sum = pool.map(square, 0..10).expect("map").into_iter().sum();
    let died = pool
        .imap(die_at_three, 0..10)
        .filter(Result::is_err)
        .count();
    (sum, died)
}

#[test]
fn forked_workers_are_replaced_too() {
    let process = procession::Process::start(maps_from_a_forking_pool, ()).expect("start");
    assert_eq!(process.join().expect("result"), (285, 1));
}

#[test]
fn a_pool_belongs_to_the_process_that_made_it() {
    let pool = Pool::new(1).expect("pool");
    let future = pool.apply_async(sleep, 200).expect("submit");
    let in_child = move || {
        let refused = matches!(pool.apply_async(square, 1), Err(SubmitError::NotOurs));
        (
            refused,
            future.result() == Err(TaskError::NotOurs),
            future.cancel(),
        )
    };
    // SAFETY: the child uses only the engine and the allocator.
    #[expect(unsafe_code, reason = "the tests have threads")]
    let child = unsafe { procession::Process::fork_with_threads(in_child) }.expect("fork");
    assert_eq!(child.join().expect("result"), (true, true, false));
}

#[test]
fn awaited_futures_need_no_waiting_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime");
    for pool in pools() {
        let sum = runtime.block_on(async {
            let mut sum = 0;
            for x in 0..20 {
                sum += pool
                    .apply_async(square, x)
                    .expect("submit")
                    .await
                    .expect("result");
            }
            sum
        });
        assert_eq!(sum, (0..20).map(square).sum());
    }
}

#[test]
fn callbacks_are_called_once_each() {
    for pool in pools() {
        let (sender, receiver) = std::sync::mpsc::channel();
        for x in 0..10 {
            let sender = sender.clone();
            let future = pool.apply_async(square, x).expect("submit");
            future.on_done(move || sender.send(x).expect("received"));
        }
        drop(sender);
        let called: HashSet<u64> = receiver.iter().collect();
        assert_eq!(called, (0..10).collect());
    }
}

#[test]
fn higher_priority_goes_first() {
    for pool in [Pool::new(1).expect("pool"), Pool::threads(1).expect("pool")] {
        let order = Queue::<i32>::unbounded().expect("queue");
        let note = |(order, priority): (Queue<i32>, i32)| order.put(priority).expect("put");
        let first = pool.apply_async(sleep, 100).expect("submit");
        while !first.is_running() {
            std::thread::yield_now();
        }
        let with = |priority| {
            let options = TaskOptions::new().priority(priority);
            pool.apply_with(options, note, (order.clone(), priority))
                .expect("submit")
        };
        let all = [with(0), with(-1), with(7), with(0), with(3)];
        all.iter().for_each(procession::Future::wait);
        let order: Vec<_> = (0..5).map(|_| order.get().expect("get")).collect();
        assert_eq!(order, [7, 3, 0, 0, -1]);
    }
}

fn count_zeros(buffer: procession::Buffer) -> (usize, procession::Buffer) {
    (buffer.iter().filter(|byte| **byte == 0).count(), buffer)
}

/// Reads the buffer, and dies the first time.
fn read_at_second_try((buffer, tries): (procession::Buffer, Queue<u32>)) -> usize {
    tries.put(1).expect("put");
    if tries.len() < 2 {
        std::process::abort();
    }
    buffer.len()
}

#[test]
fn buffers_go_there_and_back() {
    let pool = Pool::new(2).expect("pool");
    let buffers = (0..8).map(|_| procession::Buffer::zeroed(1 << 20).expect("buffer"));
    let back = pool.map(count_zeros, buffers).expect("map");
    assert!(
        back.iter()
            .all(|(zeros, buffer)| *zeros == 1 << 20 && buffer.len() == 1 << 20)
    );
    let (buffer, tries) = (
        procession::Buffer::zeroed(1000).expect("buffer"),
        Queue::unbounded().expect("queue"),
    );
    let options = TaskOptions::new().retries(1);
    let future = pool
        .apply_with(options, read_at_second_try, (buffer, tries))
        .expect("submit");
    assert_eq!(future.result(), Ok(1000));
}

/// Cannot be sent if it is 3.
#[derive(Debug, serde::Deserialize)]
struct Picky(u32);

impl serde::Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 3 {
            return Err(serde::ser::Error::custom("three cannot be sent"));
        }
        serializer.serialize_u32(self.0)
    }
}

#[test]
fn what_cannot_be_sent_is_an_error_of_its_item() {
    let pool = Pool::new(2).expect("pool");
    let results: Vec<_> = pool
        .imap(|picky: Picky| picky.0, (0..6).map(Picky))
        .collect();
    let values: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().ok())
        .collect();
    assert_eq!(values, [&0, &1, &2, &4, &5]);
    assert!(
        matches!(&results[3], Err(TaskError::NotSubmitted(error)) if error.to_string().contains("cannot be sent"))
    );
    let results: Vec<_> = pool.imap(Picky, 0..6).collect();
    assert!(
        matches!(&results[3], Err(TaskError::UnencodableResult { .. })),
        "{:?}",
        results[3]
    );
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5);
}

#[test]
fn streams_of_maps_can_be_awaited() {
    use futures_core::Stream;
    use std::{future::poll_fn, pin::Pin};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime");
    for pool in pools() {
        runtime.block_on(async {
            for map in [
                pool.imap(square, 0..500),
                pool.imap(square, 0..500).chunk_size(9),
            ] {
                let mut stream = map.stream();
                for x in 0..500 {
                    let next = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await;
                    assert_eq!(next, Some(Ok(x * x)));
                }
                let end = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await;
                assert_eq!(end, None);
            }
        });
    }
}

/// Keeps ten megabytes for ever.
fn leak(_: ()) -> u32 {
    std::mem::forget(vec![1u8; 10 << 20]);
    // The worker looks at its memory once in ten milliseconds.
    std::thread::sleep(Duration::from_millis(11));
    std::process::id()
}

#[test]
fn workers_that_grow_are_replaced() {
    let builder = Pool::builder().workers(1).max_memory_per_worker(50 << 20);
    let pids = builder
        .build()
        .expect("pool")
        .map(leak, vec![(); 20])
        .expect("map");
    let different: HashSet<_> = pids.iter().collect();
    assert!(different.len() >= 3, "{pids:?}");
}

#[test]
fn where_memory_is_short_something_still_runs() {
    let pool = Pool::builder()
        .workers(2)
        .memory_reserve(u64::MAX)
        .build()
        .expect("pool");
    assert_eq!(pool.map(square, 0..10).expect("map").len(), 10);
}

#[test]
fn pinned_workers_stay_on_one_processor() {
    let pool = Pool::builder()
        .workers(2)
        .pin_workers(true)
        .build()
        .expect("pool");
    let allowed = |()| {
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        let line = status
            .lines()
            .find(|line| line.starts_with("Cpus_allowed_list:"));
        line.expect("a line").to_owned()
    };
    for list in pool.map(allowed, vec![(); 4]).expect("map") {
        assert!(!list.contains(['-', ',']), "{list}");
    }
}

#[test]
fn absurd_pools_are_refused() {
    assert!(matches!(
        Pool::new(1_000_000),
        Err(procession::PoolError::TooManyWorkers { .. })
    ));
    let threads = Pool::builder()
        .threads()
        .workers(1)
        .max_tasks_per_worker(3)
        .build();
    assert!(matches!(
        threads,
        Err(procession::PoolError::NeedsProcesses { .. })
    ));
    assert!(Pool::builder().build().expect("default").workers() >= 1);
}

fn put_when_done(queue: Queue<u32>) {
    queue.put(std::process::id()).expect("put");
}

#[test]
fn finalizers_run_in_workers_that_end_in_order() {
    let queue = Queue::unbounded().expect("queue");
    let pool = Pool::builder()
        .workers(2)
        .finalizer(put_when_done, queue.clone())
        .build()
        .expect("pool");
    let pids: HashSet<u32> = pool
        .map(
            |()| {
                std::thread::sleep(Duration::from_millis(2));
                std::process::id()
            },
            vec![(); 50],
        )
        .expect("map")
        .into_iter()
        .collect();
    pool.join();
    let ended: HashSet<u32> = (0..2).map(|_| queue.get().expect("get")).collect();
    assert!(ended.is_superset(&pids), "{ended:?} {pids:?}");
}

#[test]
fn workers_are_nice_and_out_of_reach_of_the_terminal() {
    let pool = Pool::builder().workers(1).nice(3).build().expect("pool");
    let ours = rustix::process::getpriority_process(None).expect("priority");
    let theirs = |()| {
        let nice = rustix::process::getpriority_process(None).expect("priority");
        (nice, rustix::process::getpgrp().as_raw_pid())
    };
    let (nice, group) = pool.apply(theirs, ()).expect("apply");
    assert_eq!(nice, (ours + 3).min(19));
    assert_ne!(group, rustix::process::getpgrp().as_raw_pid());
}

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn waiters_of_a_feed_see_what_another_thread_has_left() {
    let executor = Executor::new(0).expect("inline");
    let mut feed = executor.feed(square as fn(u64) -> u64, true);
    let waiter = feed.waiter();
    assert!(waiter.wait_timeout(PATIENCE), "nothing is in flight");
    feed.push(vec![1, 2]).expect("push");
    // Both were ready, and left the arrivals together.
    assert_eq!(feed.try_next(), Some(Ok(1)));
    assert!(waiter.wait_timeout(PATIENCE), "there is another");
    assert_eq!(feed.try_next(), Some(Ok(4)));
    assert!(waiter.wait_timeout(PATIENCE), "there will be none");
}

#[test]
fn waiters_of_a_feed_go_on_when_another_thread_takes_the_last() {
    for executor in [Executor::new(2), Executor::threads(2)] {
        let executor = executor.expect("executor");
        for _ in 0..100 {
            let mut feed = executor.feed(square as fn(u64) -> u64, false);
            let waiter = feed.waiter();
            feed.push(vec![1]).expect("push");
            let waiting = std::thread::spawn(move || waiter.wait_timeout(PATIENCE));
            while feed.try_next().is_none() {
                feed.wait_timeout(PATIENCE);
            }
            assert!(waiting.join().expect("waiter"), "slept on");
        }
    }
}
