//! A queue.

use super::super::client::ManagerClient;
use super::super::{ManagerError, Proxy, TryPutError};
use crate::process::Portable;
use std::collections::VecDeque;
use std::time::Duration;

/// The items, and how many there may be (0: any number).
type State<T> = (VecDeque<T>, usize);

/// A first-in first-out queue in a manager's server. Inside the family, [`Queue`](crate::Queue) needs no server; this one also serves remote clients.
///
/// # Crash safety
/// A client that dies while it puts has put the item or has not; one that dies while it takes loses at most the item that it was just getting.
///
/// # Errors
/// All methods: [`ManagerError`].
///
/// # Examples
/// ```
/// use procession::TryPutError;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let manager = procession::Manager::start()?;
///     let jobs = manager.queue::<String>(1)?;
///     jobs.put("sweep".to_owned())?;
///     assert_eq!(jobs.try_put("mop".to_owned()), Err(TryPutError::Full("mop".to_owned())));
///     assert_eq!(jobs.get()?, "sweep");
///     assert_eq!(jobs.try_get()?, None);
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `SyncManager.Queue`
pub struct QueueProxy<T>(pub(super) Proxy<State<T>>);

super::ready!(QueueProxy<T>, State<T>);

fn is_full<T>((items, maxsize): &State<T>) -> bool {
    *maxsize != 0 && items.len() >= *maxsize
}

impl<T: Portable> QueueProxy<T> {
    pub(in super::super) fn new(
        client: &ManagerClient,
        maxsize: usize,
    ) -> Result<Self, ManagerError> {
        client
            .create_with(|maxsize| (VecDeque::new(), maxsize), maxsize)
            .map(Self)
    }

    /// Puts an item at the end if there is room now.
    ///
    /// # Errors
    /// [`TryPutError::Full`]; the item comes back.
    pub fn try_put(&self, item: T) -> Result<(), TryPutError<T>> {
        let back = self.0.with(
            |state: &mut State<T>, item: T| {
                if is_full(state) {
                    return Some(item);
                }
                state.0.push_back(item);
                None
            },
            item,
        )?;
        back.map_or(Ok(()), |item| Err(TryPutError::Full(item)))
    }

    /// Removes and returns the oldest item.
    ///
    /// # Blocking
    /// Until there is one.
    pub fn get(&self) -> Result<T, ManagerError> {
        self.0.wait_for(|state, ()| state.0.pop_front(), ())
    }

    /// Removes and returns the oldest item if there is one now.
    pub fn try_get(&self) -> Result<Option<T>, ManagerError> {
        self.0.with(|state, ()| state.0.pop_front(), ())
    }

    /// As [`QueueProxy::get`], waiting at most `timeout`: then there is none.
    pub fn get_timeout(&self, timeout: Duration) -> Result<Option<T>, ManagerError> {
        self.0
            .wait_for_timeout(|state, ()| state.0.pop_front(), (), timeout)
    }

    /// How many items are in it.
    pub fn len(&self) -> Result<usize, ManagerError> {
        self.0.with(|state, ()| state.0.len(), ())
    }

    /// Whether there is no item in it.
    pub fn is_empty(&self) -> Result<bool, ManagerError> {
        self.0.with(|state, ()| state.0.is_empty(), ())
    }

    /// Whether there is no room in it.
    pub fn is_full(&self) -> Result<bool, ManagerError> {
        self.0.with(|state, ()| is_full(state), ())
    }
}

impl<T: Portable + Clone> QueueProxy<T> {
    /// Puts an item at the end.
    ///
    /// # Blocking
    /// While there is no room.
    pub fn put(&self, item: T) -> Result<(), ManagerError> {
        self.0.wait_for(put_if_room, item)
    }

    /// As [`QueueProxy::put`], waiting at most `timeout`. `false`: there was no room.
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<bool, ManagerError> {
        let put = self.0.wait_for_timeout(put_if_room, item, timeout)?;
        Ok(put.is_some())
    }
}

fn put_if_room<T: Clone>(state: &mut State<T>, item: &T) -> Option<()> {
    if is_full(state) {
        return None;
    }
    state.0.push_back(item.clone());
    Some(())
}
