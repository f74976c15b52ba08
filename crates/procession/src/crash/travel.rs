//! The way of one victim to its kill point, by as few stops as possible.
//!
//! A fresh victim per point and k single steps for the k-th make n^2/2 stops. Instead, the first victim's
//! instructions are recorded, and later ones run at full speed to a hardware breakpoint that lies shortly
//! before their point (the j-th instruction, reached for the m-th time) and are stepped from there: m + k - j
//! stops. A victim that takes another path than the recorded one misses the breakpoint and ends; the lane
//! then walks that point step by step. Which instruction it stands at in the end is always read, not assumed.

use std::collections::{HashMap, HashSet};
use std::io;

use super::os::{self, Pid, Waited};

/// Rousings of one sleep before we say that it does not help (each at least two ticks after the last).
const NAPS: u32 = 1000;

/// How far a victim came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// To the point.
    Step,
    /// To the end of the operation, before the point.
    Finished,
    /// The point's last step sleeps.
    Asleep,
    /// It sleeps before the point, or for good, and the scenario does not rouse it.
    Blocked,
    /// It sleeps on, although the scenario says that it was roused.
    Overslept,
    /// It died by itself.
    Died(String),
}

/// The recorded instructions of one victim: `trace[k]` is where it stands after k steps.
#[derive(Default)]
pub(super) struct Route {
    trace: Vec<u64>,
    /// How often `trace[k]` has come up in `trace[..=k]`; 0 where a breakpoint would not do.
    turn: Vec<u64>,
    /// Of a repeated string instruction at `trace[k]`: rounds done, rounds left. Else 0, 0.
    rounds: Vec<(u32, u32)>,
    /// How often `trace[k]` came up before, and will come up again; empty if loops are walked whole.
    visits: Vec<(u32, u32)>,
}

/// In a thinned walk, visits to one instruction that are not left out: so many first and last ones, and powers of two.
const FIRST_VISITS: u32 = 12;
const LAST_VISITS: u32 = 2;

impl Route {
    pub(super) fn new(trace: Vec<u64>, thin: bool) -> Self {
        // A repeated string instruction stops after each round when stepped, but not at a breakpoint.
        let repeats = trace
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0]);
        let unfit: HashSet<u64> = repeats.chain(trace.first().copied()).collect();
        let mut seen = HashMap::new();
        let mut count = |address: &u64| {
            let turn = seen.entry(*address).or_insert(0);
            *turn += 1;
            if unfit.contains(address) { 0 } else { *turn }
        };
        let turn = trace.iter().map(&mut count).collect();
        let mut rounds = vec![(0, 0); trace.len()];
        for at in 1..trace.len() {
            rounds[at].0 = if trace[at] == trace[at - 1] {
                rounds[at - 1].0 + 1
            } else {
                0
            };
        }
        for at in (1..trace.len()).rev() {
            rounds[at - 1].1 = if trace[at] == trace[at - 1] {
                rounds[at].1 + 1
            } else {
                0
            };
        }
        let visits = if thin {
            count_visits(&trace)
        } else {
            Vec::new()
        };
        Self {
            trace,
            turn,
            rounds,
            visits,
        }
    }

    /// Whether the point lies between two rounds of one string instruction, and neither near its ends
    /// nor after a power of two: a copy of 64 KiB may stop 65536 times.
    ///
    /// In a thinned walk also whether it is one of many visits to the same instruction, neither of the first or last nor a
    /// power of two: a walk over a table repeats the same few loads thousands of times, and what it does at a row that
    /// matters are other instructions, which are visited rarely and hence all.
    pub(super) fn is_dull(&self, step: u64) -> bool {
        let rounds = self.rounds.get(step as usize);
        let visits = self.visits.get(step as usize);
        rounds.is_some_and(|(done, left)| *done > 3 && *left > 1 && !done.is_power_of_two())
            || visits.is_some_and(|(done, left)| {
                *done >= FIRST_VISITS && *left >= LAST_VISITS && !done.is_power_of_two()
            })
    }

    pub(super) fn len(&self) -> u64 {
        self.trace.len() as u64
    }

    pub(super) fn agrees(&self, step: u64, address: u64) -> bool {
        self.trace
            .get(step as usize)
            .is_none_or(|recorded| *recorded == address)
    }

    /// The first step after which the two ways are no longer the same.
    pub(super) fn parts_from(&self, other: &Self) -> u64 {
        self.trace
            .iter()
            .zip(&other.trace)
            .take_while(|(mine, theirs)| mine == theirs)
            .count() as u64
    }

    /// The cheapest breakpoint on the way: its address, its turn, and the steps left behind it. At least
    /// one step is left, because only a step can end asleep.
    fn shortcut(&self, step: u64) -> Option<(u64, u64, u64)> {
        let turns = self
            .turn
            .iter()
            .zip(&self.trace)
            .zip(0..step)
            .filter(|((turn, _), _)| **turn > 0);
        let ways = turns.map(|((turn, address), at)| (*address, *turn, step - at));
        ways.min_by_key(|(_, turn, left)| turn + left)
            .filter(|(_, turn, left)| turn + left < step)
    }
}

fn count_visits(trace: &[u64]) -> Vec<(u32, u32)> {
    let mut seen: HashMap<u64, u32> = HashMap::new();
    let done: Vec<u32> = trace
        .iter()
        .map(|address| {
            let count = seen.entry(*address).or_insert(0);
            *count += 1;
            *count - 1
        })
        .collect();
    let left = |(address, done): (&u64, &u32)| (*done, seen[address] - done - 1);
    trace.iter().zip(&done).map(left).collect()
}

/// How the tracee stopped.
enum Stop {
    Trap,
    Early(Arrival),
}

/// What to do with a victim that falls asleep.
#[derive(Clone, Copy)]
enum Sleep {
    /// Let it: it is not in its window yet.
    Ignore,
    /// It has arrived.
    Arrive,
    /// Wake it, and go on.
    Rouse,
}

/// A stopped victim.
pub(super) struct Tracee<'a> {
    pub(super) pid: Pid,
    /// Wakes the victim up, if it can.
    rouse: &'a dyn Fn() -> bool,
    /// Stops made so far.
    pub(super) stops: u64,
}

impl<'a> Tracee<'a> {
    /// Takes over a victim that is about to stop at its gate.
    pub(super) fn new(pid: Pid, rouse: &'a dyn Fn() -> bool) -> io::Result<Self> {
        loop {
            match os::wait(pid, true)? {
                Waited::Stopped(libc::SIGTRAP) => break,
                Waited::Stopped(signal) => os::resume(pid, signal)?,
                Waited::Interrupted | Waited::Running => {}
                Waited::Exited(_) | Waited::Signaled(_) => {
                    return Err(io::Error::other("the victim did not start"));
                }
            }
        }
        os::die_with_tracer(pid)?;
        Ok(Self {
            pid,
            rouse,
            stops: 0,
        })
    }

    /// Lets the victim go from its gate to the opening of its window.
    pub(super) fn open_window(&mut self) -> io::Result<()> {
        os::resume(self.pid, 0)?;
        match self.stopped(false, Sleep::Ignore)? {
            Stop::Trap => Ok(()),
            Stop::Early(arrival) => Err(io::Error::other(format!(
                "before its window, the victim: {arrival:?}"
            ))),
        }
    }

    /// Walks to the end, noting each instruction; stops where it blocks, or after `limit` steps.
    pub(super) fn record(&mut self, limit: u64, trace: &mut Vec<u64>) -> io::Result<Arrival> {
        trace.push(os::instruction(self.pid)?);
        while self.stops < limit {
            if let Stop::Early(arrival) = self.step(Sleep::Rouse)? {
                return Ok(arrival);
            }
            trace.push(os::instruction(self.pid)?);
        }
        Ok(Arrival::Step)
    }

    /// Goes `step` instructions into the window; by the route's shortcut, if one is given. `woken`: if the
    /// last one sleeps, goes on until it is over.
    pub(super) fn travel(
        &mut self,
        step: u64,
        woken: bool,
        route: Option<&Route>,
    ) -> io::Result<Arrival> {
        let mut left = step;
        if let Some((address, turns, rest)) = route.and_then(|route| route.shortcut(step)) {
            left = rest;
            os::set_breakpoint(self.pid, Some(address))?;
            for _ in 0..turns {
                os::resume(self.pid, 0)?;
                if let Stop::Early(arrival) = self.stopped(false, Sleep::Rouse)? {
                    return Ok(arrival);
                }
            }
            os::set_breakpoint(self.pid, None)?;
        }
        for left in (0..left).rev() {
            let sleep = if woken || left > 0 {
                Sleep::Rouse
            } else {
                Sleep::Arrive
            };
            if let Stop::Early(arrival) = self.step(sleep)? {
                return Ok(arrival);
            }
        }
        Ok(Arrival::Step)
    }

    /// Kills the victim and waits until it is gone.
    pub(super) fn kill(self) -> io::Result<()> {
        os::kill(self.pid, os::Signal::KILL);
        loop {
            match os::wait(self.pid, true) {
                Ok(Waited::Exited(_) | Waited::Signaled(_)) => return Ok(()),
                Ok(_) => {}
                // It had died by itself, and was waited for then.
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    #[inline]
    fn step(&mut self, sleep: Sleep) -> io::Result<Stop> {
        os::step(self.pid, 0)?;
        self.stopped(true, sleep)
    }

    /// Waits for the stop of a resumed victim.
    #[inline]
    fn stopped(&mut self, stepping: bool, sleep: Sleep) -> io::Result<Stop> {
        self.stops += 1;
        match os::wait(self.pid, true)? {
            Waited::Stopped(libc::SIGTRAP) => Ok(Stop::Trap),
            other => self.stopped_otherwise(other, stepping, sleep),
        }
    }

    #[cold]
    fn stopped_otherwise(
        &self,
        mut waited: Waited,
        stepping: bool,
        sleep: Sleep,
    ) -> io::Result<Stop> {
        let (mut ticks, mut naps) = (0, 0);
        loop {
            match waited {
                Waited::Stopped(libc::SIGTRAP) => return Ok(Stop::Trap),
                Waited::Stopped(libc::SIGILL) if os::at_closing(self.pid)? => {
                    return Ok(Stop::Early(Arrival::Finished));
                }
                Waited::Stopped(signal) if stepping => os::step(self.pid, signal)?,
                Waited::Stopped(signal) => os::resume(self.pid, signal)?,
                Waited::Exited(_) | Waited::Signaled(_) => {
                    return Ok(Stop::Early(Arrival::Died(format!("{waited:?}"))));
                }
                Waited::Interrupted | Waited::Running => ticks += 1,
            }
            // One tick may have come just before the victim could stop.
            if ticks >= 2 && os::is_asleep(self.pid) {
                (ticks, naps) = (0, naps + 1);
                if let Some(arrival) = self.asleep(sleep, naps) {
                    return Ok(Stop::Early(arrival));
                }
            }
            waited = os::wait(self.pid, true)?;
        }
    }

    /// Whether the way ends with this sleep.
    fn asleep(&self, sleep: Sleep, naps: u32) -> Option<Arrival> {
        match sleep {
            Sleep::Ignore => None,
            Sleep::Arrive => Some(Arrival::Asleep),
            Sleep::Rouse if naps > NAPS => Some(Arrival::Overslept),
            Sleep::Rouse => (!(self.rouse)()).then_some(Arrival::Blocked),
        }
    }
}
