//! Shared memory under a name, as other programs know it (`shm_open`).
#![expect(unsafe_code, reason = "mmap, munmap")]
//!
//! # Safety
//! A [`NamedMapping`] unmaps its range when it is dropped; views of its bytes borrow it. Another program can shrink the file, then
//! an access faults (SIGBUS), as in every program that uses such memory: it ends the process, it does not corrupt it.

use super::bytes::Bytes;
use super::error::failed;
use rustix::fs::{Mode, fstat, ftruncate};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::shm::{self, OFlags};
use std::io;
use std::ptr::NonNull;

/// The whole of a named piece of shared memory, mapped.
#[derive(Debug)]
pub(crate) struct NamedMapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: an address range; what lies there is accessed through `Bytes` only.
unsafe impl Send for NamedMapping {}
// SAFETY: as above.
unsafe impl Sync for NamedMapping {}

impl NamedMapping {
    /// Makes a new one; readable and writable by this user only.
    pub(crate) fn create(name: &str, len: usize) -> io::Result<Self> {
        let attempt = || format!("create shared memory {name:?} of {len} bytes");
        if len == 0 {
            return Err(failed(attempt(), rustix::io::Errno::INVAL));
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        let fd = shm::open(name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed(attempt(), errno))?;
        let made = ftruncate(&fd, len as u64).and_then(|()| Self::map(&fd, len));
        made.map_err(|errno| {
            let _ = shm::unlink(name);
            failed(attempt(), errno)
        })
    }

    /// Opens one that exists.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let attempt = |errno| failed(format!("open shared memory {name:?}"), errno);
        let fd = shm::open(name, OFlags::RDWR, Mode::empty()).map_err(attempt)?;
        let len = fstat(&fd).map_err(attempt)?.st_size;
        let len = usize::try_from(len).map_err(|_| attempt(rustix::io::Errno::OVERFLOW))?;
        Self::map(&fd, len).map_err(attempt)
    }

    /// Removes the name; who has it mapped keeps it.
    pub(crate) fn unlink(name: &str) -> io::Result<()> {
        shm::unlink(name)
            .map_err(|errno| failed(format!("remove the name of shared memory {name:?}"), errno))
    }

    fn map(fd: impl rustix::fd::AsFd, len: usize) -> rustix::io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh address range chosen by the kernel.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                fd,
                0,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { base, len })
    }

    pub(crate) fn bytes(&self) -> Bytes<'_> {
        // SAFETY: mapped until `self` is dropped, which the borrow outlives not; accessed through `Bytes` only.
        unsafe { Bytes::new(self.base, self.len) }
    }
}

impl Drop for NamedMapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of which no view is left.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
