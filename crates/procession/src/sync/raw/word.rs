//! The state word of a block: the one truth about who owns what.
//!
//! ```text
//! bits 0..4    state
//! bits 4..14   owner: participant slot (states with an owner), else 0
//! bits 14..38  generation: counted up each time the place is allocated (24 bits)
//! granules     bits 38..64  epoch: counted up before a holder of a live object goes (26 bits, wraps)
//! units        bits 38..62  length in units; bit 62 warm
//! ```
//!
//! | state | meaning | if the owner dies here |
//! |---|---|---|
//! | `VOID` | granule: free. unit: inside a run, or a merge that was cut short | nothing to do |
//! | `FREE` | unit: head of a free run | nothing to do |
//! | `OWNED` | one process has it, nobody else knows it | freed |
//! | `ATTACHING` | being put into a container | in the container: `ATTACHED`, else freed |
//! | `ATTACHED` | the container's (link word) | goes with the container |
//! | `DETACHING` | being taken from a container | still in it: `ATTACHED`, else freed |
//! | `LIVE` | shared object; its holders are in the holder rows | its bits are cleared |
//! | `DESTROYING` | the last holder went; its parts are being freed | destruction is done again |

use crate::atomic::{AtomicU64, Ordering};

/// What a block is; see the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u8);

impl State {
    pub(crate) const VOID: Self = Self(0);
    pub(crate) const FREE: Self = Self(1);
    pub(crate) const OWNED: Self = Self(2);
    pub(crate) const ATTACHING: Self = Self(3);
    pub(crate) const ATTACHED: Self = Self(4);
    pub(crate) const DETACHING: Self = Self(5);
    pub(crate) const LIVE: Self = Self(6);
    pub(crate) const DESTROYING: Self = Self(7);

    /// Whether the place is allocated.
    pub(crate) fn is_allocated(self) -> bool {
        self.0 > Self::FREE.0
    }
}

const OWNER_SHIFT: u32 = 4;
const GENERATION_SHIFT: u32 = 14;
const UPPER_SHIFT: u32 = 38;
const OWNER_BITS: u64 = 0x3ff;
const GENERATION_BITS: u64 = 0xff_ffff;
const LEN_BITS: u64 = 0xff_ffff;
const WARM: u64 = 1 << 62;

/// One more departure of a holder; added to a granule word, it wraps off the top.
pub(crate) const EPOCH: u64 = 1 << UPPER_SHIFT;

/// Longest run of units a word can describe.
pub(crate) const MAX_UNITS: u32 = LEN_BITS as u32;

/// A decoded word. Any `u64` is one: what a peer wrote is input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) fn load(from: &AtomicU64) -> Self {
        Self(from.load(Ordering::SeqCst))
    }

    pub(crate) fn state(self) -> State {
        State((self.0 & 0xf) as u8)
    }

    pub(crate) fn owner_slot(self) -> usize {
        ((self.0 >> OWNER_SHIFT) & OWNER_BITS) as usize
    }

    pub(crate) fn generation(self) -> u32 {
        ((self.0 >> GENERATION_SHIFT) & GENERATION_BITS) as u32
    }

    /// Length of a run of units.
    pub(crate) fn len(self) -> u32 {
        ((self.0 >> UPPER_SHIFT) & LEN_BITS) as u32
    }

    /// Whether the pages of a free run may still be allocated.
    pub(crate) fn is_warm(self) -> bool {
        self.0 & WARM != 0
    }

    /// The same block in another state, for `slot`.
    pub(crate) fn with(self, state: State, slot: usize) -> Self {
        let cleared = self.0 & !(0xf | (OWNER_BITS << OWNER_SHIFT));
        Self(cleared | u64::from(state.0) | ((slot as u64 & OWNER_BITS) << OWNER_SHIFT))
    }

    /// The same place, allocated once more.
    pub(crate) fn next_generation(self) -> Self {
        let next = (u64::from(self.generation()) + 1) & GENERATION_BITS;
        Self((self.0 & !(GENERATION_BITS << GENERATION_SHIFT)) | (next << GENERATION_SHIFT))
    }

    /// The same run with another length.
    pub(crate) fn with_len(self, len: u32) -> Self {
        Self((self.0 & !(LEN_BITS << UPPER_SHIFT)) | ((u64::from(len) & LEN_BITS) << UPPER_SHIFT))
    }

    pub(crate) fn with_warm(self, warm: bool) -> Self {
        Self(if warm { self.0 | WARM } else { self.0 & !WARM })
    }

    /// Replaces `self` by `new` in `at`, if it is still there.
    pub(crate) fn swap(self, at: &AtomicU64, new: Self) -> Result<(), Self> {
        at.compare_exchange(self.0, new.0, Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
            .map_err(Self)
    }
}

#[cfg(all(test, not(procession_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_do_not_touch_each_other(bits: u64, slot in 0usize..1024, len in 0u32..=MAX_UNITS) {
            let word = Word(bits);
            let changed = word.with(State::DETACHING, slot).with_len(len).with_warm(true);
            prop_assert_eq!(changed.state(), State::DETACHING);
            prop_assert_eq!(changed.owner_slot(), slot);
            prop_assert_eq!(changed.generation(), word.generation());
            prop_assert_eq!(changed.len(), len);
            prop_assert!(changed.is_warm());
            let next = changed.next_generation();
            prop_assert_eq!(next.generation(), (word.generation() + 1) & 0xff_ffff);
            prop_assert_eq!(next.with(State::VOID, 0).0 & !(0xff_ffff << 14), changed.with(State::VOID, 0).0 & !(0xff_ffff << 14));
        }
    }
}
