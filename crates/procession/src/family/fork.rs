//! A forked child becomes a participant of its own before it touches anything shared, whoever forked.
//!
//! The child's memory holds copies of the parent's handles, so the child must hold what they name. The parent reserves the slot and copies its
//! holder row *before* the fork (add before remove); other threads that take new holds meanwhile write them into both rows. The
//! private caches are locked over the fork, so the child's copy of them is whole; and nobody is halfway through becoming a member.

use super::membership::lock_founding;
use super::{Owner, reap_dead, reserve_place};
use crate::heap::{self, Heap, Local, heap, myself, set_me};
use crate::sys::atfork::Handlers;
use crate::sys::fork::{Fork, clone_as_sibling};
use crate::sys::identity::Identity;
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::MutexGuard;

type Caches = (
    MutexGuard<'static, Local>,
    Option<MutexGuard<'static, Vec<(u32, u32)>>>,
);

/// What is held over a fork.
struct Guards {
    _founding: MutexGuard<'static, ()>,
    /// `None`: there is no family.
    caches: Option<Caches>,
}

static HANDLERS: Handlers = Handlers::new(prepare, in_parent, in_child);

thread_local! {
    static GUARDS: RefCell<Option<Guards>> = const { RefCell::new(None) };
    static CHILD: Cell<Option<Owner>> = const { Cell::new(None) };
}

/// Has forks handled: by the family, and then, when the child is somebody, by `handlers`.
pub(crate) fn mind_forks(handlers: &'static Handlers) {
    // Fails only for lack of memory; then forked children are none of the family, and use locks that another thread may have held.
    let _ = mind_own_forks().and_then(|()| handlers.register());
}

pub(super) fn mind_own_forks() -> Result<(), Errno> {
    HANDLERS.register()
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
    if let Ok(Fork::Child) = forked {
        in_child();
        return forked;
    }
    // Before anybody is told that the fork is over: what came of it, which is no child of ours.
    let place = heap().zip(CHILD.get());
    match (place, &forked) {
        (Some((heap, owner)), Ok(Fork::Parent(child))) => heap.note_pid(owner, child.pid),
        (Some((heap, owner)), _) => heap.note_death(owner),
        _ => {}
    }
    in_parent();
    if let (Some((heap, _)), Err(_)) = (place, &forked) {
        reap_dead(heap);
    }
    forked
}

/// Says that the process `pid` is what this thread forked last: where it dies before it has come up, others can prove it at once.
pub(crate) fn forked_as(pid: u32) {
    if let Some((heap, owner)) = heap().zip(forked_child()) {
        heap.note_pid(owner, pid);
    }
}

/// The three handlers, for tests that run them one by one.
#[cfg(test)]
pub(crate) fn fork_hooks() -> (extern "C" fn(), extern "C" fn(), extern "C" fn()) {
    (prepare, in_parent, in_child)
}

extern "C" fn prepare() {
    // Registered twice, it runs twice.
    if GUARDS.with_borrow(Option::is_some) {
        return;
    }
    CHILD.set(None);
    let founding = lock_founding();
    let caches = heap().map(begin);
    GUARDS.set(Some(Guards {
        _founding: founding,
        caches,
    }));
}

/// Reserves a place for the child, and keeps others from what it will find.
fn begin(heap: &'static Heap) -> Caches {
    // Before the caches are locked: making room reaps, and reaping frees. Who is nobody itself has no place to give.
    let child = myself().and_then(|me| reserve_place(heap, me).ok());
    let caches = (heap::lock_local(), heap::lock_known());
    if let Some(child) = child {
        heap.note_forking(child);
        heap.begin_fork(child.slot());
    }
    CHILD.set(child);
    caches
}

extern "C" fn in_parent() {
    let Some(guards) = GUARDS.take() else { return };
    if let Some(heap) = heap() {
        heap.end_fork();
        if let Some(child) = CHILD.get() {
            heap.note_forked(child);
        }
    }
    drop(guards);
}

extern "C" fn in_child() {
    let Some(guards) = GUARDS.take() else { return };
    let Some((mut local, known)) = guards.caches else {
        return;
    };
    local.forget();
    drop((local, known));
    let Some(heap) = heap() else { return };
    match CHILD.take() {
        Some(child) if heap.activate_slot(child) => {
            set_me(child);
            heap.settle_after_fork();
        }
        // Too many participants, or reaped before it began: it shares nothing. A stray use says so (`heap::me`).
        _ => heap::set_nobody(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::join;
    use crate::heap::Presence;
    use crate::sys::atfork::child_comes_through;
    use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
    use std::time::{Duration, Instant};

    /// As a fork by somebody who tells no pid, whose child stops, or is busy elsewhere, before the handlers have run in it.
    #[expect(unsafe_code, reason = "fork without handlers")]
    fn fork_one_that_does_not_come_up() -> (Pid, Owner) {
        unsafe extern "C" {
            fn _Fork() -> libc::pid_t;
        }
        prepare();
        // SAFETY: the child makes one system call, again and again.
        let pid = match unsafe { _Fork() } {
            0 => loop {
                // SAFETY: no preconditions.
                unsafe { libc::pause() };
            },
            pid => Pid::from_raw(pid).expect("fork"),
        };
        in_parent();
        (pid, forked_child().expect("a place"))
    }

    #[test]
    fn one_that_never_came_up_is_found_once_it_is_dead() {
        let heap = join().expect("family");
        let (pid, owner) = fork_one_that_does_not_come_up();
        for _ in 0..10 {
            assert!(!heap.has_left(owner), "it lives");
        }
        let participant = &heap.participants()[owner.slot()];
        let starting = (Presence::Starting, owner.generation());
        assert_eq!(participant.presence(), starting);
        kill_process(pid, Signal::KILL).expect("kill");
        // Other tests' children, of whom it cannot be told yet that they are others, delay the proof.
        let patience = Instant::now() + Duration::from_secs(20);
        while !heap.has_left(owner) {
            assert!(Instant::now() < patience, "not found");
        }
        waitpid(Some(pid), WaitOptions::empty()).expect("wait");
        reap_dead(heap);
        assert!(heap.is_known_gone(owner));
    }

    #[test]
    #[expect(unsafe_code, reason = "fork")]
    fn one_that_has_not_come_up_outlives_its_parent() {
        let heap = join().expect("family");
        let test = || {
            let (pid, owner) = fork_one_that_does_not_come_up();
            (pid.as_raw_nonzero().get(), owner.to_word())
        };
        // SAFETY: the child uses nothing that another thread of the tests could have left locked.
        let parent = unsafe { crate::Process::fork_with_threads(test) }.expect("fork");
        let (pid, owner) = parent.join().expect("result");
        let (pid, owner) = (Pid::from_raw(pid), Owner::from_word(owner));
        let (pid, owner) = pid.zip(owner).expect("a child");
        for _ in 0..10 {
            assert!(!heap.is_gone(owner) && !heap.has_left(owner), "it lives");
        }
        kill_process(pid, Signal::KILL).expect("kill");
        let patience = Instant::now() + Duration::from_secs(20);
        while !heap.has_left(owner) {
            assert!(Instant::now() < patience, "not found");
        }
        reap_dead(heap);
        assert!(heap.is_known_gone(owner));
    }

    #[test]
    fn one_whose_name_was_told_is_found_at_once() {
        let heap = join().expect("family");
        let (pid, owner) = fork_one_that_does_not_come_up();
        CHILD.set(Some(owner));
        forked_as(pid.as_raw_nonzero().get().cast_unsigned());
        assert!(!heap.is_gone(owner), "it lives");
        kill_process(pid, Signal::KILL).expect("kill");
        waitpid(Some(pid), WaitOptions::empty()).expect("wait");
        assert!(heap.is_gone(owner));
    }

    #[test]
    fn a_child_does_not_wait_for_one_that_founds() {
        mind_own_forks().expect("handlers");
        assert!(child_comes_through(lock_founding, || drop(lock_founding())));
    }

    #[test]
    fn handlers_that_were_registered_twice_run_once() {
        let heap = join().expect("family");
        prepare();
        let child = CHILD.get().expect("a place");
        prepare();
        assert_eq!(CHILD.get(), Some(child));
        heap.note_death(child);
        in_parent();
        in_parent();
        assert_eq!(forked_child(), Some(child));
        drop((lock_founding(), heap::lock_local()));
        reap_dead(heap);
    }

    #[test]
    fn who_got_no_place_can_fork() {
        let _family = join().expect("family");
        let act = || {
            heap::set_nobody();
            assert!(child_comes_through(|| (), || assert!(myself().is_none())));
        };
        assert!(child_comes_through(|| (), act));
    }

    #[test]
    fn a_fork_that_is_refused_leaves_no_place() {
        let heap = join().expect("family");
        // The tests have several threads.
        assert!(fork_with_hooks().is_err());
        let owner = forked_child().expect("a place");
        assert!(heap.is_known_gone(owner));
    }
}
