//! The two ends of a pipe, and waiting for several things, under `procession.connection`.

use crate::buffer::ByteView;
use crate::error::Raise;
use crate::letter::{bytes_in, fd_in, letter_of, letter_of_bytes, letter_of_fd, object_of, see};
use crate::message::{Object, Parcel, make, reduce, wrong_parcel};
use crate::plain;
use crate::queue::{Objects, PyQueue};
use crate::wait::{deadline_after, wait};
use procession::embed::{duplicate, exact_readiness};
use procession::{
    Connection, Letter, Packed, Pipe, Readiness, RecvError, Select, SendError, Waitable,
};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyType};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

type End = Connection<Letter, Letter, Packed>;

/// What an open connection has.
struct Open {
    end: End,
    /// Made when somebody asks for the descriptor.
    readiness: Option<Readiness>,
}

/// One end of a pipe.
#[pyclass(
    frozen,
    subclass,
    module = "procession._procession",
    name = "Connection"
)]
pub(crate) struct PyConnection {
    /// Locked with the interpreter attached only, and never while waiting. `None`: closed.
    open: Mutex<Option<Open>>,
    /// May be taken away by a message that was too long.
    readable: AtomicBool,
    writable: bool,
}

impl PyConnection {
    fn new(end: End) -> Self {
        Self {
            readable: AtomicBool::new(end.readable()),
            writable: end.writable(),
            open: Mutex::new(Some(Open {
                end,
                readiness: None,
            })),
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the end something that takes no time.
    fn ask<R>(&self, question: impl FnOnce(&Open) -> R) -> PyResult<R> {
        let open = self.open();
        let open = open.as_ref().map(question);
        open.ok_or_else(|| PyOSError::new_err("handle is closed"))
    }

    fn check_readable(&self) -> PyResult<()> {
        if self.readable.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.ask(|_| ())?;
        Err(PyOSError::new_err("connection is write-only"))
    }

    fn check_writable(&self) -> PyResult<()> {
        if self.writable {
            return Ok(());
        }
        self.ask(|_| ())?;
        Err(PyOSError::new_err("connection is read-only"))
    }

    fn send_letter(&self, py: Python<'_>, letter: Letter) -> PyResult<()> {
        let letter = match self.ask(|open| open.end.try_send(letter))? {
            Ok(()) => return Ok(()),
            Err(SendError::Full(letter)) => letter,
            Err(error) => return Err(error.raise()),
        };
        let end = self.ask(|open| open.end.clone())?;
        let mut refused = Some(letter);
        let sent = wait(py, None, |until| {
            match end.send_deadline(refused.take()?, until) {
                Ok(()) => Some(Ok(())),
                Err(SendError::Full(letter) | SendError::TimedOut(letter)) => {
                    refused = Some(letter);
                    None
                }
                Err(error) => Some(Err(error)),
            }
        })?;
        sent.unwrap_or_else(|| Err(SendError::Broken(Letter::new())))
            .map_err(Raise::raise)
    }

    fn receive_letter(&self, py: Python<'_>) -> PyResult<Letter> {
        self.check_readable()?;
        let received = match self.ask(|open| open.end.try_recv())? {
            Err(RecvError::Empty) => {
                let end = self.ask(|open| open.end.clone())?;
                let received = wait(py, None, |until| match end.recv_deadline(until) {
                    Err(RecvError::Empty | RecvError::TimedOut) => None,
                    other => Some(other),
                })?;
                received.unwrap_or(Err(RecvError::Eof))
            }
            other => other,
        };
        let letter = received.map_err(Raise::raise)?;
        self.rearm()?;
        Ok(letter)
    }

    /// After something was taken: whoever polls the descriptor is to see that there is no more.
    fn rearm(&self) -> PyResult<()> {
        match &*self.open() {
            Some(Open {
                end,
                readiness: Some(readiness),
            }) if end.pending() == 0 => readiness.arm().map(drop).map_err(Raise::raise),
            _ => Ok(()),
        }
    }
}

#[pymethods]
impl PyConnection {
    #[new]
    fn unpickled(parcel: &Bound<'_, PyAny>) -> PyResult<Self> {
        match Parcel::of(Some(parcel)) {
            Some(Object::Connection(end)) => Ok(Self::new(end)),
            Some(_) => Err(wrong_parcel()),
            None => Err(PyTypeError::new_err("connections are made by Pipe()")),
        }
    }

    /// Send an object.
    fn send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        self.check_writable()?;
        let sent = self
            .ask(|open| plain::hand_over(obj, |head, body| open.end.try_send_bytes(head, body)))?;
        if sent {
            return Ok(());
        }
        self.send_letter(obj.py(), letter_of(obj)?)
    }

    /// Receive an object.
    fn recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.check_readable()?;
        let taken = match self.ask(|open| open.end.try_recv_with(|bytes| see(py, bytes)))? {
            Err(RecvError::Empty) => Err(self.receive_letter(py)?),
            other => {
                let taken = other.map_err(Raise::raise)?;
                self.rearm()?;
                taken
            }
        };
        object_of(py, taken)
    }

    /// Send bytes as one message: `size` of them, from number `offset` on.
    #[pyo3(signature = (buf, offset = 0, size = None))]
    fn send_bytes(
        &self,
        buf: &Bound<'_, PyAny>,
        offset: isize,
        size: Option<isize>,
    ) -> PyResult<()> {
        self.ask(|_| ())?;
        self.check_writable()?;
        let view = ByteView::of(buf)?;
        let (offset, size) = part(view.len(), offset, size)?;
        let letter = letter_of_bytes(buf.py(), &view, offset, size)?;
        self.send_letter(buf.py(), letter)
    }

    /// Receive a message as bytes; one longer than `maxlength` makes the connection useless.
    #[pyo3(signature = (maxlength = None))]
    fn recv_bytes<'py>(
        &self,
        py: Python<'py>,
        maxlength: Option<isize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.ask(|_| ())?;
        self.check_readable()?;
        let most = match maxlength.map(usize::try_from) {
            Some(Err(_)) => return Err(PyValueError::new_err("negative maxlength")),
            Some(Ok(most)) => most,
            None => usize::MAX,
        };
        let letter = self.receive_letter(py)?;
        let bytes = bytes_in(py, &letter)?;
        if bytes.as_bytes().len() > most {
            self.readable.store(false, Ordering::Relaxed);
            if !self.writable {
                self.close();
            }
            return Err(PyOSError::new_err("bad message length"));
        }
        Ok(bytes)
    }

    /// Say whether there is something to receive, waiting at most `timeout` seconds; `None`: for ever.
    #[pyo3(signature = (timeout = Some(0.0)), text_signature = "($self, timeout=0.0)")]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.ask(|_| ())?;
        self.check_readable()?;
        if self.ask(|open| open.end.is_ready())? {
            return Ok(true);
        }
        self.rearm()?;
        if timeout.is_some_and(|timeout| timeout <= 0.0) {
            return Ok(false);
        }
        let end = self.ask(|open| open.end.clone())?;
        let ready = wait(py, deadline_after(timeout)?, |until| {
            end.poll_deadline(until).then_some(())
        })?;
        Ok(ready.is_some())
    }

    /// Return a descriptor that is readable while there is something to receive.
    fn fileno(&self) -> PyResult<RawFd> {
        let mut open = self.open();
        let Some(Open { end, readiness }) = open.as_mut() else {
            return Err(PyOSError::new_err("handle is closed"));
        };
        if let Some(readiness) = readiness {
            // Whoever asks is about to poll: what another process has taken meanwhile is not there any more, and a forked child gets a descriptor of its own.
            readiness.arm().map_err(Raise::raise)?;
            return Ok(readiness.as_raw_fd());
        }
        let fresh = end.readiness().map_err(Raise::raise)?;
        Ok(readiness.insert(fresh).as_raw_fd())
    }

    /// Close the connection.
    fn close(&self) {
        let open = self.open().take();
        drop(open);
    }

    /// Whether the connection is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.open().is_none()
    }

    /// Whether the connection can receive.
    #[getter]
    fn readable(&self) -> bool {
        self.readable.load(Ordering::Relaxed)
    }

    /// Whether the connection can send.
    #[getter]
    fn writable(&self) -> bool {
        self.writable
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (exc_type = None, exc_value = None, exc_tb = None))]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        exc_tb: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc_value, exc_tb);
        self.close();
    }

    fn _check_closed(&self) -> PyResult<()> {
        self.ask(|_| ())
    }

    fn _check_readable(&self) -> PyResult<()> {
        self.check_readable()
    }

    fn _check_writable(&self) -> PyResult<()> {
        self.check_writable()
    }

    /// Send a duplicate of a file descriptor.
    fn _send_fd(&self, py: Python<'_>, fd: RawFd) -> PyResult<()> {
        self.ask(|_| ())?;
        self.check_writable()?;
        let fd = duplicate(fd).map_err(Raise::raise)?;
        self.send_letter(py, letter_of_fd(fd)?)
    }

    /// Receive a file descriptor.
    fn _recv_fd(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.ask(|_| ())?;
        let letter = self.receive_letter(py)?;
        Ok(fd_in(&letter)?.into_raw_fd())
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let end = slf.get().ask(|open| open.end.clone())?;
        reduce(slf.as_any(), Object::Connection(end))
    }
}

/// What `offset` and `size` mean for so many bytes.
fn part(len: usize, offset: isize, size: Option<isize>) -> PyResult<(usize, usize)> {
    let wrong = |text| Err(PyValueError::new_err(text));
    let Ok(offset) = usize::try_from(offset) else {
        return wrong("offset is negative");
    };
    let Some(left) = len.checked_sub(offset) else {
        return wrong("buffer length < offset");
    };
    match size.map(usize::try_from) {
        None => Ok((offset, left)),
        Some(Err(_)) => wrong("size is negative"),
        Some(Ok(size)) if size > left => wrong("buffer length < offset + size"),
        Some(Ok(size)) => Ok((offset, size)),
    }
}

/// Return the two ends of a pipe, as objects of a class.
#[pyfunction]
fn pipe<'py>(
    class: &Bound<'py, PyType>,
    duplex: bool,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let ends = if duplex {
        Pipe::with_codec::<Letter, Letter, Packed>()
    } else {
        Pipe::one_way_with::<Letter, Packed>()
    };
    let (first, second) = ends.map_err(Raise::raise)?;
    let nothing = PyTuple::empty(class.py());
    Ok((
        make(class, Object::Connection(first), &nothing)?,
        make(class, Object::Connection(second), &nothing)?,
    ))
}

/// Something to wait for.
enum Source {
    Queue(Objects),
    End(End),
    Fd(OwnedFd),
}

impl Source {
    fn waitable(&self) -> &dyn Waitable {
        match self {
            Self::Queue(queue) => queue,
            Self::End(end) => end,
            Self::Fd(fd) => fd,
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Source {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(connection) = object.cast::<PyConnection>() {
            let connection = connection.get();
            return connection.ask(|open| Self::End(open.end.clone()));
        }
        if let Ok(queue) = object.cast::<PyQueue>() {
            return Ok(Self::Queue(queue.get().queue()?.clone()));
        }
        let fd: RawFd = match object.extract() {
            Ok(fd) => fd,
            Err(_) => fileno_of(&object)?,
        };
        if fd < 0 {
            return Err(PyValueError::new_err(format!(
                "Invalid file descriptor: {fd}"
            )));
        }
        // The number may be closed and used again while we wait.
        Ok(Self::Fd(duplicate(fd).map_err(Raise::raise)?))
    }
}

fn fileno_of(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let Some(fileno) = object.getattr_opt("fileno")? else {
        let name = object.repr()?;
        return Err(PyValueError::new_err(format!(
            "Invalid file object: {name}"
        )));
    };
    fileno.call0()?.extract()
}

/// Wait until something is ready; return the numbers of those that are, in ascending order; none: the time ran out.
#[pyfunction]
#[pyo3(signature = (sources, timeout = None))]
fn wait_any(py: Python<'_>, sources: Vec<Source>, timeout: Option<f64>) -> PyResult<Vec<usize>> {
    let ready = wait(py, deadline_after(timeout)?, |until| {
        let mut select = Select::new();
        for source in &sources {
            select.add(source.waitable());
        }
        match select.wait_deadline(until) {
            Ok(ready) if ready.is_empty() => None,
            other => Some(other),
        }
    })?;
    ready.unwrap_or(Ok(Vec::new())).map_err(Raise::raise)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Python code polls a descriptor and then reads.
    exact_readiness();
    module.add_function(wrap_pyfunction!(pipe, module)?)?;
    module.add_function(wrap_pyfunction!(wait_any, module)?)?;
    module.add_class::<PyConnection>()
}
