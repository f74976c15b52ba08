//! What dead participants leave: estates for the reapers to be killed over.
//!
//! An estate is the same each time it is set up: nobody in it sleeps by the clock or races. Who is to die "asleep in a wait" waits through a
//! [`Detour`], a port whose sleep is the next thing the victim does; so one victim of one thread dies within any number of waits and half-done
//! steps. Who is to die in the middle of an operation of its own is traced to that very state (`crash/states.rs`).

use super::super::{Fault, Memory, Shared as Table, Traced, begin};
use super::queue::Letter;
use super::stage::{Helper, UNIT, heap};
use crate::atomic::AtomicU32 as Word;
use crate::family::{Owner, forked_child};
use crate::heap::{
    Block, Container, Presence, Shared, State, fill_envelope, list_len, me, the_heap,
};
use crate::sync::raw::{BarrierError, Deadline, Port, Slept, Waited};
use crate::sync::{SharedBarrier, SharedCondition, SharedEvent, SharedLock};
use crate::sys::futex;
use crate::{
    Barrier, Buffer, Condition, Connection, Event, Fd, GetError, Lock, Pipe, Plain, Queue, RLock,
    Raw, RecvError, Semaphore, Value,
};
use std::cell::RefCell;
use std::mem::forget;
use std::sync::atomic::{AtomicU32, Ordering};

/// Somebody's belongings, and how survivors see that they have passed on as they should.
pub(super) struct Estate {
    pub(super) dead: Vec<Owner>,
    pub(super) judge: Box<dyn FnOnce() -> Result<(), Fault>>,
}

/// The family heap, for the harness.
pub(super) fn memory() -> Memory<'static> {
    let heap = heap();
    Memory {
        file: heap.fd(),
        base: std::ptr::from_ref(heap.header()).addr(),
        len: heap.layout().total,
    }
}

/// Never comes back.
fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

/// Forks a participant that dies in the middle of what follows its `begin`, as soon as `there` holds.
fn dies_when(child: &mut dyn FnMut(), there: impl FnMut() -> bool) -> Owner {
    let mut victim = Traced::start(memory(), child).expect("trace a victim");
    let owner = forked_child().expect("a place for the victim");
    assert!(victim.go_until(there).expect("go"), "it has finished");
    victim.kill();
    assert!(heap().is_gone(owner));
    owner
}

/// Forks a participant that comes as far as where it calls what it is given.
fn comes_to_its_end(child: &mut dyn FnMut(&mut dyn FnMut())) -> Helper {
    let ready = Table::<AtomicU32>::new();
    let helper = Helper::start(&mut || {
        child(&mut || {
            ready.store(1, Ordering::SeqCst);
            stay()
        });
    });
    while ready.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    helper
}

fn dies(victim: &Helper) -> Owner {
    victim.kill();
    assert!(victim.is_gone());
    victim.owner().expect("a place for the victim")
}

/// A port whose sleep is something else to do, from which nobody comes back.
struct Detour<'a>(RefCell<&'a mut dyn FnMut()>);

impl<'a> Detour<'a> {
    fn new(to: &'a mut dyn FnMut()) -> Self {
        Self(RefCell::new(to))
    }
}

impl Port for Detour<'_> {
    fn me(&self) -> Owner {
        me()
    }

    fn is_gone(&self, _owner: Owner) -> bool {
        false
    }

    fn spin(&self, _turn: u32) -> bool {
        false
    }

    fn sleep(&self, _word: &Word, _expected: u32, _deadline: Deadline) -> Slept {
        (self.0.borrow_mut())();
        stay()
    }

    fn wake(&self, word: &Word, count: u32) -> u32 {
        futex::wake(word, count)
    }
}

fn waits_in_condition(condition: &Condition, meanwhile: &mut dyn FnMut()) {
    let shared = Shared::<SharedCondition>::open(condition.handle()).expect("open");
    let port = Detour::new(meanwhile);
    let cell = shared.raw.claim(&*shared, &port).expect("a cell");
    shared.raw.wait(&*shared, cell, &port, None);
}

fn waits_for_event(event: &Event, meanwhile: &mut dyn FnMut()) {
    let shared = Shared::<SharedEvent>::open(event.handle()).expect("open");
    let _ = shared.raw.wait(&Detour::new(meanwhile), None);
}

fn waits_at_barrier(barrier: &Barrier, meanwhile: &mut dyn FnMut()) {
    let shared = Shared::<SharedBarrier>::open(barrier.handle()).expect("open");
    let _ = shared
        .raw
        .pass(shared.records(), &Detour::new(meanwhile), None);
}

/// Locks of every kind in its hands, asleep in a condition, for an event and at a barrier; missed at another.
pub(super) fn locks_and_waits() -> Estate {
    let lock = Lock::new().expect("lock");
    let wanted = Lock::new().expect("lock");
    let rlock = RLock::new().expect("rlock");
    let semaphore = Semaphore::new(2).expect("semaphore");
    let value = Value::new(7_u64).expect("value");
    let (held, waited) = (condition(), condition());
    let event = Event::new().expect("event");
    let barrier = Barrier::new(2).expect("barrier");
    let missing = Barrier::selective(2).expect("barrier");
    let victim = comes_to_its_end(&mut |die| {
        missing.take_part();
        forget((lock.acquire(), rlock.acquire(), rlock.acquire()));
        forget((
            semaphore.acquire(),
            value.lock(),
            held.acquire(),
            wanted.acquire(),
        ));
        waits_in_condition(&waited, &mut || {
            waits_for_event(&event, &mut || waits_at_barrier(&barrier, die));
        });
    });
    Estate {
        dead: vec![dies(&victim)],
        judge: Box::new(move || {
            recovered("lock", lock.try_acquire().map(|guard| guard.recovered()))?;
            recovered(
                "other lock",
                wanted.try_acquire().map(|guard| guard.recovered()),
            )?;
            recovered("rlock", rlock.try_acquire().map(|guard| guard.recovered()))?;
            recovered("value", value.try_lock().map(|guard| guard.recovered()))?;
            recovered(
                "condition",
                held.acquire_timeout(SOON).map(|guard| guard.recovered()),
            )?;
            if value.get() != 7 {
                return Err("a value that the dead one had locked".into());
            }
            // Permits are not refunded: semaphores count signals.
            if (semaphore.value(), semaphore.try_acquire().is_ok()) != (1, true) {
                return Err("permits of a semaphore".into());
            }
            if (waited.n_waiting(), waited.notify_one()) != (0, 0) {
                return Err(Fault::Leaked("the dead one waits in a condition".into()));
            }
            if event.is_set() || !barrier.is_broken() {
                return Err("an event is set, or a barrier is whole".into());
            }
            if !missing.is_broken() {
                return Err(Fault::Wedged(
                    "a party is missing, and nobody is told".into(),
                ));
            }
            event.set();
            barrier.reset();
            if (event.is_set(), barrier.is_broken(), barrier.n_waiting()) == (true, false, 0) {
                Ok(())
            } else {
                Err(Fault::Wedged("an event or a barrier does not go on".into()))
            }
        }),
    }
}

/// The port of somebody who sleeps until he is woken: no slice of his ends before a test has failed.
struct Patient;

impl Port for Patient {
    fn me(&self) -> Owner {
        me()
    }

    fn is_gone(&self, owner: Owner) -> bool {
        the_heap().is_known_gone(owner)
    }

    fn spin(&self, _turn: u32) -> bool {
        false
    }

    fn sleep(&self, word: &Word, expected: u32, _deadline: Deadline) -> Slept {
        futex::wait(word, expected, std::time::Duration::from_secs(60));
        Slept::Again
    }

    fn wake(&self, word: &Word, count: u32) -> u32 {
        futex::wake(word, count)
    }
}

/// Others sleep behind the dead one's lock, at a barrier to which it does not come, and in a condition in which it was told what is theirs now.
pub(super) fn among_sleepers() -> Estate {
    let lock: Shared<SharedLock> = Shared::create(|_, _| ()).expect("lock");
    let condition = condition();
    let barrier = Barrier::new(2).expect("barrier");
    let victim = comes_to_its_end(&mut |die| {
        assert!(lock.raw.acquire(&Patient, None).is_ok());
        waits_in_condition(&condition, die);
    });
    let sleeper = |sleep: &dyn Fn()| {
        let helper = Helper::start(&mut || sleep());
        helper.until_asleep();
        helper
    };
    let passes = || {
        assert!(lock.raw.acquire(&Patient, None).is_ok());
        assert!(lock.raw.release(&Patient).is_ok());
    };
    let is_told = || {
        let shared = Shared::<SharedCondition>::open(condition.handle()).expect("open");
        let cell = shared.raw.claim(&*shared, &Patient).expect("a cell");
        assert_eq!(
            shared.raw.wait(&*shared, cell, &Patient, None),
            Waited::Notified
        );
    };
    let is_let_down = || {
        let shared = Shared::<SharedBarrier>::open(barrier.handle()).expect("open");
        let met = shared.raw.pass(shared.records(), &Patient, None);
        assert_eq!(met, Err(BarrierError::Broken));
    };
    let helpers = [
        sleeper(&passes),
        sleeper(&passes),
        sleeper(&is_told),
        sleeper(&is_let_down),
    ];
    assert_eq!(condition.notify_one(), 1);
    Estate {
        dead: vec![dies(&victim)],
        judge: Box::new(move || {
            helpers.into_iter().try_for_each(Helper::joins)?;
            if (condition.n_waiting(), condition.notify_one()) != (0, 0) || !barrier.is_broken() {
                return Err(Fault::Leaked("somebody waits who is gone".into()));
            }
            drop(lock);
            Ok(())
        }),
    }
}

const SOON: std::time::Duration = std::time::Duration::from_secs(3);

fn condition() -> Condition {
    Condition::new().expect("condition")
}

fn recovered<E>(what: &str, acquired: Result<bool, E>) -> Result<(), Fault> {
    match acquired {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("the {what} does not say that its owner died").into()),
        Err(_) => Err(Fault::Wedged(format!("the dead one's {what}"))),
    }
}

type Buffers = Queue<Buffer, Raw>;

fn buffers(count: u8) -> Buffers {
    let queue = Buffers::unbounded().expect("queue");
    (0..count).for_each(|fill| put_buffer(&queue, fill));
    queue
}

fn put_buffer(queue: &Buffers, fill: u8) {
    let buffer = Buffer::from_slice(&[fill; 100]).expect("buffer");
    assert!(queue.try_put(buffer).is_ok());
}

/// Exactly these are in the queue, in this order, and it goes on.
fn expect_buffers(queue: &Buffers, fills: &[u8]) -> Result<(), Fault> {
    for fill in fills.iter().chain(&[77]) {
        if *fill == 77 {
            put_buffer(queue, 77);
        }
        let found = queue.try_get();
        if !found
            .as_ref()
            .is_ok_and(|buffer| buffer[..] == [*fill; 100])
        {
            return Err(format!("buffer {fill} of {fills:?}: {:?}", found.map(|b| b[0])).into());
        }
    }
    if queue.is_empty() {
        Ok(())
    } else {
        Err("there is a buffer too many".into())
    }
}

fn numbers(numbers: &[u64]) -> Queue<u64, Plain> {
    let queue = Queue::unbounded().expect("queue");
    for number in numbers {
        assert!(queue.try_put(*number).is_ok());
    }
    queue
}

fn expect_numbers(queue: &Queue<u64, Plain>, numbers: &[u64]) -> Result<(), Fault> {
    for number in numbers {
        let found = queue.try_get();
        if found != Ok(*number) {
            return Err(format!("number {number} of {numbers:?}: {found:?}").into());
        }
    }
    if queue.is_empty() {
        Ok(())
    } else {
        Err("there is a number too many".into())
    }
}

fn container_of(queue: &Buffers) -> Container {
    let handle = queue.handle();
    Container {
        index: handle.index(),
        generation: handle.generation(),
    }
}

/// Blocks small and big, an envelope with the last hold of a queue, a queue of its own, the end of a pipe, a producer's token, a listener's cell, a descriptor
/// on its way, a place reserved for a child; and two blocks on the move: one that never got into the queue, one that has just got in, with the
/// queue's lock still held.
pub(super) fn blocks_and_ends() -> Estate {
    let queue = numbers(&[0, 1]);
    let buffers = buffers(2);
    let produced = Queue::<u64, Plain>::unbounded().expect("queue");
    let descriptors = Queue::<Fd>::unbounded().expect("queue");
    let post = Queue::<Connection<u64, u64>>::unbounded().expect("queue");
    let (end, other_end) = Pipe::duplex::<u64, u64>().expect("pipe");
    assert!(post.put(end).is_ok() && other_end.try_send(1).is_ok());
    let mut child = || {
        let mine = post.get().expect("the end");
        assert!(mine.try_send(2).is_ok());
        let first = buffers.get().expect("a buffer");
        let blocks = [100, 2 * UNIT, 100].map(|bytes| Block::alloc(bytes).expect("block"));
        let own = numbers(&[1]);
        let listed = numbers(&[1]);
        let envelope = Block::alloc(list_len(1)).expect("block");
        fill_envelope(&envelope, &[listed.handle()]);
        drop(listed);
        let token = produced.producer().expect("token");
        assert!(token.put(5).is_ok());
        let listener = queue.readiness().expect("listener");
        assert!(listener.arm().is_ok());
        let (reading, writing) = std::io::pipe().expect("pipe");
        assert!(
            descriptors
                .put(Fd::from(std::os::fd::OwnedFd::from(reading)))
                .is_ok()
        );
        let place = heap().reserve_slot(Some(me())).expect("place");
        let [_, _, halfway] = blocks;
        let _ = halfway.attach::<()>(container_of(&buffers), |_| {
            begin();
            put_buffer(&buffers, 9);
            stay()
        });
        drop((mine, first, own, envelope, token, listener, writing, place));
    };
    let dead = dies_when(&mut child, || buffers.len() == 2);
    Estate {
        dead: vec![dead],
        judge: Box::new(move || {
            expect_numbers(&queue, &[0, 1])?;
            expect_buffers(&buffers, &[1, 9])?;
            if (produced.try_get(), produced.try_get()) != (Ok(5), Err(GetError::Closed)) {
                return Err(Fault::Wedged("a queue whose only producer is dead".into()));
            }
            let sent = [other_end.try_recv(), other_end.try_recv()];
            if sent != [Ok(2), Err(RecvError::Eof)] || other_end.try_send(3).is_ok() {
                return Err(Fault::Wedged(format!("the pipe of the dead one: {sent:?}")));
            }
            match descriptors.try_get() {
                Err(GetError::Decode(_)) if descriptors.is_empty() && post.is_empty() => Ok(()),
                other => Err(format!("a dead one's descriptor: {:?}", other.map(|_| ())).into()),
            }
        }),
    }
}

/// How many words say so.
fn count(state: State) -> usize {
    let mut count = 0;
    the_heap().each_small(|_, _, word| count += usize::from(word.state() == state));
    count
}

fn letters(numbers: std::ops::Range<u64>) -> Queue<Letter> {
    let queue = Queue::unbounded().expect("queue");
    for number in numbers {
        assert!(queue.try_put((number, self::numbers(&[number]))).is_ok());
    }
    queue
}

/// One is taking a block out of a queue and has not said so yet; one has said so of a message with a handle, and not got hold of it.
pub(super) fn halfway_out() -> Estate {
    let buffers = buffers(3);
    let letters = letters(0..3);
    let mut takes = || {
        begin();
        drop(buffers.try_get());
    };
    let first = dies_when(&mut takes, || count(State::DETACHING) == 1);
    let mut receives = || {
        begin();
        drop(letters.try_get());
    };
    let second = dies_when(&mut receives, || letters.len() == 2);
    assert_eq!(count(State::DETACHING), 2);
    Estate {
        dead: vec![first, second],
        judge: Box::new(move || {
            expect_buffers(&buffers, &[0, 1, 2])?;
            for number in 1..3 {
                let (found, inner) = letters.try_get().map_err(|error| format!("{error:?}"))?;
                if found != number {
                    return Err(format!("letter {found} instead of {number}").into());
                }
                expect_numbers(&inner, &[number])?;
            }
            if letters.is_empty() {
                Ok(())
            } else {
                Err("there is a letter too many".into())
            }
        }),
    }
}

/// Three die while they destroy what they were the last to hold: a queue with messages of every kind and a listener, half of it gone; the end of a
/// pipe; a value with a block of its own.
pub(super) fn halfway_gone() -> Estate {
    let (end, other_end) = Pipe::duplex::<u64, u64>().expect("pipe");
    let post = Queue::<Connection<u64, u64>>::unbounded().expect("queue");
    assert!(end.try_send(1).is_ok() && other_end.try_send(2).is_ok());
    assert!(post.put(end).is_ok());
    let mut blocks = None;
    let mut drops_queue = || {
        let queue = letters(0..3);
        let listener = queue.readiness().expect("listener");
        assert!(listener.arm().is_ok());
        forget(listener);
        let inner = queue.clone();
        drop(queue);
        begin();
        // The listener holds it, too.
        heap().unhold(inner.handle().index());
        drop(inner);
    };
    let first = dies_when(&mut drops_queue, || {
        let now = heap().stats().blocks;
        let then = *blocks.get_or_insert(now);
        count(State::DESTROYING) > 0 && now + 3 <= then
    });
    let mut drops_end = || {
        let end = post.get().expect("end");
        begin();
        drop(end);
    };
    let destroying = count(State::DESTROYING);
    let second = dies_when(&mut drops_end, || count(State::DESTROYING) > destroying);
    let mut drops_array = || {
        let array = crate::Array::<u64>::from_slice(&[1; 1000]).expect("array");
        begin();
        drop(array);
    };
    let third = dies_when(&mut drops_array, || {
        count(State::DESTROYING) > destroying + 1
    });
    Estate {
        dead: vec![first, second, third],
        judge: Box::new(move || {
            let heard = [other_end.try_recv(), other_end.try_recv()];
            if heard != [Ok(1), Err(RecvError::Eof)] || other_end.try_send(3).is_ok() {
                return Err(Fault::Wedged(format!(
                    "the pipe of the dead one: {heard:?}"
                )));
            }
            Ok(())
        }),
    }
}

/// Whoever's place is free has left nothing: the place comes last.
pub(super) fn places_come_last(dead: &[Owner]) -> Result<(), Fault> {
    let heap = heap();
    for owner in dead {
        let slot = owner.slot();
        if heap.participants()[slot].presence() != (Presence::Free, owner.generation()) {
            continue;
        }
        let mut traces = 0;
        heap.each_held(slot, |_| traces += 1);
        let is_its = |word: crate::heap::Word| {
            let state = word.state();
            let has_owner =
                state.is_allocated() && state != State::LIVE && state != State::ATTACHED;
            usize::from(has_owner && word.owner_slot() == slot)
        };
        heap.each_small(|_, _, word| traces += is_its(word));
        heap.each_run(|_, word| traces += is_its(word));
        let spans = heap.spans().iter().take(heap.spans_used() as usize);
        traces += spans
            .map(|span| is_its(crate::heap::Word::load(&span.word)))
            .sum::<usize>();
        if traces > 0 {
            return Err(Fault::Leaked(format!(
                "{owner:?} is gone, {traces} traces are not"
            )));
        }
    }
    Ok(())
}
