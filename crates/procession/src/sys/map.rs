//! The sealed memfd of a family and its mapping; private tables; giving pages back.
#![expect(unsafe_code, reason = "mmap")]
//!
//! # Safety
//! A [`Mapping`] is never unmapped: it lives as long as the process, so addresses inside it are `'static`. The file is
//! sealed against shrinking before it is mapped, so no peer can make an access fault.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fstat, ftruncate,
};
use rustix::io;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};
use std::ptr::NonNull;

/// Memory mapped until the process ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    pub(crate) base: NonNull<u8>,
    pub(crate) len: usize,
}

// SAFETY: a mapping is an address and a length; what lies there is accessed through atomics or by its owner (I1).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Creates an anonymous file of `len` bytes, nothing of it allocated yet, that nobody can resize or execute.
pub(crate) fn create_sealed(name: &str, len: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // NOEXEC_SEAL is younger (Linux 6.3) than all else we need.
    let fd = rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| rustix::fs::memfd_create(name, flags))?;
    ftruncate(&fd, len)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// Whether the file is sealed against resizing, and its length: what a child checks before it maps what it was handed.
pub(crate) fn sealed_len(fd: impl AsFd) -> io::Result<Option<u64>> {
    let seals = rustix::fs::fcntl_get_seals(&fd)?;
    let len = fstat(&fd)?.st_size;
    let sealed = seals.contains(SealFlags::SHRINK | SealFlags::GROW);
    Ok(u64::try_from(len).ok().filter(|_| sealed))
}

/// The file's inode number: how `/proc/PID/maps` shows who still maps it.
pub(crate) fn inode(fd: impl AsFd) -> io::Result<u64> {
    Ok(fstat(fd)?.st_ino)
}

/// Maps the whole file, shared and writable.
pub(crate) fn map_shared(fd: impl AsFd, len: usize) -> io::Result<Mapping> {
    // SAFETY: a fresh address range chosen by the kernel; the file is sealed, so it covers `len` for ever.
    let base = unsafe {
        mmap(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::NORESERVE,
            fd,
            0,
        )
    }?;
    // A core dump must not try to write a sparse terabyte. Not being able to say so is no reason to stop.
    // SAFETY: the range just mapped; DONTDUMP changes no content.
    let _ = unsafe { madvise(base, len, Advice::LinuxDontDump) };
    mapping(base, len)
}

/// Maps zeroed memory that is private to the process, sparse.
pub(crate) fn map_private(len: usize) -> io::Result<Mapping> {
    // SAFETY: a fresh anonymous range chosen by the kernel.
    let base = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }?;
    mapping(base, len)
}

/// Gives the pages of a range of the file back to the system; it reads as zeros afterwards.
pub(crate) fn punch_hole(fd: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    fallocate(
        fd,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        offset,
        len,
    )
}

fn mapping(base: *mut core::ffi::c_void, len: usize) -> io::Result<Mapping> {
    let base = NonNull::new(base.cast()).ok_or(io::Errno::NOMEM)?;
    Ok(Mapping { base, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_cannot_be_resized() {
        let fd = create_sealed("procession-test", 1 << 30).expect("memfd");
        assert_eq!(sealed_len(&fd).expect("seals"), Some(1 << 30));
        assert!(ftruncate(&fd, 1 << 20).is_err());
        assert!(ftruncate(&fd, 1 << 31).is_err());
    }

    #[test]
    fn a_plain_memfd_is_refused() {
        let fd = rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC).expect("memfd");
        assert_eq!(sealed_len(&fd).expect("seals"), None);
    }
}
