//! What futures leave behind: nothing. Counts threads and descriptors of the whole process, so it runs alone, and without libtest's threads.
use procession::{Event, Lock, Process, Queue};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).expect("folder").count()
}

fn threads() -> usize {
    entries("/proc/self/task")
}

fn descriptors() -> usize {
    entries("/proc/self/fd")
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn poll_once(future: impl Future) {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
}

fn main() {
    procession::init();
    let queue = Queue::<u64>::unbounded().expect("queue");
    let (lock, event) = (Lock::new().expect("lock"), Event::new().expect("event"));
    let process = Process::start(|event: Event| event.wait(), event.clone()).expect("start");
    // The first ring of a bell makes a socket that the process keeps.
    poll_once(process.join_async());
    poll_once(process.join_async());
    until("threads end", || threads() == 1);
    let before = descriptors();

    let guard = lock.acquire();
    {
        let mut gets: Vec<_> = (0..1_000).map(|_| Box::pin(queue.get_async())).collect();
        let context = &mut Context::from_waker(Waker::noop());
        for get in &mut gets {
            assert!(get.as_mut().poll(context).is_pending());
        }
        poll_once(lock.acquire_async());
        poll_once(event.wait_async());
        assert_eq!(threads(), 2, "one thread sleeps for them all");
        assert_eq!(descriptors(), before, "without a descriptor");
    }
    drop(guard);
    poll_once(process.wait_async());
    until("threads end", || threads() == 1);
    assert_eq!(descriptors(), before);

    // After that, all begins anew.
    event.set();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime");
    runtime.block_on(process.join_async()).expect("join");
    drop(runtime);
    until("threads end", || threads() == 1);
    println!("futures leave nothing behind");
}
