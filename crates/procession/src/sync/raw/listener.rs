//! Who wants to be told by a ring that some other state, which lies elsewhere, has changed: one word each, and a word for all.
//!
//! ```text
//! word = sequence:32 | state:2 | owner:30          owner = 0: free
//!
//!   IDLE --listener--> ARMED --ringer--> PENDING --ringer, after its ring--> NOTIFIED --listener, after draining--> ARMED (sequence + 1)
//!                           <--ringer, nothing is there any more--
//! ```
//!
//! - *Listener*: IDLE if ARMED; wait while PENDING, a moment at the most; drain the bell; ARMED; raise its bit in `armed`; look at the state again.
//! - *Ringer*: change the state; fence; if `armed` is not zero: for each word ARMED or PENDING: PENDING; if there still is something: ring, NOTIFIED.
//!
//! **No lost ring.** As for a [bell](super::RawBell), one of both sees the other. A ringer that dies before its ring leaves PENDING, and the reaper, or the next ringer
//! whose patience ends, rings again; one that dies after it has rung. Only the listener goes back to ARMED, and the sequence keeps a slow ringer of an earlier arming from saying
//! NOTIFIED in a later one. A ringer that dies between its change and its look at `armed` is made good for by the reaper.
//!
//! **No ring for nothing.** Somebody who was awake may take what a ringer is about to ring for. If it was taken before the ringer said PENDING, the ringer sees that nothing is there.
//! If after, the listener, who arms because it found nothing, sees PENDING and waits for the ring, to drain it; and it is IDLE while it drains, so that no new one comes behind. So a bell that rang means that there is something, or that
//! another process has taken it, or that the ringer is dead or was slower than others' patience. For the same reason nobody rings beside a ringer: the second ring could come after
//! the listener has drained the first.
//!
//! **Clearing `armed`.** A ringer that has told everybody clears the bits, so that a busy ringer goes back to one load, and looks at the words once
//! more: whoever armed meanwhile gets the bit back *and is rung*, because somebody else may have found `armed` empty in between.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::family::Owner;

/// After so many rounds a ringer leaves the bits to the next one.
const MAX_ROUNDS: usize = 4;

/// Taken, the bell is not to be rung.
const IDLE: u64 = 0;
/// Ring when something comes.
pub(crate) const ARMED: u64 = 1;
/// Somebody is about to ring.
pub(crate) const PENDING: u64 = 2;
/// The bell was rung since it was armed.
pub(crate) const NOTIFIED: u64 = 3;

const STATE_SHIFT: u32 = 30;
const SEQUENCE_SHIFT: u32 = 32;

fn pack(owner: u32, state: u64, sequence: u32) -> u64 {
    (u64::from(sequence) << SEQUENCE_SHIFT) | (state << STATE_SHIFT) | u64::from(owner)
}

fn state(word: u64) -> u64 {
    (word >> STATE_SHIFT) & 3
}

fn sequence(word: u64) -> u32 {
    (word >> SEQUENCE_SHIFT) as u32
}

fn owner(word: u64) -> Option<Owner> {
    Owner::from_word(word as u32)
}

pub(crate) fn with_state(word: u64, state: u64) -> u64 {
    (word & !(3 << STATE_SHIFT)) | (state << STATE_SHIFT)
}

/// A listener's word, wherever it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawListener<'a>(pub(crate) &'a AtomicU64);

impl RawListener<'_> {
    /// Takes the word for `me` if it is free.
    pub(crate) fn take(self, me: Owner) -> bool {
        let word = self.look();
        let mine = pack(me.to_word(), IDLE, sequence(word).wrapping_add(1));
        owner(word).is_none() && self.swap(word, mine).is_ok()
    }

    /// Whether a ring is on its way.
    pub(crate) fn is_pending(self) -> bool {
        state(self.look()) == PENDING
    }

    /// The listener `me` is not to be rung from now on. `false`: a ring is on its way.
    fn disarm(self, me: Owner) -> bool {
        let mut word = self.look();
        while owner(word) == Some(me) && state(word) == ARMED {
            match self.turn(word, IDLE) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        state(word) != PENDING
    }

    /// The listener `me` wants to be rung from now on. Raise its bit, then look.
    pub(crate) fn arm(self, me: Owner) {
        self.change(me, |word| {
            pack(me.to_word(), ARMED, sequence(word).wrapping_add(1))
        });
    }

    /// Gives the word back, if it is that listener's.
    pub(crate) fn release(self, listener: Owner) {
        self.change(listener, |word| {
            pack(0, IDLE, sequence(word).wrapping_add(1))
        });
    }

    pub(crate) fn look(self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    #[cfg(all(test, not(procession_loom)))]
    pub(crate) fn state(self) -> u64 {
        state(self.look())
    }

    #[cfg(all(test, not(procession_loom)))]
    pub(crate) fn set_state(self, to: u64) {
        self.0.store(with_state(self.look(), to), Ordering::SeqCst);
    }

    /// Another state for the word that was seen; the word as it is then, or as somebody else has changed it.
    fn turn(self, seen: u64, to: u64) -> Result<u64, u64> {
        let next = with_state(seen, to);
        self.swap(seen, next).map(|()| next)
    }

    fn swap(self, from: u64, to: u64) -> Result<(), u64> {
        (self.0)
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .map(|_| ())
    }

    fn change(self, listener: Owner, to: impl Fn(u64) -> u64) {
        // Not the listener's any more: it was reaped, and somebody else has the word.
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                (owner(word) == Some(listener)).then(|| to(word))
            });
    }
}

/// All listeners of one state, and how they are rung.
pub(crate) trait Audience {
    /// What [`Audience::ring`] needs to know.
    type Bell;

    /// Bits of listeners that may have to be rung.
    fn armed(&self) -> &AtomicU32;

    /// Each listener: its word, its bit (others may have the same), its bell.
    fn each(&self) -> impl Iterator<Item = (RawListener<'_>, u32, Self::Bell)>;

    /// Rings; `false`: this process could not.
    fn ring(&self, bell: &Self::Bell) -> bool;

    /// Waits for a ring that is on its way. Not for ever: its ringer may be dead, or stopped.
    fn settle(&self, listener: RawListener<'_>);

    /// The listener `me` is about to drain its bell: no ring comes after that, unless its ringer is dead, or slower than we are patient.
    fn quieten(&self, listener: RawListener<'_>, me: Owner) {
        while !listener.disarm(me) {
            self.settle(listener);
            if listener.is_pending() {
                return;
            }
        }
    }

    /// Rings everybody who is armed, as long as there is something.
    fn notify(&self, ready: impl Fn() -> bool) {
        for _ in 0..MAX_ROUNDS {
            let armed = self.armed().load(Ordering::SeqCst);
            let mut told = armed;
            for (listener, bit, bell) in self.each().filter(|(_, bit, _)| armed & bit != 0) {
                if !self.tell(listener, &bell, &ready) {
                    // Not rung: there is nothing; or the listener looks by itself before long, or the next ringer has more luck.
                    told &= !bit;
                }
            }
            self.armed().fetch_and(!told, Ordering::SeqCst);
            let again = self.bits_to_ring() & told;
            if again == 0 {
                return;
            }
            self.armed().fetch_or(again, Ordering::SeqCst);
        }
    }

    /// Rings the listener if it is armed and there is something. `false`: it should have been, and could not be, or there is nothing to ring for.
    fn tell(&self, listener: RawListener<'_>, bell: &Self::Bell, ready: impl Fn() -> bool) -> bool {
        let mut word = listener.look();
        loop {
            match state(word) {
                ARMED => match listener.turn(word, PENDING) {
                    Ok(pending) => word = pending,
                    Err(now) => {
                        word = now;
                        continue;
                    }
                },
                PENDING => {
                    // Another one's, who rings; a second ring could come after the listener has drained the first, and be one for nothing.
                    self.settle(listener);
                    let now = listener.look();
                    if now != word {
                        word = now;
                        continue;
                    }
                }
                _ => return true,
            }
            if !ready() {
                match listener.turn(word, ARMED) {
                    Ok(_) => return false,
                    // Rung by another one, or armed again.
                    Err(now) => {
                        word = now;
                        continue;
                    }
                }
            }
            if !self.ring(bell) {
                return false;
            }
            // Failed: another ringer said so, or the listener armed again and was not told by us.
            match listener.turn(word, NOTIFIED) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// A participant died: frees its words, and rings on for it if there is something. Idempotent.
    fn bury(&self, dead: Owner, ready: impl Fn() -> bool) {
        self.each()
            .for_each(|(listener, ..)| listener.release(dead));
        let armed = self.armed();
        armed.fetch_or(self.bits_to_ring(), Ordering::SeqCst);
        if armed.load(Ordering::SeqCst) != 0 && ready() {
            self.notify(ready);
        }
    }

    /// The bits of those who wait for a ring.
    fn bits_to_ring(&self) -> u32 {
        self.each()
            .filter(|(listener, ..)| [ARMED, PENDING].contains(&state(listener.look())))
            .fold(0, |bits, (_, bit, _)| bits | bit)
    }
}
