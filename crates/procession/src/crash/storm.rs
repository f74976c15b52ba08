//! Random SIGKILL, SIGSTOP and SIGCONT against a crowd of member processes that is kept complete.
//!
//! The seed decides who is hit, by what and how long after the last blow; what the members are doing at that
//! moment is up to the machine. Nothing here waits without a limit, and no member outlives the storm.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::os::{self, Pid, Signal, Waited};

/// Who is in the storm. Everything but `member` runs in the test process.
pub(crate) trait Crowd {
    /// Prepares the seat's next member, before it is forked.
    fn enlist(&mut self, seat: Seat);

    /// Forks a member as a child of this very thread; it must run `child`, which does not return.
    fn fork(&self, _seat: Seat, child: &mut dyn FnMut()) -> io::Result<Pid> {
        os::fork(child)
    }

    /// In the child: the member's life. It returns soon after `finish`.
    fn member(&self, seat: Seat);

    /// A member is dead and reaped: the place for accounting.
    fn died(&mut self, death: &Death);

    /// Called between blows: says what is wrong, if so, which ends the storm.
    fn watch(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Tells the members to come to an end.
    fn finish(&mut self);
}

/// A place in the crowd, and how many members it has had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) number: usize,
    pub(crate) life: u32,
}

/// Why a member is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The storm killed it.
    Storm,
    /// It ended by itself, before or after `finish`.
    Exit(i32),
    /// Somebody else's signal.
    Signal(i32),
    /// It did not end after `finish`, and was killed.
    Overdue,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) seat: Seat,
    pub(crate) pid: Pid,
    pub(crate) cause: Cause,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kills: u32,
    pub(crate) stops: u32,
    /// Members started.
    pub(crate) lives: u32,
    /// Ended before `finish` though the storm had not killed them.
    pub(crate) quits: u32,
    /// Did not end after `finish`.
    pub(crate) overdue: Vec<Seat>,
    /// What `watch` said, or that time was up.
    pub(crate) fault: Option<String>,
    pub(crate) took: Duration,
}

/// A storm to come.
#[derive(Clone, Debug)]
pub(crate) struct Storm {
    seed: u64,
    kills: u32,
    stops: u32,
    gap: Range<Duration>,
    pause: Range<Duration>,
    limit: Duration,
    drain: Duration,
}

impl Storm {
    /// No blows yet; up to 2 ms between blows, stops of up to 5 ms, two minutes for all. The environment
    /// variable `PROCESSION_STORM_SEED` replaces the seed.
    pub(crate) fn new(seed: u64) -> Self {
        let given = std::env::var("PROCESSION_STORM_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        Self {
            seed: given.unwrap_or(seed),
            kills: 0,
            stops: 0,
            gap: Duration::ZERO..Duration::from_millis(2),
            pause: Duration::ZERO..Duration::from_millis(5),
            limit: Duration::from_secs(120),
            drain: Duration::from_secs(10),
        }
    }

    /// How many members to SIGKILL.
    pub(crate) fn kills(self, kills: u32) -> Self {
        Self { kills, ..self }
    }

    /// How many times to SIGSTOP one, and SIGCONT it later.
    pub(crate) fn stops(self, stops: u32) -> Self {
        Self { stops, ..self }
    }

    /// Time between two blows.
    pub(crate) fn gap(self, gap: Range<Duration>) -> Self {
        Self { gap, ..self }
    }

    /// Time for the whole storm, and for the members to end after it.
    pub(crate) fn limits(self, limit: Duration, drain: Duration) -> Self {
        Self {
            limit,
            drain,
            ..self
        }
    }

    /// Runs the storm against so many seats and prints one line. In the end every member is reaped.
    ///
    /// # Panics
    /// If a member cannot be forked, or a callback panics.
    pub(crate) fn run<C: Crowd>(&self, name: &str, seats: usize, crowd: &mut C) -> Tally {
        let begun = Instant::now();
        println!("storm: {name}: seed {}", self.seed);
        let mut field = Field {
            crowd,
            members: Vec::new(),
            tally: Tally::default(),
            random: Random(self.seed),
        };
        for number in 0..seats {
            let member = field.start(Seat { number, life: 0 });
            field.members.push(member);
        }
        field.tally.fault = field.rage(self, begun + self.limit).err();
        field.end(self.drain);
        let mut tally = std::mem::take(&mut field.tally);
        tally.took = begun.elapsed();
        let Tally {
            kills,
            stops,
            lives,
            quits,
            ref overdue,
            ref fault,
            took,
        } = tally;
        let overdue = overdue.len();
        print!(
            "storm: {name}: {kills} kills, {stops} stops, {lives} lives, {quits} quits, {overdue} overdue"
        );
        println!(
            " ({:.1} s){}",
            took.as_secs_f64(),
            fault
                .as_ref()
                .map(|fault| format!(": {fault}"))
                .unwrap_or_default()
        );
        tally
    }
}

struct Member {
    seat: Seat,
    pid: Pid,
    /// Stopped until then.
    stopped: Option<Instant>,
    reaped: bool,
}

struct Field<'a, C: Crowd> {
    crowd: &'a mut C,
    members: Vec<Member>,
    tally: Tally,
    random: Random,
}

impl<C: Crowd> Field<'_, C> {
    fn start(&mut self, seat: Seat) -> Member {
        self.crowd.enlist(seat);
        self.tally.lives += 1;
        let crowd = &*self.crowd;
        let pid = crowd
            .fork(seat, &mut || crowd.member(seat))
            .expect("fork a member");
        Member {
            seat,
            pid,
            stopped: None,
            reaped: false,
        }
    }

    fn rage(&mut self, storm: &Storm, deadline: Instant) -> Result<(), String> {
        while self.tally.kills < storm.kills || self.tally.stops < storm.stops {
            std::thread::sleep(self.random.duration(&storm.gap));
            self.replace_dead();
            self.wake_due();
            self.crowd.watch()?;
            if Instant::now() > deadline {
                return Err("time is up".into());
            }
            let (kills, stops) = (
                storm.kills - self.tally.kills,
                storm.stops - self.tally.stops,
            );
            let target = self.random.below(self.members.len() as u64) as usize;
            if self.random.below(u64::from(kills + stops)) < u64::from(kills) {
                self.tally.kills += 1;
                os::kill(self.members[target].pid, Signal::KILL);
                self.bury(target, Cause::Storm)?;
                self.replace(target);
            } else if self.members[target].stopped.is_none() {
                self.tally.stops += 1;
                os::kill(self.members[target].pid, Signal::STOP);
                self.members[target].stopped =
                    Some(Instant::now() + self.random.duration(&storm.pause));
            }
        }
        Ok(())
    }

    fn replace_dead(&mut self) {
        for index in 0..self.members.len() {
            if let Some(cause) = ended(self.members[index].pid) {
                self.tally.quits += 1;
                self.note_death(index, cause);
                self.replace(index);
            }
        }
    }

    fn wake_due(&mut self) {
        let now = Instant::now();
        for member in self
            .members
            .iter_mut()
            .filter(|member| member.stopped.is_some_and(|until| until <= now))
        {
            os::kill(member.pid, Signal::CONT);
            member.stopped = None;
        }
    }

    fn replace(&mut self, index: usize) {
        let Seat { number, life } = self.members[index].seat;
        self.members[index] = self.start(Seat {
            number,
            life: life + 1,
        });
    }

    /// Waits for a member that was sent SIGKILL.
    fn bury(&mut self, index: usize, cause: Cause) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let end = loop {
            if let Some(end) = ended(self.members[index].pid) {
                break end;
            }
            if Instant::now() > deadline {
                return Err(format!("{:?} survives SIGKILL", self.members[index].seat));
            }
            std::thread::sleep(Duration::from_micros(20));
        };
        self.note_death(
            index,
            if end == Cause::Signal(libc::SIGKILL) {
                cause
            } else {
                end
            },
        );
        Ok(())
    }

    fn note_death(&mut self, index: usize, cause: Cause) {
        let Member {
            seat,
            pid,
            ref mut reaped,
            ..
        } = self.members[index];
        *reaped = true;
        self.crowd.died(&Death { seat, pid, cause });
    }

    /// Wakes everybody, asks them to end, and kills those who do not.
    fn end(&mut self, drain: Duration) {
        self.members
            .iter_mut()
            .for_each(|member| member.stopped = Some(Instant::now()));
        self.wake_due();
        self.crowd.finish();
        let deadline = Instant::now() + drain;
        while self.members.iter().any(|member| !member.reaped) && Instant::now() < deadline {
            for index in 0..self.members.len() {
                let Member { pid, reaped, .. } = self.members[index];
                if let Some(cause) = (!reaped).then(|| ended(pid)).flatten() {
                    self.note_death(index, cause);
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        for index in 0..self.members.len() {
            let Member {
                seat, pid, reaped, ..
            } = self.members[index];
            if !reaped {
                self.tally.overdue.push(seat);
                os::kill(pid, Signal::KILL);
                let buried = self.bury(index, Cause::Overdue);
                self.tally.fault = self.tally.fault.take().or(buried.err());
            }
        }
    }
}

impl<C: Crowd> Drop for Field<'_, C> {
    fn drop(&mut self) {
        for member in self.members.iter().filter(|member| !member.reaped) {
            os::kill(member.pid, Signal::KILL);
            // Reaped here, after a panic; SIGKILL has made it die, so this waits for a moment only.
            let _ = os::wait(member.pid, true);
        }
    }
}

fn ended(pid: Pid) -> Option<Cause> {
    match os::wait(pid, false) {
        Ok(Waited::Exited(code)) => Some(Cause::Exit(code)),
        Ok(Waited::Signaled(signal)) => Some(Cause::Signal(signal)),
        Ok(_) => None,
        Err(error) => panic!("wait for a member: {error}"),
    }
}

/// SplitMix64: tiny, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0 (tiny bias: no matter here).
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn duration(&mut self, range: &Range<Duration>) -> Duration {
        let span = range.end.saturating_sub(range.start).as_nanos() as u64;
        range.start + Duration::from_nanos(self.below(span + 1))
    }
}
