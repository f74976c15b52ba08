//! Scenarios, and the sweep that kills one victim after every single instruction of its operation.
//!
//! The test process is the *supervisor*: it starts one or more lanes, hears from each where it is, and has
//! a time limit for each piece of silence. A lane that is silent in a check has a survivor that hangs: it is
//! killed with all its children, the point counts as wedged, and a new lane goes on with the next point.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::lane;
use super::os::{self, Pid, Signal, Waited};
use super::report::{Failure, Fault, Report};
use super::travel::Arrival;
use super::wire::{self, Note, Point, Wire};

/// One operation, and what must hold after its death at any instruction.
///
/// For each kill point, in the lane: `setup`, `enlist`, `fork`, `forked`, then the victim travels (and
/// `rouse` is called if it sleeps), is killed and waited for, then `check`. In the victim: `adopt` at full
/// speed, then `operate`, stepped. Points differ only in where the victim dies, so let `setup` bring
/// everything into the same state each time, and do the operation once itself if its first time is different
/// (a page fault does no harm, a cache that fills does). A stage is dropped unchecked when the victim only
/// served to record the way.
pub(crate) trait Scenario {
    /// What the survivors have: shared memory in the first place.
    type State;
    /// What stands for the victim: its registration, its arguments.
    type Victim;

    /// Sets the stage.
    fn setup(&self) -> Self::State;

    /// Prepares a victim, before the fork.
    fn enlist(&self, state: &Self::State) -> Self::Victim;

    /// Forks the victim as a child of this very thread; it must run `child`, which does not return.
    fn fork(&self, _state: &Self::State, child: &mut dyn FnMut()) -> io::Result<Pid> {
        os::fork(child)
    }

    /// Notes who the victim is (its pid, a pidfd), after the fork and before `adopt`.
    fn forked(&self, _state: &Self::State, _victim: &mut Self::Victim, _pid: Pid) {}

    /// In the victim: makes itself at home, before the first step.
    fn adopt(&self, _state: &Self::State, _victim: &mut Self::Victim) {}

    /// In the victim: the operation.
    fn operate(&self, state: &Self::State, victim: &mut Self::Victim);

    /// Ends the victim's sleep, if that is possible: called, again and again, while it sleeps where it should
    /// go on. `false` ends the sweep there: the steps behind the sleep are not covered.
    fn rouse(&self, _state: &Self::State) -> bool {
        false
    }

    /// As a survivor, says what is wrong. It may hang, panic or crash: that is a fault, too.
    fn check(&self, state: Self::State, victim: Self::Victim, killed: &Killed)
    -> Result<(), Fault>;
}

/// Where a victim was when it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Landing {
    /// Between two instructions.
    Step,
    /// Behind the operation.
    Finished,
    /// Asleep in the kernel.
    Asleep,
    /// It had died by itself.
    Died,
}

impl Landing {
    pub(super) fn of(arrival: &Arrival) -> Self {
        match arrival {
            Arrival::Step => Self::Step,
            Arrival::Finished => Self::Finished,
            Arrival::Asleep | Arrival::Blocked | Arrival::Overslept => Self::Asleep,
            Arrival::Died(_) => Self::Died,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Self {
        [Self::Step, Self::Finished, Self::Asleep]
            .into_iter()
            .find(|landing| *landing as u8 == byte)
            .unwrap_or(Self::Died)
    }
}

/// The death that a check judges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Killed {
    /// Instructions that the victim was to execute (if it finished: at least as many as it had).
    pub(crate) step: u64,
    pub(crate) landing: Landing,
    /// The victim's, reaped and free again.
    pub(crate) pid: Pid,
}

/// How to go through an operation; see [`kill_at_every_instruction`] for the usual way.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    name: String,
    first: u64,
    stride: u64,
    lanes: u64,
    check_limit: Duration,
    travel_limit: Duration,
    patience: usize,
    pub(super) max_steps: u64,
    pub(super) shortcuts: bool,
    pub(super) pinned: bool,
    pub(super) thin: bool,
}

impl Sweep {
    /// Every instruction, one lane, ten seconds for a check.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            first: 0,
            stride: 1,
            lanes: 1,
            check_limit: Duration::from_secs(10),
            travel_limit: Duration::from_secs(60),
            patience: 8,
            max_steps: 200_000,
            shortcuts: true,
            pinned: true,
            thin: false,
        }
    }

    /// Kills at the instructions `shard`, `shard + of`, `shard + 2 * of`, ... only.
    pub(crate) fn shard(self, shard: u64, of: u64) -> Self {
        Self {
            first: shard,
            stride: of.max(1),
            ..self
        }
    }

    /// Splits the work among so many processes; `setup` then runs in each.
    pub(crate) fn lanes(self, lanes: u64) -> Self {
        Self {
            lanes: lanes.max(1),
            ..self
        }
    }

    /// How long a survivor may take before it counts as wedged.
    pub(crate) fn check_limit(self, check_limit: Duration) -> Self {
        Self {
            check_limit,
            ..self
        }
    }

    /// How many survivors may time out before the sweep gives up.
    pub(crate) fn patience(self, patience: usize) -> Self {
        Self { patience, ..self }
    }

    /// Gives up on an operation of more instructions.
    pub(crate) fn max_steps(self, max_steps: u64) -> Self {
        Self { max_steps, ..self }
    }

    /// Whether victims may run to a breakpoint near their point, instead of being stepped all the way.
    pub(crate) fn shortcuts(self, shortcuts: bool) -> Self {
        Self { shortcuts, ..self }
    }

    /// Whether tracer and victim share one CPU.
    pub(crate) fn pinned(self, pinned: bool) -> Self {
        Self { pinned, ..self }
    }

    /// Whether to leave out most of the visits to an instruction that comes up very often: for operations that walk over
    /// large tables.
    pub(crate) fn thin(self, thin: bool) -> Self {
        Self { thin, ..self }
    }

    pub(super) fn after(&self, point: Point) -> Point {
        Point {
            step: point.step + self.stride * self.lanes,
            woken: false,
        }
    }

    /// The first point of the same lane that lies at this step or later, for a lane that has come to `from`.
    pub(super) fn not_before(&self, step: u64, from: Point) -> Point {
        let back = from.step.saturating_sub(step) / (self.stride * self.lanes);
        Point {
            step: from.step - back * self.stride * self.lanes,
            woken: false,
        }
    }

    /// Goes through the operation and prints one line.
    ///
    /// # Panics
    /// If the stage cannot be set: fork or ptrace refused, a panic in the scenario outside of `check`.
    pub(crate) fn run<S: Scenario>(&self, scenario: &S) -> Report {
        let begun = Instant::now();
        let mut report = Report {
            name: self.name.clone(),
            ..Report::default()
        };
        let start = |point| Watched::start(scenario, self, point).expect("start a lane");
        let first = |lane| Point {
            step: self.first + lane * self.stride,
            woken: false,
        };
        let mut watched: Vec<Watched> = (0..self.lanes).map(first).map(start).collect();
        let mut timeouts = 0;
        while !watched.is_empty() {
            listen(&mut watched);
            let mut next = Vec::new();
            for mut lane in std::mem::take(&mut watched) {
                match lane.follow(&mut report) {
                    Outcome::Goes => next.push(lane),
                    Outcome::Done => {}
                    Outcome::Lost { why, timeout } => {
                        timeouts += usize::from(timeout);
                        report.failures.push(lane.failure(why));
                        if timeouts < self.patience {
                            next.extend(lane.next_point(self).map(start));
                        } else {
                            report.cut = Some(format!("{timeouts} time-outs"));
                        }
                    }
                }
            }
            watched = next;
        }
        report
            .failures
            .sort_by_key(|failure| (failure.step, !failure.asleep));
        report.took = begun.elapsed();
        println!("{report}");
        report
    }
}

/// Kills a victim after every single instruction of the scenario's operation, and asks the survivor each time.
pub(crate) fn kill_at_every_instruction<S: Scenario>(name: &str, scenario: &S) -> Report {
    Sweep::new(name).run(scenario)
}

/// A lane, as its supervisor sees it.
struct Watched {
    pid: Pid,
    pipe: File,
    arrived: Vec<u8>,
    last: Note,
    deadline: Instant,
    limits: (Duration, Duration),
    alive: bool,
}

enum Outcome {
    Goes,
    Done,
    Lost { why: Fault, timeout: bool },
}

impl Watched {
    fn start<S: Scenario>(scenario: &S, sweep: &Sweep, point: Point) -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut writer = Some(File::from(writer));
        let pid = os::fork(&mut || {
            // Its own group, so that what a wedged check has started can be killed with it.
            rustix::process::setpgid(None, None).expect("make a process group");
            lane::run(
                scenario,
                sweep,
                point,
                Wire(writer.take().expect("runs once")),
            );
        })?;
        // The lane does the same; whoever comes first. It fails if the lane is gone already: no harm.
        let _ = rustix::process::setpgid(Some(pid), Some(pid));
        let limits = (sweep.travel_limit, sweep.check_limit);
        let deadline = Instant::now() + limits.0;
        let last = Note::Travelling(point);
        Ok(Self {
            pid,
            pipe: reader.into(),
            arrived: Vec::new(),
            last,
            deadline,
            limits,
            alive: true,
        })
    }

    /// Takes in what the lane has said, and notices its silence or its end.
    fn follow(&mut self, report: &mut Report) -> Outcome {
        let ended = self.hear();
        while let Some(note) = wire::take(&mut self.arrived) {
            if let Some(outcome) = self.note(note, report) {
                self.end();
                return outcome;
            }
        }
        let lost = if let Some(how) = ended {
            Outcome::Lost {
                why: format!("the survivor died: {how:?}").into(),
                timeout: false,
            }
        } else if Instant::now() < self.deadline {
            return Outcome::Goes;
        } else {
            let who = if matches!(self.last, Note::Checking { .. }) {
                "the survivor"
            } else {
                "the victim"
            };
            Outcome::Lost {
                why: Fault::Wedged(format!("{who} hangs")),
                timeout: true,
            }
        };
        self.end();
        lost
    }

    fn note(&mut self, note: Note, report: &mut Report) -> Option<Outcome> {
        let mut limit = self.limits.0;
        match note {
            Note::Checking {
                landing,
                stops,
                drifted,
                ..
            } => {
                limit = self.limits.1;
                report.points += 1;
                report.stops += stops;
                report.asleep += u64::from(landing == Landing::Asleep);
                report.drifted += u64::from(drifted);
            }
            Note::Failed(ref fault) => report.failures.push(self.failure(fault.clone())),
            Note::Done { why, skipped } => {
                report.skipped += skipped;
                report.cut = report
                    .cut
                    .take()
                    .or(Some(why).filter(|why| !why.is_empty()));
                return Some(Outcome::Done);
            }
            Note::Broken(why) => panic!("crash: {}: cannot set the stage: {why}", report.name),
            Note::Travelling(_) | Note::Passed => {}
        }
        self.deadline = Instant::now() + limit;
        if matches!(note, Note::Travelling(_) | Note::Checking { .. }) {
            self.last = note;
        }
        None
    }

    fn failure(&self, fault: Fault) -> Failure {
        match self.last {
            Note::Checking {
                point,
                landing,
                address,
                ..
            } => Failure {
                step: point.step,
                address,
                asleep: landing == Landing::Asleep,
                fault,
            },
            _ => Failure {
                step: self.point().step,
                address: 0,
                asleep: false,
                fault,
            },
        }
    }

    fn point(&self) -> Point {
        match self.last {
            Note::Checking { point, .. } | Note::Travelling(point) => point,
            _ => unreachable!("`last` holds places only"),
        }
    }

    /// Where a new lane goes on; nowhere behind a victim that had finished.
    fn next_point(&self, sweep: &Sweep) -> Option<Point> {
        match self.last {
            Note::Checking {
                landing: Landing::Finished,
                ..
            } => None,
            Note::Checking {
                point,
                landing: Landing::Asleep,
                ..
            } => Some(Point {
                woken: true,
                ..point
            }),
            _ => Some(sweep.after(self.point())),
        }
    }

    /// Reads what is there. Gives the end of the lane, if it has ended.
    fn hear(&mut self) -> Option<Waited> {
        let ended = match os::wait(self.pid, false) {
            Ok(Waited::Running | Waited::Interrupted | Waited::Stopped(_)) => None,
            Ok(end) => Some(end),
            Err(error) => panic!("wait for a lane: {error}"),
        };
        self.alive = ended.is_none();
        while readable(&self.pipe) {
            let mut bytes = [0; 4096];
            match self.pipe.read(&mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(len) => self.arrived.extend_from_slice(&bytes[..len]),
            }
        }
        ended
    }

    /// Kills the lane and whatever it has started.
    fn end(&mut self) {
        // ESRCH: the group is empty already.
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        if self.alive {
            os::kill(self.pid, Signal::KILL);
        }
        while self.alive {
            self.alive = matches!(
                os::wait(self.pid, true),
                Ok(Waited::Stopped(_) | Waited::Interrupted)
            );
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.alive {
            self.end();
        }
    }
}

fn readable(pipe: &File) -> bool {
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Waits until a lane says something, or a moment.
fn listen(watched: &mut [Watched]) {
    let now = Instant::now();
    let nearest = watched
        .iter()
        .map(|lane| lane.deadline.saturating_duration_since(now))
        .min();
    let limit = nearest.unwrap_or_default().min(Duration::from_millis(100));
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    let mut fds: Vec<PollFd<'_>> = watched
        .iter()
        .map(|lane| PollFd::new(&lane.pipe, PollFlags::IN))
        .collect();
    // An error means a signal: the caller looks at every lane in any case.
    let _ = poll(&mut fds, Some(&timeout));
}
