//! A few bytes in place: records and results of tiny tasks need no allocation.

/// Most bytes.
const MOST: usize = 47;

/// At most [`MOST`] bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Small {
    len: u8,
    bytes: [u8; MOST],
}

impl Small {
    /// A copy of the bytes, if they fit.
    pub(super) fn of(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; MOST];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self {
            len: from.len() as u8,
            bytes,
        })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_what_fits(bytes in proptest::collection::vec(any::<u8>(), 0..2 * MOST)) {
            let small = Small::of(&bytes);
            prop_assert_eq!(small.is_some(), bytes.len() <= MOST);
            if let Some(mut small) = small {
                prop_assert_eq!(small.as_slice(), &bytes[..]);
                prop_assert_eq!(small.as_mut_slice(), &bytes[..]);
            }
        }
    }
}
