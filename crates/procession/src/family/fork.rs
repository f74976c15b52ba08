//! A forked child becomes a participant of its own before it touches anything shared, whoever forked.
//!
//! The child's memory holds copies of the parent's handles, so the child must hold what they name. The parent reserves the slot and copies its
//! holder row *before* the fork (add before remove); other threads that take new holds meanwhile write them into both rows. The
//! private caches are locked over the fork, so the child's copy of them is whole.

use super::{Owner, reserve_place};
use crate::heap::{self, Local, heap, me, set_me};
use crate::sys::fork::{Fork, clone_as_sibling};
use crate::sys::identity::Identity;
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::MutexGuard;

type Guards = (
    MutexGuard<'static, Local>,
    Option<MutexGuard<'static, Vec<(u32, u32)>>>,
);

thread_local! {
    static GUARDS: RefCell<Option<Guards>> = const { RefCell::new(None) };
    static CHILD: Cell<Option<Owner>> = const { Cell::new(None) };
}

/// The participant reserved for the child that this thread forked, or tried to fork, last; told once.
pub(crate) fn forked_child() -> Option<Owner> {
    CHILD.take()
}

/// In a process that was cloned from a single-threaded template (no handlers ran): it shares nothing from now on. What the template held it does not hold:
/// handles it finds in its memory are dead.
pub(crate) fn leave_template() {
    let Some(heap) = heap() else { return };
    heap::lock_local().forget();
    heap.forget_holds();
    heap::set_nobody();
}

/// Makes such a process, which is the one of that name, the participant `owner`, reserved by somebody else. `false`: the place was given up meanwhile.
pub(crate) fn come_up(owner: Owner, identity: Identity) -> bool {
    let came_up = heap().is_some_and(|heap| heap.activate_slot_as(owner, identity));
    if came_up {
        set_me(owner);
    }
    came_up
}

/// [`clone_as_sibling`], after which the child is a participant as after any fork.
pub(crate) fn fork_with_hooks() -> io::Result<Fork> {
    prepare();
    let forked = clone_as_sibling();
    match forked {
        Ok(Fork::Child) => in_child(),
        _ => in_parent(),
    }
    forked
}

/// The three handlers, for tests that run them one by one.
#[cfg(test)]
pub(crate) fn fork_hooks() -> (extern "C" fn(), extern "C" fn(), extern "C" fn()) {
    (prepare, in_parent, in_child)
}

pub(super) extern "C" fn prepare() {
    let Some(heap) = heap() else { return };
    // Before the caches are locked: making room reaps, and reaping frees.
    let child = reserve_place(heap, me()).ok();
    let guards = (heap::lock_local(), heap::lock_known());
    GUARDS.with(|slot| *slot.borrow_mut() = Some(guards));
    if let Some(child) = child {
        heap.begin_fork(child.slot());
    }
    CHILD.set(child);
}

pub(super) extern "C" fn in_parent() {
    if let Some(heap) = heap() {
        heap.end_fork();
        GUARDS.with(|slot| slot.borrow_mut().take());
    }
}

pub(super) extern "C" fn in_child() {
    let Some(heap) = heap() else { return };
    if let Some((mut local, known)) = GUARDS.with(|slot| slot.borrow_mut().take()) {
        local.forget();
        drop((local, known));
    }
    match CHILD.take() {
        Some(child) if heap.activate_slot(child) => {
            set_me(child);
            heap.settle_after_fork();
        }
        // Too many participants, or reaped before it began: it shares nothing. A stray use says so (`heap::me`).
        _ => heap::set_nobody(),
    }
}
