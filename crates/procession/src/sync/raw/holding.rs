//! When nobody holds an object any more: the decision to free it, beside holders that come, go and pass it on.
//!
//! A hold is a mark: the bit of a participant in its holder row, or an entry in the list of a message. Marks lie in many places and are looked
//! through one after the other, so a look alone proves nothing: a holder may move from a place not yet looked at to one looked at before (scenario "moving
//! holder"). Hence the epoch in the object's word:
//!
//! - who passes a hold on **adds the new mark before it removes the old**;
//! - who removes a mark **counts the epoch up first** ([`let_go`]);
//! - who marks without a hold to copy from (it has a name only) counts it up afterwards, and then looks whether the object is still there ([`come`]);
//! - who frees reads the word, looks through all marks, and turns *that very word* ([`claim`]).
//!
//! A turn that succeeds says: no mark was removed and no stranger came since the word was read; so every mark that was there then would have been seen, and a
//! new one needs an old one to copy from. Who finds the object gone takes its mark back, and claims nothing.
//!
//! **Death.** Between a new mark and the removal of the old: both are there; the reaper removes those of the dead. Between the removal and the
//! claim: the object is nobody's; the reaper's sweep claims it.

use super::word::{EPOCH, State, Word};
use crate::atomic::{AtomicU64, Ordering};

/// The marks of one object.
pub(crate) trait Marks {
    /// The object's word.
    fn word(&self) -> &AtomicU64;

    /// Whether any participant's row has its bit.
    fn is_held(&self) -> bool;

    /// Whether any message lists the object of this generation.
    fn is_listed(&self, generation: u32) -> bool;
}

/// Removes a mark. The caller has one, and claims afterwards.
#[inline]
pub(crate) fn let_go(word: &AtomicU64, remove: impl FnOnce()) {
    word.fetch_add(EPOCH, Ordering::SeqCst);
    remove();
}

/// Announces a mark that was just made by somebody who had none; the object is there if the word that comes back says so.
#[inline]
pub(crate) fn come(word: &AtomicU64) -> Word {
    Word(word.fetch_add(EPOCH, Ordering::SeqCst))
}

/// Makes a live object without marks `slot`'s to destroy. `false`: it has one, or is somebody else's to destroy.
pub(crate) fn claim(marks: &impl Marks, slot: usize) -> bool {
    let at = marks.word();
    loop {
        let word = Word::load(at);
        if word.state() != State::LIVE || marks.is_held() || marks.is_listed(word.generation()) {
            return false;
        }
        if word.swap(at, word.with(State::DESTROYING, slot)).is_ok() {
            return true;
        }
    }
}
