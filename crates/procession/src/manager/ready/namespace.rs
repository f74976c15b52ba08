//! Values of any types, by name.

use super::super::client::ManagerClient;
use super::super::{ManagerError, Proxy};
use crate::channel::{pack_plain, unpack};
use crate::process::Portable;
use std::any::type_name;
use std::collections::BTreeMap;

/// A value as it is kept: what its type is called, and its bytes.
type Entry = (String, Vec<u8>);

/// Values of any types under names, in a manager's server. Each method is one step: nobody can come in between.
///
/// Values are kept as bytes, so they can contain no shared objects.
///
/// # Errors
/// All methods: [`ManagerError`].
///
/// # Examples
/// ```
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let manager = procession::Manager::start()?;
///     let settings = manager.namespace()?;
///     settings.set("width", &640u32)?;
///     settings.set("title", &"hello".to_owned())?;
///     assert_eq!(settings.get::<u32>("width")?, Some(640));
///     assert!(settings.get::<u32>("title").is_err(), "another type");
///     assert_eq!(settings.names()?, ["title", "width"]);
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `procession.managers.NamespaceProxy`
pub struct NamespaceProxy(pub(super) Proxy<BTreeMap<String, Entry>>);

super::ready!(NamespaceProxy, BTreeMap<String, Entry>);

impl NamespaceProxy {
    pub(in super::super) fn new(client: &ManagerClient) -> Result<Self, ManagerError> {
        client.create_with(|()| BTreeMap::new(), ()).map(Self)
    }

    /// Puts a value under a name.
    pub fn set<T: Portable>(&self, name: &str, value: &T) -> Result<(), ManagerError> {
        let mut bytes = Vec::new();
        pack_plain(value, &mut bytes)?;
        let entry: (String, Entry) = (name.to_owned(), (type_name::<T>().to_owned(), bytes));
        self.0.with(
            |names, (name, entry)| {
                names.insert(name, entry);
            },
            entry,
        )
    }

    /// A copy of the value under a name; a value of another type is [`ManagerError::WrongType`].
    pub fn get<T: Portable>(&self, name: &str) -> Result<Option<T>, ManagerError> {
        let entry = self.0.with(
            |names, name: String| names.get(&name).cloned(),
            name.to_owned(),
        )?;
        let Some((found, bytes)) = entry else {
            return Ok(None);
        };
        if found != type_name::<T>() {
            let expected = type_name::<T>().to_owned();
            return Err(ManagerError::WrongType { expected, found });
        }
        let value = unpack(&bytes).map_err(|error| ManagerError::UndecodableResult {
            reason: error.to_string(),
        })?;
        Ok(Some(value))
    }

    /// Removes a name. `false`: there was none.
    pub fn remove(&self, name: &str) -> Result<bool, ManagerError> {
        self.0.with(
            |names, name: String| names.remove(&name).is_some(),
            name.to_owned(),
        )
    }

    /// Whether there is such a name.
    pub fn contains(&self, name: &str) -> Result<bool, ManagerError> {
        self.0.with(
            |names, name: String| names.contains_key(&name),
            name.to_owned(),
        )
    }

    /// All names, in order.
    pub fn names(&self) -> Result<Vec<String>, ManagerError> {
        self.0.with(|names, ()| names.keys().cloned().collect(), ())
    }
}
