//! Condition: waiting for something to change, with a lock.
//!
//! The cells of the first [`INLINE`] waiters lie in the object; further ones in pages, attached blocks in a chain that only grows.
//! A page becomes part of the chain by one compare-and-swap of the last link, so a death on either side of it leaves the page in the
//! chain or free, nothing between.

use super::deadline::{deadline_after, without_deadline};
use super::error::{NotOwner, TimedOut};
use super::lock::{Lock, LockGuard};
use super::raw::{Cells, Deadline, RLockError, RawCell, RawCondition, RawLock, RawRLock, Waited};
use super::rlock::{RLock, RLockGuard, TOO_DEEP};
use super::thread::this_thread;
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::Waiter;
use crate::heap::{
    Block, BlockRef, Container, Death, Handle, HeapError, Hold, Object, Shared, block_table,
    fill_envelope, list_len, the_heap,
};
use crate::kinds::Kind;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// Waiters whose cells fit into the object itself.
const INLINE: usize = 10;
/// Bytes of the first page; each further one has twice as many ...
const FIRST_PAGE: usize = 1024;
/// ... this often.
const DOUBLINGS: usize = 5;
/// A chain longer than this is a circle that a peer made.
const MAX_PAGES: usize = 1 << 16;

/// `mode`: the condition has a lock of its own.
const OWN: u32 = 0;
/// `mode`: it uses a [`Lock`].
const PLAIN: u32 = 1;
/// `mode`: it uses an [`RLock`].
const REENTRANT: u32 = 2;

/// A condition as it lies in the heap: two granules, and pages of cells if many wait at one time.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedCondition {
    pub(crate) raw: RawCondition,
    /// Whose lock it is: [`OWN`], [`PLAIN`], [`REENTRANT`].
    mode: AtomicU32,
    own: RawRLock,
    /// The first page of cells.
    pages: AtomicU64,
    lock_index: AtomicU32,
    lock_generation: AtomicU32,
    /// The envelope that holds a lock that is not its own.
    envelope: AtomicU64,
    inline: [RawCell; INLINE],
}
const _: () = assert!(size_of::<SharedCondition>() == 128);

/// One page of cells: `next: u64`, then cells.
#[derive(Clone, Copy)]
struct Page {
    reference: BlockRef,
    next: &'static AtomicU64,
    cells: &'static [RawCell],
}

impl Page {
    /// The page that a link names.
    fn follow(link: &AtomicU64) -> Option<Self> {
        let reference = BlockRef::from_bits(link.load(Ordering::Acquire))?;
        let next = block_table::<AtomicU64>(reference, 0).ok()?.first()?;
        let cells = block_table::<RawCell>(reference, 8).ok()?;
        Some(Self {
            reference,
            next,
            cells,
        })
    }
}

impl SharedCondition {
    fn each_page(&self) -> impl Iterator<Item = Page> {
        std::iter::successors(Page::follow(&self.pages), |page| Page::follow(page.next))
            .take(MAX_PAGES)
    }

    /// Adds a page of cells at the end of the chain. Done as well if somebody else was faster.
    fn grow(&self, container: Container) -> Result<(), HeapError> {
        let (count, last) = self
            .each_page()
            .fold((0, None), |(count, _), page| (count + 1, Some(page.next)));
        let link = last.unwrap_or(&self.pages);
        let page = Block::alloc_zeroed(FIRST_PAGE << count.min(DOUBLINGS))?;
        let attached = page.attach(container, |reference| {
            link.compare_exchange(0, reference.to_bits(), Ordering::SeqCst, Ordering::SeqCst)
                .map(drop)
        });
        // Declined: the page is dropped, and theirs will do.
        drop(attached);
        Ok(())
    }

    fn lock_handle(&self) -> Handle {
        Handle::new(
            the_heap(),
            self.lock_index.load(Ordering::Relaxed),
            self.lock_generation.load(Ordering::Relaxed),
        )
    }
}

impl Cells for SharedCondition {
    fn each(&self) -> impl Iterator<Item = &RawCell> {
        self.inline
            .iter()
            .chain(self.each_page().flat_map(|page| page.cells))
    }
}

impl Object for SharedCondition {
    const KIND: Kind = Kind::Condition;

    fn reap(&self, death: Death) {
        let port = Waiter::new();
        self.own.reap(&port, death.owner);
        self.raw.reap(self, &port, death.owner);
    }

    fn contains(&self, block: BlockRef) -> bool {
        self.envelope.load(Ordering::SeqCst) == block.to_bits()
            || self.each_page().any(|page| page.reference == block)
    }

    /// From the end of the chain, so that what is left is a chain after each step.
    fn destroy(&self, container: Container) {
        loop {
            let mut link = &self.pages;
            let mut last = None;
            for page in self.each_page() {
                if let Some((next, _)) = last.replace((page.next, page.reference)) {
                    link = next;
                }
            }
            let Some((_, reference)) = last else { break };
            drop(Block::reclaim(reference, container));
            link.store(0, Ordering::SeqCst);
        }
        let envelope = BlockRef::from_bits(self.envelope.load(Ordering::SeqCst));
        drop(envelope.and_then(|block| Block::reclaim(block, container)));
    }
}

/// A lock that a condition can use, by its machine.
#[derive(Clone, Copy)]
enum Machine<'a> {
    Plain(&'a RawLock),
    Reentrant(&'a RawRLock),
}

impl Machine<'_> {
    fn is(self, other: Machine<'_>) -> bool {
        match (self, other) {
            (Machine::Plain(a), Machine::Plain(b)) => std::ptr::eq(a, b),
            (Machine::Reentrant(a), Machine::Reentrant(b)) => std::ptr::eq(a, b),
            _ => false,
        }
    }

    /// Takes the lock; says whether the last owner had died in possession.
    fn acquire(self, deadline: Deadline) -> Result<bool, super::raw::TimedOut> {
        let port = Waiter::new();
        let acquired = match self {
            Self::Plain(lock) => lock.acquire(&port, deadline)?,
            Self::Reentrant(lock) => match lock.acquire(&port, this_thread(), deadline) {
                Ok(acquired) => acquired,
                Err(RLockError::TimedOut) => return Err(super::raw::TimedOut),
                Err(RLockError::Overflow) => panic!("{TOO_DEEP}"),
            },
        };
        Ok(acquired.recovered)
    }

    fn release(self) {
        let port = Waiter::new();
        match self {
            Self::Plain(lock) => lock.release_own(&port, crate::heap::me()),
            Self::Reentrant(lock) => {
                let _ = lock.release(&port, this_thread());
            }
        }
    }

    /// Frees the lock however deep it is held; `None` if it is not held.
    fn leave(self) -> Option<u32> {
        let port = Waiter::new();
        match self {
            Self::Plain(lock) => lock.release(&port).ok().map(|()| 1),
            Self::Reentrant(lock) => lock.release_all(&port, this_thread()).ok(),
        }
    }

    /// Takes the lock again as deep as it was held.
    fn come_back(self, depth: u32) -> bool {
        let recovered = without_deadline(self.acquire(None));
        self.restore(depth);
        recovered
    }

    /// Sets how deep the lock is held that was just taken.
    fn restore(self, depth: u32) {
        if let Self::Reentrant(lock) = self {
            let restored = lock.restore(&Waiter::new(), this_thread(), depth);
            debug_assert!(restored.is_ok());
        }
    }
}

/// Possession of a lock that a [`Condition`] may use: [`LockGuard`], [`RLockGuard`] and [`ConditionGuard`].
///
/// # Examples
/// ```
/// use procession::{Condition, HoldsLock};
///
/// fn tick(condition: &Condition, held: &mut impl HoldsLock) -> bool {
///     condition.wait_timeout(held, std::time::Duration::ZERO).is_ok_and(|notified| notified)
/// }
/// let condition = Condition::new()?;
/// assert!(!tick(&condition, &mut condition.acquire()));
/// # Ok::<(), procession::HeapError>(())
/// ```
pub trait HoldsLock: sealed::Sealed {}

impl HoldsLock for LockGuard<'_> {}
impl HoldsLock for RLockGuard<'_> {}
impl HoldsLock for ConditionGuard<'_> {}

mod sealed {
    use super::{ConditionGuard, LockGuard, Machine, RLockGuard};

    pub trait Sealed {
        #[doc(hidden)]
        #[expect(private_interfaces, reason = "sealed")]
        fn machine(&self) -> Machine<'_>;
        #[doc(hidden)]
        fn note(&mut self, recovered: bool);
    }

    impl Sealed for LockGuard<'_> {
        #[expect(private_interfaces, reason = "sealed")]
        fn machine(&self) -> Machine<'_> {
            Machine::Plain(self.lock().raw())
        }
        fn note(&mut self, recovered: bool) {
            self.note_recovery(recovered);
        }
    }

    impl Sealed for RLockGuard<'_> {
        #[expect(private_interfaces, reason = "sealed")]
        fn machine(&self) -> Machine<'_> {
            Machine::Reentrant(self.lock().raw())
        }
        fn note(&mut self, recovered: bool) {
            self.note_recovery(recovered);
        }
    }

    impl Sealed for ConditionGuard<'_> {
        #[expect(private_interfaces, reason = "sealed")]
        fn machine(&self) -> Machine<'_> {
            self.condition.machine()
        }
        fn note(&mut self, recovered: bool) {
            self.recovered |= recovered;
        }
    }
}

/// Why a wait did not begin. The lock is as it was.
///
/// # Examples
/// ```
/// use procession::{Condition, Lock, WaitError};
///
/// let (condition, other) = (Condition::new()?, Lock::new()?);
/// let error = condition.wait(&mut other.acquire()).err();
/// assert_eq!(error, Some(WaitError::WrongLock));
/// # Ok::<(), procession::HeapError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The guard is of another lock than the condition's.
    #[error("guard is not of this condition's lock")]
    WrongLock,
    /// Somebody released the lock over the head of its guard.
    #[error("lock is not held any more")]
    NotHeld,
    /// So many wait already that one more needs room in the family heap, and there is none.
    #[error(transparent)]
    Heap(#[from] HeapError),
}

/// Something that may change, a lock that guards it, and a way to wait for the change.
///
/// Notifications are exact: `notify(n)` wakes the `n` that have waited longest, nobody wakes without one, and one that was meant for somebody who
/// died goes to the next.
///
/// # Crash safety
/// A waiter that is killed is skipped. The lock recovers as [`Lock`] does: see [`ConditionGuard::recovered`].
///
/// # Examples
/// ```
/// use procession::{Condition, RawValue};
///
/// let condition = Condition::new()?;
/// let ready = RawValue::new(0u8)?;
/// let waiter = {
///     let (condition, ready) = (condition.clone(), ready.clone());
///     std::thread::spawn(move || {
///         let mut guard = condition.acquire();
///         condition.wait_while(&mut guard, || ready.get() == 0)
///     })
/// };
/// {
///     let _guard = condition.acquire();
///     ready.set(1);
///     condition.notify_one();
/// }
/// waiter.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.Condition`
pub struct Condition {
    // Before the lock: dropping it may need the lock's place.
    shared: Shared<SharedCondition>,
    lock: Companion,
}

/// The lock that a condition uses.
#[derive(Clone, Debug)]
enum Companion {
    Own,
    Lock(Lock),
    RLock(RLock),
}

impl Condition {
    /// Creates a condition with a re-entrant lock of its own.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// let _guard = condition.acquire();
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new() -> Result<Self, HeapError> {
        Ok(Self {
            shared: Shared::create(|_: &SharedCondition, _| ())?,
            lock: Companion::Own,
        })
    }

    /// Creates a condition that uses `lock`; several conditions can share one.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap is full.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// let condition = procession::Condition::with_lock(&lock)?;
    /// let mut guard = lock.acquire();
    /// assert!(!condition.wait_timeout(&mut guard, std::time::Duration::ZERO)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_lock(lock: &Lock) -> Result<Self, HeapError> {
        Self::create(Companion::Lock(lock.clone()), PLAIN, lock.handle())
    }

    /// Creates a condition that uses the re-entrant `lock`; a wait releases it completely and takes it again as deep as it was.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap is full.
    ///
    /// # Examples
    /// ```
    /// let lock = procession::RLock::new()?;
    /// let condition = procession::Condition::with_rlock(&lock)?;
    /// let mut guard = lock.acquire();
    /// assert!(!condition.wait_timeout(&mut guard, std::time::Duration::ZERO)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_rlock(lock: &RLock) -> Result<Self, HeapError> {
        Self::create(Companion::RLock(lock.clone()), REENTRANT, lock.handle())
    }

    fn create(lock: Companion, mode: u32, handle: Handle) -> Result<Self, HeapError> {
        let envelope = Block::alloc(list_len(1))?;
        fill_envelope(&envelope, &[handle]);
        let shared = Shared::create(|condition: &SharedCondition, _| {
            condition.mode.store(mode, Ordering::Relaxed);
            condition
                .lock_index
                .store(handle.index(), Ordering::Relaxed);
            condition
                .lock_generation
                .store(handle.generation(), Ordering::Relaxed);
        })?;
        // Once it is live: a block can only be part of an object that will be destroyed in order.
        let attached = envelope.attach(shared.container(), |reference| {
            shared.envelope.store(reference.to_bits(), Ordering::SeqCst);
            Ok::<(), Infallible>(())
        });
        debug_assert!(attached.is_ok());
        Ok(Self { shared, lock })
    }

    /// The name of this condition, to be sent by other means than a message. A name alone holds nothing.
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// assert!(procession::Condition::open(condition.handle()).is_ok());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.shared.handle()
    }

    /// Opens a condition, and its lock with it, by its name, if somebody still holds it.
    ///
    /// # Errors
    /// [`HeapError::Stale`], [`HeapError::OtherFamily`], [`HeapError::WrongKind`].
    ///
    /// # Examples
    /// ```
    /// let lock = procession::Lock::new()?;
    /// assert!(procession::Condition::open(lock.handle()).is_err());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn open(handle: Handle) -> Result<Self, HeapError> {
        let shared = Shared::<SharedCondition>::open(handle)?;
        let lock = match shared.mode.load(Ordering::Relaxed) {
            OWN => Companion::Own,
            PLAIN => Companion::Lock(Lock::open(shared.lock_handle())?),
            REENTRANT => Companion::RLock(RLock::open(shared.lock_handle())?),
            _ => return Err(HeapError::Corrupt("a condition with an unknown lock")),
        };
        Ok(Self { shared, lock })
    }

    fn hold(&self) -> Hold {
        self.shared.hold()
    }

    fn machine(&self) -> Machine<'_> {
        match &self.lock {
            Companion::Own => Machine::Reentrant(&self.shared.own),
            Companion::Lock(lock) => Machine::Plain(lock.raw()),
            Companion::RLock(lock) => Machine::Reentrant(lock.raw()),
        }
    }

    /// Takes the condition's lock, whichever it is.
    ///
    /// # Blocking
    /// While another thread or process that is alive holds it.
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// assert!(!condition.acquire().recovered());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn acquire(&self) -> ConditionGuard<'_> {
        let recovered = without_deadline(self.machine().acquire(None));
        self.guard(recovered)
    }

    /// Takes the condition's lock, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// let _guard = condition.acquire_timeout(std::time::Duration::ZERO)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<ConditionGuard<'_>, TimedOut> {
        match self.machine().acquire(deadline_after(timeout)) {
            Ok(recovered) => Ok(self.guard(recovered)),
            Err(_) => Err(TimedOut),
        }
    }

    /// Undoes one acquisition of this thread that has no guard ([`ConditionGuard::into_held`]).
    ///
    /// # Errors
    /// [`NotOwner`]: this thread (of a condition with a [`Lock`]: this process) does not hold it.
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// condition.acquire().into_held();
    /// condition.release()?;
    /// assert!(condition.release().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release(&self) -> Result<(), NotOwner> {
        match self.machine() {
            Machine::Plain(lock) if lock.owner() != Some(crate::heap::me()) => Err(NotOwner),
            Machine::Plain(lock) => lock.release(&Waiter::new()).map_err(|_| NotOwner),
            Machine::Reentrant(lock) => lock
                .release(&Waiter::new(), this_thread())
                .map_err(|_| NotOwner),
        }
    }

    /// Frees the lock however deep this thread holds it, and says how deep that was; `None` if it does not.
    pub(super) fn free_lock(&self) -> Option<u32> {
        let machine = self.machine();
        if let Machine::Plain(lock) = machine
            && lock.owner() != Some(crate::heap::me())
        {
            return None;
        }
        machine.leave()
    }

    /// Takes the lock as deep as it was; says whether its last owner had died in possession.
    pub(super) fn take_lock_again(&self, depth: u32, deadline: Instant) -> Result<bool, TimedOut> {
        let machine = self.machine();
        let recovered = machine.acquire(Some(deadline)).map_err(|_| TimedOut)?;
        machine.restore(depth);
        Ok(recovered)
    }

    fn guard(&self, recovered: bool) -> ConditionGuard<'_> {
        ConditionGuard {
            condition: self,
            owner: crate::heap::me(),
            recovered,
            _in_this_thread: PhantomData,
        }
    }

    /// Releases the lock, waits for a notification, and takes the lock again.
    ///
    /// # Blocking
    /// Until notified, and then until the lock is free.
    ///
    /// # Errors
    /// [`WaitError`]; the lock is still held then.
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// let mut guard = condition.acquire();
    /// let notifier = { let condition = condition.clone(); std::thread::spawn(move || {
    ///     let _guard = condition.acquire(); // not before the other one waits
    ///     condition.notify_one()
    /// })};
    /// condition.wait(&mut guard)?;
    /// assert_eq!(notifier.join().unwrap(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(&self, guard: &mut impl HoldsLock) -> Result<(), WaitError> {
        self.wait_until(guard, None).map(drop)
    }

    /// As [`Condition::wait`], for at most `timeout` (and however long it takes to get the lock again). Says whether it was notified.
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// let notified = condition.wait_timeout(&mut condition.acquire(), std::time::Duration::ZERO)?;
    /// assert!(!notified);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_timeout(
        &self,
        guard: &mut impl HoldsLock,
        timeout: Duration,
    ) -> Result<bool, WaitError> {
        self.wait_until(guard, deadline_after(timeout))
    }

    /// As [`Condition::wait_timeout`], until `deadline`.
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// assert!(!condition.wait_deadline(&mut condition.acquire(), std::time::Instant::now())?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_deadline(
        &self,
        guard: &mut impl HoldsLock,
        deadline: Instant,
    ) -> Result<bool, WaitError> {
        self.wait_until(guard, Some(deadline))
    }

    /// Waits as long as `blocked` says so; it is asked with the lock held, at first and after each notification.
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// condition.wait_while(&mut condition.acquire(), || false)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_while(
        &self,
        guard: &mut impl HoldsLock,
        mut blocked: impl FnMut() -> bool,
    ) -> Result<(), WaitError> {
        while blocked() {
            self.wait(guard)?;
        }
        Ok(())
    }

    /// As [`Condition::wait_while`], for at most `timeout`. Says whether `blocked` became false.
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// let timeout = std::time::Duration::from_millis(1);
    /// assert!(!condition.wait_while_timeout(&mut condition.acquire(), timeout, || true)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `Condition.wait_for(lambda: not blocked(), timeout)`
    #[doc(alias = "wait_for")]
    pub fn wait_while_timeout(
        &self,
        guard: &mut impl HoldsLock,
        timeout: Duration,
        mut blocked: impl FnMut() -> bool,
    ) -> Result<bool, WaitError> {
        let deadline = deadline_after(timeout);
        while blocked() {
            if !self.wait_until(guard, deadline)? {
                return Ok(!blocked());
            }
        }
        Ok(true)
    }

    fn wait_until(
        &self,
        guard: &mut impl HoldsLock,
        deadline: Deadline,
    ) -> Result<bool, WaitError> {
        let machine = guard.machine();
        if !machine.is(self.machine()) {
            return Err(WaitError::WrongLock);
        }
        let port = Waiter::new();
        let (raw, cells) = self.cells();
        let index = self.claim()?;
        let Some(depth) = machine.leave() else {
            raw.withdraw(cells, index, &port);
            return Err(WaitError::NotHeld);
        };
        let waited = raw.wait(cells, index, &port, deadline);
        let recovered = machine.come_back(depth);
        guard.note(recovered);
        Ok(waited == Waited::Notified)
    }

    /// Enters the caller as the youngest waiter; from here on a notification may be meant for it.
    pub(crate) fn claim(&self) -> Result<usize, HeapError> {
        let port = Waiter::new();
        loop {
            match self.shared.raw.claim(&*self.shared, &port) {
                Some(index) => return Ok(index),
                None => self.shared.grow(self.shared.container())?,
            }
        }
    }

    pub(crate) fn cells(&self) -> (&RawCondition, &SharedCondition) {
        (&self.shared.raw, &self.shared)
    }

    /// Whether this is the condition's lock.
    pub(crate) fn uses(&self, lock: &Lock) -> bool {
        self.machine().is(Machine::Plain(lock.raw()))
    }

    /// Notifies the one that has waited longest; says how many that were (0 or 1).
    ///
    /// Needs no lock. To be sure that nobody goes to sleep over the change, make the change with the lock held.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Condition::new()?.notify_one(), 0);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn notify_one(&self) -> usize {
        self.notify(1)
    }

    /// Notifies the `count` that have waited longest; says how many there were.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Condition::new()?.notify(3), 0);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn notify(&self, count: usize) -> usize {
        self.shared.raw.notify(&*self.shared, count, &Waiter::new())
    }

    /// Notifies everybody who waits; says how many there were.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Condition::new()?.notify_all(), 0);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn notify_all(&self) -> usize {
        self.notify(usize::MAX)
    }

    /// How many wait; out of date as soon as it is read, unless the lock is held.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::Condition::new()?.n_waiting(), 0);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.shared.raw.waiting(&*self.shared)
    }
}

impl Clone for Condition {
    /// One more handle to the same object.
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            lock: self.lock.clone(),
        }
    }
}

crate::sync::handle_serde!(Condition, "Condition");

/// Possession of a condition's lock, until it is dropped. It stays in the thread that made it.
///
/// # Examples
/// ```
/// let condition = procession::Condition::new()?;
/// drop(condition.acquire());
/// # Ok::<(), procession::HeapError>(())
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct ConditionGuard<'a> {
    condition: &'a Condition,
    owner: crate::family::Owner,
    recovered: bool,
    _in_this_thread: PhantomData<*const ()>,
}

impl ConditionGuard<'_> {
    /// Whether an owner of the lock died in possession before we took it, or while we waited.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::Condition::new()?.acquire().recovered());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Keeps the lock held without a guard, until somebody calls [`Condition::release`] or this process ends.
    ///
    /// # Examples
    /// ```
    /// let condition = procession::Condition::new()?;
    /// condition.acquire().into_held();
    /// condition.release()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_held(self) {
        std::mem::forget(self);
    }
}

impl Drop for ConditionGuard<'_> {
    fn drop(&mut self) {
        // Not in a forked child.
        if self.owner == crate::heap::me() {
            self.condition.machine().release();
        }
    }
}

impl fmt::Debug for ConditionGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConditionGuard")
            .field("condition", self.condition)
            .field("recovered", &self.recovered)
            .finish()
    }
}
