//! The reaper itself is killed, in every state that its reaping goes through; the next one finishes.
//!
//! A reap walks every table of the heap: a hundred thousand instructions, of which one in a hundred writes. What matters to those who come after is
//! the heap, and the system calls that were made: a reaper killed at any other instruction is the same dead reaper as one killed right behind its
//! last write or call (`crash/states.rs` says why, and checks it). So for each estate the reaper is once stepped through its *whole* reap, M
//! instructions, which gives N states; then it is killed in each of the N, over an identical estate in a fresh family, and the digest of
//! the heap says that it was that state. Time and other processes do not move meanwhile: the estate's owners are dead, the survivor waits.
//!
//! After each death: the place of the dead is not free while anything of theirs is left; a second reaper finishes; what others had is all there, in order;
//! locks are recovered; the heap is as full as before the family's first object.
//!
//! The second reaper is killed, too: in a sample of its states over a sample of the first one's.

use super::super::{Fault, State, Toll, Traced, Way, begin, round, rounds};
use super::estate::{
    Estate, blocks_and_ends, halfway_gone, halfway_out, locks_and_waits, memory, places_come_last,
};
use super::stage::{Act, alone, balance, cover, heap};
use crate::HeapStats;
use crate::family::{Owner, forked_child, reap_dead};
use crate::heap::{Presence, the_heap};
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
const FIRST_STATES: u64 = 24;
const SECOND_STATES: u64 = 16;

/// A family of its own, an estate, and what there was before.
struct Scene {
    before: HeapStats,
    estate: Estate,
}

fn scene(estate: fn() -> Estate) -> Scene {
    assert!(crate::heap::heap().is_none(), "a family older than the round");
    let before = heap().stats();
    Scene {
        before,
        estate: estate(),
    }
}

/// A reaper that will be killed.
struct Reaper {
    traced: Traced<'static>,
    owner: Owner,
}

impl Reaper {
    fn start() -> Self {
        let reap = &mut || {
            begin();
            reap_dead(the_heap());
        };
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
}

fn harness(error: std::io::Error) -> Fault {
    format!("harness: {error}").into()
}

impl Scene {
    /// The next reaper finishes; everything is as it should be. `told`: whether the family knows already that these reapers are dead.
    fn is_settled(self, reapers: &[Owner], told: bool) -> Result<(), Fault> {
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
            let place = heap().participants()[owner.slot()].presence();
            if place != (Presence::Free, owner.generation()) {
                return Err(Fault::Leaked(format!("the place of {owner:?} is {place:?}")));
            }
        }
        judge()?;
        balance(&before)
    }
}

/// The reaper is stepped through its whole reap once, and runs through it once without being watched.
fn record(estate: fn() -> Estate) -> Way {
    let said = round(RECORD_LIMIT, &|| {
        let scene = scene(estate);
        let mut reaper = Reaper::start();
        let way = reaper.traced.record(LONGEST).map_err(harness)?;
        let Reaper { traced, owner } = reaper;
        traced.kill();
        scene.is_settled(&[owner], true)?;
        Ok(way.to_bytes())
    });
    let way = Way::from_bytes(&said.expect("record a reap"));
    let unwatched = round(LIMIT, &|| {
        let scene = scene(estate);
        let mut reaper = Reaper::start();
        let digest = reaper.traced.rush().map_err(harness)?;
        let Reaper { traced, owner } = reaper;
        traced.kill();
        scene.is_settled(&[owner], true)?;
        Ok(digest.to_ne_bytes().to_vec())
    });
    let last = way.states.last().map(|state| state.digest.to_ne_bytes());
    assert_eq!(unwatched.expect("an unwatched reap"), last.expect("states"));
    way
}

fn reap_in_every_state(name: &str, estate: fn() -> Estate) {
    if !alone() {
        return;
    }
    let begun = Instant::now();
    let way = record(estate);
    let states = way.states.len() as u64;
    let toll = rounds(LANES, states, LIMIT, &|number| {
        let state = &way.states[number as usize];
        let scene = scene(estate);
        let reaper = Reaper::start().dies_in(state)?;
        scene.is_settled(&[reaper], !number.is_multiple_of(8))
    });
    let Toll {
        rounds,
        wedged,
        lost,
        leaked,
    } = toll;
    println!(
        "crash: reaping, {name}: {} instructions, {states} distinct shared states, {rounds} kills: {wedged} wedged, \
         {lost} lost, {leaked} leaked ({:.1} s)",
        way.instructions,
        begun.elapsed().as_secs_f64()
    );
    cover(rounds, way.instructions);
    assert_eq!((rounds, wedged + lost + leaked), (states, 0));
}

#[test]
fn crash_reaping_locks_and_waits() {
    reap_in_every_state("locks held, asleep in waits", locks_and_waits);
}

#[test]
fn crash_reaping_blocks_and_ends() {
    reap_in_every_state("blocks, ends, blocks being put", blocks_and_ends);
}

#[test]
fn crash_reaping_halfway_out() {
    reap_in_every_state("messages being taken", halfway_out);
}

#[test]
fn crash_reaping_halfway_gone() {
    reap_in_every_state("objects being destroyed", halfway_gone);
}

/// How many events the second reaper has, after the first died in this state.
fn second_events(estate: fn() -> Estate, state: &State) -> u64 {
    let said = round(LIMIT, &|| {
        let scene = scene(estate);
        let first = Reaper::start().dies_in(state)?;
        assert!(heap().is_gone(first));
        let mut second = Reaper::start();
        let events = second.traced.finish().map_err(harness)?;
        second.traced.kill();
        scene.is_settled(&[first, second.owner], true)?;
        Ok(events.to_ne_bytes().to_vec())
    });
    let said = said.expect("a second reap");
    u64::from_ne_bytes(said.try_into().expect("a number"))
}

fn reap_the_reaper(name: &str, estate: fn() -> Estate) {
    if !alone() {
        return;
    }
    let begun = Instant::now();
    let way = record(estate);
    let count = way.states.len() as u64;
    let spread = |number: u64, of: u64, count: u64| number * count / of;
    let firsts: Vec<(State, u64)> = (0..FIRST_STATES)
        .map(|number| way.states[spread(number, FIRST_STATES, count) as usize])
        .map(|state| (state, second_events(estate, &state)))
        .collect();
    let toll = rounds(LANES, FIRST_STATES * SECOND_STATES, LIMIT, &|number| {
        let (at, turn) = (number / SECOND_STATES, number % SECOND_STATES);
        let (state, events) = &firsts[at as usize];
        // Not the same ones for each first reaper.
        let finer = spread(turn * FIRST_STATES + at, SECOND_STATES * FIRST_STATES, *events);
        let scene = scene(estate);
        let first = Reaper::start().dies_in(state)?;
        assert!(heap().is_gone(first));
        let mut second = Reaper::start();
        second.traced.go_to(finer).map_err(harness)?;
        second.traced.kill();
        scene.is_settled(&[first, second.owner], true)
    });
    println!(
        "crash: reaping, {name}, after a reaper: second reaper killed in {} pairs of states: {} wedged, {} lost, {} leaked ({:.1} s)",
        toll.rounds,
        toll.wedged,
        toll.lost,
        toll.leaked,
        begun.elapsed().as_secs_f64()
    );
    cover(toll.rounds, toll.rounds);
    assert_eq!(toll.rounds, FIRST_STATES * SECOND_STATES);
    assert_eq!(toll.wedged + toll.lost + toll.leaked, 0);
}

#[test]
fn crash_reaping_reapers() {
    reap_the_reaper("blocks, ends, blocks being put", blocks_and_ends);
}

#[test]
fn crash_reaping_reapers_of_destroyers() {
    reap_the_reaper("objects being destroyed", halfway_gone);
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
