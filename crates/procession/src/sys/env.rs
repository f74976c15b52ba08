//! Changing this process's environment and standard streams, early in a child's life.
//!
//! # Safety
//! Changing the environment is unsound while another thread may read it through the C library. The functions here are called by children
//! before the user's function runs: after exec (`init()` comes first in `main`, or before it) or after a fork, when the calling thread is the only one.
#![expect(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::io::FdFlags;
use std::io;

/// Takes a variable out of the environment.
pub(crate) fn take(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    // SAFETY: see the header.
    unsafe { std::env::remove_var(name) };
    Some(value)
}

/// Sets a variable, or removes it.
pub(crate) fn set(name: &OsStr, value: Option<&OsStr>) {
    let bytes = name.as_encoded_bytes();
    if bytes.is_empty() || bytes.contains(&b'=') || bytes.contains(&0) {
        return;
    }
    match value {
        // SAFETY: see the header; the name was checked, a value with a null would panic.
        Some(value) if !value.as_encoded_bytes().contains(&0) => unsafe {
            std::env::set_var(name, value)
        },
        Some(_) => {}
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(name) },
    }
}

/// Makes `fd` the descriptor `number` (0, 1 or 2).
pub(crate) fn replace_stdio(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: replaces a standard stream by an open descriptor: the number stays open for whoever uses it.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A descriptor that our parent passed under this number, ours from now on; closed on exec.
///
/// Called at most once for each number that an invitation named.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: borrowed for two calls that fail on a number that is not open.
    let probe = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = rustix::io::fcntl_getfd(probe)?;
    rustix::io::fcntl_setfd(probe, flags | FdFlags::CLOEXEC)?;
    // SAFETY: it is open (just checked), and the parent put it there for us: nobody else in this process, which has just been executed, owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A duplicate of whatever is open under this number.
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: borrowed for one call that fails on a number that is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 0)?)
}

/// Shows this process in `ps` and `top` under the name of its program. It was executed through `/proc/self/exe`, and would appear as `exe`.
pub(crate) fn take_program_name() {
    let program = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = program.as_deref().and_then(std::path::Path::file_name);
    if let Some(name) = name.and_then(|name| CString::new(name.as_bytes()).ok()) {
        // Only a label: not having it changes nothing.
        let _ = rustix::thread::set_name(&name);
    }
}
