//! What a pool and its workers say to each other: records in the two lanes of a worker.
//!
//! ```text
//! to the worker    id:64 | function:32 | flags:32 | arguments
//!                  a function is defined once for each worker before its first task: id 0, DEFINE, the call; STOP: no more will come
//! to the pool      id:64 | nanoseconds:32 | tag:32 | result, or what went wrong
//! ```
//!
//! A record with large arguments, or with handles of shared objects in them, is a block as a whole, header included. What a worker
//! wrote is input: a header that makes no sense is `None` here, and the worker that sent it is replaced.

use super::error::TaskError;
use crate::channel::{EncodeError, pack, pack_consuming, unpack_keeping};
use crate::heap::Hold;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of a header, in both directions.
pub(super) const HEAD: usize = 16;

/// In a task's flags: what follows is the call that the function number stands for.
pub(super) const DEFINE: u32 = 1;
/// The worker is to end.
pub(super) const STOP: u32 = 2;
/// The task may be tried again: buffers among the arguments are to be copied, not taken.
pub(super) const KEEP: u32 = 4;

/// A place in the pool's table of tasks, and how often the place was used. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TaskId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl TaskId {
    pub(super) fn to_word(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    pub(super) fn from_word(word: u64) -> Self {
        Self {
            index: word as u32,
            generation: (word >> 32) as u32,
        }
    }
}

/// Head of a record to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskHead {
    pub(super) id: u64,
    pub(super) function: u32,
    pub(super) flags: u32,
}

impl TaskHead {
    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        head(self.id, self.function, self.flags)
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (id, function, flags) = parts(bytes)?;
        Some(Self {
            id,
            function,
            flags,
        })
    }
}

/// What a record to the pool is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// The function returned this.
    Returned = 1,
    /// It panicked; a `PanicReport`.
    Panicked = 2,
    /// The arguments could not be read; the reason, as text.
    UndecodableArguments = 3,
    /// The result could not be sent; the reason.
    UnencodableResult = 4,
    /// The function is not in the worker; the reason.
    FunctionNotFound = 5,
    /// The function returned this, and said that it failed.
    Failed = 6,
    /// The worker has come up and its initializer has run.
    Ready = 16,
    /// Its initializer panicked; a `PanicReport`.
    InitializerFailed = 17,
}

impl Tag {
    fn from_word(word: u32) -> Option<Self> {
        [
            Self::Returned,
            Self::Panicked,
            Self::UndecodableArguments,
            Self::UnencodableResult,
            Self::FunctionNotFound,
            Self::Failed,
            Self::Ready,
            Self::InitializerFailed,
        ]
        .into_iter()
        .find(|tag| *tag as u32 == word)
    }
}

/// Head of a record to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResultHead {
    pub(super) id: u64,
    /// How long the function took, at most four seconds.
    pub(super) nanos: u32,
    pub(super) tag: Tag,
}

impl ResultHead {
    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        head(self.id, self.nanos, self.tag as u32)
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (id, nanos, tag) = parts(bytes)?;
        let tag = Tag::from_word(tag)?;
        Some(Self { id, nanos, tag })
    }
}

fn head(id: u64, a: u32, b: u32) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    bytes[..8].copy_from_slice(&id.to_ne_bytes());
    bytes[8..12].copy_from_slice(&a.to_ne_bytes());
    bytes[12..].copy_from_slice(&b.to_ne_bytes());
    bytes
}

fn parts(bytes: &[u8]) -> Option<(u64, u32, u32)> {
    let (id, rest) = bytes.split_first_chunk::<8>()?;
    let (a, rest) = rest.split_first_chunk::<4>()?;
    let (b, _) = rest.split_first_chunk::<4>()?;
    Some((
        u64::from_ne_bytes(*id),
        u32::from_ne_bytes(*a),
        u32::from_ne_bytes(*b),
    ))
}

/// A record to a worker before it is sent: header, arguments, and the objects among them, held.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    pub(super) holds: Vec<Hold>,
}

impl Packed {
    /// Packs arguments behind an empty header.
    pub(super) fn new(arguments: &impl Serialize) -> Result<Self, EncodeError> {
        Self::with(Vec::new(), |bytes| pack(arguments, bytes))
    }

    /// The same in a vector that is at hand, of arguments that nobody needs any more: buffers in them move.
    pub(super) fn consuming_in(
        arguments: impl Serialize,
        space: Vec<u8>,
    ) -> Result<Self, EncodeError> {
        Self::with(space, |bytes| pack_consuming(arguments, bytes))
    }

    fn with(
        mut bytes: Vec<u8>,
        pack: impl FnOnce(&mut Vec<u8>) -> Result<Vec<Hold>, EncodeError>,
    ) -> Result<Self, EncodeError> {
        bytes.clear();
        bytes.reserve(HEAD + 16);
        bytes.extend_from_slice(&[0; HEAD]);
        let holds = pack(&mut bytes)?;
        Ok(Self { bytes, holds })
    }

    /// The arguments, made anew; for tasks that run in this process.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        let read = unpack_keeping(self.bytes.get(HEAD..).unwrap_or_default());
        read.map_err(|error| TaskError::UndecodableArguments {
            reason: error.to_string(),
        })
    }

    /// Writes the header.
    pub(super) fn address(&mut self, head: TaskHead) {
        self.bytes[..HEAD].copy_from_slice(&head.to_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn heads_survive_the_journey(id: u64, function: u32, flags: u32) {
            let task = TaskHead { id, function, flags };
            prop_assert_eq!(TaskHead::read(&task.to_bytes()), Some(task));
            prop_assert_eq!(TaskId::from_word(id).to_word(), id);
            let result = ResultHead { id, nanos: function, tag: Tag::Panicked };
            prop_assert_eq!(ResultHead::read(&result.to_bytes()), Some(result));
        }

        #[test]
        fn any_bytes_are_a_head_or_none(bytes: Vec<u8>) {
            prop_assert_eq!(TaskHead::read(&bytes).is_some(), bytes.len() >= HEAD);
            if let Some(head) = ResultHead::read(&bytes) {
                prop_assert_eq!(&head.to_bytes()[..], &bytes[..HEAD]);
            }
        }
    }
}
