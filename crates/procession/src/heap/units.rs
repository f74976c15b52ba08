//! Big blocks: runs of 64 KiB units, found first-fit, split and merged under one lock, reused without it.
//!
//! The truth is one word at the first unit of each run (`word.rs`): walking from unit 0 by the lengths visits every run. Under the lock,
//! each step is a single store, so a death inside it leaves a walk that is whole:
//!
//! - *split* run u (length L) for n units: write `VOID, L-n` at u+n (not yet reached by the walk), then CAS u to `OWNED, n`, then store `FREE` at u+n.
//!   Died before the CAS: u is as it was. After: the walk meets a `VOID` run, which counts as free.
//! - *merge* v into the free run u before it: CAS v `FREE -> VOID`, then CAS u to the sum. Died between: v is a `VOID` run, free.
//! - *extend* into untouched space: write the run's word, then store the new `units_used`.
//!
//! Freeing is one CAS without the lock. So is taking back a run this process knows by heart (`KNOWN`): `FREE, n -> OWNED, n`. That cannot clash with a
//! split or merge, because those CAS the same word first. A freed run keeps its pages (copying into warm pages is ten times faster, H4) up to a limit.

use super::error::HeapError;
use super::layout::UNIT;
use super::mapping::{Heap, me};
use super::port::ShortWait;
use super::word::{MAX_UNITS, State, Word};
use crate::atomic::Ordering;
use std::sync::Mutex;

/// Free runs stay warm up to this share of the heap limit ...
const WARM_SHARE: u64 = 8;
/// ... and at least this much.
const WARM_MIN: u64 = 256 << 20;
/// How many runs a process remembers.
const KNOWN_RUNS: usize = 16;

/// Runs that this process allocated or freed lately: first unit and length.
static KNOWN: Mutex<Vec<(u32, u32)>> = Mutex::new(Vec::new());

/// A run that was just taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) unit: u32,
    pub(crate) word: Word,
    /// Nobody ever wrote to it, or its pages went back to the system: it reads as zeros.
    pub(crate) zeroed: bool,
}

impl Heap {
    /// Takes a run of `len` units for the calling process.
    pub(crate) fn take_units(&self, len: u32) -> Result<Taken, HeapError> {
        let largest = (self.layout().units as u32).min(MAX_UNITS);
        if len > largest {
            let bytes = |units: u32| u64::from(units) * UNIT as u64;
            return Err(HeapError::TooLarge {
                requested: bytes(len),
                largest: bytes(largest),
            });
        }
        self.reserve(u64::from(len) * UNIT as u64)?;
        let taken = self.retake_known(len).or_else(|| self.take_locked(len));
        match taken {
            Some(taken) => {
                self.cool(taken.zeroed, len);
                remember(taken.unit, len);
                Ok(taken)
            }
            None => {
                self.unreserve(u64::from(len) * UNIT as u64);
                Err(self.full(u64::from(len) * UNIT as u64))
            }
        }
    }

    /// Frees a run that the calling process owns (the word it last wrote says so).
    pub(crate) fn free_units(&self, unit: u32, owned: Word) {
        let bytes = u64::from(owned.len()) * UNIT as u64;
        let header = self.header();
        let keep = (header.limit.load(Ordering::Relaxed) / WARM_SHARE).max(WARM_MIN);
        let room = keep.saturating_sub(header.warm.load(Ordering::Relaxed));
        // Pages that the system does not take back are warm, whatever the limit: they do not read as zeros.
        let warm = bytes <= room || !self.punch_units(unit, owned.len());
        if warm {
            header.warm.fetch_add(bytes, Ordering::Relaxed);
        }
        if owned
            .swap(
                &self.unit_words()[unit as usize],
                owned.with(State::FREE, 0).with_warm(warm),
            )
            .is_ok()
        {
            self.unreserve(bytes);
            remember(unit, owned.len());
        }
    }

    /// Counts `bytes` as used, if the limit allows.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), HeapError> {
        let header = self.header();
        let used = header.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > header.limit.load(Ordering::Relaxed) {
            self.unreserve(bytes);
            return Err(self.full(bytes));
        }
        Ok(())
    }

    pub(crate) fn unreserve(&self, bytes: u64) {
        // A recount after a crash may have been lower than what is given back: never below zero.
        let _ = self
            .header()
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                Some(used.saturating_sub(bytes))
            });
    }

    pub(crate) fn full(&self, requested: u64) -> HeapError {
        let header = self.header();
        HeapError::Full {
            requested,
            used: header.used.load(Ordering::Relaxed),
            limit: header.limit.load(Ordering::Relaxed),
        }
    }

    fn cool(&self, zeroed: bool, len: u32) {
        if !zeroed {
            let bytes = u64::from(len) * UNIT as u64;
            let _ = self
                .header()
                .warm
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |warm| {
                    Some(warm.saturating_sub(bytes))
                });
        }
    }

    /// Takes back a run of just this length that this process used before, if it is free now.
    fn retake_known(&self, len: u32) -> Option<Taken> {
        let known = KNOWN.lock().ok()?;
        known
            .iter()
            .rev()
            .filter(|run| run.1 == len)
            .find_map(|&(unit, _)| {
                let at = &self.unit_words()[unit as usize];
                let word = Word::load(at);
                if word.state() != State::FREE || word.len() != len {
                    return None;
                }
                let owned = word
                    .next_generation()
                    .with(State::OWNED, me().slot())
                    .with_warm(false);
                word.swap(at, owned).ok().map(|()| Taken {
                    unit,
                    word: owned,
                    zeroed: !word.is_warm(),
                })
            })
    }

    fn take_locked(&self, len: u32) -> Option<Taken> {
        let header = self.header();
        // Without a deadline this always succeeds.
        header.units_lock.acquire(&ShortWait, None).ok()?;
        let taken = self.take_first_fit(len).or_else(|| self.extend(len));
        let _ = header.units_lock.release(&ShortWait);
        taken
    }

    fn take_first_fit(&self, len: u32) -> Option<Taken> {
        let header = self.header();
        let rover = header.rover.load(Ordering::Relaxed);
        let end = header.units_used.load(Ordering::Relaxed);
        let rover_is_head =
            rover < end && Word::load(&self.unit_words()[rover as usize]).state() != State::VOID;
        let start = if rover_is_head { rover } else { 0 };
        let found = self
            .scan_fit(start, end, len)
            .or_else(|| self.scan_fit(0, end, len));
        if let Some(taken) = found {
            header.rover.store(taken.unit, Ordering::Relaxed);
        }
        found
    }

    /// Walks the runs in `start..end`, merging free neighbours, until one fits.
    fn scan_fit(&self, start: u32, end: u32, len: u32) -> Option<Taken> {
        let words = self.unit_words();
        let mut unit = start;
        while unit < end {
            let word = Word::load(&words[unit as usize]);
            let run = word.len().max(1);
            if word.state().is_allocated() {
                unit += run;
                continue;
            }
            let word = if word.state() == State::VOID {
                self.heal(unit, word)
            } else {
                word
            };
            let word = self.merge_following(unit, word, end, len);
            if word.state() == State::FREE && word.len() >= len {
                if let Some(taken) = self.split(unit, word, len) {
                    return Some(taken);
                }
                continue;
            }
            unit += Word::load(&words[unit as usize]).len().max(1);
        }
        None
    }

    /// A `VOID` run that the walk meets was left by a death: it is free, with unknown content.
    fn heal(&self, unit: u32, word: Word) -> Word {
        let free = word
            .with(State::FREE, 0)
            .with_warm(true)
            .with_len(word.len().max(1));
        match word.swap(&self.unit_words()[unit as usize], free) {
            Ok(()) => free,
            Err(now) => now,
        }
    }

    /// Merges free runs that follow `unit` until `len` units are together or an allocated one comes.
    fn merge_following(&self, unit: u32, mut word: Word, end: u32, len: u32) -> Word {
        let words = self.unit_words();
        while word.state() == State::FREE && word.len() < len {
            let next = unit + word.len();
            if next >= end {
                break;
            }
            let at = &words[next as usize];
            let follower = Word::load(at);
            if follower.state().is_allocated() {
                break;
            }
            // From here on nobody can take the follower by itself.
            if follower.swap(at, follower.with(State::VOID, 0)).is_err() {
                break;
            }
            let warm = word.is_warm() || follower.is_warm() || follower.state() == State::VOID;
            let merged = word
                .with_len(word.len() + follower.len().max(1))
                .with_warm(warm);
            match word.swap(&words[unit as usize], merged) {
                Ok(()) => word = merged,
                // Our own run was taken meanwhile: the follower stays VOID, which the walk heals.
                Err(now) => return now,
            }
        }
        word
    }

    fn split(&self, unit: u32, word: Word, len: u32) -> Option<Taken> {
        let words = self.unit_words();
        let rest = word.len() - len;
        let rest_at = (rest > 0).then(|| &words[(unit + len) as usize]);
        if let Some(at) = rest_at {
            let old = Word::load(at);
            at.store(
                old.with(State::VOID, 0)
                    .with_len(rest)
                    .with_warm(word.is_warm())
                    .0,
                Ordering::SeqCst,
            );
        }
        let owned = word
            .next_generation()
            .with(State::OWNED, me().slot())
            .with_len(len)
            .with_warm(false);
        word.swap(&words[unit as usize], owned).ok()?;
        if let Some(at) = rest_at {
            let old = Word::load(at);
            at.store(old.with(State::FREE, 0).0, Ordering::SeqCst);
        }
        Some(Taken {
            unit,
            word: owned,
            zeroed: !word.is_warm(),
        })
    }

    fn extend(&self, len: u32) -> Option<Taken> {
        let header = self.header();
        let unit = header.units_used.load(Ordering::Relaxed);
        let end = unit
            .checked_add(len)
            .filter(|&end| end as usize <= self.layout().units)?;
        let at = &self.unit_words()[unit as usize];
        let owned = Word::load(at)
            .next_generation()
            .with(State::OWNED, me().slot())
            .with_len(len)
            .with_warm(false);
        at.store(owned.0, Ordering::SeqCst);
        header.units_used.store(end, Ordering::SeqCst);
        Some(Taken {
            unit,
            word: owned,
            zeroed: true,
        })
    }

    /// Calls `f` for each run, under the lock.
    pub(crate) fn each_run(&self, mut f: impl FnMut(u32, Word)) {
        let header = self.header();
        if header.units_lock.acquire(&ShortWait, None).is_err() {
            return;
        }
        let end = header
            .units_used
            .load(Ordering::Relaxed)
            .min(self.layout().units as u32);
        let mut unit = 0;
        while unit < end {
            let word = Word::load(&self.unit_words()[unit as usize]);
            f(unit, word);
            unit += word.len().max(1);
        }
        let _ = header.units_lock.release(&ShortWait);
    }
}

fn remember(unit: u32, len: u32) {
    let Ok(mut known) = KNOWN.lock() else { return };
    known.retain(|run| run.0 != unit);
    if known.len() == KNOWN_RUNS {
        known.remove(0);
    }
    known.push((unit, len));
}

/// Before a fork: nobody else in this process is inside the list.
pub(crate) fn lock_known() -> Option<std::sync::MutexGuard<'static, Vec<(u32, u32)>>> {
    KNOWN.lock().ok()
}
