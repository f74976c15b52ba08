//! Queues and pipes within one process.
use crate::forked::fork;
use procession::{Buffer, GetError, JoinableQueue, Pipe, Plain, PutError, Queue, Raw, RecvError};

#[test]
fn items_come_out_in_order_across_many_segments() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    for round in 0..3 {
        for i in 0..200_000 {
            queue.put(i).expect("put");
        }
        assert_eq!(queue.len(), 200_000, "round {round}");
        for i in 0..200_000 {
            assert_eq!(queue.get().expect("get"), i);
        }
        assert_eq!(queue.try_get(), Err(GetError::Empty));
    }
}

#[test]
fn large_items_travel_as_blocks() {
    let queue = Queue::<Vec<u8>>::unbounded().expect("queue");
    for len in [0, 1, 7, 8, 100, 8_000, 9_000, 40_000, 70_000, 3_000_000] {
        queue.put(vec![len as u8; len]).expect("put");
    }
    for len in [0, 1, 7, 8, 100, 8_000, 9_000, 40_000, 70_000, 3_000_000] {
        assert_eq!(queue.get().expect("get"), vec![len as u8; len]);
    }
}

#[test]
fn bounded_queue_says_full() {
    let queue = Queue::<u32>::new(2).expect("queue");
    queue.put(1).expect("put");
    queue.put(2).expect("put");
    assert_eq!(queue.try_put(3), Err(PutError::Full(3)));
    assert_eq!(
        queue.put_timeout(3, std::time::Duration::ZERO),
        Err(PutError::TimedOut(3))
    );
    assert_eq!(queue.get(), Ok(1));
    queue.try_put(3).expect("room again");
    queue.close();
    assert_eq!(queue.try_put(4), Err(PutError::Closed(4)));
    assert_eq!(
        (queue.get(), queue.get(), queue.get()),
        (Ok(2), Ok(3), Err(GetError::Closed))
    );
}

#[test]
fn queues_and_pipe_ends_travel_through_queues() {
    let carrier = Queue::<(Queue<u32>, procession::Connection<u32>)>::unbounded().expect("queue");
    let inner = Queue::<u32>::unbounded().expect("queue");
    let (receiver, sender) = Pipe::one_way::<u32>().expect("pipe");
    carrier.put((inner.clone(), sender)).expect("put");
    drop(inner);
    assert_eq!(
        receiver.try_recv(),
        Err(RecvError::Empty),
        "the sender is in flight, not gone"
    );
    let (inner, sender) = carrier.get().expect("get");
    inner.put(5).expect("put");
    sender.send(6).expect("send");
    drop(sender);
    assert_eq!(
        (inner.get(), receiver.recv(), receiver.recv()),
        (Ok(5), Ok(6), Err(RecvError::Eof))
    );
}

#[test]
fn a_message_that_is_dropped_releases_what_it_carried() {
    let carrier = Queue::<procession::Connection<u32>>::unbounded().expect("queue");
    let (receiver, sender) = Pipe::one_way::<u32>().expect("pipe");
    carrier.put(sender).expect("put");
    assert_eq!(receiver.try_recv(), Err(RecvError::Empty));
    drop(carrier);
    assert_eq!(receiver.recv(), Err(RecvError::Eof));
}

#[test]
fn buffers_are_not_copied() {
    let queue = Queue::<Buffer, Raw>::unbounded().expect("queue");
    let mut buffer = Buffer::new(1 << 20).expect("buffer");
    buffer.fill(9);
    let address = buffer.as_ptr();
    queue.put(buffer).expect("put");
    let back = queue.get().expect("get");
    assert_eq!((back.as_ptr(), back.len(), back[77]), (address, 1 << 20, 9));
}

#[test]
fn joinable_queue_counts() {
    let queue = JoinableQueue::<u8>::new(0).expect("queue");
    queue.put(1).expect("put");
    assert!(!queue.join_timeout(std::time::Duration::ZERO));
    queue.get().expect("get");
    queue.task_done().expect("done");
    queue.join();
    assert!(queue.task_done().is_err());
}

#[test]
fn threads_share_a_queue() {
    let queue = Queue::<u64, Plain>::new(64).expect("queue");
    let total: u64 = std::thread::scope(|scope| {
        for producer in 0..3 {
            let queue = &queue;
            scope.spawn(move || {
                (0..20_000).for_each(|i| queue.put(producer * 1_000_000 + i).expect("put"))
            });
        }
        let consumers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| (0..20_000).map(|_| queue.get().expect("get")).sum::<u64>()))
            .collect();
        consumers.into_iter().map(|c| c.join().expect("join")).sum()
    });
    let expected: u64 = (0..3)
        .map(|p| p * 1_000_000 * 20_000 + (0..20_000).sum::<u64>())
        .sum();
    assert_eq!(total, expected);
}

#[test]
fn a_queue_closes_when_its_last_producer_is_killed() {
    use procession::{Process, Producer};
    fn put_and_wait((producer, gate): (Producer<u32>, procession::Event)) {
        producer.put(7).expect("put");
        gate.wait();
    }
    let queue = Queue::<u32>::unbounded().expect("queue");
    let gate = procession::Event::new().expect("event");
    let producer = queue.producer().expect("producer");
    let child = Process::start(put_and_wait, (producer, gate.clone())).expect("start");
    assert_eq!(queue.get(), Ok(7));
    assert_eq!(
        queue.try_get(),
        Err(GetError::Empty),
        "the child may still put"
    );
    child.kill().expect("kill");
    // Nobody joins the child before: whoever waits notices the death by itself.
    assert_eq!(queue.get(), Err(GetError::Closed));
    assert!(child.join().is_err());
}

#[test]
fn a_forked_child_has_no_part_in_its_parents_buffers() {
    let mut buffer = Buffer::new(300_000).expect("buffer");
    buffer.fill(7);
    let copy = std::sync::Arc::new(std::sync::Mutex::new(Some(buffer)));
    let child = fork(|| {
        let buffer = copy.lock().expect("lock").take().expect("buffer");
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| buffer[0]));
        drop(buffer);
        // Were the place free now, this would have it.
        Buffer::new(300_000).expect("buffer").fill(9);
        read.is_err()
    });
    assert_eq!(child.join(), 0);
    let mut second = Buffer::new(300_000).expect("buffer");
    second.fill(8);
    let buffer = copy.lock().expect("lock").take().expect("buffer");
    assert!(buffer.iter().all(|&byte| byte == 7));
}
