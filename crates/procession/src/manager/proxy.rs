//! Proxy: a state in a server, from a client's side.

use super::client::{ManagerClient, Route, named, settled};
use super::error::ManagerError;
use super::line::Reach;
use super::protocol::{self, Order};
use super::remote::Lease;
use super::ticket::Ticket;
use crate::channel::explain;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// What keeps the state in the server.
#[derive(Clone)]
pub(super) enum Hold {
    Ticket(Ticket),
    /// Only to be dropped.
    Lease(#[expect(dead_code, reason = "its drop is what it is for")] Arc<Lease>),
}

/// A state that a manager's server owns.
///
/// A proxy is a name of the state, a hold on it, and the way to the server. Clone it, pass it to a child, send it through a queue: all copies mean the same
/// state, which is dropped in the server soon after the last of them is gone, by whatever end of its process. (A proxy from a
/// [`RemoteManager`](crate::RemoteManager) stays in its process.)
///
/// Functions run in the server, one at a time for each state; on different states they run in parallel. A function that uses other proxies of the same manager
/// can wait for itself, as with any locks.
///
/// # Crash safety
/// If this process dies while a function runs, it runs to its end. If the server dies, all calls, also those that wait, end with
/// [`ManagerError::ServerDied`]; the state is lost.
///
/// # Examples
/// ```
/// use procession::{Manager, Process, Proxy};
///
/// fn deposit((account, amount): (Proxy<i64>, i64)) {
///     account.with(|balance, amount| *balance += amount, amount).expect("the server is there");
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let manager = Manager::start()?;
///     let account = manager.create(100i64)?;
///     let children = [1, 2, 3].map(|n| Process::start(deposit, (account.clone(), n)));
///     for child in children {
///         child?.join()?;
///     }
///     assert_eq!(account.with(|balance, ()| *balance, ())?, 106);
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `procession.managers.BaseProxy`
pub struct Proxy<S> {
    route: Route,
    state: u64,
    hold: Hold,
    _state: PhantomData<fn(S) -> S>,
}

impl<S> Proxy<S> {
    pub(super) fn new(route: Route, state: u64, hold: Hold) -> Self {
        Self {
            route,
            state,
            hold,
            _state: PhantomData,
        }
    }

    pub(super) fn state(&self) -> u64 {
        self.state
    }

    /// Whether the state is in the server that `route` leads to.
    pub(super) fn is_at(&self, route: &Route) -> bool {
        match (&self.route, route) {
            (Route::Family(ours), Route::Family(theirs)) => ours.owner == theirs.owner,
            (Route::Remote(ours), Route::Remote(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        }
    }

    /// A client of the manager that this state belongs to.
    #[must_use]
    pub fn client(&self) -> ManagerClient {
        ManagerClient {
            route: self.route.clone(),
        }
    }
}

impl<S: Send + 'static> Proxy<S> {
    /// Runs `function`, any `fn` item or closure that captures nothing, in the server on the state, and returns what it returned.
    ///
    /// # Blocking
    /// While other functions run on the same state, and while this one runs.
    ///
    /// # Errors
    /// [`ManagerError::Panicked`] if it panicked, with message, place and backtrace; the state stays as the panic left it and the server goes on.
    /// [`ManagerError::ServerDied`], and all others.
    ///
    /// # Examples
    /// See [`Proxy`].
    pub fn with<A, R>(&self, function: fn(&mut S, A) -> R, argument: A) -> Result<R, ManagerError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.with_ref(function, &argument)
    }

    /// As [`Proxy::with`], for an argument that stays here: the function gets a copy of its own.
    ///
    /// # Errors
    /// As [`Proxy::with`].
    pub fn with_ref<A, R>(
        &self,
        function: fn(&mut S, A) -> R,
        argument: &A,
    ) -> Result<R, ManagerError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let order = Order::Run {
            state: self.state,
            call: named(protocol::name_use(function))?,
            patience: None,
        };
        let answer = self.route.ask(&order, argument)?;
        settled(protocol::result(&answer)?)
    }

    /// Runs `function` in the server on the state, now and after each change that others make, until it returns something. The state is free for others
    /// in between.
    ///
    /// # Blocking
    /// Until the function returns something.
    ///
    /// # Crash safety
    /// If this process dies while it waits, the function is not run any more after at most a tenth of a second.
    ///
    /// # Errors
    /// As [`Proxy::with`].
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let manager = procession::Manager::start()?;
    ///     let jobs = manager.create(Vec::<u32>::new())?;
    ///     let worker = { let jobs = jobs.clone(); std::thread::spawn(move || jobs.wait_for(|jobs, ()| jobs.pop(), ())) };
    ///     jobs.with(|jobs, job| jobs.push(job), 7)?;
    ///     assert_eq!(worker.join().expect("no panic")?, 7);
    ///     Ok(())
    /// }
    /// ```
    pub fn wait_for<A, R>(
        &self,
        function: fn(&mut S, &A) -> Option<R>,
        argument: A,
    ) -> Result<R, ManagerError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        settled(self.wait_at_most(function, &argument, None)?)
    }

    /// As [`Proxy::wait_for`], waiting at most `timeout`: then the result is `None`.
    ///
    /// # Errors
    /// As [`Proxy::with`].
    pub fn wait_for_timeout<A, R>(
        &self,
        function: fn(&mut S, &A) -> Option<R>,
        argument: A,
        timeout: Duration,
    ) -> Result<Option<R>, ManagerError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.wait_at_most(function, &argument, Some(timeout))
    }

    pub(super) fn wait_at_most<A, R>(
        &self,
        function: fn(&mut S, &A) -> Option<R>,
        argument: &A,
        patience: Option<Duration>,
    ) -> Result<Option<R>, ManagerError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let order = Order::Run {
            state: self.state,
            call: named(protocol::name_attempt(function))?,
            patience,
        };
        protocol::result(&self.route.ask(&order, argument)?)
    }
}

impl<S> Clone for Proxy<S> {
    /// One more proxy of the same state.
    fn clone(&self) -> Self {
        Self::new(self.route.clone(), self.state, self.hold.clone())
    }
}

impl<S> fmt::Debug for Proxy<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("type", &std::any::type_name::<S>())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<S> Serialize for Proxy<S> {
    /// Inside a message of the family only, which holds the state while it is on its way.
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        match (&self.route, &self.hold) {
            (Route::Family(reach), Hold::Ticket(ticket)) => {
                (reach, ticket, self.state).serialize(serializer)
            }
            _ => Err(serde::ser::Error::custom(explain(
                "a proxy from a remote manager belongs to the process that connected; let each process connect",
            ))),
        }
    }
}

impl<'de, S> Deserialize<'de> for Proxy<S> {
    fn deserialize<Z: Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
        let (reach, ticket, state) = <(Reach, Ticket, u64)>::deserialize(deserializer)?;
        Ok(Self::new(Route::Family(reach), state, Hold::Ticket(ticket)))
    }
}
