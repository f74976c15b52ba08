//! Awaiting the end of a process.

use super::sentinel::Vigil;
use crate::process::{JoinError, JoinFailure, Process};
use crate::sys::pidfd::ExitStatus;
use serde::de::DeserializeOwned;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

impl<R> Process<R> {
    /// Awaits the end of the process; how it ended. The result stays for [`join`](Process::join).
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future; the process goes on.
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    ///         let process = procession::Process::start(|()| std::process::exit(3), ())?;
    ///         let process: procession::Process<()> = process;
    ///         assert_eq!(process.wait_async().await, procession::ExitStatus::Exited(3));
    ///         Ok(())
    ///     })
    /// }
    /// ```
    pub async fn wait_async(&self) -> ExitStatus {
        let mut vigil = Vigil::default();
        poll_fn(|context| {
            if self.exit_status().is_none() {
                vigil.keep(self.core(), context);
            }
            // Also after it was put on the list.
            self.exit_status().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl<R: DeserializeOwned> Process<R> {
    /// Awaits the end of the process; its result, once.
    ///
    /// # Cancel safety
    /// The result is taken in the poll that returns it: a future that is dropped before has taken nothing, and the process goes on.
    ///
    /// # Crash safety
    /// A child that is killed, at whatever instruction, gives an error that says so.
    ///
    /// # Errors
    /// As [`Process::join`].
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    ///         let process = procession::Process::start(|(a, b)| a + b, (1, 2))?;
    ///         assert_eq!(process.join_async().await?, 3);
    ///         Ok(())
    ///     })
    /// }
    /// ```
    pub async fn join_async(&self) -> Result<R, JoinError> {
        loop {
            match self.join_deadline(Instant::now()) {
                Err(error) if error.failure == JoinFailure::TimedOut => self.wait_async().await,
                result => return result,
            };
        }
    }
}
