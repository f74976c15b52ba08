//! The order: which function, its arguments, and what the child must know; and the code that carries it out.

use super::record::{self, Outcome, Payload, SharedProcess};
use super::setup::Setup;
use super::{PanicReport, catch_panic};
use crate::channel::{EncodeError, pack, pack_consuming, unpack};
use crate::family::Owner;
use crate::heap::{HeapError, Shared};
use crate::sys::call::Call;
use crate::sys::object::ResolveError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// Exit code of a child whose function panicked: that of a Rust program that panics.
pub(super) const PANIC_CODE: i32 = 101;
/// Exit code of a child that could not run its function.
pub(super) const FAILURE_CODE: i32 = 1;

/// What a child must know about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) daemon: bool,
    pub(super) parent_pid: u32,
    pub(super) parent: u32,
    /// The parent's main thread made it, so the kernel can tell it of the parent's death.
    pub(super) by_main_thread: bool,
}

impl Person {
    pub(super) fn parent_owner(&self) -> Option<Owner> {
        Owner::from_word(self.parent)
    }
}

/// An order, as it lies in its block; the arguments follow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) call: Call,
    pub(super) person: Person,
    /// Only for children that set themselves up.
    pub(super) setup: Option<Setup>,
}

/// A child's task while it is carried out: the context of the call.
pub(super) struct Task {
    pub(super) record: Shared<SharedProcess>,
    /// The block that holds the arguments, and where they begin. Gone once they are read.
    arguments: RefCell<Option<(Payload, usize)>>,
}

impl Task {
    /// Takes the order out of the record.
    pub(super) fn take(record: Shared<SharedProcess>) -> Result<(Self, Order), String> {
        let payload = record::take_order(&record).map_err(|error| error.to_string())?;
        let bytes = payload.bytes().map_err(|error| error.to_string())?;
        let (order, rest) =
            postcard::take_from_bytes::<Order>(bytes).map_err(|error| error.to_string())?;
        let start = bytes.len() - rest.len();
        let arguments = RefCell::new(Some((payload, start)));
        Ok((Self { record, arguments }, order))
    }

    /// Runs the function; the exit code.
    pub(super) fn run(&self, call: &Call) -> i32 {
        call.run(self).unwrap_or_else(|error| {
            let outcome = match error {
                ResolveError::MismatchedBuild => Outcome::MismatchedBuild,
                ResolveError::UnknownObject | ResolveError::OutOfRange => Outcome::FunctionNotFound,
            };
            fail(&self.record, outcome, &error.to_string())
        })
    }

    fn read_arguments<A: DeserializeOwned>(&self) -> Result<A, String> {
        let taken = self.arguments.take();
        let (payload, start) = taken.ok_or("the arguments were taken already")?;
        let bytes = payload.bytes().map_err(|error| error.to_string())?;
        unpack(&bytes[start..]).map_err(|error| error.to_string())
    }
}

/// Names a function for another process of the same build.
pub(super) fn name<A: DeserializeOwned, R: Serialize>(function: fn(A) -> R) -> Option<Call> {
    Call::name(runner::<A, R>, function)
}

/// The function that knows the types.
fn runner<A: DeserializeOwned, R: Serialize>(function: fn(A) -> R, task: &Task) -> i32 {
    match task.read_arguments::<A>() {
        Ok(arguments) => perform(&task.record, move || function(arguments)),
        Err(why) => fail(&task.record, Outcome::UndecodableArguments, &why),
    }
}

/// Runs the function and answers; the exit code.
pub(super) fn perform<R: Serialize>(
    record: &Shared<SharedProcess>,
    function: impl FnOnce() -> R,
) -> i32 {
    let for_abort = record.clone();
    let abort = move |report: &PanicReport| say(&for_abort, Outcome::Panicked, report);
    match catch_panic(function, abort) {
        Ok(result) => deliver(record, result),
        Err(report) => {
            say(record, Outcome::Panicked, &report);
            PANIC_CODE
        }
    }
}

fn deliver<R: Serialize>(record: &Shared<SharedProcess>, result: R) -> i32 {
    let mut bytes = Vec::new();
    let packed = pack_consuming(result, &mut bytes);
    let sent = packed.and_then(|holds| {
        record::answer(record, Outcome::Returned, &bytes, &holds).map_err(EncodeError::Heap)
    });
    match sent {
        Ok(()) => 0,
        Err(error) => fail(record, Outcome::UnencodableResult, &error.to_string()),
    }
}

/// Answers that the function could not be run; the exit code.
pub(super) fn fail(record: &Shared<SharedProcess>, outcome: Outcome, why: &str) -> i32 {
    say(record, outcome, &why);
    FAILURE_CODE
}

fn say(record: &Shared<SharedProcess>, outcome: Outcome, what: &impl Serialize) {
    let mut bytes = Vec::new();
    let said = pack(what, &mut bytes)
        .map_err(|error| error.to_string())
        .and_then(|_| {
            record::answer(record, outcome, &bytes, &[])
                .map_err(|error: HeapError| error.to_string())
        });
    if let Err(error) = said {
        eprintln!("procession: the end of this process cannot be told to its parent: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{Buffer, unpack};

    fn triple(x: u32) -> u32 {
        3 * x
    }

    /// Carries out an order in this very process: exit code, outcome, and the answer's bytes.
    fn carry_out(call: Call, arguments: &[u8]) -> (i32, Outcome, Vec<u8>) {
        let person = Person {
            name: "test".to_owned(),
            daemon: false,
            parent_pid: 1,
            parent: 0,
            by_main_thread: false,
        };
        let order = Order {
            call,
            person,
            setup: None,
        };
        let mut bytes = Vec::new();
        pack(&order, &mut bytes).expect("pack");
        bytes.extend(arguments);
        let record = record::create(&bytes, &[]).expect("record");
        let (task, order) = Task::take(record.clone()).expect("an order");
        let code = task.run(&order.call);
        let (outcome, payload) = record::take_answer(&record).expect("an answer");
        let payload = payload.expect("a payload");
        (code, outcome, payload.bytes().expect("bytes").to_vec())
    }

    #[test]
    fn carries_out_an_order() {
        let call = name(triple as fn(u32) -> u32).expect("in this program");
        let (code, outcome, bytes) = carry_out(call, &[14]);
        assert_eq!(
            (code, outcome, unpack(&bytes)),
            (0, Outcome::Returned, Ok(42u32))
        );
    }

    #[test]
    fn says_what_is_wrong_with_an_order() {
        let call = name(triple as fn(u32) -> u32).expect("in this program");
        let (code, outcome, why) = carry_out(call.mangled(1 << 40), &[14]);
        assert_eq!((code, outcome), (FAILURE_CODE, Outcome::FunctionNotFound));
        assert!(unpack::<String>(&why).is_ok_and(|why| why.contains("code")));
        let (code, outcome, _) = carry_out(call, &[]);
        assert_eq!(
            (code, outcome),
            (FAILURE_CODE, Outcome::UndecodableArguments)
        );
    }

    #[test]
    fn a_buffer_in_the_result_is_not_copied() {
        let record = record::create(&[], &[]).expect("record");
        let buffer = Buffer::from_slice(&[7; 100_000]).expect("buffer");
        let place = buffer.as_ptr();
        assert_eq!(perform(&record, move || (1, vec![buffer])), 0);
        let (outcome, payload) = record::take_answer(&record).expect("an answer");
        assert_eq!(outcome, Outcome::Returned);
        let payload = payload.expect("a payload");
        let (one, buffers): (i32, Vec<Buffer>) =
            unpack(payload.bytes().expect("bytes")).expect("result");
        assert_eq!((one, &buffers[0][..]), (1, &[7; 100_000][..]));
        assert_eq!(buffers[0].as_ptr(), place);
    }

    #[test]
    fn an_order_that_is_none_is_refused() {
        let record = record::create(&[0xff; 9], &[]).expect("record");
        assert!(Task::take(record).is_err());
        let empty = record::create(&[], &[]).expect("record");
        assert!(Task::take(empty).is_err());
    }
}
