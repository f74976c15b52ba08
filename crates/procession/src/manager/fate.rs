//! How a server ended, for those who are not its parent.
//!
//! Only the parent can ask the system. So it notes the answer in shared memory when it learns it, and until it has asked the server is a zombie, whose
//! exit status anybody may read. Between the two there is nothing to read for a moment: whoever asks then looks again a while ([`PATIENCE`]), and if the parent never notes it
//! (it was reaped by other code), the status is unknown.
//!
//! The lock of the list of our own servers is held over every fork; the child starts with none.

use crate::family::mind_forks;
use crate::heap::HeapError;
use crate::process::Process;
use crate::sys::atfork::Handlers;
use crate::sys::identity;
use crate::sys::pidfd::ExitStatus;
use crate::value::SharedAtomicU64;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long to wait for a parent that has reaped the server and is about to note how it ended.
const PATIENCE: Duration = Duration::from_millis(100);

const KNOWN: u64 = 1 << 63;
const SIGNALED: u64 = 1 << 62;
const CORE: u64 = 1 << 61;

/// What is known about the end of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Fate {
    pub(super) pid: u32,
    /// 0: not known.
    noted: SharedAtomicU64,
}

/// Servers that this process started.
static SERVERS: Mutex<Servers> = Mutex::new(Vec::new());

type Servers = Vec<Weak<Process<()>>>;

static HANDLERS: Handlers = Handlers::new(before_fork, after_fork, in_child);

thread_local! {
    static HELD: RefCell<Option<MutexGuard<'static, Servers>>> = const { RefCell::new(None) };
}

fn servers() -> MutexGuard<'static, Servers> {
    mind_forks(&HANDLERS);
    lock()
}

fn lock() -> MutexGuard<'static, Servers> {
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn before_fork() {
    if HELD.with_borrow(Option::is_none) {
        HELD.set(Some(lock()));
    }
}

extern "C" fn after_fork() {
    HELD.take();
}

extern "C" fn in_child() {
    if let Some(mut servers) = HELD.take() {
        servers.clear();
    }
}

/// Puts a server on the list of this process's own.
pub(super) fn watch(process: &Arc<Process<()>>) {
    let mut servers = servers();
    servers.retain(|server| server.strong_count() > 0);
    servers.push(Arc::downgrade(process));
}

impl Fate {
    pub(super) fn new(pid: u32) -> Result<Self, HeapError> {
        Ok(Self {
            pid,
            noted: SharedAtomicU64::new(0)?,
        })
    }

    /// For the parent: notes how the server ended, if it has.
    pub(super) fn note(&self, status: Option<ExitStatus>) {
        match status {
            None | Some(ExitStatus::Unknown) => {}
            Some(status) => self.noted.store(to_word(status)),
        }
    }

    /// How the server, which has ended, ended.
    pub(super) fn ask(&self) -> ExitStatus {
        if let Some(status) = from_word(self.noted.load()) {
            return status;
        }
        let own = servers()
            .iter()
            .filter_map(Weak::upgrade)
            .find(|process| process.pid() == self.pid);
        let status = match own {
            Some(process) => process.exit_status(),
            None => identity::status_of_zombie(self.pid),
        };
        self.note(status);
        self.noted_soon().unwrap_or(ExitStatus::Unknown)
    }

    /// What is noted, or will be in a moment.
    fn noted_soon(&self) -> Option<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = from_word(self.noted.load());
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            std::thread::sleep(PATIENCE / 100);
        }
    }
}

fn to_word(status: ExitStatus) -> u64 {
    match status {
        ExitStatus::Exited(code) => KNOWN | u64::from(code as u32),
        ExitStatus::Signaled {
            signal,
            core_dumped,
        } => KNOWN | SIGNALED | if core_dumped { CORE } else { 0 } | u64::from(signal as u32),
        ExitStatus::Unknown => 0,
    }
}

fn from_word(word: u64) -> Option<ExitStatus> {
    if word & KNOWN == 0 {
        return None;
    }
    let number = word as u32 as i32;
    Some(if word & SIGNALED == 0 {
        ExitStatus::Exited(number)
    } else {
        ExitStatus::Signaled {
            signal: number,
            core_dumped: word & CORE != 0,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_does_not_wait_for_a_thread_it_left_behind() {
        let fate = Fate::new(u32::MAX).expect("fate");
        let act = || assert_eq!(fate.ask(), ExitStatus::Unknown);
        assert!(crate::sys::atfork::child_comes_through(servers, act));
    }

    #[test]
    fn what_is_noted_is_told() {
        let killed = |core_dumped| ExitStatus::Signaled {
            signal: 9,
            core_dumped,
        };
        let all = [
            ExitStatus::Exited(0),
            ExitStatus::Exited(-3),
            killed(true),
            killed(false),
        ];
        for status in all {
            let fate = Fate::new(u32::MAX).expect("fate");
            assert_eq!(fate.ask(), ExitStatus::Unknown);
            fate.note(None);
            fate.note(Some(status));
            assert_eq!(fate.ask(), status);
        }
    }

    #[test]
    fn a_zombie_tells_how_it_ended() {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "exit 7"])
            .spawn()
            .expect("sh");
        let pidfd = crate::sys::pidfd::Pidfd::open(child.id()).expect("pidfd");
        assert!(pidfd.wait(None).expect("wait"));
        let fate = Fate::new(child.id()).expect("fate");
        assert_eq!(fate.ask(), ExitStatus::Exited(7));
        child.wait().expect("reap");
    }
}
