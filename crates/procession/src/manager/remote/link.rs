//! Link: a client's connections to a manager that is not of its family.

use super::super::client::{ManagerClient, Route};
use super::super::error::{ConnectError, ManagerError};
use super::super::protocol::{self, Order};
use super::address::{Address, AuthKey};
use super::frame::{self, FrameError};
use super::handshake::{self, HANDSHAKE_TIME, HandshakeError, Seals};
use super::stream::{Stream, Timed};
use crate::channel::{EncodeError, Letter};
use crate::sys::random;
use std::error::Error;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Names one [`Link`]: all its connections are one client.
pub(super) type Session = [u8; 16];

/// A manager of another family, reached through a socket.
///
/// It derefs to [`ManagerClient`]: create states, or find those that were [published](ManagerClient::publish). Functions are named by the build of the program, so both sides must be the same
/// build (on whatever machine); another one is refused when it connects. What is sent can be any serde type that contains no shared objects of a family: those have no meaning
/// elsewhere.
///
/// Each call takes a connection of its own; those that are free are kept for the next calls. The proxies and this handle belong to this process. The server keeps
/// a state for us until it has heard, with our next call, that its last proxy is gone, or until we are gone ourselves.
///
/// # Crash safety
/// If the server dies, or its machine goes dark, calls end with [`ManagerError::Lost`].
///
/// # Examples
/// ```
/// use procession::{AuthKey, Manager, RemoteManager};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let manager = Manager::start()?;
///     let key = AuthKey::random()?;
///     let address = manager.serve(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), &key)?;
///     manager.publish("jobs", &*manager.queue::<String>(0)?)?;
///
///     // Elsewhere, in another run of the same program:
///     let remote = RemoteManager::connect(&address, &key)?;
///     let jobs = procession::QueueProxy::<String>::from(remote.find("jobs")?);
///     jobs.put("sweep".to_owned())?;
///     assert_eq!(jobs.get()?, "sweep");
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `BaseManager(address, authkey).connect()`
#[derive(Debug)]
pub struct RemoteManager {
    client: ManagerClient,
}

impl RemoteManager {
    /// Connects to a manager that [serves](crate::Manager::serve) at `address`.
    ///
    /// # Blocking
    /// At most a few seconds.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(address: impl Into<Address>, key: &AuthKey) -> Result<Self, ConnectError> {
        let address = address.into();
        let session = random::bytes().map_err(|source| ConnectError::Io {
            address: address.clone(),
            source,
        })?;
        let link = Link {
            address,
            key: key.clone(),
            session,
            idle: Mutex::default(),
            released: Mutex::default(),
            creator: std::process::id(),
        };
        let socket = link.dial().map_err(|error| link.not_connected(error))?;
        link.idle().push(socket);
        link.compare()?;
        let route = Route::Remote(Arc::new(link));
        Ok(Self {
            client: ManagerClient { route },
        })
    }

    /// A client, to be cloned.
    #[must_use]
    pub fn client(&self) -> ManagerClient {
        self.client.clone()
    }
}

impl Deref for RemoteManager {
    type Target = ManagerClient;

    fn deref(&self) -> &ManagerClient {
        &self.client
    }
}

/// A connection on which both sides have proved the key.
#[derive(Debug)]
struct Socket {
    stream: Stream,
    seals: Seals,
}

impl Socket {
    fn send(&mut self, parts: &[&[u8]]) -> Result<(), FrameError> {
        frame::write(&mut &self.stream, &mut self.seals.outgoing, parts)
    }

    fn receive(&mut self) -> Result<Vec<u8>, FrameError> {
        frame::read(&mut &self.stream, &mut self.seals.incoming)
    }
}

/// A remote client.
#[derive(Debug)]
pub(in super::super) struct Link {
    address: Address,
    key: AuthKey,
    session: Session,
    /// Connections that nobody uses just now.
    idle: Mutex<Vec<Socket>>,
    /// States whose last proxies are gone; the server does not know yet.
    released: Mutex<Vec<u64>>,
    creator: u32,
}

impl Link {
    fn idle(&self) -> MutexGuard<'_, Vec<Socket>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn released(&self) -> MutexGuard<'_, Vec<u64>> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process connected; a forked copy is good for nothing, and its locks may be held by threads that did not come along.
    fn is_ours(&self) -> bool {
        self.creator == std::process::id()
    }

    /// A letter for this way.
    pub(in super::super) fn letter(&self) -> Letter {
        Letter::abroad()
    }

    /// One more connection.
    fn dial(&self) -> Result<Socket, HandshakeError> {
        let stream = Stream::connect(&self.address, HANDSHAKE_TIME)?;
        // The server gives up first, and says why.
        let deadline = Instant::now() + HANDSHAKE_TIME + Duration::from_secs(1);
        let mut timed = Timed {
            stream: &stream,
            deadline,
        };
        let seals = handshake::connect(&mut timed, &self.key)?;
        stream.settle()?;
        let mut socket = Socket { stream, seals };
        socket
            .send(&[&self.session])
            .map_err(HandshakeError::from)?;
        Ok(socket)
    }

    fn not_connected(&self, error: HandshakeError) -> ConnectError {
        let address = self.address.clone();
        match error {
            HandshakeError::WrongKey => ConnectError::WrongKey { address },
            HandshakeError::Full => ConnectError::TooManyClients { address },
            HandshakeError::Protocol(reason) => ConnectError::Protocol { address, reason },
            HandshakeError::Io(source) => ConnectError::Io { address, source },
        }
    }

    /// Whether the server is the same build.
    fn compare(&self) -> Result<(), ConnectError> {
        let address = || self.address.clone();
        let failed = |error: ManagerError| match error {
            ManagerError::MismatchedBuild { reason }
            | ManagerError::FunctionNotFound { reason } => ConnectError::MismatchedBuild {
                address: address(),
                reason,
            },
            error => ConnectError::Protocol {
                address: address(),
                reason: error.to_string(),
            },
        };
        let call = protocol::name_use(|(): &mut (), (): ()| ());
        let call = call.ok_or_else(|| failed(ManagerError::Nameless))?;
        let mut letter = self.letter();
        let pushed = letter.push(&Order::Compare { call });
        let answer = pushed
            .map_err(ManagerError::Encode)
            .and_then(|()| self.call(letter));
        let answer = answer.and_then(|answer| protocol::result::<()>(&answer));
        answer.map(drop).map_err(failed)
    }

    /// Sends a request and waits for the answer.
    pub(in super::super) fn call(&self, request: Letter) -> Result<Letter, ManagerError> {
        if !self.is_ours() {
            return Err(ManagerError::NotOurs);
        }
        let lost = |error: &dyn Error| ManagerError::Lost {
            reason: error.to_string(),
        };
        let free = self.idle().pop();
        let mut socket = match free {
            Some(socket) => socket,
            None => self.dial().map_err(|error| lost(&error))?,
        };
        let unreadable = |error: crate::DecodeError| ManagerError::UndecodableResult {
            reason: error.to_string(),
        };
        let released = std::mem::take(&mut *self.released());
        let mut news = self.letter();
        news.push(&released)?;
        let parts = [
            news.bytes().map_err(unreadable)?,
            request.bytes().map_err(unreadable)?,
        ];
        match socket.send(&parts) {
            Ok(()) => {}
            Err(error @ FrameError::TooLong { .. }) => {
                self.released().extend(released);
                self.idle().push(socket);
                let reason = error.to_string();
                return Err(ManagerError::Encode(EncodeError::Serialize(reason)));
            }
            Err(error) => return Err(lost(&error)),
        }
        let answer = socket.receive().map_err(|error| lost(&error))?;
        self.idle().push(socket);
        Ok(Letter::from_bytes(answer))
    }
}

/// A hold on a state, by a remote client.
pub(in super::super) struct Lease {
    link: Arc<Link>,
    state: u64,
}

impl Lease {
    /// The server holds the state once more for us.
    pub(in super::super) fn new(link: &Arc<Link>, state: u64) -> Arc<Self> {
        let link = Arc::clone(link);
        Arc::new(Self { link, state })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.link.is_ours() {
            self.link.released().push(self.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::atfork::child_comes_through;

    #[test]
    fn a_child_lets_go_of_the_copy_of_a_proxy() {
        let link = Arc::new(Link {
            address: Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1))),
            key: AuthKey::random().expect("key"),
            session: [0; 16],
            idle: Mutex::default(),
            released: Mutex::default(),
            creator: std::process::id(),
        });
        let lease = Lease::new(&link, 7);
        // What the child drops is its copy.
        assert!(child_comes_through(|| link.released(), || drop(lease)));
    }
}
