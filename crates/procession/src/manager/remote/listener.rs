//! Doors to outside the family, in the server's process.
//!
//! One thread for each door accepts; one for each connection does the handshake and then carries out what it is asked. Authenticated clients take places like
//! the family's own. What a client has been told of is held for it by the server, as long as it has a connection: its *session*.

use super::super::protocol::{Answer, Peer};
use super::super::server::{Leases, Place, Server, thread};
use super::address::{Address, AuthKey};
use super::frame::{self, FrameError};
use super::handshake::{self, HANDSHAKE_TIME, Seals};
use super::link::Session;
use super::stream::{Stream, Timed};
use crate::channel::Letter;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Most connections that have not proved the key yet. One more, and the oldest is dropped.
pub(super) const MAX_STRANGERS: usize = 64;

/// After a failed accept (no descriptor free, say).
const PAUSE: Duration = Duration::from_millis(50);

/// All that a server has for clients outside.
#[derive(Default)]
pub(in super::super) struct Doors {
    sessions: Mutex<HashMap<Session, Weak<Leases>>>,
    strangers: Mutex<VecDeque<Weak<Stream>>>,
    /// Files to be removed in the end.
    files: Mutex<Vec<PathBuf>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(listener) => Stream::Tcp(listener.accept()?.0),
            Self::Unix(listener) => Stream::Unix(listener.accept()?.0),
        })
    }
}

impl Doors {
    /// Opens a door; its address.
    pub(in super::super) fn open(
        &self,
        server: &Arc<Server>,
        address: &Address,
        key: AuthKey,
    ) -> io::Result<Address> {
        let (listener, address) = match address {
            Address::Tcp(wanted) => {
                let listener = TcpListener::bind(wanted)?;
                let address = Address::Tcp(listener.local_addr()?);
                (Listener::Tcp(listener), address)
            }
            Address::Unix(path) => {
                let listener = listen_at(path)?;
                locked(&self.files).push(path.clone());
                (Listener::Unix(listener), address.clone())
            }
        };
        let (server, key) = (Arc::clone(server), Arc::new(key));
        thread("door").spawn(move || {
            loop {
                match listener.accept() {
                    Ok(stream) => meet(&server, stream, &key),
                    Err(_) => std::thread::sleep(PAUSE),
                }
            }
        })?;
        Ok(address)
    }

    /// Removes the files of Unix sockets.
    pub(in super::super) fn close(&self) {
        for file in locked(&self.files).drain(..) {
            let _ = std::fs::remove_file(file);
        }
    }

    /// Notes a connection that has proved nothing yet; the oldest makes room.
    fn note(&self, stream: &Arc<Stream>) {
        let mut strangers = locked(&self.strangers);
        strangers.retain(|stranger| stranger.strong_count() > 0);
        strangers.push_back(Arc::downgrade(stream));
        if strangers.len() > MAX_STRANGERS
            && let Some(oldest) = strangers.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.shut_down();
        }
    }

    /// It is no stranger any more.
    fn introduce(&self, stream: &Arc<Stream>) {
        locked(&self.strangers).retain(|stranger| stranger.as_ptr() != Arc::as_ptr(stream));
    }

    /// What the session holds.
    fn leases(&self, session: Session) -> Arc<Leases> {
        let mut sessions = locked(&self.sessions);
        sessions.retain(|_, leases| leases.strong_count() > 0);
        if let Some(leases) = sessions.get(&session).and_then(Weak::upgrade) {
            return leases;
        }
        let leases = Arc::default();
        sessions.insert(session, Arc::downgrade(&leases));
        leases
    }
}

/// Listens at a path, for this user only. A socket there that nobody listens to was left by a server that was killed, and is replaced.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn is_left_over(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn meet(server: &Arc<Server>, stream: Stream, key: &Arc<AuthKey>) {
    let (stream, key) = (Arc::new(stream), Arc::clone(key));
    server.doors().note(&stream);
    let server = Arc::clone(server);
    // Without a thread it is dropped.
    let _ = thread("remote").spawn(move || {
        if let Some((seals, _place)) = receive(&server, &stream, &key) {
            // Whatever ends it, the client sees that the connection ended.
            let _ = attend(&server, &stream, seals);
        }
    });
}

/// The handshake with a stranger.
fn receive(server: &Arc<Server>, stream: &Arc<Stream>, key: &AuthKey) -> Option<(Seals, Place)> {
    let mut timed = Timed {
        stream,
        deadline: Instant::now() + HANDSHAKE_TIME,
    };
    let mut place = None;
    let has_place = || {
        place = server.place();
        place.is_some()
    };
    let seals = handshake::accept(&mut timed, key, has_place).ok()?;
    server.doors().introduce(stream);
    stream.settle().ok()?;
    Some((seals, place?))
}

/// Carries out what one connection asks for, until it ends.
fn attend(server: &Arc<Server>, stream: &Arc<Stream>, mut seals: Seals) -> Result<(), FrameError> {
    let peer = Peer::Stream(Arc::clone(stream));
    let mut stream = &**stream;
    let session = frame::read(&mut stream, &mut seals.incoming)?;
    let Ok(session) = Session::try_from(session.as_slice()) else {
        return Ok(());
    };
    let leases = server.doors().leases(session);
    loop {
        let body = frame::read(&mut stream, &mut seals.incoming)?;
        let request = Letter::from_bytes(body);
        let answer = match released(&request, &leases) {
            Ok(start) => server.carry_out(request, start, &peer, Some(&leases)),
            Err(reason) => Some(Answer::UndecodableArgument(reason).to_letter(&request)),
        };
        let Some(answer) = answer else { return Ok(()) };
        let bytes = answer.bytes().unwrap_or_default();
        let sent = match frame::write(&mut stream, &mut seals.outgoing, &[bytes]) {
            Err(error @ FrameError::TooLong { .. }) => {
                let answer = Answer::UnencodableResult(error.to_string()).to_letter(&answer);
                let bytes = answer.bytes().unwrap_or_default();
                frame::write(&mut stream, &mut seals.outgoing, &[bytes])
            }
            sent => sent,
        };
        sent?;
    }
}

/// Lets go of what the client no longer has; where the order begins.
fn released(request: &Letter, leases: &Leases) -> Result<usize, String> {
    let bytes = request.bytes().map_err(|error| error.to_string())?;
    let (states, rest) =
        postcard::take_from_bytes::<Vec<u64>>(bytes).map_err(|error| error.to_string())?;
    let mut leases = locked(leases);
    for state in states {
        if let Some((_, count)) = leases.get_mut(&state) {
            *count = count.saturating_sub(1);
        }
    }
    leases.retain(|_, (_, count)| *count > 0);
    Ok(bytes.len() - rest.len())
}
