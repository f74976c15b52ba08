//! The results of a map, to be awaited.

use super::error::TaskError;
use super::function::TaskFunction;
use super::map::Map;
use crate::process::Portable;
use futures_core::Stream;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The results of a [`Map`] as a [`Stream`], under any runtime. Made by [`Map::stream`].
///
/// # Cancel safety
/// `next` can be dropped and begun again; no result is lost.
#[must_use = "a stream is lazy: nothing runs until its results are asked for"]
pub struct MapStream<'a, A: Portable, R: Portable, F = fn(A) -> R> {
    map: Map<'a, A, R, F>,
}

impl<A: Portable, R: Portable, F> fmt::Debug for MapStream<'_, A, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapStream").field(&self.map).finish()
    }
}

impl<'a, A, R, F> Map<'a, A, R, F>
where
    A: Portable,
    R: Portable,
    F: TaskFunction<Arguments = A, Output = R>,
{
    /// The results, to be awaited one by one. The input is read by whoever polls, so it should not block.
    ///
    /// # Examples
    /// ```
    /// use futures_core::Stream;
    /// use std::{future::poll_fn, pin::Pin};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(2)?;
    ///     let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    ///     runtime.block_on(async {
    ///         let mut squares = pool.imap(|x: u64| x * x, 0..).stream();
    ///         for x in 0..4 {
    ///             // `squares.next().await`, with `StreamExt` of the crate `futures`
    ///             let next = poll_fn(|context| Pin::new(&mut squares).poll_next(context)).await;
    ///             assert_eq!(next, Some(Ok(x * x)));
    ///         }
    ///     });
    ///     Ok(())
    /// }
    /// ```
    pub fn stream(self) -> MapStream<'a, A, R, F> {
        MapStream { map: self }
    }
}

impl<A, R, F> Stream for MapStream<'_, A, R, F>
where
    A: Portable + Unpin,
    R: Portable + Unpin,
    F: TaskFunction<Arguments = A, Output = R> + Unpin,
{
    type Item = Result<R, TaskError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.map.poll(context.waker())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.map.size_hint()
    }
}
