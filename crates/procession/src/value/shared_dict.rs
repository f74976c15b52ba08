//! SharedDict: a map in the family heap.
//!
//! Sixteen [stripes](super::stripe), each a table with linear probing; the upper bits of a key's hash select the stripe, the lower ones the slot where the search begins. A
//! slot has two words: the entry's reference, which is the truth, and the key's hash, written before it, which saves looking into entries. An entry that
//! was taken leaves a mark if the search must go on behind it.
//!
//! Keys are compared by their serialised bytes and hashed by SipHash-1-3, whose algorithm is fixed, under a random key that lies in the object: every process
//! finds the same hash, whatever it was built from, and nobody outside can choose keys that collide.
//!
//! What a death leaves is said in `stripe.rs`. Several stripes are locked in ascending order, so nobody waits in a circle.

use super::entry::{self, Entry};
use super::stripe::{FromInside, Held, Inside, Stripe, TAKEN, Words, Writing, new_table, set_word};
use crate::atomic::{AtomicU64, Ordering};
use crate::channel::{DecodeError, EncodeError, pack, unpack, with_scratch};
use crate::heap::{Block, BlockRef, Container, Death, HeapError, Hold, Object, Shared};
use crate::kinds::Kind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use siphasher::sip::SipHasher13;
use std::borrow::Borrow;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::ops::Range;

const STRIPES: usize = 16;
/// Words of a slot: reference, hash.
const WIDTH: usize = 2;
/// Slots of the first table.
const FIRST: usize = 4;

/// A dict as it lies in the heap. The first stripe keeps the key of the hash.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct SharedDictBody {
    stripes: [Stripe<WIDTH>; STRIPES],
}
const _: () = assert!(size_of::<SharedDictBody>() == 1024);

impl Object for SharedDictBody {
    const KIND: Kind = Kind::SharedDict;

    fn reap(&self, death: Death) {
        self.stripes.iter().for_each(|stripe| stripe.reap(death));
    }

    fn contains(&self, block: BlockRef) -> bool {
        self.stripes.iter().any(|stripe| stripe.contains(block))
    }

    fn destroy(&self, container: Container) {
        self.stripes
            .iter()
            .for_each(|stripe| stripe.destroy(container));
    }
}

/// Why a [`SharedDict`] did not do what was asked. It is as it was.
///
/// # Examples
/// ```
/// use procession::{DictError, SharedDict};
///
/// let dict = SharedDict::<u8, u8>::new()?;
/// let changed = dict.update(&1, |_| {
///     assert_eq!(dict.set(2, 2), Err(DictError::FromInside));
///     Some(1)
/// });
/// assert_eq!(changed, Ok(()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DictError {
    /// The key or the value could not be serialised.
    #[error("entry cannot be put into the dict")]
    Encode(#[source] EncodeError),
    /// What is there is no key or value of the expected type (put by a handle with other types?).
    #[error("entry of the dict cannot be read")]
    Decode(#[source] DecodeError),
    /// The family heap is full, the entry too large, or a peer overwrote shared memory.
    #[error(transparent)]
    Heap(HeapError),
    /// A change from inside a closure that this dict is just calling (`update`, `get_or_insert_with`): it would wait for itself. Reading is possible.
    #[error("dict cannot be changed from inside its own `update`")]
    FromInside,
}

impl From<EncodeError> for DictError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Heap(error) => Self::Heap(error),
            error => Self::Encode(error),
        }
    }
}

impl From<DecodeError> for DictError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Heap(error) => Self::Heap(error),
            error => Self::Decode(error),
        }
    }
}

impl From<HeapError> for DictError {
    fn from(error: HeapError) -> Self {
        Self::Heap(error)
    }
}

impl From<FromInside> for DictError {
    fn from(FromInside: FromInside) -> Self {
        Self::FromInside
    }
}

/// A map that all processes see, without a server: any serde type as key and as value, as many entries as the heap has room for.
///
/// Entries are copies: [`get`](Self::get) gives a value of your own, changing it changes nothing in the dict; [`update`](Self::update) does. Handles of other shared objects
/// may be part of keys and values: the dict holds these objects, and what `get` returns is a live handle. A dict that is, by whatever detour, an entry of itself is never freed while the
/// family lives.
///
/// There is no order. Several processes read and change at the same time: keys are spread over 16 locks.
///
/// # Which keys are equal
/// Keys are equal if their *serialised* forms are (postcard), not if `==` says so, and `K` needs neither `Eq` nor `Hash`. For numbers, texts, tuples, structs and
/// enums of them that is the same. It is not for a `HashMap` or `HashSet` as a key (two equal ones may be serialised in different order: use the `BTree` ones), for floats (`0.0` and `-0.0`
/// are two keys, and a NaN equals itself), and for types whose `Serialize` leaves something out. A key may be asked for by anything that `K` can be borrowed as, `&str` for `String`: it
/// is serialised the same way.
///
/// # Blocking
/// Reading waits for no closure, only for the copy of an entry or for a snapshot. A change waits for other changes of keys with the same lock, and so for
/// closures given to `update` and `get_or_insert_with`.
///
/// # Crash safety
/// A change is one store: if the process dies midway, the entry is as before or as after, all others are untouched, and nothing leaks. A death in [`clear`](Self::clear) or
/// [`extend`](Self::extend) leaves the part that was done. Locks of the dead go to those who wait.
///
/// # Memory
/// A small entry (up to 48 bytes of key and value, no handles) takes 64 bytes and a slot of 16, of which a quarter to a bit over a half are unused: about
/// 100 bytes in all, and 16 of book-keeping. A larger one takes 16 bytes more than it has, rounded up to one of 18 sizes up to 32 KiB, or a multiple of 64 KiB; each handle 8
/// bytes more. An empty dict takes 1 KiB.
///
/// # Examples
/// ```
/// use procession::SharedDict;
///
/// let words = SharedDict::<String, u64>::new()?;
/// for word in ["to", "be", "or", "not", "to", "be"] {
///     words.update(word, |count| Some(count.unwrap_or(0) + 1))?;
/// }
/// assert_eq!(words.get("be")?, Some(2));
/// assert_eq!(words.len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `multiprocessing.Manager().dict()`, without the manager
#[doc(alias = "dict")]
pub struct SharedDict<K, V> {
    shared: Shared<SharedDictBody>,
    _item: PhantomData<fn() -> (K, V)>,
}

/// Where a key is, or would be.
enum Spot {
    At(usize),
    /// The slot was in use before, or not.
    Vacant {
        slot: usize,
        used: bool,
    },
    Full,
}

/// The slot of a key in a table.
#[inline]
fn find(words: Words, hash: u64, key: &[u8]) -> Result<Spot, HeapError> {
    let slots = words.len() / WIDTH;
    let mut vacant = None;
    let mut slot = first_slot(hash, slots);
    for _ in 0..slots {
        match words[slot * WIDTH].load(Ordering::Relaxed) {
            0 => return Ok(vacant.unwrap_or(Spot::Vacant { slot, used: false })),
            bits => match BlockRef::from_bits(bits) {
                Some(entry) => {
                    let same = words[slot * WIDTH + 1].load(Ordering::Relaxed) == hash;
                    if same && Entry::open(entry)?.has_key(key) {
                        return Ok(Spot::At(slot));
                    }
                }
                None if vacant.is_none() => vacant = Some(Spot::Vacant { slot, used: true }),
                None => {}
            },
        }
        slot = next_slot(slot, slots);
    }
    Ok(vacant.unwrap_or(Spot::Full))
}

#[inline]
fn first_slot(hash: u64, slots: usize) -> usize {
    ((u64::from(hash as u32) * slots as u64) >> 32) as usize
}

#[inline]
fn next_slot(slot: usize, slots: usize) -> usize {
    if slot + 1 < slots { slot + 1 } else { 0 }
}

/// The entries of a table, with their hashes.
fn entries(words: Words) -> impl Iterator<Item = (BlockRef, u64)> {
    words.chunks_exact(WIDTH).filter_map(|slot| {
        let entry = BlockRef::from_bits(slot[0].load(Ordering::Relaxed))?;
        Some((entry, slot[1].load(Ordering::Relaxed)))
    })
}

/// The entry of a key.
fn look_up(words: Words, hash: u64, key: &[u8]) -> Result<Option<Entry>, HeapError> {
    let Spot::At(slot) = find(words, hash, key)? else {
        return Ok(None);
    };
    BlockRef::from_bits(words[slot * WIDTH].load(Ordering::Relaxed))
        .map(Entry::open)
        .transpose()
}

/// Makes the table larger or smaller: twice as many slots as there are entries, and no marks.
fn refit(writing: &Writing<'_, WIDTH>) -> Result<(), HeapError> {
    let mut table = new_table(((writing.live() + 1) * 2).max(FIRST), WIDTH)?;
    let slots = table.capacity() / (WIDTH * 8);
    // Outside the readers' lock: nobody else changes anything.
    let mut taken = vec![false; slots];
    for (entry, hash) in entries(writing.words()?) {
        let mut slot = first_slot(hash, slots);
        for _ in 0..slots {
            if !taken[slot] {
                break;
            }
            slot = next_slot(slot, slots);
        }
        if taken[slot] {
            return Err(HeapError::Corrupt(
                "a dict has more entries than it counted",
            ));
        }
        taken[slot] = true;
        set_word(&mut table, slot * WIDTH, entry.to_bits());
        set_word(&mut table, slot * WIDTH + 1, hash);
    }
    drop(writing.set_table(table)?);
    Ok(())
}

/// A slot for the key, in a table that has room.
fn spot(writing: &Writing<'_, WIDTH>, hash: u64, key: &[u8]) -> Result<(Words, usize), HeapError> {
    for _ in 0..2 {
        let words = writing.words()?;
        let room = writing.used() < words.len() / WIDTH / 4 * 3;
        match find(words, hash, key)? {
            Spot::At(slot) | Spot::Vacant { slot, used: true } => return Ok((words, slot)),
            Spot::Vacant { slot, used: false } if room => return Ok((words, slot)),
            _ => refit(writing)?,
        }
    }
    Err(HeapError::Corrupt("a dict's count of slots makes no sense"))
}

/// Puts an entry; gives the one it replaces.
fn put(
    writing: &Writing<'_, WIDTH>,
    hash: u64,
    key: &[u8],
    entry: Block,
) -> Result<Option<Block>, HeapError> {
    let (words, slot) = spot(writing, hash, key)?;
    words[slot * WIDTH + 1].store(hash, Ordering::Relaxed);
    writing.put(&words[slot * WIDTH], entry)
}

/// Takes an entry out.
fn take(writing: &Writing<'_, WIDTH>, hash: u64, key: &[u8]) -> Result<Option<Block>, HeapError> {
    let words = writing.words()?;
    let Spot::At(slot) = find(words, hash, key)? else {
        return Ok(None);
    };
    let behind = &words[next_slot(slot, words.len() / WIDTH) * WIDTH];
    let is_last = behind.load(Ordering::Relaxed) == 0;
    let taken = writing.take(&words[slot * WIDTH], if is_last { 0 } else { TAKEN })?;
    if writing.is_sparse() {
        // Without room for a smaller table the large one stays.
        let _ = refit(writing);
    }
    Ok(taken)
}

/// A value out of an entry that nobody else has.
fn into_value<V: DeserializeOwned>(entry: Option<Block>) -> Result<Option<V>, DictError> {
    let Some(block) = entry else { return Ok(None) };
    Ok(Some(unpack(entry::value_of(&block)?)?))
}

impl SharedDictBody {
    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        let [k0, k1] = &self.stripes[0].own;
        let key_word = |word: &AtomicU64| word.load(Ordering::Relaxed);
        SipHasher13::new_with_keys(key_word(k0), key_word(k1)).hash(key)
    }

    #[inline]
    fn stripe(&self, hash: u64) -> &Stripe<WIDTH> {
        &self.stripes[(hash >> 60) as usize % STRIPES]
    }

    /// Keeps all readers and changes out, for one moment's view.
    fn lock_all(&self) -> Vec<Held<'_, WIDTH>> {
        self.stripes.iter().map(Stripe::lock).collect()
    }

    /// Appends the value of the key behind it; holds on what is inside. `None`: no such key.
    #[inline]
    fn copy_out(
        &self,
        hash: u64,
        key_and_value: &mut Vec<u8>,
    ) -> Result<Option<Vec<Hold>>, HeapError> {
        let held = self.stripe(hash).lock();
        let Some(entry) = look_up(held.words()?, hash, key_and_value)? else {
            return Ok(None);
        };
        entry.copy_value(key_and_value);
        Ok(Some(entry.hold()))
    }
}

/// A change of one entry that calls out in between: no other change meanwhile.
struct Change<'a> {
    dict: &'a SharedDictBody,
    hash: u64,
    key: Vec<u8>,
    holds: Vec<Hold>,
    _inside: Inside,
    writing: Writing<'a, WIDTH>,
}

impl<'a> Change<'a> {
    fn begin<Q: Serialize + ?Sized>(
        dict: &'a Shared<SharedDictBody>,
        key: &Q,
    ) -> Result<Self, DictError> {
        let mut bytes = Vec::new();
        let holds = pack(key, &mut bytes)?;
        let hash = dict.hash(&bytes);
        let writing = dict.stripe(hash).write(dict.container())?;
        Ok(Self {
            dict,
            hash,
            key: bytes,
            holds,
            _inside: writing.inside(),
            writing,
        })
    }

    fn old<V: DeserializeOwned>(&self) -> Result<Option<V>, DictError> {
        with_scratch(|bytes| {
            bytes.extend_from_slice(&self.key);
            let Some(_holds) = self.dict.copy_out(self.hash, bytes)? else {
                return Ok(None);
            };
            Ok(Some(unpack(&bytes[self.key.len()..])?))
        })
    }

    /// Ends it with a new value; gives the old entry, to be dropped outside the lock.
    fn put<V: Serialize>(mut self, value: &V) -> Result<Option<Block>, DictError> {
        with_scratch(|bytes| {
            bytes.extend_from_slice(&self.key);
            self.holds.append(&mut pack(value, bytes)?);
            let entry = entry::make(bytes, self.key.len(), &self.holds)?;
            Ok(put(&self.writing, self.hash, &self.key, entry)?)
        })
    }

    /// Ends it with no value.
    fn take(self) -> Result<Option<Block>, DictError> {
        Ok(take(&self.writing, self.hash, &self.key)?)
    }
}

/// All of a dict at one moment, still serialised.
#[derive(Default)]
struct Snapshot {
    bytes: Vec<u8>,
    entries: Vec<(Range<usize>, Range<usize>)>,
    _holds: Vec<Hold>,
}

impl Snapshot {
    fn of(dict: &SharedDictBody, keys: bool, values: bool) -> Result<Self, HeapError> {
        let mut this = Self::default();
        for held in &dict.lock_all() {
            for (reference, _) in entries(held.words()?) {
                let entry = Entry::open(reference)?;
                let start = this.bytes.len();
                if keys {
                    entry.copy_key(&mut this.bytes);
                }
                let middle = this.bytes.len();
                if values {
                    entry.copy_value(&mut this.bytes);
                }
                this.entries.push((start..middle, middle..this.bytes.len()));
                this._holds.extend(entry.hold());
            }
        }
        Ok(this)
    }

    fn decode<T>(
        &self,
        item: impl Fn(&[u8], &[u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DictError> {
        let entries = self.entries.iter().cloned();
        entries
            .map(|(key, value)| Ok(item(&self.bytes[key], &self.bytes[value])?))
            .collect()
    }
}

impl<K, V> SharedDict<K, V> {
    /// Creates an empty dict.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::<(u32, u32), String>::new()?;
    /// assert!(dict.is_empty());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new() -> Result<Self, HeapError> {
        let random = RandomState::new();
        Self::with_hash_key([random.hash_one(0), random.hash_one(1)])
    }

    /// With a key for the hash: tests want the same order each time.
    pub(crate) fn with_hash_key(key: [u64; 2]) -> Result<Self, HeapError> {
        let shared = Shared::create(|dict: &SharedDictBody, _| {
            for (word, part) in dict.stripes[0].own.iter().zip(key) {
                word.store(part, Ordering::Relaxed);
            }
        })?;
        Ok(Self {
            shared,
            _item: PhantomData,
        })
    }

    /// How many entries there are, at one moment.
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// dict.set("key", 1)?;
    /// assert_eq!(dict.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `len(d)`
    #[must_use]
    #[doc(alias = "__len__")]
    pub fn len(&self) -> usize {
        self.shared.lock_all().iter().map(Held::live).sum()
    }

    /// Whether there are none.
    ///
    /// # Examples
    /// ```
    /// assert!(procession::SharedDict::<u8, u8>::new()?.is_empty());
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all entries, at one moment for all others.
    ///
    /// # Crash safety
    /// If the process dies midway, some of the entries are gone.
    ///
    /// # Errors
    /// [`DictError::FromInside`], [`DictError::Heap`].
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// dict.extend([(1, 'a'), (2, 'b')])?;
    /// dict.clear()?;
    /// assert!(dict.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear(&self) -> Result<(), DictError> {
        let mut writing = Vec::with_capacity(STRIPES);
        for stripe in &self.shared.stripes {
            writing.push(stripe.write(self.shared.container())?);
        }
        let mut taken = Vec::new();
        let held: Vec<_> = writing.iter().map(Writing::lock).collect();
        let emptied = writing
            .iter()
            .zip(&held)
            .try_for_each(|(stripe, held)| stripe.take_all(held, &mut taken));
        drop(held);
        drop(writing);
        // The entries are freed here, outside the locks.
        drop(taken);
        Ok(emptied?)
    }
}

#[cfg(all(test, not(procession_loom)))]
impl<K: Serialize, V> SharedDict<K, V> {
    /// How many slots the key's stripe has.
    pub(crate) fn slots_beside(&self, key: &K) -> usize {
        let mut bytes = Vec::new();
        pack(key, &mut bytes).expect("key");
        let hash = self.shared.hash(&bytes);
        let words = self.shared.stripe(hash).lock().words().expect("table");
        words.len() / WIDTH
    }
}

impl<K: Serialize, V: Serialize> SharedDict<K, V> {
    /// Sets the value of a key, whether or not there was one. As [`insert`](Self::insert), but the old value is dropped unread.
    ///
    /// # Errors
    /// [`DictError`].
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// dict.set("limit", 10)?;
    /// dict.set("limit", 20)?;
    /// assert_eq!(dict.get("limit")?, Some(20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `d[key] = value`
    #[doc(alias = "__setitem__")]
    pub fn set(&self, key: K, value: V) -> Result<(), DictError> {
        self.exchange(&key, &value).map(drop)
    }

    /// Sets many entries, one after the other.
    ///
    /// # Errors
    /// [`DictError`]: the entries before the one that failed are set.
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// dict.extend([(1, 'a'), (2, 'b')])?;
    /// assert_eq!(dict.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `d.update(other)`
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<(), DictError> {
        entries
            .into_iter()
            .try_for_each(|(key, value)| self.set(key, value))
    }

    /// Puts an entry; gives the one it replaces.
    fn exchange(&self, key: &K, value: &V) -> Result<Option<Block>, DictError> {
        with_scratch(|bytes| {
            let mut holds = pack(key, bytes)?;
            let key_len = bytes.len();
            holds.append(&mut pack(value, bytes)?);
            let entry = entry::make(bytes, key_len, &holds)?;
            let key = &bytes[..key_len];
            let hash = self.shared.hash(key);
            let writing = self.shared.stripe(hash).write(self.shared.container())?;
            Ok(put(&writing, hash, key, entry)?)
        })
    }
}

impl<K, V> SharedDict<K, V> {
    /// Whether there is an entry with this key.
    ///
    /// # Errors
    /// [`DictError`].
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// dict.set(1, 'a')?;
    /// assert!(dict.contains_key(&1)? && !dict.contains_key(&2)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `key in d`
    #[doc(alias = "__contains__")]
    pub fn contains_key<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<bool, DictError>
    where
        K: Borrow<Q>,
    {
        with_scratch(|bytes| {
            drop(pack(key, bytes)?);
            let hash = self.shared.hash(bytes);
            let held = self.shared.stripe(hash).lock();
            Ok(look_up(held.words()?, hash, bytes)?.is_some())
        })
    }

    /// Removes an entry without reading it; whether there was one.
    ///
    /// # Errors
    /// [`DictError`].
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// dict.set(1, 'a')?;
    /// assert!(dict.remove(&1)? && !dict.remove(&1)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `del d[key]`
    #[doc(alias = "__delitem__")]
    pub fn remove<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<bool, DictError>
    where
        K: Borrow<Q>,
    {
        Ok(self.take(key)?.is_some())
    }

    fn take<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<Option<Block>, DictError> {
        with_scratch(|bytes| {
            drop(pack(key, bytes)?);
            let hash = self.shared.hash(bytes);
            let writing = self.shared.stripe(hash).write(self.shared.container())?;
            Ok(take(&writing, hash, bytes)?)
        })
    }
}

impl<K, V: DeserializeOwned> SharedDict<K, V> {
    /// A copy of the value of a key. A handle in it is live, whatever happens to the entry afterwards.
    ///
    /// # Errors
    /// [`DictError`].
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::<String, Vec<u32>>::new()?;
    /// dict.set("primes".into(), vec![2, 3, 5])?;
    /// assert_eq!(dict.get("primes")?, Some(vec![2, 3, 5]));
    /// assert_eq!(dict.get("squares")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `d.get(key)`
    #[doc(alias = "__getitem__")]
    pub fn get<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<Option<V>, DictError>
    where
        K: Borrow<Q>,
    {
        with_scratch(|bytes| {
            drop(pack(key, bytes)?);
            let key_len = bytes.len();
            self.read(self.shared.hash(bytes), key_len, bytes)
        })
    }

    /// The value of the key that `bytes` consists of.
    #[inline]
    fn read(&self, hash: u64, key_len: usize, bytes: &mut Vec<u8>) -> Result<Option<V>, DictError> {
        let Some(_holds) = self.shared.copy_out(hash, bytes)? else {
            return Ok(None);
        };
        Ok(Some(unpack(&bytes[key_len..])?))
    }

    /// Removes an entry; its value, if there was one.
    ///
    /// # Errors
    /// [`DictError`]. An entry that cannot be read is removed.
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// dict.set(1, 'a')?;
    /// assert_eq!((dict.pop(&1)?, dict.pop(&1)?), (Some('a'), None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `d.pop(key, None)`
    pub fn pop<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<Option<V>, DictError>
    where
        K: Borrow<Q>,
    {
        into_value(self.take(key)?)
    }

    /// A copy of all values, as they were at one moment, in no order.
    ///
    /// # Errors
    /// [`DictError::Decode`], [`DictError::Heap`].
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// dict.set(1, 'a')?;
    /// assert_eq!(dict.values()?, ['a']);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn values(&self) -> Result<Vec<V>, DictError> {
        Snapshot::of(&self.shared, false, true)?.decode(|_, value| unpack(value))
    }
}

impl<K: DeserializeOwned, V> SharedDict<K, V> {
    /// A copy of all keys, as they were at one moment, in no order.
    ///
    /// # Errors
    /// [`DictError::Decode`], [`DictError::Heap`].
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// dict.set(1, 'a')?;
    /// assert_eq!(dict.keys()?, [1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keys(&self) -> Result<Vec<K>, DictError> {
        Snapshot::of(&self.shared, true, false)?.decode(|key, _| unpack(key))
    }
}

impl<K: DeserializeOwned, V: DeserializeOwned> SharedDict<K, V> {
    /// A copy of all entries, as they were at one moment, in no order.
    ///
    /// # Blocking
    /// The dict stands still for the copy (not for the decoding): about 0.1 us for each entry.
    ///
    /// # Errors
    /// [`DictError::Decode`], [`DictError::Heap`].
    ///
    /// # Examples
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// let dict = procession::SharedDict::new()?;
    /// dict.extend([(1, 'a'), (2, 'b')])?;
    /// let copy: BTreeMap<i32, char> = dict.items()?.into_iter().collect();
    /// assert_eq!(copy, BTreeMap::from([(1, 'a'), (2, 'b')]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "copy")]
    pub fn items(&self) -> Result<Vec<(K, V)>, DictError> {
        Snapshot::of(&self.shared, true, true)?
            .decode(|key, value| Ok((unpack(key)?, unpack(value)?)))
    }

    /// Iterates over a copy of all entries, as they were at one moment.
    ///
    /// # Errors
    /// As [`items`](Self::items).
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// dict.extend([("a", 1), ("b", 2)].map(|(name, n)| (name.to_owned(), n)))?;
    /// for (key, value) in dict.iter()? {
    ///     dict.set(key, value * 10)?; // changing it meanwhile is no problem
    /// }
    /// assert_eq!(dict.get("b")?, Some(20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "__iter__")]
    pub fn iter(&self) -> Result<std::vec::IntoIter<(K, V)>, DictError> {
        Ok(self.items()?.into_iter())
    }
}

impl<K: Serialize, V: Serialize + DeserializeOwned> SharedDict<K, V> {
    /// Sets the value of a key; gives the old one.
    ///
    /// # Errors
    /// [`DictError`]. With [`DictError::Decode`] the new value is set and the old one, which could not be read, is gone.
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::new()?;
    /// assert_eq!(dict.insert(1, 'a')?, None);
    /// assert_eq!(dict.insert(1, 'b')?, Some('a'));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&self, key: K, value: V) -> Result<Option<V>, DictError> {
        into_value(self.exchange(&key, &value)?)
    }

    /// Replaces the value of a key by what `change` makes of it: `None` is no entry, before and after. No other change comes in between.
    ///
    /// Other processes read the old value meanwhile. The closure may read this dict, but not change it ([`DictError::FromInside`]); other dicts it may, if nobody does so the
    /// other way round.
    ///
    /// # Blocking
    /// Other changes of keys that share this key's lock, one of 16, wait for the closure.
    ///
    /// # Crash safety
    /// If the closure panics, the old value stays. If the process dies in the closure or later, the value is the old or the new one, and whoever waits goes on.
    ///
    /// # Errors
    /// [`DictError`]: the value is as it was.
    ///
    /// # Examples
    /// ```
    /// let stock = procession::SharedDict::<String, u32>::new()?;
    /// stock.set("apples".into(), 2)?;
    /// let sell = |n: Option<u32>| n.map(|n| n - 1).filter(|&n| n > 0);
    /// stock.update("apples", sell)?;
    /// assert_eq!(stock.get("apples")?, Some(1));
    /// stock.update("apples", sell)?;
    /// assert!(!stock.contains_key("apples")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
        change: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<(), DictError>
    where
        K: Borrow<Q>,
    {
        let begun = Change::begin(&self.shared, key)?;
        let replaced = match change(begun.old()?) {
            Some(value) => begun.put(&value)?,
            None => begun.take()?,
        };
        drop(replaced);
        Ok(())
    }

    /// The value of a key; if there is none, `make`s one and sets it. No other change comes in between.
    ///
    /// What is said of the closure of [`update`](Self::update) is true of this one.
    ///
    /// # Errors
    /// [`DictError`].
    ///
    /// # Examples
    /// ```
    /// let ids = procession::SharedDict::<String, usize>::new()?;
    /// for name in ["anna", "berta", "anna"] {
    ///     ids.get_or_insert_with(name, || name.len())?;
    /// }
    /// assert_eq!(ids.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_or_insert_with<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
        make: impl FnOnce() -> V,
    ) -> Result<V, DictError>
    where
        K: Borrow<Q>,
    {
        if let Some(value) = self.get(key)? {
            return Ok(value);
        }
        let begun = Change::begin(&self.shared, key)?;
        if let Some(value) = begun.old()? {
            return Ok(value);
        }
        let value = make();
        begun.put(&value)?;
        Ok(value)
    }

    /// The value of a key; if there is none, `value`, which is set.
    ///
    /// # Errors
    /// [`DictError`].
    ///
    /// # Examples
    /// ```
    /// let dict = procession::SharedDict::<String, u32>::new()?;
    /// assert_eq!(dict.get_or_insert("retries", 3)?, 3);
    /// assert_eq!(dict.get_or_insert("retries", 5)?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # In Python
    /// `d.setdefault(key, value)`
    #[doc(alias = "setdefault")]
    pub fn get_or_insert<Q: Serialize + ?Sized>(&self, key: &Q, value: V) -> Result<V, DictError>
    where
        K: Borrow<Q>,
    {
        self.get_or_insert_with(key, || value)
    }
}

crate::sync::shared_handle!(SharedDict<K, V>, SharedDictBody, "SharedDict");
