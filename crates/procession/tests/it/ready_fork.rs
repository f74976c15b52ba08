//! Child processes for tests: `fork`, a closure, exit.

/// A forked child; killed and reaped on drop if it is still there.
#[derive(Debug)]
pub(crate) struct Child(i32);

/// Runs `f` in a child process. It ends with code 0, or 1 after a panic.
#[expect(unsafe_code, reason = "fork")]
pub(crate) fn fork(f: impl FnOnce()) -> Child {
    // SAFETY: the child runs only `f` and `_exit`; the tests' other threads hold no lock that `f` needs for longer than the
    // engine's and libc's fork handlers wait for.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(ended.is_err())) };
    }
    Child(pid)
}

impl Child {
    pub(crate) fn pid(&self) -> i32 {
        self.0
    }

    #[expect(unsafe_code, reason = "kill")]
    pub(crate) fn kill(&self) {
        // SAFETY: a process of our own that was not reaped yet.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
    }

    /// Waits for its end; the raw status.
    #[expect(unsafe_code, reason = "waitpid")]
    pub(crate) fn join(mut self) -> i32 {
        let pid = std::mem::take(&mut self.0);
        let mut status = -1;
        // SAFETY: writes one int.
        unsafe { libc::waitpid(pid, &mut status, 0) };
        status
    }
}

impl Drop for Child {
    #[expect(unsafe_code, reason = "waitpid")]
    fn drop(&mut self) {
        if self.0 != 0 {
            self.kill();
            // SAFETY: writes nothing.
            unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
        }
    }
}
