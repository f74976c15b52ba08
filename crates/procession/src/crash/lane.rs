//! The process that does the work: forks a victim per point, brings it there, kills it, plays the survivor.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::os;
use super::stepper::{Killed, Landing, Scenario, Sweep};
use super::travel::{Arrival, Route, Tracee};
use super::wire::{Note, Point, Wire};

/// Period of the signal by which a wait for a sleeping victim ends.
const TICK_MICROS: u32 = 400;

/// Victims in a row that finish before their point, until we believe that no later point exists.
const FINISHES: u32 = 3;

/// Strayed victims until we believe that the operation never takes the same way twice.
const MISSES: u32 = 16;

const SUICIDE: &str = "the victim died by itself";

/// Runs a lane from `start` on, in a process of its own.
pub(super) fn run<S: Scenario>(scenario: &S, sweep: &Sweep, start: Point, wire: Wire) {
    keep_panics();
    let affinity = sched_getaffinity(None).expect("read the affinity");
    let mut home = CpuSet::new();
    home.set(sched_getcpu());
    let mut lane = Lane {
        scenario,
        sweep,
        wire,
        affinity,
        home,
        route: Route::default(),
        misses: 0,
        skipped: 0,
    };
    let end = match catch_unwind(AssertUnwindSafe(|| lane.cover(start))) {
        Ok(Ok(why)) => Note::Done {
            why: why.into(),
            skipped: lane.skipped,
        },
        Ok(Err(error)) => Note::Broken(error.to_string()),
        Err(_) => Note::Broken(LAST_PANIC.take()),
    };
    // If the supervisor is gone, nobody is there to be told.
    let _ = lane.wire.send(&end);
}

struct Lane<'a, S> {
    scenario: &'a S,
    sweep: &'a Sweep,
    wire: Wire,
    /// Where survivors may run.
    affinity: CpuSet,
    /// Where tracer and victim run: on one CPU, a stop is a switch, not a wake-up of another CPU.
    home: CpuSet,
    route: Route,
    misses: u32,
    /// Dull points left out.
    skipped: u64,
}

/// A stage with a victim on it.
struct Staged<S: Scenario> {
    state: S::State,
    victim: S::Victim,
    killed: Killed,
    arrival: Arrival,
    address: u64,
    stops: u64,
}

impl<S: Scenario> Lane<'_, S> {
    /// Visits this lane's points. Gives the reason if it must end before the operation does.
    fn cover(&mut self, mut point: Point) -> io::Result<&'static str> {
        os::catch_ticks()?;
        self.wire.send(&Note::Travelling(point))?;
        let first = self.scout()?;
        if matches!(first.arrival, Arrival::Died(_)) {
            self.question(point, first)?;
            return Ok(SUICIDE);
        }
        drop(first);
        let mut finishes = 0;
        while point.step <= self.sweep.max_steps {
            self.wire.send(&Note::Travelling(point))?;
            let staged = self.bring(point)?;
            match staged.arrival.clone() {
                Arrival::Step => finishes = 0,
                Arrival::Finished => finishes += 1,
                Arrival::Blocked => return Ok(""),
                Arrival::Overslept => return Ok("rousing the victim does not wake it"),
                Arrival::Asleep | Arrival::Died(_) => {}
            }
            let strayed = self.has_strayed(point, &staged);
            let died = matches!(staged.arrival, Arrival::Died(_));
            let asleep = staged.arrival == Arrival::Asleep;
            // Victims that finish are all killed at the same place: one is enough.
            if finishes <= 1 {
                self.question(point, staged)?;
            }
            if died {
                return Ok(SUICIDE);
            }
            // Only now: one stage at a time, a second one would be set on top of the first.
            let parting = if strayed { self.parting(point)? } else { None };
            if finishes >= FINISHES && point.step >= self.route.len() {
                return Ok("");
            }
            point = match parting {
                Some(step) => {
                    finishes = 0;
                    self.sweep.not_before(step, point)
                }
                None if asleep => Point {
                    woken: true,
                    ..point
                },
                None => self.sweep.after(point),
            };
            while self.route.is_dull(point.step) {
                self.skipped += 1;
                point = self.sweep.after(point);
            }
        }
        Ok("the operation takes more than the longest number of steps allowed")
    }

    /// Records the instructions of one victim, for shortcuts. Gives the stage it was on.
    fn scout(&mut self) -> io::Result<Staged<S>> {
        let limit = self.sweep.max_steps;
        let mut trace = Vec::new();
        let whole = Point {
            step: limit,
            woken: true,
        };
        let staged = self.stage(whole, |tracee| tracee.record(limit, &mut trace))?;
        self.route = Route::new(trace, self.sweep.thin);
        Ok(staged)
    }

    /// Stages a victim and brings it to the point, by the shortcut first.
    fn bring(&mut self, point: Point) -> io::Result<Staged<S>> {
        if self.sweep.shortcuts && point.step < self.route.len() {
            let route = &self.route;
            let staged = self.stage(point, |tracee| {
                tracee.travel(point.step, point.woken, Some(route))
            })?;
            if matches!(staged.arrival, Arrival::Step | Arrival::Asleep) {
                return Ok(staged);
            }
        }
        self.stage(point, |tracee| tracee.travel(point.step, point.woken, None))
    }

    /// Whether the victim was elsewhere than the recorded one, or finished earlier.
    fn has_strayed(&self, point: Point, staged: &Staged<S>) -> bool {
        let strayed = match staged.arrival {
            Arrival::Step => !self.route.agrees(point.step, staged.address),
            Arrival::Finished => point.step < self.route.len(),
            _ => false,
        };
        strayed && self.misses < MISSES
    }

    /// After a victim that strayed: the operation takes another way now (malloc has another list to look at, say).
    /// Records it, and gives the step where the two part: what lies behind on the new way has not been visited yet.
    fn parting(&mut self, point: Point) -> io::Result<Option<u64>> {
        self.misses += 1;
        let old = std::mem::take(&mut self.route);
        drop(self.scout()?);
        Ok(Some(self.route.parts_from(&old)).filter(|step| *step <= point.step))
    }

    /// Sets the stage, forks a victim, lets it travel, kills it and waits for it.
    fn stage(
        &self,
        point: Point,
        travel: impl FnOnce(&mut Tracee<'_>) -> io::Result<Arrival>,
    ) -> io::Result<Staged<S>> {
        let scenario = self.scenario;
        let state = scenario.setup();
        let mut victim = scenario.enlist(&state);
        if self.sweep.pinned {
            sched_setaffinity(None, &self.home)?;
        }
        let pid = scenario.fork(&state, &mut || play_victim(scenario, &state, &mut victim))?;
        os::tick_every(TICK_MICROS)?;
        let rouse = || scenario.rouse(&state);
        let mut tracee = Tracee::new(pid, &rouse)?;
        scenario.forked(&state, &mut victim, pid);
        tracee.open_window()?;
        let arrival = travel(&mut tracee)?;
        let address = match arrival {
            Arrival::Step | Arrival::Finished => os::instruction(pid)?,
            _ => 0,
        };
        let stops = tracee.stops;
        tracee.kill()?;
        os::tick_every(0)?;
        if self.sweep.pinned {
            sched_setaffinity(None, &self.affinity)?;
        }
        let killed = Killed {
            step: point.step,
            landing: Landing::of(&arrival),
            pid,
        };
        Ok(Staged {
            state,
            victim,
            killed,
            arrival,
            address,
            stops,
        })
    }

    /// Asks the survivor.
    fn question(&mut self, point: Point, staged: Staged<S>) -> io::Result<()> {
        let Staged {
            state,
            victim,
            killed,
            arrival,
            address,
            stops,
        } = staged;
        let drifted = arrival == Arrival::Step && !self.route.agrees(point.step, address);
        self.wire.send(&Note::Checking {
            point,
            landing: killed.landing,
            address,
            stops,
            drifted,
        })?;
        let verdict = match arrival {
            Arrival::Died(how) => Err(format!("the victim died by itself: {how}").into()),
            _ => catch_unwind(AssertUnwindSafe(|| {
                self.scenario.check(state, victim, &killed)
            }))
            .unwrap_or_else(|_| Err(format!("the check: {}", LAST_PANIC.take()).into())),
        };
        self.wire
            .send(&verdict.map_or_else(Note::Failed, |()| Note::Passed))
    }
}

fn play_victim<S: Scenario>(scenario: &S, state: &S::State, victim: &mut S::Victim) {
    set_hook(Box::new(|panic| eprintln!("crash: the victim {panic}")));
    os::trace_me().expect("be traced");
    os::stop_here();
    scenario.adopt(state, victim);
    os::stop_here();
    scenario.operate(state, victim);
    os::close_window();
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says for the report: a backtrace per kill point would bury everything else.
fn keep_panics() {
    set_hook(Box::new(|panic| {
        LAST_PANIC.set(panic.to_string().replace('\n', " "))
    }));
}
