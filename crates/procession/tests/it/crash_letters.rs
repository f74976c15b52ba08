//! A storm of kills and stops against all that an embedder uses together: a pool of workers that it starts itself, letters with a block and an object inside, and
//! descriptors that are taken at their word.
//!
//! ```text
//! pool of recruits --letter of each task--> relays (processes that poll, 2) --the same letter--> this process, which polls
//! ```
//!
//! - Each task is answered once: by its number, or because its worker died.
//! - The letter of a task that was answered by its number arrives once, unless a relay was killed that had it in hand: one letter for each such death. That of another task
//!   arrives once or not at all. All are whole, whoever made them is long dead.
//! - Nobody waits for ever, though nobody looks by the clock.

use crate::crash_pool::{Pace, leaves_nothing, under_fire};
use procession::embed::exact_readiness;
use procession::{
    Buffer, ExitStatus, GetError, Letter, Packed, Pool, Process, Queue, Readiness, Recruit,
    StartMethod, TaskError, WorkerReport, work,
};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::HashMap;
use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

type Post = Queue<Letter, Packed>;

const RELAYS: usize = 2;
const WORKERS: usize = 3;
/// Of the block in a letter: not inline.
const LEN: usize = 9_000;

fn write(number: u64) -> Letter {
    let mut block = Buffer::new(LEN).expect("buffer");
    block.fill(number as u8);
    let object = Queue::<u64>::unbounded().expect("queue");
    object.put(number).expect("put");
    let mut letter = Letter::new();
    letter.bytes_mut().extend_from_slice(&number.to_ne_bytes());
    letter.push_moving(block).expect("push");
    letter.push(&object).expect("push");
    letter
}

/// The number of a whole letter.
fn read(letter: &Letter) -> u64 {
    let head = letter.bytes().expect("bytes").first_chunk();
    let number = u64::from_ne_bytes(*head.expect("a number"));
    let (block, end) = letter.read::<Buffer>(8).expect("the block");
    let (object, _) = letter.read::<Queue<u64>>(end).expect("the object");
    assert_eq!(block[..], [number as u8; LEN]);
    assert_eq!(object.try_get(), Ok(number));
    number
}

/// The task of a worker.
fn send((number, post): (u64, Post)) -> u64 {
    post.put(write(number)).expect("put");
    number
}

fn live(boot: Vec<u8>) {
    let code = work(&boot, || Ok::<_, WorkerReport>(()), || true);
    std::process::exit(code.unwrap_or(1));
}

/// Starts workers as plain processes, and reaps them.
#[derive(Default)]
struct Embedder(Mutex<HashMap<u32, Process<()>>>);

impl Recruit for Embedder {
    fn hire(&self, boot: &[u8], name: &str) -> Result<u32, Box<dyn Error + Send + Sync>> {
        let process = Process::builder(live as fn(Vec<u8>), boot.to_vec())
            .name(name)
            .start_method(StartMethod::Spawn)
            .start()?;
        let pid = process.pid();
        self.0.lock().expect("lock").insert(pid, process);
        Ok(pid)
    }

    fn part(&self, pid: u32, status: ExitStatus) -> ExitStatus {
        let process = self.0.lock().expect("lock").remove(&pid);
        let known = process.and_then(|process| process.exit_status());
        known.unwrap_or(status)
    }
}

/// Takes letters until the queue is closed, as a program does that trusts its descriptor. Gives the number of rings for nothing.
fn take_all(post: &Post, mut deal: impl FnMut(Letter)) -> usize {
    let readiness: Readiness = post.readiness().expect("readiness");
    let mut for_nothing = 0;
    loop {
        match post.try_get() {
            Ok(letter) => deal(letter),
            Err(GetError::Empty) if readiness.arm().expect("arm") => {}
            Err(GetError::Empty) => {
                poll(&mut [PollFd::new(&readiness, PollFlags::IN)], None).expect("poll");
                for_nothing += usize::from(post.is_empty() && !post.is_closed());
            }
            Err(GetError::Closed) => return for_nothing,
            Err(error) => panic!("{error}"),
        }
    }
}

fn relay((from, to): (Post, Post)) {
    exact_readiness();
    take_all(&from, |letter| to.put(letter).expect("put"));
}

/// Keeps one relay there, until the queue is closed. Gives the number of those that were killed.
fn keep_a_relay(from: &Post, to: &Post) -> usize {
    for killed in 0.. {
        let relay = Process::builder(relay, (from.clone(), to.clone()))
            .name("storm-relay")
            .start_method(StartMethod::Spawn)
            .start()
            .expect("relay");
        if relay.join().is_ok() {
            return killed;
        }
    }
    unreachable!("it comes to an end")
}

/// Gives all tasks to a pool; how often each number was answered, and how many tasks died.
fn order(post: &Post, tasks: u64, pace: &Pace) -> (HashMap<u64, u32>, usize) {
    let pool = Pool::builder()
        .workers(WORKERS)
        .name("storm")
        .recruit(Embedder::default())
        .build()
        .expect("pool");
    let (mut answered, mut died) = (HashMap::new(), 0);
    let input = (0..tasks).map(|number| (number, post.clone()));
    for (number, answer) in pool.imap(send, input).enumerate() {
        match answer {
            Ok(found) => {
                assert_eq!(found, number as u64);
                *answered.entry(found).or_default() += 1;
            }
            Err(TaskError::WorkerDied(_)) => died += 1,
            Err(error) => panic!("{number}: {error}"),
        }
        pace.keep(number + 1);
    }
    (answered, died)
}

fn storm(tasks: u64, kills: usize, stops: usize) {
    let (from, to) = (
        Post::unbounded().expect("queue"),
        Post::unbounded().expect("queue"),
    );
    let relays_killed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut arrived = HashMap::<u64, u32>::new();
            let for_nothing = take_all(&to, |letter| {
                *arrived.entry(read(&letter)).or_default() += 1;
            });
            (arrived, for_nothing)
        });
        let relays: Vec<_> = (0..RELAYS)
            .map(|_| scope.spawn(|| keep_a_relay(&from, &to)))
            .collect();
        let (answered, died) = under_fire(36, (kills, stops), tasks as usize, |pace| {
            order(&from, tasks, pace)
        });
        from.close();
        for relay in relays {
            let killed = relay.join().expect("relay");
            relays_killed.fetch_add(killed, Ordering::SeqCst);
        }
        to.close();
        let (arrived, for_nothing) = collector.join().expect("collector");
        let relays_killed = relays_killed.into_inner();
        let lost = (answered.keys())
            .filter(|number| !arrived.contains_key(number))
            .count();
        println!(
            "storm: {} letters arrived, {died} tasks died, {relays_killed} relays, {lost} letters with them; {for_nothing} rings for nothing",
            arrived.len()
        );
        assert!(arrived.values().all(|times| *times == 1), "twice");
        assert!(answered.values().all(|times| *times == 1), "twice");
        assert_eq!(answered.len() + died, tasks as usize);
        assert!(lost <= relays_killed, "{lost} are lost");
        assert!(died + relays_killed <= kills);
        // Of a ringer that was killed, stopped or not let run in the middle of its ring: rare.
        assert!(for_nothing <= kills + stops + arrived.len() / 100);
    });
}

#[test]
fn crash_storm_letters() {
    // For this whole process: the other tests that run beside this one do not poll.
    exact_readiness();
    leaves_nothing(|for_real| {
        if for_real {
            storm(10_000, 300, 60);
        } else {
            storm(60, 2, 0);
        }
    });
}
