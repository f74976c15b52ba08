//! Letter: a message that is put together piece by piece and whose types the channel does not know.
//!
//! The typed ends name the type of what they carry. A server that carries out anybody's function knows the type of the arguments only once the function
//! has been found. So the bytes travel as they are, with the objects among them, and stay in their block until they have been read: until then
//! the block is what holds those objects.

use super::codec::{Codec, DecodeError, EncodeError, pack, pack_block, pack_plain, sealed};
use super::core::{Delivery, INLINE_MAX, Parcel};
use crate::heap::Hold;
use sealed::Content;
use serde::Serialize;

/// Bytes in the making, or as they came.
#[derive(Debug, Default)]
pub(crate) struct Letter {
    bytes: Vec<u8>,
    holds: Vec<Hold>,
    /// It came in a block, and the bytes are there.
    delivery: Option<Delivery>,
    /// It leaves the family: shared objects cannot come along.
    abroad: bool,
}

impl Letter {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An empty one that will leave the family: what cannot be packed without shared memory is an error.
    pub(crate) fn abroad() -> Self {
        Self {
            abroad: true,
            ..Self::default()
        }
    }

    /// Bytes that came from elsewhere.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ..Self::abroad()
        }
    }

    /// An empty one for the same side.
    pub(crate) fn reply(&self) -> Self {
        if self.abroad {
            Self::abroad()
        } else {
            Self::new()
        }
    }

    /// Adds a value. After an error the letter is of no use.
    pub(crate) fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        if self.abroad {
            return pack_plain(value, &mut self.bytes);
        }
        self.holds.extend(pack(value, &mut self.bytes)?);
        Ok(())
    }

    /// What is in it.
    pub(crate) fn bytes(&self) -> Result<&[u8], DecodeError> {
        match &self.delivery {
            Some(delivery) => delivery.payload(),
            None => Ok(&self.bytes),
        }
    }
}

/// How [`Letter`]s travel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed;

impl sealed::Sealed for Packed {}

impl Codec<Letter> for Packed {
    fn send<E: From<EncodeError>>(
        value: Letter,
        send: impl FnOnce(&mut sealed::Out<'_>) -> Result<(), E>,
    ) -> Result<(), (E, Letter)> {
        let Letter { bytes, holds, .. } = &value;
        let mut out = if holds.is_empty() && bytes.len() <= INLINE_MAX {
            sealed::Out(Parcel::Inline(bytes))
        } else {
            match pack_block(bytes, holds) {
                Ok(block) => sealed::Out(Parcel::Block {
                    block,
                    len: bytes.len() as u64,
                    envelope: !holds.is_empty(),
                }),
                Err(error) => return Err((E::from(EncodeError::Heap(error)), value)),
            }
        };
        let sent = send(&mut out);
        drop(out);
        sent.map_err(|error| (error, value))
    }

    fn unpack(message: sealed::Message<'_>) -> Result<Letter, DecodeError> {
        let (bytes, delivery) = match message.0 {
            Content::Inline(bytes) => (bytes.to_vec(), None),
            Content::Block(delivery) => (Vec::new(), Some(delivery)),
        };
        Ok(Letter {
            bytes,
            delivery,
            ..Letter::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{Pipe, unpack};
    use crate::{GetError, Queue};

    #[test]
    fn carries_bytes_and_objects_until_they_are_read() {
        let (left, right) = Pipe::with_codec::<Letter, Letter, Packed>().expect("pipe");
        let queue = Queue::<u32>::unbounded().expect("queue");
        let mut letter = Letter::new();
        letter.push(&7u8).expect("push");
        letter.push(&queue).expect("push");
        left.send(letter).expect("send");
        queue.put(5).expect("put");
        drop(queue);
        let letter = right.recv().expect("recv");
        let bytes = letter.bytes().expect("bytes");
        assert_eq!(bytes[0], 7);
        let queue: Queue<u32> = unpack(&bytes[1..]).expect("the letter holds the queue");
        drop(letter);
        assert_eq!(
            (queue.get(), queue.try_get()),
            (Ok(5), Err(GetError::Empty))
        );
    }

    #[test]
    fn sizes_do_not_matter() {
        let (left, right) = Pipe::with_codec::<Letter, Letter, Packed>().expect("pipe");
        for len in [0, 1, 8_000, 9_000, 300_000] {
            let mut letter = Letter::new();
            letter.push(&vec![9u8; len]).expect("push");
            left.send(letter).expect("send");
            let letter = right.recv().expect("recv");
            let back: Vec<u8> = unpack(letter.bytes().expect("bytes")).expect("unpack");
            assert_eq!(back, vec![9; len]);
        }
    }

    #[test]
    fn shared_objects_stay_in_the_family() {
        let queue = Queue::<u32>::unbounded().expect("queue");
        let error = Letter::abroad().push(&queue).expect_err("no family there");
        assert!(matches!(error, EncodeError::Serialize(_)), "{error}");
    }
}
