//! A memfd that driver and helper both map.
//!
//! # Safety
//!
//! The mapping lives as long as the [`SharedMap`], never changes its size, and is only handed out as atomics,
//! or as a pointer to those who say why theirs is safe.

use crate::harness::Result;
use rustix::fs::{MemfdFlags, Mode, OFlags, ftruncate, memfd_create, open};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Two cache lines, because the CPU fetches them in pairs.
pub(crate) const LINE: usize = 128;

/// Memory that driver and helper share, in lines of [`LINE`] bytes, zero at first.
pub(crate) struct SharedMap {
    base: NonNull<u8>,
    lines: usize,
    file: OwnedFd,
}

impl SharedMap {
    /// New memory of that many lines.
    pub(crate) fn create(lines: usize) -> Result<Self> {
        let file = memfd_create("procession-bench", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, (lines * LINE) as u64)?;
        Self::map(file, lines)
    }

    /// The memory another process invited us to.
    pub(crate) fn open(invitation: &str) -> Result<Self> {
        let file = File::from(open(
            invitation,
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        let lines = usize::try_from(file.metadata()?.len())? / LINE;
        Self::map(file.into(), lines)
    }

    /// A path by which a child can open this memory.
    pub(crate) fn invitation(&self) -> String {
        descriptor_path(&self.file)
    }

    fn map(file: OwnedFd, lines: usize) -> Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: the kernel picks the address, so the new mapping covers nothing that is in use.
        let base = unsafe { mmap(std::ptr::null_mut(), lines * LINE, access, flags, &file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or("the kernel mapped memory at zero")?;
        Ok(Self { base, lines, file })
    }

    /// Start of a line.
    pub(crate) fn pointer(&self, line: usize) -> NonNull<u8> {
        assert!(line < self.lines, "line {line} of {}", self.lines);
        // SAFETY: the line is inside the mapping.
        unsafe { self.base.add(line * LINE) }
    }

    /// The first number of a line.
    pub(crate) fn number(&self, line: usize) -> &AtomicU64 {
        // SAFETY: `pointer` checks the bounds, lines are aligned to 128 bytes, any bytes are a valid
        // AtomicU64, and the borrow of self keeps the mapping.
        unsafe { self.pointer(line).cast().as_ref() }
    }

    /// The first futex word of a line.
    pub(crate) fn futex(&self, line: usize) -> &AtomicU32 {
        // SAFETY: as for `number`.
        unsafe { self.pointer(line).cast().as_ref() }
    }

    /// Consecutive numbers from the start of a line on.
    pub(crate) fn numbers(&self, line: usize, count: usize) -> &[AtomicU64] {
        assert!(
            line * LINE + count * 8 <= self.lines * LINE,
            "{count} numbers at line {line}"
        );
        let first = NonNull::slice_from_raw_parts(self.pointer(line).cast(), count);
        // SAFETY: the bounds were checked above; the rest as for `number`.
        unsafe { first.as_ref() }
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping, and borrows of it end with self.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.lines * LINE) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A path by which a child can open a descriptor of this process.
pub(crate) fn descriptor_path(descriptor: &impl AsFd) -> String {
    format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        descriptor.as_fd().as_raw_fd()
    )
}
