//! Queues: every way of putting and taking, beginnings and ends of segments, close and destruction.

use super::super::{Fault, Killed, Landing, Shared};
use super::stage::{Act, Helper};
use crate::channel::Codec;
use crate::{GetError, Plain, Queue, Serde};
use std::sync::atomic::{AtomicU64, Ordering};

/// What is put: a number in some dress.
pub(super) trait Message: Sized + 'static {
    type Codec: Codec<Self> + 'static;
    fn make(number: u64) -> Self;
    /// Its number; `None` if it is damaged.
    fn number(self) -> Option<u64>;
    /// Called by the victim before it sends the message.
    fn before_sending(&self) {}
}

/// In the ring itself.
impl Message for u64 {
    type Codec = Plain;
    fn make(number: u64) -> Self {
        number
    }
    fn number(self) -> Option<u64> {
        Some(self)
    }
}

/// Over 8 KiB: in a block of its own.
pub(super) const WORDS: usize = 1100;

impl Message for [u64; WORDS] {
    type Codec = Plain;
    fn make(number: u64) -> Self {
        [number; WORDS]
    }
    fn number(self) -> Option<u64> {
        self.iter().all(|word| *word == self[0]).then_some(self[0])
    }
}

/// In an envelope: the handle of a queue in which the number is, twice over.
pub(super) type Letter = (u64, Queue<u64, Plain>);

impl Message for Letter {
    type Codec = Serde;
    fn make(number: u64) -> Self {
        let queue = Queue::unbounded().expect("queue");
        queue.put(number).expect("put");
        (number, queue)
    }
    fn number(self) -> Option<u64> {
        (self.1.try_get() == Ok(self.0) && self.1.is_empty()).then_some(self.0)
    }
    /// One handle more: otherwise dropping the message after it was sent searches all envelopes for another holder, a walk of a hundred thousand
    /// instructions that writes nothing ("envelope fill, objects handed over" is about that).
    fn before_sending(&self) {
        std::mem::forget(self.1.clone());
    }
}

pub(super) type Line<M> = Queue<M, <M as Message>::Codec>;

fn line<M: Message>(max: usize, numbers: std::ops::Range<u64>) -> Line<M> {
    let queue = Queue::new(max).expect("queue");
    numbers.for_each(|number| put(&queue, number));
    queue
}

fn put<M: Message>(queue: &Line<M>, number: u64) {
    assert!(queue.try_put(M::make(number)).is_ok(), "put {number}");
}

fn drain<M: Message>(queue: &Line<M>) -> Result<Vec<u64>, Fault> {
    let mut numbers = Vec::new();
    loop {
        match queue.try_get() {
            Ok(message) => numbers.push(message.number().ok_or("a damaged message")?),
            Err(GetError::Empty | GetError::Closed) => return Ok(numbers),
            Err(error) => return Err(format!("get: {error:?}, behind {numbers:?}").into()),
        }
    }
}

/// Everything from `first` on to `last` is there once and in order; `maybe` too, or not.
fn expect(
    found: &[u64],
    sure: &[u64],
    maybe: &[u64],
    killed: &Killed,
    done: &[u64],
) -> Result<(), Fault> {
    let finished = killed.landing == Landing::Finished;
    let fine = if finished {
        found == done
    } else {
        found == sure || found == maybe
    };
    if fine {
        Ok(())
    } else {
        Err(format!("in the queue: {found:?}, should be {sure:?} or {maybe:?}").into())
    }
}

fn works<M: Message>(queue: &Line<M>) -> Result<(), Fault> {
    for round in 900..903 {
        put(queue, round);
        put(queue, round + 10);
        let found = drain(queue)?;
        if found != [round, round + 10] {
            return Err(format!("the queue goes on with {found:?}").into());
        }
    }
    Ok(())
}

/// The victim puts 100 behind the survivor's messages.
pub(super) fn putting<M: Message>(name: &str, max: usize, there: u64) -> Act<Line<M>, M> {
    let part = move |_: &Line<M>| {
        // Once through, for caches and the scratch space.
        let other = line::<M>(0, 0..1);
        drop(drain(&other));
        let message = M::make(100);
        message.before_sending();
        message
    };
    Act::new(
        name,
        move || line::<M>(max, 0..there),
        part,
        |queue: &Line<M>, message| {
            let _ = queue.try_put(message);
        },
    )
    .judge(move |queue, killed| {
        let sure: Vec<u64> = (0..there).collect();
        let more: Vec<u64> = (0..there).chain([100]).collect();
        expect(&drain(&queue)?, &sure, &more, killed, &more)?;
        works(&queue)
    })
}

/// The victim takes the survivor's first message.
pub(super) fn getting<M: Message>(name: &str, there: u64) -> Act<Line<M>> {
    let part = |_: &Line<M>| {
        let other = line::<M>(0, 0..1);
        drop(drain(&other));
    };
    Act::new(
        name,
        move || line::<M>(0, 0..there),
        part,
        |queue: &Line<M>, ()| {
            drop(queue.try_get());
        },
    )
    .judge(move |queue, killed| {
        let all: Vec<u64> = (0..there).collect();
        expect(&drain(&queue)?, &all, &all[1..], killed, &all[1..])?;
        works(&queue)
    })
}

type Block = [u64; WORDS];

#[test]
fn crash_put_small() {
    putting::<u64>("queue put, small", 0, 3).play();
}

#[test]
fn crash_put_block() {
    putting::<Block>("queue put, block", 0, 2).play_thinned();
}

#[test]
fn crash_put_handles() {
    putting::<Letter>("queue put, with a handle inside", 0, 2).play_thinned();
}

#[test]
fn crash_put_first() {
    putting::<u64>("queue put, first segment", 0, 0).play();
}

/// So many fill the first segment (4 KiB, 16 bytes each).
const SEGMENT: u64 = 256;

#[test]
fn crash_put_grow() {
    putting::<u64>("queue put, growing to a new segment", 0, SEGMENT).play();
}

#[test]
fn crash_put_full() {
    putting::<u64>("queue put, full bounded queue", 4, 3).play();
}

#[test]
fn crash_get_small() {
    getting::<u64>("queue get, small", 3).play();
}

#[test]
fn crash_get_block() {
    getting::<Block>("queue get, block", 2).play_thinned();
}

#[test]
fn crash_get_handles() {
    getting::<Letter>("queue get, with a handle inside", 2).play_thinned();
}

#[test]
fn crash_reapers_of_putters() {
    putting::<u64>("queue put, first segment", 0, 0).play_with_dying_reapers(7);
    putting::<Letter>("queue put, with a handle inside", 0, 2).play_with_dying_reapers(7);
}

#[test]
fn crash_reapers_of_getters() {
    getting::<Block>("queue get, block", 2).play_with_dying_reapers(7);
    getting::<Letter>("queue get, with a handle inside", 2).play_with_dying_reapers(7);
}

#[test]
fn crash_get_leaving_a_segment() {
    let props = || {
        let queue = line::<u64>(0, 0..SEGMENT + 3);
        for number in 0..SEGMENT {
            assert_eq!(queue.try_get(), Ok(number));
        }
        queue
    };
    Act::new(
        "queue get, leaving a drained segment",
        props,
        |_| assert_eq!(line::<u64>(0, 0..1).get(), Ok(0)),
        |queue, ()| assert_eq!(queue.try_get(), Ok(SEGMENT)),
    )
    .judge(|queue, killed| {
        let all: Vec<u64> = (SEGMENT..SEGMENT + 3).collect();
        expect(&drain(&queue)?, &all, &all[1..], killed, &all[1..])?;
        works(&queue)
    })
    .play();
}

/// Full, and the victim waits for room; the survivor makes some.
#[test]
fn crash_put_waiting_for_room() {
    Act::new(
        "queue put, waiting for room",
        || (line::<u64>(2, 0..2), std::cell::Cell::new(0)),
        |_| (),
        |(queue, _), ()| queue.put(100).expect("put"),
    )
    .rouse(|(queue, taken)| {
        if taken.get() == 0 {
            taken.set(1);
            assert_eq!(queue.try_get(), Ok(0));
        }
        true
    })
    .judge(|(queue, taken), killed| {
        let rest: &[u64] = if taken.get() == 0 { &[0, 1] } else { &[1] };
        let more: Vec<u64> = rest.iter().copied().chain([100]).collect();
        expect(&drain(&queue)?, rest, &more, killed, &more)?;
        Ok(())
    })
    .play();
}

/// Empty, and the victim waits for an item.
#[test]
fn crash_get_waiting_for_an_item() {
    Act::new(
        "queue get, waiting for an item",
        || (line::<u64>(0, 0..0), std::cell::Cell::new(0)),
        |_| assert_eq!(line::<u64>(0, 0..1).get(), Ok(0)),
        |(queue, _), ()| assert_eq!(queue.get(), Ok(7)),
    )
    .rouse(|(queue, given)| {
        if given.get() == 0 {
            given.set(1);
            put(queue, 7);
        }
        true
    })
    .judge(|(queue, given), killed| {
        let there: &[u64] = if given.get() == 0 { &[] } else { &[7] };
        expect(&drain(&queue)?, there, &[], killed, &[])?;
        works(&queue)
    })
    .play();
}

/// A queue, somebody who sleeps in `get` or `put`, and what came of it plus one.
struct Waiting {
    queue: Line<u64>,
    helper: Helper,
    outcome: Shared<AtomicU64>,
}

fn sleeping_consumer() -> Waiting {
    let queue = line::<u64>(0, 0..0);
    let outcome = Shared::<AtomicU64>::new();
    let helper = Helper::start(&mut || {
        let got = queue.get().map_or(1000, |number| number);
        outcome.store(got + 1, Ordering::SeqCst);
    });
    helper.until_asleep();
    Waiting {
        queue,
        helper,
        outcome,
    }
}

#[test]
fn crash_put_rousing_a_consumer() {
    Act::new(
        "queue put, a consumer asleep",
        sleeping_consumer,
        |_| drop(line::<u64>(0, 0..1)),
        |waiting, ()| put(&waiting.queue, 100),
    )
    .judge(|waiting, _| {
        // If the victim's item is not there, the helper needs another.
        put(&waiting.queue, 200);
        waiting.helper.joins()?;
        let got = waiting.outcome.load(Ordering::SeqCst) - 1;
        let left = drain(&waiting.queue)?;
        match (got, left.as_slice()) {
            (100, [200]) | (200, []) => works(&waiting.queue),
            other => Err(format!("the consumer got, and left: {other:?}").into()),
        }
    })
    .play();
}

#[test]
fn crash_put_rousing_a_consumer_who_needs_no_other() {
    Act::new(
        "queue put, a consumer asleep, nothing else comes",
        sleeping_consumer,
        |_| drop(line::<u64>(0, 0..1)),
        |waiting, ()| put(&waiting.queue, 100),
    )
    .judge(|waiting, killed| {
        // Once the item is committed, the consumer must come by it whatever became of the wake.
        let committed = waiting.queue.ever_put() == 1;
        if killed.landing == Landing::Finished && !committed {
            return Err("the put was finished and is not there".into());
        }
        if !committed {
            put(&waiting.queue, 100);
        }
        waiting.helper.joins()?;
        let got = waiting.outcome.load(Ordering::SeqCst) - 1;
        if got == 100 && drain(&waiting.queue)?.is_empty() {
            works(&waiting.queue)
        } else {
            Err(format!("the consumer got {got}").into())
        }
    })
    .play();
}

#[test]
fn crash_get_rousing_a_producer() {
    let props = || {
        let queue = line::<u64>(2, 0..2);
        let outcome = Shared::<AtomicU64>::new();
        let helper = Helper::start(&mut || {
            queue.put(2).expect("put");
            outcome.store(1, Ordering::SeqCst);
        });
        helper.until_asleep();
        Waiting {
            queue,
            helper,
            outcome,
        }
    };
    Act::new(
        "queue get, a producer asleep for room",
        props,
        |_| assert_eq!(line::<u64>(0, 0..1).get(), Ok(0)),
        |waiting, ()| assert_eq!(waiting.queue.try_get(), Ok(0)),
    )
    .judge(|waiting, killed| {
        let mut found = Vec::new();
        if waiting.queue.ever_put() as usize == waiting.queue.len() {
            found.extend(waiting.queue.try_get());
        }
        waiting.helper.joins()?;
        found.extend(drain(&waiting.queue)?);
        expect(&found, &[0, 1, 2], &[1, 2], killed, &[1, 2])?;
        Ok(())
    })
    .play();
}

#[test]
fn crash_close() {
    Act::new(
        "queue close, a consumer asleep",
        sleeping_consumer,
        |_| (),
        |waiting, ()| waiting.queue.close(),
    )
    .judge(|waiting, killed| {
        if killed.landing == Landing::Finished && !waiting.queue.is_closed() {
            return Err("closed, and open".into());
        }
        if !waiting.queue.is_closed() {
            waiting.queue.close();
        }
        waiting.helper.joins()?;
        match waiting.outcome.load(Ordering::SeqCst) {
            1001 => Ok(()),
            other => Err(format!("the consumer got {other}").into()),
        }
    })
    .play();
}

/// The victim holds the last handle of a queue with messages of each kind in it.
fn destroying(name: &str, fill: impl Fn() -> Box<dyn std::any::Any> + 'static) {
    let part = move |(): &()| {
        // The reaper comes by the segments before it comes by the queue.
        drop(crate::heap::Block::alloc(4096 + 64));
        fill()
    };
    Act::new(name, || (), part, |(), queue| drop(queue)).play_thinned();
}

#[test]
fn crash_destroy_small() {
    destroying("queue destroy, small messages, two segments", || {
        let queue = line::<u64>(0, 0..SEGMENT + 2);
        for number in 0..SEGMENT - 2 {
            assert_eq!(queue.try_get(), Ok(number));
        }
        Box::new(queue)
    });
}

#[test]
fn crash_destroy_blocks() {
    destroying("queue destroy, blocks", || Box::new(line::<Block>(0, 0..2)));
}

#[test]
fn crash_destroy_handles() {
    destroying("queue destroy, handles inside", || {
        Box::new(line::<Letter>(0, 0..1))
    });
}
