//! A port for threads of one process: a real futex with short slices, and deaths by decree.

use super::super::{Deadline, Port, Slept};
use crate::atomic::AtomicU32;
use crate::family::Owner;
use rustix::thread::futex;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The longest single sleep. Tests that must not depend on it use [`World::without_slices`].
const SLICE: Duration = Duration::from_millis(5);
/// A slice so long that a test which needs it to end runs into its watchdog.
const NO_SLICE: Duration = Duration::from_secs(600);

/// Who is dead, and how long a slice is.
pub(super) struct World {
    dead: Mutex<HashSet<Owner>>,
    slice: Duration,
}

/// One participant's port.
#[derive(Clone)]
pub(super) struct TestPort {
    world: Arc<World>,
    me: Owner,
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            dead: Mutex::default(),
            slice: SLICE,
        })
    }

    pub(super) fn without_slices() -> Arc<Self> {
        Arc::new(Self {
            dead: Mutex::default(),
            slice: NO_SLICE,
        })
    }

    pub(super) fn port(self: &Arc<Self>, slot: usize) -> TestPort {
        TestPort {
            world: self.clone(),
            me: owner(slot),
        }
    }

    pub(super) fn bury(&self, owner: Owner) {
        self.dead.lock().unwrap().insert(owner);
    }
}

impl Port for TestPort {
    fn me(&self) -> Owner {
        self.me
    }

    fn is_gone(&self, owner: Owner) -> bool {
        self.world.dead.lock().unwrap().contains(&owner)
    }

    fn spin(&self, turn: u32) -> bool {
        std::hint::spin_loop();
        turn < 10
    }

    fn sleep(&self, word: &AtomicU32, expected: u32, deadline: Deadline) -> Slept {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let slice = left.map_or(self.world.slice, |left| left.min(self.world.slice));
        let timeout = futex::Timespec {
            tv_sec: slice.as_secs() as i64,
            tv_nsec: i64::from(slice.subsec_nanos()),
        };
        match futex::wait(word, futex::Flags::empty(), expected, Some(&timeout)) {
            Err(rustix::io::Errno::TIMEDOUT) if left == Some(slice) => Slept::TimedOut,
            _ => Slept::Again,
        }
    }

    fn wake(&self, word: &AtomicU32, count: u32) -> u32 {
        futex::wake(word, futex::Flags::empty(), count).unwrap() as u32
    }
}

/// The participant in `slot`.
pub(super) fn owner(slot: usize) -> Owner {
    Owner::new(slot, 1)
}

/// A deadline that has passed.
pub(super) fn now() -> Deadline {
    Some(Instant::now())
}

/// A deadline soon.
pub(super) fn soon() -> Deadline {
    Some(Instant::now() + Duration::from_millis(20))
}

/// A deadline that no test lives to see.
pub(super) fn far() -> Deadline {
    Some(Instant::now() + Duration::from_secs(3600))
}

/// Returns once `is_so`: for tests that need another thread to have arrived somewhere.
pub(super) fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

/// All-zero bytes, as the heap hands them out.
pub(super) fn zeroed<T: zerocopy::FromBytes>() -> T {
    T::new_zeroed()
}
