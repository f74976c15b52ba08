//! Barrier: a meeting point.

use super::deadline::deadline_after;
use super::raw::{
    Arrival, BARRIER_MAX, BarrierError as RawError, Deadline, Parties, RawArrival, RawBarrier,
};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::{MAX_PARTICIPANTS, Waiter};
use crate::heap::{Block, BlockRef, Container, Death, HeapError, Object, Shared, block_table, me};
use crate::kinds::Kind;
use std::convert::Infallible;
use std::time::{Duration, Instant};

/// Parties whose records fit into the object itself.
const INLINE: usize = 4;

/// Words of one bit for each place in the family.
const PLACES: usize = MAX_PARTICIPANTS / 64;

/// A barrier as it lies in the heap, and a block of records if it has many parties.
///
/// Who holds a barrier and dies breaks it. Where handles are inherited by all children (a runtime that forks), that would make every child a party: such a barrier is *selective*, and
/// counts only processes that said so ([`SharedBarrier::take_part`]), which `taking_part` lists.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedBarrier {
    pub(crate) raw: RawBarrier,
    parties: AtomicU32,
    /// Not zero: not all who hold it are parties.
    selective: AtomicU32,
    /// The block of records, if they are not inline.
    block: AtomicU64,
    inline: [RawArrival; INLINE],
    taking_part: [AtomicU64; PLACES],
}
const _: () = assert!(size_of::<SharedBarrier>() <= 64 + MAX_PARTICIPANTS / 8);

impl SharedBarrier {
    fn block(&self) -> Option<BlockRef> {
        BlockRef::from_bits(self.block.load(Ordering::Acquire))
    }

    fn parties(&self) -> Parties<'_> {
        Parties(&self.taking_part)
    }

    /// This process is a party from now on.
    pub(crate) fn take_part(&self) {
        self.parties().enter(me());
    }

    pub(crate) fn records(&self) -> &[RawArrival] {
        let parties = self.parties.load(Ordering::Relaxed) as usize;
        match self.block() {
            None => &self.inline[..parties.min(INLINE)],
            Some(block) => {
                let records = block_table::<RawArrival>(block, 0).unwrap_or(&[]);
                &records[..parties.min(records.len())]
            }
        }
    }
}

impl Object for SharedBarrier {
    const KIND: Kind = Kind::Barrier;

    fn reap(&self, death: Death) {
        let port = Waiter::new();
        self.raw.reap(self.records(), &port, death.owner);
        // A party that will never come: the others would wait for ever.
        self.parties()
            .reap(&self.raw, &port, death.owner, |listed| {
                let is_party = listed || self.selective.load(Ordering::SeqCst) == 0;
                death.held && !death.clean && is_party
            });
    }

    fn contains(&self, block: BlockRef) -> bool {
        self.block() == Some(block)
    }

    fn destroy(&self, container: Container) {
        drop(
            self.block()
                .and_then(|block| Block::reclaim(block, container)),
        );
    }
}

/// Why a barrier was not created.
///
/// # Examples
/// ```
/// use procession::{Barrier, NewBarrierError};
///
/// assert!(matches!(Barrier::new(0), Err(NewBarrierError::Parties { .. })));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NewBarrierError {
    /// No barrier can have this many parties.
    #[error("barrier cannot have {parties} parties; it needs at least 1 and at most {most}")]
    Parties {
        /// What was asked for.
        parties: usize,
        /// The most there can be.
        most: usize,
    },
    /// No room in the family heap.
    #[error(transparent)]
    Heap(#[from] HeapError),
}

/// Why a party did not get through.
///
/// # Examples
/// ```
/// use procession::{Barrier, BarrierError};
///
/// let barrier = Barrier::new(2)?;
/// barrier.abort();
/// assert_eq!(barrier.wait().err(), Some(BarrierError::Broken));
/// # Ok::<(), procession::NewBarrierError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// The barrier is broken, or was reset: somebody aborted it, timed out, died, or its action panicked.
    #[error("barrier is broken")]
    Broken,
    /// The others did not come before the time ran out (`wait_timeout`, `wait_deadline`); the barrier is broken now.
    #[error("the other parties did not come before the time ran out")]
    TimedOut,
}

/// How a party got through.
///
/// # Examples
/// ```
/// let passed = procession::Barrier::new(1)?.wait()?;
/// assert!(passed.is_leader() && passed.index() == 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: u32,
    is_leader: bool,
}

impl BarrierWaitResult {
    pub(crate) fn new(index: u32, is_leader: bool) -> Self {
        Self { index, is_leader }
    }

    /// How many had arrived before, from 0 to `parties - 1`; unique in the round.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Barrier::new(1)?.wait()?.index(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Whether this party came last: exactly one of each round is the leader.
    ///
    /// # Examples
    /// ```
    /// assert!(procession::Barrier::new(1)?.wait()?.is_leader());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_leader(self) -> bool {
        self.is_leader
    }
}

/// A point that a number of parties pass together, round after round.
///
/// # Crash safety
/// If a process dies that waits here, or dies (other than by ending in order) while it holds a handle of the barrier, the barrier breaks:
/// the others get [`BarrierError::Broken`] instead of waiting for somebody who will not come. [`Barrier::reset`] makes it whole again.
///
/// # Examples
/// ```
/// let barrier = procession::Barrier::new(2)?;
/// let other = { let barrier = barrier.clone(); std::thread::spawn(move || barrier.wait()) };
/// let mine = barrier.wait()?;
/// let theirs = other.join().unwrap()?;
/// assert_ne!(mine.is_leader(), theirs.is_leader());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.Barrier`
pub struct Barrier {
    shared: Shared<SharedBarrier>,
    _item: (),
}

impl Barrier {
    /// Creates a barrier for `parties`.
    ///
    /// # Errors
    /// [`NewBarrierError`].
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Barrier::new(3)?.parties(), 3);
    /// # Ok::<(), procession::NewBarrierError>(())
    /// ```
    pub fn new(parties: usize) -> Result<Self, NewBarrierError> {
        if parties == 0 || parties > BARRIER_MAX {
            return Err(NewBarrierError::Parties {
                parties,
                most: BARRIER_MAX,
            });
        }
        let shared = Shared::create(|barrier: &SharedBarrier, _| {
            barrier.parties.store(parties as u32, Ordering::Relaxed);
        })?;
        if parties > INLINE {
            let block = Block::alloc_zeroed(parties * size_of::<RawArrival>())?;
            let attached = block.attach(shared.container(), |reference| {
                shared.block.store(reference.to_bits(), Ordering::SeqCst);
                Ok::<(), Infallible>(())
            });
            debug_assert!(attached.is_ok());
        }
        Ok(Self { shared, _item: () })
    }

    /// As [`Barrier::new`], but who holds it is a party only after having arrived or said so.
    pub(crate) fn selective(parties: usize) -> Result<Self, NewBarrierError> {
        let barrier = Self::new(parties)?;
        barrier.shared.selective.store(1, Ordering::SeqCst);
        Ok(barrier)
    }

    pub(crate) fn take_part(&self) {
        self.shared.take_part();
    }

    pub(crate) fn machine(&self) -> (&RawBarrier, &[RawArrival]) {
        (&self.shared.raw, self.shared.records())
    }

    /// Waits until all parties have come.
    ///
    /// # Blocking
    /// Until the last one is there, or the barrier breaks.
    ///
    /// # Errors
    /// [`BarrierError::Broken`].
    ///
    /// # Examples
    /// ```
    /// procession::Barrier::new(1)?.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(&self) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(None, || ())
    }

    /// Waits until all parties have come; the last one runs `action` before anybody gets through.
    ///
    /// Every party passes the action (a closure cannot lie in shared memory), one of them runs it. If it panics, the barrier breaks for all.
    ///
    /// # Blocking
    /// As [`Barrier::wait`].
    ///
    /// # Errors
    /// [`BarrierError::Broken`].
    ///
    /// # Examples
    /// ```
    /// let mut rounds = 0;
    /// procession::Barrier::new(1)?.wait_with(|| rounds += 1)?;
    /// assert_eq!(rounds, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `Barrier(parties, action)`
    pub fn wait_with(&self, action: impl FnOnce()) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(None, action)
    }

    /// Waits at most `timeout` for the others.
    ///
    /// # Errors
    /// [`BarrierError`]; running out of time breaks the barrier for all.
    ///
    /// # Examples
    /// ```
    /// let barrier = procession::Barrier::new(2)?;
    /// assert!(barrier.wait_timeout(std::time::Duration::ZERO).is_err());
    /// assert!(barrier.is_broken());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(deadline_after(timeout), || ())
    }

    /// Waits for the others until `deadline`.
    ///
    /// # Errors
    /// As [`Barrier::wait_timeout`].
    ///
    /// # Examples
    /// ```
    /// let barrier = procession::Barrier::new(2)?;
    /// assert!(barrier.wait_deadline(std::time::Instant::now()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_deadline(&self, deadline: Instant) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(Some(deadline), || ())
    }

    /// Waits at most `timeout` for the others; the last one runs `action` as in [`Barrier::wait_with`].
    ///
    /// # Errors
    /// As [`Barrier::wait_timeout`].
    ///
    /// # Examples
    /// ```
    /// let barrier = procession::Barrier::new(1)?;
    /// barrier.wait_timeout_with(std::time::Duration::MAX, || ())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_timeout_with(
        &self,
        timeout: Duration,
        action: impl FnOnce(),
    ) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(deadline_after(timeout), action)
    }

    fn wait_until(
        &self,
        deadline: Deadline,
        action: impl FnOnce(),
    ) -> Result<BarrierWaitResult, BarrierError> {
        let (raw, records, port) = (&self.shared.raw, self.shared.records(), Waiter::new());
        if records.is_empty() {
            // Its memory was overwritten: nobody can meet here.
            return Err(BarrierError::Broken);
        }
        self.shared.take_part();
        let arrival = raw.arrive(records, &port, deadline).map_err(public)?;
        let is_leader = arrival.is_last;
        let passed = if is_leader {
            let mut round = Round {
                barrier: &self.shared,
                arrival: Some(arrival),
            };
            action();
            match round.arrival.take() {
                Some(arrival) => raw.open(records, &port, arrival),
                None => Err(RawError::Broken),
            }
        } else {
            raw.wait(records, &port, arrival, deadline)
        };
        passed
            .map(|index| BarrierWaitResult { index, is_leader })
            .map_err(public)
    }

    /// Breaks the barrier: whoever waits, and whoever comes until it is reset, gets [`BarrierError::Broken`].
    ///
    /// # Examples
    /// ```
    /// let barrier = procession::Barrier::new(2)?;
    /// barrier.abort();
    /// assert!(barrier.is_broken());
    /// # Ok::<(), procession::NewBarrierError>(())
    /// ```
    pub fn abort(&self) {
        self.shared.raw.abort(&Waiter::new());
    }

    /// Begins anew: whoever waits now gets [`BarrierError::Broken`], whoever comes afterwards a whole barrier.
    ///
    /// # Examples
    /// ```
    /// let barrier = procession::Barrier::new(2)?;
    /// barrier.abort();
    /// barrier.reset();
    /// assert!(!barrier.is_broken());
    /// # Ok::<(), procession::NewBarrierError>(())
    /// ```
    pub fn reset(&self) {
        self.shared.raw.reset(self.shared.records(), &Waiter::new());
    }

    /// How many parties it takes.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Barrier::new(7)?.parties(), 7);
    /// # Ok::<(), procession::NewBarrierError>(())
    /// ```
    #[must_use]
    pub fn parties(&self) -> usize {
        self.shared.records().len()
    }

    /// How many wait now; out of date as soon as it is read.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Barrier::new(2)?.n_waiting(), 0);
    /// # Ok::<(), procession::NewBarrierError>(())
    /// ```
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.shared.raw.n_waiting()
    }

    /// Whether the barrier is broken.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::Barrier::new(2)?.is_broken());
    /// # Ok::<(), procession::NewBarrierError>(())
    /// ```
    #[doc(alias = "broken")]
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.shared.raw.is_broken()
    }
}

/// The last arrival of a round; withdrawn, which breaks the round, if the action panics.
struct Round<'a> {
    barrier: &'a SharedBarrier,
    arrival: Option<Arrival>,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if let Some(arrival) = self.arrival.take() {
            let records = self.barrier.records();
            self.barrier.raw.withdraw(records, &Waiter::new(), arrival);
        }
    }
}

pub(super) fn public(error: RawError) -> BarrierError {
    match error {
        RawError::Broken => BarrierError::Broken,
        RawError::TimedOut => BarrierError::TimedOut,
    }
}

crate::sync::shared_handle!(Barrier, SharedBarrier, "Barrier");
