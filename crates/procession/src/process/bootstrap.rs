//! The beginning and the end of a child.

use super::children;
use super::current::{die_with_parent, set};
use super::function::{FAILURE_CODE, Person, Task, fail, perform};
use super::record::{self, Outcome, SharedProcess};
use super::setup::{Setup, apply_stdio};
use super::start::forkserver;
use crate::family::{Invitation, Role, attach, leave};
use crate::heap::{Handle, Shared, myself};
use crate::sys::{elf_hook, env, fork::exit_now};
use rustix::fd::OwnedFd;
use serde::Serialize;
use std::error::Error;
use std::io::{self, Write};

/// Exit code of a child whose place in the family was given up before it came up.
pub(super) const NO_PLACE: i32 = 197;

/// Makes this process the child that it was started as: it runs its function and ends. In a process that was not started by this crate it returns at once.
///
/// To be called first in `main`. Everything before it runs in each spawned child, too. Where `main` is not yours (tests), use
/// [`init_before_main!`](crate::init_before_main).
///
/// # Examples
/// ```
/// fn main() -> Result<(), procession::StartError> {
///     procession::init(); // children go no further
///     procession::Process::start(|()| println!("in the child"), ())?;
///     Ok(()) // waits for the child
/// }
/// ```
///
/// # In Python
/// Needs no call; it is what `if __name__ == "__main__"` guards.
pub fn init() {
    match Invitation::take() {
        None => {}
        Some(Ok(invitation)) => accept(&invitation),
        Some(Err(text)) => refuse(&format!("`{text}` is no invitation into a family")),
    }
}

#[doc(hidden)]
pub fn __init_before_main() {
    elf_hook::run(init);
}

/// Calls [`init()`](crate::init) before `main`, for programs whose `main` is not yours: test binaries, above all. At module level, once.
///
/// The function then runs before Rust's own start of the program: SIGPIPE has its default action, and registries that fill themselves before `main` may be
/// empty. A program with a `main` of its own should call `init()` there.
///
/// # Examples
/// ```
/// procession::init_before_main!();
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let process = procession::Process::start(|x| x + 1, 1)?;
/// assert_eq!(process.join()?, 2);
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! init_before_main {
    () => {
        const _: () = {
            extern "C" fn procession_before_main() {
                $crate::__init_before_main();
            }

            #[used]
            #[unsafe(link_section = ".init_array")]
            static PROCESSION_BEFORE_MAIN: extern "C" fn() = procession_before_main;
        };
    };
}

fn refuse(why: &str) -> ! {
    eprintln!("procession: this process cannot become a child: {why}");
    std::process::exit(NO_PLACE)
}

fn accept(invitation: &Invitation) -> ! {
    env::take_program_name();
    let heap = match env::inherited(invitation.heap) {
        Ok(heap) => heap,
        Err(error) => refuse(&format!("the heap was not passed on: {error}")),
    };
    if let Err(error) = attach(heap, invitation.owner) {
        refuse(&error.to_string());
    }
    match invitation.role {
        Role::Task { record } => std::process::exit(run(record, &[None, None, None])),
        Role::Template { socket } => match env::inherited(socket) {
            Ok(socket) => forkserver::serve(socket),
            Err(error) => refuse(&format!(
                "the forkserver's socket was not passed on: {error}"
            )),
        },
        Role::Guest => refuse("its invitation is for `join_family`"),
    }
}

/// A process cloned from a template: runs its task and ends.
pub(super) fn run_cloned(record: Handle, streams: &[Option<OwnedFd>; 3]) -> ! {
    end_forked(run(record, streams))
}

/// Carries out the order in the record; the exit code.
fn run(record: Handle, streams: &[Option<OwnedFd>; 3]) -> i32 {
    let record = match Shared::<SharedProcess>::open(record) {
        Ok(record) => record,
        Err(error) => {
            eprintln!("procession: the record of this process is gone: {error}");
            return FAILURE_CODE;
        }
    };
    record::mark_running(&record);
    let (task, order) = match Task::take(record.clone()) {
        Ok(taken) => taken,
        Err(why) => return fail(&record, Outcome::UndecodableArguments, &why),
    };
    match settle_in(order.person, order.setup.as_ref(), streams) {
        Ok(()) => task.run(&order.call),
        Err(error) => fail(&record, Outcome::SetupFailed, &chain(&error)),
    }
}

/// A forked process: runs `function` and ends.
pub(super) fn run_forked<R: Serialize>(
    record: Shared<SharedProcess>,
    person: Person,
    setup: &Setup,
    streams: &[Option<OwnedFd>; 3],
    function: impl FnOnce() -> R,
) -> ! {
    if myself().is_none() {
        exit_now(NO_PLACE);
    }
    record::mark_running(&record);
    end_forked(match settle_in(person, Some(setup), streams) {
        Ok(()) => perform(&record, function),
        Err(error) => fail(&record, Outcome::SetupFailed, &chain(&error)),
    })
}

/// Makes this process what its options say.
fn settle_in(
    person: Person,
    setup: Option<&Setup>,
    streams: &[Option<OwnedFd>; 3],
) -> io::Result<()> {
    if person.daemon {
        die_with_parent(&person)?;
    }
    set(person);
    apply_stdio(streams)?;
    setup.map_or(Ok(()), Setup::apply)
}

/// The end of a process that has its exit handlers from somebody else.
fn end_forked(code: i32) -> ! {
    let _ = io::stdout().flush();
    children::end_all();
    leave();
    exit_now(code)
}

/// An error with its causes, in one line.
fn chain(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
