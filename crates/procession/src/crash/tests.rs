//! The harness must be able to fail: known-broken algorithms are found out, known-good ones are not.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::futex;
use zerocopy::FromZeros;

use super::*;

const SLOTS: u64 = 8;

/// Vyukov's bounded queue: between claiming a slot and publishing it, a producer's death closes the queue.
#[derive(FromZeros)]
struct Vyukov {
    /// Sequence number and value.
    slots: [(AtomicU64, AtomicU64); SLOTS as usize],
    tail: AtomicU64,
    head: AtomicU64,
}

impl Vyukov {
    fn filled(values: &[u64]) -> Shared<Self> {
        let queue = Shared::<Self>::new();
        for (number, slot) in queue.slots.iter().enumerate() {
            slot.0.store(number as u64, Ordering::Relaxed);
        }
        assert!(values.iter().all(|value| queue.put(*value)));
        queue
    }

    fn put(&self, value: u64) -> bool {
        self.claim(&self.tail, 0).is_some_and(|at| {
            let slot = &self.slots[(at % SLOTS) as usize];
            slot.1.store(value, Ordering::Relaxed);
            slot.0.store(at + 1, Ordering::Release);
            true
        })
    }

    fn get(&self) -> Option<u64> {
        let at = self.claim(&self.head, 1)?;
        let slot = &self.slots[(at % SLOTS) as usize];
        let value = slot.1.load(Ordering::Relaxed);
        slot.0.store(at + SLOTS, Ordering::Release);
        Some(value)
    }

    fn claim(&self, position: &AtomicU64, ahead: u64) -> Option<u64> {
        loop {
            let at = position.load(Ordering::Relaxed);
            let sequence = self.slots[(at % SLOTS) as usize].0.load(Ordering::Acquire);
            if sequence < at + ahead {
                return None;
            }
            let mine = sequence == at + ahead;
            if mine
                && position
                    .compare_exchange_weak(at, at + 1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                return Some(at);
            }
        }
    }
}

struct VyukovProducer;

impl Scenario for VyukovProducer {
    type State = Shared<Vyukov>;
    type Victim = u64;

    fn setup(&self) -> Self::State {
        Vyukov::filled(&[1])
    }

    fn enlist(&self, _queue: &Self::State) -> u64 {
        2
    }

    fn operate(&self, queue: &Self::State, value: &mut u64) {
        queue.put(*value);
    }

    fn check(&self, queue: Self::State, dead: u64, killed: &Killed) -> Result<(), Fault> {
        if !queue.put(3) || queue.get() != Some(1) {
            return Err("the first message is gone".into());
        }
        match (queue.get(), killed.landing) {
            (Some(3), Landing::Step) => Ok(()),
            (Some(value), _) if value == dead && queue.get() == Some(3) => Ok(()),
            other => Err(Fault::Wedged(format!(
                "the message behind the dead producer's: {other:?}"
            ))),
        }
    }
}

struct VyukovConsumer;

impl Scenario for VyukovConsumer {
    type State = Shared<Vyukov>;
    type Victim = ();

    fn setup(&self) -> Self::State {
        Vyukov::filled(&[1, 2])
    }

    fn enlist(&self, _queue: &Self::State) {}

    fn operate(&self, queue: &Self::State, _victim: &mut ()) {
        std::hint::black_box(queue.get());
    }

    fn check(&self, queue: Self::State, _victim: (), _killed: &Killed) -> Result<(), Fault> {
        while queue.get().is_some() {}
        let round = |value| queue.put(value) && queue.get() == Some(value);
        if (0..2 * SLOTS).all(round) {
            Ok(())
        } else {
            Err(Fault::Wedged("wedges when the ring wraps".into()))
        }
    }
}

#[test]
fn crash_vyukov_queue_is_found_out() {
    let producer = kill_at_every_instruction("Vyukov producer", &VyukovProducer);
    println!("{}", producer.details());
    assert!(
        (1..producer.points as usize / 2).contains(&producer.wedged()),
        "{producer}"
    );
    assert_eq!(
        producer.failures.len(),
        producer.wedged(),
        "{}",
        producer.details()
    );
    let consumer = kill_at_every_instruction("Vyukov consumer", &VyukovConsumer);
    assert!(
        (1..consumer.points as usize / 2).contains(&consumer.wedged()),
        "{consumer}"
    );
}

#[test]
fn crash_every_way_of_stepping_finds_the_same() {
    let usual = Sweep::new("usual");
    let variants = [
        usual.clone(),
        Sweep::new("no shortcuts").shortcuts(false),
        Sweep::new("no shortcuts, not pinned")
            .shortcuts(false)
            .pinned(false),
        Sweep::new("two lanes").lanes(2),
    ];
    let found = |sweep: &Sweep| -> Vec<(u64, u64)> {
        let report = sweep.run(&VyukovProducer);
        assert_eq!(report.drifted, 0, "{report}");
        report
            .failures
            .iter()
            .map(|failure| (failure.step, failure.address))
            .collect()
    };
    let expected = found(&usual);
    assert!(!expected.is_empty());
    assert!(variants.iter().all(|variant| found(variant) == expected));
    let shards = [0, 1].map(|shard| found(&Sweep::new("one of two shards").shard(shard, 2)));
    let mut both = shards.concat();
    both.sort_unstable();
    assert_eq!(both, expected);
}

/// Two counters that must be equal, committed by one store of a version or by two.
#[derive(FromZeros)]
struct Ledger {
    /// By parity of the version.
    accounts: [(AtomicU64, AtomicU64); 2],
    version: AtomicU64,
}

struct Booking {
    in_place: bool,
}

impl Scenario for Booking {
    type State = Shared<Ledger>;
    type Victim = u64;

    fn setup(&self) -> Self::State {
        Shared::new()
    }

    fn enlist(&self, _ledger: &Self::State) -> u64 {
        100
    }

    fn operate(&self, ledger: &Self::State, amount: &mut u64) {
        let version = ledger.version.load(Ordering::Relaxed);
        let next = version + u64::from(!self.in_place);
        let account = &ledger.accounts[(next % 2) as usize];
        account.0.store(*amount, Ordering::Relaxed);
        account.1.store(*amount, Ordering::Relaxed);
        ledger.version.store(next, Ordering::Release);
    }

    fn check(&self, ledger: Self::State, _amount: u64, _killed: &Killed) -> Result<(), Fault> {
        let account = &ledger.accounts[(ledger.version.load(Ordering::Acquire) % 2) as usize];
        let (left, right) = (
            account.0.load(Ordering::Relaxed),
            account.1.load(Ordering::Relaxed),
        );
        if left == right {
            Ok(())
        } else {
            Err(format!("{left} here, {right} there").into())
        }
    }
}

#[test]
fn crash_one_store_commits_and_two_do_not() {
    kill_at_every_instruction("commit by one store", &Booking { in_place: false }).expect_clean();
    let broken = kill_at_every_instruction("commit by two stores", &Booking { in_place: true });
    assert!(broken.count("lost") >= 1, "{broken}");
    assert_eq!(broken.wedged(), 0, "{broken}");
}

/// A gate that the victim sleeps at, and what it has done behind it.
#[derive(FromZeros)]
struct Gate {
    open: AtomicU32,
    passed: AtomicU32,
}

struct Sleeper {
    rousable: bool,
}

impl Scenario for Sleeper {
    type State = Shared<Gate>;
    type Victim = ();

    fn setup(&self) -> Self::State {
        Shared::new()
    }

    fn enlist(&self, _gate: &Self::State) {}

    fn operate(&self, gate: &Self::State, _victim: &mut ()) {
        while gate.open.load(Ordering::Acquire) == 0 {
            // Woken, interrupted or too late: the loop looks again.
            let _ = futex::wait(&gate.open, futex::Flags::empty(), 0, None);
        }
        gate.passed.store(1, Ordering::Release);
    }

    fn rouse(&self, gate: &Self::State) -> bool {
        if self.rousable {
            gate.open.store(1, Ordering::Release);
            futex::wake(&gate.open, futex::Flags::empty(), 1).expect("wake the victim");
        }
        self.rousable
    }

    fn check(&self, gate: Self::State, _victim: (), killed: &Killed) -> Result<(), Fault> {
        let passed = gate.passed.load(Ordering::Acquire) == 1;
        match killed.landing {
            Landing::Asleep if passed => Err("passed in its sleep".into()),
            Landing::Finished if !passed => Err("finished without passing".into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn crash_sleeping_victims_are_killed_asleep_and_after() {
    let roused = kill_at_every_instruction("sleeper, roused", &Sleeper { rousable: true });
    roused.expect_clean();
    assert_eq!(roused.asleep, 1, "{roused}");
    let left = kill_at_every_instruction("sleeper, left asleep", &Sleeper { rousable: false });
    left.expect_clean();
    assert_eq!(left.asleep, 1, "{left}");
    assert!(
        left.points < roused.points,
        "the steps behind the sleep are covered once it is roused"
    );
}

/// A spin lock that nobody recovers: its survivor hangs.
struct SpinLock;

impl Scenario for SpinLock {
    type State = Shared<AtomicU32>;
    type Victim = ();

    fn setup(&self) -> Self::State {
        Shared::new()
    }

    fn enlist(&self, _lock: &Self::State) {}

    fn operate(&self, lock: &Self::State, _victim: &mut ()) {
        acquire(lock);
        lock.store(0, Ordering::Release);
    }

    fn check(&self, lock: Self::State, _victim: (), _killed: &Killed) -> Result<(), Fault> {
        acquire(&lock);
        Ok(())
    }
}

fn acquire(lock: &AtomicU32) {
    while lock.swap(1, Ordering::Acquire) != 0 {
        std::thread::yield_now();
    }
}

#[test]
fn crash_hanging_survivor_is_wedged() {
    let sweep = Sweep::new("spin lock").check_limit(Duration::from_millis(200));
    let report: Report = sweep.clone().patience(100).run(&SpinLock);
    println!("{}", report.details());
    assert!(report.wedged() >= 1 && report.cut.is_none(), "{report}");
    assert!(
        report.points > report.wedged() as u64,
        "it is free before and after: {report}"
    );
    let impatient = sweep.patience(1).run(&SpinLock);
    assert!(
        impatient.wedged() == 1 && impatient.cut.is_some(),
        "{impatient}"
    );
}

/// A scenario of two functions: what the victim does, and what the survivor does.
struct Plain(fn(&Shared<Scratch>), fn(&Shared<Scratch>, &Killed));

/// Room for plain operations.
#[derive(FromZeros)]
struct Scratch {
    words: [AtomicU64; 1024],
    victim: AtomicU32,
}

impl Scenario for Plain {
    type State = Shared<Scratch>;
    type Victim = Option<Pid>;

    fn setup(&self) -> Self::State {
        Shared::new()
    }

    fn enlist(&self, _scratch: &Self::State) -> Option<Pid> {
        None
    }

    fn forked(&self, _scratch: &Self::State, victim: &mut Option<Pid>, pid: Pid) {
        *victim = Some(pid);
    }

    fn adopt(&self, scratch: &Self::State, _victim: &mut Option<Pid>) {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        scratch.victim.store(pid as u32, Ordering::Relaxed);
    }

    fn operate(&self, scratch: &Self::State, _victim: &mut Option<Pid>) {
        (self.0)(scratch);
    }

    fn check(
        &self,
        scratch: Self::State,
        victim: Option<Pid>,
        killed: &Killed,
    ) -> Result<(), Fault> {
        assert_eq!(victim, Some(killed.pid));
        assert_eq!(
            Pid::from_raw(scratch.victim.load(Ordering::Relaxed) as i32),
            victim
        );
        (self.1)(&scratch, killed);
        Ok(())
    }
}

#[test]
fn crash_dying_and_panicking_survivors_are_faults() {
    for (name, misfortune) in [
        ("panic", (|| panic!("as planned")) as fn()),
        ("abort", || std::process::abort()),
    ] {
        let report = kill_at_every_instruction(name, &Misfortune(misfortune));
        assert_eq!(report.count("lost"), report.points as usize, "{report}");
        assert!(report.points >= 1, "{report}");
    }
}

struct Misfortune(fn());

impl Scenario for Misfortune {
    type State = ();
    type Victim = ();

    fn setup(&self) {}

    fn enlist(&self, _state: &()) {}

    fn operate(&self, _state: &(), _victim: &mut ()) {}

    fn check(&self, _state: (), _victim: (), _killed: &Killed) -> Result<(), Fault> {
        (self.0)();
        Ok(())
    }
}

#[test]
fn crash_victim_that_panics_is_a_fault() {
    let report =
        kill_at_every_instruction("victim panics", &Plain(|_| panic!("as planned"), |_, _| {}));
    assert!(
        report.count("lost") == 1 && report.cut.is_some(),
        "{report}"
    );
    assert!(
        report.details().contains("died by itself"),
        "{}",
        report.details()
    );
}

#[test]
fn crash_endless_operation_is_cut() {
    let endless = Plain(
        |scratch| while scratch.words[0].load(Ordering::Relaxed) == 0 {},
        |_, _| {},
    );
    let report = Sweep::new("endless").max_steps(100).run(&endless);
    assert!(report.points == 101 && report.cut.is_some(), "{report}");
}

#[test]
fn crash_system_calls_and_signals_are_stepped_over() {
    let calls = |scratch: &Shared<Scratch>| {
        std::thread::yield_now();
        scratch.words[0].store(1, Ordering::Relaxed);
        // Ignored by default, yet the tracer hears of it.
        rustix::process::kill_process(rustix::process::getpid(), os::Signal::WINCH)
            .expect("signal oneself");
        scratch.words[0].store(2, Ordering::Relaxed);
    };
    let check = |scratch: &Shared<Scratch>, killed: &Killed| {
        let done = scratch.words[0].load(Ordering::Relaxed);
        assert_eq!(
            killed.landing == Landing::Finished,
            done == 2 && killed.step > 0 && killed.landing != Landing::Step
        );
    };
    kill_at_every_instruction("yield and signal", &Plain(calls, check)).expect_clean();
}

#[test]
fn crash_wandering_victims_are_coped_with() {
    let wander = |scratch: &Shared<Scratch>| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("it is later");
        for round in 0..now.subsec_nanos() / 64 % 16 {
            scratch.words[round as usize].fetch_add(1, Ordering::Relaxed);
        }
    };
    let report = kill_at_every_instruction("wanderer", &Plain(wander, |_, _| {}));
    report.expect_clean();
    assert!(
        report.drifted > 0,
        "each victim takes its own path: {report:?}"
    );
}

/// Long, with a loop. It leaves malloc alone, whose state (hence path) differs from victim to victim.
fn long_errand(scratch: &Shared<Scratch>) {
    for (number, word) in scratch.words[..300].iter().enumerate() {
        word.fetch_add(number as u64, Ordering::Relaxed);
    }
}

#[test]
fn crash_string_instruction_is_sampled() {
    let copy = |scratch: &Shared<Scratch>| {
        let source = std::hint::black_box([7_u8; 2500]);
        let copy = std::hint::black_box(source);
        scratch.words[0].store(u64::from(copy[1]), Ordering::Relaxed);
    };
    let report = kill_at_every_instruction("copy of 2500 bytes", &Plain(copy, |_, _| {}));
    report.expect_clean();
    // Whether the C library copies by such an instruction depends on the machine.
    assert!(report.points < 2500, "{report}");
}

#[test]
#[ignore = "figures: stops per second, and what the shortcuts save"]
fn crash_figures() {
    for (pinned, shortcuts) in [(true, true), (true, false), (false, false)] {
        let sweep = Sweep::new("long errand")
            .pinned(pinned)
            .shortcuts(shortcuts);
        let report = sweep.run(&Plain(long_errand, |_, _| {}));
        report.expect_clean();
        let rate = report.stops as f64 / report.took.as_secs_f64() / 1e3;
        let (stops, drifted) = (report.stops, report.drifted);
        println!(
            "  pinned {pinned}, shortcuts {shortcuts}: {stops} stops, {drifted} drifted, {rate:.0} thousand/s"
        );
    }
}

/// Members that count up together; a life's own count is what died with it at most.
#[derive(FromZeros)]
struct Tower {
    finished: AtomicU32,
    lock: AtomicU32,
    bricks: AtomicU64,
    laid: [AtomicU64; 8],
}

struct Builders {
    tower: Shared<Tower>,
    /// Whether they build under a lock that dies with its owner.
    locking: bool,
    deaths: u32,
    /// Deaths by the storm.
    struck: u32,
    last_lives: [u32; 8],
    /// Bricks when last looked, and looks since they grew.
    seen: (u64, u32),
}

impl Builders {
    fn new(locking: bool) -> Self {
        Self {
            tower: Shared::new(),
            locking,
            deaths: 0,
            struck: 0,
            last_lives: [0; 8],
            seen: (0, 0),
        }
    }
}

impl Crowd for Builders {
    fn enlist(&mut self, _seat: Seat) {}

    fn member(&self, seat: Seat) {
        while self.tower.finished.load(Ordering::Acquire) == 0 {
            if self.locking {
                acquire(&self.tower.lock);
                std::thread::yield_now();
            }
            self.tower.laid[seat.number].fetch_add(1, Ordering::Relaxed);
            self.tower.bricks.fetch_add(1, Ordering::Release);
            if self.locking {
                self.tower.lock.store(0, Ordering::Release);
            }
        }
    }

    fn died(&mut self, death: &Death) {
        assert!(!rustix::process::getpid().eq(&death.pid));
        self.deaths += 1;
        self.last_lives[death.seat.number] = death.seat.life;
        self.struck += u32::from(death.cause == Cause::Storm);
    }

    fn watch(&mut self) -> Result<(), String> {
        let bricks = self.tower.bricks.load(Ordering::Acquire);
        self.seen = if bricks == self.seen.0 {
            (bricks, self.seen.1 + 1)
        } else {
            (bricks, 0)
        };
        if self.seen.1 > 300 {
            Err("nothing grows any more".into())
        } else {
            Ok(())
        }
    }

    fn finish(&mut self) {
        self.tower.finished.store(1, Ordering::Release);
    }
}

#[test]
fn crash_storm_keeps_count() {
    let mut builders = Builders::new(false);
    let tally: Tally = Storm::new(7)
        .kills(200)
        .stops(50)
        .run("builders", 8, &mut builders);
    assert_eq!(
        (tally.kills, tally.stops, tally.quits),
        (200, 50, 0),
        "{tally:?}"
    );
    assert!(
        tally.fault.is_none() && tally.overdue.is_empty(),
        "{tally:?}"
    );
    assert_eq!((tally.lives, builders.deaths), (208, 208), "{tally:?}");
    assert_eq!(
        (builders.struck, builders.last_lives.iter().sum()),
        (200, 200),
        "{tally:?}"
    );
    let laid: u64 = builders
        .tower
        .laid
        .iter()
        .map(|laid| laid.load(Ordering::Relaxed))
        .sum();
    let bricks = builders.tower.bricks.load(Ordering::Relaxed);
    assert!(
        (0..=200).contains(&(laid - bricks)),
        "one brick per kill at most: {laid} laid, {bricks} counted"
    );
}

#[test]
fn crash_storm_finds_a_lock_that_dies_with_its_owner() {
    let mut builders = Builders::new(true);
    let storm = Storm::new(7)
        .kills(1000)
        .limits(Duration::from_secs(60), Duration::from_millis(200));
    let tally = storm
        .gap(Duration::from_micros(200)..Duration::from_millis(1))
        .run("locked builders", 4, &mut builders);
    assert!(tally.fault.is_some() && tally.kills < 1000, "{tally:?}");
    assert_eq!(tally.overdue.len(), 4, "{tally:?}");
    assert_eq!(builders.deaths, tally.lives, "every member was reaped");
}
