//! A number.

use super::super::{ManagerError, Proxy};

/// A number in a manager's server. Each method is one step: nobody can come in between.
///
/// # Errors
/// All methods: [`ManagerError`].
///
/// # Examples
/// ```
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let manager = procession::Manager::start()?;
///     let hits = manager.counter()?;
///     assert_eq!(hits.add(2)?, 2);
///     assert_eq!(hits.add(-1)?, 1);
///     hits.set(7)?;
///     assert_eq!(hits.get()?, 7);
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `procession.managers.ValueProxy`
pub struct CounterProxy(pub(super) Proxy<i64>);

super::ready!(CounterProxy, i64);

impl CounterProxy {
    /// Adds, wrapping around; returns the new number.
    pub fn add(&self, number: i64) -> Result<i64, ManagerError> {
        self.0.with(
            |counter, number| {
                *counter = counter.wrapping_add(number);
                *counter
            },
            number,
        )
    }

    /// The number.
    pub fn get(&self) -> Result<i64, ManagerError> {
        self.0.with(|counter, ()| *counter, ())
    }

    /// Replaces the number; returns what it was.
    pub fn set(&self, number: i64) -> Result<i64, ManagerError> {
        self.0.with(std::mem::replace, number)
    }

    /// Waits until the number is at least `number`; returns what it is.
    ///
    /// # Blocking
    /// Until it is.
    pub fn wait_at_least(&self, number: i64) -> Result<i64, ManagerError> {
        self.0.wait_for(
            |counter, number| (*counter >= *number).then_some(*counter),
            number,
        )
    }
}
