//! What can go wrong between a client and its server.

use super::remote::Address;
use super::server::MAX_CLIENTS;
use crate::channel::EncodeError;
use crate::heap::HeapError;
use crate::process::{JoinError, StartError};
use crate::sys::pidfd::ExitStatus;
use std::io;

/// Why a manager was not started. Nothing is left of the attempt.
#[derive(Debug, thiserror::Error)]
pub enum ManagerStartError {
    /// The server's process could not be started.
    #[error("server process of a manager cannot be started")]
    Process(#[from] StartError),
    /// The family heap is full.
    #[error("no room for a manager in the family heap")]
    Heap(#[from] HeapError),
    /// The initializer lies in code that another process could not find.
    #[error("initializer of a manager lies in no program or library that can be identified")]
    Nameless,
    /// The server ended before it was ready: its initializer panicked, say.
    #[error("server of a manager ended before it was ready")]
    Ended(#[from] JoinError),
}

/// Why a manager did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagerError {
    /// The server died, before or while it was asked. Whether the function had run is not known.
    #[error("manager's server (pid {pid}) is gone: {status}")]
    ServerDied {
        /// Its pid.
        pid: u32,
        /// How it ended; [`ExitStatus::Unknown`] if nobody who knows has told.
        status: ExitStatus,
    },
    /// The manager was shut down.
    #[error("manager was shut down")]
    ShutDown,
    /// The connection to a remote manager broke. Whether the function had run is not known.
    #[error("connection to the remote manager broke: {reason}")]
    Lost {
        /// The cause.
        reason: String,
    },
    /// The function panicked in the server. The state stays as the panic left it; the server goes on.
    #[error("function panicked in the manager's server{}: {message}", at(.location))]
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column`, if known.
        location: Option<String>,
        /// The backtrace as text; empty if there is none.
        backtrace: String,
    },
    /// The server no longer has this state.
    #[error("manager's server no longer has this state")]
    Stale,
    /// The state in the server is of another type.
    #[error("state in the manager's server is a `{found}`, not a `{expected}`")]
    WrongType {
        /// The type that the function works on.
        expected: String,
        /// What the state is.
        found: String,
    },
    /// No state is published under this name.
    #[error("no state is published as `{name}`")]
    NotPublished {
        /// The name.
        name: String,
    },
    /// The argument could not be made a message.
    #[error("argument cannot be sent to the manager's server")]
    Encode(#[from] EncodeError),
    /// The server could not read the request or the argument.
    #[error("manager's server cannot read the argument: {reason}")]
    UndecodableArgument {
        /// What the deserializer said.
        reason: String,
    },
    /// The function returned, but its result could not be sent.
    #[error("function in the manager's server returned what cannot be sent: {reason}")]
    UnencodableResult {
        /// The cause.
        reason: String,
    },
    /// The function returned, but its result is not one here.
    #[error("function in the manager's server returned what cannot be read: {reason}")]
    UndecodableResult {
        /// What the deserializer said.
        reason: String,
    },
    /// The function lies in code that another process could not find (made at run time, say).
    #[error("function lies in no program or library that can be identified")]
    Nameless,
    /// The server did not find the function.
    #[error("manager's server cannot find the function: {reason}")]
    FunctionNotFound {
        /// The cause.
        reason: String,
    },
    /// The server runs another build of the program.
    #[error("manager's server runs another build: {reason}")]
    MismatchedBuild {
        /// The cause.
        reason: String,
    },
    /// The server has as many clients as it can take.
    #[error("manager's server has {MAX_CLIENTS} clients already")]
    TooManyClients,
    /// The server, or the heap, lacks what is needed.
    #[error("manager's server cannot do it: {reason}")]
    Refused {
        /// The cause.
        reason: String,
    },
    /// This process did not make the connection: it is a copy that a fork made.
    #[error(
        "connection to the remote manager belongs to the process that this one was forked from"
    )]
    NotOurs,
}

fn at(location: &Option<String>) -> String {
    location
        .as_ref()
        .map_or_else(String::new, |location| format!(" at {location}"))
}

impl From<HeapError> for ManagerError {
    fn from(error: HeapError) -> Self {
        Self::Encode(EncodeError::Heap(error))
    }
}

/// Why an item was not put into a manager's queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryPutError<T> {
    /// The queue is full; the item comes back.
    #[error("queue of the manager is full")]
    Full(T),
    /// The manager could not be asked.
    #[error(transparent)]
    Manager(#[from] ManagerError),
}

/// Why a remote manager could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is nobody, or the connection broke.
    #[error("cannot connect to a manager at {address}")]
    Io {
        /// Where.
        address: Address,
        /// The cause.
        source: io::Error,
    },
    /// The two keys are not the same: the manager refused ours, or could not prove that it has it.
    #[error("manager at {address} has another key")]
    WrongKey {
        /// Where.
        address: Address,
    },
    /// Whoever listens there is no manager, or one of another version of this crate.
    #[error("no manager of this version at {address}: {reason}")]
    Protocol {
        /// Where.
        address: Address,
        /// What it did.
        reason: String,
    },
    /// The manager does not take any more clients.
    #[error("manager at {address} does not take any more clients")]
    TooManyClients {
        /// Where.
        address: Address,
    },
    /// The manager runs another build of the program.
    #[error("manager at {address} runs another build: {reason}")]
    MismatchedBuild {
        /// Where.
        address: Address,
        /// What differs.
        reason: String,
    },
}
