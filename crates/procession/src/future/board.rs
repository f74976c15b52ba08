//! The board: which futures of this process wait at which spot, and whose turn it is.
//!
//! Pure bookkeeping under one lock: what follows from it (waking tasks, dropping wakers and handles, rousing threads) runs other people's code or the kernel's, so it is
//! collected in [`Errands`] and done when the lock is free.

use super::spot::Spot;
use crate::atomic::{AtomicU32, Ordering};
use crate::sys::futex::{self, MAX_WORDS};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

/// Spots of one thread: one word less than it can sleep on, which is its own.
pub(super) const SPOTS_PER_LANE: usize = MAX_WORDS - 1;

/// Everything that waits in this process.
#[derive(Debug)]
pub(super) struct Board {
    /// By the address of the word.
    entries: BTreeMap<usize, Entry>,
    pub(super) lanes: Vec<Lane>,
    /// Counts up with each registration, over forks too: older waiters have lower numbers, and a number that a forked child finds in its memory is nobody's there.
    last: u64,
}

/// A spot and who waits there.
#[derive(Debug)]
struct Entry {
    spot: Arc<dyn Spot>,
    lane: usize,
    /// What the word was when a sleeper was last announced.
    expected: u32,
    waiters: BTreeMap<u64, Waiter>,
    /// Somebody was told and has not yet looked.
    turn_is_out: bool,
}

/// A future that waits.
#[derive(Debug)]
struct Waiter {
    /// `None`: told.
    waker: Option<Waker>,
    /// What the state was before its attempt failed.
    seen: u64,
}

/// The spots of one thread.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Changed and woken to make the thread look at the board.
    pub(super) call: Arc<AtomicU32>,
    pub(super) spots: usize,
    /// A thread serves it.
    pub(super) is_served: bool,
}

/// A future's place on the board.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    address: usize,
    number: u64,
}

/// A word to sleep on, as a lane's thread sees it.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) spot: Arc<dyn Spot>,
    pub(super) expected: u32,
}

impl Bed {
    fn has_changed(&self) -> bool {
        self.spot.word().load(Ordering::Relaxed) != self.expected
    }
}

/// What is to be done once the board is unlocked.
#[derive(Debug, Default)]
pub(super) struct Errands {
    wake: Vec<Waker>,
    /// A wake that nobody here could use.
    pass_on: Vec<Arc<dyn Spot>>,
    /// Threads that must look at the board.
    call: Vec<Arc<AtomicU32>>,
    /// A lane that needs a thread.
    pub(super) serve: Option<usize>,
    old_wakers: Vec<Waker>,
    old_spots: Vec<Arc<dyn Spot>>,
}

impl Errands {
    /// Does everything but starting a thread.
    pub(super) fn run(self) {
        for call in self.call {
            call.fetch_add(1, Ordering::SeqCst);
            futex::wake(&call, 1);
        }
        for spot in self.pass_on {
            futex::wake(spot.word(), 1);
        }
        for waker in self.wake {
            // A waker that panics must not keep the others from being woken.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

impl Entry {
    /// Announces a sleeper, looks, and tells whom the state concerns. Nothing is lost between an old `expected` and the new one, because the look comes after.
    fn settle(&mut self, errands: &mut Errands) {
        self.expected = self.spot.announce();
        let for_all = self.spot.is_for_all();
        if self.turn_is_out && !for_all {
            return;
        }
        for waiter in self.waiters.values_mut() {
            if waiter.waker.is_some() && self.spot.is_ready(waiter.seen) {
                errands.wake.extend(waiter.waker.take());
                self.turn_is_out = !for_all;
                if !for_all {
                    return;
                }
            }
        }
    }

    /// Takes a waiter off; says whether it had been told.
    fn remove(&mut self, number: u64, errands: &mut Errands) -> Option<bool> {
        let waiter = self.waiters.remove(&number)?;
        let was_told = waiter.waker.is_none();
        errands.old_wakers.extend(waiter.waker);
        // It may have lost its turn to somebody else: then one more is told than need be.
        self.turn_is_out &= !was_told;
        Some(was_told)
    }
}

impl Board {
    pub(super) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            lanes: Vec::new(),
            last: 0,
        }
    }

    /// Has a future wait: anew, or again after it looked in vain (`old`); then it goes to the end of the line.
    pub(super) fn wait(
        &mut self,
        old: Option<Place>,
        spot: &Arc<dyn Spot>,
        waiter: (Waker, u64),
        errands: &mut Errands,
    ) -> Place {
        let address = address_of(&**spot);
        if !self.entries.contains_key(&address) {
            self.open(address, Arc::clone(spot), errands);
        }
        let mut number = self.last + 1;
        if let Some(entry) = self.entries.get_mut(&address) {
            match old.and_then(|old| Some((old.number, entry.remove(old.number, errands)?))) {
                // Nobody had told it: it keeps its place.
                Some((old, false)) => number = old,
                _ => self.last = number,
            }
            let (waker, seen) = waiter;
            let waker = Some(waker);
            entry.waiters.insert(number, Waiter { waker, seen });
            entry.settle(errands);
            let lane = &mut self.lanes[entry.lane];
            if !lane.is_served {
                lane.is_served = true;
                errands.serve = Some(entry.lane);
            }
        }
        Place { address, number }
    }

    /// A future leaves: it `took` what it waited for, or is dropped.
    pub(super) fn leave(&mut self, place: Place, took: bool, errands: &mut Errands) {
        let Some(entry) = self.entries.get_mut(&place.address) else {
            return;
        };
        let Some(was_told) = entry.remove(place.number, errands) else {
            return;
        };
        if !entry.waiters.is_empty() {
            entry.settle(errands);
            return;
        }
        if was_told && !took && !entry.spot.is_for_all() {
            errands.pass_on.push(Arc::clone(&entry.spot));
        }
        if !entry.spot.may_linger() {
            let lane = entry.lane;
            self.close(place.address, errands);
            errands.call.push(Arc::clone(&self.lanes[lane].call));
        }
    }

    fn open(&mut self, address: usize, spot: Arc<dyn Spot>, errands: &mut Errands) {
        let lane = self.lane_with_room();
        self.lanes[lane].spots += 1;
        if self.lanes[lane].is_served {
            errands.call.push(Arc::clone(&self.lanes[lane].call));
        }
        let entry = Entry {
            spot,
            lane,
            expected: 0,
            waiters: BTreeMap::new(),
            turn_is_out: false,
        };
        self.entries.insert(address, entry);
    }

    fn lane_with_room(&mut self) -> usize {
        let free = |lane: &Lane| lane.spots < SPOTS_PER_LANE;
        self.lanes.iter().position(free).unwrap_or_else(|| {
            self.lanes.push(Lane::default());
            self.lanes.len() - 1
        })
    }

    fn close(&mut self, address: usize, errands: &mut Errands) {
        if let Some(entry) = self.entries.remove(&address) {
            entry.spot.withdraw();
            self.lanes[entry.lane].spots -= 1;
            errands.old_spots.push(entry.spot);
        }
    }

    /// The words that the lane's thread is to sleep on. Also whether some of them are for nobody.
    pub(super) fn beds(&self, lane: usize) -> (Vec<Bed>, bool) {
        let ours = self.entries.values().filter(|entry| entry.lane == lane);
        let mut lingers = false;
        let beds = ours.map(|entry| {
            lingers |= entry.waiters.is_empty();
            Bed {
                spot: Arc::clone(&entry.spot),
                expected: entry.expected,
            }
        });
        (beds.collect(), lingers)
    }

    /// The thread woke up: `woken` was woken by somebody, others may have changed.
    pub(super) fn rouse(&mut self, beds: &[Bed], woken: Option<usize>, errands: &mut Errands) {
        for (index, bed) in beds.iter().enumerate() {
            if woken == Some(index) || bed.has_changed() {
                self.rouse_one(bed, errands);
            }
        }
    }

    fn rouse_one(&mut self, bed: &Bed, errands: &mut Errands) {
        let address = address_of(&*bed.spot);
        let entry = self.entries.get_mut(&address);
        let Some(entry) = entry.filter(|entry| !entry.waiters.is_empty()) else {
            self.close(address, errands);
            // The wake was meant for one sleeper, and we are none. (A word that has only changed may have been woken, too: the kernel names one.)
            if !bed.spot.is_for_all() {
                errands.pass_on.push(Arc::clone(&bed.spot));
            }
            return;
        };
        entry.settle(errands);
    }

    /// A slice of sleep is over: closes what is for nobody, takes turns back that were not used, and looks at everything.
    pub(super) fn look_around(&mut self, lane: usize, errands: &mut Errands) {
        let ours = self.entries.iter_mut();
        let ours = ours.filter(|(_, entry)| entry.lane == lane);
        let mut unused = Vec::new();
        for (address, entry) in ours {
            if entry.waiters.is_empty() {
                unused.push(*address);
            } else {
                entry.turn_is_out = false;
                entry.settle(errands);
            }
        }
        for address in unused {
            self.close(address, errands);
        }
    }

    /// No thread could be started for the lane: its futures must ask again and again.
    pub(super) fn give_up_serving(&mut self, lane: usize, errands: &mut Errands) {
        self.lanes[lane].is_served = false;
        let ours = self.entries.values_mut();
        for entry in ours.filter(|entry| entry.lane == lane) {
            let waiters = entry.waiters.values_mut();
            errands.wake.extend(waiters.filter_map(|w| w.waker.take()));
        }
    }

    /// In a forked child: forgets everything. What is announced is the parent's, the tasks are copies that must not be touched; `holds`: the handles are ours to drop.
    pub(super) fn forget(&mut self, holds: bool) {
        std::mem::take(&mut self.lanes);
        for entry in std::mem::take(&mut self.entries).into_values() {
            std::mem::forget(entry.waiters);
            if !holds {
                std::mem::forget(entry.spot);
            }
        }
    }
}

/// A spot's name on the board.
fn address_of(spot: &dyn Spot) -> usize {
    std::ptr::from_ref(spot.word()).addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    /// A spot with as many things to take as its word says.
    #[derive(Debug, Default)]
    struct Pile {
        word: AtomicU32,
        for_all: bool,
        fleeting: bool,
        withdrawn: AtomicUsize,
    }

    impl Spot for Pile {
        fn word(&self) -> &AtomicU32 {
            &self.word
        }

        fn announce(&self) -> u32 {
            self.word.load(Ordering::SeqCst)
        }

        fn is_ready(&self, seen: u64) -> bool {
            u64::from(self.announce()) > seen
        }

        fn withdraw(&self) {
            self.withdrawn.fetch_add(1, Ordering::SeqCst);
        }

        fn is_for_all(&self) -> bool {
            self.for_all
        }

        fn may_linger(&self) -> bool {
            !self.fleeting
        }
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Scene {
        board: Board,
        pile: Arc<Pile>,
        told: Vec<Arc<Count>>,
        places: Vec<Place>,
    }

    impl Scene {
        fn new(pile: Pile, waiters: usize) -> Self {
            let mut scene = Self {
                board: Board::new(),
                pile: Arc::new(pile),
                told: Vec::new(),
                places: Vec::new(),
            };
            for _ in 0..waiters {
                let count = Arc::new(Count::default());
                scene.told.push(Arc::clone(&count));
                let place = scene.wait(None, count, 0);
                scene.places.push(place);
            }
            scene
        }

        fn wait(&mut self, old: Option<Place>, count: Arc<Count>, seen: u64) -> Place {
            let spot: Arc<dyn Spot> = Arc::clone(&self.pile) as _;
            self.change(|board, errands| board.wait(old, &spot, (count.into(), seen), errands))
        }

        fn change<R>(&mut self, change: impl FnOnce(&mut Board, &mut Errands) -> R) -> R {
            let mut errands = Errands::default();
            let result = change(&mut self.board, &mut errands);
            errands.run();
            result
        }

        /// Something comes, and the thread is woken.
        fn give(&mut self, count: u32) {
            let (beds, _) = self.board.beds(0);
            self.pile.word.fetch_add(count, Ordering::SeqCst);
            self.change(|board, errands| board.rouse(&beds, Some(0), errands));
        }

        fn leave(&mut self, waiter: usize, took: bool) {
            let place = self.places[waiter];
            if took {
                self.pile.word.fetch_sub(1, Ordering::SeqCst);
            }
            self.change(|board, errands| board.leave(place, took, errands));
        }

        fn told(&self) -> Vec<usize> {
            let counts = self.told.iter();
            counts.map(|count| count.0.load(Ordering::SeqCst)).collect()
        }
    }

    #[test]
    fn one_thing_wakes_one_waiter() {
        let mut scene = Scene::new(Pile::default(), 3);
        scene.give(1);
        assert_eq!(scene.told(), [1, 0, 0]);
        scene.give(1);
        assert_eq!(scene.told(), [1, 0, 0], "the turn is out");
        scene.leave(0, true);
        assert_eq!(scene.told(), [1, 1, 0], "there is more");
        scene.leave(1, true);
        assert_eq!(scene.told(), [1, 1, 0], "there is no more");
    }

    #[test]
    fn a_dropped_waiter_hands_its_turn_on() {
        let mut scene = Scene::new(Pile::default(), 3);
        scene.give(1);
        scene.leave(0, false);
        assert_eq!(scene.told(), [1, 1, 0]);
        scene.leave(2, false);
        assert_eq!(scene.told(), [1, 1, 0], "it had no turn");
    }

    #[test]
    fn who_looked_in_vain_goes_to_the_end_of_the_line() {
        let mut scene = Scene::new(Pile::default(), 2);
        scene.give(1);
        // Somebody else took it.
        scene.pile.word.store(0, Ordering::SeqCst);
        let (old, count) = (scene.places[0], Arc::clone(&scene.told[0]));
        scene.places[0] = scene.wait(Some(old), count, 0);
        scene.give(1);
        assert_eq!(scene.told(), [1, 1]);
    }

    #[test]
    fn a_turn_that_is_not_used_is_taken_back() {
        let mut scene = Scene::new(Pile::default(), 2);
        scene.give(1);
        scene.change(|board, errands| board.look_around(0, errands));
        assert_eq!(scene.told(), [1, 1]);
    }

    #[test]
    fn a_change_for_all_wakes_all_whom_it_concerns() {
        let pile = Pile {
            for_all: true,
            ..Pile::default()
        };
        let mut scene = Scene::new(pile, 2);
        let late = Arc::new(Count::default());
        scene.wait(None, Arc::clone(&late), 7);
        scene.give(1);
        assert_eq!(scene.told(), [1, 1]);
        assert_eq!(late.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn what_came_before_the_registration_is_seen() {
        let mut scene = Scene::new(Pile::default(), 0);
        scene.pile.word.store(1, Ordering::SeqCst);
        let count = Arc::new(Count::default());
        scene.wait(None, Arc::clone(&count), 0);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn spots_linger_until_they_are_rung_for_nobody_or_the_slice_ends() {
        for ring in [true, false] {
            let mut scene = Scene::new(Pile::default(), 1);
            scene.leave(0, false);
            assert!(scene.board.beds(0).1, "lingers");
            if ring {
                scene.give(1);
            } else {
                scene.change(|board, errands| board.look_around(0, errands));
            }
            assert!(scene.board.beds(0).0.is_empty());
            assert_eq!(scene.pile.withdrawn.load(Ordering::SeqCst), 1);
        }
        let pile = Pile {
            fleeting: true,
            ..Pile::default()
        };
        let mut scene = Scene::new(pile, 1);
        scene.leave(0, false);
        assert!(scene.board.beds(0).0.is_empty());
        assert_eq!(scene.pile.withdrawn.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn so_many_spots_need_several_threads() {
        let mut board = Board::new();
        let mut served = Vec::new();
        for _ in 0..SPOTS_PER_LANE * 2 + 1 {
            let spot: Arc<dyn Spot> = Arc::new(Pile::default());
            let mut errands = Errands::default();
            let count = Arc::new(Count::default());
            board.wait(None, &spot, (count.into(), 0), &mut errands);
            served.extend(errands.serve);
        }
        assert_eq!(served, [0, 1, 2]);
        assert_eq!(board.beds(0).0.len(), SPOTS_PER_LANE);
        assert_eq!(board.beds(2).0.len(), 1);
    }

    #[test]
    fn a_forked_child_has_an_empty_board_and_touches_no_task() {
        let mut scene = Scene::new(Pile::default(), 2);
        scene.board.forget(true);
        assert!(scene.board.lanes.is_empty());
        scene.leave(0, false);
        assert_eq!(scene.pile.withdrawn.load(Ordering::SeqCst), 0);
        let (old, count) = (scene.places[1], Arc::new(Count::default()));
        scene.wait(Some(old), Arc::clone(&count), 0);
        scene.give(1);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(scene.told(), [0, 0]);
    }
}
