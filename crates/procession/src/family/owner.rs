//! The name of a participant, as it is written into locks, cells and blocks.

use std::fmt;
use std::num::NonZeroU32;

/// How many participants a family can hold at one time.
pub const MAX_PARTICIPANTS: usize = 1024;

/// Bits of an [`Owner`] that name the slot.
pub(crate) const SLOT_BITS: u32 = 10;
/// Bits of an [`Owner`] that count how often the slot was used.
pub(crate) const GENERATION_BITS: u32 = 20;
/// All bits an [`Owner`] can use. The two bits above are free for a lock word's own flags.
pub(crate) const OWNER_MASK: u32 = (1 << (SLOT_BITS + GENERATION_BITS)) - 1;

/// One participant of the family: a slot of the participant table and the slot's generation.
///
/// Never a bare pid: pids are reused, `(slot, generation)` is not (a slot is given out again only after
/// everything its last owner left behind was reaped). It fits 30 bits and is never zero, so one `u32`
/// futex word can hold an owner and two flags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(NonZeroU32);

impl Owner {
    /// Names the participant in `slot` at `generation` (only the low 20 bits count, and zero becomes one).
    pub(crate) fn new(slot: usize, generation: u32) -> Self {
        debug_assert!(slot < MAX_PARTICIPANTS);
        let generation = (generation & ((1 << GENERATION_BITS) - 1)).max(1);
        let bits = (generation << SLOT_BITS) | (slot as u32 & ((1 << SLOT_BITS) - 1));
        Self(NonZeroU32::new(bits).unwrap_or(NonZeroU32::MIN))
    }

    /// Reads an owner from the low 30 bits of a word that a peer may have written; `None` is "nobody".
    pub(crate) fn from_word(word: u32) -> Option<Self> {
        NonZeroU32::new(word & OWNER_MASK).map(Self)
    }

    /// The 30 bits to store in a word.
    pub(crate) fn to_word(self) -> u32 {
        self.0.get()
    }

    /// The slot in the participant table; always below [`MAX_PARTICIPANTS`].
    pub(crate) fn slot(self) -> usize {
        (self.0.get() & ((1 << SLOT_BITS) - 1)) as usize
    }

    /// How often the slot had been given out when this owner was named.
    pub(crate) fn generation(self) -> u32 {
        self.0.get() >> SLOT_BITS
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({}.{})", self.slot(), self.generation())
    }
}
