//! The reaper itself is killed; the next one finishes.

use super::super::{Fault, Shared as Table};
use super::stage::{Act, Helper, UNIT, alone, balance, in_a_process_of_its_own};
use crate::family::{Waiter, reap_dead};
use crate::heap::{Block, Shared, fill_envelope, list_len, the_heap};
use crate::sync::SharedLock;
use crate::{Buffer, Connection, Pipe, Plain, Queue, Raw};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A participant who has something of everything, and dies.
struct Estate {
    lock: Shared<SharedLock>,
    queue: Queue<u64, Plain>,
    buffers: Queue<Buffer, Raw>,
    post: Queue<Connection<u64, u64>>,
    other_end: Connection<u64, u64>,
    dead: Helper,
}

fn estate() -> Estate {
    let lock: Shared<SharedLock> = Shared::create(|_, _| ()).expect("lock");
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    let buffers = Queue::<Buffer, Raw>::unbounded().expect("queue");
    let post = Queue::<Connection<u64, u64>>::unbounded().expect("queue");
    let (end, other_end) = Pipe::duplex::<u64, u64>().expect("pipe");
    assert!(post.put(end).is_ok());
    for number in 0..2 {
        assert!(queue.try_put(number).is_ok());
        let buffer = Buffer::from_slice(&[number as u8; 100]).expect("buffer");
        assert!(buffers.try_put(buffer).is_ok());
    }
    let ready = Table::<AtomicU32>::new();
    let dead = Helper::start(&mut || {
        let mine = post.get().expect("the end");
        let first = buffers.get().expect("a buffer");
        assert!(lock.raw.acquire(&Waiter::new(), None).is_ok());
        let small = Block::alloc(100).expect("block");
        let big = Block::alloc(2 * UNIT).expect("block");
        let own = Queue::<u64, Plain>::unbounded().expect("queue");
        assert!(own.try_put(1).is_ok());
        let listed = Queue::<u64, Plain>::unbounded().expect("queue");
        let envelope = Block::alloc(list_len(1)).expect("block");
        fill_envelope(&envelope, &[listed.handle()]);
        drop(listed);
        // Dies between making a block part of a queue and saying so, and is in the middle of taking another one out.
        let halfway = Block::alloc(100).expect("block");
        let _ = halfway.attach::<()>(queue_container(&buffers), |_| {
            ready.store(1, Ordering::SeqCst);
            loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        });
        drop((mine, first, small, big, own, envelope));
    });
    while ready.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    dead.kill();
    assert!(dead.is_gone());
    Estate {
        lock,
        queue,
        buffers,
        post,
        other_end,
        dead,
    }
}

fn queue_container(queue: &Queue<Buffer, Raw>) -> crate::heap::Container {
    let handle = queue.handle();
    crate::heap::Container {
        index: handle.index(),
        generation: handle.generation(),
    }
}

fn inherited(estate: Estate) -> Result<(), Fault> {
    let Estate {
        lock,
        queue,
        buffers,
        post,
        other_end,
        dead,
    } = estate;
    reap_dead(the_heap());
    if lock.raw.try_acquire(&Waiter::new()).is_err() {
        return Err(Fault::Wedged("the dead one's lock".into()));
    }
    let _ = lock.raw.release(&Waiter::new());
    if [queue.try_get(), queue.try_get()] != [Ok(0), Ok(1)] || !queue.is_empty() {
        return Err("messages of a queue that the dead one held".into());
    }
    if !buffers.try_get().is_ok_and(|buffer| buffer[..] == [1; 100]) || !buffers.is_empty() {
        return Err("the buffer which the dead one had not taken".into());
    }
    if other_end.try_recv() != Err(crate::RecvError::Eof) || !post.is_empty() {
        return Err(Fault::Wedged(
            "the dead one's end of a pipe is not closed".into(),
        ));
    }
    drop(dead);
    Ok(())
}

/// A reap walks every table of the heap, some hundred thousand instructions of which few write: too long to kill at each. So the reaper is
/// killed at many random instants between its beginning and its end, each time over a fresh estate.
#[test]
fn crash_reaping_at_random_instants() {
    if !alone() {
        return;
    }
    in_a_process_of_its_own(&mut || {
        const MIDWAY: u32 = 300;
        let _family = Queue::<u64, Plain>::unbounded().expect("queue");
        let mut window = (0..3).map(|_| killed_reaper(None).0).max().expect("rounds");
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let (mut rounds, mut midway) = (0, 0);
        while midway < MIDWAY {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let delay = window.mul_f64((random >> 40) as f64 / (1_u64 << 24) as f64);
            if killed_reaper(Some(delay)).1 {
                midway += 1;
            } else {
                // Too late: the window was measured while the machine was busy.
                window = window.mul_f64(0.98).max(Duration::from_nanos(500));
            }
            rounds += 1;
        }
        println!(
            "crash: reaping, the reaper killed midway at {midway} random instants (of {rounds}): \
             0 wedged, 0 lost, 0 leaked"
        );
    });
}

/// Kills a reaper so long after it began (`None`: once it has finished), lets the next one finish, and checks everything. How long the reaper ran, and
/// whether it died midway.
fn killed_reaper(delay: Option<Duration>) -> (Duration, bool) {
    let before = the_heap().stats();
    let estate = estate();
    let stage = Table::<AtomicU32>::new();
    let reaper = Helper::start(&mut || {
        stage.store(1, Ordering::SeqCst);
        reap_dead(the_heap());
        stage.store(2, Ordering::SeqCst);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    while stage.load(Ordering::SeqCst) == 0 {
        std::hint::spin_loop();
    }
    let began = Instant::now();
    match delay {
        None => while stage.load(Ordering::SeqCst) == 1 {},
        Some(delay) => while began.elapsed() < delay {},
    }
    let ran = began.elapsed();
    reaper.kill();
    let midway = stage.load(Ordering::SeqCst) == 1;
    assert!(reaper.is_gone());
    inherited(estate).expect("the next reaper finishes");
    balance(&before).expect("nothing is left");
    (ran, midway)
}

/// The dead one was destroying a queue with messages.
#[test]
fn crash_nothing_to_reap() {
    Act::new(
        "reaping, nobody is dead",
        || (),
        |()| (),
        |(), ()| reap_dead(the_heap()),
    )
    .play();
}
