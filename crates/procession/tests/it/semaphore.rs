//! Semaphore: permits against a model, processes, limits.
use crate::forked::{SOON, fork};
use procession::{AboveLimit, BoundedSemaphore, NewSemaphoreError, Semaphore};
use proptest::prelude::*;
use std::time::Duration;

#[test]
fn limits() {
    assert!(matches!(
        Semaphore::new(1 << 31),
        Err(NewSemaphoreError::TooLarge { .. })
    ));
    let most = Semaphore::new((1 << 31) - 1).expect("semaphore");
    assert_eq!(most.release(1), Err(AboveLimit));
    let bounded = BoundedSemaphore::new(2).expect("semaphore");
    let permit = bounded.acquire();
    assert_eq!(bounded.release(2), Err(AboveLimit));
    drop(permit);
    assert_eq!(bounded.value(), 2);
}

#[test]
fn signals_another_process() {
    let (there, back) = (
        Semaphore::new(0).expect("there"),
        Semaphore::new(0).expect("back"),
    );
    let child = fork(|| {
        (0..1_000).all(|_| {
            there.acquire().forget();
            back.release(1).is_ok()
        })
    });
    for _ in 0..1_000 {
        there.release(1).expect("release");
        back.acquire_timeout(SOON).expect("answer").forget();
    }
    assert_eq!(child.join(), 0);
}

#[test]
fn a_killed_waiter_takes_no_permit_with_it() {
    let semaphore = Semaphore::new(0).expect("semaphore");
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            fork(|| {
                semaphore
                    .acquire_timeout(SOON)
                    .map(procession::SemaphorePermit::forget)
                    .is_ok()
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(30));
    waiters[0].kill();
    let codes: Vec<_> = waiters
        .into_iter()
        .enumerate()
        .map(|(at, child)| {
            if at == 1 {
                semaphore.release(1).expect("release");
            }
            child.join()
        })
        .collect();
    assert_eq!(codes, [-9, 0]);
    assert_eq!(semaphore.value(), 0);
}

proptest! {
    #[test]
    fn counts_as_a_number_does(first in 0u32..5, limit in 5u32..8, steps: Vec<(bool, u8)>) {
        let semaphore = Semaphore::new(first).expect("semaphore");
        let bounded = BoundedSemaphore::new(limit).expect("semaphore");
        let (mut free, mut left) = (first, limit);
        for (takes, count) in steps {
            let count = u32::from(count % 4);
            if takes {
                let taken = semaphore.try_acquire().map(procession::SemaphorePermit::forget).is_ok();
                prop_assert_eq!(taken, free > 0);
                free -= u32::from(taken);
                let taken = bounded.acquire_timeout(Duration::ZERO).map(procession::SemaphorePermit::forget).is_ok();
                prop_assert_eq!(taken, left > 0);
                left -= u32::from(taken);
            } else {
                semaphore.release(count).expect("no limit");
                free += count;
                let fits = left + count <= limit;
                prop_assert_eq!(bounded.release(count).is_ok(), fits);
                left += if fits { count } else { 0 };
            }
            prop_assert_eq!((semaphore.value(), bounded.value()), (free, left));
        }
    }
}
