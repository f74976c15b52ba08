//! The channel under every queue and pipe: a chain of ring segments, one lock per side, one bell per side.
//!
//! ```text
//!   producers --P--> tail                                        head <--C-- consumers
//!                     |    segment --next--> segment --next-->     |
//!                     +--------------> first ... last <------------+
//! ```
//!
//! P and C record their owner and are held for the copy of one small record (or one batch), never while sleeping, allocating or calling
//! out. Payloads over [`INLINE_MAX`] (over [`DIRECT_MAX`], if it is only bytes and the ring has room) are blocks; the record carries the reference.
//! An empty channel has no segment; a full one that may grow gets a larger one behind. The order of stores when it does, and what a death leaves:
//!
//! 1. the new segment's block is `ATTACHING`, its `base` is the present tail; 2. `end` of the old one; 3. `next` of the old one (or `first`); 4. `last`; then the record
//!    is written and `tail` stored. Died before 3: the block is in no chain and is freed. After 3: an empty segment is linked, the next producer goes on with it
//!    (if 4 is missing it follows `next`). A consumer leaves a segment only for a record behind its `end`, that is after the store of `tail`, which
//!    comes after 4: so no producer ever looks into a segment that was left.
//!
//! Scenario "redelivery": a consumer that dies before its store of `head` has taken nothing; the next one gets the message.

use super::listeners::Listeners;
use super::ring::{Found, Segment, Tag};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::Waiter;
use crate::heap::{Block, BlockRef, Container, Death, HeapError, ShortWait, the_heap};
use crate::sync::raw::{Commit, Deadline, Port, RawBell, RawCommit, RawLock, Slept};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// Largest payload that travels inside the ring.
pub(crate) const INLINE_MAX: usize = 8 * 1024;
/// Largest payload that is written to the ring, if there is room, where that saves making a parcel of it first. With its header it is half of a pipe's ring.
pub(crate) const DIRECT_MAX: usize = 32 * 1024 - 8;
/// First segment of a channel that grows: this, or what its first record needs.
const FIRST_SEGMENT: u32 = 4 * 1024;
/// Largest segment; beyond, segments are chained.
const LAST_SEGMENT: u32 = 1024 * 1024;
/// Most bytes of records in flight, all segments together: positions are modulo 2^32.
const MAX_IN_FLIGHT: u32 = 1 << 30;

/// How long whoever asks for it waits for P or C; `None`: as long as it takes. Their owner has them for the copy of a small record and gives
/// them back when it dies, but it may be stopped, and its memory may be overwritten.
pub(crate) type Patience = Option<Duration>;
/// The patience of a reaper.
const REAPER: Patience = Some(Duration::from_millis(500));
/// Segments that a chain can have; a longer one is a corrupt circle.
const LONGEST_CHAIN: u32 = MAX_IN_FLIGHT / FIRST_SEGMENT;

/// Nothing more can be put; what is there can be taken.
const CLOSED: u32 = 1;
/// The last reader has gone: nothing more can be put.
const NO_READER: u32 = 2;

/// A channel as it lies in the heap. All zero: empty, unbounded, growing.
#[repr(C, align(64))]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct Channel {
    flags: AtomicU32,
    /// Most items at one time; 0: no limit.
    max_items: AtomicU32,
    /// Bytes of the one segment of a channel that does not grow; 0: it grows.
    fixed: AtomicU32,
    spare: AtomicU32,
    /// The first segment ever linked.
    first: AtomicU64,
    items_bell: RawBell,
    room_bell: RawBell,
    listeners: Listeners,
    idle: [AtomicU64; 1],

    // Producers' line, under P.
    tail: RawCommit,
    /// The segment that producers write to; 0: none yet.
    last: AtomicU64,
    /// A value that `head` had; saves reading the consumers' line.
    head_seen: RawCommit,
    producers: RawLock,
    spare_p: [AtomicU32; 9],

    // Consumers' line, under C.
    head: RawCommit,
    /// The segment that consumers read from; 0: none yet.
    current: AtomicU64,
    tail_seen: RawCommit,
    consumers: RawLock,
    spare_c: [AtomicU32; 9],
}
const _: () = assert!(size_of::<Channel>() == 192);

/// What goes through a channel.
#[derive(Debug)]
pub(crate) enum Parcel<'a> {
    /// At most [`INLINE_MAX`] bytes.
    Inline(&'a [u8]),
    /// A block, the bytes used in it, and whether it carries handles.
    Block {
        block: Block,
        len: u64,
        envelope: bool,
    },
}

/// Where a message goes.
pub(crate) trait Sink {
    /// An inline payload. Called under a lock: must only copy.
    fn take(&mut self, payload: &[u8]);
    /// A payload in a block.
    fn keep(&mut self, delivery: Delivery);
}

/// A message that came in a block.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) block: Block,
    pub(crate) len: u64,
    pub(crate) envelope: bool,
}

/// Why nothing was put; a block comes back.
#[derive(Debug)]
pub(crate) enum PutFault {
    Full,
    Closed,
    NoReader,
    TimedOut,
    /// P was not to be had within the caller's patience.
    Busy,
    Heap(Box<HeapError>),
}

/// Why nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GetFault {
    Empty,
    /// Closed, and drained.
    Closed,
    TimedOut,
    /// C was not to be had within the caller's patience.
    Busy,
    Corrupt(Box<HeapError>),
}

impl PutFault {
    #[cold]
    fn heap(error: HeapError) -> Self {
        Self::Heap(Box::new(error))
    }
}

impl GetFault {
    #[cold]
    fn corrupt(error: HeapError) -> Self {
        Self::Corrupt(Box::new(error))
    }
}

impl Channel {
    /// Sets the bounds: most items (0: none), and the ring's size if it is not to grow.
    pub(crate) fn init(&self, max_items: u32, fixed_bytes: u32) {
        self.max_items.store(max_items, Ordering::Relaxed);
        self.fixed.store(fixed_bytes, Ordering::Relaxed);
    }

    /// Items put and not yet taken.
    pub(crate) fn len(&self) -> usize {
        // Head first: it never passes a tail read later, so the difference is never negative.
        let head = self.head.theirs();
        let tail = self.tail.theirs();
        tail.items.wrapping_sub(head.items) as usize
    }

    /// Items ever put, modulo 2^32.
    pub(crate) fn ever_put(&self) -> u32 {
        self.tail.look().items
    }

    pub(crate) fn max_items(&self) -> usize {
        self.max_items.load(Ordering::Relaxed) as usize
    }

    #[inline]
    pub(crate) fn has_items(&self) -> bool {
        self.head.look() != self.tail.look()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.flags.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Nothing more can be put; wakes everybody who waits.
    pub(crate) fn close(&self) {
        self.raise(CLOSED);
    }

    /// The last reader is gone.
    pub(crate) fn close_for_readers(&self) {
        self.raise(NO_READER);
    }

    fn raise(&self, flag: u32) {
        // Under P: a put that saw no flag is complete before anybody hears that nothing more will come.
        let guard = self.lock(&self.producers);
        self.flags.fetch_or(flag, Ordering::SeqCst);
        drop(guard);
        let port = Waiter::new();
        self.items_bell.ring_all(&port);
        self.room_bell.ring_all(&port);
        self.tell_listeners();
    }

    /// Whether a taker would not have to wait: there is an item, or there will never be one.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.has_items() || self.is_closed()
    }

    /// What takers sleep on.
    pub(crate) fn items_bell(&self) -> &RawBell {
        &self.items_bell
    }

    /// What putters sleep on.
    pub(crate) fn room_bell(&self) -> &RawBell {
        &self.room_bell
    }

    /// Everything ever taken, to see whether there is [more room](Self::has_more_room) since.
    pub(crate) fn taken(&self) -> Commit {
        self.head.look()
    }

    /// Whether a putter that found no room should try again.
    pub(crate) fn has_more_room(&self, taken: Commit) -> bool {
        self.head.look() != taken || self.flags.load(Ordering::SeqCst) != 0
    }

    pub(crate) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// After a change and its fence: rings those who wait through a file descriptor. The line is that of the bell, just read.
    #[inline]
    fn tell_listeners(&self) {
        if self.listeners.any() {
            self.listeners.notify(|| self.is_ready());
        }
    }

    /// Puts one parcel without waiting. On failure a block is still in `parcel`.
    #[inline]
    pub(crate) fn try_put(&self, me: Container, parcel: &mut Parcel<'_>) -> Result<(), PutFault> {
        self.try_put_within(me, parcel, None)
    }

    /// As [`Channel::try_put`], with so much patience.
    #[inline]
    pub(crate) fn try_put_within(
        &self,
        me: Container,
        parcel: &mut Parcel<'_>,
        patience: Patience,
    ) -> Result<(), PutFault> {
        match parcel {
            Parcel::Inline(bytes) => self.put_record(me, Tag::Inline, bytes, &[], patience)?,
            Parcel::Block { .. } => self.try_put_block(me, parcel, patience)?,
        }
        self.items_bell.ring(&ShortWait, 1);
        self.tell_listeners();
        Ok(())
    }

    /// Puts the bytes `head` and `body`, at most [`DIRECT_MAX`], as one inline payload, without waiting.
    #[inline]
    pub(crate) fn try_put_bytes(
        &self,
        me: Container,
        head: &[u8],
        body: &[u8],
    ) -> Result<(), PutFault> {
        self.put_record(me, Tag::Inline, head, body, None)?;
        self.items_bell.ring(&ShortWait, 1);
        self.tell_listeners();
        Ok(())
    }

    /// Puts one parcel; waits for room until `deadline`.
    #[inline]
    pub(crate) fn put(
        &self,
        me: Container,
        parcel: &mut Parcel<'_>,
        deadline: Deadline,
    ) -> Result<(), PutFault> {
        match self.try_put(me, parcel) {
            Err(PutFault::Full) => self.put_slow(me, parcel, deadline),
            result => result,
        }
    }

    #[cold]
    fn put_slow(
        &self,
        me: Container,
        parcel: &mut Parcel<'_>,
        deadline: Deadline,
    ) -> Result<(), PutFault> {
        let waiter = Waiter::new();
        let (mut turn, mut late) = (0, false);
        loop {
            let head = self.head.look();
            match self.try_put(me, parcel) {
                Err(PutFault::Full) => {}
                result => return result,
            }
            if late {
                return Err(PutFault::TimedOut);
            }
            let moved = || self.has_more_room(head);
            self.spin_for_room(&waiter, &mut turn);
            if !moved() {
                late = self.room_bell.sleep(&waiter, deadline, moved) == Slept::TimedOut;
            }
        }
    }

    /// Spins until a good part of the ring is free. Going on at the first free byte would make both sides hand the same two cache lines over
    /// for every single record; this way they meet once in many.
    fn spin_for_room(&self, waiter: &Waiter, turn: &mut u32) {
        let tail = self.tail.own();
        let fixed = self.fixed.load(Ordering::Relaxed);
        let max = self.max_items.load(Ordering::Relaxed);
        loop {
            let head = self.head.theirs();
            let few_bytes = fixed == 0 || tail.bytes.wrapping_sub(head.bytes) <= fixed / 2;
            let few_items = max == 0 || tail.items.wrapping_sub(head.items) <= max / 2;
            let over = (few_bytes && few_items) || self.flags.load(Ordering::Relaxed) != 0;
            if over || !waiter.spin(*turn) {
                return;
            }
            *turn += 1;
        }
    }

    /// Takes one item without waiting; an inline payload is appended to `into`.
    #[inline]
    pub(crate) fn try_get(&self, me: Container, into: &mut impl Sink) -> Result<(), GetFault> {
        let taken = self.take_record(me, into);
        self.after_take(&taken, 1);
        taken
    }

    /// Takes one item; waits for it until `deadline`.
    #[inline]
    pub(crate) fn get(
        &self,
        me: Container,
        into: &mut impl Sink,
        deadline: Deadline,
    ) -> Result<(), GetFault> {
        match self.try_get(me, into) {
            Err(GetFault::Empty) => self.get_slow(me, into, deadline),
            result => result,
        }
    }

    #[cold]
    fn get_slow(
        &self,
        me: Container,
        into: &mut impl Sink,
        deadline: Deadline,
    ) -> Result<(), GetFault> {
        self.take_when_ready(deadline, || self.try_get(me, into))
    }

    /// Tries `take` until it finds something, waiting in between, at the longest until `deadline`.
    fn take_when_ready(
        &self,
        deadline: Deadline,
        mut take: impl FnMut() -> Result<(), GetFault>,
    ) -> Result<(), GetFault> {
        let waiter = Waiter::new();
        let (mut turn, mut late) = (0, false);
        loop {
            let ready = || self.is_ready();
            while !ready() && waiter.spin(turn) {
                turn += 1;
            }
            match take() {
                Err(GetFault::Empty) if late => return Err(GetFault::TimedOut),
                Err(GetFault::Empty) => {}
                result => return result,
            }
            late = self.items_bell.sleep(&waiter, deadline, ready) == Slept::TimedOut;
        }
    }

    /// Puts as many payloads of a batch as there is room for, from number `from` on, under one lock and with one commit; waits for
    /// room for the first until `deadline`. Returns how many.
    pub(crate) fn put_batch(
        &self,
        me: Container,
        batch: &Batch,
        from: usize,
        deadline: Deadline,
    ) -> Result<usize, PutFault> {
        let waiter = Waiter::new();
        let (mut turn, mut late) = (0, false);
        loop {
            let head = self.head.look();
            match self.try_put_batch(me, batch, from, None) {
                Err(PutFault::Full) => {}
                result => return result,
            }
            if late {
                return Err(PutFault::TimedOut);
            }
            let moved = || self.has_more_room(head);
            while waiter.spin(turn) && !moved() {
                turn += 1;
            }
            if !moved() {
                late = self.room_bell.sleep(&waiter, deadline, moved) == Slept::TimedOut;
            }
        }
    }

    /// As [`Channel::put_batch`], without waiting for room.
    pub(crate) fn try_put_batch(
        &self,
        me: Container,
        batch: &Batch,
        from: usize,
        patience: Patience,
    ) -> Result<usize, PutFault> {
        loop {
            let guard = self
                .lock_within(&self.producers, patience)
                .ok_or(PutFault::Busy)?;
            let start = self.tail.own();
            let (mut tail, mut crowded) = (start, None);
            for payload in batch.iter_from(from) {
                match self.place_under_lock(tail, payload) {
                    Ok(next) => tail = next,
                    Err(why) => {
                        crowded = Some(why);
                        break;
                    }
                }
            }
            let placed = tail.items.wrapping_sub(start.items);
            if placed != 0 {
                // The one store that makes the whole batch visible.
                self.tail.publish(tail);
            }
            drop(guard);
            match crowded {
                _ if placed != 0 => {
                    self.items_bell.ring(&ShortWait, placed);
                    self.tell_listeners();
                    return Ok(placed as usize);
                }
                None => return Ok(0),
                Some(Crowded::Fault(fault)) => return Err(fault),
                Some(Crowded::NeedSegment { base, capacity }) => {
                    self.grow(me, base, capacity, patience)?;
                }
            }
        }
    }

    /// Writes a record behind `tail`, which nobody sees yet. Under P.
    fn place_under_lock(&self, tail: Commit, payload: &[u8]) -> Result<Commit, Crowded> {
        match self.flags.load(Ordering::Relaxed) {
            0 => {}
            flags if flags & CLOSED != 0 => return Err(Crowded::Fault(PutFault::Closed)),
            _ => return Err(Crowded::Fault(PutFault::NoReader)),
        }
        self.check_bound(tail)?;
        let size = Segment::record_size(payload.len() as u32);
        let Some(segment) = self.last_segment(tail.bytes)? else {
            return Err(self.need_segment(tail, size, 0));
        };
        let seen = self.head_seen.own();
        if segment.room(tail.bytes, seen.bytes, size).is_none() {
            let head = self.see_head();
            if segment.room(tail.bytes, head.bytes, size).is_none() {
                return Err(self.crowded(tail, head, size, segment.capacity()));
            }
        }
        Ok(tail.advance(segment.write(tail.bytes, Tag::Inline, payload, &[])))
    }

    /// Takes up to `max` items under one lock and with one commit: either inline ones, which are added to `into`, or one block.
    /// Waits for the first until `deadline`.
    pub(crate) fn get_batch(
        &self,
        me: Container,
        max: usize,
        into: &mut Batch,
        deadline: Deadline,
    ) -> Result<(), GetFault> {
        self.take_when_ready(deadline, || self.try_get_batch(me, max, into, None))
    }

    /// As [`Channel::get_batch`], without waiting for an item.
    pub(crate) fn try_get_batch(
        &self,
        me: Container,
        max: usize,
        into: &mut Batch,
        patience: Patience,
    ) -> Result<(), GetFault> {
        let mut retired = None;
        let before = into.len();
        let guard = self
            .lock_within(&self.consumers, patience)
            .ok_or(GetFault::Busy)?;
        let result = self.take_batch_under_lock(me, max, into, &mut retired);
        drop(guard);
        drop(retired);
        let taken = (into.len() - before).max(1);
        self.after_take(&result, u32::try_from(taken).unwrap_or(u32::MAX));
        result
    }

    /// Takes all items there are, under one lock: no other consumer takes one in between. They come as batches, in order; the last result says why there
    /// is no more.
    pub(crate) fn try_get_all(&self, me: Container, patience: Patience) -> (Vec<Batch>, GetFault) {
        let (mut batches, mut segments) = (Vec::new(), Vec::new());
        let Some(guard) = self.lock_within(&self.consumers, patience) else {
            return (batches, GetFault::Busy);
        };
        let fault = loop {
            let (mut batch, mut retired) = (Batch::default(), None);
            let taken = self.take_batch_under_lock(me, usize::MAX, &mut batch, &mut retired);
            segments.extend(retired);
            match taken {
                Ok(()) => batches.push(batch),
                Err(fault) => break fault,
            }
        };
        drop(guard);
        drop(segments);
        self.after_take(&Ok(()), u32::MAX >> 1);
        (batches, fault)
    }

    fn take_batch_under_lock(
        &self,
        me: Container,
        max: usize,
        into: &mut Batch,
        retired: &mut Option<Block>,
    ) -> Result<(), GetFault> {
        let head = self.head.own();
        let tail = self.tail.theirs();
        self.tail_seen.publish(tail);
        if tail == head {
            return Err(self.why_empty());
        }
        let (segment, first, limit) = self.oldest_record(me, head, tail, retired)?;
        // Blocks change owner one by one.
        if first.tag != Tag::Inline {
            return self.accept(me, head, &segment, first, into);
        }
        let (mut at, mut found) = (head, Some(first));
        for _ in 0..max {
            let Some(record) = found.filter(|record| record.tag == Tag::Inline) else {
                break;
            };
            segment.payload(&record, |bytes| into.push(bytes));
            at = at.advance(record.end);
            found = segment.find(at.bytes, limit);
        }
        // Release: as in `accept`.
        self.head.publish(at);
        Ok(())
    }

    /// Waits until there is an item (or the channel is closed), without taking it. `false`: the deadline passed.
    pub(crate) fn wait_items(&self, deadline: Deadline) -> bool {
        let waiter = Waiter::new();
        let ready = || self.has_items() || self.is_closed();
        let mut turn = 0;
        while !ready() && waiter.spin(turn) {
            turn += 1;
        }
        while !ready() {
            if self.items_bell.sleep(&waiter, deadline, ready) == Slept::TimedOut {
                return ready();
            }
        }
        // The ring that woke us was meant for whoever takes the item; we take none.
        self.items_bell.ring(&waiter, 1);
        true
    }

    /// After `count` items were taken: room for producers; and if there is more, the next consumer (baton). A record that made no sense
    /// left room, too.
    #[inline]
    fn after_take(&self, taken: &Result<(), GetFault>, count: u32) {
        if !matches!(taken, Ok(()) | Err(GetFault::Corrupt(_))) {
            return;
        }
        self.room_bell.ring(&ShortWait, count);
        if self.items_bell.has_sleepers() && self.has_items() {
            self.items_bell.ring(&ShortWait, 1);
        }
    }

    fn why_empty(&self) -> GetFault {
        // Closed first, then look again: what was put before the close is never missed.
        if self.is_closed() && !self.has_items() {
            GetFault::Closed
        } else {
            GetFault::Empty
        }
    }

    #[cold]
    fn try_put_block(
        &self,
        me: Container,
        parcel: &mut Parcel<'_>,
        patience: Patience,
    ) -> Result<(), PutFault> {
        let Parcel::Block {
            block,
            len,
            envelope,
        } = std::mem::replace(parcel, Parcel::Inline(&[]))
        else {
            return Ok(());
        };
        let tag = if envelope { Tag::Envelope } else { Tag::Block };
        let attached = block.attach(me, |reference| {
            let mut record = [0; 16];
            record[..8].copy_from_slice(&reference.to_bits().to_ne_bytes());
            record[8..].copy_from_slice(&len.to_ne_bytes());
            self.put_record(me, tag, &record, &[], patience)
        });
        attached.map_err(|(block, fault)| {
            *parcel = Parcel::Block {
                block,
                len,
                envelope,
            };
            fault
        })
    }

    /// Takes P, makes room, writes, commits.
    #[inline]
    fn put_record(
        &self,
        me: Container,
        tag: Tag,
        payload: &[u8],
        more: &[u8],
        patience: Patience,
    ) -> Result<(), PutFault> {
        loop {
            let _guard = self
                .lock_within(&self.producers, patience)
                .ok_or(PutFault::Busy)?;
            match self.put_under_lock(tag, payload, more) {
                Err(Crowded::NeedSegment { base, capacity }) => {
                    drop(_guard);
                    // Allocation happens outside the lock; whoever comes first links its segment, a second one is freed.
                    self.grow(me, base, capacity, patience)?;
                }
                Err(Crowded::Fault(fault)) => return Err(fault),
                Ok(()) => return Ok(()),
            }
        }
    }

    #[inline]
    fn put_under_lock(&self, tag: Tag, payload: &[u8], more: &[u8]) -> Result<(), Crowded> {
        let flags = self.flags.load(Ordering::Relaxed);
        if flags != 0 {
            let fault = if flags & CLOSED != 0 {
                PutFault::Closed
            } else {
                PutFault::NoReader
            };
            return Err(Crowded::Fault(fault));
        }
        let tail = self.tail.own();
        self.check_bound(tail)?;
        let size = Segment::record_size((payload.len() + more.len()) as u32);
        let Some(segment) = self.last_segment(tail.bytes)? else {
            return Err(self.need_segment(tail, size, 0));
        };
        let mut head = self.head_seen.own();
        let mut need = segment.room(tail.bytes, head.bytes, size);
        if need.is_none() {
            head = self.see_head();
            need = segment.room(tail.bytes, head.bytes, size);
        }
        if need.is_none() {
            return Err(self.crowded(tail, head, size, segment.capacity()));
        }
        let end = segment.write(tail.bytes, tag, payload, more);
        // The one store that makes the record visible; pairs with the Acquire in `take_under_lock`.
        self.tail.publish(tail.advance(end));
        Ok(())
    }

    #[inline]
    fn check_bound(&self, tail: Commit) -> Result<(), Crowded> {
        let max = self.max_items.load(Ordering::Relaxed);
        if max == 0 {
            return Ok(());
        }
        let seen = self.head_seen.own();
        if tail.items.wrapping_sub(seen.items) < max
            || tail.items.wrapping_sub(self.see_head().items) < max
        {
            Ok(())
        } else {
            Err(Crowded::Fault(PutFault::Full))
        }
    }

    /// Reads the consumers' line and notes it. Acquire: what was read before `head` moved is really free.
    fn see_head(&self) -> Commit {
        let head = self.head.theirs();
        self.head_seen.publish(head);
        head
    }

    fn crowded(&self, tail: Commit, head: Commit, size: u32, capacity: u32) -> Crowded {
        let in_flight = tail.bytes.wrapping_sub(head.bytes);
        if self.fixed.load(Ordering::Relaxed) != 0 || in_flight > MAX_IN_FLIGHT - 2 * LAST_SEGMENT {
            return Crowded::Fault(PutFault::Full);
        }
        self.need_segment(tail, size, capacity)
    }

    fn need_segment(&self, tail: Commit, size: u32, capacity: u32) -> Crowded {
        let fixed = self.fixed.load(Ordering::Relaxed);
        let wish = if fixed != 0 {
            fixed
        } else {
            (capacity * 2).clamp(FIRST_SEGMENT, LAST_SEGMENT)
        };
        let capacity = wish.max((size * 2).next_power_of_two());
        Crowded::NeedSegment {
            base: tail.bytes,
            capacity,
        }
    }

    /// The segment to write to, at `tail`; goes on to one that a dead producer linked.
    #[inline]
    fn last_segment(&self, tail: u32) -> Result<Option<Segment>, Crowded> {
        let mut reference = self.last.load(Ordering::Relaxed);
        if reference == 0 {
            reference = self.first.load(Ordering::Acquire);
            if reference == 0 {
                return Ok(None);
            }
            self.last.store(reference, Ordering::Relaxed);
        }
        let mut segment = Segment::open(reference, self.place())
            .map_err(|error| Crowded::Fault(PutFault::heap(error)))?;
        for _ in 0..LONGEST_CHAIN {
            let next = segment.head.next.load(Ordering::Acquire);
            if next == 0 {
                segment.keep_near(tail);
                return Ok(Some(segment));
            }
            self.last.store(next, Ordering::Release);
            segment = Segment::open(next, self.place())
                .map_err(|error| Crowded::Fault(PutFault::heap(error)))?;
        }
        let circle = HeapError::Corrupt("the segments of a channel form a circle");
        Err(Crowded::Fault(PutFault::heap(circle)))
    }

    /// Where it lies in the heap, which no other channel does.
    #[inline]
    fn place(&self) -> u64 {
        the_heap().offset_of(NonNull::from(self).cast()) as u64
    }

    /// Allocates a segment and links it behind the last one, unless somebody else did meanwhile.
    #[cold]
    fn grow(
        &self,
        me: Container,
        base: u32,
        capacity: u32,
        patience: Patience,
    ) -> Result<(), PutFault> {
        let mut block = Block::alloc(Segment::block_size(capacity)).map_err(PutFault::heap)?;
        Segment::format(&mut block, self.place(), base, capacity);
        let linked = block.attach(me, |reference| {
            let _guard = self
                .lock_within(&self.producers, patience)
                .ok_or(Some(PutFault::Busy))?;
            self.link(base, capacity, reference)
        });
        // Not linked: the block comes back and is freed; the caller looks again.
        match linked {
            Ok(()) | Err((_, None)) => Ok(()),
            Err((_, Some(fault))) => Err(fault),
        }
    }

    fn link(&self, base: u32, capacity: u32, reference: BlockRef) -> Result<(), Option<PutFault>> {
        // Somebody put something, or linked a segment, since the base was read.
        if self.tail.own().bytes != base {
            return Err(None);
        }
        let last = match self.last_segment(base) {
            Ok(last) => last,
            Err(Crowded::Fault(fault)) => return Err(Some(fault)),
            Err(Crowded::NeedSegment { .. }) => return Err(None),
        };
        if last.is_some_and(|last| last.is_fresh(base, capacity)) {
            return Err(None);
        }
        match last {
            None => self.first.store(reference.to_bits(), Ordering::Release),
            Some(last) => {
                last.set_end(base);
                last.head.next.store(reference.to_bits(), Ordering::Release);
            }
        }
        self.last.store(reference.to_bits(), Ordering::Release);
        Ok(())
    }

    /// Takes C, finds the oldest record, copies it out, commits.
    #[inline]
    fn take_record(&self, me: Container, into: &mut impl Sink) -> Result<(), GetFault> {
        let mut retired = None;
        let guard = self.lock(&self.consumers);
        let result = self.take_under_lock(me, into, &mut retired);
        drop(guard);
        // A segment that was left is freed outside the lock.
        drop(retired);
        result
    }

    #[inline]
    fn take_under_lock(
        &self,
        me: Container,
        into: &mut impl Sink,
        retired: &mut Option<Block>,
    ) -> Result<(), GetFault> {
        let head = self.head.own();
        let mut tail = self.tail_seen.own();
        if tail == head || tail.bytes.wrapping_sub(head.bytes) > MAX_IN_FLIGHT {
            tail = self.tail.theirs();
            self.tail_seen.publish(tail);
            if tail == head {
                return Err(self.why_empty());
            }
        }
        let (segment, found, _) = self.oldest_record(me, head, tail, retired)?;
        self.accept(me, head, &segment, found, into)
    }

    /// The record at `head`, its segment, and how far that segment's records go. The caller saw that there is one before `tail`.
    #[inline]
    fn oldest_record(
        &self,
        me: Container,
        head: Commit,
        tail: Commit,
        retired: &mut Option<Block>,
    ) -> Result<(Segment, Found, u32), GetFault> {
        let segment = self
            .current_segment(me, head, retired)
            .map_err(|error| self.give_up(error))?;
        // What lies behind a segment that has a successor lies in the successor.
        let limit = if segment.head.next.load(Ordering::Acquire) == 0 {
            tail.bytes
        } else {
            segment.end()
        };
        match segment.find(head.bytes, limit) {
            Some(found) => Ok((segment, found, limit)),
            None => Err(self.give_up(HeapError::Corrupt("a record in a channel makes no sense"))),
        }
    }

    #[inline]
    fn accept(
        &self,
        me: Container,
        head: Commit,
        segment: &Segment,
        found: Found,
        into: &mut impl Sink,
    ) -> Result<(), GetFault> {
        // Our reads are done before a producer that sees it reuses the bytes.
        let commit = || self.head.publish(head.advance(found.end));
        if found.tag == Tag::Inline {
            segment.payload(&found, |bytes| into.take(bytes));
            commit();
            return Ok(());
        }
        let (reference, len) = segment.payload(&found, decode_reference);
        let detached = reference
            .ok_or(HeapError::Corrupt("a message refers to no block"))
            .and_then(|reference| Block::detach(reference, me, commit));
        match detached {
            Ok(block) if len <= block.capacity() as u64 => {
                let envelope = found.tag == Tag::Envelope;
                into.keep(Delivery {
                    block,
                    len,
                    envelope,
                });
                Ok(())
            }
            Ok(_) => Err(GetFault::corrupt(HeapError::Corrupt(
                "a message is longer than its block",
            ))),
            Err(error) => {
                // Only this one message is lost.
                commit();
                Err(GetFault::corrupt(error))
            }
        }
    }

    /// The segment that position `head` lies in; leaves the one before, which is handed out to be freed.
    #[inline]
    fn current_segment(
        &self,
        me: Container,
        head: Commit,
        retired: &mut Option<Block>,
    ) -> Result<Segment, HeapError> {
        let mut reference = self.current.load(Ordering::Relaxed);
        if reference == 0 {
            reference = self.first.load(Ordering::Acquire);
            self.current.store(reference, Ordering::Relaxed);
        }
        let mut segment = Segment::open(reference, self.place())?;
        loop {
            let next = segment.head.next.load(Ordering::Acquire);
            if next == 0 || segment.covers(head.bytes) {
                return Ok(segment);
            }
            let old = BlockRef::from_bits(reference)
                .ok_or(HeapError::Corrupt("not a segment reference"))?;
            *retired = Some(Block::detach(old, me, || {
                self.current.store(next, Ordering::SeqCst)
            })?);
            reference = next;
            segment = Segment::open(reference, self.place())?;
        }
    }

    /// The records cannot be followed any more: everything in flight is lost, what comes later is not (the next look for
    /// the current segment passes by those that `head` has left behind).
    fn give_up(&self, error: HeapError) -> GetFault {
        let tail = self.tail.theirs();
        self.head.publish(tail);
        GetFault::corrupt(error)
    }

    #[inline]
    fn lock<'a>(&'a self, lock: &'a RawLock) -> Guard<'a> {
        // Recovered or not makes no difference: every change under these locks is one store. Without a deadline this always succeeds.
        let _ = lock.acquire(&ShortWait, None);
        Guard { lock }
    }

    /// P or C, if it is to be had within the caller's patience.
    #[inline]
    fn lock_within<'a>(&'a self, lock: &'a RawLock, patience: Patience) -> Option<Guard<'a>> {
        if lock.try_acquire(&ShortWait).is_err() {
            let deadline = patience.map(|patience| Instant::now() + patience);
            lock.acquire(&ShortWait, deadline).ok()?;
        }
        Some(Guard { lock })
    }

    /// Takes C for good.
    #[cfg(test)]
    pub(crate) fn keep_consumers_out(&self) {
        std::mem::forget(self.lock(&self.consumers));
    }

    /// Whether somebody holds C, by what its word says.
    pub(crate) fn consumers_are_busy(&self) -> bool {
        self.consumers.owner().is_some()
    }

    /// The same of P.
    pub(crate) fn producers_are_busy(&self) -> bool {
        self.producers.owner().is_some()
    }

    /// Frees P and C, whoever has them by what their words say. For whoever is the only one left that uses the channel.
    pub(crate) fn free_locks(&self) {
        for lock in [&self.producers, &self.consumers] {
            // Free already: as good.
            let _ = lock.release(&ShortWait);
        }
    }

    /// A participant died: give its locks back, wake who may have waited for its wake.
    pub(crate) fn reap(&self, death: Death) {
        let port = Waiter::new();
        self.producers.reap(&port, death.owner);
        self.consumers.reap(&port, death.owner);
        self.items_bell.reap(&port);
        self.room_bell.reap(&port);
        self.listeners.reap(death.owner, || self.is_ready());
    }

    /// Whether the block is a message in flight or a segment of this channel.
    pub(crate) fn contains(&self, block: BlockRef) -> bool {
        let locks = (
            self.lock_within(&self.producers, REAPER),
            self.lock_within(&self.consumers, REAPER),
        );
        let (Some(_), Some(_)) = &locks else {
            // Its words were overwritten, or somebody is stopped: what may be in use is not freed.
            return true;
        };
        let mut found = false;
        self.each_segment(|reference, segment, from, to| {
            found |= reference == block.to_bits() || has_record(segment, from, to, block);
        });
        found || self.listeners.contains(block)
    }

    /// Frees everything in flight and every segment. Can be done again after a death midway.
    pub(crate) fn destroy(&self, me: Container) {
        self.listeners.destroy(me);
        // Nobody else is left; what the words say was said by somebody dead, or makes no sense.
        self.free_locks();
        while self.has_items() {
            let _ = self.take_record(me, &mut Discard);
        }
        let mut reference = match self.current.load(Ordering::SeqCst) {
            0 => self.first.load(Ordering::SeqCst),
            reference => reference,
        };
        while let (Some(block), Ok(segment)) = (
            BlockRef::from_bits(reference),
            Segment::open(reference, self.place()),
        ) {
            let next = segment.head.next.load(Ordering::SeqCst);
            let freed = Block::detach(block, me, || self.current.store(next, Ordering::SeqCst));
            if freed.is_err() || next == 0 {
                break;
            }
            reference = next;
        }
    }

    /// Calls `f` for each segment with the positions of the records in it. Under P and C.
    fn each_segment(&self, mut f: impl FnMut(u64, &Segment, u32, u32)) {
        let (head, tail) = (self.head.look(), self.tail.look());
        let mut reference = match self.current.load(Ordering::SeqCst) {
            0 => self.first.load(Ordering::SeqCst),
            reference => reference,
        };
        let mut from = head.bytes;
        for _ in 0..LONGEST_CHAIN {
            let Ok(segment) = Segment::open(reference, self.place()) else {
                return;
            };
            let next = segment.head.next.load(Ordering::SeqCst);
            let to = if next == 0 { tail.bytes } else { segment.end() };
            f(reference, &segment, from, to);
            if next == 0 {
                return;
            }
            (reference, from) = (next, to);
        }
    }
}

/// Drops what it gets, and with a block the holds in it.
struct Discard;

impl Sink for Discard {
    fn take(&mut self, _payload: &[u8]) {}
    fn keep(&mut self, _delivery: Delivery) {}
}

/// Payloads one after the other, or one message in a block.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    delivery: Option<Delivery>,
}

impl Sink for Batch {
    fn take(&mut self, payload: &[u8]) {
        self.push(payload);
    }

    fn keep(&mut self, delivery: Delivery) {
        self.delivery = Some(delivery);
    }
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all payloads.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn take_delivery(&mut self) -> Option<Delivery> {
        self.delivery.take()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.delivery = None;
    }

    /// The payloads from number `from` on.
    pub(crate) fn iter_from(&self, from: usize) -> impl Iterator<Item = &[u8]> {
        let end_of = |index: usize| self.ends[index];
        (from..self.ends.len()).map(move |index| {
            let start = index.checked_sub(1).map_or(0, end_of);
            &self.bytes[start..end_of(index)]
        })
    }
}

/// Why there is no room under P.
enum Crowded {
    NeedSegment { base: u32, capacity: u32 },
    Fault(PutFault),
}

/// P or C, held.
struct Guard<'a> {
    lock: &'a RawLock,
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Taken from us only if we were proved dead.
        let _ = self.lock.release(&ShortWait);
        // Whoever released looks at a bell next; what it committed must be visible before (Dekker, `bell.rs`). On x86 the
        // locked instruction of the release is that fence.
        #[cfg(not(target_arch = "x86_64"))]
        crate::atomic::fence(Ordering::SeqCst);
    }
}

fn decode_reference(bytes: &[u8]) -> (Option<BlockRef>, u64) {
    let word = |at: usize| {
        bytes
            .get(at..at + 8)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_ne_bytes)
    };
    (BlockRef::from_bits(word(0)), word(8))
}

fn has_record(segment: &Segment, mut from: u32, to: u32, block: BlockRef) -> bool {
    while let Some(found) = segment.find(from, to) {
        if found.tag != Tag::Inline && segment.payload(&found, decode_reference).0 == Some(block) {
            return true;
        }
        from = found.end;
    }
    false
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use super::*;
    use crate::channel::queue::SharedQueue;
    use crate::heap::Shared;

    #[derive(Default)]
    struct Last(Vec<u8>);

    impl Sink for Last {
        fn take(&mut self, payload: &[u8]) {
            self.0 = payload.to_vec();
        }
        fn keep(&mut self, _delivery: Delivery) {}
    }

    fn queue(fixed: u32) -> Shared<SharedQueue> {
        Shared::create(|queue: &SharedQueue, _| queue.channel.init(0, fixed)).expect("queue")
    }

    fn put(queue: &Shared<SharedQueue>, number: u64) -> bool {
        let bytes = number.to_ne_bytes();
        queue
            .channel
            .try_put(queue.container(), &mut Parcel::Inline(&bytes))
            .is_ok()
    }

    fn get(queue: &Shared<SharedQueue>) -> Option<u64> {
        let mut last = Last::default();
        queue.channel.try_get(queue.container(), &mut last).ok()?;
        last.0.try_into().ok().map(u64::from_ne_bytes)
    }

    /// An empty channel after so many bytes went through its one segment.
    fn carry(queue: &Shared<SharedQueue>, bytes: u32) {
        assert!(put(queue, 0) && get(queue).is_some());
        let channel = &queue.channel;
        for word in [
            &channel.tail,
            &channel.head,
            &channel.head_seen,
            &channel.tail_seen,
        ] {
            word.publish(Commit { items: 1, bytes });
        }
    }

    #[test]
    fn a_full_ring_is_full_wherever_its_positions_wrap() {
        for before_the_wrap in [16, 64, 1024, 4096] {
            let queue = queue(4096);
            carry(&queue, 0u32.wrapping_sub(before_the_wrap));
            let placed = (0..1000).take_while(|&number| put(&queue, number)).count();
            assert_eq!(placed, 4096 / 16, "16 bytes each in 4096");
            assert_eq!(
                (0..placed).map_while(|_| get(&queue)).collect::<Vec<_>>(),
                (0..placed as u64).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_segment_whose_positions_wrapped_is_read_to_its_end() {
        let queue = queue(0);
        carry(&queue, 0u32.wrapping_sub(1024));
        assert!((0..10_000).all(|number| put(&queue, number)));
        assert!((0..10_000).all(|number| get(&queue) == Some(number)));
    }
    #[test]
    fn nobody_hears_of_the_end_while_a_put_is_under_way() {
        let queue = queue(0);
        let putting = queue.channel.lock(&queue.channel.producers);
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| queue.channel.close());
            std::thread::sleep(std::time::Duration::from_millis(50));
            let seen = queue
                .channel
                .try_get(queue.container(), &mut Last::default());
            drop(putting);
            assert_eq!(seen, Err(GetFault::Empty));
            closing.join().expect("close");
        });
        let seen = queue
            .channel
            .try_get(queue.container(), &mut Last::default());
        assert_eq!(seen, Err(GetFault::Closed));
    }
}
