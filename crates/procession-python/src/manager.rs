//! How the processes of a family reach the server of a manager: a door at which clients hand in one end of a line.
//!
//! A line is a pipe on which request and answer take turns. Both sides look, while they wait, whether the other one is still there: its end may have been inherited by a forked
//! child that knows nothing of it.

use crate::error::Raise;
use crate::letter::{letter_of, object_in};
use crate::message::{handle_of, name_of};
use crate::wait::wait;
use procession::{Connection, GetError, Letter, Packed, Pipe, Queue, RecvError, SendError, embed};
use pyo3::create_exception;
use pyo3::exceptions::{PyEOFError, PyValueError};
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Longest wait before looking whether the other side is still there.
const SLICE: Duration = Duration::from_millis(200);
/// Turns of looking for an answer before other threads of this process may run, about two microseconds: they would wait longer for a change of hands.
static SPIN: LazyLock<u32> = LazyLock::new(|| if procession::cpu_count() > 1 { 50 } else { 0 });
/// What the addresses of doors begin with.
const SCHEME: &str = "procession:";

type End = Connection<Letter, Letter, Packed>;

create_exception!(
    procession._procession,
    LineEnded,
    PyEOFError,
    "The other end of a line is gone, or this end was closed."
);

/// What a client hands in.
#[derive(Debug, Serialize, Deserialize)]
struct Knock {
    line: End,
    client: u32,
}

/// Where the clients of a server come in. They find it by its address, as long as the server holds it.
#[pyclass(frozen, module = "procession._procession")]
struct Door {
    knocks: Queue<Knock>,
    server: u32,
}

#[pymethods]
impl Door {
    /// Make a door into this process.
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self {
            knocks: Queue::unbounded().map_err(Raise::raise)?,
            server: embed::participant().map_err(Raise::raise)?,
        })
    }

    /// What `Line.connect` takes, in any process of the family.
    #[getter]
    fn address(&self) -> String {
        let name = name_of(self.knocks.handle());
        format!("{SCHEME}{name}:{}:{}", self.server, std::process::id())
    }

    /// Wait for a client; our end of the line to it.
    fn accept(&self, py: Python<'_>) -> PyResult<Line> {
        let knock = wait(py, None, |until| match self.knocks.get_deadline(until) {
            Err(GetError::Empty | GetError::TimedOut) => None,
            other => Some(other),
        })?
        .unwrap_or(Err(GetError::TimedOut));
        match knock {
            Ok(Knock { line, client }) => Ok(Line::new(line, client)),
            Err(GetError::Closed) => Err(LineEnded::new_err("the door is closed")),
            Err(error) => Err(error.raise()),
        }
    }

    /// Let nobody in any more.
    fn close(&self) {
        self.knocks.close();
    }
}

/// One end of a line.
#[pyclass(frozen, module = "procession._procession")]
struct Line {
    connection: RwLock<Option<End>>,
    /// The process at the other end, as a participant.
    peer: u32,
    /// A call waits for its answer.
    calling: AtomicBool,
}

impl Line {
    fn new(connection: End, peer: u32) -> Self {
        Self {
            connection: RwLock::new(Some(connection)),
            peer,
            calling: AtomicBool::new(false),
        }
    }

    fn connection(&self) -> PyResult<End> {
        let connection = self
            .connection
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let connection = connection.as_ref().cloned();
        connection.ok_or_else(|| LineEnded::new_err("the line was closed"))
    }

    fn put(&self, connection: &End, letter: Letter) -> PyResult<()> {
        let mut refused = match connection.try_send(letter) {
            Ok(()) => return Ok(()),
            Err(SendError::Full(letter)) => Some(letter),
            Err(error) => return Err(lost(error)),
        };
        let sent = Python::attach(|py| {
            wait(py, None, |until| {
                let letter = refused.take()?;
                match connection.send_deadline(letter, until.min(Instant::now() + SLICE)) {
                    Ok(()) => Some(Ok(())),
                    Err(SendError::Full(letter) | SendError::TimedOut(letter))
                        if embed::is_there(self.peer) =>
                    {
                        refused = Some(letter);
                        None
                    }
                    Err(error) => Some(Err(lost(error))),
                }
            })
        })?;
        sent.unwrap_or_else(|| Err(ended()))
    }

    fn take(&self, py: Python<'_>, connection: &End) -> PyResult<Letter> {
        for _ in 0..*SPIN {
            if connection.is_ready() {
                break;
            }
            std::hint::spin_loop();
        }
        match connection.try_recv() {
            Ok(letter) => return Ok(letter),
            Err(RecvError::Empty) => {}
            Err(error) => return Err(unreceived(error)),
        }
        let letter = wait(py, None, |until| {
            let slice = until.min(Instant::now() + SLICE);
            match connection.recv_deadline(slice) {
                Err(RecvError::Empty | RecvError::TimedOut) if embed::is_there(self.peer) => None,
                other => Some(other),
            }
        })?;
        letter.unwrap_or(Err(RecvError::Eof)).map_err(unreceived)
    }
}

#[pymethods]
impl Line {
    /// Connect to the door of that address.
    #[staticmethod]
    fn connect(address: &str) -> PyResult<Self> {
        let (name, server) = parse(address)?;
        if !embed::is_there(server) {
            return Err(ended());
        }
        let knocks: Queue<Knock> = Queue::open(handle_of(name)?).map_err(|_| ended())?;
        let (ours, line) = Pipe::with_codec().map_err(Raise::raise)?;
        let client = embed::participant().map_err(Raise::raise)?;
        let handed_in = knocks.put(Knock { line, client });
        handed_in.map_err(|_| ended())?;
        Ok(Self::new(ours, server))
    }

    /// Whether `connect` can use such an address.
    #[staticmethod]
    fn leads_to(address: &Bound<'_, PyAny>) -> bool {
        address
            .extract::<&str>()
            .is_ok_and(|address| address.starts_with(SCHEME))
    }

    /// Send a request and wait for the answer. `None`: one is being waited for, somewhere below.
    fn call<'py>(&self, request: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = request.py();
        let letter = letter_of(request)?;
        let connection = self.connection()?;
        if self.calling.swap(true, Ordering::Acquire) {
            return Ok(None);
        }
        let answer = self
            .put(&connection, letter)
            .and_then(|()| self.take(py, &connection));
        self.calling.store(false, Ordering::Release);
        object_in(py, &answer?).map(Some)
    }

    /// Send an object.
    fn send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(&self.connection()?, letter_of(obj)?)
    }

    /// Wait for an object.
    fn recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let letter = self.take(py, &self.connection()?)?;
        object_in(py, &letter)
    }

    /// Give up this end.
    fn close(&self) {
        let mut connection = self
            .connection
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        drop(connection.take());
    }

    /// The process at the other end, as a participant of the family.
    #[getter]
    fn peer(&self) -> u32 {
        self.peer
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close();
    }
}

/// Name and server of a door.
fn parse(address: &str) -> PyResult<(&str, u32)> {
    let invalid = || PyValueError::new_err(format!("`{address}` is no address of a manager"));
    let mut parts = address.strip_prefix(SCHEME).ok_or_else(invalid)?.split(':');
    let name = parts.next().ok_or_else(invalid)?;
    let server = parts.next().and_then(|server| server.parse().ok());
    Ok((name, server.ok_or_else(invalid)?))
}

fn ended() -> PyErr {
    LineEnded::new_err("the process at the other end of the line has ended")
}

fn lost(error: SendError<Letter>) -> PyErr {
    match error {
        SendError::Encode(error, _) => error.raise(),
        SendError::Full(_)
        | SendError::TimedOut(_)
        | SendError::Broken(_)
        | SendError::ReadOnly(_) => ended(),
    }
}

fn unreceived(error: RecvError) -> PyErr {
    match error {
        RecvError::Decode(error) => error.raise(),
        RecvError::Empty | RecvError::TimedOut | RecvError::Eof | RecvError::WriteOnly => ended(),
    }
}

/// Whether a participant of the family has not ended yet.
#[pyfunction]
fn is_there(participant: u32) -> bool {
    embed::is_there(participant)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(is_there, module)?)?;
    module.add("LineEnded", module.py().get_type::<LineEnded>())?;
    module.add_class::<Door>()?;
    module.add_class::<Line>()
}
