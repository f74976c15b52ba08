//! What can go wrong with a process.

use crate::channel::EncodeError;
use crate::heap::HeapError;
use crate::sys::signal;
use std::fmt;
use std::io;

/// Why a process was not started. Nothing is left of the attempt.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This process has other threads, and a fork would copy their locks in whatever state they are. Use
    /// [`StartMethod::Spawn`](crate::StartMethod::Spawn) or [`Forkserver`](crate::StartMethod::Forkserver), or
    /// [`allow_threads`](crate::ProcessBuilder::allow_threads) if you know what they hold.
    #[error("cannot fork a process that has {threads} threads (use spawn or forkserver)")]
    MultiThreaded {
        /// How many threads there are.
        threads: usize,
    },
    /// The arguments could not be made a message.
    #[error("arguments of process `{name}` cannot be sent")]
    Encode {
        /// The process that was to be started.
        name: String,
        /// The cause.
        source: EncodeError,
    },
    /// The family heap is full, or there are too many processes in the family.
    #[error("no place in the family for process `{name}`")]
    Heap {
        /// The process that was to be started.
        name: String,
        /// The cause.
        source: HeapError,
    },
    /// The function lies in code that another process could not find (made at run time, say).
    #[error("function of process `{name}` lies in no program or library that can be identified")]
    Nameless {
        /// The process that was to be started.
        name: String,
    },
    /// An option does not go with the start method.
    #[error("{option} does not go with this start method")]
    Unsupported {
        /// The option.
        option: &'static str,
    },
    /// The system refused.
    #[error("process `{name}` cannot be started")]
    System {
        /// The process that was to be started.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// Whoever starts the workers of the pool ([`Recruit`](crate::Recruit)) could not.
    #[error("worker `{name}` cannot be started: {reason}")]
    Recruit {
        /// The worker that was to be started.
        name: String,
        /// The cause.
        reason: String,
    },
}

/// A process gave no result: which process, and why.
///
/// `Debug` prints the message as well: a `main` that returns it shows what a person can read.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinError {
    /// The name of the process.
    pub name: String,
    /// Its pid.
    pub pid: u32,
    /// What happened.
    pub failure: JoinFailure,
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a process gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinFailure {
    /// The function panicked.
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column`, if known.
        location: Option<String>,
        /// The backtrace as text; empty if there is none.
        backtrace: String,
    },
    /// A signal killed it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether a core file was written.
        core_dumped: bool,
    },
    /// It exited before the function returned.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// It has ended before it gave a result, and somebody else in this process reaped it, so nobody knows how.
    Unknown,
    /// The function returned, but its result is not one here.
    UndecodableResult {
        /// What the deserializer said.
        reason: String,
    },
    /// The function returned, but its result could not be sent.
    UnencodableResult {
        /// The cause.
        reason: String,
    },
    /// The child could not read the arguments.
    UndecodableArguments {
        /// What the deserializer said.
        reason: String,
    },
    /// The child did not find the function.
    FunctionNotFound {
        /// The cause.
        reason: String,
    },
    /// The child runs another build of the program.
    MismatchedBuild {
        /// The cause.
        reason: String,
    },
    /// The child could not set up what the options asked for.
    SetupFailed {
        /// The cause.
        reason: String,
    },
    /// The child never called [`init()`](crate::init) (or ended before).
    InitForgotten {
        /// The exit code.
        code: i32,
    },
    /// It still runs (`join_timeout`, `join_deadline`).
    TimedOut,
    /// Somebody got the result already, or closed the handle.
    AlreadyJoined,
    /// This process did not start it: the handle is a copy that a fork made.
    NotOurs,
    /// It cannot be waited for.
    System {
        /// The cause.
        reason: String,
    },
}

impl JoinError {
    /// Whether the time ran out and the process still runs.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.failure == JoinFailure::TimedOut
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process `{}` (pid {}) {}",
            self.name, self.pid, self.failure
        )
    }
}

impl std::error::Error for JoinError {}

impl fmt::Display for JoinFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked {
                message, location, ..
            } => {
                f.write_str("panicked")?;
                if let Some(location) = location {
                    write!(f, " at {location}")?;
                }
                write!(f, ": {message}")
            }
            Self::Signaled {
                signal,
                core_dumped,
            } => {
                write!(f, "was killed by {}", signal::name(*signal))?;
                f.write_str(if *core_dumped { " (core dumped)" } else { "" })
            }
            Self::Exited { code } => {
                write!(f, "exited with code {code} before its function returned")
            }
            Self::Unknown => f.write_str("ended without a result; somebody else reaped it"),
            Self::UndecodableResult { reason } => {
                write!(f, "returned what cannot be read: {reason}")
            }
            Self::UnencodableResult { reason } => {
                write!(f, "returned what cannot be sent: {reason}")
            }
            Self::UndecodableArguments { reason } => {
                write!(f, "cannot read its arguments: {reason}")
            }
            Self::FunctionNotFound { reason } => write!(f, "cannot find its function: {reason}"),
            Self::MismatchedBuild { reason } => write!(f, "runs another build: {reason}"),
            Self::SetupFailed { reason } => write!(f, "could not be set up: {reason}"),
            Self::InitForgotten { code } => write!(
                f,
                "exited with code {code} without having called `procession::init()`, which must come first in `main` \
                 (in a test binary: `procession::init_before_main!()`)"
            ),
            Self::TimedOut => f.write_str("still runs"),
            Self::AlreadyJoined => f.write_str("was joined or closed already"),
            Self::NotOurs => {
                f.write_str("is not a child of this process: the handle was copied by a fork")
            }
            Self::System { reason } => write!(f, "cannot be waited for: {reason}"),
        }
    }
}
