//! How values become bytes, and handles in them become holds.
//!
//! A codec is a type parameter of the typed ends: [`Serde`] for any serde type, [`Plain`] for plain old data (the bytes themselves),
//! [`Raw`] for [`Buffer`]s, which move without a copy.

use super::buffer::Buffer;
use super::core::{INLINE_MAX, Parcel, Received};
use crate::heap::{Block, HeapError, Hold, MAX_HANDLES, envelope_count, fill_envelope, list_len};
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
    /// Packs `value` and hands the parcel to `send`; the value comes back with a failure.
    #[doc(hidden)]
    fn send<E: From<EncodeError>>(
        value: T,
        send: impl FnOnce(sealed::Out<'_>) -> Result<(), (E, sealed::Back)>,
    ) -> Result<(), (E, T)>;

    /// Unpacks what `receive` took; it appends an inline payload to the buffer.
    #[doc(hidden)]
    fn receive<E: From<DecodeError>>(
        receive: impl FnOnce(&mut Vec<u8>) -> Result<sealed::In, E>,
    ) -> Result<T, E>;
}

pub(crate) mod sealed {
    use super::{Block, Parcel, Received};

    pub trait Sealed {}
    impl Sealed for super::Serde {}
    impl Sealed for super::Plain {}
    impl Sealed for super::Raw {}

    /// A parcel on its way in.
    #[derive(Debug)]
    pub struct Out<'a>(pub(crate) Parcel<'a>);

    /// The block of a parcel that was not sent.
    #[derive(Debug)]
    pub struct Back(pub(crate) Option<Block>);

    /// A parcel that came out.
    #[derive(Debug)]
    pub struct In(pub(crate) Received);
}

/// Any type that serde can handle, as postcard. Handles of shared objects inside the value travel with it.
#[derive(Clone, Copy, Debug)]
pub struct Serde;

/// Plain old data: types whose bytes are their value (`u64`, `[f32; 4]`, structs that derive zerocopy's `FromBytes + IntoBytes + Immutable`). No serialisation.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

/// [`Buffer`]s: the block itself changes hands, whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Objects met while a message is being packed.
    static PACKING: RefCell<Option<Vec<Hold>>> = const { RefCell::new(None) };
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

fn with_scratch<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = f(&mut scratch);
    if scratch.capacity() <= KEEP_SCRATCH {
        SCRATCH.set(scratch);
    }
    result
}

/// Notes that the message being packed on this thread carries an object. `false`: none is being packed.
pub(crate) fn pack_hold(hold: impl FnOnce() -> Hold) -> bool {
    PACKING.with(|packing| match packing.borrow_mut().as_mut() {
        Some(holds) => {
            holds.push(hold());
            true
        }
        None => false,
    })
}

/// Serialises `value` behind whatever is in `bytes`, collecting the objects in it.
pub(crate) fn pack<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<Vec<Hold>, EncodeError> {
    // A value that sends another message while it is being serialised must not mix the two.
    let outer = PACKING.replace(Some(Vec::new()));
    REASON.set(None);
    let written = postcard::to_extend(value, std::mem::take(bytes));
    let holds = PACKING.replace(outer).unwrap_or_default();
    *bytes = written.map_err(|error| EncodeError::Serialize(reason(&error)))?;
    if holds.len() > MAX_HANDLES {
        Err(EncodeError::TooManyHandles(holds.len()))
    } else {
        Ok(holds)
    }
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

pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    REASON.set(None);
    postcard::from_bytes(bytes).map_err(|error| undecodable::<T>(bytes.len(), reason(&error)))
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
        send: impl FnOnce(sealed::Out<'_>) -> Result<(), (E, sealed::Back)>,
    ) -> Result<(), (E, T)> {
        let sent = with_scratch(|bytes| {
            let holds = pack(&value, bytes)?;
            if holds.is_empty() && bytes.len() <= INLINE_MAX {
                return send(sealed::Out(Parcel::Inline(bytes))).map_err(|(error, _)| error);
            }
            let block = pack_block(bytes, &holds).map_err(EncodeError::Heap)?;
            let parcel = Parcel::Block {
                block,
                len: bytes.len() as u64,
                envelope: !holds.is_empty(),
            };
            send(sealed::Out(parcel)).map_err(|(error, _)| error)
        });
        sent.map_err(|error| (error, value))
    }

    fn receive<E: From<DecodeError>>(
        receive: impl FnOnce(&mut Vec<u8>) -> Result<sealed::In, E>,
    ) -> Result<T, E> {
        with_scratch(|bytes| match receive(bytes)?.0 {
            Received::Inline => Ok(unpack(bytes)?),
            Received::Block {
                block,
                len,
                envelope,
            } => Ok(unpack(
                block_payload(&block, len, envelope).map_err(DecodeError::Heap)?,
            )?),
        })
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Codec<T> for Plain {
    #[inline]
    fn send<E: From<EncodeError>>(
        value: T,
        send: impl FnOnce(sealed::Out<'_>) -> Result<(), (E, sealed::Back)>,
    ) -> Result<(), (E, T)> {
        let bytes = value.as_bytes();
        let sent = if bytes.len() <= INLINE_MAX {
            send(sealed::Out(Parcel::Inline(bytes))).map_err(|(error, _)| error)
        } else {
            pack_block(bytes, &[])
                .map_err(|error| EncodeError::Heap(error).into())
                .and_then(|block| {
                    let parcel = Parcel::Block {
                        block,
                        len: bytes.len() as u64,
                        envelope: false,
                    };
                    send(sealed::Out(parcel)).map_err(|(error, _)| error)
                })
        };
        sent.map_err(|error| (error, value))
    }

    #[inline]
    fn receive<E: From<DecodeError>>(
        receive: impl FnOnce(&mut Vec<u8>) -> Result<sealed::In, E>,
    ) -> Result<T, E> {
        with_scratch(|bytes| {
            let received = receive(bytes)?.0;
            let payload = match &received {
                Received::Inline => bytes.as_slice(),
                Received::Block {
                    block,
                    len,
                    envelope,
                } => block_payload(block, *len, *envelope).map_err(DecodeError::Heap)?,
            };
            let wrong = || {
                undecodable::<T>(
                    payload.len(),
                    format!("its size is {} bytes", size_of::<T>()),
                )
            };
            Ok(T::read_from_bytes(payload).map_err(|_| wrong())?)
        })
    }
}

impl Codec<Buffer> for Raw {
    fn send<E: From<EncodeError>>(
        value: Buffer,
        send: impl FnOnce(sealed::Out<'_>) -> Result<(), (E, sealed::Back)>,
    ) -> Result<(), (E, Buffer)> {
        let (block, len) = value.into_parts();
        let parcel = Parcel::Block {
            block,
            len: len as u64,
            envelope: false,
        };
        send(sealed::Out(parcel)).map_err(|(error, back)| {
            let back = back
                .0
                .expect("invariant: a block that was not sent comes back");
            (error, Buffer::from_parts(back, len))
        })
    }

    fn receive<E: From<DecodeError>>(
        receive: impl FnOnce(&mut Vec<u8>) -> Result<sealed::In, E>,
    ) -> Result<Buffer, E> {
        with_scratch(|bytes| match receive(bytes)?.0 {
            Received::Block {
                block,
                len,
                envelope: false,
            } => Ok(Buffer::from_parts(block, len as usize)),
            Received::Block {
                block,
                len,
                envelope: true,
            } => {
                let payload = block_payload(&block, len, true).map_err(DecodeError::Heap)?;
                Ok(Buffer::from_slice(payload).map_err(DecodeError::Heap)?)
            }
            Received::Inline => Ok(Buffer::from_slice(bytes).map_err(DecodeError::Heap)?),
        })
    }
}
