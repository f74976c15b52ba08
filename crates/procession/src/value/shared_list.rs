//! SharedList: a list in the family heap.
//!
//! One [stripe](super::stripe): the items are the slots from 0 on, without a gap. `push` and `pop` are one store behind or to the last item; insert and remove in the midst build a new table
//! and make it the table, one store again. What a death leaves is said in `stripe.rs`.

use super::entry::{self, Entry};
use super::stripe::{FromInside, Held, Stripe, Words, Writing, new_table, set_word};
use crate::atomic::{AtomicU64, Ordering};
use crate::channel::{DecodeError, EncodeError, pack, unpack, with_scratch};
use crate::heap::{Block, BlockRef, Container, Death, HeapError, Hold, Object, Shared};
use crate::kinds::Kind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// Slots of the first table.
const FIRST: usize = 8;

/// A list as it lies in the heap.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedListBody {
    stripe: Stripe<1>,
}
const _: () = assert!(size_of::<SharedListBody>() == 64);

impl Object for SharedListBody {
    const KIND: Kind = Kind::SharedList;

    fn reap(&self, death: Death) {
        self.stripe.reap(death);
    }

    fn contains(&self, block: BlockRef) -> bool {
        self.stripe.contains(block)
    }

    fn destroy(&self, container: Container) {
        self.stripe.destroy(container);
    }
}

/// Why a [`SharedList`] did not do what was asked. It is as it was.
///
/// # Examples
/// ```
/// use procession::{ListError, SharedList};
///
/// let list = SharedList::new()?;
/// list.push('a')?;
/// assert_eq!(list.set(1, 'b'), Err(ListError::OutOfRange { index: 1, len: 1 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The list is shorter.
    #[error("index {index} is outside a list of {len} items")]
    OutOfRange {
        /// What was asked for.
        index: usize,
        /// How many items there are.
        len: usize,
    },
    /// The item could not be serialised.
    #[error("item cannot be put into the list")]
    Encode(#[source] EncodeError),
    /// What is there is no item of the expected type (put by a handle with another type?).
    #[error("item of the list cannot be read")]
    Decode(#[source] DecodeError),
    /// The family heap is full, the item too large, or a peer overwrote shared memory.
    #[error(transparent)]
    Heap(HeapError),
    /// A change from inside the closure of [`SharedList::update`]: it would wait for itself. Reading is possible.
    #[error("list cannot be changed from inside its own `update`")]
    FromInside,
}

impl From<EncodeError> for ListError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Heap(error) => Self::Heap(error),
            error => Self::Encode(error),
        }
    }
}

impl From<DecodeError> for ListError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Heap(error) => Self::Heap(error),
            error => Self::Decode(error),
        }
    }
}

impl From<HeapError> for ListError {
    fn from(error: HeapError) -> Self {
        Self::Heap(error)
    }
}

impl From<FromInside> for ListError {
    fn from(FromInside: FromInside) -> Self {
        Self::FromInside
    }
}

/// A list that all processes see, without a server: any serde type, as many items as the heap has room for.
///
/// Items are copies: [`get`](Self::get) gives one of your own, changing it changes nothing in the list; [`update`](Self::update) does. Handles of other shared objects may be
/// part of items: the list holds these objects, and what `get` returns is a live handle. A list that is, by whatever detour, an item of itself is never freed while the family lives.
///
/// `push`, `pop`, `get` and `set` take the same time however long the list is; [`insert`](Self::insert) and [`remove`](Self::remove) copy 8 bytes for each item there is. For a
/// queue of work take a [`Queue`](crate::Queue), which wakes who waits.
///
/// # Blocking
/// Reading waits for no closure, only for the copy of an item or for a snapshot. A change waits for other changes, and so for closures given to `update`.
///
/// # Crash safety
/// A change is one store: if the process dies midway, the list is as before or as after, and nothing leaks. A death in [`clear`](Self::clear) or
/// [`extend`](Self::extend) leaves the part that was done, which is a beginning of the list. Locks of the dead go to those who wait.
///
/// # Memory
/// A small item (up to 48 bytes, no handles) takes 64 bytes, a slot of 8, and 16 of book-keeping. A larger one takes 16 bytes more than it has, rounded up to one of 18
/// sizes up to 32 KiB, or a multiple of 64 KiB. An empty list takes 64 bytes.
///
/// # Examples
/// ```
/// use procession::SharedList;
///
/// let list = SharedList::new()?;
/// list.extend(["a", "b", "d"].map(String::from))?;
/// list.insert(2, "c".into())?;
/// assert_eq!(list.pop()?, Some("d".into()));
/// assert_eq!(list.to_vec()?, ["a", "b", "c"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `multiprocessing.Manager().list()`, without the manager
#[doc(alias = "list")]
pub struct SharedList<T> {
    shared: Shared<SharedListBody>,
    _item: PhantomData<fn() -> T>,
}

type Change<'a> = Writing<'a, 1>;

fn reference(words: Words, index: usize) -> Option<BlockRef> {
    BlockRef::from_bits(words.get(index)?.load(Ordering::Relaxed))
}

/// The slot of an item.
fn slot<'a>(change: &Change<'a>, index: usize) -> Result<&'static AtomicU64, ListError> {
    let len = change.live();
    let slot = change.words()?.get(index).filter(|_| index < len);
    slot.ok_or(ListError::OutOfRange { index, len })
}

/// A table of at least so many slots, with the items of the present one, except number `without`; a slot is left free at `gap`.
fn copy_table(
    change: &Change<'_>,
    slots: usize,
    without: Option<usize>,
    gap: Option<usize>,
) -> Result<Block, HeapError> {
    let mut table = new_table(slots.max(FIRST), 1)?;
    let room = table.capacity() / 8;
    let mut at = 0;
    for (index, word) in change.words()?.iter().take(change.live()).enumerate() {
        at += usize::from(gap == Some(at));
        if without == Some(index) {
            continue;
        }
        if at >= room {
            return Err(HeapError::Corrupt("a list is longer than it counted"));
        }
        set_word(&mut table, at, word.load(Ordering::Relaxed));
        at += 1;
    }
    Ok(table)
}

/// Puts an item behind the last.
fn push(change: &Change<'_>, item: Block) -> Result<(), HeapError> {
    let len = change.live();
    if change.words()?.len() <= len {
        let table = copy_table(change, len + len / 2 + 1, None, None)?;
        drop(change.set_table(table)?);
    }
    let slot = change.words()?.get(len);
    let slot = slot.ok_or(HeapError::Corrupt("a list is longer than it counted"))?;
    change.put(slot, item).map(drop)
}

/// Takes the last item.
fn pop(change: &Change<'_>) -> Result<Option<Block>, HeapError> {
    let Some(last) = change.live().checked_sub(1) else {
        return Ok(None);
    };
    let Some(slot) = change.words()?.get(last) else {
        return Err(HeapError::Corrupt("a list is longer than its table"));
    };
    let taken = change.take(slot, 0)?;
    if change.is_sparse() {
        // Without room for a smaller table the large one stays.
        let smaller = copy_table(change, last * 2, None, None);
        let _ = smaller.and_then(|table| change.set_table(table));
    }
    Ok(taken)
}

/// An item out of a block that nobody else has.
fn into_item<T: DeserializeOwned>(block: &Block) -> Result<T, ListError> {
    Ok(unpack(entry::value_of(block)?)?)
}

/// The block of an item.
fn make<T: Serialize>(item: &T) -> Result<Block, ListError> {
    with_scratch(|bytes| {
        let holds = pack(item, bytes)?;
        Ok(entry::make(bytes, 0, &holds)?)
    })
}

impl<T> SharedList<T> {
    /// Creates an empty list.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert!(procession::SharedList::<String>::new()?.is_empty());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new() -> Result<Self, HeapError> {
        Ok(Self {
            shared: Shared::create(|_: &SharedListBody, _| ())?,
            _item: PhantomData,
        })
    }

    fn write(&self) -> Result<Change<'_>, FromInside> {
        self.shared.stripe.write(self.shared.container())
    }

    /// How many items there are.
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.push(1)?;
    /// assert_eq!(list.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `len(l)`
    #[must_use]
    #[doc(alias = "__len__")]
    pub fn len(&self) -> usize {
        self.shared.stripe.lock().live()
    }

    /// Whether there are none.
    ///
    /// # Examples
    /// ```
    /// assert!(procession::SharedList::<u8>::new()?.is_empty());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all items, at one moment for all others.
    ///
    /// # Crash safety
    /// If the process dies midway, the last items are gone.
    ///
    /// # Errors
    /// [`ListError::FromInside`], [`ListError::Heap`].
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.extend([1, 2])?;
    /// list.clear()?;
    /// assert!(list.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear(&self) -> Result<(), ListError> {
        let mut taken = Vec::new();
        let change = self.write()?;
        let held = change.lock();
        let emptied = change.take_all(&held, &mut taken);
        drop(held);
        drop(change);
        // The items are freed here, outside the locks.
        drop(taken);
        Ok(emptied?)
    }
}

impl<T: Serialize> SharedList<T> {
    /// Puts an item behind the last.
    ///
    /// # Errors
    /// [`ListError`].
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.push("a")?;
    /// assert_eq!(list.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "append")]
    pub fn push(&self, item: T) -> Result<(), ListError> {
        let block = make(&item)?;
        let change = self.write()?;
        Ok(push(&change, block)?)
    }

    /// Puts items behind the last; those of others do not come in between.
    ///
    /// # Errors
    /// [`ListError`]. If an item cannot be serialised nothing is put; if the heap fills up, some may be.
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.extend([1, 2])?;
    /// assert_eq!(list.to_vec()?, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn extend(&self, items: impl IntoIterator<Item = T>) -> Result<(), ListError> {
        let blocks = items
            .into_iter()
            .map(|item| make(&item))
            .collect::<Result<Vec<_>, _>>()?;
        let change = self.write()?;
        for block in blocks {
            push(&change, block)?;
        }
        Ok(())
    }

    /// Replaces an item.
    ///
    /// # Errors
    /// [`ListError`].
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.extend([1, 2])?;
    /// list.set(0, 7)?;
    /// assert_eq!(list.to_vec()?, [7, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `l[index] = item`
    #[doc(alias = "__setitem__")]
    pub fn set(&self, index: usize, item: T) -> Result<(), ListError> {
        let block = make(&item)?;
        let change = self.write()?;
        let old = change.put(slot(&change, index)?, block)?;
        drop(change);
        drop(old);
        Ok(())
    }

    /// Puts an item before number `index`; behind the last if `index` is the length.
    ///
    /// # Errors
    /// [`ListError`]. An `index` beyond the length is out of range.
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.extend(['a', 'c'])?;
    /// list.insert(1, 'b')?;
    /// assert_eq!(list.to_vec()?, ['a', 'b', 'c']);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&self, index: usize, item: T) -> Result<(), ListError> {
        let block = make(&item)?;
        let change = self.write()?;
        let len = change.live();
        if index > len {
            return Err(ListError::OutOfRange { index, len });
        }
        if index == len {
            return Ok(push(&change, block)?);
        }
        let table = copy_table(&change, len + len / 2 + 1, None, Some(index))?;
        change.set_table_with(table, index, block).map(drop)?;
        Ok(())
    }
}

impl<T: DeserializeOwned> SharedList<T> {
    /// A copy of an item; `None` if the list is shorter. A handle in it is live, whatever happens to the item afterwards.
    ///
    /// # Errors
    /// [`ListError::Decode`], [`ListError::Heap`].
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.push("a".to_owned())?;
    /// assert_eq!((list.get(0)?, list.get(1)?), (Some("a".into()), None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `l[index]`
    #[doc(alias = "__getitem__")]
    pub fn get(&self, index: usize) -> Result<Option<T>, ListError> {
        with_scratch(|bytes| {
            let Some(_holds) = self.copy_out(index, bytes)? else {
                return Ok(None);
            };
            Ok(Some(unpack(bytes)?))
        })
    }

    /// Copies an item; holds on what is inside. `None`: no such item.
    fn copy_out(&self, index: usize, into: &mut Vec<u8>) -> Result<Option<Vec<Hold>>, HeapError> {
        let held = self.shared.stripe.lock();
        let Some(item) = reference(held.words()?, index) else {
            return Ok(None);
        };
        let item = Entry::open(item)?;
        item.copy_value(into);
        Ok(Some(item.hold()))
    }

    /// Removes the last item and returns it.
    ///
    /// # Errors
    /// [`ListError`]. An item that cannot be read is removed.
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.push(1)?;
    /// assert_eq!((list.pop()?, list.pop()?), (Some(1), None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pop(&self) -> Result<Option<T>, ListError> {
        let change = self.write()?;
        let taken = pop(&change)?;
        drop(change);
        taken.as_ref().map(into_item).transpose()
    }

    /// Removes an item and returns it; those behind it move up.
    ///
    /// # Errors
    /// [`ListError`]. An item that cannot be read is removed.
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.extend(['a', 'b', 'c'])?;
    /// assert_eq!(list.remove(1)?, 'b');
    /// assert_eq!(list.to_vec()?, ['a', 'c']);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `l.pop(index)`
    #[doc(alias = "__delitem__")]
    pub fn remove(&self, index: usize) -> Result<T, ListError> {
        let change = self.write()?;
        let (len, none) = (change.live(), HeapError::Corrupt("a list has a gap"));
        if index >= len {
            return Err(ListError::OutOfRange { index, len });
        }
        let (taken, old) = if index + 1 == len {
            (pop(&change)?.ok_or(none)?, None)
        } else {
            let item = reference(change.words()?, index).ok_or(none)?;
            let table = copy_table(&change, len, Some(index), None)?;
            change.set_table_without(table, item)?
        };
        drop(change);
        drop(old);
        into_item(&taken)
    }

    /// A copy of all items, as they were at one moment.
    ///
    /// # Blocking
    /// The list stands still for the copy (not for the decoding).
    ///
    /// # Errors
    /// [`ListError::Decode`], [`ListError::Heap`].
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.extend([1, 2])?;
    /// assert_eq!(list.to_vec()?, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "copy")]
    pub fn to_vec(&self) -> Result<Vec<T>, ListError> {
        let (mut bytes, mut ends, mut holds) = (Vec::new(), Vec::new(), Vec::new());
        let held = self.shared.stripe.lock();
        copy_all(&held, &mut bytes, &mut ends, &mut holds)?;
        drop(held);
        let mut start = 0;
        let items = ends
            .into_iter()
            .map(|end| Ok(unpack(&bytes[std::mem::replace(&mut start, end)..end])?))
            .collect();
        drop(holds);
        items
    }

    /// Iterates over a copy of all items, as they were at one moment.
    ///
    /// # Errors
    /// As [`to_vec`](Self::to_vec).
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.extend([1, 2])?;
    /// assert_eq!(list.iter()?.sum::<i32>(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "__iter__")]
    pub fn iter(&self) -> Result<std::vec::IntoIter<T>, ListError> {
        Ok(self.to_vec()?.into_iter())
    }
}

/// Copies all items, one behind the other.
fn copy_all(
    held: &Held<'_, 1>,
    bytes: &mut Vec<u8>,
    ends: &mut Vec<usize>,
    holds: &mut Vec<Hold>,
) -> Result<(), HeapError> {
    let words = held.words()?;
    for item in (0..held.live()).map_while(|index| reference(words, index)) {
        let item = Entry::open(item)?;
        item.copy_value(bytes);
        ends.push(bytes.len());
        holds.append(&mut item.hold());
    }
    Ok(())
}

impl<T: Serialize + DeserializeOwned> SharedList<T> {
    /// Replaces an item by what `change` makes of it. No other change comes in between.
    ///
    /// Other processes read the old item meanwhile. The closure may read this list, but not change it ([`ListError::FromInside`]).
    ///
    /// # Blocking
    /// All other changes of the list wait for the closure.
    ///
    /// # Crash safety
    /// If the closure panics, the old item stays. If the process dies in the closure or later, it is the old or the new one, and whoever waits goes on.
    ///
    /// # Errors
    /// [`ListError`]: the item is as it was.
    ///
    /// # Examples
    /// ```
    /// let list = procession::SharedList::new()?;
    /// list.extend([1, 2])?;
    /// list.update(1, |n| n * 10)?;
    /// assert_eq!(list.to_vec()?, [1, 20]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update(&self, index: usize, change: impl FnOnce(T) -> T) -> Result<(), ListError> {
        let begun = self.write()?;
        let inside = begun.inside();
        let slot = slot(&begun, index)?;
        let len = begun.live();
        let item = self.get(index)?;
        let item = item.ok_or(ListError::OutOfRange { index, len })?;
        let block = make(&change(item))?;
        let old = begun.put(slot, block)?;
        drop(inside);
        drop(begun);
        drop(old);
        Ok(())
    }
}

crate::sync::shared_handle!(SharedList<T>, SharedListBody, "SharedList");
