//! Rows of the participant table: who is there, and proof that somebody is not.
//!
//! ```text
//! word = creator's slot:10 (STARTING only) | generation:20 | state:2
//!
//!   FREE      nobody; the generation is that of the last owner
//!   STARTING  made by `creator` for a process that has not come up yet
//!   LIVE      `pid` and `started` say who
//!   DEAD      proved gone; everything it left is being reaped, then FREE
//! ```
//!
//! FREE -> STARTING is a CAS by the creator, STARTING -> LIVE a CAS by the new process itself (if it lost the slot to a
//! reaper meanwhile it must not touch anything), LIVE or STARTING -> DEAD a CAS by whoever has the proof, DEAD -> FREE
//! a store by the reaper as its very last step. The creator's slot is in the word itself, so that there is no moment at which a
//! creator can die and leave a place of which nobody knows whose it was; before a creator's own slot becomes FREE, the places it
//! reserved and never started a process for are declared dead ([`Heap::forsake`]).
//!
//! A process that dies before it has come up leaves a name if its creator told one. Who forks without asking us tells none: such a place only says that it is for a fork
//! ([`Heap::note_forking`]), and when that is over ([`Heap::note_forked`]); it is dead when no child of its creator can be the one, or if that is dead, too, nobody ([`Heap::was_stillborn`]).
//!
//! Whoever writes a name (`pid`, `started`) may be slow, and the place somebody else's
//! by then: the names carry the generation, and an earlier one never replaces a later one ([`tell`]). So a slot is never given out while a trace of its last owner exists.

use super::error::HeapError;
use super::layout::Participant;
use super::mapping::Heap;
use crate::atomic::{AtomicU64, Ordering};
use crate::family::{GENERATION_BITS, MAX_PARTICIPANTS, Owner};
use crate::sys::identity::{self, Identity};

/// State of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Free,
    Starting,
    Live,
    Dead,
}

const STATE_BITS: u32 = 2;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// The participant said good-bye: it left by itself, in order.
pub(crate) const CLEAN: u32 = 1;

fn pack(presence: Presence, generation: u32) -> u32 {
    (generation << STATE_BITS) | presence as u32
}

/// Where the creator's slot is in the word.
const CREATOR_SHIFT: u32 = STATE_BITS + GENERATION_BITS;

/// A field of a name is `generation:20 | value:44`.
const TOLD_SHIFT: u32 = 64 - GENERATION_BITS;
const TOLD_MASK: u64 = (1 << TOLD_SHIFT) - 1;

/// In the place of a pid: the process that will be here is being forked, and nobody has said which it is. No pid is as large.
const FORKING: u64 = TOLD_MASK - 1;
/// As [`FORKING`], and the fork is over.
const FORKED: u64 = TOLD_MASK;

/// Writes a field of a name, unless a later generation has, or this one already something that says more.
fn tell(cell: &AtomicU64, generation: u32, value: u64) {
    let _ = cell.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
        let ahead = ((old >> TOLD_SHIFT) as u32).wrapping_sub(generation) & GENERATION_MASK;
        let older = ahead > GENERATION_MASK / 2;
        let says_more = match value {
            0 | FORKING => false,
            FORKED => old & TOLD_MASK == FORKING,
            _ => true,
        };
        let better = ahead == 0 && says_more;
        (older || better).then_some((u64::from(generation) << TOLD_SHIFT) | (value & TOLD_MASK))
    });
}

fn unpack(word: u32) -> (Presence, u32) {
    let presence = match word & 3 {
        0 => Presence::Free,
        1 => Presence::Starting,
        2 => Presence::Live,
        _ => Presence::Dead,
    };
    (presence, (word >> STATE_BITS) & GENERATION_MASK)
}

impl Participant {
    /// State and generation.
    pub(crate) fn presence(&self) -> (Presence, u32) {
        unpack(self.word.load(Ordering::SeqCst))
    }

    /// The process, as far as it is known.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let (presence, generation) = self.presence();
        let told = |cell: &AtomicU64| {
            let word = cell.load(Ordering::SeqCst);
            (word >> TOLD_SHIFT == u64::from(generation)).then_some(word & TOLD_MASK)
        };
        let pid = told(&self.pid).filter(|&pid| pid != 0 && presence != Presence::Free)?;
        Some(Identity {
            pid: u32::try_from(pid).ok()?,
            started: told(&self.started)?,
        })
    }

    /// Says who the participant of that generation is. The start time first: a pid alone may be somebody else's by the time it is asked about.
    fn introduce(&self, generation: u32, identity: Identity) {
        tell(&self.started, generation, identity.started);
        tell(&self.pid, generation, u64::from(identity.pid));
    }

    /// What this generation has been told in the place of a pid.
    fn told(&self) -> Option<u64> {
        let (_, generation) = self.presence();
        let told = self.pid.load(Ordering::SeqCst);
        (told >> TOLD_SHIFT == u64::from(generation)).then_some(told & TOLD_MASK)
    }

    /// Whether the place is for a process that is forked, and nobody has said which it is: [`FORKING`] or [`FORKED`].
    fn nameless_fork(&self) -> Option<u64> {
        self.told().filter(|told| matches!(*told, FORKING | FORKED))
    }

    /// Whether the participant left by itself, in order.
    pub(crate) fn left_cleanly(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & CLEAN != 0
    }

    /// Who is kept ready by this participant, and is none itself; or was: whoever is asked about must be exactly that process.
    fn ward(&self) -> Option<Identity> {
        Some(Identity {
            pid: u32::try_from(self.ward_pid.load(Ordering::SeqCst)).ok()?,
            started: self.ward_started.load(Ordering::SeqCst),
        })
    }

    fn transition(&self, from: (Presence, u32), to: Presence) -> bool {
        let word = self.word.load(Ordering::SeqCst);
        unpack(word) == from
            && self
                .word
                .compare_exchange(word, pack(to, from.1), Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }

    /// The slot of whoever reserved this one, while no process has come up in it.
    fn creator_slot(&self) -> Option<usize> {
        let word = self.word.load(Ordering::SeqCst);
        (unpack(word).0 == Presence::Starting).then_some((word >> CREATOR_SHIFT) as usize)
    }
}

impl Heap {
    /// Reserves a slot for a process that `creator` is about to start (`None`: the founder itself).
    pub(crate) fn reserve_slot(&self, creator: Option<Owner>) -> Result<Owner, HeapError> {
        for (slot, participant) in self.participants().iter().enumerate() {
            let (presence, generation) = participant.presence();
            if presence != Presence::Free {
                continue;
            }
            let next = (generation + 1) & GENERATION_MASK;
            let next = next.max(1);
            let by = creator.map_or(slot, Owner::slot) as u32;
            // The fields are those of a free slot: clean them before anybody can see it taken. Two reservers may both
            // do so; only one wins the CAS, and writes the creator after it.
            let taken = participant.word.compare_exchange(
                pack(Presence::Free, generation),
                pack(Presence::Starting, next) | (by << CREATOR_SHIFT),
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            if taken.is_ok() {
                participant
                    .creator
                    .store(creator.map_or(0, Owner::to_word), Ordering::SeqCst);
                self.header()
                    .slots_used
                    .fetch_max(slot as u32 + 1, Ordering::SeqCst);
                return Ok(Owner::new(slot, next));
            }
        }
        Err(HeapError::TooManyParticipants {
            limit: MAX_PARTICIPANTS,
        })
    }

    /// Makes the calling process the participant `owner`. `false`: the slot was reaped meanwhile, keep your hands off.
    pub(crate) fn activate_slot(&self, owner: Owner) -> bool {
        self.activate_slot_as(owner, self.whoami(owner))
    }

    /// Who the calling process is. Reading one's own start time costs more than all else here, and the parent, which reads it as well, is often quicker.
    fn whoami(&self, owner: Owner) -> Identity {
        let participant = &self.participants()[owner.slot()];
        let told = participant.identity().filter(|told| {
            participant.presence() == (Presence::Starting, owner.generation())
                && told.pid == std::process::id()
                && told.started != 0
        });
        told.unwrap_or_else(Identity::current)
    }

    /// As [`Heap::activate_slot`], for a process that knows its name.
    pub(crate) fn activate_slot_as(&self, owner: Owner, identity: Identity) -> bool {
        let participant = &self.participants()[owner.slot()];
        participant.introduce(owner.generation(), identity);
        let came_up =
            participant.transition((Presence::Starting, owner.generation()), Presence::Live);
        if came_up {
            let now = crate::sys::clock::monotonic_ms();
            participant.joined_ms.store(now, Ordering::Relaxed);
        }
        came_up
    }

    /// Gives a reserved slot back that no process took.
    #[cfg(test)]
    pub(crate) fn abandon_slot(&self, owner: Owner) -> bool {
        self.participants()[owner.slot()]
            .transition((Presence::Starting, owner.generation()), Presence::Dead)
    }

    /// Declares `owner` dead on the caller's own proof: it has seen the end of the process that the slot was given to.
    pub(crate) fn note_death(&self, owner: Owner) {
        let participant = &self.participants()[owner.slot()];
        for presence in [Presence::Starting, Presence::Live] {
            participant.transition((presence, owner.generation()), Presence::Dead);
        }
    }

    /// Tells the pid of a process that was started for a reserved slot.
    pub(crate) fn note_pid(&self, owner: Owner, pid: u32) {
        let participant = &self.participants()[owner.slot()];
        if participant.presence() == (Presence::Starting, owner.generation()) {
            self.note_identity(owner, Identity::of(pid));
        }
    }

    /// Tells the name of a process that was started, or will be told to come up, for a reserved slot.
    pub(crate) fn note_identity(&self, owner: Owner, identity: Identity) {
        self.participants()[owner.slot()].introduce(owner.generation(), identity);
    }

    /// Says that a slot was reserved for a process that is about to be forked: it may live though its creator has died, and nobody knows its name.
    pub(crate) fn note_forking(&self, owner: Owner) {
        tell(
            &self.participants()[owner.slot()].pid,
            owner.generation(),
            FORKING,
        );
    }

    /// Says that the fork for which a slot was reserved is over, whatever came of it, without telling a name: whoever forked is not told it.
    pub(crate) fn note_forked(&self, owner: Owner) {
        tell(
            &self.participants()[owner.slot()].pid,
            owner.generation(),
            FORKED,
        );
    }

    /// Says that `owner` keeps this process ready, which is no participant yet (the forkserver's spare).
    pub(crate) fn note_ward(&self, owner: Owner, ward: Identity) {
        let participant = &self.participants()[owner.slot()];
        participant
            .ward_started
            .store(ward.started, Ordering::SeqCst);
        participant
            .ward_pid
            .store(u64::from(ward.pid), Ordering::SeqCst);
    }

    /// A creator's place is about to be free: what it reserved for processes that nobody can have started dies with it.
    pub(crate) fn forsake(&self, creator: usize) {
        for participant in self.participants().iter().take(self.slots_used()) {
            let state = participant.presence();
            if participant.creator_slot() == Some(creator) && participant.told().is_none() {
                self.declare_dead(participant, state);
            }
        }
    }

    /// Frees the slot of a participant of whom nothing is left.
    pub(crate) fn free_slot(&self, slot: usize) {
        let participant = &self.participants()[slot];
        let (presence, generation) = participant.presence();
        if presence != Presence::Dead {
            return;
        }
        participant.creator.store(0, Ordering::Relaxed);
        participant.flags.store(0, Ordering::Relaxed);
        participant
            .word
            .store(pack(Presence::Free, generation), Ordering::SeqCst);
    }

    /// Slots worth looking at.
    pub(crate) fn slots_used(&self) -> usize {
        (self.header().slots_used.load(Ordering::SeqCst) as usize).min(MAX_PARTICIPANTS)
    }

    /// Whether the table says already that `owner` is gone.
    pub(crate) fn is_known_gone(&self, owner: Owner) -> bool {
        let (presence, generation) = self.participants()[owner.slot()].presence();
        generation != owner.generation() || matches!(presence, Presence::Free | Presence::Dead)
    }

    /// Whether `owner` is proved gone. Marks it DEAD if so.
    pub(crate) fn is_gone(&self, owner: Owner) -> bool {
        let participant = &self.participants()[owner.slot()];
        let (presence, generation) = participant.presence();
        if generation != owner.generation() {
            return true;
        }
        match presence {
            Presence::Free | Presence::Dead => true,
            Presence::Live => {
                participant
                    .identity()
                    .is_some_and(|identity| identity.is_gone())
                    && self.declare_dead(participant, (presence, generation))
            }
            Presence::Starting => {
                self.never_came_up(participant)
                    && self.declare_dead(participant, (presence, generation))
            }
        }
    }

    /// As [`Heap::is_gone`], and also true of a process that exec'ed another program, or was forked and died before it came up; costs more.
    pub(crate) fn has_left(&self, owner: Owner) -> bool {
        if self.is_gone(owner) {
            return true;
        }
        let participant = &self.participants()[owner.slot()];
        let state = participant.presence();
        if state.1 != owner.generation() {
            return true;
        }
        let left = match state.0 {
            Presence::Live => participant
                .identity()
                .is_some_and(|identity| identity.has_left(self.inode())),
            Presence::Starting => self.was_stillborn(participant),
            Presence::Free | Presence::Dead => true,
        };
        left && self.declare_dead(participant, state)
    }

    /// Whether the process that a slot was reserved for is proved not to be there, though nobody has said who it is: it was forked, and has not come up,
    /// so it would have the heap mapped, and be neither a participant nor kept ready by one. As long as its creator lives it would be a child of it, and only those are looked at.
    fn was_stillborn(&self, participant: &Participant) -> bool {
        let Some(stage) = participant.nameless_fork() else {
            return false;
        };
        let creator = Owner::from_word(participant.creator.load(Ordering::SeqCst));
        let Some(creator) = creator.filter(|creator| !self.is_gone(*creator)) else {
            // Nobody forks for it any more. Who that may be is asked before who is known: one that comes up in between has a name.
            let candidates = identity::processes();
            let known = self.known_beside(participant);
            return candidates.is_some_and(|pids| {
                let is_known = |pid| is_among(&known, pid);
                pids.iter()
                    .all(|&pid| is_known(pid) || !identity::may_map(pid, self.inode()))
            });
        };
        let parent = self.participants()[creator.slot()].identity();
        let children = parent
            .filter(|_| stage == FORKED)
            .and_then(|parent| Some((parent.pid, identity::children(parent.pid)?)));
        let Some((parent, children)) = children else {
            return false;
        };
        let known = self.known_beside(participant);
        let is_among_none = children.iter().all(|&child| {
            is_among(&known, child) || identity::maps(child, self.inode()) == Some(false)
        });
        // A process that ends lets go of its memory first, and of its children, which are then somebody else's, later.
        is_among_none
            && identity::maps(parent, self.inode()) == Some(true)
            && !self.is_gone(creator)
    }

    /// Everybody who has said who it is, except in this place: whoever is just coming up there has told its name, and the place is STARTING still. To know it for that would prove it dead.
    fn known_beside(&self, place: &Participant) -> Vec<Identity> {
        self.participants()
            .iter()
            .take(self.slots_used())
            .filter(|participant| !std::ptr::eq(*participant, place))
            .flat_map(|participant| [participant.identity(), participant.ward()])
            .flatten()
            .collect()
    }

    fn inode(&self) -> u64 {
        self.header().inode.load(Ordering::Relaxed)
    }

    fn declare_dead(&self, participant: &Participant, state: (Presence, u32)) -> bool {
        // Lost the race: somebody else declared it, or a starting process came up after all.
        participant.transition(state, Presence::Dead) || participant.presence().0 == Presence::Dead
    }

    /// A slot whose process was started and died before it came up, or whose creator died before it started one.
    fn never_came_up(&self, participant: &Participant) -> bool {
        if let Some(identity) = participant.identity() {
            return identity.is_gone();
        }
        let is_abandoned = match Owner::from_word(participant.creator.load(Ordering::SeqCst)) {
            Some(creator) => self.is_gone(creator),
            // The creator died (or is) between reserving the place and writing its name.
            None => participant.creator_slot().is_some_and(|slot| {
                let (presence, generation) = self.participants()[slot].presence();
                let itself = std::ptr::eq(participant, &self.participants()[slot]);
                presence != Presence::Free && !itself && self.is_gone(Owner::new(slot, generation))
            }),
        };
        // Asked last: it may have forked before it died, and the child goes on.
        is_abandoned && participant.told().is_none()
    }
}

/// Whether the process that has this pid now is one of the `known`.
fn is_among(known: &[Identity], pid: u32) -> bool {
    let identity = Identity::of(pid);
    identity.started != 0 && known.contains(&identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{join, reap_dead};
    use crate::heap::me;

    #[test]
    fn whoever_comes_up_too_late_does_not_touch_its_successors_name() {
        let heap = join().expect("family");
        let reserve = || heap.reserve_slot(Some(me())).expect("place");
        let give_up = |owner| {
            heap.note_death(owner);
            reap_dead(heap);
        };
        // Other tests take places, too.
        let (late, next) = (0..1000)
            .find_map(|_| {
                let late = reserve();
                give_up(late);
                let next = reserve();
                if next.slot() == late.slot() {
                    return Some((late, next));
                }
                give_up(next);
                None
            })
            .expect("the same place");
        heap.note_pid(next, 1);
        assert!(!heap.activate_slot(late));
        let name = heap.participants()[next.slot()].identity();
        assert_eq!(name.map(|identity| identity.pid), Some(1));
        give_up(next);
    }

    #[test]
    fn whoever_is_just_coming_up_is_not_known_by_that_place() {
        let heap = join().expect("family");
        let owner = heap.reserve_slot(Some(me())).expect("place");
        let place = &heap.participants()[owner.slot()];
        // As its child does, before it takes the place.
        let itself = Identity {
            pid: 4711,
            started: 4711,
        };
        place.introduce(owner.generation(), itself);
        assert_eq!(place.identity(), Some(itself));
        assert!(!heap.known_beside(place).contains(&itself));
        let ours = &heap.participants()[me().slot()];
        assert!(heap.known_beside(ours).contains(&itself));
        heap.note_death(owner);
        reap_dead(heap);
    }

    #[test]
    fn names_of_later_generations_stay() {
        let cell = AtomicU64::new(0);
        let read = || {
            let word = cell.load(Ordering::SeqCst);
            (word >> TOLD_SHIFT, word & TOLD_MASK)
        };
        for generation in [1, 2, GENERATION_MASK / 2, GENERATION_MASK - 1, 1] {
            tell(&cell, generation, 7);
            assert_eq!(read(), (u64::from(generation), 7));
            tell(&cell, generation, 0);
            tell(&cell, generation.wrapping_sub(1) & GENERATION_MASK, 9);
            assert_eq!(read(), (u64::from(generation), 7));
        }
    }
}
