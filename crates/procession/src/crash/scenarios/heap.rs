//! Allocation, release, objects and envelopes.

use super::stage::{Act, UNIT, heap};
use crate::atomic::Ordering;
use crate::heap::{Block, fill_envelope, list_len};
use crate::{Buffer, Plain, Queue, Raw};

fn take(bytes: usize) -> Block {
    Block::alloc(bytes).expect("allocate")
}

/// Takes and frees a block whose place is known from before.
fn warm(name: &str, bytes: usize) -> Act<()> {
    Act::new(
        name,
        || (),
        move |()| drop(take(bytes)),
        move |(), ()| drop(take(bytes)),
    )
}

#[test]
fn crash_alloc_and_free_small() {
    warm("alloc and free, small", 100).play();
}

#[test]
fn crash_alloc_and_free_known_run() {
    warm("alloc and free, big, known run", 2 * UNIT).play();
}

/// The largest class of small blocks: a span has two of them, so a refill is short.
const LARGE: usize = 32 * 1024;

#[test]
fn crash_alloc_small_adopting_a_span() {
    Act::new(
        "alloc small, adopting an orphaned span",
        || (),
        |()| (),
        |(), ()| drop(take(LARGE)),
    )
    .play();
}

#[test]
fn crash_alloc_small_from_a_fresh_span() {
    // The survivor takes blocks until no orphaned span is left.
    let none_left = || {
        let mut blocks = vec![take(LARGE)];
        while heap().has_orphan(LARGE) {
            blocks.push(take(LARGE));
        }
        blocks
    };
    Act::new(
        "alloc small, from a fresh span",
        none_left,
        |_| (),
        |_, ()| drop(take(LARGE)),
    )
    .play();
}

#[test]
fn crash_free_of_another_process_block() {
    let sent = || {
        let queue = Queue::<Buffer, Raw>::unbounded().expect("queue");
        queue
            .put(Buffer::from_slice(&[7; 100]).expect("buffer"))
            .expect("put");
        queue
    };
    Act::new(
        "free small, another process's",
        sent,
        |queue| queue.get().expect("get"),
        |_, buffer| drop(buffer),
    )
    .play();
}

/// The survivor makes runs of so many units, keeps a wall behind them, frees the runs.
fn holes(lens: &'static [usize]) -> impl Fn() -> Block {
    move || {
        heap().header().rover.store(0, Ordering::Relaxed);
        let runs: Vec<Block> = lens.iter().map(|len| take(len * UNIT)).collect();
        let wall = take(UNIT);
        drop(runs);
        heap().header().rover.store(0, Ordering::Relaxed);
        wall
    }
}

#[test]
fn crash_alloc_big_splitting() {
    Act::new(
        "alloc and free, big, first-fit split",
        holes(&[7]),
        |_| (),
        |_, ()| drop(take(3 * UNIT)),
    )
    .play();
}

#[test]
fn crash_alloc_big_merging() {
    Act::new(
        "alloc and free, big, merge and split",
        holes(&[2, 2, 2]),
        |_| (),
        |_, ()| drop(take(5 * UNIT)),
    )
    .play();
}

#[test]
fn crash_alloc_big_extending() {
    // Nothing is allocated: as if no unit had ever been used.
    let untouched = || {
        let used = &heap().header().units_used;
        let words = &heap().unit_words()[..used.load(Ordering::SeqCst) as usize];
        words
            .iter()
            .for_each(|word| word.store(0, Ordering::SeqCst));
        used.store(0, Ordering::SeqCst);
    };
    Act::new(
        "alloc and free, big, extend",
        untouched,
        |()| (),
        |(), ()| drop(take(2 * UNIT)),
    )
    .play();
}

#[test]
fn crash_free_big_punching() {
    let part = |&(): &()| {
        let mut block = take(2 * UNIT);
        block.as_mut_slice().fill(1);
        heap().header().warm.store(u64::MAX / 2, Ordering::Relaxed);
        block
    };
    Act::new(
        "free big, punching a hole",
        || (),
        part,
        |(), block| drop(block),
    )
    .play();
}

#[test]
fn crash_object_create_and_last_drop() {
    let whole = || {
        let queue = Queue::<u64, Plain>::unbounded().expect("queue");
        let again = queue.clone();
        drop(queue);
        drop(again);
    };
    Act::new(
        "object create, clone, drops",
        || (),
        move |()| whole(),
        move |(), ()| whole(),
    )
    .play();
}

#[test]
fn crash_object_last_drop_is_the_victims() {
    // The survivor passes its hold on through an envelope: the victim is the last one.
    let sent = || {
        let letters = Queue::<Queue<u64>>::unbounded().expect("queue");
        letters
            .put(Queue::unbounded().expect("queue"))
            .expect("put");
        letters
    };
    Act::new(
        "object last drop, by another process than its creator",
        sent,
        |letters| letters.get().expect("get"),
        |_, object| drop(object),
    )
    .play_thinned();
}

#[test]
fn crash_envelope() {
    let object = || Queue::<u64, Plain>::unbounded().expect("queue");
    let part = move |&(): &()| {
        drop(take(list_len(1)));
        object()
    };
    Act::new(
        "envelope fill, objects handed over, release",
        || (),
        part,
        |(), first| {
            let block = take(list_len(1));
            fill_envelope(&block, &[first.handle()]);
            drop(first);
            drop(block);
        },
    )
    .play_thinned();
}
