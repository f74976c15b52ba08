//! How values become bytes, and handles in them become holds.
//!
//! A codec is a type parameter of the typed ends: [`Serde`] for any serde type, [`Plain`] for plain old data (the bytes themselves),
//! [`Raw`] for [`Buffer`]s, which move without a copy.
//!
//! Inside other values buffers travel in an object of their own (`buffer.rs`). How they get into it and out of it is the business of whoever packs and
//! unpacks: [`pack`] copies, [`pack_consuming`] moves; [`unpack`] moves, [`unpack_keeping`] copies.

use super::buffer::{Buffer, HandOver};
use super::core::{Delivery, INLINE_MAX, Parcel, Sink};
use crate::heap::{Block, HeapError, Hold, MAX_HANDLES, envelope_count, fill_envelope, list_len};
use sealed::Content;
use serde::{Serialize, de::DeserializeOwned};
use std::cell::{Cell, RefCell};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The value could not be turned into a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The value's `Serialize` implementation failed.
    #[error("value cannot be serialised: {0}")]
    Serialize(String),
    /// More shared objects in one message than fit.
    #[error("{0} shared objects in one message; at most {MAX_HANDLES} fit")]
    TooManyHandles(usize),
    /// No room for the message in the family heap.
    #[error(transparent)]
    Heap(#[from] HeapError),
}

/// The message could not be turned into a value. The message is gone; those behind it are untouched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no value of the expected type (sent with another type or codec?).
    #[error("message of {len} bytes is not a `{expected}`: {reason}")]
    Deserialize {
        /// The type that was expected.
        expected: &'static str,
        /// Bytes of the message.
        len: usize,
        /// What the deserializer said.
        reason: String,
    },
    /// The record itself makes no sense: a peer overwrote shared memory.
    #[error(transparent)]
    Heap(#[from] HeapError),
}

/// How values of type `T` travel. Implemented by [`Serde`], [`Plain`] and [`Raw`]; not meant to be implemented elsewhere.
pub trait Codec<T>: sealed::Sealed {
    /// Packs `value` and hands the parcel to `send`, which leaves a block in it if it fails; the value comes back with a failure.
    #[doc(hidden)]
    fn send<E: From<EncodeError>>(
        value: T,
        send: impl FnOnce(&mut sealed::Out<'_>) -> Result<(), E>,
    ) -> Result<(), (E, T)>;

    /// Unpacks a message that was taken.
    #[doc(hidden)]
    fn unpack(message: sealed::Message<'_>) -> Result<T, DecodeError>;

    /// Takes a message from `source` and unpacks it.
    #[doc(hidden)]
    fn receive<E: From<DecodeError> + From<sealed::Fault>>(
        source: sealed::Source<'_>,
    ) -> Result<T, E> {
        with_scratch(|bytes| {
            let mut sink = Gather {
                bytes,
                delivery: None,
            };
            source.take(&mut sink).map_err(sealed::Fault)?;
            let content = match sink.delivery {
                None => Content::Inline(sink.bytes),
                Some(delivery) => Content::Block(delivery),
            };
            Ok(Self::unpack(sealed::Message(content))?)
        })
    }
}

pub(crate) mod sealed {
    use super::{Delivery, Parcel, Sink};
    use crate::channel::core::{Channel, GetFault};
    use crate::heap::Container;
    use crate::sync::raw::Deadline;

    pub trait Sealed {}
    impl Sealed for super::Serde {}
    impl Sealed for super::Plain {}
    impl Sealed for super::Raw {}

    /// A parcel on its way in.
    #[derive(Debug)]
    pub struct Out<'a>(pub(crate) Parcel<'a>);

    /// A message that was taken.
    #[derive(Debug)]
    pub struct Message<'a>(pub(crate) Content<'a>);

    #[derive(Debug)]
    pub(crate) enum Content<'a> {
        Inline(&'a [u8]),
        Block(Delivery),
    }

    /// Where to take a message from, and how long to wait for it.
    #[derive(Debug)]
    pub struct Source<'a> {
        pub(crate) channel: &'a Channel,
        pub(crate) me: Container,
        pub(crate) wait: Wait,
    }

    /// How long to wait.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Wait {
        No,
        Until(Deadline),
    }

    /// Why nothing was taken.
    #[derive(Debug)]
    pub struct Fault(pub(crate) GetFault);

    impl Source<'_> {
        #[inline]
        pub(crate) fn take(self, sink: &mut impl Sink) -> Result<(), GetFault> {
            match self.wait {
                Wait::No => self.channel.try_get(self.me, sink),
                Wait::Until(deadline) => self.channel.get(self.me, sink, deadline),
            }
        }
    }
}

/// Any type that serde can handle, as postcard. Handles of shared objects inside the value travel with it.
///
/// postcard copies a `Vec<u8>` byte by byte, on both sides; many bytes rather go into a [`Buffer`], which may be anywhere inside the value: one `memcpy`
/// when it is sent, none when it is received.
#[derive(Clone, Copy, Debug)]
pub struct Serde;

/// Plain old data: types whose bytes are their value (`u64`, `[f32; 4]`, structs that derive zerocopy's `FromBytes + IntoBytes + Immutable`). No serialisation.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

/// [`Buffer`]s: the block itself changes hands, whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

/// The message that is being packed on a thread.
struct Packing {
    /// Objects met so far.
    holds: Vec<Hold>,
    /// The value is dropped afterwards.
    consumed: bool,
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static PACKING: RefCell<Option<Packing>> = const { RefCell::new(None) };
    /// Whether the message being unpacked is to stay what it is.
    static KEEPING: Cell<bool> = const { Cell::new(false) };
    /// What a handle said about why it cannot travel: postcard does not keep the text of an error.
    static REASON: Cell<Option<String>> = const { Cell::new(None) };
}

/// Notes why a handle cannot be packed or unpacked, for the error of the whole message.
pub(crate) fn explain(reason: impl std::fmt::Display) -> String {
    let reason = reason.to_string();
    REASON.set(Some(reason.clone()));
    reason
}

/// The reason a handle gave, else what postcard says.
fn reason(error: &postcard::Error) -> String {
    REASON.take().unwrap_or_else(|| error.to_string())
}

/// Scratch space larger than this is not kept.
const KEEP_SCRATCH: usize = 1 << 20;

/// Runs `f` with empty scratch space of this thread.
pub(crate) fn with_scratch<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = f(&mut scratch);
    if scratch.capacity() <= KEEP_SCRATCH {
        SCRATCH.set(scratch);
    }
    result
}

/// Vectors that are used again by the thread that let go of them.
pub(super) mod recycled {
    use super::{KEEP_SCRATCH, SCRATCH};

    /// An empty vector.
    #[inline]
    pub(in super::super) fn take() -> Vec<u8> {
        let mut vector = SCRATCH.take();
        vector.clear();
        vector
    }

    /// Keeps a vector for the next one who takes.
    #[inline]
    pub(in super::super) fn give(vector: Vec<u8>) {
        if vector.capacity() != 0 && vector.capacity() <= KEEP_SCRATCH {
            SCRATCH.set(vector);
        }
    }
}

/// Notes that the message being packed on this thread carries an object. `false`: none is being packed.
pub(crate) fn pack_hold(hold: impl FnOnce() -> Hold) -> bool {
    PACKING.with(|packing| match packing.borrow_mut().as_mut() {
        Some(packing) => {
            packing.holds.push(hold());
            true
        }
        None => false,
    })
}

/// Whether the value being packed on this thread is dropped afterwards. `None`: none is being packed.
pub(crate) fn packing_consumes() -> Option<bool> {
    PACKING.with_borrow(|packing| packing.as_ref().map(|packing| packing.consumed))
}

/// Serialises `value` behind whatever is in `bytes`, collecting the objects in it.
pub(crate) fn pack<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<Vec<Hold>, EncodeError> {
    pack_as(value, bytes, false)
}

/// As [`pack`], and drops the value, whose buffers go into the message as they are, not copied. The value is gone if it fails, too.
pub(crate) fn pack_consuming<T: Serialize>(
    value: T,
    bytes: &mut Vec<u8>,
) -> Result<Vec<Hold>, EncodeError> {
    let hand_over = HandOver::begin();
    let packed = pack_as(&value, bytes, true);
    // Now, not while it is being packed: whoever drops a buffer shows that nobody looks at its bytes any more.
    drop(value);
    let complete = hand_over.end();
    let holds = packed?;
    if complete {
        Ok(holds)
    } else {
        let reason = "a buffer in it outlives the value (in an `Arc` that is held elsewhere?), so it cannot be given away";
        Err(EncodeError::Serialize(reason.to_owned()))
    }
}

fn pack_as<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
    consumed: bool,
) -> Result<Vec<Hold>, EncodeError> {
    // A value that sends another message while it is being serialised must not mix the two.
    let holds = Vec::new();
    let outer = PACKING.replace(Some(Packing { holds, consumed }));
    REASON.set(None);
    let written = postcard::to_extend(value, std::mem::take(bytes));
    let holds = PACKING
        .replace(outer)
        .map_or_else(Vec::new, |packing| packing.holds);
    *bytes = written.map_err(|error| EncodeError::Serialize(reason(&error)))?;
    if holds.len() > MAX_HANDLES {
        Err(EncodeError::TooManyHandles(holds.len()))
    } else {
        Ok(holds)
    }
}

/// Serialises `value` behind whatever is in `bytes`, for somebody who does not share our memory: a shared object in it is an error.
pub(crate) fn pack_plain<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let outer = PACKING.replace(None);
    REASON.set(None);
    let written = postcard::to_extend(value, std::mem::take(bytes));
    PACKING.set(outer);
    *bytes = written.map_err(|error| EncodeError::Serialize(reason(&error)))?;
    Ok(())
}

/// A block with the objects' list, if there are any, and the payload.
pub(crate) fn pack_block(bytes: &[u8], holds: &[Hold]) -> Result<Block, HeapError> {
    let list = if holds.is_empty() {
        0
    } else {
        list_len(holds.len())
    };
    let mut block = Block::alloc(list + bytes.len())?;
    block.as_mut_slice()[list..list + bytes.len()].copy_from_slice(bytes);
    if !holds.is_empty() {
        let handles: Vec<_> = holds.iter().map(Hold::handle).collect();
        fill_envelope(&block, &handles);
        for hold in holds {
            hold.also_in(block.reference());
        }
    }
    Ok(block)
}

/// The payload of a block that was received.
pub(crate) fn block_payload(block: &Block, len: u64, envelope: bool) -> Result<&[u8], HeapError> {
    let bytes = block.as_slice();
    let start = if envelope {
        list_len(envelope_count(bytes)?)
    } else {
        0
    };
    let end = usize::try_from(len)
        .ok()
        .and_then(|len| start.checked_add(len));
    end.and_then(|end| bytes.get(start..end))
        .ok_or(HeapError::Corrupt("a message is longer than its block"))
}

/// The value in the bytes. Buffers are taken out of the message: nobody can unpack it again.
pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    unpack_as(bytes, false)
}

/// As [`unpack`], but buffers are copied, so that the message can be unpacked once more, for example if we die of it.
pub(crate) fn unpack_keeping<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    unpack_as(bytes, true)
}

/// The value that the bytes begin with, and what comes behind it. Buffers are taken out of the message.
pub(super) fn unpack_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    let outer = KEEPING.replace(false);
    REASON.set(None);
    let read = postcard::take_from_bytes(bytes);
    KEEPING.set(outer);
    read.map_err(|error| undecodable::<T>(bytes.len(), reason(&error)))
}

/// Whether what is being unpacked on this thread is to stay in its message.
pub(super) fn unpacking_keeps() -> bool {
    KEEPING.get()
}

fn unpack_as<T: DeserializeOwned>(bytes: &[u8], keep: bool) -> Result<T, DecodeError> {
    // A value may receive another message while it is being deserialised.
    let outer = KEEPING.replace(keep);
    REASON.set(None);
    let read = postcard::from_bytes(bytes);
    KEEPING.set(outer);
    read.map_err(|error| undecodable::<T>(bytes.len(), reason(&error)))
}

fn undecodable<T>(len: usize, reason: String) -> DecodeError {
    DecodeError::Deserialize {
        expected: std::any::type_name::<T>(),
        len,
        reason,
    }
}

impl<T: Serialize + DeserializeOwned> Codec<T> for Serde {
    fn send<E: From<EncodeError>>(
        value: T,
        send: impl FnOnce(&mut sealed::Out<'_>) -> Result<(), E>,
    ) -> Result<(), (E, T)> {
        let sent = with_scratch(|bytes| {
            let holds = pack(&value, bytes)?;
            if holds.is_empty() && bytes.len() <= INLINE_MAX {
                return send(&mut sealed::Out(Parcel::Inline(bytes)));
            }
            let block = pack_block(bytes, &holds).map_err(EncodeError::Heap)?;
            let (len, envelope) = (bytes.len() as u64, !holds.is_empty());
            send(&mut sealed::Out(Parcel::Block {
                block,
                len,
                envelope,
            }))
        });
        sent.map_err(|error| (error, value))
    }

    fn unpack(message: sealed::Message<'_>) -> Result<T, DecodeError> {
        match message.0 {
            Content::Inline(bytes) => unpack(bytes),
            Content::Block(delivery) => unpack(delivery.payload()?),
        }
    }
}

/// Copies an inline payload to scratch space.
pub(super) struct Gather<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) delivery: Option<Delivery>,
}

impl Sink for Gather<'_> {
    fn take(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
    }

    fn keep(&mut self, delivery: Delivery) {
        self.delivery = Some(delivery);
    }
}

impl Delivery {
    /// The message without the list of handles.
    pub(crate) fn payload(&self) -> Result<&[u8], DecodeError> {
        Ok(block_payload(&self.block, self.len, self.envelope)?)
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Codec<T> for Plain {
    #[inline]
    fn send<E: From<EncodeError>>(
        value: T,
        send: impl FnOnce(&mut sealed::Out<'_>) -> Result<(), E>,
    ) -> Result<(), (E, T)> {
        send_bytes(value.as_bytes(), send).map_err(|error| (error, value))
    }

    fn unpack(message: sealed::Message<'_>) -> Result<T, DecodeError> {
        let mut sink = Read {
            value: None,
            len: 0,
            error: None,
        };
        match message.0 {
            Content::Inline(bytes) => sink.take(bytes),
            Content::Block(delivery) => sink.keep(delivery),
        }
        sink.into_value()
    }

    #[inline]
    fn receive<E: From<DecodeError> + From<sealed::Fault>>(
        source: sealed::Source<'_>,
    ) -> Result<T, E> {
        let mut sink = Read {
            value: None,
            len: 0,
            error: None,
        };
        source.take(&mut sink).map_err(sealed::Fault)?;
        Ok(sink.into_value()?)
    }
}

/// Sends a copy of `bytes` as one message.
#[inline]
pub(super) fn send_bytes<E: From<EncodeError>>(
    bytes: &[u8],
    send: impl FnOnce(&mut sealed::Out<'_>) -> Result<(), E>,
) -> Result<(), E> {
    if bytes.len() <= INLINE_MAX {
        return send(&mut sealed::Out(Parcel::Inline(bytes)));
    }
    let block = pack_block(bytes, &[]).map_err(EncodeError::Heap)?;
    let len = bytes.len() as u64;
    send(&mut sealed::Out(Parcel::Block {
        block,
        len,
        envelope: false,
    }))
}

/// Receives one message, whatever it is, appended to `into`.
pub(super) fn receive_bytes<E: From<DecodeError> + From<sealed::Fault>>(
    source: sealed::Source<'_>,
    into: &mut Vec<u8>,
) -> Result<(), E> {
    let mut sink = Gather {
        bytes: into,
        delivery: None,
    };
    source.take(&mut sink).map_err(sealed::Fault)?;
    if let Some(delivery) = sink.delivery {
        sink.bytes.extend_from_slice(delivery.payload()?);
    }
    Ok(())
}

/// Reads a value straight out of the ring.
struct Read<T> {
    value: Option<T>,
    len: usize,
    error: Option<Box<DecodeError>>,
}

impl<T> Read<T> {
    #[inline]
    fn into_value(self) -> Result<T, DecodeError> {
        match self.value {
            Some(value) => Ok(value),
            None => Err(self
                .error
                .map_or_else(|| wrong_size::<T>(self.len), |error| *error)),
        }
    }
}

impl<T: FromBytes> Sink for Read<T> {
    #[inline]
    fn take(&mut self, payload: &[u8]) {
        self.len = payload.len();
        self.value = T::read_from_bytes(payload).ok();
    }

    fn keep(&mut self, delivery: Delivery) {
        match delivery.payload() {
            Ok(payload) => self.take(payload),
            Err(error) => self.error = Some(Box::new(error)),
        }
    }
}

#[cold]
fn wrong_size<T>(len: usize) -> DecodeError {
    undecodable::<T>(len, format!("its size is {} bytes", size_of::<T>()))
}

impl Codec<Buffer> for Raw {
    fn send<E: From<EncodeError>>(
        value: Buffer,
        send: impl FnOnce(&mut sealed::Out<'_>) -> Result<(), E>,
    ) -> Result<(), (E, Buffer)> {
        let (block, len) = value.into_parts();
        let mut out = sealed::Out(Parcel::Block {
            block,
            len: len as u64,
            envelope: false,
        });
        send(&mut out).map_err(|error| match out.0 {
            Parcel::Block { block, .. } => (error, Buffer::from_parts(block, len)),
            Parcel::Inline(_) => {
                unreachable!("invariant: a block that was not sent stays in its parcel")
            }
        })
    }

    fn unpack(message: sealed::Message<'_>) -> Result<Buffer, DecodeError> {
        let copied = match message.0 {
            Content::Block(Delivery {
                block,
                len,
                envelope: false,
            }) => {
                return Ok(Buffer::from_parts(block, len as usize));
            }
            Content::Block(delivery) => Buffer::from_slice(delivery.payload()?),
            Content::Inline(bytes) => Buffer::from_slice(bytes),
        };
        copied.map_err(DecodeError::Heap)
    }
}
