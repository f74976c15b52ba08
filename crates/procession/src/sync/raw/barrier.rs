//! A meeting point for `parties`, round after round, that breaks if one of them times out or dies.
//!
//! ```text
//! state = round:32 | count:24 | unused:6 | RESETTING:1 | BROKEN:1      one record per party: round:32 | owner:32
//!
//!   state                      meaning
//!   count < parties            filling; `count` have arrived in this round
//!   count = parties            full: the last one runs the action, then opens. Nobody else gets in
//!   round + 1, count 0         opened: everybody who arrived in `round` may go
//!   BROKEN                     who arrived in this round gets an error, who comes gets one too
//!   BROKEN | RESETTING         who arrived still gets the error, who comes waits for the next round
//!
//!   record                     meaning
//!   owner, this round          that participant arrives, or has arrived and not left
//!   0, or of another round     free
//! ```
//!
//! An arrival first writes a record (CAS) and then counts itself in (CAS on `state`, which fails if the round is no longer filling).
//! One step opens a round: all its records become stale with it, nobody needs to clear anything, and a fast
//! party may arrive in the next round while slow ones still leave.
//!
//! **Who got through?** A round number moves on in two ways only: opened, or broken and *reset*. A reset waits until no record of the broken
//! round is left, and each counted party clears its own on the way out. So for a counted party: BROKEN in its own round
//! means broken, a later round means opened. All of a round agree.
//!
//! **Sleeping** is on `bell = sequence:31 | WAITERS:1`, rung after each change that somebody may wait for. A sleeper reads the
//! bell, then `state`, then marks the bell and sleeps on it: a ring in between changes the bell.
//!
//! **Death.** (a) Record written, not counted in; (b) counted in, waiting; (c) last, before or in the action, not opened
//! yet: in all three there is a record of the current round, and [`RawBarrier::reap`] breaks the round, then
//! clears the record (in that order: a dead reaper leaves the record for the next). A waiter whose sleep ends without news asks for
//! itself whether an arrived party is gone. (d) Opened or broken, bell not rung: reap rings, and wakes everybody. (e) Broken round, record not cleared:
//! reap clears it and completes a reset that waits for it. (f) Reset asked for, not completed: whoever leaves or arrives
//! completes it. A party that dies before it arrives leaves no trace here: whoever expects it calls [`RawBarrier::abort`], or keeps a [`Parties`] list.
//!
//! **Ordering.** Every change of `state` is an AcqRel read-modify-write, and each reader acquires: what a party did before
//! it arrived is seen by all who leave. Clearing a record is followed, and a look at all records preceded, by
//! a read-modify-write of `state`: of a leaver and a resetter the second one sees the other.

use super::{Deadline, Port, Slept};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::Owner;

/// The round has failed.
const BROKEN: u64 = 1;
/// A new round begins as soon as everybody has left this one.
const RESETTING: u64 = 2;
/// One arrival.
const ONE: u64 = 1 << 8;
/// How many parties fit.
pub(crate) const BARRIER_MAX: usize = (1 << 24) - 1;
/// Bell: somebody may be asleep.
const WAITERS: u32 = 1;

/// Why a party did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierError {
    /// Aborted, reset, timed out by another party, or a party died.
    Broken,
    /// This party's deadline passed; if it had arrived, that broke the barrier for all.
    TimedOut,
}

/// One arrival, until it is [opened](RawBarrier::open), [waited](RawBarrier::wait) for or [withdrawn](RawBarrier::withdraw).
#[derive(Debug)]
#[must_use]
pub(crate) struct Arrival {
    /// How many had arrived before in this round.
    pub(crate) index: u32,
    /// All others are there: run the action, if any, then `open`.
    pub(crate) is_last: bool,
    round: u32,
    record: usize,
}

/// The record of one arrived party. All zero is free.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawArrival {
    word: AtomicU64,
}

/// The barrier as it lies in the heap. All zero is a new one; as many records as it has parties are handed in each time.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(not(procession_loom), derive(zerocopy::FromBytes))]
pub(crate) struct RawBarrier {
    state: AtomicU64,
    bell: AtomicU32,
    reserved: AtomicU32,
}

/// Who is expected at a barrier, one bit for each place in the family. A bit is set before its process first arrives, and cleared when that process is reaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parties<'a>(pub(crate) &'a [AtomicU64]);

impl Parties<'_> {
    fn place(&self, owner: Owner) -> Option<(&AtomicU64, u64)> {
        let word = self.0.get(owner.slot() / 64)?;
        Some((word, 1 << (owner.slot() % 64)))
    }

    /// Expects `owner` from now on.
    pub(crate) fn enter(&self, owner: Owner) {
        if let Some((word, bit)) = self.place(owner)
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    fn has(&self, owner: Owner) -> bool {
        self.place(owner)
            .is_some_and(|(word, bit)| word.load(Ordering::SeqCst) & bit != 0)
    }

    /// A participant died: breaks `barrier` if it is `missed`, which is told whether it was expected. The bit goes last, so that a reaper that dies in here
    /// leaves it for the next one.
    pub(crate) fn reap(
        &self,
        barrier: &RawBarrier,
        port: &impl Port,
        dead: Owner,
        missed: impl FnOnce(bool) -> bool,
    ) {
        let was_party = self.has(dead);
        if missed(was_party) {
            barrier.abort(port);
        }
        if was_party && let Some((word, bit)) = self.place(dead) {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }
}

/// The round in a state or a record.
fn round_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// How many have arrived.
fn count_of(state: u64) -> usize {
    ((state & u64::from(u32::MAX)) / ONE) as usize
}

/// The state in which the next round begins.
fn next_round(state: u64) -> u64 {
    u64::from(round_of(state).wrapping_add(1)) << 32
}

/// What `owner` writes down when it arrives in `round`.
fn record_word(round: u32, owner: Owner) -> u64 {
    (u64::from(round) << 32) | u64::from(owner.to_word())
}

impl RawArrival {
    /// A free record.
    #[cfg(all(test, procession_loom))]
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
        }
    }

    /// Who arrived here, and in which round.
    fn read(&self) -> Option<(u32, Owner)> {
        let word = self.word.load(Ordering::Acquire);
        Owner::from_word(word as u32).map(|owner| (round_of(word), owner))
    }

    /// Takes the record for `owner`, unless somebody has arrived here in `round`.
    fn take(&self, round: u32, owner: Owner) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        let is_free = word == 0 || round_of(word) != round;
        is_free && self.turn(word, record_word(round, owner))
    }

    /// Clears what `owner` wrote in `round`.
    fn clear(&self, round: u32, owner: Owner) {
        self.turn(record_word(round, owner), 0);
    }

    fn turn(&self, from: u64, to: u64) -> bool {
        self.word
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

impl RawBarrier {
    /// A barrier nobody has arrived at.
    #[cfg(all(test, procession_loom))]
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            bell: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
        }
    }

    /// Arrives and gets through with all others; the arrival index is unique in the round.
    #[cfg(test)]
    pub(crate) fn pass(
        &self,
        records: &[RawArrival],
        port: &impl Port,
        deadline: Deadline,
    ) -> Result<u32, BarrierError> {
        let arrival = self.arrive(records, port, deadline)?;
        if arrival.is_last {
            self.open(records, port, arrival)
        } else {
            self.wait(records, port, arrival, deadline)
        }
    }

    /// Arrives; waits only while the last round is full but not open yet, or a reset is not complete.
    pub(crate) fn arrive(
        &self,
        records: &[RawArrival],
        port: &impl Port,
        deadline: Deadline,
    ) -> Result<Arrival, BarrierError> {
        debug_assert!(!records.is_empty() && records.len() <= BARRIER_MAX);
        let mut turn = 0;
        loop {
            // Acquire pairs with the Release in `ring`: what was rung for before is seen below.
            let bell = self.bell.load(Ordering::Acquire);
            let state = self.state.load(Ordering::Acquire);
            if state & RESETTING != 0 {
                if self.finish_reset(records, port) {
                    continue;
                }
            } else if state & BROKEN != 0 {
                return Err(BarrierError::Broken);
            } else if let Some(record) = take_record(records, round_of(state), port.me()) {
                match self.count_in(records.len(), round_of(state), record) {
                    Some(arrival) => return Ok(arrival),
                    None => self.leave(records, port, round_of(state), record),
                }
                continue;
            }
            match self.pause(port, &mut turn, bell, deadline) {
                Some(Slept::TimedOut) => return Err(BarrierError::TimedOut),
                Some(Slept::Again) => self.break_if_party_gone(records, port, state),
                None => {}
            }
        }
    }

    /// Lets a full round through, on behalf of its last party.
    pub(crate) fn open(
        &self,
        records: &[RawArrival],
        port: &impl Port,
        arrival: Arrival,
    ) -> Result<u32, BarrierError> {
        debug_assert!(arrival.is_last);
        let opened = self.change(|state| {
            let is_mine = round_of(state) == arrival.round && state & BROKEN == 0;
            is_mine.then(|| next_round(state))
        });
        if opened {
            self.ring(port);
            return Ok(arrival.index);
        }
        self.leave(records, port, arrival.round, arrival.record);
        Err(BarrierError::Broken)
    }

    /// Waits until the round opens. Breaks it if `deadline` passes before it is full; once the last party is there, it alone
    /// decides (its death breaks the round, too).
    pub(crate) fn wait(
        &self,
        records: &[RawArrival],
        port: &impl Port,
        arrival: Arrival,
        deadline: Deadline,
    ) -> Result<u32, BarrierError> {
        if let Some(passed) = self.watch(records, port, &arrival, deadline) {
            return passed;
        }
        if self.expire(records, port, &arrival) {
            return Err(BarrierError::TimedOut);
        }
        loop {
            if let Some(passed) = self.watch(records, port, &arrival, None) {
                return passed;
            }
        }
    }

    /// Waits until the round is over, and says how it ended: the arrival is spent then. `None` if `deadline` passes first, which breaks nothing.
    pub(crate) fn watch(
        &self,
        records: &[RawArrival],
        port: &impl Port,
        arrival: &Arrival,
        deadline: Deadline,
    ) -> Option<Result<u32, BarrierError>> {
        let mut turn = 0;
        loop {
            // As in `arrive`.
            let bell = self.bell.load(Ordering::Acquire);
            let state = self.state.load(Ordering::Acquire);
            if round_of(state) != arrival.round {
                return Some(Ok(arrival.index));
            }
            if state & BROKEN != 0 {
                self.leave(records, port, arrival.round, arrival.record);
                return Some(Err(BarrierError::Broken));
            }
            match self.pause(port, &mut turn, bell, deadline) {
                None => {}
                Some(Slept::Again) => self.break_if_party_gone(records, port, state),
                Some(Slept::TimedOut) => return None,
            }
        }
    }

    /// Breaks the round, unless it is full or over: `true`, and the arrival is spent, if that broke it.
    pub(crate) fn expire(
        &self,
        records: &[RawArrival],
        port: &impl Port,
        arrival: &Arrival,
    ) -> bool {
        let broken = self.break_unless_full(records.len(), port, arrival.round);
        if broken {
            self.leave(records, port, arrival.round, arrival.record);
        }
        broken
    }

    /// How a [`wait`](Self::wait) would end now; `None` if it would go on. After an answer the arrival is spent.
    #[cfg(not(procession_loom))]
    pub(crate) fn check(
        &self,
        records: &[RawArrival],
        port: &impl Port,
        arrival: &Arrival,
    ) -> Option<Result<u32, BarrierError>> {
        let state = self.state.load(Ordering::Acquire);
        if round_of(state) != arrival.round {
            return Some(Ok(arrival.index));
        }
        if state & BROKEN == 0 {
            return None;
        }
        self.leave(records, port, arrival.round, arrival.record);
        Some(Err(BarrierError::Broken))
    }

    /// The whole state, to see whether it has changed since.
    #[cfg(not(procession_loom))]
    pub(crate) fn now(&self) -> u64 {
        self.state.load(Ordering::Acquire)
    }

    /// Marks that somebody may sleep; the word to sleep on. Look at the state afterwards.
    #[cfg(not(procession_loom))]
    pub(crate) fn announce(&self) -> u32 {
        self.bell.fetch_or(WAITERS, Ordering::SeqCst) | WAITERS
    }

    /// The word that its sleepers sleep on.
    #[cfg(not(procession_loom))]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.bell
    }

    /// Breaks the round and leaves it: the action failed, or the caller cannot wait any longer.
    pub(crate) fn withdraw(&self, records: &[RawArrival], port: &impl Port, arrival: Arrival) {
        self.break_round(port, arrival.round);
        self.leave(records, port, arrival.round, arrival.record);
    }

    /// Breaks the barrier until it is reset.
    pub(crate) fn abort(&self, port: &impl Port) {
        if self.change(|state| {
            let aborted = (state | BROKEN) & !RESETTING;
            (aborted != state).then_some(aborted)
        }) {
            self.ring(port);
        }
    }

    /// Begins a new round; whoever waits in the old one gets `Broken`. Does not wait.
    pub(crate) fn reset(&self, records: &[RawArrival], port: &impl Port) {
        let must_drain = self.change(|state| {
            let is_new = count_of(state) == 0 && state & BROKEN == 0;
            (!is_new && state & RESETTING == 0).then_some(state | BROKEN | RESETTING)
        });
        if must_drain {
            self.ring(port);
        }
        self.finish_reset(records, port);
    }

    /// How many have arrived in this round; none if it is broken.
    pub(crate) fn n_waiting(&self) -> usize {
        let state = self.state.load(Ordering::Acquire);
        if state & BROKEN == 0 {
            count_of(state)
        } else {
            0
        }
    }

    /// Whether the barrier stays broken until somebody resets it.
    pub(crate) fn is_broken(&self) -> bool {
        self.state.load(Ordering::Acquire) & (BROKEN | RESETTING) == BROKEN
    }

    /// Breaks the round if `dead` had arrived in it, and clears away its records. Says whether it had. Idempotent.
    ///
    /// How the participant ended does not matter: a thread that is counted in a round and will never leave it must not
    /// let the others believe that it met them.
    pub(crate) fn reap(&self, records: &[RawArrival], port: &impl Port, dead: Owner) -> bool {
        let mut had_arrived = false;
        for record in records {
            if let Some((round, owner)) = record.read()
                && owner == dead
            {
                had_arrived |= self.break_round(port, round);
                record.clear(round, owner);
            }
        }
        self.finish_reset(records, port);
        // The dead one may have owed a ring (somebody looked before its change, and is about to sleep), or the wake after it.
        self.ring(port);
        port.wake(&self.bell, super::ALL);
        had_arrived
    }

    /// Counts the owner of `record` in, if `round` is still filling.
    fn count_in(&self, parties: usize, round: u32, record: usize) -> Option<Arrival> {
        let mut state = self.state.load(Ordering::Relaxed);
        while round_of(state) == round && state & BROKEN == 0 && count_of(state) < parties {
            match self.state.compare_exchange_weak(
                state,
                state + ONE,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    let index = count_of(state);
                    let is_last = index + 1 == parties;
                    return Some(Arrival {
                        index: index as u32,
                        is_last,
                        round,
                        record,
                    });
                }
                Err(now) => state = now,
            }
        }
        None
    }

    /// Clears the caller's record, and completes a reset that waited for that.
    fn leave(&self, records: &[RawArrival], port: &impl Port, round: u32, record: usize) {
        if let Some(record) = records.get(record) {
            record.clear(round, port.me());
        }
        self.finish_reset(records, port);
    }

    /// Begins the next round if a reset was asked for and nobody is left in this one.
    fn finish_reset(&self, records: &[RawArrival], port: &impl Port) -> bool {
        // A read-modify-write that changes nothing: it stands before or after the one that set RESETTING, never beside it.
        let state = self.state.fetch_or(0, Ordering::AcqRel);
        let is_drained = || {
            !records
                .iter()
                .filter_map(RawArrival::read)
                .any(|(round, _)| round == round_of(state))
        };
        let finished = state & RESETTING != 0
            && is_drained()
            && self
                .state
                .compare_exchange(
                    state,
                    next_round(state),
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                )
                .is_ok();
        if finished {
            self.ring(port);
        }
        finished
    }

    /// Breaks `round` if it is still the current one and whole.
    fn break_round(&self, port: &impl Port, round: u32) -> bool {
        self.break_unless_full(usize::MAX, port, round)
    }

    /// Breaks `round` if it is the current one, whole, and has fewer than `parties` arrivals.
    fn break_unless_full(&self, parties: usize, port: &impl Port, round: u32) -> bool {
        let broken = self.change(|state| {
            let is_whole = round_of(state) == round && state & BROKEN == 0;
            (is_whole && count_of(state) < parties).then_some(state | BROKEN)
        });
        if broken {
            self.ring(port);
        }
        broken
    }

    /// Breaks the round if nothing has happened since `state` was read and an arrived party is proved gone.
    #[cold]
    fn break_if_party_gone(&self, records: &[RawArrival], port: &impl Port, state: u64) {
        if self.state.load(Ordering::Acquire) != state {
            return;
        }
        let is_gone = records
            .iter()
            .filter_map(RawArrival::read)
            .any(|(round, owner)| {
                round == round_of(state) && owner != port.me() && port.is_gone(owner)
            });
        if is_gone {
            self.break_round(port, round_of(state));
        }
    }

    /// Replaces `state` by what `next` makes of it; `false`, and nothing changes, if that is `None`.
    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> bool {
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .is_ok()
    }

    /// Tells all who wait that `state` has changed.
    fn ring(&self, port: &impl Port) {
        let mut bell = self.bell.load(Ordering::Relaxed);
        loop {
            let rung = (bell | WAITERS).wrapping_add(1);
            // Release pairs with the Acquire of the bell in `arrive` and `wait`.
            match self
                .bell
                .compare_exchange_weak(bell, rung, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => bell = now,
            }
        }
        if bell & WAITERS != 0 {
            port.wake(&self.bell, super::ALL);
        }
    }

    /// Spins a little (`None`), later sleeps until the bell rings.
    fn pause(
        &self,
        port: &impl Port,
        turn: &mut u32,
        bell: u32,
        deadline: Deadline,
    ) -> Option<Slept> {
        if port.spin(*turn) {
            *turn = turn.saturating_add(1);
            return None;
        }
        let marked = bell | WAITERS;
        match self
            .bell
            .compare_exchange(bell, marked, Ordering::Relaxed, Ordering::Relaxed)
        {
            Err(now) if now != marked => None,
            _ => Some(port.sleep(&self.bell, marked, deadline)),
        }
    }
}

/// Writes `me` into a record that is free in `round`.
fn take_record(records: &[RawArrival], round: u32, me: Owner) -> Option<usize> {
    records.iter().position(|record| record.take(round, me))
}

#[cfg(not(procession_loom))]
const _: () = assert!(size_of::<RawBarrier>() == 16 && size_of::<RawArrival>() == 8);
