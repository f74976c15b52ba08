//! For tests: the two sides of one worker's lanes without a pool and without processes of its own.
//!
//! Tasks are numbered. The accounting is that of `staff.rs`: results that the worker had put, tasks that it had not taken, and in neither at most one.

use super::crew::run_call;
use super::lane::{Lane, PATIENCE, PoolBell};
use super::record::{DEFINE, HEAD, Packed, ResultHead, STOP, Tag, TaskHead};
use super::task::Output;
use super::worker::{Came, Order, Worker};
use crate::channel::{Batch, GetFault, INLINE_MAX, Parcel, pack, pack_block};
use crate::family::Waiter;
use crate::heap::{ShortWait, me};
use crate::process::Portable;
use crate::sys::call::Call;
use crate::{Plain, Queue};
use std::ops::Range;

/// What tasks of a trial carry; they give it back as it is.
pub(crate) trait Cargo: Portable {
    fn make(trial: &Trial<Self>, number: u64) -> Self;
    /// Its number; `None`: it is damaged.
    fn number(self) -> Option<u64>;
}

/// In the ring itself.
impl Cargo for u64 {
    fn make(_trial: &Trial<Self>, number: u64) -> Self {
        number
    }

    fn number(self) -> Option<u64> {
        Some(self)
    }
}

/// Over 8 KiB: in a block of its own.
impl Cargo for Vec<u64> {
    fn make(_trial: &Trial<Self>, number: u64) -> Self {
        vec![number + (1 << 60); 1100]
    }

    fn number(self) -> Option<u64> {
        let whole = self.len() == 1100 && self.iter().all(|word| *word == self[0]);
        whole.then(|| self[0] - (1 << 60))
    }
}

/// In an envelope: the handle of a queue.
pub(crate) type Letter = (u64, Queue<u64, Plain>);

impl Cargo for Letter {
    fn make(trial: &Trial<Self>, number: u64) -> Self {
        (number, trial.queue.clone())
    }

    fn number(self) -> Option<u64> {
        (self.1.len() == 1).then_some(self.0)
    }
}

/// The lanes of one worker.
pub(crate) struct Trial<C> {
    lane: Lane,
    bell: PoolBell,
    /// Held by the pool, as the makers of arguments do.
    queue: Queue<u64, Plain>,
    _cargo: std::marker::PhantomData<C>,
}

fn give_back<C>(cargo: C) -> C {
    cargo
}

impl<C: Cargo> Trial<C> {
    /// Lanes with these tasks in them.
    pub(crate) fn new(tasks: Range<u64>) -> Self {
        let queue = Queue::unbounded().expect("queue");
        queue.put(1).expect("put");
        let trial = Self {
            lane: Lane::new().expect("lane"),
            bell: PoolBell::new().expect("bell"),
            queue,
            _cargo: std::marker::PhantomData,
        };
        trial.define();
        tasks.for_each(|number| trial.give(number));
        trial
    }

    fn put(&self, mut parcel: Parcel<'_>) {
        let shared = &self.lane.shared;
        let put = shared.tasks.try_put(shared.container(), &mut parcel);
        put.expect("room in the lane");
    }

    /// Says what the tasks' function is: once for each worker.
    pub(crate) fn define(&self) {
        let call = Call::name(run_call::<fn(C) -> C>, give_back as fn(C) -> C);
        let head = TaskHead {
            id: 0,
            function: 0,
            flags: DEFINE,
        };
        let mut bytes = head.to_bytes().to_vec();
        pack(&call.expect("in this program"), &mut bytes).expect("pack");
        self.put(Parcel::Inline(&bytes));
    }

    /// Puts a task behind the others.
    pub(crate) fn give(&self, number: u64) {
        let mut packed = Packed::new(&C::make(self, number)).expect("pack");
        packed.address(TaskHead {
            id: number,
            function: 0,
            flags: 0,
        });
        if packed.holds.is_empty() && packed.bytes.len() <= INLINE_MAX {
            return self.put(Parcel::Inline(&packed.bytes));
        }
        self.put(Parcel::Block {
            block: pack_block(&packed.bytes, &packed.holds).expect("block"),
            len: packed.bytes.len() as u64,
            envelope: !packed.holds.is_empty(),
        });
    }

    /// Says that no more tasks will come.
    pub(crate) fn stop(&self) {
        let head = TaskHead {
            id: 0,
            function: 0,
            flags: STOP,
        };
        self.put(Parcel::Inline(&head.to_bytes()));
    }

    /// What a recruited worker is started with.
    pub(crate) fn boot(&self) -> Vec<u8> {
        let mut boot = Vec::new();
        let _held_by_the_pool = pack(&self.order(), &mut boot).expect("pack");
        boot
    }

    fn order(&self) -> Order {
        Order {
            lane: self.lane.clone(),
            bell: self.bell.clone(),
            initializer: None,
            finalizer: None,
            max_tasks: 0,
            max_memory: 0,
            cpu: None,
            nice: 0,
            parent: None,
        }
    }

    /// A worker, for a process that will be killed.
    pub(crate) fn hand(&self) -> Hand {
        let order = Box::leak(Box::new(self.order()));
        Hand(Worker::new(order, me()))
    }

    /// The calling process is the worker for so many records.
    pub(crate) fn work(&self, records: usize) {
        let order = self.order();
        let mut worker = Worker::new(&order, me());
        (0..records).for_each(|_| one_record(&mut worker));
    }

    /// Takes all results; those that are not tasks' are passed over.
    pub(crate) fn results(&self) -> Result<Vec<u64>, String> {
        let mut numbers = Vec::new();
        let shared = &self.lane.shared;
        drain(|batch| {
            shared
                .results
                .try_get_batch(shared.container(), 100, batch, PATIENCE)
        })?
        .into_iter()
        .try_for_each(|(bytes, output)| {
            let head = ResultHead::read(&bytes).ok_or("a result has no header")?;
            if head.tag == Tag::Returned {
                let cargo: C = output.read().map_err(|error| format!("{error:?}"))?;
                let number = cargo.number().ok_or("a damaged result")?;
                if number != head.id {
                    return Err(format!("the result of {} is that of {number}", head.id));
                }
                numbers.push(number);
            } else if head.tag != Tag::Ready {
                return Err(format!("{head:?}"));
            }
            Ok::<_, String>(())
        })?;
        Ok(numbers)
    }

    /// Takes back all tasks, as the pool does.
    pub(crate) fn recall(&self) -> Result<Vec<u64>, String> {
        let shared = &self.lane.shared;
        let records = drain(|batch| {
            shared
                .tasks
                .try_get_batch(shared.container(), 1024, batch, PATIENCE)
        })?;
        let heads = records.iter().map(|(bytes, _)| TaskHead::read(bytes));
        let heads: Option<Vec<_>> = heads.collect();
        let heads = heads.ok_or("a task has no header")?.into_iter();
        Ok(heads
            .filter(|head| head.flags & (DEFINE | STOP) == 0)
            .map(|head| head.id)
            .collect())
    }

    /// Fills the lane of results with what is none.
    pub(crate) fn fill(&self) {
        let shared = &self.lane.shared;
        let mut bytes = vec![0; 1024];
        bytes[..HEAD].copy_from_slice(&ready());
        while shared
            .results
            .try_put(shared.container(), &mut Parcel::Inline(&bytes))
            .is_ok()
        {}
        while shared
            .results
            .try_put(shared.container(), &mut Parcel::Inline(&ready()))
            .is_ok()
        {}
    }

    /// Sleeps on the pool's bell until there are so many results.
    pub(crate) fn wait_for(&self, results: usize) {
        let there = || self.lane.shared.results.len() >= results;
        while !there() {
            self.bell.bell().sleep(&Waiter::new(), None, there);
        }
    }

    pub(crate) fn results_waiting(&self) -> usize {
        self.lane.shared.results.len()
    }

    /// Something that is no result, and a ring.
    pub(crate) fn nudge(&self) {
        let shared = &self.lane.shared;
        let put = shared
            .results
            .try_put(shared.container(), &mut Parcel::Inline(&ready()));
        put.expect("room");
        self.bell.bell().ring(&ShortWait, 1);
    }
}

fn ready() -> [u8; HEAD] {
    let head = ResultHead {
        id: 0,
        nanos: 0,
        tag: Tag::Ready,
    };
    head.to_bytes()
}

/// All records, each with its header and what follows.
fn drain(
    mut take: impl FnMut(&mut Batch) -> Result<(), GetFault>,
) -> Result<Vec<(Vec<u8>, Output)>, String> {
    let mut records = Vec::new();
    loop {
        let mut batch = Batch::default();
        match take(&mut batch) {
            Ok(()) => {}
            Err(GetFault::Empty) => return Ok(records),
            Err(fault) => return Err(format!("{fault:?}, behind {} records", records.len())),
        }
        if let Some(delivery) = batch.take_delivery() {
            let payload = delivery.payload().map_err(|error| error.to_string())?;
            let head = payload.get(..HEAD).unwrap_or_default().to_vec();
            records.push((head, Output::Block(delivery)));
        }
        for payload in batch.iter_from(0) {
            let rest = payload.get(HEAD..).unwrap_or_default().to_vec();
            records.push((payload.to_vec(), Output::Bytes(rest)));
        }
    }
}

/// A worker that takes one record after the other when told.
pub(crate) struct Hand(Worker<'static>);

impl Hand {
    pub(crate) fn one_record(&mut self) {
        one_record(&mut self.0);
    }
}

fn one_record(worker: &mut Worker<'_>) {
    match worker.take() {
        Some(Came::Task(head)) => worker.carry_out(head),
        Some(Came::Defined | Came::Nothing) => {}
        Some(Came::Stop) | None => panic!("the lane has ended"),
    }
}
