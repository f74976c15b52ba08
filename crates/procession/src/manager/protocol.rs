//! What a client and a server say to each other, and the functions that know the types.
//!
//! ```text
//! request:  Order, argument             answer:  Answer, result
//! ```
//! All as postcard. Inside the family both travel as a [`Letter`], which holds the shared objects that are in it; outside, the same bytes in a frame
//! (`remote/frame.rs`).

use super::cell::{Cell, Waited};
use super::error::ManagerError;
use super::registry::{AnyCell, State};
use super::remote::{Address, AuthKey, Stream};
use crate::channel::{Connection, Letter, Packed, unpack};
use crate::process::Portable;
use crate::process::{PanicReport, catch_panic};
use crate::sys::call::Call;
use crate::sys::object::ResolveError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The client's end of a connection inside the family, and the server's.
pub(super) type Line = Connection<Letter, Letter, Packed>;

/// The first thing that a server says on a new line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Hello {
    /// As which participant the server is known.
    Welcome { owner: u32 },
    /// As many clients as there can be.
    Full,
}

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Builds a state: what the function makes of the argument. The answer is a `Created` (`server.rs`).
    Create { call: Call },
    /// Runs a function on a state. `patience` is for functions that wait.
    Run {
        state: u64,
        call: Call,
        patience: Option<Duration>,
    },
    /// Keeps a state under a name.
    Publish { name: String, state: u64 },
    /// Forgets a name. The answer is whether there was one.
    Unpublish { name: String },
    /// The state of that name: a `Created` (`server.rs`).
    Find { name: String },
    /// Whether the server has this function: it is the same build.
    Compare { call: Call },
    /// Opens a door to outside the family. The answer is the address. From inside only.
    Serve { address: Address, key: AuthKey },
}

/// What the server says. After `Returned` comes the result.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Returned,
    TimedOut,
    Panicked(PanicReport),
    Stale,
    WrongType { expected: String, found: String },
    NotPublished(String),
    UndecodableArgument(String),
    UnencodableResult(String),
    FunctionNotFound(String),
    MismatchedBuild(String),
    Refused(String),
}

impl Answer {
    pub(super) fn not_resolved(error: ResolveError) -> Self {
        let reason = error.to_string();
        match error {
            ResolveError::MismatchedBuild => Self::MismatchedBuild(reason),
            ResolveError::UnknownObject | ResolveError::OutOfRange => {
                Self::FunctionNotFound(reason)
            }
        }
    }

    /// As a letter of the same kind as the one it answers.
    pub(super) fn to_letter(&self, request: &Letter) -> Letter {
        let mut letter = request.reply();
        // Cannot fail: nothing but numbers and text, and there are no objects in it.
        let _ = letter.push(self);
        letter
    }

    /// The answer in a letter, and where the result begins. `None` inside: the time ran out.
    pub(super) fn read(letter: &Letter) -> Result<Option<&[u8]>, ManagerError> {
        let unreadable = |reason: String| ManagerError::UndecodableResult { reason };
        let bytes = letter
            .bytes()
            .map_err(|error| unreadable(error.to_string()))?;
        let (answer, rest) = postcard::take_from_bytes::<Self>(bytes)
            .map_err(|error| unreadable(error.to_string()))?;
        Err(match answer {
            Self::Returned => return Ok(Some(rest)),
            Self::TimedOut => return Ok(None),
            Self::Panicked(report) => ManagerError::Panicked {
                message: report.message,
                location: Some(report.location).filter(|location| !location.is_empty()),
                backtrace: report.backtrace,
            },
            Self::Stale => ManagerError::Stale,
            Self::WrongType { expected, found } => ManagerError::WrongType { expected, found },
            Self::NotPublished(name) => ManagerError::NotPublished { name },
            Self::UndecodableArgument(reason) => ManagerError::UndecodableArgument { reason },
            Self::UnencodableResult(reason) => ManagerError::UnencodableResult { reason },
            Self::FunctionNotFound(reason) => ManagerError::FunctionNotFound { reason },
            Self::MismatchedBuild(reason) => ManagerError::MismatchedBuild { reason },
            Self::Refused(reason) => ManagerError::Refused { reason },
        })
    }
}

/// What is sent back for a request that returned `result`.
pub(super) fn returned<R: Serialize>(request: &Letter, result: &R) -> Letter {
    let mut letter = request.reply();
    let pushed = letter
        .push(&Answer::Returned)
        .and_then(|()| letter.push(result));
    match pushed {
        Ok(()) => letter,
        Err(error) => Answer::UnencodableResult(error.to_string()).to_letter(request),
    }
}

/// The result that a letter brings.
pub(super) fn result<R: DeserializeOwned>(letter: &Letter) -> Result<Option<R>, ManagerError> {
    let Some(bytes) = Answer::read(letter)? else {
        return Ok(None);
    };
    unpack(bytes)
        .map(Some)
        .map_err(|error| ManagerError::UndecodableResult {
            reason: error.to_string(),
        })
}

/// Who asks, as far as one can look whether it is still there.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    Line(Line),
    Stream(Arc<Stream>),
    #[cfg(test)]
    Nobody,
}

impl Peer {
    /// Whether nobody waits for the answer any more. A client says nothing while it waits, so anything that can be read is its end.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Line(line) => line.poll(Duration::ZERO),
            Self::Stream(stream) => stream.has_ended(),
            #[cfg(test)]
            Self::Nobody => true,
        }
    }
}

/// A request while it is carried out: the context of the call.
pub(super) struct Errand {
    pub(super) request: Letter,
    /// Where the argument begins.
    pub(super) start: usize,
    /// The state to run on.
    pub(super) state: Option<State>,
    pub(super) deadline: Option<Instant>,
    pub(super) peer: Peer,
    /// What came of it.
    pub(super) done: RefCell<Option<Done>>,
}

/// What came of a function.
pub(super) enum Done {
    Letter(Letter),
    Built(State),
    /// Nobody waits for an answer.
    Deserted,
}

impl Errand {
    fn argument<A: DeserializeOwned>(&self) -> Result<A, Answer> {
        let unreadable = |reason: String| Answer::UndecodableArgument(reason);
        let bytes = self
            .request
            .bytes()
            .map_err(|error| unreadable(error.to_string()))?;
        unpack(bytes.get(self.start..).unwrap_or_default())
            .map_err(|error| unreadable(error.to_string()))
    }

    /// The state, if it is an `S`.
    fn cell<S: Send + 'static>(&self) -> Result<Arc<Cell<S>>, Answer> {
        let state = self.state.as_ref().ok_or(Answer::Stale)?;
        let cell: AnyCell = Arc::clone(&state.cell);
        cell.downcast().map_err(|_| Answer::WrongType {
            expected: std::any::type_name::<S>().to_owned(),
            found: state.type_name.to_owned(),
        })
    }

    fn say(&self, answer: Result<Done, Answer>) -> i32 {
        let done = answer.unwrap_or_else(|answer| Done::Letter(answer.to_letter(&self.request)));
        self.done.replace(Some(done));
        0
    }

    fn letter<R: Serialize>(&self, result: &R) -> Done {
        Done::Letter(returned(&self.request, result))
    }
}

/// Names a function that builds a state.
pub(super) fn name_builder<A, S>(function: fn(A) -> S) -> Option<Call>
where
    A: DeserializeOwned,
    S: Send + 'static,
{
    Call::name(build::<A, S>, function)
}

fn build<A: DeserializeOwned, S: Send + 'static>(function: fn(A) -> S, errand: &Errand) -> i32 {
    errand.say(errand.argument::<A>().and_then(|argument| {
        let state = catch_panic(|| function(argument), |_| ()).map_err(Answer::Panicked)?;
        Ok(Done::Built(State {
            cell: Arc::new(Cell::new(state)),
            type_name: std::any::type_name::<S>(),
        }))
    }))
}

/// Names a function on a state.
pub(super) fn name_use<S, A, R>(function: fn(&mut S, A) -> R) -> Option<Call>
where
    S: Send + 'static,
    A: DeserializeOwned,
    R: Serialize,
{
    Call::name_on_state(run::<S, A, R>, function)
}

fn run<S, A, R>(function: fn(&mut S, A) -> R, errand: &Errand) -> i32
where
    S: Send + 'static,
    A: DeserializeOwned,
    R: Serialize,
{
    errand.say(errand.cell::<S>().and_then(|cell| {
        let argument = errand.argument()?;
        // Encoded under the lock's protection no longer: the result is the caller's own.
        let result = cell.with(|state| function(state, argument));
        result
            .map(|result| errand.letter(&result))
            .map_err(Answer::Panicked)
    }))
}

/// Names a function that is tried until it gives something.
pub(super) fn name_attempt<S, A, R>(function: fn(&mut S, &A) -> Option<R>) -> Option<Call>
where
    S: Send + 'static,
    A: DeserializeOwned,
    R: Serialize,
{
    Call::name_attempt(attempt::<S, A, R>, function)
}

fn attempt<S, A, R>(function: fn(&mut S, &A) -> Option<R>, errand: &Errand) -> i32
where
    S: Send + 'static,
    A: DeserializeOwned,
    R: Serialize,
{
    errand.say(errand.cell::<S>().and_then(|cell| {
        let argument = errand.argument()?;
        let function = |state: &mut S| function(state, &argument);
        match cell.wait(function, errand.deadline, &errand.peer) {
            Waited::Done(result) => Ok(errand.letter(&result)),
            Waited::TimedOut => Err(Answer::TimedOut),
            Waited::Panicked(report) => Err(Answer::Panicked(report)),
            Waited::Deserted => Ok(Done::Deserted),
        }
    }))
}

/// The function that builds a state out of itself.
pub(super) fn itself<S: Portable>(state: S) -> S {
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn errand(state: Option<State>, argument: &[u8]) -> Errand {
        Errand {
            request: Letter::from_bytes(argument.to_vec()),
            start: 0,
            state,
            deadline: None,
            peer: Peer::Nobody,
            done: RefCell::new(None),
        }
    }

    fn answer<R: DeserializeOwned>(call: &Call, errand: &Errand) -> Result<R, ManagerError> {
        if let Err(error) = call.run(errand) {
            let letter = Answer::not_resolved(error).to_letter(&errand.request);
            return result(&letter).map(|result| result.expect("in time"));
        }
        let Some(Done::Letter(letter)) = errand.done.take() else {
            panic!("no letter")
        };
        result(&letter).map(|result| result.expect("in time"))
    }

    fn text() -> State {
        State {
            cell: Arc::new(Cell::new("ab".to_owned())),
            type_name: std::any::type_name::<String>(),
        }
    }

    fn push(text: &mut String, more: String) -> usize {
        text.push_str(&more);
        text.len()
    }

    #[test]
    fn a_request_is_carried_out_or_says_why_not() {
        let call = name_use(push).expect("in this program");
        let cd = [2, b'c', b'd'];
        assert_eq!(answer(&call, &errand(Some(text()), &cd)), Ok(4usize));
        let stale = answer::<usize>(&call, &errand(None, &cd));
        assert_eq!(stale, Err(ManagerError::Stale));
        let unread = answer::<usize>(&call, &errand(Some(text()), &[200]));
        assert!(matches!(
            unread,
            Err(ManagerError::UndecodableArgument { .. })
        ));
        let lost = answer::<usize>(&call.mangled(1 << 40), &errand(Some(text()), &cd));
        assert!(matches!(lost, Err(ManagerError::FunctionNotFound { .. })));
        let number = State {
            cell: Arc::new(Cell::new(1u8)),
            type_name: "u8",
        };
        let wrong = answer::<usize>(&call, &errand(Some(number), &cd));
        assert!(matches!(wrong, Err(ManagerError::WrongType { found, .. }) if found == "u8"));
    }

    #[test]
    fn another_build_is_told_apart() {
        let call = name_use(push).expect("in this program");
        let mut bytes = postcard::to_allocvec(&call).expect("bytes");
        // The runner's object is named by its name's hash, a varint, and its build: whose last byte this is.
        let (name, rest) = postcard::take_from_bytes::<u64>(&bytes).expect("the name");
        let _ = name;
        let at = bytes.len() - rest.len() + 19;
        bytes[at] ^= 1;
        let other: Call = postcard::from_bytes(&bytes).expect("a call");
        assert_ne!(other, call);
        let refused = answer::<usize>(&other, &errand(Some(text()), &[0]));
        assert!(
            matches!(refused, Err(ManagerError::MismatchedBuild { .. })),
            "{refused:?}"
        );
        let check = other.check().map_err(Answer::not_resolved);
        assert!(matches!(check, Err(Answer::MismatchedBuild(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_order_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
            let _ = postcard::take_from_bytes::<Order>(&bytes);
            let _ = result::<String>(&Letter::from_bytes(bytes.clone()));
            let _ = postcard::from_bytes::<Hello>(&bytes);
        }
    }
}
