//! A task while it is run: what goes in, what comes out.
//!
//! The runner (an instance of a generic function, which knows the types) is given this and nothing else; everything around it is bytes. One context serves
//! all tasks of a worker, so the space for arguments and results is allocated once.

use super::record::{HEAD, KEEP, Packed, Tag, TaskHead};
use super::worker::last_words;
use crate::channel::{Delivery, pack, pack_consuming, unpack, unpack_keeping};
use crate::process::{PanicReport, catch_panic};
use crate::sys::call::Resolved;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};

/// Space larger than this is not kept between tasks.
const KEEP_SPACE: usize = 1 << 20;

thread_local! {
    /// The task that this thread runs has said that it failed.
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Says that the task that the calling thread runs failed, although it will return: it is tried again if it may be ([`TaskOptions::retries`](crate::TaskOptions::retries)); if not, what it
/// returns is its result. For embedders, whose functions fail in ways of their own. Without effect on tasks that run in threads, and outside of tasks.
///
/// # Examples
/// ```
/// use procession::{Executor, Queue, TaskOptions, fail_task};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let executor = Executor::new(1)?;
///     let tries = Queue::unbounded()?;
///     let function = |tries: Queue<u8>| {
///         tries.put(1).expect("put");
///         fail_task();
///         tries.len()
///     };
///     let future = executor.submit_with(TaskOptions::new().retries(2), function, tries.clone())?;
///     assert_eq!(future.result()?, 3);
///     Ok(())
/// }
/// ```
pub fn fail_task() {
    FAILED.set(true);
}

/// Arguments and result of one task.
#[derive(Debug, Default)]
pub(super) struct Context {
    input: RefCell<Vec<u8>>,
    /// Arguments that came in a block.
    block: RefCell<Option<Delivery>>,
    answer: RefCell<Packed>,
}

impl Context {
    /// Forgets the last task.
    pub(super) fn clear(&self) {
        let mut input = self.input.borrow_mut();
        input.clear();
        input.shrink_to(KEEP_SPACE);
        *self.block.borrow_mut() = None;
        self.begin_answer();
    }

    fn begin_answer(&self) {
        let mut answer = self.answer.borrow_mut();
        answer.bytes.clear();
        answer.bytes.shrink_to(KEEP_SPACE);
        answer.bytes.extend_from_slice(&[0; HEAD]);
        answer.holds.clear();
    }

    /// Takes a record that is here as bytes.
    pub(super) fn load(&self, record: &[u8]) {
        let mut input = self.input.borrow_mut();
        input.clear();
        input.extend_from_slice(record);
        drop(input);
        *self.block.borrow_mut() = None;
        self.begin_answer();
    }

    /// Takes a record that is here as a block.
    pub(super) fn keep(&self, delivery: Delivery) {
        self.input.borrow_mut().clear();
        *self.block.borrow_mut() = Some(delivery);
        self.begin_answer();
    }

    fn with_record<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
        match &*self.block.borrow() {
            Some(delivery) => delivery.payload().map(f).map_err(|error| error.to_string()),
            None => Ok(f(&self.input.borrow())),
        }
    }

    /// The header of the record.
    pub(super) fn head(&self) -> Option<TaskHead> {
        self.with_record(TaskHead::read).ok().flatten()
    }

    /// What follows the header, decoded.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        let read = self.with_record(|record| {
            let keeps = TaskHead::read(record).is_some_and(|head| head.flags & KEEP != 0);
            let arguments = record.get(HEAD..).unwrap_or_default();
            if keeps {
                unpack_keeping(arguments)
            } else {
                unpack(arguments)
            }
        })?;
        read.map_err(|error| error.to_string())
    }

    /// Calls the function; what it left in the answer.
    pub(super) fn call(&self, call: &Resolved<Self>) -> Tag {
        let code = call.run(self);
        // Our own runners return nothing else.
        [
            Tag::Returned,
            Tag::Panicked,
            Tag::UndecodableArguments,
            Tag::UnencodableResult,
            Tag::Failed,
        ]
        .into_iter()
        .find(|tag| *tag as i32 == code)
        .unwrap_or(Tag::UnencodableResult)
    }

    /// For runners: decodes the arguments, calls `function`, packs its result.
    pub(super) fn perform<A: DeserializeOwned, R: Serialize>(
        &self,
        function: impl FnOnce(A) -> R,
    ) -> i32 {
        let arguments = match self.read::<A>() {
            Ok(arguments) => arguments,
            Err(why) => return self.say(Tag::UndecodableArguments, &why) as i32,
        };
        // The space is free for tasks within the task; a block with handles goes when its arguments are held themselves.
        *self.block.borrow_mut() = None;
        FAILED.set(false);
        match catch_panic(|| function(arguments), last_words) {
            Ok(result) => match self.deliver(result) {
                Tag::Returned if FAILED.get() => Tag::Failed as i32,
                tag => tag as i32,
            },
            Err(report) => self.report(report) as i32,
        }
    }

    /// Packs the result, which is dropped: buffers in it move.
    fn deliver(&self, result: impl Serialize) -> Tag {
        let mut answer = self.answer.borrow_mut();
        let Packed { bytes, holds } = &mut *answer;
        match pack_consuming(result, bytes) {
            Ok(new) => {
                *holds = new;
                Tag::Returned
            }
            Err(error) => {
                drop(answer);
                self.say(Tag::UnencodableResult, &error.to_string())
            }
        }
    }

    /// Packs what a panic said.
    pub(super) fn report(&self, report: PanicReport) -> Tag {
        match self.deliver(report) {
            Tag::Returned => Tag::Panicked,
            tag => tag,
        }
    }

    /// Answers with a text.
    pub(super) fn say(&self, tag: Tag, what: &str) -> Tag {
        self.begin_answer();
        let mut answer = self.answer.borrow_mut();
        // A text can always be packed.
        let _ = pack(what, &mut answer.bytes);
        tag
    }

    /// The answer, with room for its header.
    pub(super) fn with_answer<R>(&self, f: impl FnOnce(&mut Packed) -> R) -> R {
        f(&mut self.answer.borrow_mut())
    }

    /// The answer without its header.
    pub(super) fn answer(&self) -> Vec<u8> {
        self.answer
            .borrow()
            .bytes
            .get(HEAD..)
            .unwrap_or_default()
            .to_vec()
    }
}
