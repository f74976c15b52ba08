//! The way of a victim from one change of the shared memory to the next, for operations too long to be killed at each instruction.
//!
//! Survivors learn of a victim through the memory they share with it and through its system calls. Two instructions of one run
//! between which it neither changed the one nor made the other are the *same point* to them: its registers, its stack and its
//! private memory die with it, and nobody else runs meanwhile. So an operation of M instructions has as many points to be
//! killed at as it has *states*: the beginning, and one behind each change and each system call.
//!
//! **Who says where a change is.** The processor: the victim's view of the memory is made read-only, so each instruction that writes to it
//! faults. The tracer then lets that one instruction through (the victim is made to call `mprotect`, stepped, and made to call it
//! again). No write can be missed, and none has to be decoded.
//!
//! 1. [`Traced::record`] steps a victim through the whole operation, counts its instructions, and notes each state with a digest of
//!    the memory. It *checks* that the memory just before each event is what it was just behind the one before: nothing changes unseen (by
//!    the kernel, say).
//! 2. [`Traced::go_to`] brings the victim of another, identical round to a state by counting events; whoever does so compares the digest.
//!
//! A digest is over the words that differ from what they were when the operation began, with their places: rounds in processes
//! of their own, with a memory of their own, differ in pids and times, which no digest sees unless the operation writes them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{SeekFrom, seek};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::os::{self, Pid, Waited};

const PAGE: usize = 4096;

/// Memory that processes share, as all of them map it.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'a> {
    pub(crate) file: BorrowedFd<'a>,
    /// Where the whole file is mapped.
    pub(crate) base: usize,
    pub(crate) len: usize,
}

/// What is in the pages that exist.
pub(crate) struct Snapshot(BTreeMap<u64, Box<[u8; PAGE]>>);

impl Memory<'_> {
    fn contains(&self, address: u64) -> bool {
        (address as usize).wrapping_sub(self.base) < self.len
    }

    /// Copies all that is there.
    pub(crate) fn look(&self) -> io::Result<Snapshot> {
        let mut pages = BTreeMap::new();
        let mut at = 0;
        // Fails with ENXIO behind the last page.
        while let Ok(start) = seek(self.file, SeekFrom::Data(at)) {
            let end = seek(self.file, SeekFrom::Hole(start))?;
            for offset in (start..end).step_by(PAGE) {
                let mut page = Box::new([0; PAGE]);
                let read = rustix::io::pread(self.file, &mut page[..], offset)?;
                debug_assert_eq!(read, PAGE);
                pages.insert(offset, page);
            }
            at = end;
        }
        Ok(Snapshot(pages))
    }
}

impl Snapshot {
    /// What distinguishes `now` from this: 0 if nothing does.
    pub(crate) fn digest(&self, now: &Self) -> u64 {
        let fresh = Box::new([0; PAGE]);
        let offsets = self
            .0
            .keys()
            .chain(now.0.keys().filter(|at| !self.0.contains_key(at)));
        let mut digest = 0_u64;
        for offset in offsets {
            let (old, new) = (self.0.get(offset), now.0.get(offset));
            let (old, new) = (old.unwrap_or(&fresh), new.unwrap_or(&fresh));
            if old != new {
                digest = digest.wrapping_add(page_digest(*offset, &old[..], &new[..]));
            }
        }
        digest
    }
}

fn page_digest(offset: u64, old: &[u8], new: &[u8]) -> u64 {
    let words = old.chunks_exact(8).zip(new.chunks_exact(8)).enumerate();
    let changed = words.filter(|(_, (old, new))| old != new);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    changed.fold(0, |sum: u64, (index, (_, new))| {
        let place = mix(offset + index as u64 * 8);
        sum.wrapping_add(mix(place ^ word(new)))
    })
}

/// The finaliser of splitmix64: a bijection that spreads every bit.
fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A state of the shared memory on a victim's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Writes and system calls so far.
    pub(crate) event: u64,
    /// Instructions so far.
    pub(crate) step: u64,
    /// The instruction that comes next.
    pub(crate) address: u64,
    pub(crate) digest: u64,
}

/// A victim's whole way.
#[derive(Debug, Default)]
pub(crate) struct Way {
    pub(crate) instructions: u64,
    pub(crate) states: Vec<State>,
}

impl Way {
    /// For the way from one process to another.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let states = self.states.iter();
        let words = states.flat_map(|state| [state.event, state.step, state.address, state.digest]);
        std::iter::once(self.instructions)
            .chain(words)
            .flat_map(u64::to_ne_bytes)
            .collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
        let words: Vec<u64> = bytes.chunks_exact(8).map(word).collect();
        let (instructions, states) = words.split_first().unwrap_or((&0, &[]));
        let state = |words: &[u64]| State {
            event: words[0],
            step: words[1],
            address: words[2],
            digest: words[3],
        };
        Self {
            instructions: *instructions,
            states: states.chunks_exact(4).map(state).collect(),
        }
    }
}

/// Where a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Behind an instruction that is nothing to the others.
    Dull,
    /// Behind one that wrote.
    Written,
    /// Behind a system call.
    Called,
    Finished,
}

/// A victim, stopped.
pub(crate) struct Traced<'a> {
    pid: Pid,
    memory: Memory<'a>,
    opening: Snapshot,
    events: u64,
    /// Whether the instruction at an address is a system call.
    calls: HashMap<u64, bool>,
    /// Where the tracer may run once the victim is dead. Until then both share one CPU: a stop is a switch there, not a wake-up of another CPU.
    affinity: CpuSet,
    alive: bool,
}

/// Called by the victim where its operation begins; it ends with the victim's closure.
pub(crate) fn begin() {
    os::stop_here();
}

impl<'a> Traced<'a> {
    /// Forks a victim that runs `child`, up to where that [`begin`]s.
    pub(crate) fn start(memory: Memory<'a>, child: &mut dyn FnMut()) -> io::Result<Self> {
        let affinity = sched_getaffinity(None)?;
        let mut home = CpuSet::new();
        home.set(sched_getcpu());
        sched_setaffinity(None, &home)?;
        let pid = os::fork(&mut || {
            os::trace_me().expect("be traced");
            os::stop_here();
            child();
            os::close_window();
        })?;
        let mut this = Self {
            pid,
            memory,
            opening: Snapshot(BTreeMap::new()),
            events: 0,
            calls: HashMap::new(),
            affinity,
            alive: true,
        };
        this.until_trap()?;
        os::die_with_tracer(pid)?;
        os::resume(pid, 0)?;
        this.until_trap()?;
        this.opening = memory.look()?;
        this.protect(true)?;
        Ok(this)
    }

    fn until_trap(&mut self) -> io::Result<()> {
        loop {
            match os::wait(self.pid, true)? {
                Waited::Stopped(libc::SIGTRAP) => return Ok(()),
                Waited::Stopped(signal) => os::resume(self.pid, signal)?,
                Waited::Interrupted | Waited::Running => {}
                end => return Err(self.ended(end)),
            }
        }
    }

    fn ended(&mut self, how: Waited) -> io::Error {
        self.alive = false;
        io::Error::other(format!("the victim died by itself: {how:?}"))
    }

    fn protect(&mut self, on: bool) -> io::Result<()> {
        let prot = if on {
            libc::PROT_READ
        } else {
            libc::PROT_READ | libc::PROT_WRITE
        };
        let range = [self.memory.base as u64, self.memory.len as u64, prot as u64];
        os::call(self.pid, libc::SYS_mprotect, range)
    }

    /// What distinguishes the memory from what it was when the operation began.
    pub(crate) fn digest(&self) -> io::Result<u64> {
        Ok(self.opening.digest(&self.memory.look()?))
    }

    /// Steps through the whole operation.
    pub(crate) fn record(&mut self, most: u64) -> io::Result<Way> {
        let mut way = Way::default();
        let mut digest = 0;
        self.note(&mut way, digest)?;
        loop {
            let stop = self.step(digest)?;
            way.instructions += u64::from(stop != Stop::Finished);
            if stop == Stop::Finished {
                // What comes behind the last event is the end of the operation.
                self.expect_digest(digest)?;
                return Ok(way);
            }
            if stop != Stop::Dull {
                let before = std::mem::replace(&mut digest, self.digest()?);
                if stop == Stop::Called || digest != before {
                    self.note(&mut way, digest)?;
                }
            }
            if way.instructions > most {
                return Err(io::Error::other("the operation does not end"));
            }
        }
    }

    fn note(&self, way: &mut Way, digest: u64) -> io::Result<()> {
        way.states.push(State {
            event: self.events,
            step: way.instructions,
            address: os::instruction(self.pid)?,
            digest,
        });
        Ok(())
    }

    fn expect_digest(&self, digest: u64) -> io::Result<()> {
        if self.digest()? == digest {
            return Ok(());
        }
        let at = os::instruction(self.pid)?;
        Err(io::Error::other(format!(
            "the memory changed unseen before {at:#x}"
        )))
    }

    /// Does one instruction, before which the memory must be what `digest` says.
    fn step(&mut self, digest: u64) -> io::Result<Stop> {
        let at = os::instruction(self.pid)?;
        let calls = match self.calls.get(&at) {
            Some(known) => *known,
            None => *self
                .calls
                .entry(at)
                .or_insert(os::at_syscall(self.pid, at)?),
        };
        if calls {
            self.expect_digest(digest)?;
        }
        os::step(self.pid, 0)?;
        match self.wait()? {
            Waited::Stopped(libc::SIGTRAP) if calls => Ok(self.event(Stop::Called)),
            Waited::Stopped(libc::SIGTRAP) => Ok(Stop::Dull),
            Waited::Stopped(libc::SIGSEGV) => {
                self.expect_digest(digest)?;
                self.let_write()
            }
            other => self.otherwise(other),
        }
    }

    /// Brings a victim behind its `event`-th event. `false`: it finished before.
    pub(crate) fn go_to(&mut self, event: u64) -> io::Result<bool> {
        while self.events < event {
            if self.advance()? == Stop::Finished {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings a victim behind the first event after which `there` holds. `false`: it finished before.
    pub(crate) fn go_until(&mut self, mut there: impl FnMut() -> bool) -> io::Result<bool> {
        while !there() {
            if self.advance()? == Stop::Finished {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lets the victim run to its end unwatched; gives the digest there.
    pub(crate) fn rush(&mut self) -> io::Result<u64> {
        self.protect(false)?;
        os::resume(self.pid, 0)?;
        let waited = self.wait()?;
        self.otherwise(waited)?;
        self.digest()
    }

    /// Writes and system calls so far.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Runs to behind the next event.
    fn advance(&mut self) -> io::Result<Stop> {
        os::resume_to_call(self.pid, 0)?;
        match self.wait()? {
            Waited::Stopped(os::AT_CALL) => {
                os::resume_to_call(self.pid, 0)?;
                match self.wait()? {
                    Waited::Stopped(os::AT_CALL) => Ok(self.event(Stop::Called)),
                    other => self.otherwise(other),
                }
            }
            Waited::Stopped(libc::SIGSEGV) => self.let_write(),
            other => self.otherwise(other),
        }
    }

    fn wait(&mut self) -> io::Result<Waited> {
        loop {
            match os::wait(self.pid, true)? {
                Waited::Interrupted | Waited::Running => {}
                other => return Ok(other),
            }
        }
    }

    fn event(&mut self, stop: Stop) -> Stop {
        self.events += 1;
        stop
    }

    /// Lets the instruction through that just faulted.
    fn let_write(&mut self) -> io::Result<Stop> {
        let address = os::fault_address(self.pid)?;
        if !self.memory.contains(address) {
            return Err(io::Error::other(format!("a fault at {address:#x}")));
        }
        self.protect(false)?;
        os::step(self.pid, 0)?;
        match self.wait()? {
            Waited::Stopped(libc::SIGTRAP) => {}
            other => return self.otherwise(other),
        }
        self.protect(true)?;
        Ok(self.event(Stop::Written))
    }

    #[cold]
    fn otherwise(&mut self, waited: Waited) -> io::Result<Stop> {
        match waited {
            Waited::Stopped(libc::SIGILL) if os::at_closing(self.pid)? => Ok(Stop::Finished),
            Waited::Stopped(signal) => {
                let at = os::instruction(self.pid)?;
                Err(io::Error::other(format!(
                    "stopped by signal {signal} at {at:#x}"
                )))
            }
            end => Err(self.ended(end)),
        }
    }

    /// Kills the victim and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        sched_setaffinity(None, &self.affinity).expect("run anywhere again");
        if !std::mem::take(&mut self.alive) {
            return;
        }
        os::kill(self.pid, os::Signal::KILL);
        while !matches!(
            os::wait(self.pid, true),
            Ok(Waited::Exited(_) | Waited::Signaled(_)) | Err(_)
        ) {}
    }
}

impl Drop for Traced<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
