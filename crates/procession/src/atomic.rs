//! The only door to atomics: `core`'s, or loom's when the model checker runs.
//!
//! State machines under `sync/raw` and `channel/ring` take their atomics from here, so the code that
//! loom explores (`--cfg procession_loom`) is the code that ships. A loom atomic carries a history and
//! cannot lie in a mapped heap, which is why those machines take `&State` and never an address.
//!
//! Under loom a thread can be *killed* before its n-th write (see `kill` below): reading changes nothing that others
//! see, so these are all the instants at which a death makes a difference.

#[cfg(not(procession_loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(procession_loom)]
pub(crate) use loom::sync::atomic::{Ordering, fence};

#[cfg(procession_loom)]
pub(crate) use mortal::{AtomicU32, AtomicU64};

/// Ends a loom thread at a chosen write.
#[cfg(procession_loom)]
pub(crate) mod kill {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    /// What a killed thread unwinds with.
    struct Killed;

    loom::thread_local! {
        /// Writes this thread may still do.
        static FUEL: Cell<Option<u32>> = Cell::new(None);
    }

    /// Counts one step of this thread that others can see; it does not return from its last.
    pub(crate) fn step() {
        let fuel = FUEL.with(Cell::get);
        if fuel == Some(0) {
            resume_unwind(Box::new(Killed));
        }
        FUEL.with(|left| left.set(fuel.map(|fuel| fuel - 1)));
    }

    /// Runs `body`, allowing it `fuel` steps; says whether it was killed.
    pub(crate) fn with_fuel(fuel: u32, body: impl FnOnce()) -> bool {
        FUEL.with(|left| left.set(Some(fuel)));
        let ended = catch_unwind(AssertUnwindSafe(body));
        FUEL.with(|left| left.set(None));
        match ended {
            Ok(()) => false,
            Err(payload) if payload.is::<Killed>() => true,
            Err(payload) => resume_unwind(payload),
        }
    }
}

/// Loom's atomics, each write of which is a [`kill::step`].
#[cfg(procession_loom)]
mod mortal {
    use super::kill::step;
    use loom::sync::atomic::Ordering;

    macro_rules! mortal {
        ($name:ident, $int:ty) => {
            #[derive(Debug)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            impl $name {
                pub(crate) fn new(value: $int) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub(crate) fn load(&self, order: Ordering) -> $int {
                    self.0.load(order)
                }

                pub(crate) fn store(&self, value: $int, order: Ordering) {
                    step();
                    self.0.store(value, order);
                }

                pub(crate) fn swap(&self, value: $int, order: Ordering) -> $int {
                    step();
                    self.0.swap(value, order)
                }

                pub(crate) fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                    step();
                    self.0.fetch_add(value, order)
                }

                pub(crate) fn fetch_sub(&self, value: $int, order: Ordering) -> $int {
                    step();
                    self.0.fetch_sub(value, order)
                }

                pub(crate) fn fetch_and(&self, value: $int, order: Ordering) -> $int {
                    step();
                    self.0.fetch_and(value, order)
                }

                pub(crate) fn fetch_or(&self, value: $int, order: Ordering) -> $int {
                    step();
                    self.0.fetch_or(value, order)
                }

                pub(crate) fn compare_exchange(
                    &self,
                    from: $int,
                    to: $int,
                    done: Ordering,
                    failed: Ordering,
                ) -> Result<$int, $int> {
                    step();
                    self.0.compare_exchange(from, to, done, failed)
                }

                pub(crate) fn compare_exchange_weak(
                    &self,
                    from: $int,
                    to: $int,
                    done: Ordering,
                    failed: Ordering,
                ) -> Result<$int, $int> {
                    self.compare_exchange(from, to, done, failed)
                }

                pub(crate) fn fetch_update(
                    &self,
                    done: Ordering,
                    failed: Ordering,
                    mut next: impl FnMut($int) -> Option<$int>,
                ) -> Result<$int, $int> {
                    let mut seen = self.load(failed);
                    while let Some(to) = next(seen) {
                        match self.compare_exchange(seen, to, done, failed) {
                            Ok(seen) => return Ok(seen),
                            Err(now) => seen = now,
                        }
                    }
                    Err(seen)
                }
            }
        };
    }

    mortal!(AtomicU32, u32);
    mortal!(AtomicU64, u64);
}
