//! Taking what the workers have put.

use super::error::TaskError;
use super::hub::{Hub, State, Table};
use super::lane::PATIENCE;
use super::record::{HEAD, ResultHead, Tag, TaskId};
use super::staff::Worker;
use super::task::{Job, Outcome, Output};
use crate::channel::{Batch, GetFault};
use crate::process::PanicReport;
use std::time::Instant;

/// Most records taken from a lane at one time.
const BATCH: usize = 256;

impl Hub {
    /// Takes all results there are.
    pub(super) fn collect(&self, state: &mut State) {
        for worker in &mut state.workers {
            if worker.lane.has_results() {
                collect_from(&mut state.table, worker);
            }
        }
    }
}

/// Takes all results of one worker, who may be dead.
pub(super) fn collect_from(table: &mut Table, worker: &mut Worker) {
    let lane = std::sync::Arc::clone(&worker.lane);
    let shared = &lane.shared;
    let mut batch = Batch::default();
    loop {
        batch.clear();
        match shared
            .results
            .try_get_batch(shared.container(), BATCH, &mut batch, PATIENCE)
        {
            Ok(()) => {}
            Err(GetFault::Corrupt(error)) => return worker.condemn(&error.to_string()),
            Err(GetFault::Busy) => return worker.condemn("its lane is locked by somebody else"),
            Err(_) => return,
        }
        worker.heard = Instant::now();
        if let Some(delivery) = batch.take_delivery() {
            let head = delivery.payload().ok().and_then(ResultHead::read);
            let Some(head) = head else {
                return worker.condemn("a result has no header");
            };
            receive(table, worker, head, Output::Block(delivery));
            continue;
        }
        for payload in batch.iter_from(0) {
            let Some(head) = ResultHead::read(payload) else {
                return worker.condemn("a result has no header");
            };
            let output = Output::packed(&payload[HEAD..]);
            receive(table, worker, head, output);
        }
    }
}

fn receive(table: &mut Table, worker: &mut Worker, head: ResultHead, output: Output) {
    match head.tag {
        Tag::Ready => {
            worker.ready = true;
            (table.failures, table.killed) = (0, 0);
            tracing::debug!(
                worker = worker.name(),
                pid = worker.pid(),
                "worker is ready"
            );
        }
        Tag::InitializerFailed => worker.failed = Some(report(output)),
        _ => finish(table, worker, head, output),
    }
}

fn report(output: Output) -> PanicReport {
    output.read().unwrap_or_default()
}

fn finish(table: &mut Table, worker: &mut Worker, head: ResultHead, output: Output) {
    let id = TaskId::from_word(head.id);
    // One that was cancelled meanwhile, or that this worker made up.
    let Some(task) = table.tasks.get_mut(id) else {
        return;
    };
    if task.worker != Some(worker.number) {
        return;
    }
    worker.assigned = worker.assigned.saturating_sub(1);
    if let Some(function) = table.functions.get_mut(task.function as usize) {
        function.learn(head.nanos);
    }
    let outcome = outcome(head.tag, output);
    let failed = head.tag == Tag::Failed || matches!(outcome, Err(TaskError::Panicked { .. }));
    if failed && task.may_retry() {
        table.again(id);
    } else if let Some(task) = table.tasks.remove(id) {
        table.done.push((task.sink, task.index, outcome));
    }
}

impl Table {
    /// Puts a task that was begun and failed back, to be tried once more.
    pub(super) fn again(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(id) {
            debug_assert!(
                !matches!(task.job, Job::Sent),
                "invariant: tasks that may be tried again are kept"
            );
            task.failures += 1;
            task.worker = None;
            let priority = task.priority();
            tracing::debug!(
                task = task.index,
                tries = task.failures,
                "task is tried again"
            );
            self.pending.push_front(priority, id);
        }
    }
}

impl super::hub::Function {
    fn learn(&mut self, nanos: u32) {
        self.nanos = match self.nanos {
            0 => nanos.max(16),
            // A task during which its worker lost the processor says little of the next one.
            old => {
                let nanos = u64::from(nanos).min(u64::from(old) * 4);
                (u64::from(old) * 7 / 8 + nanos / 8).max(1) as u32
            }
        };
    }
}

/// What a record from a worker says.
fn outcome(tag: Tag, output: Output) -> Outcome {
    if matches!(tag, Tag::Returned | Tag::Failed) {
        return Ok(output);
    }
    Err(failure(tag, output))
}

/// What a record says that is no result.
pub(super) fn failure(tag: Tag, output: Output) -> TaskError {
    if tag == Tag::Panicked {
        return TaskError::panicked(report(output));
    }
    let reason = output.read().unwrap_or_default();
    match tag {
        Tag::UndecodableArguments => TaskError::UndecodableArguments { reason },
        Tag::UnencodableResult => TaskError::UnencodableResult { reason },
        _ => TaskError::FunctionNotFound { reason },
    }
}
