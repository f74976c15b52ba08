//! What the scenarios share: acts, helpers, and what must be true after every death.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::super::os::{self, Pid, Signal, Waited};
use super::super::{Fault, Killed, Scenario, Sweep};
use super::reclaim::Reaper;
use crate::family::{self, Owner, forked_child, reap_dead};
use crate::heap::{Block, Heap, Presence, me};
use crate::{HeapStats, MAX_PARTICIPANTS};

/// Bytes of one unit: blocks of more than half of it are runs of units.
pub(super) const UNIT: usize = 64 * 1024;

/// How long anybody may take to notice something.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often one looks for it before the time counts: where nobody runs for a while, the whole machine or this family of processes, time passes and nothing can happen.
const LOOKS: u32 = 10_000;
/// The time from one look to the next, for others.
const PAUSE: Duration = Duration::from_micros(50);

static POINTS: AtomicU64 = AtomicU64::new(0);
static INSTRUCTIONS: AtomicU64 = AtomicU64::new(0);

/// Kills so far, and for how many instructions they stand.
pub(super) fn total_points() -> (u64, u64) {
    (
        POINTS.load(Ordering::Relaxed),
        INSTRUCTIONS.load(Ordering::Relaxed),
    )
}

/// Counts kills, which stand for so many instructions: more than kills, where states are told from instructions (`crash/states.rs`).
pub(super) fn cover(kills: u64, instructions: u64) {
    POINTS.fetch_add(kills, Ordering::Relaxed);
    INSTRUCTIONS.fetch_add(instructions, Ordering::Relaxed);
}

/// Whether this test is the only one that runs: the forked processes and the heap's figures need that.
pub(super) fn alone() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let joined = arguments.join(" ");
    let alone = joined.contains("--test-threads=1") || joined.contains("--test-threads 1");
    if !alone {
        println!("crash: skipped, needs --test-threads=1 (make crash)");
    }
    alone
}

type Operate<P, V> = Box<dyn Fn(&P, V)>;
type Judge<P> = Box<dyn Fn(P, &Killed) -> Result<(), Fault>>;

/// One operation of a victim, among what the survivors have (`P`) and with what is its own (`V`).
pub(super) struct Act<P, V = ()> {
    name: String,
    props: Box<dyn Fn() -> P>,
    part: Box<dyn Fn(&P) -> V>,
    operate: Operate<P, V>,
    rouse: Box<dyn Fn(&P) -> bool>,
    judge: Judge<P>,
    witness: Box<dyn Fn(&P)>,
    /// Whether a reaper of the victim is killed midway, too; and how many writes and calls such a reaper had lately.
    reaper_dies: bool,
    reap_events: Cell<u64>,
}

impl<P, V> Act<P, V> {
    /// `props` sets the stage in the survivor; `part` makes, in the victim and unharmed, what is its own; `operate` is killed.
    pub(super) fn new(
        name: &str,
        props: impl Fn() -> P + 'static,
        part: impl Fn(&P) -> V + 'static,
        operate: impl Fn(&P, V) + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            props: Box::new(props),
            part: Box::new(part),
            operate: Box::new(operate),
            rouse: Box::new(|_| false),
            witness: Box::new(|_| ()),
            judge: Box::new(|_, _| Ok(())),
            reaper_dies: false,
            reap_events: Cell::new(400),
        }
    }

    /// What the survivor checks, after the victim is reaped and before the heap's balance is drawn.
    pub(super) fn judge(self, judge: impl Fn(P, &Killed) -> Result<(), Fault> + 'static) -> Self {
        Self {
            judge: Box::new(judge),
            ..self
        }
    }

    /// What the survivor looks at between the victim's death and its burial.
    pub(super) fn witness(self, witness: impl Fn(&P) + 'static) -> Self {
        Self {
            witness: Box::new(witness),
            ..self
        }
    }

    /// Kills a reaper of `dead` somewhere in the middle.
    fn kill_a_reaper(&self, dead: Owner, killed: &Killed) -> Result<(), Fault> {
        heap().is_gone(dead);
        let events = self.reap_events.get();
        // The golden ratio: neighbouring points get distant events.
        let event = killed.step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let event = (event * (events + 1)) >> 32;
        let (reaper, came) = Reaper::start().dies_behind(event)?;
        if came < event {
            self.reap_events.set(came);
        }
        if heap().is_gone(reaper) {
            Ok(())
        } else {
            Err(Fault::Wedged("a reaper's death is not proved".into()))
        }
    }

    /// How the victim's sleep ends.
    pub(super) fn rouse(self, rouse: impl Fn(&P) -> bool + 'static) -> Self {
        Self {
            rouse: Box::new(rouse),
            ..self
        }
    }

    /// Kills at every instruction; every survivor must be content.
    pub(super) fn play(self) {
        self.play_by(|sweep| sweep);
    }

    /// As `play`, for operations that walk over the heap's tables: most of the identical rounds are left out.
    pub(super) fn play_thinned(self) {
        self.play_by(|sweep| sweep.thin(true).max_steps(1_000_000));
    }

    /// Kills at one instruction of `stride` only, but after the victim a reaper, too: behind a different one of its writes and calls each time.
    pub(super) fn play_with_dying_reapers(self, stride: u64) {
        let twice = Self {
            name: format!("{}, and a reaper", self.name),
            reaper_dies: true,
            ..self
        };
        twice.play_by(|sweep| sweep.thin(true).max_steps(1_000_000).shard(0, stride));
    }

    pub(super) fn play_by(self, adjust: impl FnOnce(Sweep) -> Sweep) {
        if alone() {
            let report = adjust(Sweep::new(&self.name).lanes(2).patience(3)).run(&self);
            cover(report.points, report.points);
            report.expect_clean();
        }
    }
}

/// The survivor's side of the stage.
pub(super) struct Stage<P> {
    before: HeapStats,
    props: P,
}

/// The victim: its name (in the survivor), its own things (in itself).
pub(super) struct Player<V> {
    owner: Option<Owner>,
    part: Option<V>,
}

impl<P, V> Scenario for Act<P, V> {
    type State = Stage<P>;
    type Victim = Player<V>;

    fn setup(&self) -> Stage<P> {
        bury_all();
        let before = heap().stats();
        let props = (self.props)();
        Stage { before, props }
    }

    fn enlist(&self, _stage: &Stage<P>) -> Player<V> {
        Player {
            owner: None,
            part: None,
        }
    }

    fn forked(&self, _stage: &Stage<P>, victim: &mut Player<V>, _pid: Pid) {
        victim.owner = forked_child();
    }

    fn adopt(&self, stage: &Stage<P>, victim: &mut Player<V>) {
        victim.part = Some((self.part)(&stage.props));
    }

    fn operate(&self, stage: &Stage<P>, victim: &mut Player<V>) {
        let part = victim.part.take().expect("adopted");
        (self.operate)(&stage.props, part);
    }

    fn rouse(&self, stage: &Stage<P>) -> bool {
        (self.rouse)(&stage.props)
    }

    fn check(&self, stage: Stage<P>, victim: Player<V>, killed: &Killed) -> Result<(), Fault> {
        let owner = victim
            .owner
            .ok_or("the victim got no place in the family")?;
        (self.witness)(&stage.props);
        if self.reaper_dies {
            self.kill_a_reaper(owner, killed)?;
        }
        bury(owner)?;
        (self.judge)(stage.props, killed)?;
        balance(&stage.before)
    }
}

/// The heap of this lane's family, founded at the first call.
pub(super) fn heap() -> &'static Heap {
    family::join().expect("found a family")
}

/// Declares one dead participant dead and reaps it.
pub(super) fn bury(owner: Owner) -> Result<(), Fault> {
    let heap = heap();
    if !heap.is_gone(owner) {
        return Err(Fault::Wedged("the victim's death is not proved".into()));
    }
    reap_dead(heap);
    let (presence, generation) = heap.participants()[owner.slot()].presence();
    if presence == Presence::Free && generation == owner.generation() {
        Ok(())
    } else {
        Err(Fault::Leaked(format!(
            "the place of {owner:?} is {presence:?}.{generation} after reaping"
        )))
    }
}

/// Looks for everybody who is dead and reaps them.
pub(super) fn bury_all() {
    let heap = heap();
    for slot in 0..MAX_PARTICIPANTS {
        let (presence, generation) = heap.participants()[slot].presence();
        let owner = Owner::new(slot, generation);
        if presence != Presence::Free && owner != me() {
            // Also of a fork that never was, whose victim nobody knows by name.
            heap.has_left(owner);
        }
    }
    reap_dead(heap);
}

/// Everything of the stage is dropped: the heap must be as it was, whole, and fit for use.
pub(super) fn balance(before: &HeapStats) -> Result<(), Fault> {
    bury_all();
    let heap = heap();
    for (slot, participant) in heap.participants().iter().enumerate() {
        let (presence, generation) = participant.presence();
        if presence != Presence::Free && slot != me().slot() {
            return Err(Fault::Leaked(format!(
                "place {slot} is {presence:?}.{generation}"
            )));
        }
        if presence == Presence::Free {
            let mut held = 0;
            heap.each_held(slot, |_| held += 1);
            if held > 0 {
                return Err(Fault::Leaked(format!(
                    "free place {slot} holds {held} objects"
                )));
            }
        }
    }
    let header = heap.header();
    for (lock, name) in [(&header.units_lock, "units"), (&header.reap_lock, "reap")] {
        if let Some(owner) = lock.owner() {
            return Err(Fault::Wedged(format!("{name} lock is held by {owner:?}")));
        }
    }
    let after = heap.stats();
    let figures = |stats: &HeapStats| (stats.live_bytes, stats.objects, stats.blocks);
    if figures(&after) != figures(before) {
        return Err(Fault::Leaked(format!(
            "live bytes, objects, blocks: {:?}, before {:?}",
            figures(&after),
            figures(before)
        )));
    }
    runs_are_whole(heap)?;
    if !after.used_bytes.is_multiple_of(UNIT as u64) || after.used_bytes > after.limit {
        return Err(Fault::Leaked(format!("used bytes: {}", after.used_bytes)));
    }
    let sample = [1, 4096, 3 * UNIT].map(Block::alloc);
    if sample.iter().any(Result::is_err) {
        return Err(Fault::Wedged(format!("no block to be had: {sample:?}")));
    }
    Ok(())
}

/// Walking from unit 0 by the lengths ends at the last unit ever used.
fn runs_are_whole(heap: &Heap) -> Result<(), Fault> {
    let mut end = 0;
    heap.each_run(|unit, word| end = unit + word.len().max(1));
    let used = heap.header().units_used.load(Ordering::Relaxed);
    if end == used {
        Ok(())
    } else {
        Err(format!("the walk over the runs ends at {end} of {used}").into())
    }
}

/// How long somebody is waited for, in time and in looks.
struct Patience {
    deadline: Instant,
    looks: u32,
}

impl Patience {
    fn new() -> Self {
        Self {
            deadline: Instant::now() + PATIENCE,
            looks: 0,
        }
    }

    /// After a look in vain: whether there will be another one, and a pause before it.
    fn lasts(&mut self) -> bool {
        self.looks += 1;
        std::thread::sleep(PAUSE);
        self.looks < LOOKS || Instant::now() < self.deadline
    }
}

/// Another member of the family, a child of the lane that does something meanwhile. Killed when dropped.
pub(super) struct Helper {
    pid: Pid,
    owner: Option<Owner>,
    ended: Cell<bool>,
}

impl Helper {
    pub(super) fn start(child: &mut dyn FnMut()) -> Self {
        let pid = os::fork(child).expect("fork a helper");
        Self {
            pid,
            owner: forked_child(),
            ended: Cell::new(false),
        }
    }

    /// Waits until the helper sleeps.
    pub(super) fn until_asleep(&self) {
        let mut patience = Patience::new();
        while !self.sleeps() {
            let state = os::state(self.pid);
            assert!(
                patience.lasts(),
                "the helper does not fall asleep, its state is {state:?}"
            );
        }
    }

    /// Whether the helper sleeps just now.
    pub(super) fn sleeps(&self) -> bool {
        os::is_asleep(self.pid)
    }

    /// The helper comes to its end by itself, in time; then it is reaped.
    pub(super) fn joins(self) -> Result<(), Fault> {
        let mut patience = Patience::new();
        loop {
            match os::wait(self.pid, false) {
                Ok(Waited::Exited(0)) => break,
                Ok(Waited::Exited(_) | Waited::Signaled(_)) => {
                    self.ended.set(true);
                    return Err("the helper failed".into());
                }
                _ if patience.lasts() => {}
                _ => return Err(Fault::Wedged("the helper waits for ever".into())),
            }
        }
        self.ended.set(true);
        self.owner.map_or(Ok(()), bury)
    }

    /// Which participant it is.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Whether the family has proof of its death.
    pub(super) fn is_gone(&self) -> bool {
        self.owner.is_some_and(|owner| heap().is_gone(owner))
    }

    /// Kills the helper and waits for it; it is not reaped from the family.
    pub(super) fn kill(&self) {
        if !self.ended.replace(true) {
            os::kill(self.pid, Signal::KILL);
            while !matches!(
                os::wait(self.pid, true),
                Ok(Waited::Exited(_) | Waited::Signaled(_)) | Err(_)
            ) {}
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `act` in a process of its own, so that whatever it does to the family ends with it.
pub(super) fn in_a_process_of_its_own(act: &mut dyn FnMut()) {
    let pid = os::fork(act).expect("fork");
    loop {
        match os::wait(pid, true) {
            Ok(Waited::Exited(0)) => return,
            Ok(Waited::Exited(_) | Waited::Signaled(_)) => panic!("it failed"),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("wait: {error}"),
        }
    }
}
