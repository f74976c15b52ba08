//! What can go wrong in the heap.

use std::fmt;

/// Why the family heap could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeapError {
    /// An allocation would take the family over its heap limit; nothing was allocated.
    Full {
        /// Bytes asked for.
        requested: u64,
        /// Bytes in use by the whole family.
        used: u64,
        /// The family's limit in bytes.
        limit: u64,
    },
    /// No block can be this large.
    TooLarge {
        /// Bytes asked for.
        requested: u64,
        /// The largest block possible in this heap.
        largest: u64,
    },
    /// The handle names an object of another family; objects do not leave their family.
    OtherFamily,
    /// The object that the handle names no longer exists, or never did.
    Stale,
    /// The handle names an object of another type.
    WrongKind {
        /// What the caller expected.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The shared bytes make no sense: a peer overwrote them, or it runs another version.
    Corrupt(&'static str),
    /// The family has its full number of participants; none can join until one ends.
    TooManyParticipants {
        /// How many there can be.
        limit: usize,
    },
    /// The system refused memory or a descriptor.
    System {
        /// What was attempted.
        attempt: &'static str,
        /// The system's error number.
        errno: i32,
    },
}

impl HeapError {
    pub(crate) fn system(attempt: &'static str, errno: rustix::io::Errno) -> Self {
        Self::System {
            attempt,
            errno: errno.raw_os_error(),
        }
    }
}

impl fmt::Display for HeapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full {
                requested,
                used,
                limit,
            } => write!(
                f,
                "family heap is full: {requested} bytes requested, {used} of {limit} in use \
                 (raise it with PROCESSION_HEAP_LIMIT or drop what is no longer needed)"
            ),
            Self::TooLarge { requested, largest } => {
                write!(
                    f,
                    "no block of {requested} bytes fits the family heap; the largest possible has {largest}"
                )
            }
            Self::OtherFamily => f.write_str("handle belongs to another family of processes"),
            Self::Stale => f.write_str("object no longer exists"),
            Self::WrongKind { expected, found } => {
                write!(f, "handle names a {found}, not a {expected}")
            }
            Self::Corrupt(what) => write!(f, "family heap is corrupt: {what}"),
            Self::TooManyParticipants { limit } => {
                write!(
                    f,
                    "the family has {limit} processes already; none can join until one ends"
                )
            }
            Self::System { attempt, errno } => {
                write!(
                    f,
                    "cannot {attempt}: {}",
                    std::io::Error::from_raw_os_error(*errno)
                )
            }
        }
    }
}

impl std::error::Error for HeapError {}
