//! From an answer to an object or an exception. The exceptions themselves, and their rarer shapes, are made in `procession.pool`.

use super::call::{Reply, Text};
use crate::message::Message;
use crate::pickle::decode;
use procession::{Broken, ExitStatus, TaskError, WorkerDied};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// In whose manner failures are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// `multiprocessing.pool`
    Pool,
    /// `concurrent.futures`
    Executor,
}

impl Manner {
    pub(super) fn of(executor: bool) -> Self {
        if executor { Self::Executor } else { Self::Pool }
    }
}

/// The result of a task, or the exception.
pub(super) type Settled = Result<Py<PyAny>, Py<PyAny>>;

/// What came of a task.
pub(super) fn settle(
    py: Python<'_>,
    manner: Manner,
    function: &Py<PyAny>,
    outcome: Result<Reply, TaskError>,
) -> Settled {
    match outcome {
        Ok(Reply::Returned(message)) => match decode(py, message) {
            Ok(object) => Ok(object.unbind()),
            Err(error) => Err(made(py, "_unreadable_here", (error.value(py),))),
        },
        Ok(reply) => Err(exception(py, manner, reply)),
        Err(error) => Err(failure(py, manner, function.bind(py), &error)),
    }
}

/// Calls a factory of exceptions; if that fails, there is another exception.
fn made<'py>(
    py: Python<'py>,
    factory: &str,
    arguments: impl pyo3::call::PyCallArgs<'py>,
) -> Py<PyAny> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("procession.pool").map(Bound::unbind));
    let made = module.and_then(|module| module.bind(py).getattr(factory)?.call1(arguments));
    made.map_or_else(|error| error.into_value(py).into_any(), Bound::unbind)
}

fn exception(py: Python<'_>, manner: Manner, reply: Reply) -> Py<PyAny> {
    let executor = manner == Manner::Executor;
    match reply {
        Reply::Raised {
            exception,
            traceback,
        } => match decode(py, exception) {
            Ok(exception) => made(py, "_raised", (exception, traceback, executor)),
            Err(error) => made(py, "_unreadable_here", (error.value(py),)),
        },
        Reply::RaisedOpaque(text) => words(py, "_raised_opaque", text, executor),
        Reply::Unencodable {
            error: Some(error),
            text,
            error_repr,
            value_repr,
        } => match (manner, decode(py, error)) {
            (Manner::Executor, Ok(error)) => made(py, "_raised", (error, text.traceback, true)),
            (Manner::Pool, _) => made(py, "_unencodable", (error_repr, value_repr)),
            _ => words(py, "_raised_opaque", text, executor),
        },
        Reply::Unencodable {
            error: None,
            text,
            error_repr,
            value_repr,
        } => match manner {
            Manner::Executor => words(py, "_raised_opaque", text, executor),
            Manner::Pool => made(py, "_unencodable", (error_repr, value_repr)),
        },
        Reply::Unreadable { what, text } => {
            let Text {
                type_name,
                message,
                traceback,
            } = text;
            made(
                py,
                "_unreadable_there",
                (what, type_name, message, traceback),
            )
        }
        Reply::Absent | Reply::Returned(_) => made(py, "_terminated", ("task was not sent",)),
    }
}

fn words(py: Python<'_>, factory: &str, text: Text, executor: bool) -> Py<PyAny> {
    let Text {
        type_name,
        message,
        traceback,
    } = text;
    made(py, factory, (type_name, message, traceback, executor))
}

/// The exception for a task that the engine gave up.
fn failure(
    py: Python<'_>,
    manner: Manner,
    function: &Bound<'_, PyAny>,
    error: &TaskError,
) -> Py<PyAny> {
    let text = error.to_string();
    match error {
        TaskError::WorkerDied(died) => {
            let mut died = died.clone();
            died.task = describe(&died.task, function);
            worker_died(py, &died)
        }
        TaskError::TimedOut { limit } => made(py, "TaskTimeout", (text, limit.as_secs_f64())),
        TaskError::Cancelled => made(py, "_cancelled", ()),
        TaskError::Broken(broken) => broken_pool(py, manner, broken),
        TaskError::Terminated
        | TaskError::Panicked { .. }
        | TaskError::UndecodableArguments { .. }
        | TaskError::UnencodableResult { .. }
        | TaskError::UndecodableResult { .. }
        | TaskError::FunctionNotFound { .. }
        | TaskError::NotSubmitted(_)
        | TaskError::NotDone
        | TaskError::AlreadyTaken
        | TaskError::NotOurs => made(py, "_terminated", (text,)),
    }
}

/// The engine's words for a task, with the name of the Python function that it called.
fn describe(task: &str, function: &Bound<'_, PyAny>) -> String {
    let Some((number, _)) = task.split_once(" of `") else {
        return task.to_owned();
    };
    let name = function
        .getattr("__qualname__")
        .and_then(|name| name.extract::<String>())
        .unwrap_or_else(|_| function.get_type().to_string());
    format!("{number} of `{name}`")
}

fn worker_died(py: Python<'_>, died: &WorkerDied) -> Py<PyAny> {
    let (exitcode, signal) = match died.status {
        ExitStatus::Exited(code) => (Some(code), None),
        ExitStatus::Signaled { signal, .. } => (Some(-signal), Some(signal)),
        ExitStatus::Unknown => (None, None),
    };
    let details = PyDict::new(py);
    let filled = details
        .set_item("worker", &died.worker)
        .and_then(|()| details.set_item("pid", died.pid))
        .and_then(|()| details.set_item("exitcode", exitcode))
        .and_then(|()| details.set_item("signal", signal))
        .and_then(|()| details.set_item("task", &died.task))
        .and_then(|()| details.set_item("tries", died.tries))
        .and_then(|()| details.set_item("peak_memory", died.peak_memory))
        .and_then(|()| details.set_item("likely_out_of_memory", died.likely_out_of_memory));
    match filled {
        Ok(()) => made(py, "_worker_died", (died.to_string(), details)),
        Err(error) => error.into_value(py).into_any(),
    }
}

/// The exception for a pool that can run nothing any more.
pub(super) fn broken_pool(py: Python<'_>, manner: Manner, broken: &Broken) -> Py<PyAny> {
    let executor = manner == Manner::Executor;
    match broken {
        Broken::Initializer {
            backtrace, detail, ..
        } => {
            let message = Message {
                bytes: detail.clone(),
                ..Message::default()
            };
            let cause = decode(py, message).ok();
            made(
                py,
                "_broken_initializer",
                (broken.to_string(), cause, backtrace, executor),
            )
        }
        Broken::Workers { .. } | Broken::Start { .. } => made(py, "_broken", (broken.to_string(),)),
    }
}
