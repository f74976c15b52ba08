//! What a parent hands to a child that it executes: the heap's descriptor, the place reserved for it, and what to do.
//!
//! It travels in one environment variable, because the environment survives what arguments do not: the child gets its parent's own arguments, and
//! a `main` that we do not control (libtest's) may read them. [`Invitation::take`] removes the variable, so that programs that the
//! child executes never see it.
//!
//! # Forgotten `init()`
//! A program that starts children but never takes the invitation would run its `main` again in each child. The first thing that would go wrong
//! is that it founds a family of its own (any use of a shared object does); that is refused: [`Invitation::refuse_to_ignore`].

use super::Owner;
use crate::heap::Handle;
use crate::sys::env;
use std::fmt;
use std::os::fd::RawFd;

/// The variable. Its value is `role.fd.extra.owner.object`.
const VARIABLE: &str = "PROCESSION_CHILD";

/// The exit code of a child that ignored its invitation.
const IGNORED: i32 = 198;

/// What the child is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs the task of the process object.
    Task {
        /// The record.
        record: Handle,
    },
    /// Is a template: forks when asked through this socket.
    Template {
        /// Number of the descriptor.
        socket: RawFd,
    },
    /// Whatever the runtime around the engine has it do.
    Guest,
}

/// An invitation to join a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invitation {
    /// Number of the heap's descriptor.
    pub(crate) heap: RawFd,
    /// The place reserved for the child.
    pub(crate) owner: Owner,
    /// What it is to do.
    pub(crate) role: Role,
}

impl fmt::Display for Invitation {
    /// As an entry of an environment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VARIABLE}={}", self.text())
    }
}

impl Invitation {
    /// The invitation by itself, for [`Self::parse`].
    pub(crate) fn text(&self) -> String {
        let role = match self.role {
            Role::Template { socket } => format!("template.{socket}"),
            Role::Task { record } => {
                format!("task.{:032x}", u128::from_be_bytes(record.to_bytes()))
            }
            Role::Guest => "guest.".to_owned(),
        };
        format!("{}.{}.{role}", self.heap, self.owner.to_word())
    }

    /// The invitation of this process, if it has one; once. `Err` holds a text that is no invitation.
    pub(crate) fn take() -> Option<Result<Self, String>> {
        let text = env::take(VARIABLE)?;
        let text = text.to_string_lossy();
        Some(Self::parse(&text).ok_or_else(|| text.into_owned()))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let heap = parts.next()?.parse().ok()?;
        let owner = Owner::from_word(parts.next()?.parse().ok()?)?;
        let role = match (parts.next()?, parts.next()?) {
            ("template", socket) => Role::Template {
                socket: socket.parse().ok()?,
            },
            ("task", record) => Role::Task {
                record: Handle::from_bytes(u128::from_str_radix(record, 16).ok()?.to_be_bytes()),
            },
            ("guest", "") => Role::Guest,
            _ => return None,
        };
        Some(Self { heap, owner, role })
    }

    /// Ends this process if it has an invitation that it did not take.
    pub(crate) fn refuse_to_ignore() {
        if std::env::var_os(VARIABLE).is_some() {
            eprintln!(
                "procession: this process was started to run a function, but its `main` did not call `procession::init()` first \
                 (in a test binary: `procession::init_before_main!()`)"
            );
            std::process::exit(IGNORED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_journey() {
        let owner = Owner::new(5, 77);
        let record = Handle::from_bytes([7; 16]);
        for role in [
            Role::Task { record },
            Role::Template { socket: 9 },
            Role::Guest,
        ] {
            let invitation = Invitation {
                heap: 4,
                owner,
                role,
            };
            let text = invitation.to_string();
            let (name, value) = text.split_once('=').expect("a pair");
            assert_eq!(name, VARIABLE);
            let Some(read) = Invitation::parse(value) else {
                panic!("{value}")
            };
            assert_eq!((read.heap, read.owner), (4, owner));
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn rejects_nonsense() {
        for text in [
            "",
            "1",
            "1.0.task.00",
            "1.5.dance.1",
            "x.5.task.00",
            "1.5.task.zz",
            "1.5.template.-",
            "1.5.guest.x",
        ] {
            assert_eq!(Invitation::parse(text), None, "{text}");
        }
    }
}
