//! Handing pending tasks to workers, and taking back what was not begun.
//!
//! **How many at a time.** A worker gets as many tasks ahead as it does in [`AHEAD`], measured by how long their function took so far: tiny tasks travel in hundreds with one
//! commit, long ones singly. Nobody gets more than its share of what is pending.
//!
//! **Second thoughts.** What a worker has not begun is still in its lane, and the pool can take it back (it takes the consumers' lock of the lane like a consumer): when others
//! have nothing to do, when a task is cancelled, when the worker is to be ended, when it died.

use super::error::SubmitError;
use super::hub::{Hub, Phase, State, Table};
use super::lane::{NO_PATIENCE, PATIENCE};
use super::record::{DEFINE, KEEP, STOP, TaskHead, TaskId};
use super::staff::Worker;
use super::task::Job;
use crate::channel::{
    Batch, Delivery, EncodeError, GetFault, Parcel, Patience, PutFault, pack, pack_block,
};
use std::time::{Duration, Instant};

/// Work that a worker has ahead, in nanoseconds.
const AHEAD: u32 = 500_000;
/// Most tasks that a worker has in hand.
const MOST: usize = 1024;
/// Tasks that take longer are given out singly.
const SINGLY: u32 = 10_000_000;
/// A worker that was not heard of for so long has something long in hand; others may have what it has not begun.
const STUCK: Duration = Duration::from_millis(2);

impl Hub {
    /// Hands out what is pending.
    pub(super) fn dispatch(&self, state: &mut State) {
        if state.table.pending.is_empty() {
            self.even_out(state);
        }
        if !state.table.pending.is_empty() && state.may_begin_more() {
            self.hand_out(state);
        }
        state.give_up_if_full();
        if matches!(state.phase, Phase::Closing) && state.table.tasks.len() == 0 {
            state.workers.iter_mut().for_each(stop);
        }
    }

    fn hand_out(&self, state: &mut State) {
        let mut order: Vec<_> = (0..state.workers.len()).collect();
        // Those that are up and have least come first.
        order.sort_by_key(|&at| {
            let worker = &state.workers[at];
            (!worker.ready, worker.assigned)
        });
        for (place, at) in order.iter().copied().enumerate() {
            let Some(next) = state.table.pending.peek() else {
                return;
            };
            let worker = &state.workers[at];
            if !worker.takes_tasks() {
                continue;
            }
            let depth = if worker.ready {
                state.table.depth(next)
            } else {
                1
            };
            if worker.assigned > depth / 2 {
                continue;
            }
            let share = state.table.pending.len().div_ceil(order.len() - place);
            let count = share.min(depth - worker.assigned);
            give(&mut state.table, &mut state.workers[at], count);
        }
    }

    /// Takes from a worker that is stuck what others could do now.
    fn even_out(&self, state: &mut State) {
        let idle = |worker: &Worker| worker.ready && worker.assigned == 0 && worker.takes_tasks();
        if !state.workers.iter().any(idle) {
            return;
        }
        let now = Instant::now();
        let stuck = state
            .workers
            .iter()
            .position(|worker| worker.assigned >= 2 && now.duration_since(worker.heard) > STUCK);
        if let Some(at) = stuck {
            let worker = &mut state.workers[at];
            worker.heard = now;
            take_back(&mut state.table, worker, NO_PATIENCE);
        }
    }
}

impl Table {
    /// How many tasks of the function of `next` a worker may have in hand.
    fn depth(&self, next: TaskId) -> usize {
        let function = self.tasks.get(next).map_or(0, |task| task.function);
        match self
            .functions
            .get(function as usize)
            .map_or(0, |function| function.nanos)
        {
            0 => 1,
            nanos if nanos > SINGLY => 1,
            nanos => ((AHEAD / nanos) as usize).clamp(1, MOST - 1) + 1,
        }
    }
}

impl State {
    /// If the heap is full and nothing runs that could free some of it, the task that needs it fails.
    fn give_up_if_full(&mut self) {
        let Some(error) = self.table.full.take() else {
            return;
        };
        if self.workers.iter().any(|worker| worker.assigned > 0) {
            return;
        }
        let next = self.table.pending.pop();
        if let Some(task) = next.and_then(|id| self.table.tasks.remove(id)) {
            let refusal = SubmitError::Encode(EncodeError::Heap(error));
            let outcome = Err(refusal.into());
            self.table.done.push((task.sink, task.index, outcome));
        }
    }

    /// Whether there is memory for more. If nothing runs at all, something must.
    fn may_begin_more(&mut self) -> bool {
        self.memory.allows() || self.workers.iter().all(|worker| worker.assigned == 0)
    }
}

/// Gives up to `count` pending tasks to a worker.
fn give(table: &mut Table, worker: &mut Worker, count: usize) {
    let mut batch = Batch::default();
    let mut given: Vec<TaskId> = Vec::with_capacity(count);
    while given.len() < count
        && let Some(id) = table.pending.peek()
    {
        let Some(task) = table.tasks.get_mut(id) else {
            // Cancelled.
            table.pending.pop();
            continue;
        };
        let (function, keeps) = (task.function, task.may_retry());
        if !define_up_to(table, worker, function) {
            break;
        }
        let Some(task) = table.tasks.get_mut(id) else {
            break;
        };
        task.job.address(TaskHead {
            id: id.to_word(),
            function,
            flags: if keeps { KEEP } else { 0 },
        });
        if let Some(record) = task.job.inline() {
            batch.push(record);
            given.push(id);
            table.pending.pop();
            continue;
        }
        // Large: those before it go first, then it goes alone.
        if !send(table, worker, &mut batch, &mut given) {
            return;
        }
        table.pending.pop();
        if !send_large(table, worker, id) {
            return;
        }
    }
    send(table, worker, &mut batch, &mut given);
}

/// Sends the records in the batch; those for which there is no room become pending again. `false`: there was not room for all.
fn send(
    table: &mut Table,
    worker: &mut Worker,
    batch: &mut Batch,
    given: &mut Vec<TaskId>,
) -> bool {
    if given.is_empty() {
        return true;
    }
    let shared = &worker.lane.shared;
    let sent = match shared
        .tasks
        .try_put_batch(shared.container(), batch, 0, PATIENCE)
    {
        Ok(sent) => sent,
        Err(PutFault::Full) => 0,
        Err(fault) => {
            worker.condemn(&format!("its lane takes no task: {fault:?}"));
            0
        }
    };
    for &id in &given[..sent] {
        table.sent(worker, id);
    }
    for &id in given[sent..].iter().rev() {
        let priority = table.tasks.get(id).map_or(0, |task| task.priority());
        table.pending.push_front(priority, id);
    }
    let all = sent == given.len();
    batch.clear();
    given.clear();
    all
}

impl Table {
    fn sent(&mut self, worker: &mut Worker, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(id) {
            task.worker = Some(worker.number);
            if !task.may_retry() {
                task.job = Job::Sent;
            }
            worker.begin();
        }
    }
}

/// Sends one record as a block. `false`: it could not be sent, and is pending again.
fn send_large(table: &mut Table, worker: &mut Worker, id: TaskId) -> bool {
    let Some(task) = table.tasks.get_mut(id) else {
        return true;
    };
    let priority = task.priority();
    let keeps = task.may_retry();
    let parcel = match std::mem::replace(&mut task.job, Job::Sent) {
        Job::Block(Delivery {
            block,
            len,
            envelope,
        }) => Ok(Parcel::Block {
            block,
            len,
            envelope,
        }),
        Job::Packed(packed) => {
            let block = pack_block(&packed.bytes, &packed.holds);
            let parcel = block.map(|block| Parcel::Block {
                block,
                len: packed.bytes.len() as u64,
                envelope: !packed.holds.is_empty(),
            });
            if keeps || parcel.is_err() {
                task.job = Job::Packed(packed);
            }
            parcel
        }
        other => {
            task.job = other;
            return true;
        }
    };
    let put = match parcel {
        Ok(mut parcel) => {
            let shared = &worker.lane.shared;
            let put = shared
                .tasks
                .try_put_within(shared.container(), &mut parcel, PATIENCE);
            if put.is_err()
                && let Parcel::Block {
                    block,
                    len,
                    envelope,
                } = parcel
                && matches!(task.job, Job::Sent)
            {
                task.job = Job::Block(Delivery {
                    block,
                    len,
                    envelope,
                });
            }
            put
        }
        Err(error) => Err(PutFault::Heap(Box::new(error))),
    };
    match put {
        Ok(()) => {
            task.worker = Some(worker.number);
            worker.begin();
            return true;
        }
        Err(PutFault::Full) => {}
        // Later, when results have been taken.
        Err(PutFault::Heap(error)) => table.full = Some(*error),
        Err(fault) => worker.condemn(&format!("its lane takes no task: {fault:?}")),
    }
    table.pending.push_front(priority, id);
    false
}

/// Defines all functions up to `function` in the worker. `false`: there is no room now.
fn define_up_to(table: &Table, worker: &mut Worker, function: u32) -> bool {
    while worker.known <= function {
        let head = TaskHead {
            id: 0,
            function: worker.known,
            flags: DEFINE,
        };
        let mut bytes = head.to_bytes().to_vec();
        let Some(known) = table.functions.get(worker.known as usize) else {
            return false;
        };
        if pack(&known.call, &mut bytes).is_err() || !say(worker, &bytes) {
            return false;
        }
        worker.known += 1;
    }
    true
}

/// Sends one small record.
fn say(worker: &mut Worker, bytes: &[u8]) -> bool {
    let shared = &worker.lane.shared;
    let mut record = Parcel::Inline(bytes);
    match shared
        .tasks
        .try_put_within(shared.container(), &mut record, PATIENCE)
    {
        Ok(()) => true,
        Err(PutFault::Full) => false,
        Err(fault) => {
            worker.condemn(&format!("its lane takes nothing: {fault:?}"));
            false
        }
    }
}

/// Asks a worker to end after what it has.
fn stop(worker: &mut Worker) {
    let head = TaskHead {
        id: 0,
        function: 0,
        flags: STOP,
    };
    if !worker.stopping {
        worker.stopping = say(worker, &head.to_bytes());
    }
}

/// Takes back all that a worker, who may be dead, has not begun: it is pending again, before everything else. If the worker was stopped at the very moment when
/// it took something itself, nothing is taken back.
pub(super) fn take_back(table: &mut Table, worker: &mut Worker, patience: Patience) {
    let lane = std::sync::Arc::clone(&worker.lane);
    let shared = &lane.shared;
    let mut taken = Vec::new();
    // Under one lock: a worker that lives must not take a task whose definition is just being taken back.
    let (batches, fault) = shared.tasks.try_get_all(shared.container(), patience);
    if let GetFault::Corrupt(error) = fault {
        worker.condemn(&error.to_string());
    }
    for mut batch in batches {
        if let Some(delivery) = batch.take_delivery() {
            let head = delivery.payload().ok().and_then(TaskHead::read);
            taken.extend(head.and_then(|head| regain(table, worker, head, Job::Block(delivery))));
            continue;
        }
        for payload in batch.iter_from(0) {
            let Some(head) = TaskHead::read(payload) else {
                continue;
            };
            taken.extend(regain(table, worker, head, Job::record(payload)));
        }
    }
    for id in taken.into_iter().rev() {
        let priority = table.tasks.get(id).map_or(0, |task| task.priority());
        table.pending.push_front(priority, id);
    }
}

/// One record that was taken back.
fn regain(table: &mut Table, worker: &mut Worker, head: TaskHead, job: Job) -> Option<TaskId> {
    if head.flags & STOP != 0 {
        worker.stopping = false;
        return None;
    }
    if head.flags & DEFINE != 0 {
        worker.known = worker.known.min(head.function);
        return None;
    }
    let id = TaskId::from_word(head.id);
    let task = table.tasks.get_mut(id)?;
    if task.worker != Some(worker.number) {
        return None;
    }
    task.worker = None;
    worker.assigned = worker.assigned.saturating_sub(1);
    if matches!(task.job, Job::Sent) {
        task.job = job;
    }
    Some(id)
}
