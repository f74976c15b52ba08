//! The options of a process.

use super::process::Process;
use super::setup::{EnvChange, Setup};
use super::{StartError, current, start};
use crate::sys::{fork, spawn};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// How a process comes into being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StartMethod {
    /// This program is executed again: a fresh process that shares nothing but the heap. The safe choice, always possible.
    #[default]
    Spawn,
    /// This process is forked: the child has a copy of everything. Only from a process with a single thread (see
    /// [`ProcessBuilder::allow_threads`]).
    Fork,
    /// A template, executed once and kept, is forked: nearly as fresh as spawn, several times faster. The child's environment is
    /// that of the moment when the template was started.
    Forkserver,
}

/// What a child gets as standard input, output or error.
#[derive(Debug, Default)]
pub enum Stdio {
    /// Ours.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// This descriptor.
    Fd(OwnedFd),
}

impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(fd: T) -> Self {
        Self::Fd(fd.into())
    }
}

/// A resource that the system can limit; see `getrlimit(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// Bytes of address space. The family heap needs room in it: at least a gigabyte.
    AddressSpace,
    /// Bytes of a core file.
    Core,
    /// Seconds of processor time.
    Cpu,
    /// Bytes of private data.
    Data,
    /// Bytes of any file written.
    FileSize,
    /// Bytes of locked memory.
    LockedMemory,
    /// Open descriptors.
    OpenFiles,
    /// Processes and threads of the user.
    Processes,
    /// Bytes of the main thread's stack.
    Stack,
}

impl Resource {
    pub(super) fn to_system(self) -> rustix::process::Resource {
        use rustix::process::Resource as System;
        match self {
            Self::AddressSpace => System::As,
            Self::Core => System::Core,
            Self::Cpu => System::Cpu,
            Self::Data => System::Data,
            Self::FileSize => System::Fsize,
            Self::LockedMemory => System::Memlock,
            Self::OpenFiles => System::Nofile,
            Self::Processes => System::Nproc,
            Self::Stack => System::Stack,
        }
    }
}

/// Options that do not depend on the function's type.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) name: Option<String>,
    /// `None`: as this process.
    pub(super) daemon: Option<bool>,
    pub(super) method: StartMethod,
    pub(super) setup: Setup,
    pub(super) stdio: [Stdio; 3],
    pub(super) hook: Option<spawn::Hook>,
    pub(super) promise: Option<fork::Promise>,
}

impl Options {
    /// Whether the child is ended with its parent.
    pub(super) fn is_daemon(&self) -> bool {
        self.daemon.unwrap_or_else(|| current::current().daemon())
    }

    pub(super) fn take_name(&mut self) -> String {
        self.name.take().unwrap_or_else(current::next_name)
    }
}

/// A process that is to be started; made by [`Process::builder`](crate::Process::builder).
///
/// # Examples
/// ```
/// use procession::{Process, StartMethod};
///
/// fn shout(word: String) -> String {
///     format!("{} {}", word.to_uppercase(), std::env::var("MARK").unwrap_or_default())
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let process = Process::builder(shout, "hello".to_owned())
///         .name("shouter")
///         .start_method(StartMethod::Forkserver)
///         .env("MARK", "!")
///         .start()?;
///     assert_eq!(process.join()?, "HELLO !");
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "a builder starts nothing until `start` is called"]
pub struct ProcessBuilder<A, R> {
    pub(super) function: fn(A) -> R,
    pub(super) arguments: A,
    pub(super) options: Options,
}

impl<A, R> ProcessBuilder<A, R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    /// A name for messages and listings; `Process-N` if there is none. It need not be unique.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Whether the process is ended when this one ends (in order, or killed). Others are waited for. Without it, as this process is: what a
    /// worker of a pool starts ends with the worker.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.options.daemon = Some(daemon);
        self
    }

    /// How the process comes into being.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.options.method = method;
        self
    }

    /// Sets a variable in the child's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let pair = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.options
            .setup
            .environment
            .push(EnvChange::Set(pair.0, pair.1));
        self
    }

    /// Removes a variable from the child's environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref().to_owned();
        self.options.setup.environment.push(EnvChange::Remove(name));
        self
    }

    /// Empties the child's environment, but for what is set after this call.
    pub fn env_clear(mut self) -> Self {
        self.options.setup.environment = vec![EnvChange::Clear];
        self
    }

    /// The directory the child starts in.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.options.setup.directory = Some(OsString::from(directory.as_ref()));
        self
    }

    /// What the child gets as standard input.
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Self {
        self.options.stdio[0] = stream.into();
        self
    }

    /// What the child gets as standard output.
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Self {
        self.options.stdio[1] = stream.into();
        self
    }

    /// What the child gets as standard error.
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Self {
        self.options.stdio[2] = stream.into();
        self
    }

    /// Limits a resource of the child; `None` is no limit.
    pub fn rlimit(mut self, resource: Resource, soft: Option<u64>, hard: Option<u64>) -> Self {
        self.options.setup.limits.push((resource, soft, hard));
        self
    }

    /// Makes the child the leader of a process group of its own: the terminal's Ctrl-C does not reach it.
    pub fn new_process_group(mut self) -> Self {
        self.options.setup.new_group = true;
        self
    }

    /// Calls `hook` in the child between fork and exec, as the last thing. [`StartMethod::Spawn`] only.
    ///
    /// # Safety
    /// As [`std::os::unix::process::CommandExt::pre_exec`]: the hook runs in a copy of this process that has only one
    /// of its threads; it must not allocate, take locks or touch what other threads were writing.
    #[expect(unsafe_code, reason = "a contract that only the user can keep")]
    pub unsafe fn pre_exec(
        mut self,
        hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        // SAFETY: the contract is the same, and the caller's.
        self.options.hook = Some(unsafe { spawn::Hook::new(hook) });
        self
    }

    /// Lets [`StartMethod::Fork`] fork this process although it has other threads.
    ///
    /// # Safety
    /// Locks that other threads hold at that moment stay locked for ever in the child, and what they were writing without a lock may be in any state:
    /// the function must touch nothing of the kind. (The C library's allocator and this crate's own state are safe.)
    #[expect(unsafe_code, reason = "a contract that only the user can keep")]
    pub unsafe fn allow_threads(mut self) -> Self {
        // SAFETY: the contract is the same, and the caller's.
        self.options.promise = Some(unsafe { fork::Promise::new() });
        self
    }

    /// Starts the process.
    ///
    /// # Crash safety
    /// If this process is killed meanwhile, nothing is left but, perhaps, the child, which runs or ends by itself.
    ///
    /// # Errors
    /// [`StartError`]; nothing was started then.
    pub fn start(self) -> Result<Process<R>, StartError> {
        start::start(self.function, self.arguments, self.options)
    }
}
