//! Manager: starts a server and ends it.

use super::client::{ManagerClient, Route};
use super::error::{ManagerError, ManagerStartError};
use super::fate::{self, Fate};
use super::line::{self, Reach};
use super::protocol::{Hello, Line, Order};
use super::remote::{Address, AuthKey};
use super::server::{Door, Seed, name_initializer, serve};
use crate::process::Portable;
use crate::process::{Process, StartMethod};
use crate::sys::pidfd::ExitStatus;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a server has to end in order before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// A server process that owns state for its family, and for others if it is told to [`serve`](Manager::serve) them.
///
/// It derefs to [`ManagerClient`], which creates states. Dropping the manager ends the server, in at most a few seconds; so does the end, in
/// whatever way, of the process that started it.
///
/// Locks, queues, events and the like need no server here: they live in shared memory. A manager is for state of any Rust type that one process has to own, and for clients
/// outside the family.
///
/// # Crash safety
/// If the server dies, its states are lost, and every pending and later call says so ([`ManagerError::ServerDied`], with how it ended). If a client
/// dies, its proxies are let go and nobody else notices.
///
/// # Examples
/// ```
/// use procession::{Manager, Process};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let manager = Manager::start()?;
///     let ages = manager.dict::<String, u32>()?;
///     let child = Process::start(
///         |ages: procession::DictProxy<String, u32>| ages.insert("ada".to_owned(), 36).map(|_| ()).expect("insert"),
///         ages.clone(),
///     )?;
///     child.join()?;
///     assert_eq!(ages.get(&"ada".to_owned())?, Some(36));
///     manager.shutdown()?;
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `procession.Manager`
#[derive(Debug)]
pub struct Manager {
    client: ManagerClient,
    process: Arc<Process<()>>,
    fate: Fate,
    /// The process that started it: a forked copy of this handle ends nothing.
    creator: u32,
}

impl Manager {
    /// Starts a server, by [`StartMethod::Spawn`].
    ///
    /// # Blocking
    /// Until the server is ready.
    ///
    /// # Errors
    /// [`ManagerStartError`].
    ///
    /// # Examples
    /// See [`Manager`].
    pub fn start() -> Result<Self, ManagerStartError> {
        Self::builder().start()
    }

    /// A manager with options to be set before its [`start`](ManagerBuilder::start).
    pub fn builder() -> ManagerBuilder<()> {
        ManagerBuilder {
            name: None,
            method: StartMethod::default(),
            initializer: None,
            argument: (),
        }
    }

    /// A client of this manager, to be cloned and sent.
    #[must_use]
    pub fn client(&self) -> ManagerClient {
        self.client.clone()
    }

    /// The server's pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The name of the server's process.
    #[must_use]
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// How the server ended; `None` while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let status = self.process.exit_status();
        self.fate.note(status);
        status
    }

    /// Ends the server's process at once, with SIGKILL.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn kill(&self) -> std::io::Result<()> {
        self.process.kill()
    }

    /// Lets processes outside the family connect, with [`RemoteManager::connect`](crate::RemoteManager::connect). Returns the address that they can use: a TCP port of 0 has become
    /// a real one. May be called several times, for several addresses.
    ///
    /// Both sides must prove that they have `key`, without sending it, before anything else is said; whoever has it can run any function of this program in the server. What is sent afterwards
    /// cannot be changed on the way, but it can be read: over networks that others listen to, use a tunnel.
    ///
    /// # Crash safety
    /// A server that is killed leaves the file of a Unix socket behind; the next one that serves at the same path replaces it.
    ///
    /// # Errors
    /// [`ManagerError::Refused`] if the server cannot listen there, and all others.
    ///
    /// # Examples
    /// See [`RemoteManager`](crate::RemoteManager).
    pub fn serve(
        &self,
        address: impl Into<Address>,
        key: &AuthKey,
    ) -> Result<Address, ManagerError> {
        let (address, key) = (address.into(), key.clone());
        self.client.route.order(&Order::Serve { address, key })
    }

    /// Ends the server: no new calls are taken, states are dropped. Calls that run fail at their clients with [`ManagerError::ShutDown`]. A server that has not ended after
    /// two seconds is killed.
    ///
    /// # Blocking
    /// At most a few seconds.
    ///
    /// # Errors
    /// [`ManagerError::ServerDied`] if it had died, or had to be killed.
    pub fn shutdown(self) -> Result<(), ManagerError> {
        match self.end() {
            ExitStatus::Exited(0) => Ok(()),
            status => Err(ManagerError::ServerDied {
                pid: self.pid(),
                status,
            }),
        }
    }

    fn end(&self) -> ExitStatus {
        // Closing the door is what ends it; this way works even if it does not answer.
        if let Route::Family(reach) = &self.client.route {
            reach.door.close();
        }
        if self
            .process
            .join_timeout(GRACE)
            .is_err_and(|error| error.is_timeout())
        {
            let _ = self.process.kill();
            let _ = self.process.join();
        }
        self.exit_status().unwrap_or(ExitStatus::Unknown)
    }
}

impl Deref for Manager {
    type Target = ManagerClient;

    fn deref(&self) -> &ManagerClient {
        &self.client
    }
}

impl Drop for Manager {
    /// Ends the server, waiting at most a few seconds for it.
    fn drop(&mut self) {
        if self.creator == std::process::id() {
            self.end();
        }
    }
}

/// A manager that is to be started; made by [`Manager::builder`].
///
/// # Examples
/// ```
/// use procession::{Manager, StartMethod};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let manager = Manager::builder()
///         .name("accounts")
///         .start_method(StartMethod::Forkserver)
///         .initializer(|greeting: String| println!("{greeting} from the server"), "hello".to_owned())
///         .start()?;
///     assert_eq!(manager.name(), "accounts");
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "a builder starts nothing until `start` is called"]
pub struct ManagerBuilder<A> {
    name: Option<String>,
    method: StartMethod,
    initializer: Option<fn(A)>,
    argument: A,
}

impl<A> ManagerBuilder<A> {
    /// A name for messages and listings; `Manager-N` if there is none. It need not be unique.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How the server's process comes into being. [`StartMethod::Fork`] is refused if this process has other threads.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = method;
        self
    }

    /// A function, any `fn` item or closure that captures nothing, that the server calls before anything else.
    pub fn initializer<B: Portable>(self, function: fn(B), argument: B) -> ManagerBuilder<B> {
        ManagerBuilder {
            name: self.name,
            method: self.method,
            initializer: Some(function),
            argument,
        }
    }
}

impl<A: Portable> ManagerBuilder<A> {
    /// Starts the server and waits until it is ready.
    ///
    /// # Blocking
    /// Until the initializer has returned.
    ///
    /// # Crash safety
    /// If this process is killed meanwhile, the server ends, too.
    ///
    /// # Errors
    /// [`ManagerStartError`]; no server is left then.
    pub fn start(self) -> Result<Manager, ManagerStartError> {
        let door = Door::unbounded()?;
        let initializer = match self.initializer {
            None => None,
            Some(function) => Some(name_initializer(function).ok_or(ManagerStartError::Nameless)?),
        };
        let seed = Seed {
            door: door.clone(),
            initializer,
        };
        let process = Process::builder(serve::<A>, (seed, self.argument))
            .name(self.name.unwrap_or_else(next_name))
            .start_method(self.method)
            .daemon(true)
            .start()?;
        let started =
            await_server(&door, &process).and_then(|owner| Ok((owner, Fate::new(process.pid())?)));
        match started {
            Ok((owner, fate)) => Ok(finish(door, process, owner, fate)),
            Err(error) => Err(give_up(&process, error)),
        }
    }
}

/// Sees to it that no server is left; why there is none.
fn give_up(process: &Process<()>, error: ManagerStartError) -> ManagerStartError {
    if !process.is_alive() {
        return process.join().err().map_or(error, ManagerStartError::Ended);
    }
    let _ = process.kill();
    let _ = process.join();
    error
}

fn next_name() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    format!("Manager-{}", STARTED.fetch_add(1, Ordering::Relaxed) + 1)
}

fn finish(door: Door, process: Process<()>, owner: u32, fate: Fate) -> Manager {
    let reach = Reach {
        door,
        fate: fate.clone(),
        owner,
    };
    let process = Arc::new(process);
    fate::watch(&process);
    Manager {
        client: ManagerClient {
            route: Route::Family(reach),
        },
        process,
        fate,
        creator: std::process::id(),
    }
}

/// Waits until the server takes clients in; what it is as a participant.
fn await_server(door: &Door, process: &Process<()>) -> Result<u32, ManagerStartError> {
    let heap = |error: ManagerError| match error {
        ManagerError::Encode(crate::channel::EncodeError::Heap(error)) => error,
        _ => crate::heap::HeapError::Corrupt("a manager's server said no hello"),
    };
    let line: Line = line::knock(door).map_err(heap)?;
    match line::hello(&line, || process.is_alive()).map_err(heap)? {
        Some(Hello::Welcome { owner }) => Ok(owner),
        Some(Hello::Full) | None => Err(ManagerStartError::Heap(heap(ManagerError::ShutDown))),
    }
}
