//! Awaiting a pipe.

use super::queue::{Items, Room};
use super::spot::Spot;
use super::stream::ConnectionStream;
use super::turn::succeed;
use crate::channel::{Codec, Connection, RecvError, SendError, Watched};
use std::sync::Arc;

impl<S, R, C> Connection<S, R, C> {
    /// Holds the pipe but not this end: it closes when the last [`Connection`] is dropped.
    pub(super) fn incoming(&self) -> Arc<dyn Spot> {
        let (pipe, side) = self.pipe();
        Items::of(Watched::Pipe(pipe.clone(), 1 - side))
    }

    fn outgoing(&self) -> Arc<dyn Spot> {
        let (pipe, side) = self.pipe();
        Room::of(Watched::Pipe(pipe.clone(), side))
    }
}

impl<S, R, C: Codec<R>> Connection<S, R, C> {
    /// One attempt to receive.
    pub(super) fn attempt_recv(&self) -> Result<Result<R, RecvError>, u64> {
        match self.try_recv() {
            Err(RecvError::Empty) => Err(0),
            result => Ok(result),
        }
    }

    /// Receives the next message, awaiting it.
    ///
    /// # Cancel safety
    /// A message is taken in the poll that returns it: a future that is dropped before has taken nothing.
    ///
    /// # Crash safety
    /// The death of the last holder of the other end ends the wait with [`RecvError::Eof`].
    ///
    /// # Errors
    /// [`RecvError::Eof`], [`RecvError::WriteOnly`], [`RecvError::Decode`].
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let (left, right) = procession::Pipe::duplex::<u32, String>()?;
    /// std::thread::spawn(move || right.recv().map(|n| right.send(n.to_string())));
    /// left.send_async(7).await?;
    /// assert_eq!(left.recv_async().await?, "7");
    /// assert_eq!(left.recv_async().await, Err(procession::RecvError::Eof));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn recv_async(&self) -> Result<R, RecvError> {
        succeed(|| self.incoming(), |_| self.attempt_recv()).await
    }

    /// The messages as a [`Stream`](futures_core::Stream), until end of file. A message that cannot be read is an error in its place; those
    /// behind it follow. An end for sending only has none.
    ///
    /// # Cancel safety
    /// As [`Connection::recv_async`].
    ///
    /// # Examples
    /// ```
    /// use futures_core::Stream;
    /// use std::{future::poll_fn, pin::Pin};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let (receiver, sender) = procession::Pipe::one_way::<u32>()?;
    /// sender.send(7)?;
    /// drop(sender);
    /// let mut stream = receiver.stream();
    /// let mut next = async || poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await;
    /// assert_eq!(next().await, Some(Ok(7)));
    /// assert_eq!(next().await, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self) -> ConnectionStream<'_, S, R, C> {
        ConnectionStream::new(self)
    }
}

impl<S, R, C: Codec<S>> Connection<S, R, C> {
    /// Sends a message, awaiting room while the pipe is full.
    ///
    /// # Cancel safety
    /// The message is sent in the poll that returns. A future that is dropped before has sent nothing, and the message is dropped with it.
    ///
    /// # Crash safety
    /// The death of the last holder of the other end ends the wait with [`SendError::Broken`].
    ///
    /// # Errors
    /// [`SendError::Broken`], [`SendError::ReadOnly`], [`SendError::Encode`]; the message comes back.
    ///
    /// # Examples
    /// See [`Connection::recv_async`].
    pub async fn send_async(&self, message: S) -> Result<(), SendError<S>> {
        let mut unsent = Some(message);
        succeed(
            || self.outgoing(),
            |_| {
                let taken = self.lanes().1.taken().to_word();
                let Some(message) = unsent.take() else {
                    return Ok(Ok(()));
                };
                match self.try_send(message) {
                    Err(SendError::Full(message)) => {
                        unsent = Some(message);
                        Err(taken)
                    }
                    result => Ok(result),
                }
            },
        )
        .await
    }
}
