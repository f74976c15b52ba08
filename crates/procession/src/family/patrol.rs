//! Looking for the dead, and reaping them.
//!
//! Nobody is employed for this. A parent that joins a child reaps it; beyond that, every wait that sleeps looks around once in a while
//! (at most one process each [`INTERVAL_MS`]), so a family in which anybody waits for anything notices a death within a fraction of a second,
//! and one in which nobody waits does not care.

use crate::atomic::Ordering;
use crate::family::Owner;
use crate::heap::{Heap, HeapError, Presence, ShortWait, heap, me};
use crate::sys::clock::monotonic_ms;
use crate::sys::set_once::SetOnce;
use std::sync::atomic::AtomicU32;

/// Shortest time between two patrols of a family.
const INTERVAL_MS: u64 = 20;
/// Every so many patrols of this process also look for participants that exec'ed something else, or were forked by others and never came up.
const DEEP_EVERY: u32 = 16;

/// What a higher layer wants done when this process has a moment.
static ERRAND: SetOnce<fn()> = SetOnce::new();

/// Has `errand` run whenever this process patrols; there is room for one.
pub(crate) fn on_patrol(errand: fn()) {
    ERRAND.get_or_make(|| errand);
}

/// Looks for dead participants if nobody did lately, and reaps them.
pub(crate) fn patrol() {
    if let Some(errand) = ERRAND.get() {
        errand();
    }
    let Some(heap) = heap() else { return };
    let last = &heap.header().last_patrol;
    let (then, now) = (last.load(Ordering::Relaxed), monotonic_ms());
    if now.saturating_sub(then) < INTERVAL_MS && then <= now {
        return;
    }
    if last
        .compare_exchange(then, now, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
    {
        static PATROLS: AtomicU32 = AtomicU32::new(0);
        let deep = PATROLS.fetch_add(1, Ordering::Relaxed) % DEEP_EVERY == DEEP_EVERY - 1;
        look_around(heap, deep);
    }
}

/// Reserves a place for a process that `creator` is about to start. Where all seem taken, the dead among them make room first: in
/// a family in which nobody waits for anything, nobody has looked for them.
pub(crate) fn reserve_place(heap: &'static Heap, creator: Owner) -> Result<Owner, HeapError> {
    heap.reserve_slot(Some(creator)).or_else(|full| {
        look_around(heap, true);
        heap.reserve_slot(Some(creator)).map_err(|_| full)
    })
}

fn look_around(heap: &'static Heap, deep: bool) {
    for owner in owners(heap, &[Presence::Live, Presence::Starting]) {
        if owner != me() {
            // Asking marks the dead as such.
            let _ = if deep {
                heap.has_left(owner)
            } else {
                heap.is_gone(owner)
            };
        }
    }
    reap_dead(heap);
}

/// Reaps the participant that is the process `pid`, which has ended, whoever started it.
pub(crate) fn reap_process(pid: u32) {
    let Some(heap) = heap() else { return };
    for owner in owners(heap, &[Presence::Live, Presence::Starting]) {
        // Asking marks the dead as such.
        let _ = match heap.participants()[owner.slot()].identity() {
            Some(identity) => identity.pid == pid && heap.is_gone(owner),
            // Perhaps it is this one.
            None => heap.has_left(owner),
        };
    }
    reap_dead(heap);
}

/// Reaps every participant that is proved dead.
pub(crate) fn reap_dead(heap: &'static Heap) {
    if owners(heap, &[Presence::Dead]).next().is_none() {
        return;
    }
    let lock = &heap.header().reap_lock;
    if lock.acquire(&ShortWait, None).is_err() {
        return;
    }
    // Also those that somebody else declared dead, and those whose reaper died midway.
    // Again from the start after each: its death may be the proof of others'.
    while let Some(dead) = owners(heap, &[Presence::Dead]).next() {
        let clean = heap.participants()[dead.slot()].left_cleanly();
        heap.reclaim(dead, clean);
        heap.forsake(dead.slot());
        heap.free_slot(dead.slot());
        heap.header().reaped.fetch_add(1, Ordering::Relaxed);
    }
    let _ = lock.release(&ShortWait);
}

fn owners(heap: &'static Heap, wanted: &'static [Presence]) -> impl Iterator<Item = Owner> {
    (0..heap.slots_used()).filter_map(move |slot| {
        let (presence, generation) = heap.participants()[slot].presence();
        wanted
            .contains(&presence)
            .then(|| Owner::new(slot, generation))
    })
}
