//! Forkserver: a template of this program, executed once and kept warm, and always one clone of it that is ready for an order.
//!
//! One template per process, started at the first need, single-threaded, with no user state: it never leaves `init()`. It forks a *spare* ahead of time: a
//! clone of itself, but *our child* (`sys::fork::clone_as_sibling`), that comes up as far as it can without knowing what for, tells us that it is ready, and
//! sleeps on the socket. A start sends it one message: the record and the place of the new process; all else is in the record's order. So a start waits for
//! no fork, if the last one was not just now. When the spare has taken its order it rings, and the template forks the next.
//!
//! ```text
//! spare:  forked -> READY sent -> order taken, rung -> participant, runs its task
//! ```
//!
//! Template and spare end when the last copy of our end of the socket is closed, that is, with us. There is never more than one spare, and only spares read orders,
//! so each order is read by the spare whose readiness was read before it. Until then the spare is no participant, holds nothing and writes nothing shared.
//!
//! # When one of them dies
//! - The spare, before it took an order: the template tells us (its pidfd comes along, so that we can reap it whatever became of its pid) and ends. The next start
//!   finds the end of file, and makes a new template. An order that was sent to it meanwhile is a process that was killed before it came up: `join` says so.
//! - The template: the spare serves one more order, if it had come up; then the end of file. If it was killed before it sent READY, too, nobody knows
//!   its pid: the zombie stays until we end.
//! - We: end of file for both.

use super::super::bootstrap;
use super::super::builder::Options;
use super::super::children::state;
use super::super::error::StartError;
use super::super::panic;
use super::super::process::Core;
use super::super::record::SharedProcess;
use super::super::setup;
use super::fork::streams;
use super::spawn::execute;
use super::{by_main_thread, family, give_up, order, person, place, refused};
use crate::family::{Invitation, Owner, Role, come_up, leave_template, reserve_place};
use crate::heap::{Handle, Heap, Shared, me, the_heap};
use crate::sys::error::{errno, failed};
use crate::sys::fork::{Fork, adopt, clone_as_sibling, exit_now};
use crate::sys::identity::Identity;
use crate::sys::object::locate;
use crate::sys::pidfd::{Child, Pidfd};
use crate::sys::socket;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The template process, from its parent's side.
#[derive(Debug)]
pub(in super::super) struct Template {
    socket: OwnedFd,
    child: Child,
    owner: Owner,
    /// Our main thread started it, and so, to the kernel, is the parent of all it forks.
    by_main_thread: bool,
}

/// A request: owner, record, which standard streams come with it.
const REQUEST: usize = 4 + 16 + 1;

/// What comes up the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// A spare, from itself.
    Ready(Identity),
    /// The spare has died, says the template; the pidfd comes along.
    Dead,
    /// There is no spare, for this error of the system.
    Failed(i32),
}

impl News {
    const LEN: usize = 1 + 4 + 8;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let (kind, number, started) = match self {
            Self::Ready(spare) => (0, spare.pid, spare.started),
            Self::Dead => (1, 0, 0),
            Self::Failed(errno) => (2, errno.cast_unsigned(), 0),
        };
        let mut bytes = [kind; Self::LEN];
        bytes[1..5].copy_from_slice(&number.to_le_bytes());
        bytes[5..].copy_from_slice(&started.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        let [kind, a, b, c, d, started @ ..] = bytes;
        let number = u32::from_le_bytes([a, b, c, d]);
        match kind {
            0 => Some(Self::Ready(Identity {
                pid: number,
                started: u64::from_le_bytes(started),
            })),
            1 => Some(Self::Dead),
            2 => Some(Self::Failed(number.cast_signed())),
            _ => None,
        }
    }
}

pub(super) fn start<A, R>(
    function: fn(A) -> R,
    arguments: &A,
    mut options: Options,
) -> Result<Arc<Core>, StartError>
where
    A: Serialize + DeserializeOwned,
    R: Serialize,
{
    let name = options.take_name();
    if options.hook.is_some() {
        return Err(StartError::Unsupported {
            option: "a hook before exec",
        });
    }
    let heap = family(&name)?;
    let streams = streams(std::mem::take(&mut options.stdio)).map_err(|e| refused(&name, e))?;
    let template = template_of_this_process();
    let mut template = template.lock().unwrap_or_else(PoisonError::into_inner);
    let mut last = None;
    for _ in 0..2 {
        let running = match &mut *template {
            Some(running) => running,
            empty => empty.insert(launch(heap).map_err(|error| refused(&name, error))?),
        };
        let person = person(&name, options.is_daemon(), running.by_main_thread);
        // Made anew for a second attempt: another thread may have started the template.
        let record = order(function, arguments, person, Some(options.setup.clone()))?;
        let owner = place(heap, &name, &record)?;
        match running.hand_over(heap, owner, &record, &streams) {
            Ok(child) => {
                drop(template);
                let who = (name, options.is_daemon());
                return Ok(Core::new(who, child, owner, record, false));
            }
            Err(error) => {
                give_up(heap, owner);
                bury(heap, template.take());
                last = Some(failed("ask the forkserver", error));
            }
        }
    }
    Err(refused(
        &name,
        last.unwrap_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe)),
    ))
}

fn template_of_this_process() -> Arc<Mutex<Option<Template>>> {
    Arc::clone(state().template.get_or_insert_default())
}

/// Starts a template.
fn launch(heap: &'static Heap) -> io::Result<Template> {
    let (ours, theirs) = socket::pair()?;
    let reserved = reserve_place(heap, me());
    let owner = reserved.map_err(|error| {
        failed(
            "reserve a place for the forkserver",
            io::Error::other(error),
        )
    })?;
    let mut options = Options::default();
    let invitation = Invitation {
        heap: heap.fd().as_raw_fd(),
        owner,
        role: Role::Template {
            socket: theirs.as_raw_fd(),
        },
    };
    match execute(heap, &invitation, &mut options, Some(theirs.as_fd())) {
        Ok(child) => {
            heap.note_pid(owner, child.pid);
            Ok(Template {
                socket: ours,
                child,
                owner,
                by_main_thread: by_main_thread(),
            })
        }
        Err(error) => {
            give_up(heap, owner);
            Err(error)
        }
    }
}

/// Reaps a template that does not answer any more.
fn bury(heap: &'static Heap, template: Option<Template>) {
    let Some(template) = template else { return };
    let _ = template.child.pidfd.send_signal(crate::sys::signal::KILL);
    let _ = template.child.pidfd.wait(None);
    give_up(heap, template.owner);
    template.child.pidfd.exit_status();
}

impl Template {
    /// Gives the spare its order.
    fn hand_over(
        &self,
        heap: &Heap,
        owner: Owner,
        record: &Shared<SharedProcess>,
        streams: &[Option<OwnedFd>; 3],
    ) -> io::Result<Child> {
        let (spare, identity) = self.spare()?;
        // The name first: if it dies before it comes up, others can prove it.
        heap.note_identity(owner, identity);
        let (fds, mask) = setup::passed(streams);
        let mut request = [mask; REQUEST];
        request[..4].copy_from_slice(&owner.to_word().to_le_bytes());
        request[4..20].copy_from_slice(&record.handle().to_bytes());
        match socket::send(&self.socket, &request, &fds) {
            Ok(()) => Ok(spare),
            Err(error) => {
                let _ = spare.pidfd.send_signal(crate::sys::signal::KILL);
                let _ = spare.pidfd.wait_status();
                Err(error)
            }
        }
    }

    /// The process that is ready for an order. Waits for it if it was only just forked.
    fn spare(&self) -> io::Result<(Child, Identity)> {
        loop {
            let mut news = [0; News::LEN];
            let (len, fds) = socket::receive(&self.socket, &mut news)?;
            match News::from_bytes(news).filter(|_| len == News::LEN) {
                Some(News::Ready(identity)) => {
                    if let Some(child) = alive(identity)? {
                        return Ok((child, identity));
                    }
                }
                Some(News::Dead) => fds.into_iter().map(Pidfd::from).for_each(|spare| {
                    spare.exit_status();
                }),
                Some(News::Failed(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            }
        }
    }
}

/// Takes charge of a spare. `None`: it has died meanwhile.
fn alive(spare: Identity) -> io::Result<Option<Child>> {
    let Ok(pid) = i32::try_from(spare.pid) else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    match adopt(pid) {
        Ok(child) => Ok(child.pidfd.exit_status().is_none().then_some(child)),
        // Somebody else reaped it.
        Err(error) if errno(&error).is_none_or(|number| number == Errno::SRCH.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The template's life: always keeps one spare, until its parent is gone. Spares leave this function by running their task.
pub(in super::super) fn serve(socket: OwnedFd) -> ! {
    rehearse();
    let error = match eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) {
        Err(error) => io::Error::from(error),
        Ok(taken) => loop {
            match clone_as_sibling() {
                Ok(Fork::Child) => stand_by(socket, taken),
                Ok(Fork::Parent(spare)) => {
                    the_heap().note_ward(me(), Identity::of(spare.pid));
                    if !wait_until_taken(&socket, &taken, &spare) {
                        std::process::exit(0);
                    }
                }
                Err(error) => break error,
            }
        },
    };
    let number = errno(&error).unwrap_or(Errno::AGAIN.raw_os_error());
    let _ = socket::send(&socket, &News::Failed(number).to_bytes(), &[]);
    std::process::exit(0)
}

/// What every child would do anew, or for the first time.
fn rehearse() {
    // Where this program's code lies.
    let _ = locate(serve as fn(OwnedFd) -> ! as usize);
    panic::rehearse();
}

/// `false`: the parent is gone, or the spare has died before it had an order.
fn wait_until_taken(socket: &OwnedFd, taken: &OwnedFd, spare: &Child) -> bool {
    loop {
        let mut fds = [
            PollFd::new(taken, PollFlags::IN),
            PollFd::new(&spare.pidfd, PollFlags::IN),
            // Only whether it is closed: what comes in is for the spare.
            PollFd::new(socket, PollFlags::empty()),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
        let [_, has_died, is_closed] = fds.map(|fd| !fd.revents().is_empty());
        // First: a spare may have taken an order and ended long ago.
        if rustix::io::read(taken, &mut [0u8; 8]).is_ok() {
            return true;
        }
        if has_died {
            let _ = socket::send(socket, &News::Dead.to_bytes(), &[spare.pidfd.as_fd()]);
        }
        if has_died || is_closed {
            return false;
        }
    }
}

/// The spare: comes up as far as it can, waits for its order, and carries it out.
fn stand_by(socket: OwnedFd, taken: OwnedFd) -> ! {
    leave_template();
    the_heap().touch();
    let identity = Identity::current();
    if socket::send(&socket, &News::Ready(identity).to_bytes(), &[]).is_err() {
        exit_now(0);
    }
    let mut request = [0; REQUEST];
    let Ok((REQUEST, fds)) = socket::receive(&socket, &mut request) else {
        // The parent is gone.
        exit_now(0)
    };
    // The template need not wait for us to end.
    let _ = rustix::io::write(&taken, &1u64.to_ne_bytes());
    drop((socket, taken));
    let [a, b, c, d, record @ .., mask] = request;
    let owner = Owner::from_word(u32::from_le_bytes([a, b, c, d]));
    if !owner.is_some_and(|owner| come_up(owner, identity)) {
        exit_now(bootstrap::NO_PLACE);
    }
    bootstrap::run_cloned(Handle::from_bytes(record), &setup::unpassed(fds, mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_survive_the_journey() {
        let spare = Identity {
            pid: 4711,
            started: u64::MAX / 3,
        };
        for news in [News::Ready(spare), News::Dead, News::Failed(11)] {
            assert_eq!(News::from_bytes(news.to_bytes()), Some(news));
        }
        assert_eq!(News::from_bytes([9; News::LEN]), None);
    }
}
