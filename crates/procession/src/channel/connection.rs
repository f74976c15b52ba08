//! Connection: one end of a pipe.

use super::anchor::Anchor;
use super::codec::{self, Codec, DecodeError, EncodeError, Serde, sealed};
use super::core::{Channel, GetFault, PutFault};
use super::queue::{PutFailure, send};
use super::readiness::{Readiness, Watched};
use crate::atomic::{AtomicU32, Ordering};
use crate::heap::{BlockRef, Container, Death, Handle, HeapError, Object, Shared};
use crate::kinds::Kind;
use crate::sync::deadline_after;
use crate::sync::raw::Deadline;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// Bytes of the ring of each direction; a full one makes `send` wait, as a pipe of the system would.
const PIPE_BYTES: u32 = 64 * 1024;

/// Both directions of a pipe, as they lie in the heap.
#[repr(C, align(64))]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedPipe {
    /// `lanes[i]` carries what end `i` sends.
    pub(super) lanes: [Channel; 2],
}

impl Object for SharedPipe {
    const KIND: Kind = Kind::Pipe;

    fn reap(&self, death: Death) {
        self.lanes.iter().for_each(|lane| lane.reap(death));
    }

    fn contains(&self, block: BlockRef) -> bool {
        self.lanes.iter().any(|lane| lane.contains(block))
    }

    fn destroy(&self, container: Container) {
        self.lanes.iter().for_each(|lane| lane.destroy(container));
    }
}

/// One end, as it lies in the heap: its holders are what keeps the pipe open on this side. It holds the pipe through an envelope of its own.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedEnd {
    side: AtomicU32,
    /// What the end may do: [`READABLE`], [`WRITABLE`].
    mode: AtomicU32,
    pipe: Anchor,
}

const READABLE: u32 = 1;
const WRITABLE: u32 = 2;

impl Object for SharedEnd {
    const KIND: Kind = Kind::Connection;

    fn reap(&self, _death: Death) {}

    fn contains(&self, block: BlockRef) -> bool {
        self.pipe.contains(block)
    }

    /// The last holder of this end is gone: the other side reads what is in flight, then end of file; it can send no more.
    fn destroy(&self, container: Container) {
        let Ok(pipe) = Shared::<SharedPipe>::open(self.pipe.target()) else {
            return;
        };
        let side = self.side();
        // In this order: whoever has read end of file can send no more.
        pipe.lanes[1 - side].close_for_readers();
        pipe.lanes[side].close();
        self.pipe.release(container);
    }
}

impl SharedEnd {
    fn side(&self) -> usize {
        (self.side.load(Ordering::Relaxed) & 1) as usize
    }
}

/// Why a message was not sent. The message comes back.
#[derive(Clone, PartialEq, Eq)]
pub enum SendError<T> {
    /// The pipe is full (`try_send` only).
    Full(T),
    /// There was no room before the time ran out (`send_timeout`, `send_deadline`).
    TimedOut(T),
    /// Nobody holds the other end any more: all closed it, or died.
    Broken(T),
    /// This end is for receiving only.
    ReadOnly(T),
    /// The value could not be made a message.
    Encode(EncodeError, T),
}

impl<T> SendError<T> {
    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::TimedOut(value) | Self::Broken(value) => value,
            Self::ReadOnly(value) | Self::Encode(_, value) => value,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Full(_) => "Full(..)",
            Self::TimedOut(_) => "TimedOut(..)",
            Self::Broken(_) => "Broken(..)",
            Self::ReadOnly(_) => "ReadOnly(..)",
            Self::Encode(..) => "Encode(..)",
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "pipe is full",
            Self::TimedOut(_) => "pipe had no room before the time ran out",
            Self::Broken(_) => "nobody holds the other end of the pipe any more",
            Self::ReadOnly(_) => "this end of the pipe is for receiving only",
            Self::Encode(..) => "value cannot be sent through the pipe",
        })
    }
}

impl<T> std::error::Error for SendError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(error, _) => Some(error),
            _ => None,
        }
    }
}

/// Why no message was received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// There is no message now (`try_recv` only).
    #[error("no message in the pipe")]
    Empty,
    /// No message came before the time ran out (`recv_timeout`, `recv_deadline`).
    #[error("no message came before the time ran out")]
    TimedOut,
    /// Everything was received and nobody holds the other end any more: all closed it, or died.
    #[error("end of file: nobody holds the other end of the pipe any more")]
    Eof,
    /// This end is for sending only.
    #[error("this end of the pipe is for sending only")]
    WriteOnly,
    /// A message came that is no value of the expected type. It is gone; those behind it are untouched.
    #[error("message cannot be read")]
    Decode(#[from] DecodeError),
}

impl From<sealed::Fault> for RecvError {
    fn from(fault: sealed::Fault) -> Self {
        match fault.0 {
            GetFault::Empty | GetFault::Busy => Self::Empty,
            GetFault::Closed => Self::Eof,
            GetFault::TimedOut => Self::TimedOut,
            GetFault::Corrupt(error) => Self::Decode(DecodeError::Heap(*error)),
        }
    }
}

/// Makes pipes.
///
/// # Examples
/// ```
/// use procession::Pipe;
///
/// let (left, right) = Pipe::duplex::<u32, String>()?;
/// left.send(7)?; // left sends u32, right answers with String
/// assert_eq!(right.recv()?, 7);
/// right.send("seven".to_owned())?;
/// assert_eq!(left.recv()?, "seven");
///
/// let (receiver, sender) = Pipe::one_way::<u64>()?;
/// sender.send(1)?;
/// drop(sender);
/// assert_eq!(receiver.recv()?, 1);
/// assert_eq!(receiver.recv(), Err(procession::RecvError::Eof));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.Pipe`
#[derive(Debug)]
pub struct Pipe;

impl Pipe {
    /// A pipe whose ends both send and receive: the first sends `A`, the second `B`.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    #[expect(clippy::type_complexity, reason = "two ends of two types")]
    pub fn duplex<A, B>() -> Result<(Connection<A, B>, Connection<B, A>), HeapError> {
        Self::with_codec::<A, B, Serde>()
    }

    /// A pipe in one direction: the first end receives, the second sends.
    ///
    /// # Errors
    /// As [`Pipe::duplex`].
    #[expect(clippy::type_complexity, reason = "two ends of two types")]
    pub fn one_way<T>() -> Result<(Connection<T, T>, Connection<T, T>), HeapError> {
        Self::one_way_with::<T, Serde>()
    }

    /// [`Pipe::duplex`] with another codec, say [`Plain`](crate::Plain).
    ///
    /// # Errors
    /// As [`Pipe::duplex`].
    #[expect(clippy::type_complexity, reason = "two ends of two types")]
    pub fn with_codec<A, B, C>() -> Result<(Connection<A, B, C>, Connection<B, A, C>), HeapError> {
        let pipe = shared_pipe()?;
        let both = READABLE | WRITABLE;
        Ok((
            Connection::create(&pipe, 0, both)?,
            Connection::create(&pipe, 1, both)?,
        ))
    }

    /// [`Pipe::one_way`] with another codec.
    ///
    /// # Errors
    /// As [`Pipe::duplex`].
    #[expect(clippy::type_complexity, reason = "two ends of two types")]
    pub fn one_way_with<T, C>() -> Result<(Connection<T, T, C>, Connection<T, T, C>), HeapError> {
        let pipe = shared_pipe()?;
        Ok((
            Connection::create(&pipe, 0, READABLE)?,
            Connection::create(&pipe, 1, WRITABLE)?,
        ))
    }
}

fn shared_pipe() -> Result<Shared<SharedPipe>, HeapError> {
    Shared::create(|pipe: &SharedPipe, _| {
        pipe.lanes.iter().for_each(|lane| lane.init(0, PIPE_BYTES))
    })
}

/// One end of a pipe: sends `S`, receives `R`.
///
/// Any process or thread that holds an end may use it; several at once share what it receives. The pipe is broken for the other side when the *last*
/// holder of this end has dropped it, exited or died.
///
/// # Crash safety
/// As [`Queue`](crate::Queue): a killed peer loses at most the message it was just sending or had just received, and its death ends every wait on the
/// other side: `recv` with [`RecvError::Eof`] after the last message, `send` with [`SendError::Broken`].
pub struct Connection<S, R = S, C = Serde> {
    // Before the pipe: dropping the end may need it.
    end: Shared<SharedEnd>,
    pipe: Shared<SharedPipe>,
    // What the end says, which never changes.
    side: usize,
    mode: u32,
    _messages: PhantomData<fn(S, C) -> R>,
}

impl<S, R, C> Connection<S, R, C> {
    fn create(pipe: &Shared<SharedPipe>, side: u32, mode: u32) -> Result<Self, HeapError> {
        let handle = pipe.handle();
        let envelope = Anchor::envelope(handle)?;
        let end = Shared::create(|end: &SharedEnd, _| {
            end.side.store(side, Ordering::Relaxed);
            end.mode.store(mode, Ordering::Relaxed);
            end.pipe.point_at(handle);
        })?;
        end.pipe.tie(end.container(), envelope);
        Ok(Self {
            side: end.side(),
            mode: end.mode.load(Ordering::Relaxed),
            end,
            pipe: pipe.clone(),
            _messages: PhantomData,
        })
    }

    fn out_lane(&self) -> &Channel {
        &self.pipe.lanes[self.side & 1]
    }

    fn in_lane(&self) -> &Channel {
        &self.pipe.lanes[(self.side & 1) ^ 1]
    }

    #[inline]
    fn source(&self, wait: sealed::Wait) -> sealed::Source<'_> {
        sealed::Source {
            channel: self.in_lane(),
            me: self.pipe.container(),
            wait,
        }
    }

    fn may(&self, mode: u32) -> bool {
        self.mode & mode != 0
    }

    /// Whether this end can receive.
    #[must_use]
    pub fn readable(&self) -> bool {
        self.may(READABLE)
    }

    /// Whether this end can send.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.may(WRITABLE)
    }

    /// Sends a copy of `bytes` as one message, without a codec.
    ///
    /// # Blocking
    /// While the pipe is full.
    ///
    /// # Errors
    /// [`SendError::Broken`], [`SendError::ReadOnly`], [`SendError::Encode`] if the heap is full.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        if !self.writable() {
            return Err(SendError::ReadOnly(()));
        }
        let put = |out: &mut sealed::Out<'_>| {
            let put = self.out_lane().put(self.pipe.container(), &mut out.0, None);
            put.map_err(PutFailure::Fault)
        };
        codec::send_bytes(bytes, put).map_err(|failure| send_error(failure, ()))
    }

    /// Receives one message, whatever it is, as bytes appended to `into`.
    ///
    /// # Blocking
    /// Until a message comes or nobody holds the other end.
    ///
    /// # Errors
    /// [`RecvError::Eof`], [`RecvError::WriteOnly`], [`RecvError::Decode`] if shared memory was overwritten.
    pub fn recv_bytes(&self, into: &mut Vec<u8>) -> Result<(), RecvError> {
        if !self.readable() {
            return Err(RecvError::WriteOnly);
        }
        codec::receive_bytes(self.source(sealed::Wait::Until(None)), into)
    }

    /// Whether there is something to receive, or end of file, within `timeout`.
    pub fn poll(&self, timeout: Duration) -> bool {
        self.in_lane().wait_items(deadline_after(timeout))
    }

    /// As [`poll`](Self::poll), until a point in time.
    pub fn poll_deadline(&self, deadline: Instant) -> bool {
        self.in_lane().wait_items(Some(deadline))
    }

    /// Whether there is something to receive, or end of file, now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.in_lane().is_ready()
    }

    /// A file descriptor that becomes readable when there is something to receive, or end of file: for poll, epoll and event loops.
    /// That of an end that only sends becomes readable when nobody holds the other end any more.
    ///
    /// # Errors
    /// As [`Queue::readiness`](crate::Queue::readiness).
    ///
    /// # In Python
    /// `Connection.fileno`
    pub fn readiness(&self) -> Result<Readiness, HeapError> {
        Readiness::new(Watched::Pipe(self.pipe.clone(), 1 - self.end.side()))
    }

    /// The channels that it receives from and sends to.
    pub(crate) fn lanes(&self) -> (&Channel, &Channel) {
        (self.in_lane(), self.out_lane())
    }

    /// The pipe, which can be held without holding this end, and our side of it.
    pub(crate) fn pipe(&self) -> (&Shared<SharedPipe>, usize) {
        (&self.pipe, self.side & 1)
    }

    pub(super) fn watched(&self) -> (&Channel, Container) {
        (self.in_lane(), self.pipe.container())
    }

    /// Messages in flight towards this end.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.in_lane().len()
    }
}

impl<S, R, C: Codec<S>> Connection<S, R, C> {
    /// Sends a message.
    ///
    /// # Blocking
    /// While the pipe is full.
    ///
    /// # Errors
    /// [`SendError::Broken`], [`SendError::ReadOnly`], [`SendError::Encode`]; the message comes back.
    #[inline]
    pub fn send(&self, message: S) -> Result<(), SendError<S>> {
        self.send_until(message, None)
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// [`SendError::Full`] and those of [`Connection::send`].
    #[inline]
    pub fn try_send(&self, message: S) -> Result<(), SendError<S>> {
        if !self.writable() {
            return Err(SendError::ReadOnly(message));
        }
        send::<S, C>(message, |parcel| {
            self.out_lane().try_put(self.pipe.container(), parcel)
        })
        .map_err(|(failure, message)| send_error(failure, message))
    }

    /// Sends a message, waiting at most `timeout` for room.
    ///
    /// # Errors
    /// [`SendError::TimedOut`] and those of [`Connection::send`].
    pub fn send_timeout(&self, message: S, timeout: Duration) -> Result<(), SendError<S>> {
        self.send_until(message, deadline_after(timeout))
    }

    /// Sends a message, waiting for room until `deadline`.
    ///
    /// # Errors
    /// As [`Connection::send_timeout`].
    pub fn send_deadline(&self, message: S, deadline: Instant) -> Result<(), SendError<S>> {
        self.send_until(message, Some(deadline))
    }

    #[inline]
    fn send_until(&self, message: S, deadline: Deadline) -> Result<(), SendError<S>> {
        if !self.writable() {
            return Err(SendError::ReadOnly(message));
        }
        send::<S, C>(message, |parcel| {
            self.out_lane().put(self.pipe.container(), parcel, deadline)
        })
        .map_err(|(failure, message)| send_error(failure, message))
    }
}

impl<S, R, C: Codec<R>> Connection<S, R, C> {
    /// Receives the next message.
    ///
    /// # Blocking
    /// Until a message comes or nobody holds the other end.
    ///
    /// # Errors
    /// [`RecvError::Eof`], [`RecvError::WriteOnly`], [`RecvError::Decode`].
    #[inline]
    pub fn recv(&self) -> Result<R, RecvError> {
        self.recv_until(None)
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    /// [`RecvError::Empty`] and those of [`Connection::recv`].
    #[inline]
    pub fn try_recv(&self) -> Result<R, RecvError> {
        if !self.readable() {
            return Err(RecvError::WriteOnly);
        }
        C::receive(self.source(sealed::Wait::No))
    }

    /// Receives a message, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`] and those of [`Connection::recv`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<R, RecvError> {
        self.recv_until(deadline_after(timeout))
    }

    /// Receives a message, waiting until `deadline`.
    ///
    /// # Errors
    /// As [`Connection::recv_timeout`].
    pub fn recv_deadline(&self, deadline: Instant) -> Result<R, RecvError> {
        self.recv_until(Some(deadline))
    }

    #[inline]
    fn recv_until(&self, deadline: Deadline) -> Result<R, RecvError> {
        if !self.readable() {
            return Err(RecvError::WriteOnly);
        }
        C::receive(self.source(sealed::Wait::Until(deadline)))
    }

    /// Iterates over the messages until end of file, waiting for each. A message that cannot be read is an error in its place;
    /// those behind it follow. An end for sending only has none.
    pub fn iter(&self) -> impl Iterator<Item = Result<R, DecodeError>> + '_ {
        std::iter::from_fn(|| match self.recv() {
            Ok(message) => Some(Ok(message)),
            Err(RecvError::Decode(error)) => Some(Err(error)),
            Err(RecvError::Eof | RecvError::WriteOnly | RecvError::Empty | RecvError::TimedOut) => {
                None
            }
        })
    }
}

fn send_error<T>(failure: PutFailure, message: T) -> SendError<T> {
    match failure {
        PutFailure::Fault(PutFault::Full | PutFault::Busy) => SendError::Full(message),
        PutFailure::Fault(PutFault::TimedOut) => SendError::TimedOut(message),
        PutFailure::Fault(PutFault::Closed | PutFault::NoReader) => SendError::Broken(message),
        PutFailure::Fault(PutFault::Heap(error)) => {
            SendError::Encode(EncodeError::Heap(*error), message)
        }
        PutFailure::Encode(error) => SendError::Encode(error, message),
    }
}

impl<S, R, C> Connection<S, R, C> {
    /// The name of this end, to be sent by other means. A name alone holds nothing.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.end.handle()
    }

    /// Opens an end by its name, if somebody still holds it.
    ///
    /// # Errors
    /// [`HeapError::Stale`], [`HeapError::OtherFamily`], [`HeapError::WrongKind`].
    pub fn open(handle: Handle) -> Result<Self, HeapError> {
        let end = Shared::<SharedEnd>::open(handle)?;
        let pipe = Shared::open(end.pipe.target())?;
        Ok(Self {
            side: end.side(),
            mode: end.mode.load(Ordering::Relaxed),
            end,
            pipe,
            _messages: PhantomData,
        })
    }

    fn hold(&self) -> crate::heap::Hold {
        self.end.hold()
    }
}

impl<S, R, C> Clone for Connection<S, R, C> {
    fn clone(&self) -> Self {
        Self {
            end: self.end.clone(),
            pipe: self.pipe.clone(),
            side: self.side,
            mode: self.mode,
            _messages: PhantomData,
        }
    }
}

crate::sync::handle_serde!(Connection<S, R, C>, "Connection");
