//! A dictionary.

use super::super::{ManagerError, Proxy};
use crate::process::Portable;
use std::collections::HashMap;
use std::hash::Hash;

/// A [`HashMap`] in a manager's server. Each method is one step: nobody can come in between. For what takes several, use
/// [`with`](Proxy::with).
///
/// # Errors
/// All methods: [`ManagerError`].
///
/// # Examples
/// ```
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let manager = procession::Manager::start()?;
///     let ages = manager.dict::<String, u32>()?;
///     assert_eq!(ages.insert("ada".to_owned(), 36)?, None);
///     ages.extend([("alan".to_owned(), 41), ("grace".to_owned(), 85)])?;
///     assert_eq!(ages.get(&"ada".to_owned())?, Some(36));
///     ages.with(|ages, ()| ages.values_mut().for_each(|age| *age += 1), ())?; // anything else
///     assert_eq!(ages.remove(&"alan".to_owned())?, Some(42));
///     assert_eq!(ages.len()?, 2);
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `procession.managers.DictProxy`
pub struct DictProxy<K, V>(pub(super) Proxy<HashMap<K, V>>);

super::ready!(DictProxy<K, V>, HashMap<K, V>);

impl<K: Portable + Eq + Hash, V: Portable> DictProxy<K, V> {
    /// Puts a value under a key; returns the one that was there.
    pub fn insert(&self, key: K, value: V) -> Result<Option<V>, ManagerError> {
        self.0
            .with(|dict, (key, value)| dict.insert(key, value), (key, value))
    }

    /// Puts all pairs in.
    pub fn extend(&self, pairs: impl IntoIterator<Item = (K, V)>) -> Result<(), ManagerError> {
        let pairs: Vec<_> = pairs.into_iter().collect();
        self.0
            .with(|dict, pairs: Vec<(K, V)>| dict.extend(pairs), pairs)
    }

    /// Removes a key; returns its value.
    #[doc(alias = "pop")]
    pub fn remove(&self, key: &K) -> Result<Option<V>, ManagerError> {
        self.0.with_ref(|dict, key: K| dict.remove(&key), key)
    }

    /// Removes everything.
    pub fn clear(&self) -> Result<(), ManagerError> {
        self.0.with(|dict, ()| dict.clear(), ())
    }

    /// Whether there is such a key.
    pub fn contains_key(&self, key: &K) -> Result<bool, ManagerError> {
        self.0.with_ref(|dict, key: K| dict.contains_key(&key), key)
    }

    /// How many keys there are.
    pub fn len(&self) -> Result<usize, ManagerError> {
        self.0.with(|dict, ()| dict.len(), ())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> Result<bool, ManagerError> {
        self.0.with(|dict, ()| dict.is_empty(), ())
    }
}

impl<K: Portable + Eq + Hash + Clone, V: Portable> DictProxy<K, V> {
    /// All keys, in no particular order.
    pub fn keys(&self) -> Result<Vec<K>, ManagerError> {
        self.0.with(|dict, ()| dict.keys().cloned().collect(), ())
    }
}

impl<K: Portable + Eq + Hash, V: Portable + Clone> DictProxy<K, V> {
    /// A copy of the value of a key.
    pub fn get(&self, key: &K) -> Result<Option<V>, ManagerError> {
        self.0.with_ref(|dict, key: K| dict.get(&key).cloned(), key)
    }

    /// A copy of the value of a key, which is `default` if there was none before.
    #[doc(alias = "setdefault")]
    pub fn get_or_insert(&self, key: K, default: V) -> Result<V, ManagerError> {
        self.0.with(
            |dict, (key, default)| dict.entry(key).or_insert(default).clone(),
            (key, default),
        )
    }

    /// Copies of all values, in no particular order.
    pub fn values(&self) -> Result<Vec<V>, ManagerError> {
        self.0.with(|dict, ()| dict.values().cloned().collect(), ())
    }

    /// Waits until there is such a key; returns a copy of its value.
    ///
    /// # Blocking
    /// Until somebody has put it in.
    pub fn wait_get(&self, key: K) -> Result<V, ManagerError> {
        self.0.wait_for(|dict, key| dict.get(key).cloned(), key)
    }
}

impl<K: Portable + Eq + Hash + Clone, V: Portable + Clone> DictProxy<K, V> {
    /// A copy of everything, as it is at one moment.
    #[doc(alias = "copy")]
    #[doc(alias = "items")]
    pub fn snapshot(&self) -> Result<HashMap<K, V>, ManagerError> {
        self.0.with(|dict, ()| dict.clone(), ())
    }
}
