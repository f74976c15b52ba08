//! What can be asked of a server, whichever way it is reached.

use super::error::ManagerError;
use super::line::Reach;
use super::protocol::{self, Order};
use super::proxy::{Hold, Proxy};
use super::ready::{CounterProxy, DictProxy, ListProxy, NamespaceProxy, QueueProxy};
use super::remote::{Lease, Link};
use super::server::Created;
use crate::channel::{Letter, explain};
use crate::process::Portable;
use crate::sys::call::Call;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// The way to a server.
#[derive(Clone, Debug)]
pub(super) enum Route {
    Family(Reach),
    Remote(Arc<Link>),
}

impl Route {
    /// A letter that can go this way.
    fn letter(&self) -> Letter {
        match self {
            Self::Family(_) => Letter::new(),
            Self::Remote(link) => link.letter(),
        }
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask<A: Serialize>(
        &self,
        order: &Order,
        argument: &A,
    ) -> Result<Letter, ManagerError> {
        let mut letter = self.letter();
        letter.push(order)?;
        letter.push(argument)?;
        match self {
            Self::Family(reach) => reach.call(letter),
            Self::Remote(link) => link.call(letter),
        }
    }

    /// Asks for something that takes no time of its own.
    pub(super) fn order<R: DeserializeOwned>(&self, order: &Order) -> Result<R, ManagerError> {
        let answer = self.ask(order, &())?;
        settled(protocol::result(&answer)?)
    }

    fn proxy<S>(&self, created: Created) -> Result<Proxy<S>, ManagerError> {
        let hold = match (self, created.ticket) {
            (Self::Family(_), Some(ticket)) => Hold::Ticket(ticket),
            (Self::Remote(link), None) => Hold::Lease(Lease::new(link, created.state)),
            _ => {
                let reason = "it came another way".to_owned();
                return Err(ManagerError::UndecodableResult { reason });
            }
        };
        Ok(Proxy::new(self.clone(), created.state, hold))
    }
}

/// The result of what has no time limit.
pub(super) fn settled<R>(result: Option<R>) -> Result<R, ManagerError> {
    result.ok_or_else(|| ManagerError::UndecodableResult {
        reason: "the time ran out for what has no limit".to_owned(),
    })
}

/// A way to a manager's server: creates states in it and finds those that others have published.
///
/// [`Manager`](crate::Manager) and [`RemoteManager`](crate::RemoteManager) are clients; [`Proxy::client`] gives one, too. A client is a few words: clone it, send it
/// to any process of the family (that of a remote manager stays in its process).
///
/// # Crash safety
/// Whatever happens to the server, no call waits for ever: it ends with [`ManagerError::ServerDied`] or [`ManagerError::Lost`].
///
/// # In Python
/// `procession.managers.BaseManager`
#[derive(Clone, Debug)]
pub struct ManagerClient {
    pub(super) route: Route,
}

impl ManagerClient {
    /// Moves `state` to the server. It stays there as long as anybody has a proxy of it.
    ///
    /// # Errors
    /// [`ManagerError`].
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let manager = procession::Manager::start()?;
    ///     let words = manager.create(vec!["a".to_owned()])?;
    ///     words.with(|words, word: String| words.push(word), "b".to_owned())?;
    ///     assert_eq!(words.with(|words, ()| words.concat(), ())?, "ab");
    ///     Ok(())
    /// }
    /// ```
    pub fn create<S: Portable>(&self, state: S) -> Result<Proxy<S>, ManagerError> {
        self.create_with(protocol::itself::<S>, state)
    }

    /// Builds a state in the server, which need not be a serde type: the function, any `fn` item or closure that captures nothing, runs there.
    ///
    /// # Errors
    /// [`ManagerError::Panicked`] if the function panicked, and all others.
    ///
    /// # Examples
    /// ```
    /// use std::time::Instant;
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let manager = procession::Manager::start()?;
    ///     let started = manager.create_with(|()| Instant::now(), ())?;
    ///     assert!(started.with(|at, ()| at.elapsed().as_secs(), ())? < 3600);
    ///     Ok(())
    /// }
    /// ```
    pub fn create_with<S, A>(
        &self,
        function: fn(A) -> S,
        argument: A,
    ) -> Result<Proxy<S>, ManagerError>
    where
        S: Send + 'static,
        A: Serialize + DeserializeOwned,
    {
        let call = named(protocol::name_builder(function))?;
        let answer = self.route.ask(&Order::Create { call }, &argument)?;
        self.route.proxy(settled(protocol::result(&answer)?)?)
    }

    /// Keeps a state under a name, for those who cannot be sent a proxy. The server keeps it until the name is forgotten or given to another.
    ///
    /// # Errors
    /// [`ManagerError::Stale`] if the proxy is another manager's, and all others.
    ///
    /// # Examples
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let manager = procession::Manager::start()?;
    ///     manager.publish("hits", &manager.create(0u64)?)?;
    ///     let hits = manager.find::<u64>("hits")?;
    ///     hits.with(|hits, n| *hits += n, 5)?;
    ///     assert!(manager.unpublish("hits")?);
    ///     Ok(())
    /// }
    /// ```
    pub fn publish<S>(&self, name: &str, proxy: &Proxy<S>) -> Result<(), ManagerError> {
        if !proxy.is_at(&self.route) {
            return Err(ManagerError::Stale);
        }
        let (name, state) = (name.to_owned(), proxy.state());
        self.route.order(&Order::Publish { name, state })
    }

    /// Forgets a name. `false`: there was none.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub fn unpublish(&self, name: &str) -> Result<bool, ManagerError> {
        let name = name.to_owned();
        self.route.order(&Order::Unpublish { name })
    }

    /// A proxy of the state that is published under a name.
    ///
    /// # Errors
    /// [`ManagerError::NotPublished`], [`ManagerError::WrongType`] if the state is not an `S`, and all others.
    pub fn find<S: Send + 'static>(&self, name: &str) -> Result<Proxy<S>, ManagerError> {
        let name = name.to_owned();
        let proxy = self
            .route
            .proxy::<S>(self.route.order(&Order::Find { name })?)?;
        proxy.with(|_, ()| (), ())?;
        Ok(proxy)
    }

    /// An empty dictionary in the server.
    ///
    /// # Errors
    /// [`ManagerError`].
    ///
    /// # Examples
    /// See [`DictProxy`].
    pub fn dict<K, V>(&self) -> Result<DictProxy<K, V>, ManagerError>
    where
        K: Portable + Eq + Hash,
        V: Portable,
    {
        let dict = self.create_with(|()| HashMap::<K, V>::new(), ())?;
        Ok(DictProxy::from(dict))
    }

    /// An empty list in the server.
    ///
    /// # Errors
    /// [`ManagerError`].
    ///
    /// # Examples
    /// See [`ListProxy`].
    pub fn list<T: Portable>(&self) -> Result<ListProxy<T>, ManagerError> {
        let list = self.create_with(|()| Vec::<T>::new(), ())?;
        Ok(ListProxy::from(list))
    }

    /// An empty namespace in the server: values of any types, by name.
    ///
    /// # Errors
    /// [`ManagerError`].
    ///
    /// # Examples
    /// See [`NamespaceProxy`].
    pub fn namespace(&self) -> Result<NamespaceProxy, ManagerError> {
        NamespaceProxy::new(self)
    }

    /// An empty queue in the server, for at most `maxsize` items; 0 means no limit. Inside the family, [`Queue`](crate::Queue) needs no server and is faster.
    ///
    /// # Errors
    /// [`ManagerError`].
    ///
    /// # Examples
    /// See [`QueueProxy`].
    pub fn queue<T: Portable>(&self, maxsize: usize) -> Result<QueueProxy<T>, ManagerError> {
        QueueProxy::new(self, maxsize)
    }

    /// A counter in the server that begins at 0. Inside the family, [`SharedAtomicI64`](crate::SharedAtomicI64) needs no server and is faster.
    ///
    /// # Errors
    /// [`ManagerError`].
    ///
    /// # Examples
    /// See [`CounterProxy`].
    pub fn counter(&self) -> Result<CounterProxy, ManagerError> {
        Ok(CounterProxy::from(self.create(0i64)?))
    }
}

pub(super) fn named(call: Option<Call>) -> Result<Call, ManagerError> {
    call.ok_or(ManagerError::Nameless)
}

impl Serialize for ManagerClient {
    /// Inside a message only, and not of a remote manager.
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        match &self.route {
            Route::Family(reach) => reach.serialize(serializer),
            Route::Remote(_) => Err(serde::ser::Error::custom(explain(
                "a client of a remote manager belongs to the process that connected; let each process connect",
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for ManagerClient {
    fn deserialize<Z: Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
        let route = Route::Family(Reach::deserialize(deserializer)?);
        Ok(Self { route })
    }
}
