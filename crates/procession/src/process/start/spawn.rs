//! Spawn: this program is executed again, with an invitation into the family.

use super::super::builder::{Options, Stdio};
use super::super::error::StartError;
use super::super::process::Core;
use super::{by_main_thread, family, give_up, order, person, place, refused};
use crate::family::{Invitation, Role};
use crate::heap::Heap;
use crate::sys::pidfd::Child;
use crate::sys::set_once::SetOnce;
use crate::sys::spawn::{self, Launch, SELF_EXE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

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
    let heap = family(&name)?;
    let person = person(&name, options.is_daemon(), by_main_thread());
    let record = order(function, arguments, person, None)?;
    let owner = place(heap, &name, &record)?;
    let invitation = Invitation {
        heap: heap.fd().as_raw_fd(),
        owner,
        role: Role::Task {
            record: record.handle(),
        },
    };
    match execute(heap, &invitation, &mut options, None) {
        Ok(child) => {
            heap.note_pid(owner, child.pid);
            Ok(Core::new(
                (name, options.is_daemon()),
                child,
                owner,
                record,
                true,
            ))
        }
        Err(error) => {
            give_up(heap, owner);
            Err(refused(&name, error))
        }
    }
}

/// Executes this program with an invitation, and for a template its socket.
pub(super) fn execute(
    heap: &Heap,
    invitation: &Invitation,
    options: &mut Options,
    socket: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    let mut environment = options.setup.environment_for_exec();
    environment.extend(CString::new(invitation.to_string()));
    let directory = options.setup.directory.take().map(OsStringExt::into_vec);
    let directory = directory.map(CString::new).transpose()?;
    let mut launch = Launch::new(SELF_EXE, own_arguments(), &environment);
    // Under their own numbers: nothing else that the child inherits has those.
    let fds: Vec<_> = [Some(heap.fd()), socket]
        .into_iter()
        .flatten()
        .map(|fd| (fd, fd.as_raw_fd()))
        .collect();
    launch.fds = &fds;
    launch.directory = directory.as_deref();
    launch.new_group = options.setup.new_group;
    launch.stdio = options.stdio.each_ref().map(|stream| match stream {
        Stdio::Inherit => spawn::Stdio::Inherit,
        Stdio::Null => spawn::Stdio::Null,
        Stdio::Fd(fd) => spawn::Stdio::Fd(fd.as_fd()),
    });
    let limits = options.setup.rlimits();
    match &mut options.hook {
        Some(hook) => launch.spawn_hooked(&limits, hook),
        None if limits.is_empty() => launch.spawn(),
        None => launch.spawn_limited(&limits),
    }
}

/// A child gets the arguments of its parent: a function that looks at them sees what it would see here.
fn own_arguments() -> &'static [CString] {
    static ARGUMENTS: SetOnce<Vec<CString>> = SetOnce::new();
    ARGUMENTS.get_or_make(|| {
        std::env::args_os()
            .filter_map(|argument| CString::new(argument.into_vec()).ok())
            .collect()
    })
}
