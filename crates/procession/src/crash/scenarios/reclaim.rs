//! The reaper itself is killed, in every state that its reaping goes through; the next one finishes.
//!
//! A reap walks every table of the heap: hundreds of thousands of instructions, of which a few hundred change something. **Why those are enough:** what
//! comes after a death depends on the heap and on what the kernel was told. Between two changes of the heap and without a system call neither moves: the
//! reaper's registers, stack, private memory and handle counts die with it, nobody else runs (the estate's owners are dead, the survivor waits), and no deadline
//! passes that anybody would look at. So a reaper killed at any instruction is the same dead reaper as one killed right behind its last change or call.
//! `crash/states.rs` finds the changes by the processor's page protection and checks that there are no others.
//!
//! For each estate the reaper is once stepped through its *whole* reap, M instructions, which gives N states (the beginning, and one behind each
//! change and each call). Then a real reaper is killed in each of the N, over an identical estate in a fresh family, and the digest of the heap says that it
//! was that state. So N kills cover M instructions.
//!
//! After each death: the place of the dead is not free while anything of theirs is left; a second reaper finishes; what others had is all there, in order;
//! locks are recovered; the heap is as full as before the family's first object.
//!
//! The second reaper is killed, too: in a sample of its states over a sample of the first one's.

use super::super::{Fault, State, Traced, Way, begin, round, rounds};
use super::estate::{
    Estate, among_sleepers, blocks_and_ends, halfway_gone, halfway_out, locks_and_waits, memory,
    places_come_last,
};
use super::stage::{Act, alone, balance, cover, heap};
use crate::HeapStats;
use crate::family::{Owner, forked_child, reap_dead};
use crate::heap::{Presence, has_company, the_heap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a round may take before it counts as wedged ...
const LIMIT: Duration = Duration::from_secs(20);
/// ... and the one in which the reaper is stepped.
const RECORD_LIMIT: Duration = Duration::from_secs(200);
/// Rounds at one time.
const LANES: u64 = 2;
/// Most instructions of a reap.
const LONGEST: u64 = 5_000_000;

/// States of the first reaper over which the second is killed, and in how many states each time.
const FIRST_STATES: u64 = 16;
const SECOND_STATES: u64 = 10;

/// A family of its own, an estate, and what there was before.
struct Scene {
    before: HeapStats,
    estate: Estate,
}

fn scene(estate: fn() -> Estate) -> Scene {
    assert!(
        crate::heap::heap().is_none(),
        "a family older than the round"
    );
    let before = heap().stats();
    // Asked once, while this process may run everywhere.
    has_company();
    Scene {
        before,
        estate: estate(),
    }
}

/// A reaper that will be killed.
pub(super) struct Reaper {
    traced: Traced<'static>,
    owner: Owner,
}

impl Reaper {
    pub(super) fn start() -> Self {
        Self::start_with(&mut || {
            begin();
            reap_dead(the_heap());
        })
    }

    fn start_with(reap: &mut dyn FnMut()) -> Self {
        let traced = Traced::start(memory(), reap).expect("trace a reaper");
        let owner = forked_child().expect("a place for the reaper");
        Self { traced, owner }
    }

    /// Kills it in this state, which must be the recorded one.
    fn dies_in(mut self, state: &State) -> Result<Owner, Fault> {
        let there = self.traced.go_to(state.event).map_err(harness)?;
        let digest = self.traced.digest().map_err(harness)?;
        if !there || digest != state.digest {
            return Err(format!("not the recorded round (finished: {})", !there).into());
        }
        self.traced.kill();
        Ok(self.owner)
    }

    /// Kills it behind so many writes and calls, or at its end if that comes first; also gives the number of those it did.
    pub(super) fn dies_behind(mut self, event: u64) -> Result<(Owner, u64), Fault> {
        self.traced.go_to(event).map_err(harness)?;
        let events = self.traced.events();
        self.traced.kill();
        Ok((self.owner, events))
    }
}

/// Nobody is watched or killed before the reaper's end.
fn unwatched(estate: fn() -> Estate) -> u64 {
    let said = round(LIMIT, &|| {
        let scene = scene(estate);
        let Reaper { mut traced, owner } = Reaper::start();
        let digest = traced.rush().map_err(harness)?;
        traced.kill();
        scene.settle(&[owner], true)?;
        Ok(digest.to_ne_bytes().to_vec())
    });
    number(&said.expect("an unwatched reap"))
}

fn number(said: &[u8]) -> u64 {
    u64::from_ne_bytes(said.try_into().expect("a number"))
}

fn harness(error: std::io::Error) -> Fault {
    format!("harness: {error}").into()
}

impl Scene {
    /// The next reaper finishes; everything is as it should be. `told`: whether the family knows already that these reapers are dead.
    fn settle(self, reapers: &[Owner], told: bool) -> Result<(), Fault> {
        let Self { before, estate } = self;
        let Estate { dead, judge } = estate;
        places_come_last(&dead)?;
        let is_gone = |owner: &Owner| heap().is_gone(*owner);
        if !told {
            // Finds the reap lock in the hands of somebody of whom it only sees that he does not answer.
            reap_dead(heap());
        }
        if !reapers.iter().all(is_gone) {
            return Err(Fault::Wedged("a reaper's death is not proved".into()));
        }
        reap_dead(heap());
        for owner in dead.iter().chain(reapers) {
            // Perhaps of a later generation: the second reaper may have had the place in the meantime.
            let place = heap().participants()[owner.slot()].presence();
            if place.0 != Presence::Free {
                return Err(Fault::Leaked(format!(
                    "the place of {owner:?} is {place:?}"
                )));
            }
        }
        judge()?;
        balance(&before)
    }
}

/// The reaper is stepped through its whole reap once; it must come to the same end as one that is not watched.
fn record(estate: fn() -> Estate) -> Way {
    let said = round(RECORD_LIMIT, &|| {
        let scene = scene(estate);
        let Reaper { mut traced, owner } = Reaper::start();
        let way = traced.record(LONGEST).map_err(harness)?;
        traced.kill();
        scene.settle(&[owner], true)?;
        Ok(way.to_bytes())
    });
    let way = Way::from_bytes(&said.expect("record a reap"));
    let last = way.states.last().map(|state| state.digest);
    assert_eq!(last, Some(unwatched(estate)));
    way
}

fn reap_in_every_state(name: &str, estate: fn() -> Estate) -> Way {
    let begun = Instant::now();
    let way = record(estate);
    let states = way.states.len() as u64;
    let toll = rounds(LANES, states, LIMIT, &|number| {
        let state = &way.states[number as usize];
        let scene = scene(estate);
        let reaper = Reaper::start().dies_in(state)?;
        scene.settle(&[reaper], !number.is_multiple_of(8))
    });
    println!(
        "crash: reaping, {name}: {} instructions, {states} distinct shared states, {toll} ({:.1} s)",
        way.instructions,
        begun.elapsed().as_secs_f64()
    );
    cover(toll.rounds, way.instructions);
    assert_eq!((toll.rounds, toll.faults()), (states, 0));
    way
}

/// How many events the second reaper has, after the first died in this state.
fn second_events(estate: fn() -> Estate, state: &State) -> u64 {
    let said = round(LIMIT, &|| {
        let scene = scene(estate);
        let first = Reaper::start().dies_in(state)?;
        assert!(heap().is_gone(first));
        let (second, events) = Reaper::start().dies_behind(u64::MAX)?;
        scene.settle(&[first, second], true)?;
        Ok(events.to_ne_bytes().to_vec())
    });
    number(&said.expect("a second reap"))
}

fn reap_the_reaper(name: &str, estate: fn() -> Estate, way: &Way) {
    let begun = Instant::now();
    let count = way.states.len() as u64;
    let spread = |number: u64, of: u64, count: u64| number * count / of;
    let firsts: Vec<(State, u64)> = (0..FIRST_STATES)
        .map(|number| way.states[spread(number, FIRST_STATES, count) as usize])
        .map(|state| (state, second_events(estate, &state)))
        .collect();
    let pairs = FIRST_STATES * SECOND_STATES;
    let toll = rounds(LANES, pairs, LIMIT, &|number| {
        let (at, turn) = (number / SECOND_STATES, number % SECOND_STATES);
        let (state, events) = &firsts[at as usize];
        // Not the same ones for each first reaper.
        let event = spread(turn * FIRST_STATES + at, pairs, *events);
        let scene = scene(estate);
        let first = Reaper::start().dies_in(state)?;
        assert!(heap().is_gone(first));
        let (second, _) = Reaper::start().dies_behind(event)?;
        scene.settle(&[first, second], true)
    });
    println!(
        "crash: reaping after a reaper, {name}: the second one dies, too, {toll} ({:.1} s)",
        begun.elapsed().as_secs_f64()
    );
    cover(toll.rounds, toll.rounds);
    assert_eq!((toll.rounds, toll.faults()), (pairs, 0));
}

fn reap_and_reap_again(name: &str, estate: fn() -> Estate) {
    if alone() {
        let way = reap_in_every_state(name, estate);
        reap_the_reaper(name, estate, &way);
    }
}

#[test]
fn crash_reaping_locks_and_waits() {
    reap_and_reap_again("locks held, asleep in waits", locks_and_waits);
}

#[test]
fn crash_reaping_blocks_and_ends() {
    reap_and_reap_again("blocks, ends, blocks being put", blocks_and_ends);
}

#[test]
fn crash_reaping_halfway_out() {
    reap_and_reap_again("messages being taken", halfway_out);
}

#[test]
fn crash_reaping_halfway_gone() {
    reap_and_reap_again("objects being destroyed", halfway_gone);
}

/// Here others do move: they sleep for ever unless a reaper wakes them, and go on as soon as one does. So the rounds are not alike to the last byte; the
/// reaper is killed behind each of its own writes and calls.
#[test]
fn crash_reaping_among_sleepers() {
    if !alone() {
        return;
    }
    let begun = Instant::now();
    let said = round(LIMIT, &|| {
        let scene = scene(among_sleepers);
        let (reaper, events) = Reaper::start().dies_behind(u64::MAX)?;
        scene.settle(&[reaper], true)?;
        Ok(events.to_ne_bytes().to_vec())
    });
    let events = number(&said.expect("a reap among sleepers"));
    let toll = rounds(LANES, events + 1, LIMIT, &|event| {
        let scene = scene(among_sleepers);
        let (reaper, _) = Reaper::start().dies_behind(event)?;
        scene.settle(&[reaper], true)
    });
    println!(
        "crash: reaping, others asleep until woken: {events} writes and calls, {toll} ({:.1} s)",
        begun.elapsed().as_secs_f64()
    );
    cover(toll.rounds, toll.rounds);
    assert_eq!((toll.rounds, toll.faults()), (events + 1, 0));
}

/// The machinery tells states apart, and finds a reaper that does things in the wrong order.
#[test]
fn crash_reaping_out_of_order_is_found() {
    if !alone() {
        return;
    }
    let said = round(LIMIT, &|| {
        let word = &heap().header().spare;
        let mut victim = Traced::start(memory(), &mut || {
            begin();
            for number in [1, 1, 2, 0] {
                word.store(number, Ordering::SeqCst);
            }
            std::thread::yield_now();
            std::hint::black_box((0..100).map(std::hint::black_box).sum::<u32>());
        })
        .expect("trace a victim");
        Ok(victim.record(LONGEST).map_err(harness)?.to_bytes())
    });
    let way = Way::from_bytes(&said.expect("record a victim"));
    let digests: Vec<u64> = way.states.iter().map(|state| state.digest).collect();
    // The beginning, 1 (not twice), 2, 0 again, the call.
    assert_eq!(digests.len(), 5, "{way:?}");
    let same = [digests[0], digests[3], digests[4]];
    assert_eq!(same, [0; 3], "{way:?}");
    assert!(digests[1] != digests[2] && digests[1] != 0 && way.instructions > 100);

    let found = round(LIMIT, &|| {
        let scene = scene(blocks_and_ends);
        let dead = scene.estate.dead[0];
        let hasty = Reaper::start_with(&mut || {
            begin();
            heap().free_slot(dead.slot());
            heap().reclaim(dead, false);
        });
        let (reaper, _) = hasty.dies_behind(20)?;
        scene.settle(&[reaper], true)?;
        Ok(Vec::new())
    });
    assert!(matches!(found, Err(Fault::Leaked(_))), "{found:?}");
}

#[test]
fn crash_nothing_to_reap() {
    Act::new(
        "reaping, nobody is dead",
        || (),
        |()| (),
        |(), ()| reap_dead(the_heap()),
    )
    .play();
}
