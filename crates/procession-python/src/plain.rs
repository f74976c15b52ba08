//! Plain values as bytes, without pickle: None, bool, int of 64 bits, float, str, bytes, small tuples, lists and dicts of those, and long tuples and lists of nothing else but those.
//!
//! ```text
//! value     tag, content                      the content of a str or bytes goes to the end of the message
//! item      tag, content                      in a container: a str or bytes has its length (u32) before it
//! container tag, number of items (u8), items  a dict's: key, value, key, value ...
//! row       tag, number of items (u32), items a long tuple or list, without containers in it
//! ```
//!
//! Only exact types: subclasses, and whatever else pickle does for an object (reducers, sharing), is pickle's business. A list or dict that occurs twice in a value is one
//! object, which only pickle can say; so is one that contains itself. No Python code runs in here; but on a free-threaded interpreter, another thread may change a list or dict meanwhile.

use crate::error::UnpicklingError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Longest message in this encoding, but for a row.
pub(crate) const PLAIN_MAX: usize = 64 * 1024;
/// Longest row.
const ROW_MAX: usize = 1024 * 1024;
/// Most items in containers of one value, all together, but for a row. Pickle is as fast on many.
const MOST_ITEMS: usize = 64;
/// Most items in a row.
const MOST_IN_ROW: usize = 64 * 1024;
/// Most lists and dicts in a value.
const MOST_MUTABLE: usize = 8;
/// Containers in containers.
const DEEPEST: usize = 4;

const NONE: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const STR: u8 = 5;
pub(crate) const BYTES: u8 = 6;
const TUPLE: u8 = 7;
const LIST: u8 = 8;
const DICT: u8 = 9;
const TUPLE_ROW: u8 = 10;
const LIST_ROW: u8 = 11;

/// Writes a plain value into an empty vector. `false`: it is none, and nothing was written.
#[inline]
pub(crate) fn write(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let mut writer = Writer {
        out,
        most: PLAIN_MAX,
        items: 0,
        mutable: [std::ptr::null_mut(); MOST_MUTABLE],
        mutables: 0,
    };
    let written = writer.value(object).is_some();
    if !written {
        out.clear();
    }
    written
}

/// Gives the tag and the content of a value that has no parts to `put`, which says whether it took them. `false`: nobody did.
#[inline]
pub(crate) fn hand_over(object: &Bound<'_, PyAny>, put: impl FnOnce(&[u8], &[u8]) -> bool) -> bool {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return put(&[BYTES], bytes.as_bytes());
    }
    if let Ok(text) = object.cast_exact::<PyString>() {
        return text.to_str().is_ok_and(|text| put(&[STR], text.as_bytes()));
    }
    let Ok(int) = object.cast_exact::<PyInt>() else {
        return false;
    };
    int.extract::<i64>()
        .is_ok_and(|value| put(&[INT], &value.to_le_bytes()))
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Bytes that it may get.
    most: usize,
    items: usize,
    /// The lists and dicts met so far, by identity.
    mutable: [*mut pyo3::ffi::PyObject; MOST_MUTABLE],
    mutables: usize,
}

/// A `None` gives up.
type Written = Option<()>;

impl Writer<'_> {
    fn value(&mut self, object: &Bound<'_, PyAny>) -> Written {
        if let Ok(text) = object.cast_exact::<PyString>() {
            return self.tagged(STR, text.to_str().ok()?.as_bytes());
        }
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return self.tagged(BYTES, bytes.as_bytes());
        }
        self.atom(object)
            .or_else(|| self.container(object, DEEPEST))
    }

    fn item(&mut self, object: &Bound<'_, PyAny>, depth: usize) -> Written {
        self.items += 1;
        if self.items > MOST_ITEMS {
            return None;
        }
        self.simple(object)
            .or_else(|| self.container(object, depth))
    }

    /// An item that is no container.
    #[inline]
    fn simple(&mut self, object: &Bound<'_, PyAny>) -> Written {
        if let Ok(text) = object.cast_exact::<PyString>() {
            return self.sized(STR, text.to_str().ok()?.as_bytes());
        }
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return self.sized(BYTES, bytes.as_bytes());
        }
        self.atom(object)
    }

    /// Writes nothing if it is none.
    #[inline]
    fn atom(&mut self, object: &Bound<'_, PyAny>) -> Written {
        if let Ok(int) = object.cast_exact::<PyInt>() {
            let value: i64 = int.extract().ok()?;
            return self.tagged(INT, &value.to_le_bytes());
        }
        if let Ok(float) = object.cast_exact::<PyFloat>() {
            return self.tagged(FLOAT, &float.value().to_le_bytes());
        }
        if object.is_none() {
            self.out.push(NONE);
            return Some(());
        }
        let flag = object.cast_exact::<PyBool>().ok()?;
        self.out.push(if flag.is_true() { TRUE } else { FALSE });
        Some(())
    }

    fn container(&mut self, object: &Bound<'_, PyAny>, depth: usize) -> Written {
        let depth = depth.checked_sub(1)?;
        if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            if tuple.len() > MOST_ITEMS {
                self.row_head(TUPLE_ROW, tuple.len())?;
                return (tuple.iter_borrowed())
                    .try_for_each(|item| self.simple(&item).ok_or(()))
                    .ok();
            }
            self.head(TUPLE, tuple.len())?;
            return (tuple.iter_borrowed())
                .try_for_each(|item| self.item(&item, depth).ok_or(()))
                .ok();
        }
        if let Ok(list) = object.cast_exact::<PyList>() {
            if list.len() > MOST_ITEMS {
                return self.list_row(list);
            }
            self.first_seen(object)?;
            return self.list(list, depth);
        }
        let dict = object.cast_exact::<PyDict>().ok()?;
        self.first_seen(object)?;
        self.dict(dict, depth)
    }

    fn list(&mut self, list: &Bound<'_, PyList>, depth: usize) -> Written {
        self.head(LIST, list.len())?;
        let count_at = self.out.len() - 1;
        let mut count = 0;
        for item in list {
            self.item(&item, depth)?;
            // Does not overflow: there are at most `MOST_ITEMS`.
            count += 1;
        }
        self.out[count_at] = count;
        Some(())
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>, depth: usize) -> Written {
        // Another thread could change it meanwhile, and an iterator panics then. The copy is made at one time, and is nobody else's.
        #[cfg(Py_GIL_DISABLED)]
        let dict = &dict.copy().ok()?;
        self.head(DICT, dict.len())?;
        for (key, value) in dict {
            self.item(&key, depth)?;
            self.item(&value, depth)?;
        }
        Some(())
    }

    fn first_seen(&mut self, object: &Bound<'_, PyAny>) -> Written {
        let identity = object.as_ptr();
        let seen = &self.mutable[..self.mutables];
        if seen.len() == MOST_MUTABLE || seen.contains(&identity) {
            return None;
        }
        self.mutable[self.mutables] = identity;
        self.mutables += 1;
        Some(())
    }

    fn list_row(&mut self, list: &Bound<'_, PyList>) -> Written {
        self.row_head(LIST_ROW, list.len())?;
        let count_at = self.out.len() - size_of::<u32>();
        let mut count = 0u32;
        for item in list {
            self.simple(&item)?;
            count = count.checked_add(1)?;
        }
        self.out[count_at..][..size_of::<u32>()].copy_from_slice(&count.to_le_bytes());
        Some(())
    }

    /// Begins a row, which is no part of anything else.
    fn row_head(&mut self, tag: u8, len: usize) -> Written {
        if !self.out.is_empty() || len > MOST_IN_ROW {
            return None;
        }
        self.most = ROW_MAX;
        self.out.push(tag);
        self.out
            .extend_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
        Some(())
    }

    fn head(&mut self, tag: u8, len: usize) -> Written {
        if len > MOST_ITEMS {
            return None;
        }
        self.out.push(tag);
        self.out.push(u8::try_from(len).ok()?);
        Some(())
    }

    fn tagged(&mut self, tag: u8, content: &[u8]) -> Written {
        if self.out.len() + content.len() > self.most {
            return None;
        }
        self.out.push(tag);
        self.out.extend_from_slice(content);
        Some(())
    }

    fn sized(&mut self, tag: u8, content: &[u8]) -> Written {
        if self.out.len() + content.len() > self.most {
            return None;
        }
        let len = u32::try_from(content.len()).ok()?;
        self.out.push(tag);
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(content);
        Some(())
    }
}

/// The value in a message.
///
/// # Errors
/// The bytes make no sense.
#[inline]
pub(crate) fn read<'py>(py: Python<'py>, message: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let (&tag, content) = message.split_first().ok_or_else(malformed)?;
    match tag {
        STR => text(py, content),
        BYTES => Ok(PyBytes::new(py, content).into_any()),
        TUPLE_ROW => Ok(PyTuple::new(py, row(py, content)?)?.into_any()),
        LIST_ROW => Ok(PyList::new(py, row(py, content)?)?.into_any()),
        _ => {
            let mut rest = message;
            let value = item(py, &mut rest, DEEPEST)?;
            if rest.is_empty() {
                Ok(value)
            } else {
                Err(malformed())
            }
        }
    }
}

/// The value in a message if it has no parts.
#[inline]
pub(crate) fn read_whole<'py>(
    py: Python<'py>,
    message: &[u8],
) -> Option<PyResult<Bound<'py, PyAny>>> {
    match message.first() {
        Some(&(NONE..=BYTES)) => Some(read(py, message)),
        _ => None,
    }
}

fn row<'py>(py: Python<'py>, mut rest: &[u8]) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let len = u32::from_le_bytes(take(&mut rest)?) as usize;
    // Each takes a byte at least: no more room than that is worth asking for.
    if len > rest.len() {
        return Err(malformed());
    }
    let mut items = Vec::with_capacity(len);
    for _ in 0..len {
        items.push(item(py, &mut rest, 0)?);
    }
    if rest.is_empty() {
        Ok(items)
    } else {
        Err(malformed())
    }
}

fn item<'py>(py: Python<'py>, rest: &mut &[u8], depth: usize) -> PyResult<Bound<'py, PyAny>> {
    let tag = take::<1>(rest)?[0];
    Ok(match tag {
        NONE => py.None().into_bound(py),
        TRUE => PyBool::new(py, true).to_owned().into_any(),
        FALSE => PyBool::new(py, false).to_owned().into_any(),
        INT => i64::from_le_bytes(take(rest)?)
            .into_pyobject(py)?
            .into_any(),
        FLOAT => PyFloat::new(py, f64::from_le_bytes(take(rest)?)).into_any(),
        STR => text(py, sized(rest)?)?,
        BYTES => PyBytes::new(py, sized(rest)?).into_any(),
        TUPLE => PyTuple::new(py, items(py, rest, depth)?)?.into_any(),
        LIST => PyList::new(py, items(py, rest, depth)?)?.into_any(),
        DICT => dict(py, rest, depth)?.into_any(),
        _ => return Err(malformed()),
    })
}

fn items<'py>(py: Python<'py>, rest: &mut &[u8], depth: usize) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let depth = depth.checked_sub(1).ok_or_else(malformed)?;
    let len = take::<1>(rest)?[0];
    (0..len).map(|_| item(py, rest, depth)).collect()
}

fn dict<'py>(py: Python<'py>, rest: &mut &[u8], depth: usize) -> PyResult<Bound<'py, PyDict>> {
    let depth = depth.checked_sub(1).ok_or_else(malformed)?;
    let len = take::<1>(rest)?[0];
    let dict = PyDict::new(py);
    for _ in 0..len {
        let key = item(py, rest, depth)?;
        dict.set_item(key, item(py, rest, depth)?)?;
    }
    Ok(dict)
}

fn text<'py>(py: Python<'py>, content: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let text = std::str::from_utf8(content).map_err(|_| malformed())?;
    Ok(PyString::new(py, text).into_any())
}

fn take<const N: usize>(rest: &mut &[u8]) -> PyResult<[u8; N]> {
    let (taken, left) = rest.split_first_chunk().ok_or_else(malformed)?;
    *rest = left;
    Ok(*taken)
}

fn sized<'a>(rest: &mut &'a [u8]) -> PyResult<&'a [u8]> {
    let len = u32::from_le_bytes(take(rest)?) as usize;
    let (taken, left) = rest.split_at_checked(len).ok_or_else(malformed)?;
    *rest = left;
    Ok(taken)
}

/// For messages that nobody can have written.
pub(crate) fn malformed() -> PyErr {
    UnpicklingError::new_err(
        "the message makes no sense: a peer overwrote it, or runs another version",
    )
}
