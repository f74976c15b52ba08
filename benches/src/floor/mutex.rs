//! A pthread mutex shared between processes, with a counter that it guards.
//!
//! # Safety
//!
//! The mutex is initialised by the process that makes the map, before any other opens it, and stays at its
//! place for as long as the map lives.

use super::map::SharedMap;
use crate::harness::Result;
use std::io::Error;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU64;

const MUTEX: usize = 0;
const COUNTER: usize = 1;
const START: usize = 2;

/// Whether the kernel releases the mutex when its holder dies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Robustness {
    Plain,
    Robust,
}

/// See the module's description.
pub(crate) struct SharedMutex {
    map: SharedMap,
}

impl SharedMutex {
    /// A new mutex, unlocked.
    pub(crate) fn create(robustness: Robustness) -> Result<Self> {
        let mutex = Self {
            map: SharedMap::create(3)?,
        };
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: attributes is writable memory of the right type.
        check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        let shared = libc::PTHREAD_PROCESS_SHARED;
        // SAFETY: attributes were initialised above.
        check(unsafe { libc::pthread_mutexattr_setpshared(attributes, shared) })?;
        if robustness == Robustness::Robust {
            let robust = libc::PTHREAD_MUTEX_ROBUST;
            // SAFETY: as above.
            check(unsafe { libc::pthread_mutexattr_setrobust(attributes, robust) })?;
        }
        // SAFETY: the map holds a line for the mutex, which nobody uses yet, and the attributes are set.
        check(unsafe { libc::pthread_mutex_init(mutex.pointer(), attributes) })?;
        Ok(mutex)
    }

    /// The mutex another process invited us to.
    pub(crate) fn open(invitation: &str) -> Result<Self> {
        Ok(Self {
            map: SharedMap::open(invitation)?,
        })
    }

    pub(crate) fn invitation(&self) -> String {
        self.map.invitation()
    }

    /// Runs the closure while the mutex is held.
    #[inline]
    pub(crate) fn with<T>(&self, critical: impl FnOnce() -> T) -> Result<T> {
        // SAFETY: the mutex is initialised and in its place.
        check(unsafe { libc::pthread_mutex_lock(self.pointer()) })?;
        let value = critical();
        // SAFETY: as above, and this thread holds it.
        check(unsafe { libc::pthread_mutex_unlock(self.pointer()) })?;
        Ok(value)
    }

    /// The number the mutex guards.
    pub(crate) fn counter(&self) -> &AtomicU64 {
        self.map.number(COUNTER)
    }

    /// Set when the processes may begin.
    pub(crate) fn start(&self) -> &AtomicU64 {
        self.map.number(START)
    }

    fn pointer(&self) -> *mut libc::pthread_mutex_t {
        self.map.pointer(MUTEX).cast().as_ptr()
    }

    /// Destroys the mutex, which no other process may have opened, and initialises it again, in place.
    pub(crate) fn renew(&mut self) -> Result<()> {
        // SAFETY: nobody holds it: guards end inside `with`, and no other process knows it.
        check(unsafe { libc::pthread_mutex_destroy(self.pointer()) })?;
        // SAFETY: as above; no attributes make a plain mutex.
        check(unsafe { libc::pthread_mutex_init(self.pointer(), std::ptr::null()) })
    }
}

fn check(status: libc::c_int) -> Result<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(Error::from_raw_os_error(status).into())
    }
}
