//! Rounds: the same play again and again, each in a process of its own, several at a time.
//!
//! A round that hangs is killed and counts as wedged; one that panics or dies counts as a fault, too. Because every round begins in a fork of the same
//! process, all of them are alike to the last byte of memory, but for pids, times and what the system draws at random.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::os::{self, Waited};
use super::report::Fault;
use super::shared::Shared;

/// Faults that are told one by one, for all processes together.
const TOLD: u64 = 8;

/// What is said in a round: bytes for whoever had it played.
type Said = Result<Vec<u8>, Fault>;

/// Plays one round in a process of its own; a round of more than `limit` is wedged.
pub(crate) fn round(limit: Duration, act: &dyn Fn() -> Said) -> Said {
    let (mut answers, answer) = pipe_with(PipeFlags::CLOEXEC)
        .map(|(reader, writer)| (File::from(reader), File::from(writer)))
        .expect("pipe");
    let mut answer = Some(answer);
    let pid = os::fork(&mut || play(answer.take().expect("runs once"), act)).expect("fork a round");
    drop(answer);
    let deadline = Instant::now() + limit;
    let mut heard = Vec::new();
    while listen(&mut answers, &mut heard, deadline) {}
    if Instant::now() >= deadline {
        os::kill(pid, os::Signal::KILL);
    }
    let end = loop {
        match os::wait(pid, true) {
            Ok(end @ (Waited::Exited(_) | Waited::Signaled(_))) => break end,
            Ok(_) => {}
            Err(error) => panic!("wait for a round: {error}"),
        }
    };
    match (end, heard.split_first()) {
        (Waited::Exited(0), Some((0, said))) => Ok(said.to_vec()),
        (Waited::Exited(0), Some((class, text))) => {
            let text = String::from_utf8_lossy(text).into_owned();
            Err(match class {
                1 => Fault::Wedged(text),
                2 => Fault::Lost(text),
                _ => Fault::Leaked(text),
            })
        }
        _ if Instant::now() >= deadline => Err(Fault::Wedged("the survivor hangs".into())),
        _ => Err(format!("the survivor died: {end:?}").into()),
    }
}

/// In the round's process: tells a class, then what was said or what is wrong.
fn play(mut answer: File, act: &dyn Fn() -> Said) {
    set_hook(Box::new(|panic| eprintln!("crash: the survivor {panic}")));
    let said =
        catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| Err("the survivor panicked".into()));
    let (class, bytes) = match said {
        Ok(said) => (0, said),
        Err(Fault::Wedged(text)) => (1, text.into_bytes()),
        Err(Fault::Lost(text)) => (2, text.into_bytes()),
        Err(Fault::Leaked(text)) => (3, text.into_bytes()),
    };
    // If the caller is gone, nobody is there to be told.
    let _ = answer.write_all(&[&[class], &bytes[..]].concat());
}

/// Reads what is there, or waits for it. `false`: that was all, or it is late.
fn listen(answers: &mut File, heard: &mut Vec<u8>, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(answers, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => false,
        Ok(_) => {
            let mut bytes = [0; 65536];
            match answers.read(&mut bytes) {
                Ok(0) | Err(_) => false,
                Ok(len) => {
                    heard.extend_from_slice(&bytes[..len]);
                    true
                }
            }
        }
        Err(_) => true,
    }
}

/// What many rounds found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Toll {
    pub(crate) rounds: u64,
    pub(crate) wedged: u64,
    pub(crate) lost: u64,
    pub(crate) leaked: u64,
}

impl Toll {
    pub(crate) fn faults(&self) -> u64 {
        self.wedged + self.lost + self.leaked
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rounds,
            wedged,
            lost,
            leaked,
        } = self;
        write!(
            f,
            "{rounds} kills: {wedged} wedged, {lost} lost, {leaked} leaked"
        )
    }
}

/// Plays `rounds` rounds, `lanes` at a time; tells of the first that fail.
pub(crate) fn rounds(
    lanes: u64,
    rounds: u64,
    limit: Duration,
    act: &dyn Fn(u64) -> Result<(), Fault>,
) -> Toll {
    let tally = Shared::<[AtomicU64; 4]>::new();
    let pids: Vec<_> = (0..lanes)
        .map(|lane| {
            os::fork(&mut || {
                for number in (lane..rounds).step_by(lanes as usize) {
                    play_and_count(number, limit, act, &tally);
                }
            })
            .expect("fork a lane")
        })
        .collect();
    for pid in pids {
        while !matches!(
            os::wait(pid, true),
            Ok(Waited::Exited(_) | Waited::Signaled(_)) | Err(_)
        ) {}
    }
    let [played, wedged, lost, leaked] = std::array::from_fn(|at| tally[at].load(Ordering::SeqCst));
    Toll {
        rounds: played,
        wedged,
        lost,
        leaked,
    }
}

fn play_and_count(
    number: u64,
    limit: Duration,
    act: &dyn Fn(u64) -> Result<(), Fault>,
    tally: &[AtomicU64; 4],
) {
    let faults = || {
        tally[1..]
            .iter()
            .map(|count| count.load(Ordering::SeqCst))
            .sum::<u64>()
    };
    if faults() >= TOLD {
        return;
    }
    let verdict = round(limit, &|| act(number).map(|()| Vec::new()));
    tally[0].fetch_add(1, Ordering::SeqCst);
    if let Err(fault) = verdict {
        let at = match fault {
            Fault::Wedged(_) => 1,
            Fault::Lost(_) => 2,
            Fault::Leaked(_) => 3,
        };
        tally[at].fetch_add(1, Ordering::SeqCst);
        println!("crash: round {number}: {fault:?}");
    }
}
