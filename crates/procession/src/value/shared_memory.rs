//! SharedMemory: bytes, anonymous in the family heap, or under a name that other programs know.

use super::body::{self, OutOfBounds, body_handle, shared_body};
use crate::heap::{HeapError, Shared};
use crate::sys::bytes::Bytes;
use crate::sys::named::NamedMapping;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

shared_body!(
    /// Anonymous shared memory as it lies in the heap.
    SharedBytes,
    SharedMemory
);

/// The access to bytes that both kinds have in common.
macro_rules! byte_access {
    ($make:literal) => {
        /// How many bytes there are.
        ///
        /// # Examples
        /// ```
        #[doc = $make]
        /// assert_eq!(memory.len(), 100);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[must_use]
        pub fn len(&self) -> usize {
            self.bytes().len()
        }

        /// Whether there are none.
        ///
        /// # Examples
        /// ```
        #[doc = $make]
        /// assert!(!memory.is_empty());
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// Copies the bytes from `at` on into a slice, as many as it has.
        ///
        /// # Errors
        /// [`OutOfBounds`].
        ///
        /// # Examples
        /// ```
        #[doc = $make]
        /// let mut four = [9; 4];
        /// memory.read_at(96, &mut four)?;
        /// assert_eq!(four, [0; 4]);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn read_at(&self, at: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
            let read = self.part(at, into.len())?.read(into);
            debug_assert!(read.is_ok());
            Ok(())
        }

        /// Writes a slice over the bytes from `at` on.
        ///
        /// # Errors
        /// [`OutOfBounds`].
        ///
        /// # Examples
        /// ```
        #[doc = $make]
        /// memory.write_at(0, b"hello")?;
        /// assert!(memory.write_at(98, b"hello").is_err());
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn write_at(&self, at: usize, from: &[u8]) -> Result<(), OutOfBounds> {
            let written = self.part(at, from.len())?.write(from);
            debug_assert!(written.is_ok());
            Ok(())
        }

        /// Sets all bytes to `byte`.
        ///
        /// # Examples
        /// ```
        #[doc = $make]
        /// memory.fill(7);
        /// assert_eq!(memory.to_vec(), [7; 100]);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn fill(&self, byte: u8) {
            self.bytes().fill(byte);
        }

        /// A copy of all bytes.
        ///
        /// # Examples
        /// ```
        #[doc = $make]
        /// assert_eq!(memory.to_vec(), [0; 100]);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[must_use]
        pub fn to_vec(&self) -> Vec<u8> {
            let mut copy = vec![0; self.len()];
            let read = self.bytes().read(&mut copy);
            debug_assert!(read.is_ok());
            copy
        }

        /// The bytes in place. They are atomics, for others may change them at any time.
        ///
        /// # Examples
        /// ```
        /// use std::sync::atomic::Ordering;
        ///
        #[doc = $make]
        /// memory.as_atomics()[3].fetch_add(1, Ordering::Relaxed);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[must_use]
        pub fn as_atomics(&self) -> &[AtomicU8] {
            self.bytes().cells()
        }

        fn part(&self, at: usize, len: usize) -> Result<Bytes<'_>, OutOfBounds> {
            self.bytes().part(at, len).map_err(|_| OutOfBounds {
                index: at.saturating_add(len.saturating_sub(1)).max(self.len()),
                len: self.len(),
            })
        }
    };
}

/// Bytes in the family heap that any number of processes read and write.
///
/// It has no lock; pair it with one, or with messages that say whose turn it is. It lives as long as anybody holds a handle. To give bytes *away*
/// without a copy, send a [`Buffer`](crate::Buffer); for memory that programs outside the family know, see [`NamedSharedMemory`].
///
/// # Examples
/// ```
/// let memory = procession::SharedMemory::new(1 << 20)?;
/// memory.write_at(10, b"hello")?;
/// let mut word = [0; 5];
/// memory.read_at(10, &mut word)?;
/// assert_eq!(&word, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.SharedMemory` without a name
pub struct SharedMemory {
    shared: Shared<SharedBytes>,
    bytes: Bytes<'static>,
    _item: (),
}

impl SharedMemory {
    /// Allocates `len` bytes, all zero.
    ///
    /// # Errors
    /// [`HeapError`] if the family heap cannot be made or is full.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(procession::SharedMemory::new(3)?.to_vec(), [0, 0, 0]);
    /// # Ok::<(), procession::HeapError>(())
    /// ```
    pub fn new(len: usize) -> Result<Self, HeapError> {
        let (shared, bytes) = body::create(len, 1)?;
        Ok(Self {
            shared,
            bytes,
            _item: (),
        })
    }

    fn bytes(&self) -> Bytes<'_> {
        self.bytes
    }

    byte_access!("let memory = procession::SharedMemory::new(100)?;");
}

body_handle!(SharedMemory, SharedBytes, "SharedMemory", u8);

/// Bytes of shared memory under a name, which any program of this user can open (`shm_open`, `/dev/shm`).
///
/// Only for working with programs outside the family: the name has to be unlinked by somebody, it is lost if that
/// somebody is killed, and another program can shrink the memory under our feet (which ends the process with SIGBUS). Inside a family [`SharedMemory`] has
/// none of these troubles.
///
/// # Examples
/// ```
/// use procession::NamedSharedMemory;
///
/// let name = format!("/procession-example-{}", std::process::id());
/// let memory = NamedSharedMemory::create(&name, 100)?;
/// memory.write_at(0, b"hello")?;
/// assert_eq!(&NamedSharedMemory::open(&name)?.to_vec()[..5], b"hello");
/// NamedSharedMemory::unlink(&name)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In Python
/// `procession.SharedMemory(name, create, size)`
#[derive(Clone, Debug)]
pub struct NamedSharedMemory {
    mapping: Arc<NamedMapping>,
    name: Arc<str>,
}

impl NamedSharedMemory {
    /// Makes `len` zero bytes under a name, which must begin with `/` and have no other.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken, `InvalidInput` for a length of zero or an impossible name, and what else the system says.
    ///
    /// # Examples
    /// ```
    /// # use procession::NamedSharedMemory;
    /// let name = format!("/procession-create-{}", std::process::id());
    /// let memory = NamedSharedMemory::create(&name, 100)?;
    /// assert!(NamedSharedMemory::create(&name, 100).is_err());
    /// NamedSharedMemory::unlink(memory.name())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn create(name: &str, len: usize) -> io::Result<Self> {
        check_name(name)?;
        Ok(Self {
            mapping: Arc::new(NamedMapping::create(name, len)?),
            name: name.into(),
        })
    }

    /// Opens what exists under a name, all of it.
    ///
    /// # Errors
    /// `NotFound`, and what else the system says.
    ///
    /// # Examples
    /// ```
    /// let error = procession::NamedSharedMemory::open("/procession-nobody-made-this").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// ```
    pub fn open(name: &str) -> io::Result<Self> {
        check_name(name)?;
        Ok(Self {
            mapping: Arc::new(NamedMapping::open(name)?),
            name: name.into(),
        })
    }

    /// Removes a name. Who has the memory open keeps it.
    ///
    /// # Errors
    /// `NotFound`, and what else the system says.
    ///
    /// # Examples
    /// ```
    /// assert!(procession::NamedSharedMemory::unlink("/procession-nobody-made-this").is_err());
    /// ```
    pub fn unlink(name: &str) -> io::Result<()> {
        check_name(name)?;
        NamedMapping::unlink(name)
    }

    /// Its name.
    ///
    /// # Examples
    /// ```
    /// # use procession::NamedSharedMemory;
    /// let name = format!("/procession-name-{}", std::process::id());
    /// let memory = NamedSharedMemory::create(&name, 1)?;
    /// assert_eq!(memory.name(), name);
    /// NamedSharedMemory::unlink(&name)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> Bytes<'_> {
        self.mapping.bytes()
    }

    byte_access!(
        "let name = format!(\"/procession-doc-{}-{}\", std::process::id(), line!());\nlet memory = procession::NamedSharedMemory::create(&name, 100)?;\nprocession::NamedSharedMemory::unlink(&name)?;"
    );
}

/// One slash, at the beginning, and something behind it.
fn check_name(name: &str) -> io::Result<()> {
    match name.strip_prefix('/') {
        Some(rest) if !rest.is_empty() && !rest.contains('/') => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("name of shared memory {name:?} is not a slash and then a name without one"),
        )),
    }
}

impl Serialize for NamedSharedMemory {
    /// As its name: it holds nothing.
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        self.name.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NamedSharedMemory {
    fn deserialize<Z: Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
        let name = String::deserialize(deserializer)?;
        Self::open(&name).map_err(serde::de::Error::custom)
    }
}
