//! Our own side of every case.
//!
//! Rules that keep a case fair: everything is set up before the clock starts, the other processes are started with
//! procession's own `Process` (spawn unless the case says otherwise), the clock stops only when the *receiver*
//! has said that it has everything, nothing may be lost or reordered, and all processes end before
//! a function returns. `operations` is chosen by the harness to fill about 150 ms (40 ms with `--quick`); it begins with 4.

pub(crate) mod pool;

use crate::harness::{Attempt, Result};
use crate::{buffers, process, scale};
use procession::{Buffer, Connection, Lock, Pipe, Plain, Process, Queue, Raw, StartMethod};
use std::hint::black_box;
use std::time::{Duration, Instant};

type Lane = Connection<u64, u64, Plain>;
type Numbers = Queue<u64, Plain>;

/// Messages before the clock starts.
const WARM_UP: u64 = 2_000;
/// Round trips before the clock starts.
const WARM_UP_TRIPS: u64 = 50;
/// Room of the bounded queue of the 1:1 case: as many as the ring of a pipe holds.
const ROOM: usize = 4096;

/// A child of the benchmarks becomes one here and never returns.
pub(crate) fn init() {
    procession::init();
}

// ---- pipe -------------------------------------------------------------------------------------------------

/// One-way `Pipe` of u64 to a child that checks the order and confirms the last.
pub(crate) fn pipe_one_way(operations: u64) -> Attempt<Duration> {
    Some(stream(operations))
}

fn stream(operations: u64) -> Result<Duration> {
    let (receiver, sender) = Pipe::one_way_with::<u64, Plain>()?;
    let (mine, word) = Pipe::one_way_with::<u64, Plain>()?;
    let child = Process::start(read_pipe, (receiver, word, operations))?;
    for value in 0..WARM_UP {
        sender.send(value)?;
    }
    expect(&mine, WARM_UP)?;
    let started = Instant::now();
    for value in 0..operations {
        sender.send(value)?;
    }
    expect(&mine, operations)?;
    let elapsed = started.elapsed();
    child.join()?;
    Ok(elapsed)
}

fn read_pipe((receiver, word, operations): (Lane, Lane, u64)) {
    for count in [WARM_UP, operations] {
        for value in 0..count {
            assert_eq!(receiver.recv().expect("recv"), value);
        }
        word.send(count).expect("confirm");
    }
}

fn expect(lane: &Lane, value: u64) -> Result<()> {
    match lane.recv()? {
        got if got == value => Ok(()),
        got => Err(format!("{value} expected, {got} received").into()),
    }
}

// ---- queue ------------------------------------------------------------------------------------------------

/// The same through a bounded `Queue`: this process puts, one child gets.
pub(crate) fn queue_one_to_one(operations: u64) -> Attempt<Duration> {
    Some(queue_stream(operations))
}

fn queue_stream(operations: u64) -> Result<Duration> {
    let queue = Numbers::new(ROOM)?;
    let (mine, word) = Pipe::one_way_with::<u64, Plain>()?;
    let child = Process::start(read_queue, (queue.clone(), word, operations))?;
    for value in 0..WARM_UP {
        queue.put(value)?;
    }
    expect(&mine, WARM_UP)?;
    let started = Instant::now();
    for value in 0..operations {
        queue.put(value)?;
    }
    expect(&mine, operations)?;
    let elapsed = started.elapsed();
    child.join()?;
    Ok(elapsed)
}

fn read_queue((queue, word, operations): (Numbers, Lane, u64)) {
    for count in [WARM_UP, operations] {
        for value in 0..count {
            assert_eq!(queue.get().expect("get"), value);
        }
        word.send(count).expect("confirm");
    }
}

/// One `Queue` that 4 children put into and 4 others get from, one message a call.
pub(crate) fn queue_four_to_four(operations: u64) -> Attempt<Duration> {
    Some(four_to_four(operations))
}

fn four_to_four(operations: u64) -> Result<Duration> {
    let queue = Numbers::new(ROOM)?;
    let share = operations.div_ceil(4);
    let (ready, begin) = (Numbers::unbounded()?, procession::Event::new()?);
    let mut members = Vec::new();
    for role in 0..8_u64 {
        let arguments = (queue.clone(), ready.clone(), begin.clone(), role, share);
        members.push(Process::start(play_four, arguments)?);
    }
    for _ in 0..8 {
        ready.get()?;
    }
    let started = Instant::now();
    begin.set();
    for _ in 0..4 {
        // Each getter says when it has its share.
        ready.get()?;
    }
    let elapsed = started.elapsed();
    let mut sum = 0_u64;
    for member in members {
        sum = sum.wrapping_add(member.join()?);
    }
    let expected = (0..4 * share).fold(0_u64, u64::wrapping_add);
    if sum != expected {
        return Err(format!("sum {sum} instead of {expected}").into());
    }
    Ok(elapsed.mul_f64(operations as f64 / (4 * share) as f64))
}

/// Roles 0 to 3 put, 4 to 7 get; a getter returns the sum of what it got.
fn play_four(
    (queue, ready, begin, role, share): (Numbers, Numbers, procession::Event, u64, u64),
) -> u64 {
    ready.put(role).expect("ready");
    begin.wait();
    if role < 4 {
        (role * share..(role + 1) * share).for_each(|value| queue.put(value).expect("put"));
        return 0;
    }
    let sum = (0..share).fold(0_u64, |sum, _| sum.wrapping_add(queue.get().expect("get")));
    ready.put(role).expect("done");
    sum
}

// ---- pingpong ---------------------------------------------------------------------------------------------

/// Round trips over a duplex `Pipe`, back to back; a child echoes.
pub(crate) fn pingpong_awake(operations: u64) -> Attempt<Duration> {
    Some(round_trips(operations, None))
}

/// The same, with a pause before each trip that is not counted.
pub(crate) fn pingpong_asleep(operations: u64, pause: Duration) -> Attempt<Duration> {
    Some(round_trips(operations, Some(pause)))
}

fn round_trips(operations: u64, pause: Option<Duration>) -> Result<Duration> {
    let (mine, theirs) = Pipe::with_codec::<u64, u64, Plain>()?;
    let child = Process::start(echo, theirs)?;
    let trip = |value: u64| -> Result<()> {
        mine.send(value)?;
        expect(&mine, value)
    };
    for value in 0..WARM_UP_TRIPS {
        trip(value)?;
    }
    let started = Instant::now();
    let mut elapsed = Duration::ZERO;
    for value in 0..operations {
        match pause {
            None => trip(value)?,
            Some(pause) => {
                std::thread::sleep(pause);
                let started = Instant::now();
                trip(value)?;
                elapsed += started.elapsed();
            }
        }
    }
    let elapsed = if pause.is_none() {
        started.elapsed()
    } else {
        elapsed
    };
    drop(mine);
    child.join()?;
    Ok(elapsed)
}

fn echo(lane: Lane) {
    while let Ok(value) = lane.recv() {
        lane.send(value).expect("echo");
    }
}

// ---- buffers ----------------------------------------------------------------------------------------------

/// A private `Vec` of `len` bytes copied into a `Buffer` and sent; the child reads it in place.
pub(crate) fn buffers_copied(operations: u64, len: usize) -> Attempt<Duration> {
    Some(send_buffers(operations, len, true))
}

/// A `Buffer` loaned and sent without filling it.
pub(crate) fn buffers_loaned(operations: u64, len: usize) -> Attempt<Duration> {
    Some(send_buffers(operations, len, false))
}

/// Buffers before the clock starts, so that whatever is recycled is warm.
const WARM_UP_BUFFERS: u64 = 3;

fn send_buffers(operations: u64, len: usize, copied: bool) -> Result<Duration> {
    let queue = Queue::<Buffer, Raw>::new(2)?;
    let (mine, word) = Pipe::one_way_with::<u64, Plain>()?;
    let total = WARM_UP_BUFFERS + operations;
    let child = Process::start(
        take_buffers,
        (queue.clone(), word, total, len as u64, copied),
    )?;
    let mut source = if copied { vec![0_u8; len] } else { Vec::new() };
    let mut started = Instant::now();
    for number in 0..total {
        if number == WARM_UP_BUFFERS {
            expect(&mine, 0)?;
            started = Instant::now();
        }
        let buffer = if copied {
            buffers::mark(&mut source, number);
            Buffer::from_slice(&source)?
        } else {
            Buffer::new(len)?
        };
        queue.put(buffer)?;
    }
    expect(&mine, 1)?;
    let elapsed = started.elapsed();
    child.join()?;
    Ok(elapsed)
}

fn take_buffers((queue, word, total, len, copied): (Queue<Buffer, Raw>, Lane, u64, u64, bool)) {
    for number in 0..total {
        let buffer = queue.get().expect("get");
        assert_eq!(buffer.len() as u64, len);
        if copied {
            buffers::check(&buffer, len as usize, number).expect("marks");
        }
        drop(buffer);
        if number + 1 == WARM_UP_BUFFERS {
            word.send(0).expect("warm");
        }
    }
    word.send(1).expect("done");
}

// ---- lock -------------------------------------------------------------------------------------------------

/// Lock and unlock, nothing in between, with nobody else there.
pub(crate) fn lock_uncontended(operations: u64) -> Attempt<Duration> {
    Some(lock_alone(operations))
}

fn lock_alone(operations: u64) -> Result<Duration> {
    let lock = Lock::new()?;
    let started = Instant::now();
    for _ in 0..operations {
        drop(black_box(&lock).acquire());
    }
    Ok(started.elapsed())
}

/// This process and one child both lock, add one and unlock until the number says so.
pub(crate) fn lock_contended(operations: u64) -> Attempt<Duration> {
    Some(lock_together(operations))
}

/// Additions before the clock starts.
const WARM_UP_ADDITIONS: u64 = 20_000;

fn lock_together(operations: u64) -> Result<Duration> {
    let (lock, number) = (Lock::new()?, procession::RawValue::<u64>::new(0)?);
    let begin = procession::Event::new()?;
    let (mine, word) = Pipe::one_way_with::<u64, Plain>()?;
    let total = WARM_UP_ADDITIONS + operations;
    let arguments = (lock.clone(), number.clone(), begin.clone(), word, total);
    let child = Process::start(add_as_child, arguments)?;
    expect(&mine, 0)?;
    begin.set();
    let clocked_from = add_until(&lock, &number, WARM_UP_ADDITIONS);
    let started = Instant::now();
    add_until(&lock, &number, total);
    expect(&mine, 1)?;
    let elapsed = started.elapsed();
    child.join()?;
    let clocked = total.saturating_sub(clocked_from).max(1);
    Ok(elapsed.mul_f64(operations as f64 / clocked as f64))
}

type Adding = (
    Lock,
    procession::RawValue<u64>,
    procession::Event,
    Lane,
    u64,
);

fn add_as_child((lock, number, begin, word, total): Adding) {
    word.send(0).expect("ready");
    begin.wait();
    add_until(&lock, &number, total);
    word.send(1).expect("done");
}

fn add_until(lock: &Lock, number: &procession::RawValue<u64>, operations: u64) -> u64 {
    loop {
        let _guard = lock.acquire();
        let count = number.get();
        if count >= operations {
            return count;
        }
        number.set(count + 1);
    }
}

// ---- process ----------------------------------------------------------------------------------------------

/// Start `process::double(n)`, join it, check the result, by `spawn`.
pub(crate) fn process_spawn(operations: u64) -> Attempt<Duration> {
    Some(start_and_join(operations, StartMethod::Spawn))
}

/// The same by `fork`.
pub(crate) fn process_fork(operations: u64) -> Attempt<Duration> {
    Some(start_and_join(operations, StartMethod::Fork))
}

/// The same by `forkserver`, whose template is started before the clock.
pub(crate) fn process_forkserver(operations: u64) -> Attempt<Duration> {
    Some(
        start_and_join(1, StartMethod::Forkserver)
            .and_then(|_| start_and_join(operations, StartMethod::Forkserver)),
    )
}

fn start_and_join(operations: u64, method: StartMethod) -> Result<Duration> {
    let started = Instant::now();
    for number in 0..operations {
        let mut builder = Process::builder(process::double, number).start_method(method);
        if method == StartMethod::Fork {
            // SAFETY: the harness's other thread sleeps on its watch and holds no lock that the child takes.
            builder = unsafe { builder.allow_threads() };
        }
        let child = builder.start()?;
        if child.join()? != process::double(number) {
            return Err("the function returned something else".into());
        }
    }
    Ok(started.elapsed())
}

// ---- scale ------------------------------------------------------------------------------------------------

/// How many locks, up to `limit`, can be alive at once.
pub(crate) fn locks_alive(limit: u64) -> Attempt<u64> {
    Some(Ok(scale::fit(limit, || Ok(Lock::new()?))))
}

/// The same for queues, each with a message in it.
pub(crate) fn queues_alive(limit: u64) -> Attempt<u64> {
    Some(Ok(scale::fit(limit, || {
        let queue = Numbers::unbounded()?;
        queue.put(1)?;
        Ok(queue)
    })))
}

/// Heap bytes of one lock.
pub(crate) fn lock_bytes() -> Attempt<f64> {
    Some(bytes_of(|| Ok(Lock::new()?)))
}

/// Heap bytes of one empty queue.
pub(crate) fn queue_bytes() -> Attempt<f64> {
    Some(bytes_of(|| Ok(Numbers::unbounded()?)))
}

fn bytes_of<T>(make: impl Fn() -> Result<T>) -> Result<f64> {
    const COUNT: u64 = 1000;
    let _warm = make()?;
    let before = procession::heap_stats().live_bytes;
    let kept = (0..COUNT).map(|_| make()).collect::<Result<Vec<T>>>()?;
    let after = procession::heap_stats().live_bytes;
    drop(kept);
    Ok((after - before) as f64 / COUNT as f64)
}

/// Make a lock and drop it.
pub(crate) fn lock_create_drop(operations: u64) -> Attempt<Duration> {
    Some(repeat(operations, || Ok(Lock::new()?)))
}

/// Make an unbounded queue and drop it.
pub(crate) fn queue_create_drop(operations: u64) -> Attempt<Duration> {
    Some(repeat(operations, || Ok(Numbers::unbounded()?)))
}

/// Make both ends of a pipe and drop them.
pub(crate) fn pipe_create_drop(operations: u64) -> Attempt<Duration> {
    Some(repeat(operations, || {
        Ok(Pipe::one_way_with::<u64, Plain>()?)
    }))
}

fn repeat<T>(operations: u64, make: impl Fn() -> Result<T>) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..operations {
        drop(black_box(make()?));
    }
    Ok(started.elapsed())
}
