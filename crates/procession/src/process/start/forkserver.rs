//! Forkserver: a template of this program, executed once and kept warm, forks when asked.
//!
//! One template per process, started at the first need, single-threaded, with no user state: it never leaves `init()`. A request is one message: the record and
//! the place of the new process; all else is in the record's order. The template forks *as our child* (`sys::fork::clone_as_sibling`) and answers
//! with the pid. It ends when the last copy of our end of the socket is closed, that is, with us.
//!
//! # When the template dies
//! Before it forked: the place is given up (that must succeed before anything else is tried, so that a child which is just coming up finds its place gone and ends) and the
//! start is tried once more with a new template. After it forked: the child has come up or will find its place gone; in the first case the pid is in the
//! participant table and the start has succeeded.

use super::super::bootstrap;
use super::super::builder::Options;
use super::super::children::state;
use super::super::error::StartError;
use super::super::process::Core;
use super::super::record::SharedProcess;
use super::super::setup;
use super::fork::streams;
use super::spawn::execute;
use super::{by_main_thread, family, give_up, order, person, place, refused};
use crate::family::{Invitation, Owner, Role, become_participant, reserve_place};
use crate::heap::{Handle, Heap, Presence, Shared, me};
use crate::sys::fork::{Fork, adopt, clone_as_sibling};
use crate::sys::object::locate;
use crate::sys::pidfd::Child;
use crate::sys::{error::failed, socket};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
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
/// The answer: a pid, or minus an error number.
const ANSWER: usize = 4;

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
        let person = person(&name, options.daemon, running.by_main_thread);
        // Made anew for a second attempt: a child that died early may have taken the first one's order.
        let record = order(function, arguments, person, Some(options.setup.clone()))?;
        let owner = place(heap, &name, &record)?;
        match running.ask(heap, owner, &record, &streams) {
            Ok(child) => {
                heap.note_pid(owner, child.pid);
                drop(template);
                let who = (name, options.daemon);
                return Ok(Core::new(who, child, owner, record, false));
            }
            Err(Refusal::NotForked(error)) => {
                give_up(heap, owner);
                return Err(refused(&name, error));
            }
            Err(Refusal::Dead(error)) => {
                give_up(heap, owner);
                bury(heap, template.take());
                last = Some(error);
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

/// Why there is no child.
enum Refusal {
    /// The template said so.
    NotForked(io::Error),
    /// The template does not answer; what it was asked for was undone.
    Dead(io::Error),
}

impl Template {
    fn ask(
        &self,
        heap: &Heap,
        owner: Owner,
        record: &Shared<SharedProcess>,
        streams: &[Option<OwnedFd>; 3],
    ) -> Result<Child, Refusal> {
        let (fds, mask) = setup::passed(streams);
        match self.request(owner, record.handle(), &fds, mask) {
            Ok(pid) if pid > 0 => adopt(pid).map_err(Refusal::NotForked),
            Ok(errno) => {
                let cause = io::Error::from_raw_os_error(-errno);
                Err(Refusal::NotForked(failed(
                    "fork the forkserver's template",
                    cause,
                )))
            }
            Err(error) => match orphan(heap, owner) {
                Some(pid) => adopt(pid).map_err(Refusal::NotForked),
                None => Err(Refusal::Dead(failed("ask the forkserver", error))),
            },
        }
    }

    fn request(
        &self,
        owner: Owner,
        record: Handle,
        fds: &[BorrowedFd<'_>],
        mask: u8,
    ) -> io::Result<i32> {
        let mut request = [0; REQUEST];
        request[..4].copy_from_slice(&owner.to_word().to_le_bytes());
        request[4..20].copy_from_slice(&record.to_bytes());
        request[20] = mask;
        socket::send(&self.socket, &request, fds)?;
        let mut answer = [0; ANSWER];
        match socket::receive(&self.socket, &mut answer)? {
            (ANSWER, _) => Ok(i32::from_le_bytes(answer)),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }
}

/// The pid of a child whose template died before it could tell, if the child came up. If not, it never will.
fn orphan(heap: &Heap, owner: Owner) -> Option<i32> {
    if heap.abandon_slot(owner) {
        return None;
    }
    let participant = &heap.participants()[owner.slot()];
    let is_live = participant.presence() == (Presence::Live, owner.generation());
    let pid = participant.identity().filter(|_| is_live)?.pid;
    i32::try_from(pid).ok()
}

/// The template's life: forks until its parent is gone. Children leave this function by running their task.
pub(in super::super) fn serve(socket: OwnedFd) -> ! {
    // What every child would find out anew: where this program's code lies.
    let _ = locate(serve as fn(OwnedFd) -> ! as usize);
    loop {
        let mut request = [0; REQUEST];
        let (owner, record, fds, mask) = match socket::receive(&socket, &mut request) {
            Ok((REQUEST, fds)) => {
                let [a, b, c, d, rest @ ..] = request;
                let mut record = [0; 16];
                record.copy_from_slice(&rest[..16]);
                let owner = Owner::from_word(u32::from_le_bytes([a, b, c, d]));
                (owner, Handle::from_bytes(record), fds, request[20])
            }
            // The parent is gone.
            _ => std::process::exit(0),
        };
        let answer = match (owner, clone_as_sibling()) {
            (Some(owner), Ok(Fork::Child)) => {
                drop(socket);
                if !become_participant(owner) {
                    crate::sys::fork::exit_now(bootstrap::NO_PLACE);
                }
                bootstrap::run_cloned(record, &setup::unpassed(fds, mask))
            }
            (None, Ok(Fork::Child)) => crate::sys::fork::exit_now(bootstrap::NO_PLACE),
            (_, Ok(Fork::Parent(child))) => i32::try_from(child.pid).unwrap_or(-1),
            (_, Err(error)) => -crate::sys::error::errno(&error).unwrap_or(1),
        };
        if socket::send(&socket, &answer.to_le_bytes(), &[]).is_err() {
            std::process::exit(0);
        }
    }
}
