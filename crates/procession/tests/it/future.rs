//! Everything that blocks, awaited: with tokio, and without any runtime.
use crate::forked::{Forked, SOON, forever, fork, until};
use procession::{
    Barrier, BarrierError, BoundedSemaphore, Condition, Event, GetError, JoinFailure,
    JoinableQueue, Lock, Pipe, Plain, Process, Queue, RawValue, RecvError, Semaphore, SendError,
    SimpleQueue, WaitError,
};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// Wakes a thread: the smallest runtime there is.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn tokio_block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(future)
}

/// Notes that it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Flag {
    fn is_up(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Polls once; the flag says when it is worth polling again.
fn poll_once<F: Future>(future: Pin<&mut F>) -> (Poll<F::Output>, Arc<Flag>) {
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    (future.poll(&mut Context::from_waker(&waker)), flag)
}

fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// A moment of random length, sometimes none.
async fn a_moment(state: &mut u64) {
    match random(state) % 4 {
        0 => {}
        1 => tokio::task::yield_now().await,
        _ => tokio::time::sleep(Duration::from_micros(random(state) % 2_000)).await,
    }
}

fn producers(queue: &Queue<u64, Plain>, count: u64, each: u64) -> Vec<Forked> {
    let produce = |first: u64| {
        fork(|| {
            (0..each).for_each(|i| queue.put(first + i).expect("put"));
            true
        })
    };
    (0..count).map(|n| produce(n * each)).collect()
}

fn joined(children: Vec<Forked>) {
    for child in children {
        assert_eq!(child.join(), 0);
    }
}

/// A child that holds what it was forked with until it is killed. Returns once it is up: killed before, it would leave its place reserved.
fn holder() -> Forked {
    let up = Event::new().expect("event");
    let child = fork(|| {
        up.set();
        forever()
    });
    up.wait();
    child
}

#[test]
fn futures_are_send() {
    fn is_send<T: Send>(_: &T) {}
    let queue = JoinableQueue::<String>::unbounded().expect("queue");
    let (left, _right) = Pipe::duplex::<u32, String>().expect("pipe");
    let (lock, semaphore) = (
        Lock::new().expect("lock"),
        Semaphore::new(1).expect("semaphore"),
    );
    let condition = Condition::with_lock(&lock).expect("condition");
    is_send(&queue.get_async());
    is_send(&queue.put_async(String::new()));
    is_send(&queue.join_async());
    is_send(&queue.stream());
    is_send(&left.recv_async());
    is_send(&left.send_async(1));
    is_send(&lock.acquire_async());
    is_send(&semaphore.acquire_async());
    is_send(&Event::new().expect("event").wait_async());
    is_send(&Barrier::new(1).expect("barrier").wait_async());
    is_send(&condition.wait_async(lock.acquire()));
}

#[test]
fn no_runtime_is_needed() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    for round in 0..200 {
        let taker = queue.clone();
        let thread = std::thread::spawn(move || block_on(taker.get_async()));
        queue.put(round).expect("put");
        assert_eq!(thread.join().expect("thread"), Ok(round));
    }
    let children = producers(&queue, 2, 1_000);
    let got: u64 = (0..2_000)
        .map(|_| block_on(queue.get_async()).expect("get"))
        .sum();
    assert_eq!(got, (0..2_000).sum());
    joined(children);
}

#[test]
fn tasks_share_the_items_of_many_processes() {
    const EACH: u64 = 5_000;
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let children = producers(&queue, 3, EACH);
    let mut got = tokio_block_on(async {
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut mine = Vec::new();
                    loop {
                        match queue.get_async().await {
                            Ok(u64::MAX) => return mine,
                            item => mine.push(item.expect("get")),
                        }
                    }
                })
            })
            .collect();
        // Not in the way of the runtime's thread: the children end while it works.
        let ender = queue.clone();
        let end = tokio::task::spawn_blocking(move || {
            joined(children);
            (0..10).for_each(|_| ender.put(u64::MAX).expect("put"));
        });
        let mut got = Vec::new();
        for task in tasks {
            got.extend(task.await.expect("task"));
        }
        end.await.expect("end");
        got
    });
    got.sort_unstable();
    assert!(got.into_iter().eq(0..3 * EACH));
}

#[test]
fn cancelled_gets_lose_no_item() {
    const EACH: u64 = 1_500;
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let produce = |first: u64| {
        fork(|| {
            for i in 0..EACH {
                queue.put(first + i).expect("put");
                if i % 7 == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            true
        })
    };
    let children: Vec<_> = (0..2).map(|n| produce(n * EACH)).collect();
    let taken = Arc::new(AtomicU64::new(0));
    let mut got = tokio_block_on(async {
        let tasks: Vec<_> = (0..20)
            .map(|seed| {
                let (queue, taken) = (queue.clone(), Arc::clone(&taken));
                tokio::spawn(async move {
                    let (mut state, mut mine) = (seed, Vec::new());
                    while taken.load(Ordering::SeqCst) < 2 * EACH {
                        tokio::select! {
                            item = queue.get_async() => {
                                mine.push(item.expect("get"));
                                taken.fetch_add(1, Ordering::SeqCst);
                            }
                            () = a_moment(&mut state) => {}
                        }
                    }
                    mine
                })
            })
            .collect();
        let mut got = Vec::new();
        for task in tasks {
            got.extend(task.await.expect("task"));
        }
        got
    });
    joined(children);
    got.sort_unstable();
    assert!(got.into_iter().eq(0..2 * EACH));
}

#[test]
fn cancelled_puts_put_nothing_and_wedge_nobody() {
    const COUNT: usize = 3_000;
    let queue = Queue::<u64, Plain>::new(2).expect("queue");
    let child = fork(|| (0..COUNT).all(|_| queue.get().is_ok()));
    let put = Arc::new(AtomicU64::new(0));
    tokio_block_on(async {
        let tasks: Vec<_> = (0..10)
            .map(|seed| {
                let (queue, put) = (queue.clone(), Arc::clone(&put));
                tokio::spawn(async move {
                    let mut state = seed;
                    while put.load(Ordering::SeqCst) < COUNT as u64 {
                        tokio::select! {
                            done = queue.put_async(7) => {
                                done.expect("put");
                                put.fetch_add(1, Ordering::SeqCst);
                            }
                            () = a_moment(&mut state) => {}
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("task");
        }
    });
    assert_eq!(child.join(), 0);
    // Some tasks put one more than was asked for: exactly those are left.
    assert_eq!(
        queue.len() as u64,
        put.load(Ordering::SeqCst) - COUNT as u64
    );
}

#[test]
fn cancelled_acquisitions_lose_no_permit() {
    let semaphore = BoundedSemaphore::new(3).expect("semaphore");
    let children: Vec<_> = (0..2)
        .map(|_| {
            fork(|| {
                (0..1_000).for_each(|_| drop(semaphore.acquire()));
                true
            })
        })
        .collect();
    tokio_block_on(async {
        let tasks: Vec<_> = (0..20)
            .map(|seed| {
                let semaphore = semaphore.clone();
                tokio::spawn(async move {
                    let mut state = seed;
                    let mut had = 0;
                    while had < 50 {
                        let mut until = seed + had;
                        tokio::select! {
                            _permit = semaphore.acquire_async() => {
                                had += 1;
                                a_moment(&mut state).await;
                            }
                            () = a_moment(&mut until) => tokio::task::yield_now().await,
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("task");
        }
    });
    joined(children);
    assert_eq!(semaphore.value(), 3);
}

#[test]
fn a_lock_excludes_tasks_and_processes() {
    let (lock, count) = (
        Lock::new().expect("lock"),
        RawValue::new(0u64).expect("value"),
    );
    let add = || count.set(count.get() + 1);
    let child = fork(|| {
        for _ in 0..2_000 {
            let _guard = lock.acquire();
            add();
        }
        true
    });
    let done = tokio_block_on(async {
        let tasks: Vec<_> = (0..10)
            .map(|seed| {
                let (lock, count) = (lock.clone(), count.clone());
                tokio::spawn(async move {
                    let (mut state, mut done) = (seed, 0);
                    while done < 100 {
                        tokio::select! {
                            _guard = lock.acquire_async() => {
                                let before = count.get();
                                tokio::task::yield_now().await;
                                count.set(before + 1);
                                done += 1;
                            }
                            () = a_moment(&mut state) => tokio::task::yield_now().await,
                        }
                    }
                    done
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += task.await.expect("task");
        }
        done
    });
    assert_eq!(child.join(), 0);
    assert_eq!(count.get(), 2_000 + done);
    assert!(!lock.is_locked());
}

#[test]
fn the_lock_of_a_killed_owner_is_recovered() {
    let lock = Lock::new().expect("lock");
    let child = fork(|| {
        lock.acquire().into_held();
        forever()
    });
    until("acquire", || lock.is_locked());
    let recovered = tokio_block_on(async {
        let waiters = (0..5).map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire_async().await.recovered() })
        });
        let waiters: Vec<_> = waiters.collect();
        tokio::task::yield_now().await;
        child.kill();
        let mut recovered = 0;
        for waiter in waiters {
            recovered += i32::from(waiter.await.expect("task"));
        }
        recovered
    });
    assert_eq!(recovered, 1, "the first one is told");
}

#[test]
fn a_killed_peer_ends_the_waits_at_a_pipe() {
    let (receiver, sender) = Pipe::one_way::<u32>().expect("pipe");
    let child = fork(|| {
        sender.send(7).expect("send");
        forever()
    });
    drop(sender);
    assert_eq!(block_on(receiver.recv_async()), Ok(7));
    child.kill();
    assert_eq!(block_on(receiver.recv_async()), Err(RecvError::Eof));

    let (receiver, sender) = Pipe::one_way::<Vec<u8>>().expect("pipe");
    let child = holder();
    drop(receiver);
    let broken = tokio_block_on(async {
        let kill = async {
            tokio::task::yield_now().await;
            child.kill();
        };
        let fill = async {
            loop {
                if let Err(error) = sender.send_async(vec![0; 4_000]).await {
                    return error;
                }
            }
        };
        tokio::join!(fill, kill).0
    });
    assert!(matches!(broken, SendError::Broken(_)));
}

#[test]
fn a_pending_future_does_not_hold_its_end_of_the_pipe_open() {
    let (left, right) = Pipe::duplex::<u32, u32>().expect("pipe");
    {
        let mut receiving = pin!(left.recv_async());
        assert!(poll_once(receiving.as_mut()).0.is_pending());
    }
    drop(left);
    assert_eq!(right.recv(), Err(RecvError::Eof));
}

#[test]
fn closing_ends_all_waits() {
    let queue = SimpleQueue::<u32>::new().expect("queue");
    tokio_block_on(async {
        let takers = (0..50).map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.get_async().await })
        });
        let takers: Vec<_> = takers.collect();
        tokio::task::yield_now().await;
        queue.close();
        for taker in takers {
            assert_eq!(taker.await.expect("task"), Err(GetError::Closed));
        }
    });
}

#[test]
fn hundreds_wait_at_one_time() {
    // More words than one thread sleeps on, and many futures at each.
    let queues: Vec<_> = (0..200)
        .map(|_| Queue::<u64, Plain>::unbounded().expect("queue"))
        .collect();
    tokio_block_on(async {
        let mut tasks = Vec::new();
        for queue in &queues {
            for _ in 0..3 {
                let queue = queue.clone();
                tasks.push(tokio::spawn(async move { queue.get_async().await }));
            }
        }
        tokio::task::yield_now().await;
        let child = fork(|| {
            for queue in &queues {
                (0..3).for_each(|i| queue.put(i).expect("put"));
            }
            true
        });
        let mut sum = 0;
        for task in tasks {
            sum += task.await.expect("task").expect("get");
        }
        assert_eq!(sum, 200 * (1 + 2));
        assert_eq!(child.join(), 0);
    });
}

#[test]
fn an_event_lets_all_through() {
    let (event, ready) = (Event::new().expect("event"), Event::new().expect("event"));
    let child = fork(|| {
        ready.wait();
        event.set();
        event.clear();
        true
    });
    tokio_block_on(async {
        let waiters = (0..50).map(|_| {
            let event = event.clone();
            tokio::spawn(async move { event.wait_async().await })
        });
        let waiters: Vec<_> = waiters.collect();
        tokio::task::yield_now().await;
        ready.set();
        for waiter in waiters {
            waiter.await.expect("task");
        }
    });
    assert_eq!(child.join(), 0);
    assert!(!event.is_set());
}

#[test]
fn a_joinable_queue_tells_when_all_is_done() {
    let tasks = JoinableQueue::<u32>::unbounded().expect("queue");
    let child = fork(|| (0..100).all(|_| tasks.get().is_ok() && tasks.task_done().is_ok()));
    tokio_block_on(async {
        for i in 0..100 {
            tasks.put_async(i).await.expect("put");
        }
        tokio::join!(tasks.join_async(), tasks.join_async());
    });
    assert_eq!(tasks.unfinished(), 0);
    assert_eq!(child.join(), 0);
}

/// Runs a test in a process of its own: whatever other tests fork here has a copy of our barriers, and breaks them when it ends.
fn apart(body: fn(())) {
    Process::start(body, ())
        .expect("start")
        .join()
        .expect("body");
}

#[test]
fn tasks_and_processes_meet_at_a_barrier() {
    apart(|()| meet_at_a_barrier());
}

fn meet_at_a_barrier() {
    const ROUNDS: usize = 50;
    let barrier = Barrier::new(4).expect("barrier");
    let child = fork(|| (0..ROUNDS).all(|_| barrier.wait().is_ok()));
    let leaders = tokio_block_on(async {
        let party = || async {
            let mut led = 0;
            for _ in 0..ROUNDS {
                led += usize::from(barrier.wait_async().await.expect("pass").is_leader());
            }
            led
        };
        let (a, b, c) = tokio::join!(party(), party(), party());
        a + b + c
    });
    assert!(leaders <= ROUNDS);
    assert_eq!(child.join(), 0);
}

#[test]
fn a_party_that_leaves_or_dies_breaks_the_barrier() {
    apart(|()| leave_a_barrier());
}

fn leave_a_barrier() {
    let barrier = Barrier::new(2).expect("barrier");
    {
        let mut waiting = pin!(barrier.wait_async());
        assert!(poll_once(waiting.as_mut()).0.is_pending());
        assert_eq!(barrier.n_waiting(), 1);
    }
    assert!(barrier.is_broken());
    barrier.reset();
    let child = holder();
    let broken = tokio_block_on(async {
        let kill = async {
            tokio::task::yield_now().await;
            child.kill();
        };
        tokio::join!(barrier.wait_async(), kill).0
    });
    assert_eq!(broken, Err(BarrierError::Broken));
}

#[test]
fn notifications_are_exact_and_go_on_when_their_waiter_leaves() {
    let lock = Lock::new().expect("lock");
    let condition = Condition::with_lock(&lock).expect("condition");
    let mut first = Box::pin(condition.wait_async(lock.acquire()));
    assert!(poll_once(first.as_mut()).0.is_pending());
    assert!(!lock.is_locked());
    let mut second = Box::pin(condition.wait_async(lock.acquire()));
    assert!(poll_once(second.as_mut()).0.is_pending());
    assert_eq!(condition.n_waiting(), 2);
    assert_eq!(fork(|| condition.notify_one() == 1).join(), 0);
    drop(first);
    drop(block_on(second).expect("notified"));
    assert_eq!(condition.n_waiting(), 0);
    // Told, and waiting for the lock again: the notification still goes on.
    let mut first = Box::pin(condition.wait_async(lock.acquire()));
    assert!(poll_once(first.as_mut()).0.is_pending());
    let held = lock.acquire();
    condition.notify_one();
    assert!(poll_once(first.as_mut()).0.is_pending());
    let third = {
        let (condition, lock) = (condition.clone(), lock.clone());
        drop(held);
        std::thread::spawn(move || {
            let mut guard = lock.acquire();
            condition.wait(&mut guard)
        })
    };
    until("wait", || condition.n_waiting() == 1);
    drop(first);
    assert_eq!(third.join().expect("thread"), Ok(()));
    assert_eq!(
        block_on(condition.wait_async(Lock::new().expect("lock").acquire())).err(),
        Some(WaitError::WrongLock)
    );
}

#[test]
fn a_told_future_that_is_dropped_hands_on() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    for round in 0..50 {
        let mut first = Box::pin(queue.get_async());
        let (polled, told) = poll_once(first.as_mut());
        assert!(polled.is_pending());
        let mut second = Box::pin(queue.get_async());
        let (polled, next) = poll_once(second.as_mut());
        assert!(polled.is_pending());
        assert_eq!(fork(|| queue.put(round).is_ok()).join(), 0);
        until("wake", || told.is_up());
        drop(first);
        until("wake", || next.is_up());
        assert_eq!(block_on(second), Ok(round));
    }
}

#[test]
fn a_told_future_that_is_not_polled_wedges_nobody() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let mut first = pin!(queue.get_async());
    let (polled, told) = poll_once(first.as_mut());
    assert!(polled.is_pending());
    let mut second = pin!(queue.get_async());
    let (polled, next) = poll_once(second.as_mut());
    assert!(polled.is_pending());
    queue.put(1).expect("put");
    until("wake", || told.is_up());
    until("wake", || next.is_up());
    assert_eq!(poll_once(second.as_mut()).0, Poll::Ready(Ok(1)));
    assert!(poll_once(first.as_mut()).0.is_pending());
}

#[test]
fn a_wake_that_nobody_here_wants_goes_to_another_process() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let child = fork(|| (0..100).all(|i| queue.get() == Ok(i)));
    for round in 0..100 {
        let mut waiting = Box::pin(queue.get_async());
        let (polled, told) = poll_once(waiting.as_mut());
        assert!(polled.is_pending());
        queue.put(round).expect("put");
        until("wake", || told.is_up() || queue.is_empty());
        drop(waiting);
        until("take", || queue.is_empty());
    }
    assert_eq!(child.join(), 0);
}

#[test]
fn a_forked_child_waits_by_itself() {
    let (queue, answers) = (
        Queue::<u64, Plain>::unbounded().expect("queue"),
        Queue::<u64, Plain>::unbounded().expect("queue"),
    );
    let mut waiting = Box::pin(queue.get_async());
    assert!(poll_once(waiting.as_mut()).0.is_pending());
    let mut waiting = Some(waiting);
    let child = fork(|| {
        // The copy of the future begins to wait anew.
        let item = block_on(waiting.take().expect("future")).expect("get");
        answers.put(item).is_ok() && block_on(queue.get_async()) == Ok(2)
    });
    queue.put(1).expect("put");
    queue.put(2).expect("put");
    assert_eq!(block_on(answers.get_async()), Ok(1));
    assert_eq!(child.join(), 0);
    queue.put(3).expect("put");
    assert_eq!(block_on(waiting.take().expect("future")), Ok(3));
}

#[test]
fn processes_are_awaited() {
    tokio_block_on(async {
        let double = |x: u64| x * 2;
        let mut processes = Vec::new();
        for i in 0..10 {
            processes.push(Process::start(double, i).expect("start"));
        }
        for (i, process) in processes.iter().enumerate() {
            assert_eq!(process.join_async().await.expect("result"), i as u64 * 2);
        }
        let process = Process::start(|()| std::thread::sleep(SOON * 100), ()).expect("start");
        {
            let mut waiting = pin!(process.wait_async());
            assert!(poll_once(waiting.as_mut()).0.is_pending());
        }
        let kill = async {
            tokio::task::yield_now().await;
            process.kill().expect("kill");
        };
        let (error, ()) = tokio::join!(process.join_async(), kill);
        let failure = error.expect_err("killed").failure;
        assert!(matches!(failure, JoinFailure::Signaled { signal: 9, .. }));
        assert_eq!(
            process.wait_async().await,
            process.exit_status().expect("ended")
        );
    });
}

#[test]
#[ignore = "prints a figure: cargo test --release --test it -- --ignored --nocapture future_latency"]
fn future_latency() {
    const ROUNDS: u64 = 20_000;
    let echo = |left: &procession::Connection<u64, u64, Plain>| {
        while let Ok(n) = left.recv() {
            if left.send(n).is_err() {
                break;
            }
        }
        true
    };
    let time = |name: &str, round: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        (0..ROUNDS).for_each(|_| round());
        let each = start.elapsed().as_secs_f64() * 1e6 / ROUNDS as f64;
        println!("{name}: {each:.1} us");
    };
    for awaits in [false, true] {
        let (ours, theirs) = Pipe::with_codec::<u64, u64, Plain>().expect("pipe");
        let mut ours = Some(ours);
        let child = fork(|| {
            drop(ours.take());
            if !awaits {
                return echo(&theirs);
            }
            tokio_block_on(async {
                while let Ok(n) = theirs.recv_async().await {
                    if theirs.send_async(n).await.is_err() {
                        break;
                    }
                }
            });
            true
        });
        drop(theirs);
        let ours = ours.take().expect("end");
        time(&format!("child awaits: {awaits}, we block"), &mut || {
            ours.send(1).expect("send");
            ours.recv().expect("recv");
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        time(&format!("child awaits: {awaits}, we await"), &mut || {
            runtime.block_on(async {
                ours.send_async(1).await.expect("send");
                ours.recv_async().await.expect("recv");
            });
        });
        drop(ours);
        assert_eq!(child.join(), 0);
    }
}
