//! Names of shared objects that mean the same in every process of the family.

use super::error::HeapError;
use super::mapping::{Heap, heap};

/// Names a shared object: family, place and generation. 16 bytes that can be sent anywhere; a name alone holds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    family: u32,
    generation: u32,
    index: u32,
}

impl Handle {
    pub(crate) fn new(heap: &Heap, index: u32, generation: u32) -> Self {
        Self {
            family: heap.family(),
            generation,
            index,
        }
    }

    pub(crate) fn index(self) -> u32 {
        self.index
    }

    pub(crate) fn generation(self) -> u32 {
        self.generation
    }

    /// The 16 bytes that travel.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.family.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    /// Reads a handle; says nothing yet about whether the object exists.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            family: word(0),
            generation: word(4),
            index: word(8),
        }
    }

    /// Checks family and range; the heap to look in.
    pub(crate) fn locate(self) -> Result<&'static Heap, HeapError> {
        let heap = heap()
            .filter(|heap| heap.family() == self.family)
            .ok_or(HeapError::OtherFamily)?;
        if self.index as usize >= heap.layout().granules {
            Err(HeapError::Stale)
        } else {
            Ok(heap)
        }
    }
}
