//! Lock: threads, processes, death in possession, many of them.
use crate::forked::{SOON, forever, fork, until};
use procession::{Lock, NotHeld, OwnerDied, Queue, RawValue};
use std::time::{Duration, Instant};

#[test]
fn threads_exclude_each_other() {
    let (lock, count) = (
        Lock::new().expect("lock"),
        RawValue::new(0u64).expect("value"),
    );
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let _guard = lock.acquire();
                    count.set(count.get() + 1);
                }
            });
        }
    });
    assert_eq!(count.get(), 80_000);
}

#[test]
fn processes_exclude_each_other() {
    let (lock, count) = (
        Lock::new().expect("lock"),
        RawValue::new(0u64).expect("value"),
    );
    let children: Vec<_> = (0..3)
        .map(|_| {
            fork(|| {
                for _ in 0..20_000 {
                    let _guard = lock.acquire();
                    count.set(count.get() + 1);
                }
                true
            })
        })
        .collect();
    for child in children {
        assert_eq!(child.join(), 0);
    }
    assert_eq!(count.get(), 60_000);
}

#[test]
fn timeouts() {
    let lock = Lock::new().expect("lock");
    let guard = lock.acquire_timeout(Duration::MAX).expect("free");
    assert!(lock.acquire_timeout(Duration::ZERO).is_err());
    assert!(lock.acquire_deadline(Instant::now()).is_err());
    assert!(lock.acquire_timeout(Duration::from_millis(20)).is_err());
    drop(guard);
    assert!(lock.acquire_timeout(Duration::ZERO).is_ok());
    assert_eq!(lock.release(), Err(NotHeld));
}

#[test]
fn another_process_may_release() {
    let lock = Lock::new().expect("lock");
    lock.acquire().into_held();
    assert_eq!(fork(|| lock.release().is_ok()).join(), 0);
    assert!(!lock.is_locked());
}

#[test]
fn a_forked_copy_of_a_guard_does_nothing() {
    let lock = Lock::new().expect("lock");
    let guard = lock.acquire();
    let mut guard = Some(guard);
    let child = fork(|| {
        drop(guard.take());
        lock.is_locked()
    });
    assert_eq!(child.join(), 0);
    assert!(lock.is_locked());
}

/// A lock whose owner was killed, and the corpse was not even waited for.
fn orphaned() -> (Lock, crate::forked::Forked) {
    let lock = Lock::new().expect("lock");
    let child = fork(|| {
        lock.acquire().into_held();
        forever()
    });
    until("acquire", || lock.is_locked());
    child.kill();
    (lock, child)
}

#[test]
fn the_lock_of_a_killed_owner_is_recovered() {
    let (lock, _child) = orphaned();
    let guard = lock.acquire_timeout(SOON).expect("recovered");
    assert!(guard.recovered());
    drop(guard);
    assert!(!lock.acquire().recovered());
}

#[test]
fn strict_acquirers_leave_the_mark() {
    let (lock, _child) = orphaned();
    for _ in 0..3 {
        let strict = lock.acquire_timeout(SOON).expect("recovered").strict();
        assert_eq!(strict.err(), Some(OwnerDied));
    }
    assert!(lock.acquire().recovered());
    assert!(lock.acquire().strict().is_ok());
}

#[test]
fn a_killed_waiter_wedges_nobody() {
    let lock = Lock::new().expect("lock");
    let guard = lock.acquire();
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            fork(|| {
                drop(lock.acquire_timeout(SOON));
                true
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(30));
    waiters[0].kill();
    drop(guard);
    let codes: Vec<_> = waiters
        .into_iter()
        .map(crate::forked::Forked::join)
        .collect();
    assert_eq!(codes[1], 0);
    assert!(lock.acquire_timeout(SOON).is_ok());
}

#[test]
fn a_lock_travels_through_a_queue_to_another_process() {
    let queue = Queue::<Lock>::unbounded().expect("queue");
    let lock = Lock::new().expect("lock");
    queue.put(lock.clone()).expect("put");
    let child = fork(|| {
        queue.get().expect("get").acquire().into_held();
        true
    });
    assert_eq!(child.join(), 0);
    // The child has ended by now, in possession.
    assert!(lock.acquire_timeout(SOON).expect("recovered").recovered());
}

#[test]
fn a_hundred_thousand_locks_need_no_descriptor() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("fd").count();
    let first = Lock::new().expect("lock");
    // Other tests run beside this one: their few are no matter, one for each lock would be.
    let before = descriptors();
    let locks: Vec<_> = (0..100_000).map(|_| Lock::new().expect("lock")).collect();
    assert!(descriptors() < before + 100);
    let guards: Vec<_> = locks.iter().map(Lock::acquire).collect();
    assert!(locks.iter().all(Lock::is_locked) && !first.is_locked());
    drop(guards);
    assert!(!locks.iter().any(Lock::is_locked));
}

#[test]
#[ignore = "prints a figure: cargo test --release --test it -- --ignored --nocapture cost"]
fn cost_of_an_uncontended_pair() {
    const ROUNDS: u32 = 1_000_000;
    // The best of many: the machine may be busy.
    let time = |name: &str, round: &dyn Fn()| {
        let best = (0..30).map(|_| {
            let start = Instant::now();
            round();
            start.elapsed()
        });
        let best = best.min().unwrap_or_default();
        println!(
            "{name}: {:.1} ns",
            best.as_secs_f64() * 1e9 / f64::from(ROUNDS)
        );
    };
    let word = std::sync::atomic::AtomicU32::new(0);
    time("two bare locked instructions", &|| {
        for _ in 0..ROUNDS {
            let order = std::sync::atomic::Ordering::SeqCst;
            let _ = word.compare_exchange(0, 7, order, order);
            let _ = word.compare_exchange(7, 0, order, order);
        }
    });
    let (lock, rlock) = (
        Lock::new().expect("lock"),
        procession::RLock::new().expect("rlock"),
    );
    let semaphore = procession::Semaphore::new(1).expect("semaphore");
    time("Lock", &|| (0..ROUNDS).for_each(|_| drop(lock.acquire())));
    time("RLock", &|| (0..ROUNDS).for_each(|_| drop(rlock.acquire())));
    time("Semaphore", &|| {
        (0..ROUNDS).for_each(|_| drop(semaphore.acquire()));
    });
    let mutex = std::sync::Mutex::new(());
    time("std::sync::Mutex, for comparison", &|| {
        (0..ROUNDS).for_each(|_| drop(mutex.lock()))
    });
    let array = procession::RawArray::<u8>::zeroed(1 << 20).expect("array");
    let mut copy = vec![0; 1 << 20];
    let start = Instant::now();
    (0..1_000).for_each(|_| array.read_into(0, &mut copy).expect("read"));
    println!(
        "RawArray read: {:.1} GB/s",
        1.048 / start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    (0..1_000).for_each(|_| array.write_from(0, &copy).expect("write"));
    println!(
        "RawArray write: {:.1} GB/s",
        1.048 / start.elapsed().as_secs_f64()
    );
}
