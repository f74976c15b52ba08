//! Python objects in the form in which they go through queues and pipes: the engine's letters.
//!
//! The first byte says what it is: the tag of a plain value (`plain.rs`) or the start of a pickle (`pickle.rs`), or one of those below. Bytes that were sent as bytes are
//! the pickle of an object for whoever receives an object, and the other way round: in `multiprocessing` a message is bytes.

use crate::buffer::ByteView;
use crate::error::{Raise, UnpicklingError};
use crate::message::{Message, Object};
use crate::pickle::{PICKLE, decode_parts, encode_onto, load};
use crate::plain::{self, BYTES, PLAIN_MAX, malformed};
use procession::{Buffer, Fd, Letter};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use std::os::fd::OwnedFd;

/// Bytes that were sent as such.
const RAW: u8 = 16;
/// The number of bytes of a message, those, then its buffers and objects.
const COMPOSITE: u8 = 17;
/// A file descriptor.
const FD: u8 = 18;

/// Where the bytes of a composite letter begin.
const COMPOSITE_HEAD: usize = 1 + size_of::<u64>();

/// The letter with an object.
///
/// # Errors
/// What pickling it raised; no memory.
pub(crate) fn letter_of(object: &Bound<'_, PyAny>) -> PyResult<Letter> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        let bytes = bytes.as_bytes();
        if bytes.len() > PLAIN_MAX {
            return filled(object.py(), BYTES, bytes.len(), |into| {
                into.copy_from_slice(bytes);
            });
        }
    }
    let mut letter = Letter::new();
    let bytes = std::mem::take(letter.bytes_mut());
    let Message {
        bytes,
        buffers,
        objects,
    } = encode_onto(object, bytes)?;
    if buffers.is_empty() && objects.is_empty() {
        *letter.bytes_mut() = bytes;
        return Ok(letter);
    }
    let out = letter.bytes_mut();
    out.push(COMPOSITE);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(&bytes);
    let added = letter.push_moving((buffers, objects));
    added.map_err(Raise::raise)?;
    Ok(letter)
}

/// The letter with `size` bytes of a view, from `offset` on, which are there.
pub(crate) fn letter_of_bytes(
    py: Python<'_>,
    view: &ByteView<'_>,
    offset: usize,
    size: usize,
) -> PyResult<Letter> {
    filled(py, RAW, size, |into| view.copy(offset, into))
}

/// The letter with a file descriptor.
pub(crate) fn letter_of_fd(fd: OwnedFd) -> PyResult<Letter> {
    let mut letter = Letter::new();
    letter.bytes_mut().push(FD);
    letter.push(&Fd::from(fd)).map_err(Raise::raise)?;
    Ok(letter)
}

fn filled(py: Python<'_>, tag: u8, len: usize, fill: impl FnOnce(&mut [u8])) -> PyResult<Letter> {
    let _ = py;
    let letter = Letter::filled(1 + len, |into| {
        into[0] = tag;
        fill(&mut into[1..]);
    });
    letter.map_err(Raise::raise)
}

/// The object in a letter.
///
/// # Errors
/// What unpickling it raised.
pub(crate) fn object_in<'py>(py: Python<'py>, letter: &Letter) -> PyResult<Bound<'py, PyAny>> {
    let bytes = letter.bytes().map_err(Raise::raise)?;
    match bytes.split_first() {
        Some((&PICKLE, _)) => load(py, bytes, Vec::new(), Vec::new()),
        Some((&COMPOSITE, _)) => {
            let inner = composite(bytes)?;
            let start = COMPOSITE_HEAD + inner.len();
            let ((buffers, objects), _) = letter
                .read::<(Vec<Buffer>, Vec<Object>)>(start)
                .map_err(Raise::raise)?;
            decode_parts(py, inner, buffers, objects)
        }
        Some((&RAW, pickle)) => load(py, pickle, Vec::new(), Vec::new()),
        _ => plain::read(py, bytes),
    }
}

/// What a look at an inline letter finds.
pub(crate) enum Seen<'py> {
    /// An object that is quickly made.
    Object(PyResult<Bound<'py, PyAny>>),
    /// Something to be read later, from a copy.
    Letter(Letter),
}

/// Looks at the bytes of an inline letter, which are there for this moment only.
#[inline]
pub(crate) fn see<'py>(py: Python<'py>, bytes: &[u8]) -> Seen<'py> {
    if let Some(object) = plain::read_whole(py, bytes) {
        return Seen::Object(object);
    }
    let mut letter = Letter::new();
    letter.bytes_mut().extend_from_slice(bytes);
    Seen::Letter(letter)
}

/// The object that was taken, of which an inline letter was looked at.
pub(crate) fn object_of<'py>(
    py: Python<'py>,
    taken: Result<Seen<'py>, Letter>,
) -> PyResult<Bound<'py, PyAny>> {
    match taken {
        Ok(Seen::Object(object)) => object,
        Ok(Seen::Letter(letter)) | Err(letter) => object_in(py, &letter),
    }
}

fn composite(bytes: &[u8]) -> PyResult<&[u8]> {
    let (head, rest) = bytes
        .split_at_checked(COMPOSITE_HEAD)
        .ok_or_else(malformed)?;
    let len = <[u8; 8]>::try_from(&head[1..]).map_err(|_| malformed())?;
    let len = usize::try_from(u64::from_le_bytes(len)).map_err(|_| malformed())?;
    rest.get(..len).ok_or_else(malformed)
}

/// The bytes in a letter: what was sent as bytes, or the pickle of the object.
pub(crate) fn bytes_in<'py>(py: Python<'py>, letter: &Letter) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = letter.bytes().map_err(Raise::raise)?;
    match bytes.split_first() {
        Some((&RAW, content)) => Ok(PyBytes::new(py, content)),
        Some((&PICKLE, _)) => Ok(PyBytes::new(py, bytes)),
        _ => pickle_again(&object_in(py, letter)?),
    }
}

fn pickle_again<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let dumps = DUMPS.import(py, "procession.reduction", "dumps")?;
    Ok(dumps.call1((object,))?.cast_into()?)
}

/// The file descriptor in a letter.
pub(crate) fn fd_in(letter: &Letter) -> PyResult<OwnedFd> {
    match letter.bytes().map_err(Raise::raise)?.first() {
        Some(&FD) => {
            let (fd, _) = letter.read::<Fd>(1).map_err(Raise::raise)?;
            Ok(fd.into_inner())
        }
        _ => Err(UnpicklingError::new_err(
            "a file descriptor was expected, and something else was received",
        )),
    }
}
