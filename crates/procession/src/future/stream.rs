//! Queues and connections as streams.

use super::turn::Turn;
use crate::channel::{Codec, Connection, DecodeError, GetError, Queue, RecvError, Serde};
use futures_core::Stream;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The items of a queue, one after the other: see [`Queue::stream`].
pub struct QueueStream<'a, T, C = Serde> {
    queue: &'a Queue<T, C>,
    turn: Turn,
}

impl<'a, T, C: Codec<T>> QueueStream<'a, T, C> {
    pub(super) fn new(queue: &'a Queue<T, C>) -> Self {
        let turn = Turn::default();
        Self { queue, turn }
    }
}

impl<T, C: Codec<T>> Stream for QueueStream<'_, T, C> {
    type Item = Result<T, DecodeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let queue = self.queue;
        let polled = (self.turn).poll(context, || queue.items(), |_| queue.attempt_get());
        polled.map(|got| match got {
            Ok(item) => Some(Ok(item)),
            Err(GetError::Decode(error)) => Some(Err(error)),
            Err(GetError::Closed | GetError::Empty | GetError::TimedOut) => None,
        })
    }
}

impl<T, C> fmt::Debug for QueueStream<'_, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueStream")
            .field("queue", self.queue)
            .finish()
    }
}

/// The messages of a connection, one after the other: see [`Connection::stream`].
pub struct ConnectionStream<'a, S, R, C = Serde> {
    connection: &'a Connection<S, R, C>,
    turn: Turn,
}

impl<'a, S, R, C: Codec<R>> ConnectionStream<'a, S, R, C> {
    pub(super) fn new(connection: &'a Connection<S, R, C>) -> Self {
        let turn = Turn::default();
        Self { connection, turn }
    }
}

impl<S, R, C: Codec<R>> Stream for ConnectionStream<'_, S, R, C> {
    type Item = Result<R, DecodeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let end = self.connection;
        let polled = (self.turn).poll(context, || end.incoming(), |_| end.attempt_recv());
        polled.map(|got| match got {
            Ok(message) => Some(Ok(message)),
            Err(RecvError::Decode(error)) => Some(Err(error)),
            Err(RecvError::Eof | RecvError::WriteOnly | RecvError::Empty | RecvError::TimedOut) => {
                None
            }
        })
    }
}

impl<S, R, C> fmt::Debug for ConnectionStream<'_, S, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionStream")
            .field("connection", self.connection)
            .finish()
    }
}
