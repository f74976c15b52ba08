//! The queue of the engine under `procession.queues`.

use crate::buffer::ByteView;
use crate::error::Raise;
use crate::letter::{bytes_in, letter_of, letter_of_bytes, object_of, see};
use crate::message::{Object, Parcel, handle_of, name_of, reduce, wrong_parcel};
use crate::plain;
use crate::wait::{Truth, deadline_after, wait};
use procession::{GetError, Letter, Packed, PutError, Queue, Readiness};
use pyo3::exceptions::{PyException, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A queue of Python objects.
pub(crate) type Objects = Queue<Letter, Packed>;

/// `maxsize` of a queue without a limit, as in `multiprocessing`.
const NO_LIMIT: usize = i32::MAX as usize;

/// A queue of Python objects.
#[pyclass(frozen, subclass, module = "procession._procession", name = "Queue")]
pub(crate) struct PyQueue {
    /// Set when it is initialised, or unpickled.
    queue: OnceLock<Objects>,
    /// This process will put nothing more.
    closed: AtomicBool,
    /// This process has put something.
    used: AtomicBool,
    readiness: OnceLock<Readiness>,
}

impl PyQueue {
    pub(crate) fn from_parcel(argument: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let queue = OnceLock::new();
        match Parcel::of(argument) {
            Some(Object::Queue(object)) => drop(queue.set(object)),
            Some(_) => return Err(wrong_parcel()),
            None => {}
        }
        Ok(Self {
            queue,
            closed: AtomicBool::new(false),
            used: AtomicBool::new(false),
            readiness: OnceLock::new(),
        })
    }

    /// Makes the queue itself.
    pub(crate) fn init(&self, maxsize: usize) -> PyResult<()> {
        let maxsize = if maxsize >= NO_LIMIT { 0 } else { maxsize };
        let queue = Queue::new(maxsize).map_err(Raise::raise)?;
        self.queue
            .set(queue)
            .map_err(|_| PyRuntimeError::new_err("Queue.__init__() was called already"))
    }

    pub(crate) fn queue(&self) -> PyResult<&Objects> {
        self.queue
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("Queue.__init__() was not called"))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// An item could not be pickled: a Python subclass may want to know instead of the caller.
    fn unpicklable(slf: &Bound<'_, Self>, error: PyErr, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let hook = slf.getattr_opt("_on_queue_feeder_error")?;
        match hook.filter(|_| error.is_instance_of::<PyException>(slf.py())) {
            Some(hook) => hook.call1((error.into_value(slf.py()), obj)).map(drop),
            None => Err(error),
        }
    }

    fn check_closed(slf: &Bound<'_, Self>) -> PyResult<()> {
        if !slf.get().is_closed() {
            return Ok(());
        }
        let name = slf.repr()?;
        Err(PyValueError::new_err(format!("Queue {name} is closed")))
    }

    /// After something was taken: whoever polls the descriptor is to see that there is no more.
    fn taken(&self) -> PyResult<()> {
        match (self.readiness.get(), self.queue.get()) {
            (Some(readiness), Some(queue)) if queue.is_empty() => {
                readiness.arm().map(drop).map_err(Raise::raise)
            }
            _ => Ok(()),
        }
    }
}

impl PyQueue {
    /// Puts a letter, waiting for room if that is wanted.
    pub(crate) fn put_letter(
        &self,
        py: Python<'_>,
        letter: Letter,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let queue = self.queue()?;
        let mut refused = match queue.try_put(letter) {
            Ok(()) => return Ok(()),
            Err(PutError::Full(letter)) if block => Some(letter),
            Err(error) => return Err(error.raise()),
        };
        let put = wait(py, deadline_after(timeout)?, |until| {
            match queue.put_deadline(refused.take()?, until) {
                Ok(()) => Some(Ok(())),
                Err(PutError::Full(letter) | PutError::TimedOut(letter)) => {
                    refused = Some(letter);
                    None
                }
                Err(error) => Some(Err(error)),
            }
        })?;
        put.unwrap_or_else(|| Err(PutError::TimedOut(Letter::new())))
            .map_err(Raise::raise)
    }

    /// Puts an object whose bytes need no letter, if there is room now; whether it did.
    #[inline]
    fn put_bytes(&self, obj: &Bound<'_, PyAny>) -> PyResult<bool> {
        let queue = self.queue()?;
        Ok(plain::hand_over(obj, |head, body| {
            queue.try_put_bytes(head, body)
        }))
    }

    /// Puts an object, waiting for room if that is wanted.
    pub(crate) fn put_object(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.put_bytes(obj)? {
            return Ok(());
        }
        self.put_letter(obj.py(), letter_of(obj)?, true, None)
    }

    /// Takes an object, waiting for one if that is wanted.
    pub(crate) fn get_object<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let taken = match self.queue()?.try_get_with(|bytes| see(py, bytes)) {
            Err(GetError::Empty) if block => Err(self.get_letter(py, block, timeout)?),
            other => {
                let taken = other.map_err(Raise::raise)?;
                self.taken()?;
                taken
            }
        };
        object_of(py, taken)
    }

    /// Takes a letter, waiting for one if that is wanted.
    pub(crate) fn get_letter(
        &self,
        py: Python<'_>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Letter> {
        let queue = self.queue()?;
        let got =
            match queue.try_get() {
                Err(GetError::Empty) if block => wait(py, deadline_after(timeout)?, |until| {
                    match queue.get_deadline(until) {
                        Err(GetError::Empty | GetError::TimedOut) => None,
                        other => Some(other),
                    }
                })?
                .unwrap_or(Err(GetError::TimedOut)),
                other => other,
            };
        let letter = got.map_err(Raise::raise)?;
        self.taken()?;
        Ok(letter)
    }
}

#[pymethods]
impl PyQueue {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let _ = kwargs;
        Self::from_parcel(args.get_item(0).ok().as_ref())
    }

    /// Make a queue for at most `maxsize` items; 0: as many as the family's memory holds.
    #[pyo3(signature = (maxsize = 0, *, ctx = None))]
    fn __init__(&self, maxsize: i64, ctx: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let _ = ctx;
        self.init(usize::try_from(maxsize).unwrap_or(0))
    }

    /// Put an item into the queue; it can be taken when this returns.
    #[pyo3(signature = (obj, block = Truth(true), timeout = None), text_signature = "($self, obj, block=True, timeout=None)")]
    fn put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        Self::check_closed(slf)?;
        slf.get().used.store(true, Ordering::Relaxed);
        if slf.get().put_bytes(obj)? {
            return Ok(());
        }
        match letter_of(obj) {
            Ok(letter) => slf.get().put_letter(slf.py(), letter, block.0, timeout),
            Err(error) => Self::unpicklable(slf, error, obj),
        }
    }

    /// Put an item into the queue if there is room now.
    fn put_nowait(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::put(slf, obj, Truth(false), None)
    }

    /// Remove and return the oldest item.
    #[pyo3(signature = (block = Truth(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::check_closed(slf)?;
        slf.get().get_object(slf.py(), block.0, timeout)
    }

    /// Remove and return the oldest item if there is one now.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::get(slf, Truth(false), None)
    }

    /// Return how many items are in the queue now.
    fn qsize(&self) -> PyResult<usize> {
        Ok(self.queue()?.len())
    }

    /// Say whether the queue is empty now. Nobody can ask a queue that was used and closed, as in `multiprocessing`.
    fn empty(&self) -> PyResult<bool> {
        if self.is_closed() && self.used.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err("handle is closed"));
        }
        Ok(self.queue()?.is_empty())
    }

    /// Say whether the queue has no room now.
    fn full(&self) -> PyResult<bool> {
        Ok(self.queue()?.is_full())
    }

    /// Say that this process will put nothing more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    #[getter]
    fn _closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The most items that fit in.
    #[getter]
    fn _maxsize(&self) -> PyResult<usize> {
        Ok(self.queue()?.maxsize().unwrap_or(NO_LIMIT))
    }

    /// Return a descriptor that is readable while there are items.
    fn _fileno(&self) -> PyResult<RawFd> {
        if let Some(readiness) = self.readiness.get() {
            // As that of a connection.
            readiness.arm().map_err(Raise::raise)?;
            return Ok(readiness.as_raw_fd());
        }
        let fresh = self.queue()?.readiness().map_err(Raise::raise)?;
        Ok(self.readiness.get_or_init(|| fresh).as_raw_fd())
    }

    /// Say whether there is an item, waiting at most `timeout` seconds; `None`: for ever.
    #[pyo3(signature = (timeout = Some(0.0)), text_signature = "($self, timeout=0.0)")]
    fn _poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let queue = self.queue()?;
        if !queue.is_empty() {
            return Ok(true);
        }
        self.taken()?;
        if timeout.is_some_and(|timeout| timeout <= 0.0) {
            return Ok(false);
        }
        let ready = wait(py, deadline_after(timeout)?, |until| {
            queue.poll_deadline(until).then_some(())
        })?;
        Ok(ready.is_some())
    }

    /// Take an item, closed or not.
    fn _recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.get_object(py, true, None)
    }

    /// Take an item as bytes: its pickle.
    fn _recv_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let letter = self.get_letter(py, true, None)?;
        bytes_in(py, &letter)
    }

    /// Put an item, closed or not.
    fn _send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put_object(obj)
    }

    /// Put the item that bytes are the pickle of.
    fn _send_bytes(&self, buf: &Bound<'_, PyAny>) -> PyResult<()> {
        let view = ByteView::of(buf)?;
        let letter = letter_of_bytes(buf.py(), &view, 0, view.len())?;
        self.put_letter(buf.py(), letter, true, None)
    }

    /// The name by which `by_name` finds this queue, in any process of the family, while somebody holds it.
    #[getter]
    fn name(&self) -> PyResult<String> {
        Ok(name_of(self.queue()?.handle()))
    }

    /// Open a queue by its name.
    #[staticmethod]
    fn by_name(name: &str) -> PyResult<Self> {
        let queue = Queue::open(handle_of(name)?).map_err(Raise::raise)?;
        Ok(Self {
            queue: OnceLock::from(queue),
            closed: AtomicBool::new(false),
            used: AtomicBool::new(false),
            readiness: OnceLock::new(),
        })
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        reduce(slf.as_any(), Object::Queue(slf.get().queue()?.clone()))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyQueue>()
}
