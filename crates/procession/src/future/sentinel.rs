//! The thread that waits for awaited processes to end: a pidfd is no word of the heap.
//!
//! It polls the pidfds of the processes that are awaited just now, and a bell of its own by which it is called. Started by the first future that has to wait; it ends,
//! and its descriptor with it, when no process was awaited for half a second.

use super::reactor::{IDLE, mind_forks};
use crate::process::ProcessCore;
use crate::sys::doorbell::{Doorbell, readable, ring};
use crate::sys::signal::Blocked;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// After a poll that failed, for lack of kernel memory.
const BREATH: Duration = Duration::from_millis(10);

/// Who waits for which process.
#[derive(Debug)]
pub(super) struct Watch {
    /// Counts up, over forks too.
    last: u64,
    waiting: BTreeMap<u64, (Arc<ProcessCore>, Waker)>,
    /// The thread's, while there is one.
    bell: Option<Arc<Doorbell>>,
}

pub(super) type Guard = MutexGuard<'static, Watch>;

static WATCH: Mutex<Watch> = Mutex::new(Watch {
    last: 0,
    waiting: BTreeMap::new(),
    bell: None,
});

pub(super) fn lock() -> Guard {
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A future that waits for a process.
#[derive(Debug, Default)]
pub(super) struct Vigil(Option<u64>);

impl Vigil {
    /// Has the task woken when the process has ended. Look again afterwards: it may have ended before.
    pub(super) fn keep(&mut self, core: &Arc<ProcessCore>, context: &Context<'_>) {
        mind_forks();
        let entry = (Arc::clone(core), context.waker().clone());
        let mut watch = lock();
        let old = self.0.and_then(|number| watch.waiting.remove(&number));
        watch.last += 1;
        let number = watch.last;
        watch.waiting.insert(number, entry);
        let called = watch.call();
        drop(watch);
        drop(old);
        self.0 = Some(number);
        if !called {
            // No descriptor or thread can be had: the future asks again and again.
            context.waker().wake_by_ref();
        }
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        let entry = self.0.and_then(|number| lock().waiting.remove(&number));
        drop(entry);
    }
}

impl Watch {
    /// Makes the thread look at the list; starts it if there is none.
    fn call(&mut self) -> bool {
        if let Some(bell) = &self.bell {
            ring(bell.name());
            return true;
        }
        let Ok(bell) = Doorbell::new().map(Arc::new) else {
            return false;
        };
        self.bell = Some(Arc::clone(&bell));
        let thread = std::thread::Builder::new().name("procession-exit".to_owned());
        let started = thread.spawn(move || serve(&bell)).is_ok();
        if !started {
            self.bell = None;
        }
        started
    }

    /// In a forked child: the bell and the tasks are the parent's; the processes are not our children.
    pub(super) fn forget(&mut self) {
        std::mem::forget(std::mem::take(&mut self.waiting));
        self.bell = None;
    }

    fn tell(&mut self, numbers: impl Iterator<Item = u64>) -> Vec<(Arc<ProcessCore>, Waker)> {
        numbers
            .filter_map(|number| self.waiting.remove(&number))
            .collect()
    }
}

fn serve(bell: &Doorbell) {
    let _blocked = Blocked::all();
    loop {
        bell.drain();
        let awaited: Vec<_> = {
            let watch = lock();
            let waiting = watch.waiting.iter();
            waiting
                .map(|(n, (core, _))| (*n, Arc::clone(core)))
                .collect()
        };
        let mut fds = vec![bell.as_fd()];
        fds.extend(awaited.iter().map(|(_, core)| core.sentinel()));
        let until = awaited.is_empty().then(|| Instant::now() + IDLE);
        let Ok(ready) = readable(&fds, until) else {
            std::thread::sleep(BREATH);
            let told = lock().tell(awaited.iter().map(|(number, _)| *number));
            wake(told);
            continue;
        };
        if ready.is_empty() && until.is_some_and(|at| at <= Instant::now()) {
            let mut watch = lock();
            if watch.waiting.is_empty() {
                watch.bell = None;
                return;
            }
        }
        let ended = ready.into_iter().filter(|index| *index > 0);
        let told = lock().tell(ended.map(|index| awaited[index - 1].0));
        wake(told);
    }
}

fn wake(told: Vec<(Arc<ProcessCore>, Waker)>) {
    for (_, waker) in told {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
    }
}
