//! Being told of forks, whoever makes them.
#![expect(unsafe_code, reason = "pthread_atfork, atexit")]
//!
//! # Safety
//! The handlers are plain functions that stay valid for ever; the engine is never unloaded.

use rustix::io::Errno;

/// Runs `prepare` before each fork of this process, then `parent` in it and `child` in the new one (glibc's `fork` and all that is built on
/// it; not `vfork`, `posix_spawn` or a bare `clone`, whose children exec at once).
pub(crate) fn on_fork(
    prepare: extern "C" fn(),
    parent: extern "C" fn(),
    child: extern "C" fn(),
) -> Result<(), Errno> {
    // SAFETY: three functions of the required type.
    let result = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_raw_os_error(result))
    }
}

/// Runs `f` when the process exits in order.
pub(crate) fn on_exit(f: extern "C" fn()) {
    // Fails only for lack of memory; then the process counts as one that did not say good-bye.
    // SAFETY: a function of the required type.
    let _ = unsafe { libc::atexit(f) };
}
