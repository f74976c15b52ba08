//! How a worker answers: the one Rust function that all tasks call.

use super::call::{Call, Kind, Reply, Text};
use super::function::find;
use crate::message::Message;
use crate::pickle::{decode, encode, encode_by_name};
use procession::fail_task;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFunction, PyList, PyTuple};

/// Answers a call, in a worker.
pub(super) fn answer(call: Call) -> Reply {
    Python::attach(|py| {
        let reply = perform(py, call);
        if !matches!(reply, Reply::Returned(_)) {
            fail_task();
        }
        reply
    })
}

fn perform(py: Python<'_>, call: Call) -> Reply {
    if call.kind == Kind::Absent {
        return Reply::Absent;
    }
    let function = match find(py, call.function) {
        Ok(function) => function,
        Err(error) => return unreadable(py, "function", &error),
    };
    let arguments = match decode(py, call.arguments) {
        Ok(arguments) => arguments,
        Err(error) => return unreadable(py, "arguments", &error),
    };
    match invoke(call.kind, &function, arguments) {
        Ok(result) => returned(&result),
        Err(error) => raised(py, error),
    }
}

fn invoke<'py>(
    kind: Kind,
    function: &Bound<'py, PyAny>,
    arguments: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    match kind {
        Kind::Item | Kind::Absent => function.call1((arguments,)),
        Kind::Star => function.call1(positional(&arguments)?),
        Kind::Apply => {
            let (positional, keywords): (Bound<'py, PyTuple>, Bound<'py, PyDict>) =
                arguments.extract()?;
            function.call(positional, Some(&keywords))
        }
        Kind::Items => {
            static MAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            call_each(MAP.import(py, "builtins", "map")?, function, arguments)
        }
        Kind::Stars => {
            static STARMAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let starmap = STARMAP.import(py, "itertools", "starmap")?;
            call_each(starmap, function, arguments)
        }
    }
}

/// The list of what a function returns for each of the items.
fn call_each<'py>(
    mapping: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
    items: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let results = mapping.call1((function, items))?;
    function.py().get_type::<PyList>().call1((results,))
}

/// An item as positional arguments, as `function(*item)` takes it.
fn positional<'py>(item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    match item.cast_exact::<PyTuple>() {
        Ok(tuple) => Ok(tuple.clone()),
        Err(_) => PyTuple::new(item.py(), item.try_iter()?.collect::<PyResult<Vec<_>>>()?),
    }
}

fn returned(result: &Bound<'_, PyAny>) -> Reply {
    // A function that has no name is most likely not meant to be a result.
    let encoded = if result.is_exact_instance_of::<PyFunction>() {
        encode_by_name(result)
    } else {
        encode(result)
    };
    match encoded {
        Ok(message) => Reply::Returned(message),
        Err(error) => unencodable(result, &error),
    }
}

fn unencodable(result: &Bound<'_, PyAny>, error: &PyErr) -> Reply {
    let py = result.py();
    let text = in_words(py, error);
    let value = error.value(py);
    Reply::Unencodable {
        error: survivor(value),
        error_repr: repr(value),
        value_repr: repr(result),
        text,
    }
}

/// An object in words, even if it objects.
fn repr(object: &Bound<'_, PyAny>) -> String {
    object.repr().map_or_else(
        |_| format!("<{} without a repr>", object.get_type()),
        |repr| repr.to_string_lossy().into_owned(),
    )
}

fn raised(py: Python<'_>, error: PyErr) -> Reply {
    let text = in_words(py, &error);
    let exception = error.into_value(py).into_bound(py);
    match survivor(&exception) {
        Some(exception) => Reply::Raised {
            exception,
            traceback: text.traceback,
        },
        None => Reply::RaisedOpaque(text),
    }
}

/// The exception as a message that can be unpickled again, if there is one.
fn survivor(exception: &Bound<'_, PyAny>) -> Option<Message> {
    proven(exception).or_else(|| {
        static PRESERVED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = exception.py();
        let preserved = PRESERVED.import(py, "procession._pool_workers", "Preserved");
        proven(&preserved.and_then(|it| it.call1((exception,))).ok()?)
    })
}

/// An object as a message, if that can be unpickled.
fn proven(object: &Bound<'_, PyAny>) -> Option<Message> {
    let message = encode(object).ok()?;
    let copy = Message {
        bytes: message.bytes.clone(),
        buffers: Vec::new(),
        objects: message.objects.clone(),
    };
    // With buffers it cannot be tried without losing it.
    let survives = !message.buffers.is_empty() || decode(object.py(), copy).is_ok();
    survives.then_some(message)
}

fn unreadable(py: Python<'_>, what: &str, error: &PyErr) -> Reply {
    Reply::Unreadable {
        what: what.to_owned(),
        text: in_words(py, error),
    }
}

/// An exception in words.
pub(super) fn in_words(py: Python<'_>, error: &PyErr) -> Text {
    static DESCRIBE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // With its traceback, which the value itself may not have yet.
    let exception = error.clone_ref(py).into_value(py);
    let words = DESCRIBE
        .import(py, "procession._pool_workers", "in_words")
        .and_then(|describe| describe.call1((exception,)))
        .and_then(|words| words.extract());
    match words {
        Ok((type_name, message, traceback)) => Text {
            type_name,
            message,
            traceback,
        },
        Err(_) => Text {
            type_name: error.get_type(py).to_string(),
            ..Text::default()
        },
    }
}
