//! A forked child for a test, killed and reaped at the latest when it is dropped.

use std::time::{Duration, Instant};

/// Time that no test needs.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A child process.
#[derive(Debug)]
pub(crate) struct Forked {
    pid: libc::pid_t,
    reaped: bool,
}

/// Runs `body` in a forked child, which ends with its result as exit code: 0 if it is true, 1 if not, 101 if it panicked.
#[expect(unsafe_code, reason = "fork")]
pub(crate) fn fork(body: impl FnOnce() -> bool) -> Forked {
    // SAFETY: the child runs only `body` and `_exit`: it does not return into the test harness, whose other threads it lacks. glibc
    // keeps malloc usable in the child, and the bodies use nothing else that another thread could have held.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid > 0 {
        return Forked { pid, reaped: false };
    }
    let code = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(_) => 101,
    };
    // SAFETY: ends the child at once.
    unsafe { libc::_exit(code) }
}

/// Waits for what another process will do soon.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

/// Sleeps until killed.
pub(crate) fn forever() -> bool {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

impl Forked {
    /// Kills it as hard as possible.
    #[expect(unsafe_code, reason = "kill")]
    pub(crate) fn kill(&self) {
        // SAFETY: our own child, not reaped yet, so the pid is its.
        let killed = unsafe { libc::kill(self.pid, libc::SIGKILL) };
        assert_eq!(killed, 0, "kill");
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Waits for its end; its exit code, or minus the signal.
    #[expect(unsafe_code, reason = "waitpid")]
    pub(crate) fn join(mut self) -> i32 {
        let mut status = 0;
        // SAFETY: our own child; `status` is ours.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        assert_eq!(waited, self.pid, "waitpid");
        self.reaped = true;
        if libc::WIFSIGNALED(status) {
            -libc::WTERMSIG(status)
        } else {
            libc::WEXITSTATUS(status)
        }
    }
}

impl Drop for Forked {
    #[expect(unsafe_code, reason = "kill, waitpid")]
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            // SAFETY: our own child; no status is asked for.
            unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
        }
    }
}
