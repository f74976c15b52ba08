//! The engine inside another runtime: places for programs that others execute, siblings, death with the parent, waits that signals end.

use crate::forked::{forever, fork, until};
use procession::embed::{
    Place, bury, die_with, fork_sibling, interruptible, is_there, join_family, leave_family,
    participant, selective_barrier, take_part,
};
use procession::{GetError, Handle, Queue};
use std::io;
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
#[expect(unsafe_code, reason = "signals")]
fn a_signal_ends_an_interruptible_wait() {
    // SAFETY: all zeroes are a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: the handler does nothing; it is without SA_RESTART.
    let set = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    let queue = Queue::<u32>::new(0).expect("queue");
    let far = Instant::now() + Duration::from_secs(3600);
    let over = AtomicBool::new(false);
    // SAFETY: names the calling thread.
    let waiting = unsafe { libc::pthread_self() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                // SAFETY: the thread waits for this one to end.
                unsafe { libc::pthread_kill(waiting, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let got = interruptible(|| queue.get_deadline(far));
        over.store(true, Ordering::SeqCst);
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
