//! Waiting for queues and connections through file descriptors.
use crate::forked::until;
use crate::ready_fork::fork;
use procession::embed::exact_readiness;
use procession::{GetError, Pipe, Plain, Queue, Readiness, RecvError, SharedAtomicU64};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

fn polled(fd: &impl AsFd, timeout: Option<Duration>) -> bool {
    let timeout = timeout.map(|timeout| Timespec::try_from(timeout).expect("timeout"));
    poll(&mut [PollFd::new(fd, PollFlags::IN)], timeout.as_ref()).expect("poll") != 0
}

fn readable(fd: &impl AsFd) -> bool {
    polled(fd, Some(Duration::ZERO))
}

fn get(queue: &Queue<u64, Plain>, readiness: &Readiness) -> Result<u64, GetError> {
    loop {
        match queue.try_get() {
            Err(GetError::Empty) if readiness.arm().expect("arm") => {}
            Err(GetError::Empty) => {
                polled(readiness, None);
            }
            other => return other,
        }
    }
}

/// Unreadable once armed, unless it just looked around by itself.
fn settles(readiness: &Readiness) -> bool {
    (0..100).any(|_| {
        assert!(!readiness.arm().expect("arm"));
        !readable(readiness)
    })
}

#[test]
fn an_item_put_before_makes_it_readable_at_once() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    queue.put(1).expect("put");
    let readiness = queue.readiness().expect("readiness");
    assert!(readable(&readiness));
    assert!(readiness.arm().expect("arm"), "still there");
    assert!(readable(&readiness), "level-triggered");
    assert_eq!(queue.get(), Ok(1));
    assert!(settles(&readiness));
}

#[test]
fn an_item_put_after_arming_makes_it_readable() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let readiness = queue.readiness().expect("readiness");
    for round in 0..100 {
        assert!(settles(&readiness));
        queue.put(round).expect("put");
        queue.put(round).expect("put");
        assert!(readable(&readiness));
        assert_eq!(queue.get(), Ok(round));
        assert!(readable(&readiness), "one more");
        assert_eq!(queue.get(), Ok(round));
    }
}

#[test]
fn closing_makes_it_readable() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let readiness = queue.readiness().expect("readiness");
    assert!(settles(&readiness));
    queue.close();
    assert!(readable(&readiness));
    assert!(readiness.arm().expect("arm"));
    assert_eq!(get(&queue, &readiness), Err(GetError::Closed));
}

#[test]
fn several_listeners_are_all_told_and_places_are_used_again() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    for _ in 0..3 {
        // More than one block of places.
        let all: Vec<_> = (0..70)
            .map(|_| queue.readiness().expect("readiness"))
            .collect();
        for readiness in &all {
            readiness.arm().expect("arm");
        }
        queue.put(1).expect("put");
        assert!(all.iter().all(readable));
        assert_eq!(queue.get(), Ok(1));
    }
}

#[test]
fn an_item_of_another_process_makes_it_readable() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let readiness = queue.readiness().expect("readiness");
    assert!(settles(&readiness));
    let child = fork(|| queue.put(7).expect("put"));
    assert_eq!(get(&queue, &readiness), Ok(7));
    assert_eq!(child.join(), 0);
}

/// With exact descriptors, which only a ring makes readable: a lost one is the end of it.
#[test]
fn no_ring_is_lost_between_two_processes() {
    const ROUNDS: u64 = 100_000;
    let there = Queue::<u64, Plain>::unbounded().expect("queue");
    let back = Queue::<u64, Plain>::unbounded().expect("queue");
    let rounds = SharedAtomicU64::new(0).expect("number");
    let answering = fork(|| {
        exact_readiness();
        let readiness = there.readiness().expect("readiness");
        for round in 0..ROUNDS {
            assert_eq!(get(&there, &readiness), Ok(round));
            back.put(round).expect("put");
        }
    });
    let asking = fork(|| {
        exact_readiness();
        let readiness = back.readiness().expect("readiness");
        for round in 0..ROUNDS {
            there.put(round).expect("put");
            assert_eq!(get(&back, &readiness), Ok(round));
            rounds.store(round + 1);
        }
    });
    let mut seen = 0;
    while seen < ROUNDS {
        until("the next round", || {
            std::thread::sleep(Duration::from_millis(1));
            rounds.load() > seen
        });
        seen = rounds.load();
    }
    assert_eq!((asking.join(), answering.join()), (0, 0));
}

#[test]
fn death_of_the_last_peer_is_end_of_file() {
    let (receiver, sender) = Pipe::one_way::<u64>().expect("pipe");
    let readiness = receiver.readiness().expect("readiness");
    let child = fork(|| {
        sender.send(1).expect("send");
        std::thread::sleep(Duration::from_secs(1000));
    });
    drop(sender);
    let recv = || loop {
        match receiver.try_recv() {
            Err(RecvError::Empty) if readiness.arm().expect("arm") => {}
            Err(RecvError::Empty) => {
                polled(&readiness, None);
            }
            other => return other,
        }
    };
    assert_eq!(recv(), Ok(1));
    child.kill();
    assert_eq!(recv(), Err(RecvError::Eof));
}

#[test]
fn the_sending_end_learns_that_nobody_reads() {
    let (receiver, sender) = Pipe::one_way::<u64>().expect("pipe");
    let readiness = sender.readiness().expect("readiness");
    assert!(settles(&readiness));
    drop(receiver);
    assert!(readiness.arm().expect("arm"));
    assert!(readable(&readiness));
}

#[test]
fn a_forked_child_gets_descriptors_of_its_own() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let answers = Queue::<u64, Plain>::unbounded().expect("queue");
    let readiness = queue.readiness().expect("readiness");
    let number = readiness.as_raw_fd();
    assert!(settles(&readiness));
    let child = fork(|| {
        readiness.arm().expect("arm");
        assert_eq!(readiness.as_raw_fd(), number);
        answers.put(0).expect("ready");
        let item = get(&queue, &readiness).expect("get");
        answers.put(item).expect("put");
    });
    assert_eq!(answers.get(), Ok(0));
    queue.put(5).expect("put");
    // Both are told; the child takes it.
    assert!(polled(&readiness, None));
    assert_eq!(answers.get(), Ok(5));
    assert_eq!(child.join(), 0);
    assert!(settles(&readiness));
    queue.put(6).expect("put");
    assert!(readable(&readiness), "the child's end took nothing from us");
}

#[test]
fn a_killed_listener_leaves_its_place_to_others() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    for _ in 0..40 {
        let ready = Queue::<u64, Plain>::unbounded().expect("queue");
        let child = fork(|| {
            let readiness = queue.readiness().expect("readiness");
            readiness.arm().expect("arm");
            ready.put(1).expect("put");
            polled(&readiness, None);
            std::thread::sleep(Duration::from_secs(1000));
        });
        assert_eq!(ready.get(), Ok(1));
        child.kill();
        child.join();
    }
    let readiness = queue.readiness().expect("readiness");
    let child = fork(|| queue.put(9).expect("put"));
    assert_eq!(get(&queue, &readiness), Ok(9));
    assert_eq!(child.join(), 0);
}

#[test]
fn edge_triggered_epoll_sees_every_arrival() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let readiness = queue.readiness().expect("readiness");
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&set, &readiness, epoll::EventData::new_u64(1), flags).expect("add");
    let sender = queue.clone();
    const COUNT: u64 = 20_000;
    let thread = std::thread::spawn(move || (0..COUNT).for_each(|i| sender.put(i).expect("put")));
    let mut next = 0;
    while next < COUNT {
        match queue.try_get() {
            Ok(item) => {
                assert_eq!(item, next);
                next += 1;
            }
            Err(GetError::Empty) if readiness.arm().expect("arm") => {}
            Err(GetError::Empty) => {
                let mut events = Vec::with_capacity(4);
                epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None)
                    .expect("epoll");
            }
            Err(error) => panic!("{error}"),
        }
    }
    thread.join().expect("thread");
}

#[test]
#[expect(unsafe_code, reason = "AsyncFd wants a promise")]
fn tokio_awaits_a_queue() {
    use tokio::io::{Interest, unix::AsyncFd};
    const COUNT: u64 = 5_000;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("runtime");
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let credit = Queue::<u64, Plain>::unbounded().expect("queue");
    let child = fork(|| {
        for i in 0..COUNT {
            queue.put(i).expect("put");
            if i % 3 == 0 {
                credit.get().expect("credit");
            }
        }
    });
    runtime.block_on(async {
        let readiness = queue.readiness().expect("readiness");
        // SAFETY: a Readiness keeps its descriptor, and the same one, for as long as it lives.
        let ready = unsafe { AsyncFd::register_with_interest(readiness, Interest::READABLE) }
            .expect("register");
        let mut next = 0;
        while next < COUNT {
            match queue.try_get() {
                Ok(item) => {
                    assert_eq!(item, next);
                    if item % 3 == 0 {
                        credit.put(0).expect("put");
                    }
                    next += 1;
                }
                Err(GetError::Empty) if ready.get_ref().arm().expect("arm") => {}
                Err(GetError::Empty) => ready.readable().await.expect("readable").clear_ready(),
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(child.join(), 0);
}

#[test]
fn items_of_killed_senders_are_never_forgotten() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let readiness = queue.readiness().expect("readiness");
    let mut random = 12345_u64;
    for _ in 0..100 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let child = fork(|| (0..u64::MAX).for_each(|i| queue.put(i).expect("put")));
        // Not killed before it is up: the place reserved for it would stay reserved.
        while queue.is_empty() {
            std::thread::yield_now();
        }
        let until = Instant::now() + Duration::from_micros((random >> 32) % 3000);
        let mut next = 0;
        while Instant::now() < until {
            match queue.try_get() {
                Ok(item) => {
                    assert_eq!(item, next);
                    next += 1;
                }
                Err(_) => {
                    readiness.arm().expect("arm");
                    polled(&readiness, Some(Duration::from_micros(100)));
                }
            }
        }
        child.kill();
        child.join();
        while !queue.is_empty() {
            assert!(
                polled(&readiness, Some(Duration::from_secs(20))),
                "readable"
            );
            assert_eq!(queue.try_get(), Ok(next));
            next += 1;
        }
    }
}
