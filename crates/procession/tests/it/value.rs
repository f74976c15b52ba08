//! Value, RawValue and the atomics.
use crate::forked::{SOON, forever, fork, until};
use procession::{
    HeapError, Queue, RawValue, SharedAtomicI32, SharedAtomicI64, SharedAtomicU64, Value,
};

#[test]
fn processes_count_together() {
    let (locked, atomic) = (
        Value::new(0u64).expect("value"),
        SharedAtomicU64::new(0).expect("atomic"),
    );
    let children: Vec<_> = (0..3)
        .map(|_| {
            fork(|| {
                for _ in 0..10_000 {
                    locked.update(|n| n + 1);
                    atomic.fetch_add(1);
                }
                true
            })
        })
        .collect();
    for child in children {
        assert_eq!(child.join(), 0);
    }
    assert_eq!((locked.get(), atomic.load()), (30_000, 30_000));
}

#[test]
fn large_values_live_in_a_block() {
    let before = [7u64; 1000];
    let value = RawValue::new(before).expect("value");
    assert_eq!(value.get(), before);
    value.set([8; 1000]);
    assert_eq!(value.clone().get(), [8; 1000]);
}

#[test]
fn the_lock_of_a_killed_owner_is_recovered() {
    let value = Value::new(1u8).expect("value");
    let child = fork(|| {
        let guard = value.lock();
        guard.set(2);
        forever()
    });
    until("set", || value.try_lock().is_err());
    child.kill();
    let guard = value.lock_timeout(SOON).expect("recovered");
    assert!(guard.recovered());
    drop(guard);
    assert!(!value.lock().recovered());
}

#[test]
fn handles_travel_and_are_checked() {
    let queue = Queue::<Value<i32>>::unbounded().expect("queue");
    queue.put(Value::new(-5).expect("value")).expect("put");
    let value = queue.get().expect("get");
    assert_eq!(value.get(), -5);
    assert!(matches!(
        Value::<i64>::open(value.handle()),
        Err(HeapError::WrongKind { .. })
    ));
    assert!(matches!(
        procession::Lock::open(value.handle()),
        Err(HeapError::WrongKind { .. })
    ));
    let handle = value.handle();
    drop(value);
    crate::wait_until_gone(|| Value::<i32>::open(handle));
}

#[test]
fn signed_atomics_know_their_sign() {
    let (long, short) = (
        SharedAtomicI64::new(-5).expect("atomic"),
        SharedAtomicI32::new(-5).expect("atomic"),
    );
    assert_eq!((long.fetch_max(-7), short.fetch_min(3)), (-5, -5));
    assert_eq!((long.fetch_add(-1), short.fetch_sub(i32::MAX)), (-5, -5));
    assert_eq!(
        (long.load(), short.load()),
        (-6, (-5i32).wrapping_sub(i32::MAX))
    );
}
