//! Letter: a message that is put together piece by piece and whose types the channel does not know.
//!
//! The typed ends name the type of what they carry. A server that carries out anybody's function knows the type of the arguments only once the function
//! has been found. So the bytes travel as they are, with the objects among them, and stay in their block until they have been read: until then
//! the block is what holds those objects.

use super::codec::{
    Codec, DecodeError, EncodeError, Gather, pack, pack_block, pack_consuming, pack_plain,
    recycled, sealed, unpack_first,
};
use super::connection::{Connection, RecvError};
use super::core::{Channel, DIRECT_MAX, Delivery, GetFault, INLINE_MAX, Parcel, Sink};
use super::queue::{GetError, Queue};
use crate::heap::{Block, Container, HeapError, Hold};
use sealed::Content;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::{Deref, DerefMut};

/// A message in the making, or as it came: bytes that only sender and receiver understand, and serde values among them with the shared objects and
/// [`Buffer`](crate::Buffer)s in those.
///
/// For those who do the encoding themselves, another language's runtime say. Send it with the codec [`Packed`]. It is packed once: a send that finds no room gives
/// it back as it was, and a buffer in it is never copied. A received letter holds the objects in it for as long as it exists.
///
/// # Crash safety
/// As any message: the objects and buffers in it are held by the channel while it is under way.
///
/// # Examples
/// ```
/// use procession::{Buffer, Letter, Packed, Queue};
///
/// let queue = Queue::<Letter, Packed>::unbounded()?;
/// let mut letter = Letter::new();
/// letter.bytes_mut().extend_from_slice(b"frame:");
/// letter.push_moving(Buffer::zeroed(1 << 20)?)?;
/// queue.put(letter)?;
///
/// let letter = queue.get()?;
/// assert_eq!(&letter.bytes()?[..6], b"frame:");
/// let (frame, end) = letter.read::<Buffer>(6)?;
/// assert_eq!((frame.len(), end), (1 << 20, letter.bytes()?.len()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Letter {
    bytes: Scratch,
    holds: Vec<Hold>,
    /// The bytes are here, not there.
    delivery: Option<Delivery>,
    /// It leaves the family: shared objects cannot come along.
    abroad: bool,
}

/// A vector that the next letter of the same thread uses again.
#[derive(Debug)]
struct Scratch(Vec<u8>);

impl Default for Scratch {
    fn default() -> Self {
        Self(recycled::take())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        recycled::give(std::mem::take(&mut self.0));
    }
}

impl Deref for Scratch {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Letter {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A letter of `len` bytes which `fill` writes, and nothing else: many bytes are written to where they travel, without a copy in between. `fill` gets
    /// bytes of undefined content.
    ///
    /// # Errors
    /// [`HeapError::Full`], [`HeapError::TooLarge`].
    pub fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Self, HeapError> {
        let mut letter = Self::new();
        if len <= INLINE_MAX {
            letter.bytes.resize(len, 0);
            fill(&mut letter.bytes);
            return Ok(letter);
        }
        crate::family::join()?;
        let mut block = Block::alloc(len)?;
        fill(&mut block.as_mut_slice()[..len]);
        letter.delivery = Some(Delivery {
            block,
            len: len as u64,
            envelope: false,
        });
        Ok(letter)
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
            bytes: Scratch(bytes),
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

    /// The bytes so far of a letter in the making, to add to. Of a [`filled`](Self::filled) or received one: of no effect.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Adds a value, which stays the caller's: a [`Buffer`](crate::Buffer) in it is copied. After an error the letter is of no use.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        if self.abroad {
            return pack_plain(value, &mut self.bytes);
        }
        self.holds.extend(pack(value, &mut self.bytes)?);
        Ok(())
    }

    /// Adds a value, which is gone: a [`Buffer`](crate::Buffer) in it moves. After an error the letter is of no use.
    ///
    /// # Errors
    /// [`EncodeError`]; also for a buffer that outlives the value, in an `Arc` that is held elsewhere.
    pub fn push_moving<T: Serialize>(&mut self, value: T) -> Result<(), EncodeError> {
        if self.abroad {
            return pack_plain(&value, &mut self.bytes);
        }
        self.holds.extend(pack_consuming(value, &mut self.bytes)?);
        Ok(())
    }

    /// What is in it.
    ///
    /// # Errors
    /// [`DecodeError::Heap`]: a peer overwrote shared memory.
    #[inline]
    pub fn bytes(&self) -> Result<&[u8], DecodeError> {
        match &self.delivery {
            Some(delivery) => delivery.payload(),
            None => Ok(&self.bytes),
        }
    }

    /// The value that was added where the first `start` bytes end, and where it ends. Buffers are taken out: it cannot be read again.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn read<T: DeserializeOwned>(&self, start: usize) -> Result<(T, usize), DecodeError> {
        let bytes = self.bytes()?;
        let (value, rest) = unpack_first(bytes.get(start..).unwrap_or_default())?;
        Ok((value, bytes.len() - rest.len()))
    }

    fn parcel(&mut self) -> Result<Parcel<'_>, EncodeError> {
        if let Some(Delivery {
            block,
            len,
            envelope,
        }) = self.delivery.take()
        {
            return Ok(Parcel::Block {
                block,
                len,
                envelope,
            });
        }
        if self.holds.is_empty() && self.bytes.len() <= INLINE_MAX {
            return Ok(Parcel::Inline(&self.bytes));
        }
        Ok(Parcel::Block {
            block: pack_block(&self.bytes, &self.holds)?,
            len: self.bytes.len() as u64,
            envelope: !self.holds.is_empty(),
        })
    }
}

/// How [`Letter`]s travel.
#[derive(Clone, Copy, Debug)]
pub struct Packed;

impl sealed::Sealed for Packed {}

impl Codec<Letter> for Packed {
    fn send<E: From<EncodeError>>(
        mut value: Letter,
        send: impl FnOnce(&mut sealed::Out<'_>) -> Result<(), E>,
    ) -> Result<(), (E, Letter)> {
        let mut out = match value.parcel() {
            Ok(parcel) => sealed::Out(parcel),
            Err(error) => return Err((E::from(error), value)),
        };
        let sent = send(&mut out);
        let left = match out.0 {
            Parcel::Block {
                block,
                len,
                envelope,
            } if sent.is_err() => Some(Delivery {
                block,
                len,
                envelope,
            }),
            _ => None,
        };
        sent.map_err(|error| {
            value.delivery = left;
            (error, value)
        })
    }

    fn unpack(message: sealed::Message<'_>) -> Result<Letter, DecodeError> {
        let mut letter = Letter::new();
        match message.0 {
            Content::Inline(bytes) => letter.bytes.extend_from_slice(bytes),
            Content::Block(delivery) => letter.delivery = Some(delivery),
        }
        Ok(letter)
    }

    #[inline]
    fn receive<E: From<DecodeError> + From<sealed::Fault>>(
        source: sealed::Source<'_>,
    ) -> Result<Letter, E> {
        let mut letter = Letter::new();
        let mut sink = Gather {
            bytes: &mut letter.bytes,
            delivery: None,
        };
        source.take(&mut sink).map_err(sealed::Fault)?;
        letter.delivery = sink.delivery;
        Ok(letter)
    }
}

/// Puts a letter that was not made.
#[inline]
fn put_bytes(channel: &Channel, me: Container, head: &[u8], body: &[u8]) -> bool {
    head.len() + body.len() <= DIRECT_MAX && channel.try_put_bytes(me, head, body).is_ok()
}

/// Takes a letter and has an inline one read where it lies.
#[inline]
fn get_with<R>(
    channel: &Channel,
    me: Container,
    read: impl FnOnce(&[u8]) -> R,
) -> Result<Result<R, Letter>, GetFault> {
    let mut sink = ReadInPlace {
        read: Some(read),
        result: None,
        delivery: None,
    };
    channel.try_get(me, &mut sink)?;
    let ReadInPlace {
        result, delivery, ..
    } = sink;
    Ok(result.ok_or_else(|| Letter {
        delivery,
        ..Letter::default()
    }))
}

struct ReadInPlace<F, R> {
    read: Option<F>,
    result: Option<R>,
    delivery: Option<Delivery>,
}

impl<F: FnOnce(&[u8]) -> R, R> Sink for ReadInPlace<F, R> {
    #[inline]
    fn take(&mut self, payload: &[u8]) {
        self.result = self.read.take().map(|read| read(payload));
    }

    fn keep(&mut self, delivery: Delivery) {
        self.delivery = Some(delivery);
    }
}

impl Queue<Letter, Packed> {
    /// Puts a letter of the bytes `head` and `body` without making it first, if there is room for that now: they are copied once, to where they travel.
    /// `false`: it was not put; whoever puts the letter learns why.
    ///
    /// # Crash safety
    /// As [`Queue::put`].
    ///
    /// # Examples
    /// ```
    /// use procession::{Letter, Packed, Queue};
    ///
    /// let queue = Queue::<Letter, Packed>::unbounded()?;
    /// assert!(queue.try_put_bytes(b"b", b"content"));
    /// assert_eq!(queue.get()?.bytes()?, b"bcontent");
    /// assert!(!queue.try_put_bytes(b"b", &[0; 1 << 20]), "too much to be copied under a lock");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_put_bytes(&self, head: &[u8], body: &[u8]) -> bool {
        put_bytes(&self.shared.channel, self.shared.container(), head, body)
    }

    /// Takes a letter if there is one now and has its bytes read where they lie, without copying them first. A large letter, which has memory of its own, is returned unread.
    ///
    /// `read` runs while no other consumer can take anything: it copies, decodes little things, and does not use the queue. If it panics, the letter stays in the queue.
    ///
    /// # Crash safety
    /// If the process dies in `read`, the next consumer gets the letter.
    ///
    /// # Errors
    /// As [`Queue::try_get`].
    ///
    /// # Examples
    /// ```
    /// use procession::{Letter, Packed, Queue};
    ///
    /// let queue = Queue::<Letter, Packed>::unbounded()?;
    /// queue.try_put_bytes(b"", b"content");
    /// let text = queue.try_get_with(|bytes| String::from_utf8_lossy(bytes).into_owned())?;
    /// assert_eq!(text.expect("it is small"), "content");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_get_with<R>(
        &self,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Result<R, Letter>, GetError> {
        get_with(&self.shared.channel, self.shared.container(), read)
            .map_err(|fault| sealed::Fault(fault).into())
    }
}

impl Connection<Letter, Letter, Packed> {
    /// As [`Queue::try_put_bytes`].
    #[inline]
    #[must_use]
    pub fn try_send_bytes(&self, head: &[u8], body: &[u8]) -> bool {
        let (_, lane) = self.lanes();
        self.writable() && put_bytes(lane, self.pipe().0.container(), head, body)
    }

    /// As [`Queue::try_get_with`].
    ///
    /// # Errors
    /// As [`Connection::try_recv`].
    #[inline]
    pub fn try_recv_with<R>(
        &self,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Result<R, Letter>, RecvError> {
        if !self.readable() {
            return Err(RecvError::WriteOnly);
        }
        let (lane, _) = self.lanes();
        get_with(lane, self.pipe().0.container(), read).map_err(|fault| sealed::Fault(fault).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{Pipe, unpack};
    use crate::{Buffer, PutError};

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

    #[test]
    fn a_letter_that_found_no_room_comes_back_whole_and_its_buffer_moves() {
        let queue = Queue::<Letter, Packed>::new(1).expect("queue");
        queue.put(Letter::new()).expect("put");
        let buffer = Buffer::from_slice(&[7; 100_000]).expect("buffer");
        let address = buffer.as_ptr();
        let mut letter = Letter::new();
        letter.bytes_mut().push(1);
        letter.push_moving(buffer).expect("push");
        let mut letter = letter;
        for _ in 0..3 {
            letter = match queue.try_put(letter) {
                Err(PutError::Full(letter)) => letter,
                other => unreachable!("{other:?}"),
            };
        }
        assert!(queue.get().expect("get").bytes().expect("bytes").is_empty());
        queue.put(letter).expect("put");
        let letter = queue.get().expect("get");
        let (buffer, end) = letter.read::<Buffer>(1).expect("read");
        assert_eq!((buffer.as_ptr(), buffer.len()), (address, 100_000));
        assert_eq!(end, letter.bytes().expect("bytes").len());
        assert!(letter.read::<Buffer>(1).is_err(), "taken already");
    }

    #[test]
    fn filled_letters_arrive_whatever_their_size() {
        let queue = Queue::<Letter, Packed>::new(1).expect("queue");
        for len in [0, 5, INLINE_MAX, INLINE_MAX + 1, 3_000_000] {
            let letter = Letter::filled(len, |bytes| bytes.fill(3)).expect("filled");
            queue.put(letter).expect("put");
            let back = Letter::filled(len, |bytes| bytes.fill(4)).expect("filled");
            let Err(PutError::Full(back)) = queue.try_put(back) else {
                unreachable!("it is full")
            };
            assert_eq!(back.bytes().expect("bytes"), vec![4; len]);
            let letter = queue.get().expect("get");
            assert_eq!(letter.bytes().expect("bytes"), vec![3; len]);
        }
    }

    #[test]
    fn bytes_travel_without_a_letter_and_in_order_with_letters() {
        let queue = Queue::<Letter, Packed>::unbounded().expect("queue");
        let sizes = [0, 7, 100, INLINE_MAX + 1, DIRECT_MAX - 1];
        for (number, &len) in (0u8..).zip(&sizes) {
            assert!(queue.try_put_bytes(&[number], &vec![number; len]));
            let letter = Letter::filled(len, |bytes| bytes.fill(number)).expect("filled");
            queue.put(letter).expect("put");
        }
        assert!(!queue.try_put_bytes(&[1], &[0; DIRECT_MAX]), "too long");
        for (number, &len) in (0u8..).zip(&sizes) {
            let read = queue.try_get_with(<[u8]>::to_vec).expect("get");
            assert_eq!(read.expect("read in place"), vec![number; len + 1]);
            let letter = queue.get().expect("get");
            assert_eq!(letter.bytes().expect("bytes"), vec![number; len]);
        }
        let none = queue.try_get_with(<[u8]>::len);
        assert!(matches!(none, Err(GetError::Empty)));
    }

    #[test]
    fn a_pipe_without_room_for_bytes_has_room_for_a_letter() {
        let (left, right) = Pipe::with_codec::<Letter, Letter, Packed>().expect("pipe");
        let large = [5; DIRECT_MAX / 2];
        let put = (0..100)
            .take_while(|_| left.try_send_bytes(&[], &large))
            .count();
        assert!((1..100).contains(&put), "{put}");
        let letter = Letter::filled(large.len(), |bytes| bytes.copy_from_slice(&large));
        left.try_send(letter.expect("filled"))
            .expect("a reference has room");
        for _ in 0..put {
            let read = right.try_recv_with(<[u8]>::to_vec).expect("recv");
            assert_eq!(read.expect("read in place"), large);
        }
        let last = right.try_recv_with(<[u8]>::len).expect("recv");
        let letter = last.expect_err("it came in a block");
        assert_eq!(letter.bytes().expect("bytes"), large);
    }

    #[test]
    fn a_full_or_closed_queue_takes_no_bytes() {
        let queue = Queue::<Letter, Packed>::new(1).expect("queue");
        assert!(queue.try_put_bytes(b"a", b""));
        assert!(!queue.try_put_bytes(b"b", b""));
        queue.close();
        assert!(queue.try_get_with(<[u8]>::len).is_ok());
        assert!(!queue.try_put_bytes(b"c", b""));
        let end = queue.try_get_with(<[u8]>::len);
        assert!(matches!(end, Err(GetError::Closed)));
    }

    #[test]
    fn a_letter_whose_reader_panics_is_not_lost() {
        let queue = Queue::<Letter, Packed>::unbounded().expect("queue");
        assert!(queue.try_put_bytes(b"a", b"b"));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = queue.try_get_with(|_| panic!("not this time"));
        }));
        assert!(panicked.is_err());
        assert_eq!(
            queue
                .try_get_with(<[u8]>::to_vec)
                .expect("get")
                .expect("read"),
            b"ab"
        );
    }
}
