//! What all handles of a pool share: the tasks that are not done, the workers, and how threads wait.
//!
//! # Who does the work
//! Nobody is employed for carrying results. Whoever waits for something of the pool *drives* it: takes what the workers have put ([`collect`](super::collect)), hands out
//! what is pending ([`dispatch`](super::dispatch)), tells the outcomes to those who want them, and sleeps on the pool's bell when there is nothing to do. Several threads
//! may drive at once; one that delivered something wakes the others, whose turn it may be. While nobody waits and something is outstanding, the supervisor drives.
//!
//! # Locks
//! `state` is held for table work and copies of small records into lanes, never while starting or reaping a process, calling a sink, or sleeping. Sinks are told
//! without it, so they may use the pool.
//!
//! **No lost wake-up.** A waiter reads `epoch`, drives, looks whether it is done, and sleeps unless a lane has results or `epoch` has moved. Whoever delivers
//! moves `epoch` after the sinks are told, then rings. The bell's own Dekker pattern does the rest (`sync/raw/bell.rs`).

use super::context::Context;
use super::error::{Broken, SubmitError, TaskError};
use super::lane::{Lane, PoolBell};
use super::pending::Pending;
use super::record::TaskId;
use super::sizing::Admission;
use super::staff::{Settings, Worker};
use super::supervisor::Alarm;
use super::task::{Job, Outcome, Sink, Task, TaskOptions, Tasks};
use crate::channel::EncodeError;
use crate::family::{Owner, Waiter};
use crate::heap::{HeapError, ShortWait, myself};
use crate::sync::raw::{ALL, Deadline, Port, Slept};
use crate::sys::call::{Call, FunctionPointer, Runner};
use crate::sys::limits::cpu_count;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How far the life of a pool has come.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Open,
    /// Takes no more tasks; workers end when all are done.
    Closing,
    Terminated,
    Broken(Broken),
}

/// A function that tasks of this pool call.
pub(super) struct Function {
    pub(super) call: Call,
    /// Its type, for messages.
    pub(super) name: &'static str,
    /// How long it takes, smoothed, in nanoseconds; 0: not known yet.
    pub(super) nanos: u32,
}

/// Under the lock.
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) table: Table,
    pub(super) workers: Vec<Worker>,
    /// Workers that are being started right now.
    pub(super) starting: usize,
    /// Workers ever started; the number of the next one.
    pub(super) hired: u64,
    /// When a worker could not be started, until one could.
    pub(super) refused: Option<Instant>,
    pub(super) memory: Admission,
}

/// The tasks, and what is known of them.
#[derive(Default)]
pub(super) struct Table {
    pub(super) tasks: Tasks,
    pub(super) pending: Pending,
    pub(super) functions: Vec<Function>,
    by_address: HashMap<(usize, usize), u32>,
    /// Workers that failed to come up, since one did.
    pub(super) failures: u32,
    /// Workers that were killed on their way up, since one was ready.
    pub(super) killed: u32,
    /// Outcomes whose sinks are to be told once the lock is free.
    pub(super) done: Vec<Done>,
    /// The heap was full when a task was to be sent.
    pub(super) full: Option<HeapError>,
}

/// A task that is done, on its way to its sink.
pub(super) type Done = (Arc<dyn Sink>, usize, Outcome);

/// See the header.
pub(super) struct Hub {
    pub(super) settings: Settings,
    /// The process that made the pool, as a participant: asking the system who we are, for each task, would cost as much as the task.
    creator: Option<Owner>,
    state: Mutex<State>,
    pub(super) bell: PoolBell,
    pub(super) alarm: Alarm,
    /// Deliveries so far.
    epoch: AtomicU64,
    /// Tasks whose sinks have not been told.
    outstanding: AtomicUsize,
    /// User threads that wait, and so drive.
    drivers: AtomicUsize,
    /// The lanes of all workers, to be looked at without the lock.
    lanes: Mutex<Arc<[Arc<Lane>]>>,
    over: AtomicBool,
    /// Processors that are ours.
    cpus: usize,
}

impl Hub {
    pub(super) fn new(settings: Settings, bell: PoolBell, alarm: Alarm) -> Self {
        let state = State {
            phase: Phase::Open,
            table: Table::default(),
            workers: Vec::new(),
            starting: 0,
            hired: 0,
            refused: None,
            memory: Admission::new(settings.memory_reserve),
        };
        Self {
            settings,
            // A member by now: the bell lies in the heap.
            creator: myself(),
            state: Mutex::new(state),
            bell,
            alarm,
            epoch: AtomicU64::new(0),
            outstanding: AtomicUsize::new(0),
            drivers: AtomicUsize::new(0),
            lanes: Mutex::new(Arc::new([])),
            over: AtomicBool::new(false),
            cpus: cpu_count(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_ours(&self) -> bool {
        self.creator == myself()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::SeqCst)
    }

    pub(super) fn drivers(&self) -> usize {
        self.drivers.load(Ordering::SeqCst)
    }

    /// The number of a function, which is named at its first use.
    pub(super) fn function<F: FunctionPointer>(
        &self,
        runner: Runner<F, Context>,
        function: F,
    ) -> Result<u32, SubmitError> {
        if !self.is_ours() {
            return Err(SubmitError::NotOurs);
        }
        let key = (runner as usize, function.address());
        if let Some(number) = self.state().table.by_address.get(&key) {
            return Ok(*number);
        }
        let call = Call::name(runner, function).ok_or(SubmitError::Nameless)?;
        let table = &mut self.state().table;
        let number = table.functions.len() as u32;
        let number = *table.by_address.entry(key).or_insert(number);
        if number as usize == table.functions.len() {
            let name = std::any::type_name::<F>();
            table.functions.push(Function {
                call,
                name,
                nanos: 0,
            });
        }
        Ok(number)
    }

    /// Submits one task.
    pub(super) fn submit(
        &self,
        function: u32,
        job: Job,
        options: Option<Box<TaskOptions>>,
        sink: Arc<dyn Sink>,
        index: usize,
    ) -> Result<TaskId, SubmitError> {
        let task = Task::new((sink, index), function, job, options);
        let mut state = self.state();
        state.phase.admits()?;
        let id = state.table.enter(task);
        self.outstanding.fetch_add(1, Ordering::SeqCst);
        self.dispatch(&mut state);
        self.release(state);
        Ok(id)
    }

    /// Submits many tasks of one sink, numbered from `index` on. Those that could not be packed have their outcome at once.
    pub(super) fn submit_all(
        &self,
        function: u32,
        jobs: impl Iterator<Item = Result<Job, EncodeError>>,
        options: Option<&TaskOptions>,
        sink: &Arc<dyn Sink>,
        index: usize,
    ) -> Result<(), SubmitError> {
        let mut state = self.state();
        state.phase.admits()?;
        let before = state.table.tasks.len() + state.table.done.len();
        for (index, job) in (index..).zip(jobs) {
            let sink = Arc::clone(sink);
            let job = match job {
                Ok(job) => job,
                Err(error) => {
                    let refusal = Err(SubmitError::Encode(error).into());
                    state.table.done.push((sink, index, refusal));
                    continue;
                }
            };
            let options = options.cloned().map(Box::new);
            let task = Task::new((sink, index), function, job, options);
            state.table.enter(task);
        }
        let after = state.table.tasks.len() + state.table.done.len();
        self.outstanding.fetch_add(after - before, Ordering::SeqCst);
        self.dispatch(&mut state);
        self.release(state);
        Ok(())
    }

    /// Makes sure that somebody looks after what is outstanding although the caller will not wait for it now.
    pub(super) fn entrust(&self) {
        self.alarm.wake_if_asleep();
    }

    /// Takes what has come, hands out what is pending, tells the outcomes; how many workers have something to do.
    pub(super) fn drive(&self) -> usize {
        let mut state = self.state();
        self.collect(&mut state);
        self.dispatch(&mut state);
        let workers = state.workers.iter();
        let busy = workers.filter(|worker| worker.assigned > 0).count();
        self.release(state);
        busy
    }

    /// Frees the lock and tells the outcomes.
    pub(super) fn release(&self, mut state: MutexGuard<'_, State>) {
        let done = std::mem::take(&mut state.table.done);
        drop(state);
        self.deliver(done);
    }

    /// Never under the lock.
    fn deliver(&self, done: Vec<Done>) {
        if done.is_empty() {
            return;
        }
        let count = done.len();
        let mut done = done.into_iter();
        while let Some((sink, ..)) = done.as_slice().first() {
            let sink = Arc::clone(sink);
            // Those of one map mostly come together: they share one lock of it.
            sink.complete_all(&mut std::iter::from_fn(|| {
                let (next, ..) = done.as_slice().first()?;
                if !Arc::ptr_eq(next, &sink) {
                    return None;
                }
                let (_, index, outcome) = done.next()?;
                Some((index, outcome))
            }));
        }
        self.outstanding.fetch_sub(count, Ordering::SeqCst);
        self.announce();
    }

    /// Something has changed that waiting threads may want to know.
    pub(super) fn announce(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.bell.bell().ring(&ShortWait, ALL);
    }

    fn has_results(lanes: &[Arc<Lane>]) -> bool {
        lanes.iter().any(|lane| lane.has_results())
    }

    /// Tells everybody which lanes there are.
    pub(super) fn show_lanes(&self, state: &State) {
        let lanes = state.workers.iter().map(|worker| Arc::clone(&worker.lane));
        let lanes: Arc<[Arc<Lane>]> = lanes.collect();
        *self.lanes.lock().unwrap_or_else(PoisonError::into_inner) = lanes;
    }

    fn lanes(&self) -> Arc<[Arc<Lane>]> {
        Arc::clone(&self.lanes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits, driving, until `is_done`, at the longest until `deadline`; whether it is done.
    pub(super) fn wait(&self, is_done: impl Fn() -> bool, deadline: Deadline) -> bool {
        if is_done() {
            return true;
        }
        self.drivers.fetch_add(1, Ordering::SeqCst);
        let done = self.wait_driving(&is_done, deadline);
        self.drivers.fetch_sub(1, Ordering::SeqCst);
        if self.outstanding() > 0 {
            self.entrust();
        }
        done
    }

    /// The same for the supervisor, who does not count as a driver.
    pub(super) fn wait_driving(&self, is_done: &impl Fn() -> bool, deadline: Deadline) -> bool {
        let (mut late, mut turn) = (false, 0);
        let mut waiter = Waiter::new();
        loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            // Spinning where every processor has a worker to run only takes one of them away.
            let spins = self.drive() < self.cpus;
            if is_done() {
                return true;
            }
            if late {
                return false;
            }
            let lanes = self.lanes();
            let moved = || Self::has_results(&lanes) || self.epoch.load(Ordering::SeqCst) != epoch;
            while spins && !moved() && waiter.spin(turn) {
                turn += 1;
            }
            if !moved() {
                late = self.bell.bell().sleep(&waiter, deadline, moved) == Slept::TimedOut;
            }
            if moved() {
                // What comes next is another wait.
                (waiter, turn) = (Waiter::new(), 0);
            }
        }
    }

    /// Whether the pool is over, for the supervisor.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Whether it was closed, and all is done.
    pub(super) fn has_finished(&self) -> bool {
        let state = self.state();
        !matches!(state.phase, Phase::Open)
            && state.table.tasks.len() == 0
            && state.is_deserted()
            && self.outstanding() == 0
    }

    pub(super) fn set_over(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.alarm.wake();
    }

    /// Takes no more tasks; workers end when they have done what there is.
    pub(super) fn close(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closing;
        }
        self.dispatch(&mut state);
        self.release(state);
        self.alarm.wake();
    }

    /// Waits until all tasks are done and all workers have ended.
    pub(super) fn join(&self, deadline: Deadline) -> bool {
        self.close();
        self.wait(
            || self.outstanding() == 0 && self.state().is_deserted(),
            deadline,
        )
    }

    /// Ends everything now.
    pub(super) fn terminate(&self) {
        if !self.is_ours() {
            return;
        }
        self.end(Phase::Terminated, &TaskError::Terminated);
        self.dismiss_all();
        self.set_over();
        self.announce();
    }

    /// Goes to a phase in which nothing runs any more; all tasks have this outcome.
    pub(super) fn end(&self, phase: Phase, error: &TaskError) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Open | Phase::Closing) {
            state.phase = phase;
        }
        state.table.pending.clear();
        let table = &mut state.table;
        let left = table.tasks.drain().into_iter();
        table
            .done
            .extend(left.map(|task| (task.sink, task.index, Err(error.clone()))));
        self.release(state);
    }
}

impl Table {
    /// Takes a task in, as the last of its priority.
    fn enter(&mut self, task: Task) -> TaskId {
        let priority = task.priority();
        let id = self.tasks.add(task);
        self.pending.push(priority, id);
        id
    }
}

impl State {
    /// No worker is there or is coming.
    pub(super) fn is_deserted(&self) -> bool {
        self.workers.is_empty() && self.starting == 0
    }
}

impl Phase {
    fn admits(&self) -> Result<(), SubmitError> {
        match self {
            Self::Open => Ok(()),
            Self::Broken(broken) => Err(SubmitError::Broken(broken.clone())),
            Self::Closing | Self::Terminated => Err(SubmitError::Closed),
        }
    }
}
