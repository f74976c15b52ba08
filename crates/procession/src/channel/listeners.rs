//! Who wants to be told through a file descriptor that a channel has something.
//!
//! Each listener has a cell with the name of its doorbell (`sys::doorbell`). The cells lie in blocks that belong to the channel, made when
//! the first listener comes; a channel nobody polls has 16 bytes for all this, and whoever puts pays one load.
//!
//! ```text
//! cell = { sequence:32 | state:2 | owner:30,  name: 16 bytes }          owner = 0: free
//!
//!   IDLE --listener--> ARMED --ringer--> PENDING --ringer, after sendto--> NOTIFIED --listener, after draining--> ARMED (sequence + 1)
//!                           <--ringer, nothing is there any more--
//! ```
//!
//! - *Listener*: wait while PENDING, a moment at the most; drain the bell; ARMED; raise the cell's bit in `armed`; look at the channel again.
//! - *Ringer*: change the channel; fence; if `armed` is not zero: for each cell ARMED or PENDING: PENDING; if there still is something: ring, NOTIFIED.
//!
//! **No lost ring.** As for a bell (`bell.rs`), one of both sees the other. A ringer that dies before its `sendto` leaves PENDING, and the next one rings
//! again; one that dies after it has rung. Only the listener goes back to ARMED, and the sequence keeps a slow ringer of an earlier arming from saying
//! NOTIFIED in a later one. A ringer that dies between its change and its look at `armed` is made good for by the reaper.
//!
//! **No ring for nothing.** Somebody who was awake may take what a ringer is about to ring for. If it was taken before the ringer said PENDING, the ringer sees that nothing is there.
//! If after, the listener, who arms because it found the channel empty, sees PENDING and waits for the ring, to drain it. So a bell that rang means that there is something, or that
//! another process has taken it, or that the ringer is dead or was slower than [`PATIENCE`].
//!
//! **Clearing `armed`.** A ringer that has told everybody clears the bits, so that a busy channel goes back to one load, and looks at the cells once
//! more: whoever armed meanwhile gets the bit back *and is rung*, because somebody else may have found `armed` empty in between.
//!
//! Bit `n` stands for cell `n` of every block; cell 0 is the block's head.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::Owner;
use crate::heap::{Block, BlockRef, Container, HeapError, me, the_heap};
use crate::sys::doorbell::{Name, Rung, ring};
use std::time::{Duration, Instant};

/// Words of a cell: state, name, spare.
const CELL: usize = 4;
/// Cells of a block, the first of which is its head.
const CELLS: usize = 32;
const BLOCK_BYTES: usize = CELLS * CELL * 8;
/// A chain that is longer is a corrupt circle.
const MAX_BLOCKS: usize = 4096;
/// How long a listener waits for a ring that is on its way.
const PATIENCE: Duration = Duration::from_millis(20);
/// After so many rounds a ringer leaves the bits to the next one.
const MAX_ROUNDS: usize = 4;

/// A cell's state: taken, the bell is not to be rung.
const IDLE: u64 = 0;
/// Ring when something comes.
const ARMED: u64 = 1;
/// Somebody is about to ring.
const PENDING: u64 = 2;
/// The bell was rung since it was armed.
const NOTIFIED: u64 = 3;

const STATE_SHIFT: u32 = 30;
const SEQUENCE_SHIFT: u32 = 32;

fn pack(owner: u32, state: u64, sequence: u32) -> u64 {
    (u64::from(sequence) << SEQUENCE_SHIFT) | (state << STATE_SHIFT) | u64::from(owner)
}

fn state(word: u64) -> u64 {
    (word >> STATE_SHIFT) & 3
}

fn sequence(word: u64) -> u32 {
    (word >> SEQUENCE_SHIFT) as u32
}

fn owner(word: u64) -> Option<Owner> {
    Owner::from_word(word as u32)
}

fn with_state(word: u64, state: u64) -> u64 {
    (word & !(3 << STATE_SHIFT)) | (state << STATE_SHIFT)
}

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

    /// Waits for a ring that is on its way, so that it can be drained. Not for ever: the ringer may be dead, or stopped.
    pub(crate) fn settle(&self, seat: &Seat) {
        let is_pending = || state(seat.cell[0].load(Ordering::SeqCst)) == PENDING;
        if !is_pending() {
            return;
        }
        let until = Instant::now() + PATIENCE;
        while is_pending() && Instant::now() < until {
            std::thread::yield_now();
        }
    }

    /// Wants to be rung from now on. Drain the bell before, look at the channel after.
    pub(crate) fn arm(&self, seat: &Seat) {
        change(seat, |word| {
            pack(seat.owner.to_word(), ARMED, sequence(word).wrapping_add(1))
        });
        self.armed.fetch_or(seat.bit, Ordering::SeqCst);
    }

    /// Rings the listener itself, if it is armed.
    pub(crate) fn ring_self(&self, seat: &Seat) {
        ring_cell(seat.cell, || true);
    }

    /// Gives the cell back.
    pub(crate) fn release(&self, seat: &Seat) {
        change(seat, |word| pack(0, IDLE, sequence(word).wrapping_add(1)));
    }

    /// Rings everybody who is armed, as long as there is something.
    #[cold]
    pub(crate) fn notify(&self, ready: impl Fn() -> bool) {
        for _ in 0..MAX_ROUNDS {
            let armed = self.armed.load(Ordering::SeqCst);
            let mut told = armed;
            for (cell, bit) in self.cells().filter(|(_, bit)| armed & bit != 0) {
                if !ring_cell(cell, &ready) {
                    // Not rung: there is nothing; or the listener looks by itself before long, or the next ringer has more luck.
                    told &= !bit;
                }
            }
            self.armed.fetch_and(!told, Ordering::SeqCst);
            let again = self.bits_to_ring() & told;
            if again == 0 {
                return;
            }
            self.armed.fetch_or(again, Ordering::SeqCst);
        }
    }

    fn bits_to_ring(&self) -> u32 {
        self.cells()
            .filter(|(cell, _)| [ARMED, PENDING].contains(&state(cell[0].load(Ordering::SeqCst))))
            .fold(0, |bits, (_, bit)| bits | bit)
    }

    /// A participant died: frees its cells, and rings on for it if there is something. Idempotent.
    pub(crate) fn reap(&self, dead: Owner, ready: impl Fn() -> bool) {
        for (cell, bit) in self.cells() {
            let seat = Seat {
                cell,
                bit,
                owner: dead,
            };
            self.release(&seat);
        }
        self.armed.fetch_or(self.bits_to_ring(), Ordering::SeqCst);
        if self.any() && ready() {
            self.notify(ready);
        }
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

fn take(cell: &'static [AtomicU64], bit: u32) -> Option<Seat> {
    let word = cell[0].load(Ordering::SeqCst);
    let mine = pack(me().to_word(), IDLE, sequence(word).wrapping_add(1));
    let taken = owner(word).is_none()
        && cell[0]
            .compare_exchange(word, mine, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
    taken.then(|| Seat {
        cell,
        bit,
        owner: me(),
    })
}

/// Changes a cell that is its owner's.
fn change(seat: &Seat, to: impl Fn(u64) -> u64) {
    // Not the owner's any more: it was reaped, and somebody else has the cell.
    let _ = seat.cell[0].fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
        (owner(word) == Some(seat.owner)).then(|| to(word))
    });
}

/// Rings one listener if it is armed. `false`: it should have been, and could not, or there is nothing to ring for.
fn ring_cell(cell: &[AtomicU64], ready: impl Fn() -> bool) -> bool {
    let mut word = cell[0].load(Ordering::SeqCst);
    loop {
        match state(word) {
            ARMED => {
                let pending = with_state(word, PENDING);
                match cell[0].compare_exchange(word, pending, Ordering::SeqCst, Ordering::SeqCst) {
                    Ok(_) => word = pending,
                    Err(now) => {
                        word = now;
                        continue;
                    }
                }
            }
            PENDING => {}
            _ => return true,
        }
        if !ready() {
            let armed = with_state(word, ARMED);
            match cell[0].compare_exchange(word, armed, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return false,
                // Rung by another one, or armed again.
                Err(now) => {
                    word = now;
                    continue;
                }
            }
        }
        let mut name = Name::default();
        for (half, at) in name.chunks_exact_mut(8).zip(&cell[1..]) {
            half.copy_from_slice(&at.load(Ordering::SeqCst).to_ne_bytes());
        }
        if ring(name) == Rung::Failed {
            return false;
        }
        let notified = with_state(word, NOTIFIED);
        // Failed: another ringer said so, or the listener armed again and was not told by us.
        match cell[0].compare_exchange(word, notified, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return true,
            Err(now) => word = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            state(self.seat.cell[0].load(Ordering::SeqCst))
        }

        fn set_state(&self, to: u64) {
            change(&self.seat, |word| with_state(word, to));
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
        let word = &bench.seat.cell[0];
        let dead = Owner::new(1000, 77);
        word.store(pack(dead.to_word(), ARMED, 5), Ordering::SeqCst);
        bench.listeners().arm(&bench.seat);
        assert_eq!(
            word.load(Ordering::SeqCst),
            pack(dead.to_word(), ARMED, 5),
            "not ours"
        );
        bench.listeners().reap(dead, || false);
        assert_eq!(owner(word.load(Ordering::SeqCst)), None);
        let again = bench
            .listeners()
            .claim(bench.queue.shared.container(), bench.bell.name())
            .expect("claim");
        assert_eq!(again.bit, bench.seat.bit);
    }
}
