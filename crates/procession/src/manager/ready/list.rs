//! A list.

use super::super::{ManagerError, Proxy};
use crate::process::Portable;

/// A [`Vec`] in a manager's server. Each method is one step: nobody can come in between. For what takes several, use [`with`](Proxy::with).
///
/// # Errors
/// All methods: [`ManagerError`].
///
/// # Examples
/// ```
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let manager = procession::Manager::start()?;
///     let words = manager.list::<String>()?;
///     words.extend(["b".to_owned(), "a".to_owned()])?;
///     words.push("c".to_owned())?;
///     words.sort()?;
///     assert_eq!(words.get(0)?.as_deref(), Some("a"));
///     assert_eq!(words.snapshot()?.concat(), "abc");
///     Ok(())
/// }
/// ```
///
/// # In Python
/// `procession.managers.ListProxy`
pub struct ListProxy<T>(pub(super) Proxy<Vec<T>>);

super::ready!(ListProxy<T>, Vec<T>);

impl<T: Portable> ListProxy<T> {
    /// Adds an item at the end.
    #[doc(alias = "append")]
    pub fn push(&self, item: T) -> Result<(), ManagerError> {
        self.0.with(|list, item| list.push(item), item)
    }

    /// Adds all items at the end.
    pub fn extend(&self, items: impl IntoIterator<Item = T>) -> Result<(), ManagerError> {
        let items: Vec<_> = items.into_iter().collect();
        self.0.with(|list, items: Vec<T>| list.extend(items), items)
    }

    /// Removes the last item.
    pub fn pop(&self) -> Result<Option<T>, ManagerError> {
        self.0.with(|list, ()| list.pop(), ())
    }

    /// Inserts an item at a position; one beyond the end is the end.
    pub fn insert(&self, index: usize, item: T) -> Result<(), ManagerError> {
        self.0.with(
            |list, (index, item)| list.insert(list.len().min(index), item),
            (index, item),
        )
    }

    /// Replaces the item at a position; returns what was there. `None`: there is no such position, and nothing was changed.
    pub fn set(&self, index: usize, item: T) -> Result<Option<T>, ManagerError> {
        self.0.with(
            |list, (index, item)| Some(std::mem::replace(list.get_mut(index)?, item)),
            (index, item),
        )
    }

    /// Removes the item at a position. `None`: there is no such position.
    pub fn remove(&self, index: usize) -> Result<Option<T>, ManagerError> {
        self.0.with(
            |list, index: usize| (index < list.len()).then(|| list.remove(index)),
            index,
        )
    }

    /// Removes everything.
    pub fn clear(&self) -> Result<(), ManagerError> {
        self.0.with(|list, ()| list.clear(), ())
    }

    /// Reverses the order.
    pub fn reverse(&self) -> Result<(), ManagerError> {
        self.0.with(|list, ()| list.reverse(), ())
    }

    /// How many items there are.
    pub fn len(&self) -> Result<usize, ManagerError> {
        self.0.with(|list, ()| list.len(), ())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> Result<bool, ManagerError> {
        self.0.with(|list, ()| list.is_empty(), ())
    }
}

impl<T: Portable + Clone> ListProxy<T> {
    /// A copy of the item at a position.
    pub fn get(&self, index: usize) -> Result<Option<T>, ManagerError> {
        self.0
            .with(|list, index: usize| list.get(index).cloned(), index)
    }

    /// A copy of everything, as it is at one moment.
    #[doc(alias = "copy")]
    pub fn snapshot(&self) -> Result<Vec<T>, ManagerError> {
        self.0.with(|list, ()| list.clone(), ())
    }
}

impl<T: Portable + PartialEq> ListProxy<T> {
    /// Whether an equal item is in it.
    pub fn contains(&self, item: &T) -> Result<bool, ManagerError> {
        self.0.with_ref(|list, item: T| list.contains(&item), item)
    }

    /// The position of the first item that is equal.
    #[doc(alias = "index")]
    pub fn position(&self, item: &T) -> Result<Option<usize>, ManagerError> {
        let find = |list: &mut Vec<T>, item: T| list.iter().position(|other| *other == item);
        self.0.with_ref(find, item)
    }
}

impl<T: Portable + Ord> ListProxy<T> {
    /// Sorts it.
    pub fn sort(&self) -> Result<(), ManagerError> {
        self.0.with(|list, ()| list.sort(), ())
    }
}
