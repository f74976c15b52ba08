//! ShareableList: a list of mixed items with fixed room for each.
//!
//! ```text
//! number of items | places: one word each, and the end | heads: one word each | items: two halves each
//!
//! head = kind:8 | half:1 | 0:7 | length:48
//! ```
//!
//! Each item has room twice: a change goes into the half that is not in use, and one store of the head makes it valid. So an item is always
//! either the old or the new one, whoever dies. All of it is done under the list's lock.

use super::body::{self, HasBody, body_handle, shared_body};
use crate::atomic::Ordering;
use crate::heap::{HeapError, Shared};
use crate::sys::bytes::{Bytes, OutOfRange};

shared_body!(
    /// A list as it lies in the heap.
    SharedItems,
    ShareableList
);

/// Room is given in steps of so many bytes, as in CPython.
const STEP: usize = 8;

const KIND_SHIFT: u32 = 56;
const HALF: u64 = 1 << 55;
const LEN: u64 = (1 << 48) - 1;

/// One item of a [`ShareableList`].
///
/// # Examples
/// ```
/// use procession::Item;
///
/// assert_eq!(Item::from("text"), Item::Str("text".to_owned()));
/// assert_eq!(Item::from(7), Item::Int(7));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Python's `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

macro_rules! items_from {
    ($($from:ty => |$value:ident| $item:expr;)*) => {$(
        impl From<$from> for Item {
            fn from($value: $from) -> Self {
                $item
            }
        }
    )*};
}

items_from! {
    () => |_nothing| Self::None;
    bool => |value| Self::Bool(value);
    i64 => |value| Self::Int(value);
    f64 => |value| Self::Float(value);
    &str => |value| Self::Str(value.to_owned());
    String => |value| Self::Str(value);
    &[u8] => |value| Self::Bytes(value.to_owned());
    Vec<u8> => |value| Self::Bytes(value);
}

impl Item {
    fn kind(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Float(_) => 3,
            Self::Str(_) => 4,
            Self::Bytes(_) => 5,
        }
    }

    fn encode<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::None => f(&[]),
            Self::Bool(value) => f(&[u8::from(*value)]),
            Self::Int(value) => f(&value.to_ne_bytes()),
            Self::Float(value) => f(&value.to_ne_bytes()),
            Self::Str(value) => f(value.as_bytes()),
            Self::Bytes(value) => f(value),
        }
    }

    fn decode(kind: u8, bytes: Vec<u8>) -> Option<Self> {
        Some(match kind {
            0 => Self::None,
            1 => Self::Bool(*bytes.first()? != 0),
            2 => Self::Int(i64::from_ne_bytes(bytes.try_into().ok()?)),
            3 => Self::Float(f64::from_ne_bytes(bytes.try_into().ok()?)),
            4 => Self::Str(String::from_utf8(bytes).ok()?),
            5 => Self::Bytes(bytes),
            _ => return None,
        })
    }

    /// The room that an item of this size gets: a number fits everywhere.
    fn room(&self) -> usize {
        match self {
            Self::Str(text) => (text.len() / STEP + 1) * STEP,
            Self::Bytes(bytes) => (bytes.len() / STEP + 1) * STEP,
            _ => STEP,
        }
    }
}

/// Why an item was not read.
///
/// # Examples
/// ```
/// let list = procession::ShareableList::new([7])?;
/// let error = procession::GetItemError::OutOfRange { index: 1, len: 1 };
/// assert_eq!(list.get(1), Err(error));
/// # Ok::<(), procession::HeapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetItemError {
    /// The list is shorter.
    #[error("index {index} is outside a list of {len} items")]
    OutOfRange {
        /// What was asked for.
        index: usize,
        /// How many items there are.
        len: usize,
    },
    /// The bytes make no sense: a peer overwrote shared memory.
    #[error("item {index} of the list makes no sense")]
    Corrupt {
        /// Which one.
        index: usize,
    },
}

/// Why an item was not replaced. It is as it was.
///
/// # Examples
/// ```
/// use procession::{SetItemError, ShareableList};
///
/// let list = ShareableList::new(["short"])?;
/// assert_eq!(list.set(0, "too long for that"), Err(SetItemError::TooLong { len: 17, room: 8 }));
/// # Ok::<(), procession::HeapError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetItemError {
    /// The list is shorter.
    #[error("index {index} is outside a list of {len} items")]
    OutOfRange {
        /// What was asked for.
        index: usize,
        /// How many items there are.
        len: usize,
    },
    /// The item has less room, which was fixed when the list was made.
    #[error("item of {len} bytes exceeds the {room} bytes that its place in the list has")]
    TooLong {
        /// Bytes of the new item.
        len: usize,
        /// Bytes there are.
        room: usize,
    },
    /// The list's own bytes make no sense: a peer overwrote shared memory.
    #[error("item {index} of the list makes no sense")]
    Corrupt {
        /// Which one.
        index: usize,
    },
}

/// A list of [`Item`]s in shared memory. Its length is fixed; an item can be replaced by any other for which there is room.
///
/// Each place has the room that its first item needed, rounded up to a multiple of 8 bytes, at least 8. Each operation takes the list's lock.
///
/// # Crash safety
/// An item is replaced whole or not at all, even if the process is killed midway.
///
/// # Examples
/// ```
/// use procession::{Item, ShareableList};
///
/// let list = ShareableList::new([Item::from("text"), Item::from(7), Item::None])?;
/// list.set(1, 2.5)?;
/// list.set(0, "other")?;
/// assert_eq!(list.to_vec()?, [Item::from("other"), Item::from(2.5), Item::None]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.shared_memory.ShareableList`
pub struct ShareableList {
    shared: Shared<SharedItems>,
    bytes: Bytes<'static>,
    _item: (),
}

impl ShareableList {
    /// Creates a list.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::ShareableList::new([1, 2, 3])?.len(), 3);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new<I: Into<Item>>(items: impl IntoIterator<Item = I>) -> Result<Self, HeapError> {
        let items: Vec<Item> = items.into_iter().map(Into::into).collect();
        let heads_end = STEP * (2 + 2 * items.len());
        let size = items.iter().map(|item| 2 * item.room()).sum::<usize>() + heads_end;
        let (shared, bytes) = body::create(size, 1)?;
        let this = Self {
            shared,
            bytes,
            _item: (),
        };
        this.fill(&items, heads_end)
            .map_err(|_| HeapError::Corrupt("a list that does not fit its block"))?;
        Ok(this)
    }

    fn fill(&self, items: &[Item], mut at: usize) -> Result<(), OutOfRange> {
        for (index, item) in items.iter().enumerate() {
            self.store(STEP * (1 + index), at as u64)?;
            let len = item.encode(|content| {
                self.bytes.part(at, content.len())?.write(content)?;
                Ok(content.len() as u64)
            })?;
            let head = (u64::from(item.kind()) << KIND_SHIFT) | len;
            self.store(STEP * (2 + items.len() + index), head)?;
            at += 2 * item.room();
        }
        self.store(STEP * (1 + items.len()), at as u64)?;
        self.store(0, items.len() as u64)
    }

    fn load(&self, at: usize) -> Result<u64, OutOfRange> {
        Ok(self.bytes.word(at)?.load(Ordering::Acquire))
    }

    fn store(&self, at: usize, word: u64) -> Result<(), OutOfRange> {
        self.bytes.word(at)?.store(word, Ordering::Release);
        Ok(())
    }

    /// Where item `index` is: first byte and length of its first half.
    fn place(&self, index: usize) -> Result<(usize, usize), OutOfRange> {
        let from = self.load(STEP * (1 + index))? as usize;
        let to = self.load(STEP * (2 + index))? as usize;
        Ok((from, to.checked_sub(from).ok_or(OutOfRange)? / 2))
    }

    fn read(&self, index: usize) -> Result<Option<Item>, OutOfRange> {
        let (at, room) = self.place(index)?;
        let head = self.load(STEP * (2 + self.len() + index))?;
        let at = at + if head & HALF != 0 { room } else { 0 };
        let len = (head & LEN) as usize;
        if len > room {
            return Err(OutOfRange);
        }
        let mut content = vec![0; len];
        self.bytes.part(at, len)?.read(&mut content)?;
        Ok(Item::decode((head >> KIND_SHIFT) as u8, content))
    }

    fn write(&self, index: usize, item: &Item) -> Result<Result<(), SetItemError>, OutOfRange> {
        let (at, room) = self.place(index)?;
        let head_at = STEP * (2 + self.len() + index);
        let half = !self.load(head_at)? & HALF;
        item.encode(|content| {
            let len = content.len();
            if len > room {
                return Ok(Err(SetItemError::TooLong { len, room }));
            }
            let at = at + if half != 0 { room } else { 0 };
            self.bytes.part(at, len)?.write(content)?;
            let head = (u64::from(item.kind()) << KIND_SHIFT) | half | len as u64;
            self.store(head_at, head).map(Ok)
        })
    }

    /// How many items there are.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::ShareableList::new(["a", "b"])?.len(), 2);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        // At least two words belong to each item: more than that is no length.
        let most = self.bytes.len() / (2 * STEP);
        (self.load(0).unwrap_or(0) as usize).min(most)
    }

    /// Whether there are none.
    ///
    /// # Examples
    /// ```
    /// assert!(!procession::ShareableList::new([1])?.is_empty());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads an item.
    ///
    /// # Errors
    /// [`GetItemError`].
    ///
    /// # Examples
    /// ```
    /// use procession::{Item, ShareableList};
    ///
    /// assert_eq!(ShareableList::new(["a", "b"])?.get(1)?, Item::from("b"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get(&self, index: usize) -> Result<Item, GetItemError> {
        let len = self.len();
        if index >= len {
            return Err(GetItemError::OutOfRange { index, len });
        }
        let _guard = self.shared.body().lock();
        let item = self.read(index).ok().flatten();
        item.ok_or(GetItemError::Corrupt { index })
    }

    /// Replaces an item.
    ///
    /// # Errors
    /// [`SetItemError`].
    ///
    /// # Examples
    /// ```
    /// let list = procession::ShareableList::new(["a"])?;
    /// list.set(0, 12)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&self, index: usize, item: impl Into<Item>) -> Result<(), SetItemError> {
        let (item, len) = (item.into(), self.len());
        if index >= len {
            return Err(SetItemError::OutOfRange { index, len });
        }
        let _guard = self.shared.body().lock();
        self.write(index, &item)
            .unwrap_or(Err(SetItemError::Corrupt { index }))
    }

    /// How many items are equal to `item`.
    ///
    /// # Errors
    /// [`GetItemError::Corrupt`].
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::ShareableList::new([1, 2, 1])?.count(1)?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn count(&self, item: impl Into<Item>) -> Result<usize, GetItemError> {
        let item = item.into();
        Ok(self
            .to_vec()?
            .iter()
            .filter(|other| **other == item)
            .count())
    }

    /// The position of the first item that is equal to `item`.
    ///
    /// # Errors
    /// [`GetItemError::Corrupt`].
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::ShareableList::new([1, 2, 1])?.index(2)?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn index(&self, item: impl Into<Item>) -> Result<Option<usize>, GetItemError> {
        let item = item.into();
        Ok(self.to_vec()?.iter().position(|other| *other == item))
    }

    /// A copy of all items, as they were at one moment.
    ///
    /// # Errors
    /// [`GetItemError::Corrupt`].
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::ShareableList::new([1])?.to_vec()?, [1.into()]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_vec(&self) -> Result<Vec<Item>, GetItemError> {
        let _guard = self.shared.body().lock();
        (0..self.len()).map(|index| self.get(index)).collect()
    }

    /// Iterates over the items, reading each when its turn comes. One that cannot be read ends it.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::ShareableList::new([1, 2])?.iter().count(), 2);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Item> + '_ {
        (0..self.len()).map_while(|index| self.get(index).ok())
    }
}

body_handle!(ShareableList, SharedItems, "ShareableList", u8);
