//! What can go to where a function runs.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What arguments, results and states must be to go to another process, or to another thread: any serde type that borrows nothing.
pub trait Portable: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Portable for T {}
