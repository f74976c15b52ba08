//! Python objects to messages and back.
//!
//! Small plain values have an encoding of their own (`plain`); everything else is pickle protocol 5, through the reducers of
//! `ForkingPickler`, with buffers from 64 KiB on out of band: they are copied once, into blocks of the family heap, and arrive as such.
//!
//! The first byte says which: protocol 5 pickles begin with 0x80, the tags of plain values are smaller.
//!
//! What plain pickle cannot name (lambdas, closures, what a notebook defined) is pickled by value: `procession.reduction.dump_by_value`.

use crate::buffer::PyBuffer;
use crate::error::Raise;
use crate::message::{Message, Object, collect, provide};
use crate::plain;
use procession::Buffer;
use pyo3::buffer::PyBuffer as View;
use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};
use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers from so many bytes on travel out of band.
const OUT_OF_BAND: usize = 64 * 1024;
/// What a pickle of protocol 2 or later begins with.
pub(crate) const PICKLE: u8 = 0x80;

/// The message of an object.
///
/// # Errors
/// What pickling it raised.
pub(crate) fn encode(object: &Bound<'_, PyAny>) -> PyResult<Message> {
    encode_onto(object, Vec::new())
}

/// As [`encode`], the bytes in a vector that is empty.
pub(crate) fn encode_onto(object: &Bound<'_, PyAny>, mut bytes: Vec<u8>) -> PyResult<Message> {
    if plain::write(object, &mut bytes) {
        return Ok(Message {
            bytes,
            ..Message::default()
        });
    }
    let (dumped, objects) = collect(|| dump(object, bytes));
    let error = match dumped {
        Ok((bytes, buffers)) if !needs_main(object.py(), &bytes)? => {
            return Ok(Message {
                bytes,
                buffers,
                objects,
            });
        }
        Ok(_) => None,
        Err(error)
            if error.is_instance_of::<PyException>(object.py())
                && !error.is_instance_of::<PyMemoryError>(object.py()) =>
        {
            Some(error)
        }
        Err(error) => return Err(error),
    };
    encode_by_value(object, error)
}

/// As [`encode`], but nothing is pickled by value that plain pickle cannot name.
///
/// # Errors
/// What pickling it raised.
pub(crate) fn encode_by_name(object: &Bound<'_, PyAny>) -> PyResult<Message> {
    let (dumped, objects) = collect(|| dump(object, Vec::new()));
    let (bytes, buffers) = dumped?;
    Ok(Message {
        bytes,
        buffers,
        objects,
    })
}

/// The object of a message.
///
/// # Errors
/// What unpickling it raised.
pub(crate) fn decode<'py>(py: Python<'py>, message: Message) -> PyResult<Bound<'py, PyAny>> {
    let Message {
        bytes,
        buffers,
        objects,
    } = message;
    decode_parts(py, &bytes, buffers, objects)
}

/// As [`decode`], from the parts of a message.
pub(crate) fn decode_parts<'py>(
    py: Python<'py>,
    bytes: &[u8],
    buffers: Vec<Buffer>,
    objects: Vec<Object>,
) -> PyResult<Bound<'py, PyAny>> {
    match bytes.first() {
        Some(&PICKLE) => {}
        _ => return plain::read(py, bytes),
    }
    load(py, bytes, buffers, objects)
}

/// The object of a pickle.
pub(crate) fn load<'py>(
    py: Python<'py>,
    pickle: &[u8],
    buffers: Vec<Buffer>,
    objects: Vec<Object>,
) -> PyResult<Bound<'py, PyAny>> {
    let data = PyBytes::new(py, pickle);
    let loads = loads(py)?;
    if buffers.is_empty() {
        return provide(objects, || loads.call1((data,)));
    }
    let views = PyList::empty(py);
    for buffer in buffers {
        views.append(PyBuffer::new(buffer))?;
    }
    let keywords = PyDict::new(py);
    keywords.set_item("buffers", views)?;
    provide(objects, || loads.call((data,), Some(&keywords)))
}

fn loads(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "_pickle", "loads")
}

/// Where a pickler writes: the file and the buffer callback of a `Pickler`.
#[pyclass(frozen, module = "procession._procession")]
#[derive(Default)]
struct Sink {
    content: Mutex<(Vec<u8>, Vec<Buffer>)>,
}

impl Sink {
    fn content(&self) -> MutexGuard<'_, (Vec<u8>, Vec<Buffer>)> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> (Vec<u8>, Vec<Buffer>) {
        std::mem::take(&mut *self.content())
    }
}

#[pymethods]
impl Sink {
    /// Append bytes to the pickle.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let bytes = bytes.as_bytes();
            self.content().0.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let view = View::<u8>::get(data)?;
        let bytes = view.to_vec(data.py())?;
        self.content().0.extend_from_slice(&bytes);
        Ok(bytes.len())
    }

    /// Take a large buffer out of band; anything else stays in the pickle.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(raw) = buffer.call_method0("raw") else {
            // Not contiguous: pickle copies it.
            return Ok(true);
        };
        let view = View::<u8>::get(&raw)?;
        if view.len_bytes() < OUT_OF_BAND {
            return Ok(true);
        }
        let mut copy = Buffer::new(view.len_bytes()).map_err(Raise::raise)?;
        view.copy_to_slice(buffer.py(), &mut copy)?;
        self.content().1.push(copy);
        Ok(false)
    }
}

/// A pickler that is used again and again by one thread.
struct Reused {
    sink: Py<Sink>,
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    /// The reducers that its dispatch table has.
    reducers: [usize; 2],
}

thread_local! {
    static PICKLER: RefCell<Option<Reused>> = const { RefCell::new(None) };
}

/// Pickles into a vector that is empty.
fn dump(object: &Bound<'_, PyAny>, into: Vec<u8>) -> PyResult<(Vec<u8>, Vec<Buffer>)> {
    let py = object.py();
    let reducers = reducers(py)?;
    // Taken out while in use: what is pickled may send messages of its own.
    let reused = PICKLER.with_borrow_mut(Option::take);
    let pickler = match reused.filter(|pickler| pickler.reducers == reducers) {
        Some(pickler) => pickler,
        None => Reused::new(py, reducers)?,
    };
    pickler.sink.get().content().0 = into;
    pickler.dump.call1(py, (object,))?;
    pickler.clear_memo.call0(py)?;
    let content = pickler.sink.get().take();
    PICKLER.set(Some(pickler));
    Ok(content)
}

impl Reused {
    fn new(py: Python<'_>, reducers: [usize; 2]) -> PyResult<Self> {
        static PICKLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let sink = Bound::new(py, Sink::default())?;
        let keywords = PyDict::new(py);
        keywords.set_item("buffer_callback", &sink)?;
        let class = PICKLER.import(py, "_pickle", "Pickler")?;
        let pickler = class.call((&sink, 5), Some(&keywords))?;
        pickler.setattr("dispatch_table", dispatch_table(py)?)?;
        Ok(Self {
            sink: sink.unbind(),
            dump: pickler.getattr("dump")?.unbind(),
            clear_memo: pickler.getattr("clear_memo")?.unbind(),
            reducers,
        })
    }
}

/// The reducers that there are; there are new ones when there are more.
fn reducers(py: Python<'_>) -> PyResult<[usize; 2]> {
    static TABLES: PyOnceLock<[Py<PyDict>; 2]> = PyOnceLock::new();
    let tables = TABLES.get_or_try_init(py, || {
        let tables = py.import("procession.reduction")?.getattr("tables")?;
        tables.call0()?.extract::<[Py<PyDict>; 2]>()
    })?;
    Ok([tables[0].bind(py).len(), tables[1].bind(py).len()])
}

/// The reducers of `copyreg` and of `ForkingPickler`, in one dict.
fn dispatch_table(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static TABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    TABLE
        .import(py, "procession.reduction", "dispatch_table")?
        .call0()
}

/// Whether a pickle names something that no child can import.
fn needs_main(py: Python<'_>, pickle: &[u8]) -> PyResult<bool> {
    // The scan of a long one takes longer than the question.
    if pickle.len() > LONG && !main_is_unreachable(py)? {
        return Ok(false);
    }
    Ok(names_main(pickle) && main_is_unreachable(py)?)
}

/// Bytes of a long pickle.
const LONG: usize = 512;

fn names_main(pickle: &[u8]) -> bool {
    const MAIN: &[u8] = b"__main__";
    pickle.windows(MAIN.len()).any(|window| window == MAIN)
}

fn main_is_unreachable(py: Python<'_>) -> PyResult<bool> {
    static ASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ASK.import(py, "procession.reduction", "main_is_unreachable")?
        .call0()?
        .extract()
}

fn encode_by_value(object: &Bound<'_, PyAny>, error: Option<PyErr>) -> PyResult<Message> {
    static DUMP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let dump = DUMP.import(py, "procession.reduction", "dump_by_value")?;
    let sink = Bound::new(py, Sink::default())?;
    let (dumped, objects) = collect(|| dump.call1((object, &sink, error)));
    dumped?;
    let (bytes, buffers) = sink.get().take();
    Ok(Message {
        bytes,
        buffers,
        objects,
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Sink>()
}
