//! What a worker is asked, and what it answers.

use super::function::FunctionRef;
use crate::message::Message;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use serde::{Deserialize, Serialize};

/// How the arguments of a call are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A pair: positional arguments, keyword arguments.
    Apply,
    /// The one argument itself.
    Item,
    /// The positional arguments.
    Star,
    /// Several single arguments, one call for each.
    Items,
    /// Several tuples of positional arguments, one call for each.
    Stars,
    /// They could not be pickled; nothing is called.
    Absent,
}

impl Kind {
    /// Whether the answer is a list of results.
    pub(super) fn is_chunk(self) -> bool {
        matches!(self, Self::Items | Self::Stars)
    }

    /// Adds to a list what came of a call: a result or, of a chunk, a list of results.
    pub(super) fn add(self, results: &Bound<'_, PyList>, answer: Bound<'_, PyAny>) -> PyResult<()> {
        if !self.is_chunk() {
            return results.append(answer);
        }
        let end = results.len();
        results.set_slice(end, end, &answer)
    }
}

impl FromPyObject<'_, '_> for Kind {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match object.extract::<&str>()? {
            "apply" => Ok(Self::Apply),
            "item" => Ok(Self::Item),
            "star" => Ok(Self::Star),
            "items" => Ok(Self::Items),
            "stars" => Ok(Self::Stars),
            other => Err(PyValueError::new_err(format!(
                "`{other}` is no kind of call"
            ))),
        }
    }
}

/// What a worker is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) function: FunctionRef,
    pub(super) arguments: Message,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// What the function returned; of a chunk, a list of that.
    Returned(Message),
    /// What it raised, and where, as text.
    Raised {
        exception: Message,
        traceback: String,
    },
    /// The same, of an exception that does not survive pickling.
    RaisedOpaque(Text),
    /// It returned what cannot be pickled: the error, and what it is about.
    Unencodable {
        error: Option<Message>,
        text: Text,
        error_repr: String,
        value_repr: String,
    },
    /// Function or arguments cannot be unpickled in the worker.
    Unreadable { what: String, text: Text },
    /// The call was one without arguments: it could not be sent.
    Absent,
}

/// An exception in words.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Text {
    pub(super) type_name: String,
    pub(super) message: String,
    pub(super) traceback: String,
}
