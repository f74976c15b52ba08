//! Event.
use crate::forked::{SOON, fork};
use procession::{Event, TimedOut};
use std::time::Duration;

#[test]
fn lets_other_processes_through() {
    let event = Event::new().expect("event");
    assert_eq!(event.wait_timeout(Duration::ZERO), Err(TimedOut));
    let children: Vec<_> = (0..3)
        .map(|_| fork(|| event.wait_timeout(SOON).is_ok()))
        .collect();
    event.set();
    for child in children {
        assert_eq!(child.join(), 0);
    }
    event.wait();
    event.wait_timeout(Duration::MAX).expect("set");
    event.clear();
    assert!(!event.is_set());
}
