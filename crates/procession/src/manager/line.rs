//! A thread's lines to the servers of its family.
//!
//! Each thread that uses a server has a line of its own, made when it is first needed, so threads never wait for each other on the way. A line is taken
//! out of the store while it is used: a function's argument that itself asks the same manager gets a second one. Lines that a fork copied are the
//! parent's and are let go.

use super::error::ManagerError;
use super::fate::Fate;
use super::protocol::{Hello, Line};
use super::server::Door;
use crate::channel::{Letter, Pipe, PutError, RecvError, SendError};
use crate::family::Owner;
use crate::heap::{me, the_heap};
use crate::sys::pidfd::ExitStatus;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::time::Duration;

/// Longest wait for an answer before looking whether the server is still there.
const SLICE: Duration = Duration::from_millis(200);

/// How a process of the family reaches a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Reach {
    pub(super) door: Door,
    pub(super) fate: Fate,
    /// The server, as a participant.
    pub(super) owner: u32,
}

/// A line in store.
struct Kept {
    line: Line,
    /// The server, as a participant.
    server: u32,
    /// The process that made it.
    maker: Owner,
}

thread_local! {
    static LINES: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// A line on its way to a server: the client's end.
pub(super) fn knock(door: &Door) -> Result<Line, ManagerError> {
    let (line, theirs) = Pipe::with_codec()?;
    match door.put(theirs) {
        Ok(()) => Ok(line),
        Err(PutError::Encode(error, _)) => Err(error.into()),
        Err(PutError::Closed(_) | PutError::Full(_) | PutError::TimedOut(_)) => {
            Err(ManagerError::ShutDown)
        }
    }
}

/// Waits for the server's hello, and looks each time that it takes long whether `is_there`. `None`: there is no server any more.
pub(super) fn hello(
    line: &Line,
    is_there: impl Fn() -> bool,
) -> Result<Option<Hello>, ManagerError> {
    let Some(letter) = receive(line, is_there)? else {
        return Ok(None);
    };
    let bytes = letter.bytes().map_err(unreadable)?;
    let hello = postcard::from_bytes(bytes).map_err(unreadable)?;
    Ok(Some(hello))
}

fn receive(line: &Line, is_there: impl Fn() -> bool) -> Result<Option<Letter>, ManagerError> {
    loop {
        match line.recv_timeout(SLICE) {
            Ok(letter) => return Ok(Some(letter)),
            Err(RecvError::TimedOut | RecvError::Empty) if is_there() => {}
            Err(RecvError::Decode(error)) => return Err(unreadable(error)),
            Err(_) => return Ok(None),
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> ManagerError {
    ManagerError::UndecodableResult {
        reason: error.to_string(),
    }
}

fn is_there(server: u32) -> bool {
    Owner::from_word(server).is_some_and(|owner| !the_heap().is_gone(owner))
}

impl Reach {
    fn is_there(&self) -> bool {
        is_there(self.owner)
    }

    /// Why there is no server any more.
    fn gone(&self) -> ManagerError {
        if self.is_there() {
            return ManagerError::Refused {
                reason: "it dropped the connection".to_owned(),
            };
        }
        match self.fate.ask() {
            ExitStatus::Exited(0) => ManagerError::ShutDown,
            // It closed its door before it ended.
            ExitStatus::Unknown if self.door.is_closed() => ManagerError::ShutDown,
            status => ManagerError::ServerDied {
                pid: self.fate.pid,
                status,
            },
        }
    }

    fn connect(&self) -> Result<Line, ManagerError> {
        prune();
        if !self.is_there() {
            return Err(self.gone());
        }
        let line = knock(&self.door)?;
        match hello(&line, || self.is_there())? {
            Some(Hello::Welcome { .. }) => Ok(line),
            Some(Hello::Full) => Err(ManagerError::TooManyClients),
            None => Err(self.gone()),
        }
    }

    /// Sends a request and waits for the answer.
    pub(super) fn call(&self, request: Letter) -> Result<Letter, ManagerError> {
        let line = match self.take() {
            Some(line) => line,
            None => self.connect()?,
        };
        match line.send(request) {
            Ok(()) => {}
            Err(SendError::Encode(error, _)) => {
                self.keep(line);
                return Err(error.into());
            }
            Err(_) => return Err(self.gone()),
        }
        let answer = receive(&line, || self.is_there())?;
        match answer {
            Some(answer) => {
                self.keep(line);
                Ok(answer)
            }
            None => Err(self.gone()),
        }
    }

    /// The line of this thread, if it has one.
    fn take(&self) -> Option<Line> {
        let taken = LINES.try_with(|lines| {
            let mut lines = lines.borrow_mut();
            let at = lines.iter().position(|kept| kept.server == self.owner)?;
            Some(lines.swap_remove(at))
        });
        let kept = taken.ok()??;
        (kept.maker == me()).then_some(kept.line)
    }

    fn keep(&self, line: Line) {
        let kept = Kept {
            line,
            server: self.owner,
            maker: me(),
        };
        // A thread that is ending keeps nothing.
        let _ = LINES.try_with(|lines| lines.borrow_mut().push(kept));
    }
}

/// Lets go of this thread's lines to servers that have ended.
fn prune() {
    let all = LINES.try_with(RefCell::take).unwrap_or_default();
    // Dropping a line looks at shared memory: not while the store is borrowed.
    let there = all.into_iter().filter(|kept| is_there(kept.server));
    let there = there.collect();
    let _ = LINES.try_with(|lines| lines.replace(there));
}
