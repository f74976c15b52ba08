//! The engine inside another runtime: places for programs that others execute, siblings, death with the parent, waits that signals end.

use crate::forked::{SOON, forever, fork, until};
use procession::embed::{
    Place, bury, die_with, duplicate, exact_readiness, fork_sibling, forked_as, interruptible,
    is_there, join_family, leave_family, look_around, participant, selective_barrier, take_part,
};
use procession::{Event, GetError, Handle, Lock, Pipe, Queue, RLock, RecvError};
use rustix::event::{PollFd, PollFlags};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const INVITATION: &str = "PROCESSION_TEST_INVITATION";
const QUEUE: &str = "PROCESSION_TEST_QUEUE";

/// Executes this test binary as the program that joins: it runs the test [`guest`] only. A place that was taken is the guest's.
#[expect(unsafe_code, reason = "keeps a descriptor open in the program")]
fn execute(invitation: &str, fd: i32, queue: &Queue<u32>) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().expect("path"));
    command.args(["embed::guest", "--exact", "--ignored", "--test-threads=1"]);
    command
        .env(INVITATION, invitation)
        .env(QUEUE, hex(queue.handle()));
    let keep_open = move || {
        // SAFETY: sets a flag of a descriptor, in the child.
        match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(keep_open) };
    command.stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null());
    command.spawn().expect("execute")
}

fn hex(handle: Handle) -> String {
    format!("{:032x}", u128::from_be_bytes(handle.to_bytes()))
}

fn unhex(text: &str) -> Handle {
    Handle::from_bytes(u128::from_str_radix(text, 16).expect("name").to_be_bytes())
}

#[test]
#[ignore = "the program that the tests execute"]
fn guest() {
    let Ok(invitation) = std::env::var(INVITATION) else {
        return;
    };
    join_family(&invitation).expect("join");
    let queue: Queue<u32> = Queue::open(unhex(&std::env::var(QUEUE).expect("name"))).expect("open");
    queue.put(std::process::id()).expect("put");
    leave_family();
}

#[test]
fn a_program_joins() {
    let queue = Queue::<u32>::new(0).expect("queue");
    let place = Place::reserve().expect("place");
    place.hold(queue.handle());
    let mut child = execute(&place.invitation(), place.fd(), &queue);
    place.taken_by(child.id());
    assert_eq!(queue.get().expect("get"), child.id());
    assert!(child.wait().expect("wait").success());
}

#[test]
fn a_forked_child_s_copy_of_a_place_gives_nothing_up() {
    let queue = Queue::<u32>::new(0).expect("queue");
    let place = Place::reserve().expect("place");
    place.hold(queue.handle());
    let (invitation, fd) = (place.invitation(), place.fd());
    let mut place = Some(place);
    let forked = fork(|| place.take().is_some());
    assert_eq!(forked.join(), 0);
    let mut child = execute(&invitation, fd, &queue);
    place.take().expect("ours").taken_by(child.id());
    assert_eq!(queue.get_timeout(SOON), Ok(child.id()));
    assert!(child.wait().expect("wait").success());
}

#[test]
fn a_place_that_was_given_up_is_refused() {
    let queue = Queue::<u32>::new(0).expect("queue");
    let place = Place::reserve().expect("place");
    let (invitation, fd) = (place.invitation(), place.fd());
    drop(place);
    let status: ExitStatus = execute(&invitation, fd, &queue).wait().expect("wait");
    assert!(!status.success());
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
}

#[test]
fn nonsense_is_no_invitation() {
    for text in ["", "guest", "3.17.guest", "3.1.task.00"] {
        let error = join_family(text).expect_err("nonsense");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{text}");
    }
}

#[test]
#[expect(unsafe_code, reason = "waitpid")]
fn a_sibling_is_a_child_of_the_parent() {
    let queue = Queue::<(u32, u32)>::new(0).expect("queue");
    let inner = queue.clone();
    let template = fork(move || match fork_sibling() {
        Ok(None) => {
            let put = inner.put((std::process::id(), parent_id()));
            leave_family();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if put.is_ok() { 7 } else { 1 }) }
        }
        Ok(Some(_)) => true,
        Err(_) => false,
    });
    assert_eq!(template.join(), 0);
    let (sibling, parent) = queue.get().expect("get");
    assert_eq!(parent, std::process::id());
    let mut status = 0;
    // SAFETY: stores the status in a local.
    let reaped = unsafe { libc::waitpid(sibling.cast_signed(), &raw mut status, 0) };
    assert_eq!(reaped, sibling.cast_signed());
    assert_eq!(
        (libc::WIFEXITED(status), libc::WEXITSTATUS(status)),
        (true, 7)
    );
}

#[test]
fn threads_have_no_siblings() {
    // The test harness has several.
    let error = fork_sibling().expect_err("threads");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
}

/// Whether a process runs; a zombie does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with(['Z', 'X']));
    state == Some(false)
}

#[test]
fn children_die_with_their_parent() {
    for by_main_thread in [true, false] {
        let queue = Queue::<u32>::new(0).expect("queue");
        let inner = queue.clone();
        let parent = fork(move || {
            let me = std::process::id();
            let child = fork(move || {
                let armed = die_with(me, by_main_thread).is_ok();
                armed && inner.put(std::process::id()).is_ok() && forever()
            });
            let _ = child.join();
            false
        });
        let child = queue.get().expect("get");
        assert!(runs(child));
        parent.kill();
        until("the child's death", || !runs(child));
    }
}

#[test]
fn those_who_come_late_die_at_once() {
    let gone = fork(|| true);
    let pid = gone.pid();
    assert_eq!(gone.join(), 0);
    let late = fork(move || die_with(pid, false).is_ok() && forever());
    assert_eq!(late.join(), -libc::SIGKILL);
}

extern "C" fn handler(_: i32) {}

#[test]
fn a_signal_ends_an_interruptible_wait() {
    let queue = Queue::<u32>::new(0).expect("queue");
    let far = Instant::now() + Duration::from_secs(3600);
    rained_upon(|| {
        let got = interruptible(|| queue.get_deadline(far));
        assert!(
            matches!(got, Err(GetError::TimedOut | GetError::Empty)),
            "{got:?}"
        );
    });
    assert!(Instant::now() < far);
}

#[test]
fn only_parties_break_a_selective_barrier() {
    for is_party in [false, true] {
        let barrier = selective_barrier(2).expect("barrier");
        let ready = Queue::<u32>::new(0).expect("queue");
        let (inner, here) = (barrier.clone(), ready.clone());
        let child = fork(move || {
            if is_party {
                take_part(&inner);
            }
            here.put(participant().unwrap_or(0)).is_ok() && forever()
        });
        let one = ready.get().expect("get");
        child.kill();
        until("its end", || !is_there(one));
        bury(child.pid());
        assert_eq!(barrier.is_broken(), is_party);
    }
}

#[test]
fn whoever_has_a_family_joins_no_other() {
    let me = participant().expect("a family");
    let place = Place::reserve().expect("place");
    let error = join_family(&place.invitation()).expect_err("one is enough");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(participant(), Ok(me), "it is who it was");
}

/// Whenever the program that was invited is killed, before, while and after it joins: what was held for it is free again.
#[test]
fn a_guest_killed_at_any_time_leaves_nothing() {
    for delay in (0..40).map(|round| Duration::from_micros(round * round * 20)) {
        let queue = Queue::<u32>::new(0).expect("queue");
        let handle = queue.handle();
        let place = Place::reserve().expect("place");
        place.hold(handle);
        let mut child = execute(&place.invitation(), place.fd(), &queue);
        place.taken_by(child.id());
        let begun = Instant::now();
        while begun.elapsed() < delay {
            std::hint::spin_loop();
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        bury(child.id());
        drop(queue);
        crate::wait_until_gone(|| Queue::<u32>::open(handle));
    }
}

/// Killed at once after the fork, mostly before they have come up, whether their parent tells who they are or not.
#[test]
fn children_killed_at_birth_leave_nothing() {
    for told in [true, false] {
        let queue = Queue::<u32>::new(0).expect("queue");
        let handle = queue.handle();
        for _ in 0..20 {
            let child = fork(forever);
            if told {
                forked_as(child.pid());
            }
            child.kill();
        }
        drop(queue);
        crate::wait_until_gone(|| Queue::<u32>::open(handle));
    }
}

#[test]
fn participants_have_numbers_of_their_own() {
    let numbers = Queue::<u32>::new(0).expect("queue");
    let mine = participant().expect("a family");
    let children: Vec<_> = (0..3)
        .map(|_| {
            let numbers = numbers.clone();
            fork(move || numbers.put(participant().unwrap_or(0)).is_ok() && forever())
        })
        .collect();
    let mut found: Vec<u32> = (0..3).map(|_| numbers.get().expect("a number")).collect();
    assert!(found.iter().all(|one| is_there(*one)));
    children.iter().for_each(super::forked::Forked::kill);
    for one in &found {
        // Not waited for yet: a zombie is not there.
        until("its end", || !is_there(*one));
    }
    found.push(mine);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 4);
    assert!(is_there(mine) && !is_there(0));
}

#[test]
fn who_looks_around_gives_back_what_the_dead_held() {
    let lock = Lock::new().expect("lock");
    let child = fork(|| {
        lock.acquire().into_held();
        forever()
    });
    until("locked", || lock.is_locked());
    look_around();
    assert!(lock.is_locked(), "it lives");
    child.kill();
    until("given back", || {
        look_around();
        !lock.is_locked()
    });
    assert!(lock.acquire().recovered());
}

#[test]
fn a_duplicate_is_the_same_file_under_another_number() {
    let (mut reading, writing) = io::pipe().expect("pipe");
    let copy = duplicate(writing.as_raw_fd()).expect("duplicate");
    assert_ne!(copy.as_raw_fd(), writing.as_raw_fd());
    let flags = rustix::io::fcntl_getfd(&copy).expect("flags");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    drop(writing);
    File::from(copy).write_all(b"x").expect("still open");
    let mut text = String::new();
    // Other tests' children hold copies for a moment: the end comes with theirs.
    reading.read_to_string(&mut text).expect("read");
    assert_eq!(text, "x");
    for number in [-1, i32::MAX] {
        let error = duplicate(number).expect_err("not open");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{number}");
    }
}

/// Nothing to do while signals rain: waits without a limit do not end by them, and with one they do.
#[test]
fn only_waits_with_a_limit_are_interrupted() {
    let lock = Lock::new().expect("lock");
    let rlock = RLock::new().expect("rlock");
    let event = Event::new().expect("event");
    let owner = fork(|| {
        lock.acquire().into_held();
        rlock.acquire().into_held();
        until("interrupted a few times", || event.is_set());
        rlock.release().is_ok() && lock.release().is_ok()
    });
    until("locked", || lock.is_locked() && rlock.is_locked());
    rained_upon(|| {
        let far = Instant::now() + Duration::from_secs(3600);
        for _ in 0..3 {
            assert!(interruptible(|| lock.acquire_deadline(far)).is_err());
        }
        event.set();
        interruptible(|| drop((lock.acquire(), rlock.acquire())));
        assert!(Instant::now() < far);
    });
    assert_eq!(owner.join(), 0);
}

/// Runs `act` in this thread while it gets one signal after the other, which it handles by doing nothing.
#[expect(unsafe_code, reason = "signals")]
fn rained_upon(act: impl FnOnce()) {
    // SAFETY: all zeroes are a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: the handler does nothing; it is without SA_RESTART.
    let set = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    let over = AtomicBool::new(false);
    // SAFETY: names the calling thread.
    let thread = unsafe { libc::pthread_self() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                // SAFETY: the thread waits for this one to end.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        // Also if `act` fails: the scope waits for the other thread.
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        over.store(true, Ordering::SeqCst);
        if let Err(panic) = acted {
            std::panic::resume_unwind(panic);
        }
    });
}

fn readable(fd: &impl AsFd, limit: Duration) -> bool {
    let limit = rustix::event::Timespec::try_from(limit).expect("limit");
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&limit)).expect("poll") != 0
}

fn looks_around() -> bool {
    std::fs::read_dir("/proc/self/task")
        .expect("tasks")
        .any(|task| {
            let name = task.map(|task| std::fs::read_to_string(task.path().join("comm")));
            matches!(name, Ok(Ok(name)) if name.trim() == "procession-look")
        })
}

/// In a process of its own: it holds for all that it does.
#[test]
fn exact_descriptors_say_that_there_is_something() {
    let child = fork(|| {
        exact_readiness();
        let queue = Queue::<u32>::new(0).expect("queue");
        let readiness = queue.readiness().expect("readiness");
        until("the thread", looks_around);
        // An inexact one rings itself five times in so long.
        assert!(!readable(&readiness, Duration::from_secs(1)));
        queue.put(1).expect("put");
        assert!(readable(&readiness, SOON));
        assert_eq!(queue.get(), Ok(1));
        assert!(!readiness.arm().expect("arm") && !readable(&readiness, Duration::ZERO));
        drop(readiness);
        until("the end of the thread", || !looks_around());
        true
    });
    assert_eq!(child.join(), 0);
}

/// Without a wait of anybody, and without a clock in the descriptor.
#[test]
fn exact_descriptors_say_that_a_peer_was_killed() {
    let child = fork(|| {
        exact_readiness();
        let (receiver, sender) = Pipe::one_way::<u32>().expect("pipe");
        let readiness = receiver.readiness().expect("readiness");
        let peer = fork(|| sender.send(1).is_ok() && forever());
        drop(sender);
        assert!(readable(&readiness, SOON));
        assert_eq!(receiver.recv(), Ok(1));
        assert!(!readiness.arm().expect("arm"));
        peer.kill();
        assert!(readable(&readiness, SOON));
        receiver.recv() == Err(RecvError::Eof)
    });
    assert_eq!(child.join(), 0);
}

#[test]
fn a_connection_is_ready_when_it_need_not_wait() {
    let (receiver, sender) = Pipe::one_way::<u32>().expect("pipe");
    assert!(!receiver.is_ready());
    let peer = fork(|| sender.send(1).is_ok() && forever());
    drop(sender);
    until("a message", || receiver.is_ready());
    assert_eq!(receiver.recv(), Ok(1));
    assert!(!receiver.is_ready());
    peer.kill();
    until("the end", || {
        look_around();
        receiver.is_ready()
    });
    assert_eq!(receiver.recv(), Err(RecvError::Eof));
}

#[test]
fn who_polls_hears_of_items_ends_and_deaths() {
    let soon = || Instant::now() + SOON;
    let queue = Queue::<u32>::new(0).expect("queue");
    assert!(!queue.poll_deadline(Instant::now()));
    let putter = fork(|| queue.put(5).is_ok());
    assert!(queue.poll_deadline(soon()) && queue.poll_deadline(Instant::now()));
    assert_eq!((queue.get(), putter.join()), (Ok(5), 0));
    let closer = fork(|| {
        queue.close();
        true
    });
    assert!(queue.poll_deadline(soon()));
    assert_eq!(closer.join(), 0);
    let (receiver, sender) = Pipe::one_way::<u32>().expect("pipe");
    let peer = fork(|| sender.send(1).is_ok() && forever());
    drop(sender);
    assert!(receiver.poll_deadline(soon()));
    assert_eq!(receiver.recv(), Ok(1));
    peer.kill();
    assert!(receiver.poll_deadline(soon()) && receiver.is_ready());
    assert_eq!(receiver.recv(), Err(RecvError::Eof));
}
