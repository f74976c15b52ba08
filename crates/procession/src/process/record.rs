//! The shared object through which a parent and its child speak: the order goes down, the answer comes up.
//!
//! ```text
//! phase:   STARTING -> RUNNING            the child has come up
//! outcome: 0 -> Outcome                   stored last, after the answer it speaks of
//! order:   0 -> block -> 0                put by the parent before the start, taken by the child, or if it has died by its reaper
//! answer:  inline bytes, or 0 -> block    put by the child, taken by the parent
//! ```
//! Each field has one writer at a time, and nobody waits here: the parent waits for the end of the process.
//!
//! What a child would have been given dies with it, though its parent may keep the record for long: others wait for the end of a pipe whose sender was on its way to the child.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::channel::{block_payload, pack_block};
use crate::family::Owner;
use crate::heap::{Block, BlockRef, Container, Death, HeapError, Hold, Object, Shared};
use crate::kinds::Kind;
use std::convert::Infallible;

/// Answers up to this size need no block: most children then never allocate in the heap.
const INLINE_WORDS: usize = 26;
const INLINE: usize = INLINE_WORDS * 8;

/// In a length: the block begins with a list of handles.
const ENVELOPE: u64 = 1 << 63;

const RUNNING: u32 = 1;

/// A process as it lies in the heap.
#[repr(C, align(64))]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedProcess {
    phase: AtomicU32,
    outcome: AtomicU32,
    /// Whose record it is, as a word of [`Owner`].
    child: AtomicU64,
    order: AtomicU64,
    order_len: AtomicU64,
    answer: AtomicU64,
    answer_len: AtomicU64,
    inline: [AtomicU64; INLINE_WORDS],
}
const _: () = assert!(size_of::<SharedProcess>() == 256);

impl Object for SharedProcess {
    const KIND: Kind = Kind::Process;

    /// An order that the child had not taken is freed. As long as the dead child's hold is there nobody destroys the record, and nobody else touches the order.
    fn reap(&self, death: Death) {
        if death.held && self.child.load(Ordering::SeqCst) == u64::from(death.owner.to_word()) {
            drop(detach(&self.order, death.object));
        }
    }

    fn contains(&self, block: BlockRef) -> bool {
        [&self.order, &self.answer]
            .iter()
            .any(|field| field.load(Ordering::SeqCst) == block.to_bits())
    }

    fn destroy(&self, container: Container) {
        for field in [&self.order, &self.answer] {
            let block = BlockRef::from_bits(field.load(Ordering::SeqCst));
            drop(block.and_then(|block| Block::reclaim(block, container)));
        }
    }
}

/// What became of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It returned; the answer is its result.
    Returned = 1,
    /// It panicked; the answer is a [`PanicReport`](super::panic::PanicReport).
    Panicked = 2,
    /// The arguments could not be read; the answer says why, as do those below.
    UndecodableArguments = 3,
    /// The function is not in this process.
    FunctionNotFound = 4,
    /// The process is another build of the program.
    MismatchedBuild = 5,
    /// An option (directory, limits, ...) could not be set.
    SetupFailed = 6,
    /// The result could not be made a message.
    UnencodableResult = 7,
}

impl Outcome {
    fn from_word(word: u32) -> Option<Self> {
        [
            Self::Returned,
            Self::Panicked,
            Self::UndecodableArguments,
            Self::FunctionNotFound,
            Self::MismatchedBuild,
            Self::SetupFailed,
            Self::UnencodableResult,
        ]
        .into_iter()
        .find(|outcome| *outcome as u32 == word)
    }
}

/// Bytes that came out of a record, with the block that they are in.
pub(super) enum Payload {
    Inline(Vec<u8>),
    Block { block: Block, len: u64 },
}

impl Payload {
    pub(super) fn bytes(&self) -> Result<&[u8], HeapError> {
        match self {
            Self::Inline(bytes) => Ok(bytes),
            Self::Block { block, len } => {
                block_payload(block, len & !ENVELOPE, len & ENVELOPE != 0)
            }
        }
    }
}

fn length(bytes: &[u8], holds: &[Hold]) -> u64 {
    bytes.len() as u64 | if holds.is_empty() { 0 } else { ENVELOPE }
}

/// A record with its order, which may be empty (a forked child has everything in its memory).
pub(super) fn create(order: &[u8], holds: &[Hold]) -> Result<Shared<SharedProcess>, HeapError> {
    let record = Shared::create(|_: &SharedProcess, _| ())?;
    if !order.is_empty() {
        record
            .order_len
            .store(length(order, holds), Ordering::SeqCst);
        put(&record, &record.order, pack_block(order, holds)?);
    }
    Ok(record)
}

fn put(record: &Shared<SharedProcess>, field: &AtomicU64, block: Block) {
    let attached = block.attach(record.container(), |reference| {
        field.store(reference.to_bits(), Ordering::SeqCst);
        Ok::<(), Infallible>(())
    });
    debug_assert!(attached.is_ok());
}

fn take(record: &Shared<SharedProcess>, field: &AtomicU64, len: u64) -> Result<Payload, HeapError> {
    let block = detach(field, record.container())?;
    Ok(Payload::Block { block, len })
}

fn detach(field: &AtomicU64, record: Container) -> Result<Block, HeapError> {
    let reference = BlockRef::from_bits(field.load(Ordering::SeqCst))
        .ok_or(HeapError::Corrupt("a process record lacks a block"))?;
    Block::detach(reference, record, || field.store(0, Ordering::SeqCst))
}

/// For the parent, before the start: whose record it is.
pub(super) fn give(record: &Shared<SharedProcess>, child: Owner) {
    record
        .child
        .store(u64::from(child.to_word()), Ordering::SeqCst);
}

/// For the child: it has come up.
pub(super) fn mark_running(record: &Shared<SharedProcess>) {
    record.phase.store(RUNNING, Ordering::SeqCst);
}

/// Whether the child came up.
pub(super) fn came_up(record: &Shared<SharedProcess>) -> bool {
    record.phase.load(Ordering::SeqCst) == RUNNING
}

/// For the child: takes the order out.
pub(super) fn take_order(record: &Shared<SharedProcess>) -> Result<Payload, HeapError> {
    take(
        record,
        &record.order,
        record.order_len.load(Ordering::SeqCst),
    )
}

/// For the child: puts the answer in.
pub(super) fn answer(
    record: &Shared<SharedProcess>,
    outcome: Outcome,
    bytes: &[u8],
    holds: &[Hold],
) -> Result<(), HeapError> {
    record
        .answer_len
        .store(length(bytes, holds), Ordering::SeqCst);
    if holds.is_empty() && bytes.len() <= INLINE {
        for (word, chunk) in record.inline.iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(padded), Ordering::SeqCst);
        }
    } else {
        put(record, &record.answer, pack_block(bytes, holds)?);
    }
    record.outcome.store(outcome as u32, Ordering::SeqCst);
    Ok(())
}

/// For the parent, after the child's end: takes the answer out.
pub(super) fn take_answer(
    record: &Shared<SharedProcess>,
) -> Option<(Outcome, Result<Payload, HeapError>)> {
    let outcome = Outcome::from_word(record.outcome.load(Ordering::SeqCst))?;
    let len = record.answer_len.load(Ordering::SeqCst);
    if record.answer.load(Ordering::SeqCst) != 0 {
        return Some((outcome, take(record, &record.answer, len)));
    }
    let words = record.inline.iter();
    let mut bytes: Vec<u8> = words
        .flat_map(|word| word.load(Ordering::SeqCst).to_ne_bytes())
        .collect();
    // A length that a peer mangled is cut, and the bytes then fail to decode.
    bytes.truncate(usize::try_from(len).unwrap_or(0));
    Some((outcome, Ok(Payload::Inline(bytes))))
}
