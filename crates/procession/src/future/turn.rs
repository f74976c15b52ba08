//! One future's wait: try, register, try again, and give everything back when dropped.

use super::board::Place;
use super::reactor::{mind_forks, with_board};
use super::spot::Spot;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A future's place on the board, once it had to wait.
#[derive(Debug, Default)]
pub(super) struct Turn {
    place: Option<Place>,
}

impl Turn {
    /// One poll: makes the attempt, and waits at the spot if it failed; then it says what it had seen *before* it failed. It is told whether we waited already.
    pub(super) fn poll<R>(
        &mut self,
        context: &mut Context<'_>,
        spot: impl FnOnce() -> Arc<dyn Spot>,
        attempt: impl FnOnce(bool) -> Result<R, u64>,
    ) -> Poll<R> {
        match attempt(self.place.is_some()) {
            Ok(result) => {
                self.end(true);
                Poll::Ready(result)
            }
            Err(seen) => {
                mind_forks();
                let spot = spot();
                let waker = context.waker().clone();
                let place = with_board(|board, errands| {
                    board.wait(self.place, &spot, (waker, seen), errands)
                });
                self.place = Some(place);
                Poll::Pending
            }
        }
    }

    fn end(&mut self, took: bool) {
        if let Some(place) = self.place.take() {
            with_board(|board, errands| board.leave(place, took, errands));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// Waits at a spot until the attempt succeeds.
pub(super) async fn succeed<R>(
    spot: impl Fn() -> Arc<dyn Spot>,
    mut attempt: impl FnMut(bool) -> Result<R, u64>,
) -> R {
    let mut turn = Turn::default();
    poll_fn(move |context| turn.poll(context, &spot, &mut attempt)).await
}
