//! Founding a family, joining one, leaving in order.

use super::{Owner, fork};
use crate::atomic::Ordering;
use crate::heap::{CLEAN, Heap, HeapError, heap, install, myself, set_me};
use crate::sys::atfork;
use rustix::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Share of the machine's (or cgroup's) memory that a family heap may take, in percent.
const LIMIT_PERCENT: u64 = 80;

/// The heap of this process; founds a family if it has none. Cheap after the first call.
#[inline]
pub(crate) fn join() -> Result<&'static Heap, HeapError> {
    match heap() {
        Some(heap) => Ok(heap),
        None => found(),
    }
}

/// Held while this process becomes a member, and over every fork: a child finds a whole family, or none.
static FOUNDING: Mutex<()> = Mutex::new(());

pub(super) fn lock_founding() -> MutexGuard<'static, ()> {
    FOUNDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same, from before the first fork that has to wait for it.
fn begin_founding() -> Result<MutexGuard<'static, ()>, HeapError> {
    fork::mind_own_forks().map_err(|errno| HeapError::system("register fork handlers", errno))?;
    Ok(lock_founding())
}

#[cold]
fn found() -> Result<&'static Heap, HeapError> {
    let _one_at_a_time = begin_founding()?;
    if let Some(heap) = heap() {
        return Ok(heap);
    }
    // A child that was invited into a family must not found one of its own.
    super::Invitation::refuse_to_ignore();
    let fresh = Heap::create(heap_limit())?;
    let owner = fresh.reserve_slot(None)?;
    enter(fresh, owner)
}

/// Joins the family whose heap a parent handed down, as the participant it reserved.
pub(crate) fn attach(fd: OwnedFd, owner: Owner) -> Result<&'static Heap, HeapError> {
    let _one_at_a_time = begin_founding()?;
    enter(Heap::attach(fd)?, owner)
}

fn enter(fresh: Heap, owner: Owner) -> Result<&'static Heap, HeapError> {
    // Before anybody can see the heap: whoever does may use `me` at once.
    if !fresh.activate_slot(owner) {
        return Err(HeapError::Corrupt(
            "the place in the family was given up before this process came up",
        ));
    }
    set_me(owner);
    let heap = install(fresh)?;
    atfork::on_exit(leave);
    Ok(heap)
}

/// Says good-bye: what others find afterwards is the end of a process that finished, not of one that was killed.
pub(crate) extern "C" fn leave() {
    if let (Some(heap), Some(me)) = (heap(), myself()) {
        heap.participants()[me.slot()]
            .flags
            .fetch_or(CLEAN, Ordering::SeqCst);
    }
}

/// The limit for a new family: `PROCESSION_HEAP_LIMIT` in bytes, else 80 % of the memory there is.
fn heap_limit() -> u64 {
    let wish = std::env::var("PROCESSION_HEAP_LIMIT")
        .ok()
        .and_then(|text| text.parse().ok());
    wish.unwrap_or_else(|| {
        crate::sys::limits::memory().map_or(u64::MAX, |memory| memory.limit() / 100 * LIMIT_PERCENT)
    })
}
