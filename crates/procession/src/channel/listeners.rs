//! Who wants to be told through a file descriptor that a channel has something.
//!
//! Each listener has a cell with the name of its doorbell (`sys::doorbell`). The cells lie in blocks that belong to the channel, made when
//! the first listener comes; a channel nobody polls has 16 bytes for all this, and whoever puts pays one load.
//!
//! ```text
//! cell = { the listener's word (`sync/raw/listener.rs`), name: 16 bytes, spare }
//! ```
//!
//! Bit `n` stands for cell `n` of every block; cell 0 is the block's head.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::Owner;
use crate::heap::{Block, BlockRef, Container, HeapError, me, the_heap};
use crate::sync::raw::{Audience, RawListener};
use crate::sys::doorbell::{Name, Rung, ring};
use std::time::{Duration, Instant};

/// Words of a cell: state, name, spare.
const CELL: usize = 4;
/// Cells of a block, the first of which is its head.
const CELLS: usize = 32;
const BLOCK_BYTES: usize = CELLS * CELL * 8;
/// A chain that is longer is a corrupt circle.
const MAX_BLOCKS: usize = 4096;
/// How long anybody waits for a ring that is on its way.
const PATIENCE: Duration = Duration::from_millis(20);
/// The listeners of a channel. All zero: none.
#[repr(C)]
#[derive(Debug, zerocopy::FromBytes)]
pub(crate) struct Listeners {
    /// The first block of cells; 0: none yet.
    first: AtomicU64,
    /// Cells that may have to be rung.
    armed: AtomicU32,
    spare: AtomicU32,
}
const _: () = assert!(size_of::<Listeners>() == 16);

/// A listener's cell. Give it back with [`Listeners::release`].
#[derive(Debug)]
pub(crate) struct Seat {
    cell: &'static [AtomicU64],
    bit: u32,
    owner: Owner,
}

impl Seat {
    /// Whether this process took it, not one that it was forked from.
    pub(crate) fn is_mine(&self) -> bool {
        self.owner == me()
    }

    /// Whether it is the cell behind that one.
    #[cfg(test)]
    pub(crate) fn follows(&self, other: &Self) -> bool {
        self.cell.as_ptr() == other.cell.as_ptr_range().end
    }

    fn listener(&self) -> RawListener<'_> {
        RawListener(&self.cell[0])
    }
}

impl Listeners {
    /// Whether somebody may want to be told. The caller's change must be ordered before by a SeqCst operation or fence.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.armed.load(Ordering::SeqCst) != 0
    }

    /// Takes a cell for the bell `name`.
    pub(crate) fn claim(&self, channel: Container, name: Name) -> Result<Seat, HeapError> {
        loop {
            let taken = self.cells().find_map(|(cell, bit)| take(cell, bit));
            if let Some(seat) = taken {
                for (word, half) in seat.cell[1..].iter().zip(name.chunks_exact(8)) {
                    let half = half.try_into().map_or(0, u64::from_ne_bytes);
                    word.store(half, Ordering::SeqCst);
                }
                return Ok(seat);
            }
            self.add_block(channel)?;
        }
    }

    /// Wants no ring any more, and waits for one that is on its way. Drain the bell after.
    pub(crate) fn settle(&self, seat: &Seat) {
        self.quieten(seat.listener(), seat.owner);
    }

    /// Wants to be rung from now on. Drain the bell before, look at the channel after.
    pub(crate) fn arm(&self, seat: &Seat) {
        seat.listener().arm(seat.owner);
        self.armed.fetch_or(seat.bit, Ordering::SeqCst);
    }

    /// Rings the listener itself, if it is armed.
    pub(crate) fn ring_self(&self, seat: &Seat) {
        self.tell(seat.listener(), &seat.cell, || true);
    }

    /// Gives the cell back.
    pub(crate) fn release(&self, seat: &Seat) {
        seat.listener().release(seat.owner);
    }

    /// Rings everybody who is armed, as long as there is something.
    #[cold]
    pub(crate) fn notify(&self, ready: impl Fn() -> bool) {
        Audience::notify(self, ready);
    }

    /// A participant died: frees its cells, and rings on for it if there is something. Idempotent.
    pub(crate) fn reap(&self, dead: Owner, ready: impl Fn() -> bool) {
        self.bury(dead, ready);
    }

    /// Whether the block holds cells of this channel.
    pub(crate) fn contains(&self, block: BlockRef) -> bool {
        self.blocks().any(|(reference, _)| reference == block)
    }

    /// Frees the cells. Can be done again after a death midway.
    pub(crate) fn destroy(&self, channel: Container) {
        for _ in 0..MAX_BLOCKS {
            let Some((reference, words)) = self.blocks().next() else {
                return;
            };
            let next = words[0].load(Ordering::SeqCst);
            let unlink = || self.first.store(next, Ordering::SeqCst);
            if Block::detach(reference, channel, unlink).is_err() {
                return;
            }
        }
    }

    fn blocks(&self) -> impl Iterator<Item = (BlockRef, &'static [AtomicU64])> {
        let mut next = self.first.load(Ordering::SeqCst);
        std::iter::from_fn(move || {
            let reference = BlockRef::from_bits(next)?;
            let (place, size) = Block::peek(reference).ok()?;
            let words = the_heap().atomics_at(place, size).get(..CELLS * CELL)?;
            next = words[0].load(Ordering::SeqCst);
            Some((reference, words))
        })
        .take(MAX_BLOCKS)
    }

    fn cells(&self) -> impl Iterator<Item = (&'static [AtomicU64], u32)> {
        self.blocks().flat_map(|(_, words)| {
            (words.chunks_exact(CELL).enumerate().skip(1)).map(|(index, cell)| (cell, 1 << index))
        })
    }

    /// Links one more block of cells at the end of the chain, unless somebody else is quicker.
    #[cold]
    fn add_block(&self, channel: Container) -> Result<(), HeapError> {
        let mut block = Block::alloc(BLOCK_BYTES)?;
        block.as_mut_slice()[..BLOCK_BYTES].fill(0);
        let (count, last) = self
            .blocks()
            .fold((0, None), |(count, _), (_, words)| (count + 1, Some(words)));
        if count >= MAX_BLOCKS {
            return Err(HeapError::Corrupt(
                "the listeners of a channel make a circle",
            ));
        }
        let link = last.map_or(&self.first, |words: &'static [AtomicU64]| &words[0]);
        let _second_one_is_freed = block.attach(channel, |reference| {
            link.compare_exchange(0, reference.to_bits(), Ordering::SeqCst, Ordering::SeqCst)
                .map(|_| ())
        });
        // A link that names no block would make us allocate for ever.
        match BlockRef::from_bits(link.load(Ordering::SeqCst)).map(Block::peek) {
            Some(Ok(_)) => Ok(()),
            _ => Err(HeapError::Corrupt(
                "the listeners of a channel cannot be read",
            )),
        }
    }
}

impl Audience for Listeners {
    /// The cell.
    type Bell = &'static [AtomicU64];

    fn armed(&self) -> &AtomicU32 {
        &self.armed
    }

    fn each(&self) -> impl Iterator<Item = (RawListener<'_>, u32, Self::Bell)> {
        self.cells()
            .map(|(cell, bit)| (RawListener(&cell[0]), bit, cell))
    }

    fn ring(&self, cell: &Self::Bell) -> bool {
        let mut name = Name::default();
        for (half, at) in name.chunks_exact_mut(8).zip(&cell[1..]) {
            half.copy_from_slice(&at.load(Ordering::SeqCst).to_ne_bytes());
        }
        ring(name) != Rung::Failed
    }

    fn settle(&self, listener: RawListener<'_>) {
        let until = Instant::now() + PATIENCE;
        while listener.is_pending() && Instant::now() < until {
            std::thread::yield_now();
        }
    }
}

fn take(cell: &'static [AtomicU64], bit: u32) -> Option<Seat> {
    let owner = me();
    let taken = RawListener(&cell[0]).take(owner);
    taken.then_some(Seat { cell, bit, owner })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::raw::listener::{ARMED, NOTIFIED, PENDING, with_state};
    use crate::sys::doorbell::{Doorbell, readable};
    use crate::{Plain, Queue};
    use std::os::fd::AsFd;

    struct Bench {
        queue: Queue<u64, Plain>,
        bell: Doorbell,
        seat: Seat,
    }

    impl Bench {
        fn new() -> Self {
            let queue = Queue::unbounded().expect("queue");
            let bell = Doorbell::new().expect("bell");
            let seat = queue
                .shared
                .channel
                .listeners()
                .claim(queue.shared.container(), bell.name())
                .expect("claim");
            Self { queue, bell, seat }
        }

        fn listeners(&self) -> &Listeners {
            self.queue.shared.channel.listeners()
        }

        fn rung(&self) -> bool {
            !readable(&[self.bell.as_fd()], Some(Instant::now()))
                .expect("poll")
                .is_empty()
        }

        fn state(&self) -> u64 {
            self.seat.listener().state()
        }

        fn set_state(&self, to: u64) {
            self.seat.listener().set_state(to);
        }
    }

    #[test]
    fn a_busy_channel_goes_back_to_one_load() {
        let bench = Bench::new();
        assert!(!bench.listeners().any());
        bench.listeners().arm(&bench.seat);
        assert!(bench.listeners().any());
        bench.queue.put(1).expect("put");
        assert!(bench.rung() && bench.state() == NOTIFIED);
        assert!(!bench.listeners().any());
        bench.bell.drain();
        bench.queue.put(2).expect("put");
        assert!(!bench.rung(), "not armed");
        bench.listeners().release(&bench.seat);
    }

    #[test]
    fn nobody_is_rung_for_what_was_taken_meanwhile() {
        let bench = Bench::new();
        bench.listeners().arm(&bench.seat);
        bench.listeners().notify(|| false);
        assert!(!bench.rung() && bench.state() == ARMED && bench.listeners().any());
        bench.queue.put(1).expect("put");
        assert!(bench.rung() && bench.state() == NOTIFIED);
    }

    #[test]
    fn a_listener_waits_for_a_ring_that_is_on_its_way_but_not_for_ever() {
        let bench = Bench::new();
        bench.listeners().arm(&bench.seat);
        bench.set_state(PENDING);
        std::thread::scope(|scope| {
            scope.spawn(|| bench.set_state(NOTIFIED));
            bench.listeners().settle(&bench.seat);
        });
        bench.set_state(PENDING);
        bench.listeners().settle(&bench.seat);
        bench.listeners().arm(&bench.seat);
        assert_eq!(bench.state(), ARMED, "its ringer died");
    }

    #[test]
    fn whoever_comes_after_a_ringer_that_died_before_its_ring_rings() {
        let bench = Bench::new();
        bench.listeners().arm(&bench.seat);
        bench.set_state(PENDING);
        bench.queue.put(1).expect("put");
        assert!(bench.rung() && bench.state() == NOTIFIED);
    }

    #[test]
    fn a_ringer_that_died_while_clearing_is_made_good_for_by_the_reaper() {
        let bench = Bench::new();
        let dead = Owner::new(1000, 77);
        bench.listeners().arm(&bench.seat);
        bench.listeners().armed.store(0, Ordering::SeqCst);
        bench.listeners().reap(dead, || false);
        assert!(!bench.rung() && bench.listeners().any());
        bench.listeners().armed.store(0, Ordering::SeqCst);
        bench.listeners().reap(dead, || true);
        assert!(bench.rung());
    }

    #[test]
    fn a_slow_ringer_of_an_earlier_arming_does_not_spoil_a_later_one() {
        let bench = Bench::new();
        bench.listeners().arm(&bench.seat);
        let early = bench.seat.cell[0].load(Ordering::SeqCst);
        bench.listeners().arm(&bench.seat);
        bench.set_state(PENDING);
        let late = with_state(early, NOTIFIED);
        let swapped = bench.seat.cell[0].compare_exchange(
            with_state(early, PENDING),
            late,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
        assert!(swapped.is_err() && bench.state() == PENDING);
    }

    #[test]
    fn the_places_of_the_dead_are_free_again() {
        let bench = Bench::new();
        let listener = bench.seat.listener();
        let dead = Owner::new(1000, 77);
        bench.listeners().release(&bench.seat);
        assert!(listener.take(dead));
        listener.arm(dead);
        let word = listener.look();
        bench.listeners().arm(&bench.seat);
        assert_eq!(listener.look(), word, "not ours");
        bench.listeners().reap(dead, || false);
        let again = bench
            .listeners()
            .claim(bench.queue.shared.container(), bench.bell.name())
            .expect("claim");
        assert_eq!(again.bit, bench.seat.bit);
    }
}
