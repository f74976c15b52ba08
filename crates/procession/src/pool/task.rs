//! A task, from its submission to its outcome.

use super::error::TaskError;
use super::record::{HEAD, Packed, TaskHead, TaskId};
use super::small::Small;
use crate::channel::{Delivery, EncodeError, INLINE_MAX, unpack};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// What may be asked for a task beyond its function and arguments.
///
/// # Examples
/// ```
/// use procession::TaskOptions;
/// use std::time::Duration;
///
/// let careful = TaskOptions::new().timeout(Duration::from_secs(5)).retries(2).priority(1);
/// # let _ = careful;
/// ```
#[derive(Clone, Debug, Default)]
pub struct TaskOptions {
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
    pub(super) priority: i32,
    pub(super) name: Option<Arc<str>>,
}

impl TaskOptions {
    /// Nothing special: no time limit, one try, priority 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the task may run, counted from when a worker begins it. One that runs longer is ended together with its worker, which is replaced.
    /// Threads cannot be ended: there the task fails at that time, and its thread goes on with the next task when it comes back.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// How many more times the task is tried if it panics, runs out of time, or its worker dies. The arguments are sent anew each time.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Tasks of higher priority are begun first; among equals, those submitted first. Those that a worker has already in hand stay before.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// A name for messages and logs.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// What a task left.
#[derive(Debug)]
pub(super) enum Output {
    /// A result of a process, packed.
    Bytes(Vec<u8>),
    /// The same, in place.
    Small(Small),
    /// The same, in a block, behind the header of its record.
    Block(Delivery),
    /// A result of a thread of this process.
    Local(Box<dyn Any + Send>),
}

impl Output {
    /// A packed result.
    pub(super) fn packed(bytes: &[u8]) -> Self {
        Small::of(bytes).map_or_else(|| Self::Bytes(bytes.to_vec()), Self::Small)
    }

    /// The result itself.
    pub(super) fn read<R: DeserializeOwned + 'static>(self) -> Result<R, TaskError> {
        let undecodable = |reason: String| TaskError::UndecodableResult { reason };
        let read = match &self {
            Self::Bytes(bytes) => unpack(bytes),
            Self::Small(small) => unpack(small.as_slice()),
            Self::Block(delivery) => {
                let payload = delivery.payload();
                payload.and_then(|payload| unpack(payload.get(HEAD..).unwrap_or_default()))
            }
            Self::Local(_) => return self.downcast(),
        };
        read.map_err(|error| undecodable(error.to_string()))
    }

    fn downcast<R: 'static>(self) -> Result<R, TaskError> {
        let Self::Local(value) = self else {
            return Err(TaskError::AlreadyTaken);
        };
        value.downcast::<R>().map(|value| *value).map_err(|_| {
            let reason = format!("it is no `{}`", std::any::type_name::<R>());
            TaskError::UndecodableResult { reason }
        })
    }

    /// Bytes it takes while it waits to be taken.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Small(small) => small.as_slice().len(),
            Self::Block(delivery) => usize::try_from(delivery.len).unwrap_or(usize::MAX),
            Self::Local(_) => 0,
        }
    }
}

/// A result, or why there is none.
pub(super) type Outcome = Result<Output, TaskError>;

/// Who is told the outcome of a task. Called without any lock of the pool.
pub(super) trait Sink: Send + Sync {
    /// The task number `index` of this sink is done.
    fn complete(&self, index: usize, outcome: Outcome);

    /// Several are.
    fn complete_all(&self, outcomes: &mut dyn Iterator<Item = (usize, Outcome)>) {
        outcomes.for_each(|(index, outcome)| self.complete(index, outcome));
    }
}

/// A task that runs in a thread of this process. Can be called again if the task may be tried again.
pub(super) type LocalCall = Box<dyn FnMut() -> Outcome + Send>;

/// What a worker needs to run a task.
pub(super) enum Job {
    /// For a process: function number and packed arguments.
    Packed(Packed),
    /// The same, in place.
    Small(Small),
    /// For a process: a record that was in a lane and was taken back, in its block.
    Block(Delivery),
    /// For a thread.
    Local(LocalCall),
    /// Gone: a worker has it, and it will not be tried again.
    Sent,
}

impl Job {
    /// Packs arguments, which nobody needs any more, by way of `space`.
    pub(super) fn pack(
        arguments: impl Serialize,
        space: &mut Vec<u8>,
    ) -> Result<Self, EncodeError> {
        let packed = Packed::consuming_in(arguments, std::mem::take(space))?;
        if !packed.holds.is_empty() {
            return Ok(Self::Packed(packed));
        }
        match Small::of(&packed.bytes) {
            Some(small) => {
                *space = packed.bytes;
                Ok(Self::Small(small))
            }
            None => Ok(Self::Packed(packed)),
        }
    }

    /// A record without handles.
    pub(super) fn record(bytes: &[u8]) -> Self {
        let packed = || Packed {
            bytes: bytes.to_vec(),
            holds: Vec::new(),
        };
        Small::of(bytes).map_or_else(|| Self::Packed(packed()), Self::Small)
    }

    /// Writes the header.
    pub(super) fn address(&mut self, head: TaskHead) {
        match self {
            Self::Packed(packed) => packed.address(head),
            Self::Small(small) => small.as_mut_slice()[..HEAD].copy_from_slice(&head.to_bytes()),
            _ => {}
        }
    }

    /// The record, if it fits into the lane as it is.
    pub(super) fn inline(&self) -> Option<&[u8]> {
        match self {
            Self::Packed(packed) => {
                let fits = packed.holds.is_empty() && packed.bytes.len() <= INLINE_MAX;
                fits.then_some(&packed.bytes[..])
            }
            Self::Small(small) => Some(small.as_slice()),
            _ => None,
        }
    }

    /// Bytes of the arguments, as far as they wait here.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.bytes.len(),
            Self::Small(small) => small.as_slice().len(),
            _ => 0,
        }
    }
}

/// A task that is not done.
pub(super) struct Task {
    pub(super) sink: Arc<dyn Sink>,
    /// Its number there.
    pub(super) index: usize,
    pub(super) function: u32,
    pub(super) job: Job,
    /// The number of the worker that has it.
    pub(super) worker: Option<u64>,
    pub(super) options: Option<Box<TaskOptions>>,
    /// Times it was begun and ended without an outcome.
    pub(super) failures: u32,
}

impl Task {
    /// A task that nobody has begun; its outcome goes to this sink, under this number.
    pub(super) fn new(
        (sink, index): (Arc<dyn Sink>, usize),
        function: u32,
        job: Job,
        options: Option<Box<TaskOptions>>,
    ) -> Self {
        Self {
            sink,
            index,
            function,
            job,
            worker: None,
            options,
            failures: 0,
        }
    }

    /// Whether it may be tried once more.
    pub(super) fn may_retry(&self) -> bool {
        self.options
            .as_ref()
            .is_some_and(|options| self.failures < options.retries)
    }

    pub(super) fn priority(&self) -> i32 {
        self.options.as_ref().map_or(0, |options| options.priority)
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.options.as_ref().and_then(|options| options.timeout)
    }

    /// For messages.
    pub(super) fn describe(&self, function: &str) -> String {
        match self
            .options
            .as_ref()
            .and_then(|options| options.name.as_deref())
        {
            Some(name) => format!("task `{name}`"),
            None => format!("task {} of `{function}`", self.index),
        }
    }
}

/// The tasks that are not done, by id.
#[derive(Default)]
pub(super) struct Tasks {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    task: Option<Task>,
}

impl Tasks {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn add(&mut self, task: Task) -> TaskId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                task: None,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        // Never zero, so that no id is zero.
        slot.generation = slot.generation.wrapping_add(1).max(1);
        slot.task = Some(task);
        let generation = slot.generation;
        TaskId { index, generation }
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Task> {
        let slot = self.slots.get(id.index as usize)?;
        slot.task
            .as_ref()
            .filter(|_| slot.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.task
            .as_mut()
            .filter(|_| slot.generation == id.generation)
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<Task> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let task = slot.task.take()?;
        self.free.push(id.index);
        Some(task)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = TaskId {
                index: index as u32,
                generation: slot.generation,
            };
            slot.task.as_ref().map(|task| (id, task))
        })
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> Vec<Task> {
        self.free.clear();
        let all = self
            .slots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| {
                self.free.push(index as u32);
                slot.task.take()
            });
        all.collect()
    }
}
