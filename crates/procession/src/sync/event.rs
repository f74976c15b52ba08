//! Event: a flag to wait for.

use super::deadline::{deadline_after, without_deadline};
use super::error::TimedOut;
use super::raw::{Deadline, RawEvent};
use crate::family::Waiter;
use crate::heap::{Death, HeapError, Object, Shared};
use crate::kinds::Kind;
use std::time::{Duration, Instant};

/// An event as it lies in the heap.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedEvent {
    pub(crate) raw: RawEvent,
}
const _: () = assert!(size_of::<SharedEvent>() <= 64);

impl Object for SharedEvent {
    const KIND: Kind = Kind::Event;

    fn reap(&self, death: Death) {
        self.raw.reap(&Waiter::new(), death.owner);
    }
}

/// A flag that anybody can set, clear and wait for.
///
/// `set` lets everybody through who waits at that time, even if `clear` follows at once.
///
/// # Crash safety
/// A death while setting leaves the flag set or not set; if set, all waiters learn of it.
///
/// # Examples
/// ```
/// let event = procession::Event::new()?;
/// let waiter = { let event = event.clone(); std::thread::spawn(move || event.wait()) };
/// event.set();
/// waiter.join().unwrap();
/// # Ok::<(), procession::HeapError>(())
/// ```
///
/// # In Python
/// `procession.Event`
pub struct Event {
    shared: Shared<SharedEvent>,
    _item: (),
}

impl Event {
    /// Creates an event that is not set.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::Event::new()?.is_set());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new() -> Result<Self, HeapError> {
        let shared = Shared::create(|_: &SharedEvent, _| ())?;
        Ok(Self { shared, _item: () })
    }

    pub(crate) fn raw(&self) -> &RawEvent {
        &self.shared.raw
    }

    /// Sets the flag and wakes everybody who waits.
    ///
    /// # Examples
    /// ```
    /// let event = procession::Event::new()?;
    /// event.set();
    /// assert!(event.is_set());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn set(&self) {
        self.shared.raw.set(&Waiter::new());
    }

    /// Clears the flag.
    ///
    /// # Examples
    /// ```
    /// let event = procession::Event::new()?;
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn clear(&self) {
        self.shared.raw.clear();
    }

    /// Whether the flag is set now.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::Event::new()?.is_set());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.shared.raw.is_set()
    }

    /// Waits until the flag is set, or was set since the call began.
    ///
    /// # Blocking
    /// While it is not.
    ///
    /// # Examples
    /// ```
    /// let event = procession::Event::new()?;
    /// event.set();
    /// event.wait();
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[inline]
    pub fn wait(&self) {
        without_deadline(self.shared.raw.wait(&Waiter::new(), None));
    }

    /// Waits at most `timeout` for the flag.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Examples
    /// ```
    /// let event = procession::Event::new()?;
    /// assert!(event.wait_timeout(std::time::Duration::ZERO).is_err());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), TimedOut> {
        self.wait_until(deadline_after(timeout))
    }

    /// Waits for the flag until `deadline`.
    ///
    /// # Errors
    /// [`TimedOut`].
    ///
    /// # Examples
    /// ```
    /// let event = procession::Event::new()?;
    /// assert!(event.wait_deadline(std::time::Instant::now()).is_err());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), TimedOut> {
        self.wait_until(Some(deadline))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<(), TimedOut> {
        match self.shared.raw.wait(&Waiter::new(), deadline) {
            Ok(()) => Ok(()),
            Err(_) => Err(TimedOut),
        }
    }
}

crate::sync::shared_handle!(Event, SharedEvent, "Event");
