//! Fork: this process is copied, and the copy calls the function, which may therefore capture anything.
//!
//! The child becomes a participant in the fork's own handlers (`family/fork.rs`), with everything held that this process holds.
//! It ends without the exit handlers of this process, whose business they are.

use super::super::bootstrap;
use super::super::builder::{Options, Stdio};
use super::super::error::StartError;
use super::super::process::{Core, Process};
use super::super::{panic, record, setup};
use super::{by_main_thread, family, give_up, no_place, person, refused};
use crate::family::forked_child;
use crate::heap::HeapError;
use crate::sys::fork::{Fork, fork_promised, thread_count};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

pub(in super::super) fn start<R>(
    function: impl FnOnce() -> R,
    mut options: Options,
) -> Result<Process<R>, StartError>
where
    R: Serialize + DeserializeOwned,
{
    let name = options.take_name();
    if options.hook.is_some() {
        return Err(StartError::Unsupported {
            option: "a hook before exec",
        });
    }
    let threads = thread_count().map_err(|error| refused(&name, error))?;
    if threads > 1 && options.promise.is_none() {
        return Err(StartError::MultiThreaded { threads });
    }
    let heap = family(&name)?;
    let record = record::create(&[], &[]).map_err(|source| no_place(&name, source))?;
    let streams = streams(std::mem::take(&mut options.stdio)).map_err(|e| refused(&name, e))?;
    let person = person(&name, options.is_daemon(), by_main_thread());
    // Before the lock below, which a thread that panics may want.
    panic::expect();
    // What is buffered would otherwise be written by both. Held over the fork: the child flushes at its end, and another thread may be printing.
    let mut stdout = io::stdout().lock();
    let _ = stdout.flush();
    // Of a fork that was not ours.
    let _ = forked_child();
    let forked = fork_promised(options.promise);
    drop(stdout);
    let forked = forked.map_err(|error| {
        // There is no child, but there may be a place for it, which holds all that we hold.
        if let Some(owner) = forked_child() {
            give_up(heap, owner);
        }
        refused(&name, error)
    })?;
    match forked {
        Fork::Child => bootstrap::run_forked(record, person, &options.setup, &streams, function),
        Fork::Parent(child) => {
            let Some(owner) = forked_child() else {
                // No place: the child ends by itself.
                let _ = child.pidfd.wait_status();
                let limit = crate::family::MAX_PARTICIPANTS;
                return Err(no_place(&name, HeapError::TooManyParticipants { limit }));
            };
            heap.note_pid(owner, child.pid);
            let who = (name, options.is_daemon());
            Ok(Process::new(Core::new(who, child, owner, record, false)))
        }
    }
}

/// The descriptors to be put in the place of standard streams.
pub(super) fn streams(stdio: [Stdio; 3]) -> io::Result<[Option<OwnedFd>; 3]> {
    let mut streams = [None, None, None];
    for (stream, wanted) in streams.iter_mut().zip(stdio) {
        *stream = match wanted {
            Stdio::Inherit => None,
            Stdio::Null => Some(setup::open_null()?),
            Stdio::Fd(fd) => Some(fd),
        };
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use crate::Process;
    use crate::heap::{Presence, me, the_heap};
    use rustix::process::{Resource, getrlimit, setrlimit};
    use std::io::stdout;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    #[expect(unsafe_code, reason = "a child of a process with several threads")]
    fn a_child_does_not_wait_for_a_thread_that_printed() {
        let (says, hears) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let held = stdout().lock();
                says.send(()).expect("send");
                // Long enough for a fork that does not wait for it.
                std::thread::sleep(Duration::from_millis(50));
                drop(held);
            });
            hears.recv().expect("held");
            // SAFETY: the child uses nothing that another thread of the tests could have left locked.
            let child = unsafe { Process::fork_with_threads(|| 7) }.expect("fork");
            let answer = child.join_timeout(Duration::from_secs(20));
            let _ = child.kill();
            assert_eq!(answer.expect("it ends"), 7);
        });
    }

    #[test]
    #[expect(
        unsafe_code,
        reason = "a child with one thread, whose limits may be changed"
    )]
    fn a_fork_that_fails_leaves_no_place_behind() {
        let test = || {
            let _family = crate::Queue::<u8>::unbounded().expect("queue");
            let limit = getrlimit(Resource::Nofile);
            for _ in 0..20 {
                // No descriptor for the child's pidfd: it is killed, mostly before it came up.
                let mut none = limit;
                none.current = Some(0);
                setrlimit(Resource::Nofile, none).expect("limit");
                assert!(Process::fork(|| ()).is_err());
                setrlimit(Resource::Nofile, limit).expect("limit");
            }
            let heap = the_heap();
            let places = heap.participants().iter();
            let ours = |creator: u32| creator == me().to_word();
            places
                .filter(|place| place.presence().0 == Presence::Starting)
                .filter(|place| ours(place.creator.load(crate::atomic::Ordering::SeqCst)))
                .count()
        };
        // SAFETY: the child uses nothing that another thread of the tests could have left locked.
        let child = unsafe { Process::fork_with_threads(test) }.expect("fork");
        assert_eq!(child.join().expect("result"), 0);
    }
}
