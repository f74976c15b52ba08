//! Barrier: rounds, death of a party, action, reset.
use crate::forked::{Forked, SOON, forever, fork, until};
use procession::{Barrier, BarrierError, NewBarrierError};
use std::time::Duration;

#[test]
fn all_pass_together_round_after_round() {
    let barrier = Barrier::new(3).expect("barrier");
    let children: Vec<_> = (0..2)
        .map(|_| fork(|| (0..200).all(|_| barrier.wait_timeout(SOON).is_ok())))
        .collect();
    for _ in 0..200 {
        barrier.wait_timeout(SOON).expect("pass");
    }
    assert_eq!(children.into_iter().map(Forked::join).sum::<i32>(), 0);
}

#[test]
fn many_parties_have_one_leader() {
    let barrier = Barrier::new(20).expect("barrier");
    let leaders: usize = std::thread::scope(|scope| {
        let parties: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| barrier.wait_timeout(SOON).expect("pass")))
            .collect();
        parties
            .into_iter()
            .map(|party| usize::from(party.join().expect("join").is_leader()))
            .sum()
    });
    assert_eq!(leaders, 1);
}

#[test]
fn a_killed_party_breaks_it() {
    let barrier = Barrier::new(3).expect("barrier");
    let waiting = fork(|| barrier.wait().is_ok());
    until("arrival", || barrier.n_waiting() == 1);
    waiting.kill();
    assert_eq!(barrier.wait_timeout(SOON), Err(BarrierError::Broken));
    drop(waiting);
    until("broken", || barrier.is_broken());
    // Its reaping may break the barrier once more: after it, a reset lasts.
    barrier.reset();
}

#[test]
fn a_party_killed_before_it_came_breaks_it() {
    let barrier = Barrier::new(2).expect("barrier");
    let absent = fork(forever);
    absent.kill();
    assert_eq!(barrier.wait_timeout(SOON), Err(BarrierError::Broken));
}

#[test]
fn timeouts_break_and_reset_mends() {
    let barrier = Barrier::new(2).expect("barrier");
    assert_eq!(
        barrier.wait_timeout(Duration::ZERO),
        Err(BarrierError::TimedOut)
    );
    assert_eq!(
        barrier.wait_timeout(Duration::MAX),
        Err(BarrierError::Broken)
    );
    barrier.reset();
    assert!(!barrier.is_broken());
    assert_eq!(barrier.n_waiting(), 0);
}

#[test]
fn a_panicking_action_breaks_it() {
    let barrier = Barrier::new(1).expect("barrier");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        barrier.wait_with(|| std::panic::resume_unwind(Box::new(())))
    }));
    assert!(panicked.is_err() && barrier.is_broken());
    barrier.reset();
    assert!(barrier.wait().is_ok());
}

#[test]
fn impossible_numbers_of_parties() {
    for parties in [0, 1 << 24, usize::MAX] {
        assert!(matches!(
            Barrier::new(parties),
            Err(NewBarrierError::Parties { .. })
        ));
    }
}
