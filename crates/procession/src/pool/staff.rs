//! Workers: how they are started, watched, replaced and dismissed.
//!
//! # When a worker dies
//! Its end is seen (by the supervisor, on its pidfd), it is reaped in the family, which gives back its locks in the lanes. Then, in this order: results that it had put are
//! taken; tasks that it had not begun are pending again; what is left in its name it *held*: at most one task, unless it corrupted its lane. That one fails with [`WorkerDied`], is tried
//! again if it may be, or has the outcome for which the worker was killed (time limit, cancellation). A new worker starts in its place.
//!
//! A worker that leaves in order (enough tasks, enough memory, closing) holds nothing and is replaced, unless the pool is closing.
//!
//! Workers that end before they are ready are replaced too, but not for ever: after [`TRIES`] in a row the pool is broken, and says of what. Those that
//! somebody else killed before they were ready count apart ([`TRIES_IF_KILLED`]).

use super::collect::collect_from;
use super::dispatch::take_back;
use super::employee::Employee;
use super::error::{Broken, TaskError, WorkerDied};
use super::hub::{Hub, Phase, State};
use super::lane::{Lane, PATIENCE};
use super::record::TaskId;
use super::recruit::Hiring;
use super::task::{Sink, Task};
use super::worker::{self, Hook, Order};
use crate::process::{PanicReport, ParentRef, Process, StartError, StartMethod};
use crate::sys::pidfd::ExitStatus;
use crate::sys::scheduling;
use crate::sys::signal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Workers that fail to come up, one after the other, before the pool is broken.
const TRIES: u32 = 3;
/// The same for workers that somebody killed on their way up: that says nothing of the next one, unless it goes on and on.
const TRIES_IF_KILLED: u32 = 100;
/// Tasks that are in neither lane and not in hand for so long are lost: the worker overwrote its lanes.
const LOST: Duration = Duration::from_secs(2);
/// What the time between two looks counts at the most: we may have been stopped ourselves.
const LOOK: Duration = Duration::from_millis(20);
/// A worker that could not be started is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// Exit codes with which a child says that it never reached `init()`, or could not join the family.
const NO_INIT: [i32; 2] = [198, 197];

/// What a pool was asked for.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) workers: usize,
    pub(super) method: StartMethod,
    /// Who starts workers, if not the pool itself.
    pub(super) hiring: Option<Hiring>,
    pub(super) initializer: Option<Hook>,
    pub(super) finalizer: Option<Hook>,
    pub(super) max_tasks: u64,
    pub(super) max_memory: u64,
    /// Processors to pin workers to, in turn; empty: they are not pinned.
    pub(super) cpus: Vec<usize>,
    pub(super) nice: i32,
    pub(super) memory_reserve: Option<u64>,
}

/// Why a worker was killed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A task ran too long.
    Late(TaskId, Duration),
    /// A task that it runs was cancelled (its outcome has been told).
    Cancelled,
    /// What it wrote makes no sense.
    Corrupt,
    /// The pool is over.
    Dismissed,
}

/// A worker, from the pool's side.
pub(super) struct Worker {
    /// Never used twice.
    pub(super) number: u64,
    pub(super) process: Arc<Employee>,
    pub(super) lane: Arc<Lane>,
    /// It has come up and its initializer has run.
    pub(super) ready: bool,
    /// Tasks in its hands and its lane.
    pub(super) assigned: usize,
    /// Functions that were defined in it.
    pub(super) known: u32,
    /// When a result came, or when it got something to do.
    pub(super) heard: Instant,
    /// When its tasks were looked for last, and for how long they had not been found.
    pub(super) looked: Instant,
    pub(super) missing: Duration,
    /// It was told to end.
    pub(super) stopping: bool,
    pub(super) verdict: Option<Verdict>,
    /// What its initializer's panic said.
    pub(super) failed: Option<PanicReport>,
}

impl Worker {
    pub(super) fn name(&self) -> &str {
        self.process.name()
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it may be given tasks.
    pub(super) fn takes_tasks(&self) -> bool {
        !self.stopping
            && self.verdict.is_none()
            && self.lane.shared.leaving.load(Ordering::Relaxed) == 0
    }

    /// It was given a task.
    pub(super) fn begin(&mut self) {
        if self.assigned == 0 {
            self.heard = Instant::now();
        }
        self.assigned += 1;
    }

    /// Kills it if tasks in its name are in neither lane and not in its hand: it overwrote its lanes, and waits for what will never come.
    fn look_for_tasks(&mut self, now: Instant) {
        let passed = now.duration_since(self.looked).min(LOOK);
        self.looked = now;
        let shared = &self.lane.shared;
        // In its hand or in its lane; unless locks that nobody gives back keep it from taking and putting.
        let in_hand = self.lane.current().is_some() && !shared.results.producers_are_busy();
        let in_lane = shared.tasks.has_items() && !shared.tasks.consumers_are_busy();
        let somewhere = self.assigned == 0 || in_hand || in_lane || shared.results.has_items();
        self.missing = if somewhere {
            Duration::ZERO
        } else {
            self.missing + passed
        };
        if self.missing > LOST {
            self.condemn("tasks in its lane are gone");
        }
    }

    /// Kills it for what it wrote.
    pub(super) fn condemn(&mut self, why: &str) {
        if self.verdict.is_none() {
            tracing::error!(
                worker = self.name(),
                pid = self.pid(),
                why,
                "worker corrupted its lanes and is replaced"
            );
            self.kill(Verdict::Corrupt);
        }
    }

    pub(super) fn kill(&mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
        self.process.kill();
    }
}

impl Hub {
    /// Starts one worker.
    pub(super) fn hire(&self) -> Result<(), StartError> {
        let mut state = self.state();
        let number = state.hired;
        state.hired += 1;
        state.starting += 1;
        drop(state);
        let worker = self.start(number);
        let mut state = self.state();
        state.starting -= 1;
        let mut worker = worker.inspect_err(|_| state.refused = Some(Instant::now()))?;
        state.refused = None;
        if matches!(state.phase, Phase::Terminated | Phase::Broken(_)) {
            worker.kill(Verdict::Dismissed);
        }
        tracing::debug!(worker = worker.name(), pid = worker.pid(), "worker started");
        state.workers.push(worker);
        self.show_lanes(&state);
        self.dispatch(&mut state);
        self.release(state);
        self.announce();
        self.alarm.wake();
        Ok(())
    }

    fn start(&self, number: u64) -> Result<Worker, StartError> {
        let name = format!("{}-{}", self.settings.name, number + 1);
        let lane = Lane::new().map_err(|source| StartError::Heap {
            name: name.clone(),
            source,
        })?;
        let cpus = &self.settings.cpus;
        let cpu = usize::try_from(number)
            .unwrap_or(0)
            .checked_rem(cpus.len())
            .map(|at| cpus[at]);
        let hiring = self.settings.hiring.as_ref();
        let order = Order {
            lane: lane.clone(),
            bell: self.bell.clone(),
            initializer: self.settings.initializer.clone(),
            finalizer: self.settings.finalizer.clone(),
            max_tasks: self.settings.max_tasks,
            max_memory: self.settings.max_memory,
            cpu,
            nice: self.settings.nice,
            // Our own processes see to that themselves.
            parent: hiring.and_then(|_| ParentRef::here()),
        };
        let process = match hiring {
            Some(hiring) => hiring.hire(&order, name)?,
            None => Employee::Own(self.start_own(number, name, order)?),
        };
        Ok(Worker {
            number,
            process: Arc::new(process),
            lane: Arc::new(lane),
            ready: false,
            assigned: 0,
            known: 0,
            heard: Instant::now(),
            looked: Instant::now(),
            missing: Duration::ZERO,
            stopping: false,
            verdict: None,
            failed: None,
        })
    }

    fn start_own(
        &self,
        number: u64,
        name: String,
        order: Order,
    ) -> Result<Process<()>, StartError> {
        // There is a supervisor by now, and a process with threads is not to be forked.
        let replaces = number >= self.settings.workers as u64;
        let method = match self.settings.method {
            StartMethod::Fork if replaces => StartMethod::Spawn,
            method => method,
        };
        Process::builder(worker::run as fn(Order), order)
            .name(name)
            .daemon(true)
            // Ctrl-C is for the program, which decides; workers end with it.
            .new_process_group()
            .start_method(method)
            .start()
    }

    /// Looks which workers have ended, and deals with it.
    pub(super) fn look_after(&self) {
        loop {
            let mut state = self.state();
            let ended = state
                .workers
                .iter()
                .position(|worker| !worker.process.is_running());
            let Some(at) = ended else { break };
            let worker = state.workers.swap_remove(at);
            // Until its end has been dealt with, it counts as one that is coming.
            state.starting += 1;
            self.show_lanes(&state);
            drop(state);
            self.bury(worker);
        }
        self.refill();
    }

    fn bury(&self, mut worker: Worker) {
        // Reaps it: its locks in the lanes are free afterwards.
        let status = worker.process.bury();
        let mut state = self.state();
        worker.lane.free_locks();
        collect_from(&mut state.table, &mut worker);
        take_back(&mut state.table, &mut worker, PATIENCE);
        let held = state.held_by(worker.number);
        let left = worker.lane.shared.leaving.load(Ordering::SeqCst) != 0 || worker.stopping;
        tracing::debug!(worker = worker.name(), pid = worker.pid(), %status, held = held.len(), left, "worker has ended");
        for id in held {
            state.lose(id, &worker, status);
        }
        state.starting -= 1;
        if !worker.ready && !left && worker.verdict.is_none() {
            if is_sigkill(status) {
                state.table.killed += 1;
            } else {
                state.table.failures += 1;
            }
        }
        let broken = state.verdict_on_pool(&worker, status);
        self.dispatch(&mut state);
        self.release(state);
        if let Some(broken) = broken {
            self.break_down(broken);
        }
        self.announce();
    }

    /// Whether it is time to try again to start a worker that could not be started.
    pub(super) fn is_short(&self) -> bool {
        let refused = self.state().refused;
        refused.is_some_and(|then| then.elapsed() > TRY_AGAIN)
    }

    /// Starts workers until there are as many as there should be.
    fn refill(&self) {
        while self.state().wants_worker(self.settings.workers) {
            if let Err(error) = self.hire() {
                let mut state = self.state();
                state.table.failures += 1;
                let last_resort = state.is_deserted() && state.table.failures >= TRIES;
                drop(state);
                tracing::error!(%error, "worker cannot be started");
                if last_resort {
                    let reason = error.to_string();
                    self.break_down(Broken::Start { reason });
                }
                return;
            }
        }
    }

    fn break_down(&self, broken: Broken) {
        tracing::error!(%broken, "pool is broken");
        let error = TaskError::Broken(broken.clone());
        self.end(Phase::Broken(broken), &error);
        for worker in &mut self.state().workers {
            worker.kill(Verdict::Dismissed);
        }
        self.announce();
    }

    /// Kills all workers and waits for their ends, which come at once.
    pub(super) fn dismiss_all(&self) {
        loop {
            let workers = std::mem::take(&mut self.state().workers);
            for worker in &workers {
                worker.process.kill();
            }
            for worker in workers {
                worker.process.see_off();
            }
            self.show_lanes(&self.state());
            // One may be on its way.
            if self.state().is_deserted() {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Ends workers whose task has run too long.
    pub(super) fn expire(&self, now: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        for worker in &mut state.workers {
            worker.look_for_tasks(Instant::now());
            let Some((word, since)) = worker.lane.current() else {
                continue;
            };
            let id = TaskId::from_word(word);
            let limit = state.table.tasks.get(id).and_then(Task::timeout);
            let Some(limit) =
                limit.filter(|limit| u128::from(now.saturating_sub(since)) >= limit.as_nanos())
            else {
                continue;
            };
            if worker.verdict.is_some() {
                continue;
            }
            // So that it begins nothing else meanwhile.
            take_back(&mut state.table, worker, PATIENCE);
            if worker
                .lane
                .current()
                .is_some_and(|(still, _)| still == word)
            {
                tracing::warn!(
                    worker = worker.name(),
                    pid = worker.pid(),
                    ?limit,
                    "task ran too long; its worker is replaced"
                );
                worker.kill(Verdict::Late(id, limit));
            } else {
                collect_from(&mut state.table, worker);
            }
        }
        self.release(guard);
    }

    /// Cancels a task. `false`: it is done already, or runs, which it may go on with unless `running` says that its worker is to be killed.
    pub(super) fn cancel(&self, id: TaskId, running: bool) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        self.collect(state);
        let holder = state.table.tasks.get(id).map(|task| task.worker);
        if let Some(Some(number)) = holder
            && let Some(worker) = state
                .workers
                .iter_mut()
                .find(|worker| worker.number == number)
        {
            take_back(&mut state.table, worker, PATIENCE);
            // A result may have come while we took back.
            collect_from(&mut state.table, worker);
            let held = state
                .table
                .tasks
                .get(id)
                .is_some_and(|task| task.worker.is_some());
            if held && !running {
                self.dispatch(state);
                self.release(guard);
                return false;
            }
            if held && worker.verdict.is_none() {
                tracing::debug!(
                    worker = worker.name(),
                    "running task is cancelled; its worker is replaced"
                );
                worker.kill(Verdict::Cancelled);
            }
        }
        let cancelled = match state.table.tasks.remove(id) {
            Some(task) => {
                state.table.pending.remove(task.priority(), id);
                state
                    .table
                    .done
                    .push((task.sink, task.index, Err(TaskError::Cancelled)));
                true
            }
            None => false,
        };
        self.dispatch(state);
        self.release(guard);
        cancelled
    }

    /// Nobody wants the outcomes of this sink's tasks any more (`None`: of any): those that no worker has begun are forgotten.
    pub(super) fn abandon(&self, sink: Option<&Arc<dyn Sink>>) {
        let mut guard = self.state();
        let state = &mut *guard;
        let is_its = |task: &Task| sink.is_none_or(|sink| Arc::ptr_eq(&task.sink, sink));
        for worker in &mut state.workers {
            if worker.assigned > 1 {
                take_back(&mut state.table, worker, PATIENCE);
            }
        }
        let all = state.table.tasks.ids();
        let idle: Vec<_> = all
            .filter(|(_, task)| is_its(task) && task.worker.is_none())
            .map(|(id, task)| (id, task.priority()))
            .collect();
        for (id, priority) in idle {
            state.table.pending.remove(priority, id);
            if let Some(task) = state.table.tasks.remove(id) {
                state
                    .table
                    .done
                    .push((task.sink, task.index, Err(TaskError::Cancelled)));
            }
        }
        self.dispatch(state);
        self.release(guard);
    }

    /// Whether a worker has begun the task.
    pub(super) fn is_running(&self, id: TaskId) -> bool {
        let state = self.state();
        let word = id.to_word();
        state.workers.iter().any(|worker| {
            worker
                .lane
                .current()
                .is_some_and(|(current, _)| current == word)
        })
    }
}

impl State {
    fn held_by(&self, number: u64) -> Vec<TaskId> {
        let all = self.table.tasks.ids();
        all.filter(|(_, task)| task.worker == Some(number))
            .map(|(id, _)| id)
            .collect()
    }

    /// A task whose worker has ended.
    fn lose(&mut self, id: TaskId, worker: &Worker, status: ExitStatus) {
        let Some(task) = self.table.tasks.get(id) else {
            return;
        };
        if task.may_retry() {
            return self.table.again(id);
        }
        let function = self.table.functions.get(task.function as usize);
        let error = match worker.verdict {
            Some(Verdict::Late(late, limit)) if late == id => TaskError::TimedOut { limit },
            Some(Verdict::Dismissed) => TaskError::Terminated,
            _ => TaskError::WorkerDied(Box::new(WorkerDied {
                worker: worker.name().to_owned(),
                pid: worker.pid(),
                status,
                task: task.describe(function.map_or("?", |function| function.name)),
                peak_memory: worker.process.peak_memory(),
                likely_out_of_memory: worker.verdict.is_none()
                    && is_sigkill(status)
                    && self.memory.saw_oom_kill(),
                tries: task.failures + 1,
            })),
        };
        if let Some(task) = self.table.tasks.remove(id) {
            self.table.done.push((task.sink, task.index, Err(error)));
        }
    }

    fn wants_worker(&self, wanted: usize) -> bool {
        let there = self.workers.len() + self.starting;
        match self.phase {
            Phase::Open => there < wanted,
            Phase::Closing => self.table.tasks.len() > 0 && there < wanted,
            _ => false,
        }
    }

    /// Whether so many workers in a row failed to come up that the next would, too.
    fn verdict_on_pool(&self, last: &Worker, status: ExitStatus) -> Option<Broken> {
        let killed = self.table.killed;
        if killed >= TRIES_IF_KILLED && !last.ready {
            let (tries, hint) = (killed, "");
            return Some(Broken::Workers {
                tries,
                status,
                hint,
            });
        }
        let tries = self.table.failures;
        let no_init = last.process.is_own()
            && matches!(status, ExitStatus::Exited(code) if NO_INIT.contains(&code));
        if last.ready || tries == 0 || (tries < TRIES && !no_init) {
            return None;
        }
        if let Some(report) = &last.failed {
            let at = if report.location.is_empty() {
                String::new()
            } else {
                format!(" (at {})", report.location)
            };
            return Some(Broken::Initializer {
                tries,
                message: format!("{}{at}", report.message),
                backtrace: report.backtrace.clone(),
                detail: report.detail.clone(),
            });
        }
        let hint = if no_init {
            "; does `main` call `procession::init()` first?"
        } else {
            ""
        };
        Some(Broken::Workers {
            tries,
            status,
            hint,
        })
    }
}

fn is_sigkill(status: ExitStatus) -> bool {
    matches!(status, ExitStatus::Signaled { signal, .. } if signal == signal::KILL)
}

/// The processors that workers are pinned to.
pub(super) fn cpus_to_pin() -> Vec<usize> {
    scheduling::allowed().unwrap_or_default()
}
