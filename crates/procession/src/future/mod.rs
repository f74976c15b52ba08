//! Everything that blocks, awaited: plain `std::future`, for any runtime or none.
//!
//! 1. `spot`: what a future waits at: a word in the heap. 2. `board`: which futures of this process wait where. 3. `reactor`: the threads that sleep for them. 4. `turn`: one future's
//!    place on the board. 5. One file per concept: `queue`, `connection`, `lock`, ... 6. `sentinel`, `process`: waiting for processes. 7. `stream`.
//!
//! # How a wake arrives
//! Every wait of the engine sleeps on a futex word in the heap, and its state machine wakes that word. So futures need no second way of being told: a thread of
//! this process sleeps on the words of all its pending futures at once (`futex_waitv`). To the state machines it is one more sleeper; senders, releasers
//! and setters do exactly what they do for a blocked thread, and their fast paths have not changed.
//!
//! Not descriptors ([`Readiness`](crate::Readiness)): those cost three per channel, a datagram for each wake, and exist for channels only. Not a listener word in every bell
//! and lock: that would be one more load on each fast path, and a second protocol to prove.
//!
//! ```text
//!   future: try -> register (waker, what it saw) -> announce a sleeper -> look again           one lock, no system call if the word is slept on already
//!   reactor: sleep on all words -> one changed: announce again -> look -> tell one future      told = it has the *turn*
//!   told future: try: took it, or not, or was dropped -> gives the turn back -> look -> the next one is told
//! ```
//!
//! **No lost wake.** Whoever announces looks at the state afterwards, under the board's lock; the kernel compares the word before the reactor sleeps. **The turn** of a spot
//! is held by at most one future, so an item wakes one future, not a thousand; it comes back when that future is polled or dropped, and whoever gives it back looks for the next.
//! If no future of this process is left for it, the wake goes on to the sleepers of other processes. A future that was told and is not polled for a while (a branch
//! of a `select!` that is busy elsewhere) loses its turn at the next look-around, 160 ms at the latest: it delays others, it cannot wedge them.
//!
//! **Cancel safety.** Things are taken inside a poll that returns them at once; between polls a future holds nothing but its place on the board, perhaps with the turn. Dropping
//! it gives both back.
//!
//! **Death.** After each slice of sleep (10 to 160 ms) the reactor looks for the dead, as every blocking wait does, and looks at every spot again. If *this* process dies, its
//! announcements are what any dead sleeper leaves behind, and the reaper deals with them.
//!
//! **Threads.** The first future that really has to wait starts a thread, `procession-wait`; it ends when nothing was waited for during half a second. It sleeps on up to 127 words
//! (not futures: all futures at one queue are one word); for each 127 more there is one more. Processes are no words: `procession-exit` polls the pidfds of those awaited. **A forked child**
//! has no thread and no waiting futures; it starts its own. Before Linux 5.16, or where a filter forbids `futex_waitv`, the thread looks at its words every millisecond instead.
//!
//! [`RLock`](crate::RLock) cannot be awaited: it belongs to a thread, and a task moves between threads.

mod barrier;
mod board;
mod condition;
mod connection;
mod event;
mod joinable_queue;
mod lock;
mod process;
mod queue;
mod reactor;
mod semaphore;
mod sentinel;
mod simple_queue;
mod spot;
mod stream;
mod turn;

pub use stream::{ConnectionStream, QueueStream};
