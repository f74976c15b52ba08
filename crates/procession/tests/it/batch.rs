//! Many items at once.
use crate::ready_fork::fork;
use procession::{GetError, Plain, PutError, Queue};
use std::time::Duration;

#[test]
fn batches_keep_the_order() {
    let queue = Queue::<u64, Plain>::unbounded().expect("queue");
    queue.put_many(0..100_000).expect("put");
    assert_eq!(queue.len(), 100_000);
    queue.put(100_000).expect("put");
    let mut next = 0;
    while next <= 100_000 {
        let items = queue.get_many(777).expect("get");
        assert!(!items.is_empty() && items.len() <= 777);
        for item in items {
            assert_eq!(item, next);
            next += 1;
        }
    }
    assert_eq!(
        queue.try_get_many(1).expect_err("empty").error,
        GetError::Empty
    );
    assert_eq!(queue.try_get_many(0), Ok(vec![]));
}

#[test]
fn large_items_and_handles_mix_with_small_ones() {
    let queue = Queue::<(Vec<u8>, Option<Queue<u8>>)>::unbounded().expect("queue");
    let make = |i: usize| {
        let inner = i
            .is_multiple_of(7)
            .then(|| Queue::unbounded().expect("queue"));
        (
            vec![i as u8; if i.is_multiple_of(5) { 20_000 } else { i }],
            inner,
        )
    };
    queue.put_many((0..300).map(make)).expect("put");
    let got = queue.get_many(1000).expect("get");
    assert_eq!(got.len(), 300);
    for (i, (bytes, inner)) in got.iter().enumerate() {
        assert_eq!((bytes, inner.is_some()), (&make(i).0, i.is_multiple_of(7)));
    }
}

#[test]
fn what_was_not_put_comes_back() {
    let queue = Queue::<String>::unbounded().expect("queue");
    queue.close();
    let words = || ["a", "b", "c"].map(str::to_owned);
    let error = queue.put_many(words()).expect_err("closed");
    assert_eq!((error.put, error.rest), (0, words().to_vec()));
    assert_eq!(error.error, PutError::Closed(()));
    assert_eq!(
        queue.get_many(5).expect_err("closed").error,
        GetError::Closed
    );
    let full = Queue::<u32>::new(2).expect("queue");
    let closer = full.clone();
    let thread = std::thread::spawn(move || {
        while !closer.is_full() {
            std::thread::yield_now();
        }
        closer.close();
    });
    let error = full.put_many(0..5).expect_err("closed while full");
    assert_eq!((error.put, error.rest), (2, vec![2, 3, 4]));
    thread.join().expect("thread");
    assert_eq!(full.get_many(5), Ok(vec![0, 1]));
}

#[test]
fn waiting_for_the_first_ends_with_the_time() {
    let queue = Queue::<u32>::unbounded().expect("queue");
    let error = queue
        .get_many_timeout(5, Duration::from_millis(5))
        .expect_err("empty");
    assert_eq!(error.error, GetError::TimedOut);
}

#[test]
fn what_cannot_be_read_takes_nothing_along() {
    let queue = Queue::<Vec<u8>>::unbounded().expect("queue");
    queue.put_many([vec![1], vec![], vec![2, 3]]).expect("put");
    let wrong = Queue::<(u8, u8)>::open(queue.handle()).expect("open");
    let error = wrong.get_many(10).expect_err("second is too short");
    assert_eq!(error.taken, [(1, 1), (2, 2)]);
    assert!(matches!(error.error, GetError::Decode(_)));
}

#[test]
fn nothing_is_lost_or_doubled_between_two_producers_and_two_consumers() {
    const EACH: u64 = 60_000;
    let queue = Queue::<u64, Plain>::new(500).expect("queue");
    let sums = Queue::<(u64, u64)>::unbounded().expect("queue");
    let producers: Vec<_> = (0..2_u64)
        .map(|p| {
            fork(|| {
                queue
                    .put_many((0..EACH).map(|i| (p << 32) | i))
                    .expect("put")
            })
        })
        .collect();
    let consumers: Vec<_> = (0..2)
        .map(|_| {
            fork(|| {
                let (mut count, mut sum, mut last) = (0, 0, [None; 2]);
                while let Ok(items) = queue.get_many(64) {
                    for item in items {
                        let (p, i) = ((item >> 32) as usize, item & 0xffff_ffff);
                        assert!(last[p] < Some(i), "order of one producer");
                        last[p] = Some(i);
                        count += 1;
                        sum += i;
                    }
                }
                sums.put((count, sum)).expect("put");
            })
        })
        .collect();
    for producer in producers {
        assert_eq!(producer.join(), 0);
    }
    queue.close();
    for consumer in consumers {
        assert_eq!(consumer.join(), 0);
    }
    let (a, b) = (sums.get().expect("a"), sums.get().expect("b"));
    assert_eq!((a.0 + b.0, a.1 + b.1), (2 * EACH, EACH * (EACH - 1)));
}
