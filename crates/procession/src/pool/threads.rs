//! A crew of threads of this process, or, with none, of whoever submits.
//!
//! Values are not packed: they stay where they are. A thread that waits for something of the pool whose thread it is runs other tasks meanwhile, so a
//! task may use its own pool ("nested") without all threads waiting for each other. A task that runs out of time cannot be stopped: it gets its outcome, and another thread is
//! started in the place of the one that is lost to it, until it comes back.

use super::crew::Way;
use super::error::{SubmitError, TaskError};
use super::pending::Pending;
use super::record::TaskId;
use super::task::{Job, LocalCall, Sink, Task, Tasks};
use crate::sync::raw::Deadline;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Called in each thread before its first task.
pub(super) type Initializer = Box<dyn Fn() -> Result<(), TaskError> + Send + Sync>;
/// Called in each thread after its last.
pub(super) type Finalizer = Box<dyn Fn() + Send + Sync>;

/// What a pool of threads was asked for.
pub(super) struct ThreadSettings {
    pub(super) name: String,
    pub(super) size: usize,
    pub(super) initializer: Option<Initializer>,
    pub(super) finalizer: Option<Finalizer>,
}

/// See the header.
pub(super) struct Threads {
    settings: ThreadSettings,
    state: Mutex<State>,
    /// There is something to run, or the end.
    work: Condvar,
    /// Something is done.
    done: Condvar,
    myself: Weak<Self>,
    /// The process whose threads they are: a forked copy has none.
    creator: u32,
}

#[derive(Default)]
struct State {
    closed: bool,
    terminated: bool,
    broken: Option<super::Broken>,
    tasks: Tasks,
    pending: Pending,
    /// Since when which task runs.
    running: HashMap<TaskId, Instant>,
    /// Threads that exist, those lost to tasks that ran out of time left out.
    alive: usize,
    started: usize,
    /// There is a thread that looks for tasks that run out of time.
    timekeeper: bool,
    /// Threads whose initializer failed, one after the other.
    failures: u32,
}

/// Threads whose initializer fails, one after the other, before the pool is broken.
const TRIES: u32 = 3;

thread_local! {
    /// The crew that this thread belongs to.
    static MINE: Cell<usize> = const { Cell::new(0) };
}

impl Threads {
    pub(super) fn new(settings: ThreadSettings) -> std::io::Result<Arc<Self>> {
        let this = Arc::new_cyclic(|myself| Self {
            settings,
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            done: Condvar::new(),
            myself: Weak::clone(myself),
            creator: std::process::id(),
        });
        for _ in 0..this.settings.size {
            this.start(&mut this.state())?;
        }
        if this.settings.size == 0
            && let Some(initializer) = &this.settings.initializer
            && let Err(error) = initializer()
        {
            this.state().broken = Some(broken(1, &error));
        }
        Ok(this)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_ours(&self) -> bool {
        self.creator == std::process::id()
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    pub(super) fn size(&self) -> usize {
        self.settings.size
    }

    fn start(&self, state: &mut State) -> std::io::Result<()> {
        let Some(this) = self.myself.upgrade() else {
            return Ok(());
        };
        state.started += 1;
        let name = format!("{}-{}", self.settings.name, state.started);
        std::thread::Builder::new()
            .name(name)
            .spawn(move || this.live())?;
        state.alive += 1;
        Ok(())
    }

    /// The life of a thread.
    fn live(&self) {
        MINE.set(self.key());
        if !self.initialize() {
            return;
        }
        let mut state = self.state();
        loop {
            if let Some((id, call)) = state.begin() {
                drop(state);
                let here = self.run(id, call);
                state = self.state();
                if !here {
                    // Another thread has this one's place.
                    break;
                }
            } else if state.closed {
                state.alive -= 1;
                break;
            } else {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
        drop(state);
        if let Some(finalizer) = &self.settings.finalizer {
            finalizer();
        }
        self.work.notify_all();
        self.done.notify_all();
    }

    fn initialize(&self) -> bool {
        let Some(initializer) = &self.settings.initializer else {
            return true;
        };
        let result = initializer();
        let mut state = self.state();
        let Err(error) = result else {
            state.failures = 0;
            return true;
        };
        state.alive -= 1;
        state.failures += 1;
        if state.failures >= TRIES.min(self.settings.size as u32) {
            let broken = broken(state.failures, &error);
            tracing::error!(%broken, "pool is broken");
            state.broken = Some(broken.clone());
            state.closed = true;
            let left = state.drain();
            drop(state);
            self.deliver(left, &TaskError::Broken(broken));
        } else if self.start(&mut state).is_err() {
            state.closed = true;
        }
        self.work.notify_all();
        false
    }

    /// Runs a task that was begun. `false`: it ran out of time meanwhile, and this thread was replaced.
    fn run(&self, id: TaskId, mut call: LocalCall) -> bool {
        let outcome = call();
        let mut state = self.state();
        let here = state.running.remove(&id).is_some();
        let Some(task) = state.tasks.get_mut(id).filter(|_| here) else {
            return here;
        };
        if matches!(outcome, Err(TaskError::Panicked { .. })) && task.may_retry() {
            task.job = Job::Local(call);
            task.failures += 1;
            let priority = task.priority();
            state.pending.push_front(priority, id);
            drop(state);
            self.work.notify_one();
        } else if let Some(task) = state.tasks.remove(id) {
            drop(state);
            task.sink.complete(task.index, outcome);
            self.announce();
        }
        here
    }

    pub(super) fn submit(&self, call: LocalCall, way: Way) -> Result<TaskId, SubmitError> {
        if !self.is_ours() {
            return Err(SubmitError::NotOurs);
        }
        let mut state = self.state();
        if let Some(broken) = &state.broken {
            return Err(SubmitError::Broken(broken.clone()));
        }
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let task = Task::new((way.sink, way.index), 0, Job::Local(call), way.options);
        let (priority, timed) = (task.priority(), task.timeout().is_some());
        let id = state.tasks.add(task);
        state.pending.push(priority, id);
        if timed && !state.timekeeper && self.settings.size > 0 {
            state.timekeeper = self.keep_time();
        }
        drop(state);
        if self.settings.size == 0 {
            while self.run_one() {}
        } else {
            self.work.notify_one();
        }
        Ok(id)
    }

    /// Runs one pending task in this thread, if there is one.
    fn run_one(&self) -> bool {
        let begun = self.state().begin();
        if let Some((id, call)) = begun {
            self.run(id, call);
            return true;
        }
        false
    }

    pub(super) fn wait(&self, is_done: &dyn Fn() -> bool, deadline: Deadline) -> bool {
        if !self.is_ours() {
            return is_done();
        }
        let helps = MINE.get() == self.key() || self.settings.size == 0;
        loop {
            if is_done() {
                return true;
            }
            if helps && self.run_one() {
                continue;
            }
            let state = self.state();
            // Under the lock: whoever completes something takes it before it notifies.
            if is_done() {
                return true;
            }
            let slice = if helps {
                Duration::from_millis(5)
            } else {
                Duration::from_secs(60)
            };
            let left = deadline.map_or(slice, |deadline| {
                deadline
                    .saturating_duration_since(Instant::now())
                    .min(slice)
            });
            if left.is_zero() {
                return false;
            }
            drop(
                self.done
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }

    pub(super) fn cancel(&self, id: TaskId) -> bool {
        if !self.is_ours() {
            return false;
        }
        let mut state = self.state();
        let waits = state
            .tasks
            .get(id)
            .is_some_and(|_| !state.running.contains_key(&id));
        let task = if waits { state.tasks.remove(id) } else { None };
        let Some(task) = task else { return false };
        state.pending.remove(task.priority(), id);
        drop(state);
        self.deliver(vec![task], &TaskError::Cancelled);
        true
    }

    pub(super) fn is_running(&self, id: TaskId) -> bool {
        self.is_ours() && self.state().running.contains_key(&id)
    }

    pub(super) fn abandon(&self, sink: Option<&Arc<dyn Sink>>) {
        if !self.is_ours() {
            return;
        }
        let mut state = self.state();
        let all = state.tasks.ids();
        let idle: Vec<_> = all
            .filter(|(id, task)| {
                sink.is_none_or(|sink| Arc::ptr_eq(&task.sink, sink))
                    && !state.running.contains_key(id)
            })
            .map(|(id, task)| (id, task.priority()))
            .collect();
        let mut left = Vec::with_capacity(idle.len());
        for (id, priority) in idle {
            state.pending.remove(priority, id);
            left.extend(state.tasks.remove(id));
        }
        drop(state);
        self.deliver(left, &TaskError::Cancelled);
    }

    /// Has those who wait look again.
    pub(super) fn announce(&self) {
        drop(self.state());
        self.done.notify_all();
    }

    fn deliver(&self, tasks: Vec<Task>, error: &TaskError) {
        for task in tasks {
            task.sink.complete(task.index, Err(error.clone()));
        }
        self.announce();
    }

    /// Whether it was closed, and all is done.
    pub(super) fn has_finished(&self) -> bool {
        let state = self.state();
        state.closed && state.tasks.len() == 0 && state.alive == 0
    }

    pub(super) fn close(&self) {
        if !self.is_ours() {
            return;
        }
        self.state().closed = true;
        self.work.notify_all();
    }

    pub(super) fn join(&self, deadline: Deadline) -> bool {
        self.close();
        let me = usize::from(MINE.get() == self.key());
        self.wait(
            &|| {
                let Ok(state) = self.state.try_lock() else {
                    return false;
                };
                state.tasks.len() == 0 && state.alive <= me
            },
            deadline,
        )
    }

    /// Nothing more is begun; what runs goes on, and nobody hears of it.
    pub(super) fn terminate(&self) {
        if !self.is_ours() {
            return;
        }
        let mut state = self.state();
        state.closed = true;
        state.terminated = true;
        let left = state.drain();
        drop(state);
        self.deliver(left, &TaskError::Terminated);
        self.work.notify_all();
    }

    /// Starts the thread that looks for tasks that run out of time; whether there is one.
    fn keep_time(&self) -> bool {
        let Some(this) = self.myself.upgrade() else {
            return false;
        };
        let name = format!("{}-timekeeper", self.settings.name);
        let thread = std::thread::Builder::new().name(name);
        thread.spawn(move || this.watch_time()).is_ok()
    }

    fn watch_time(&self) {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let (late, next) = state.late(now);
            for (id, limit) in late {
                self.give_up_on(&mut state, id, limit);
            }
            if state.closed && state.tasks.len() == 0 {
                return;
            }
            let pause = next.map_or(Duration::from_millis(50), |next| {
                next.saturating_duration_since(now)
            });
            let pause = pause.clamp(Duration::from_micros(100), Duration::from_millis(50));
            state = self
                .done
                .wait_timeout(state, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// A task ran out of time: it gets its outcome, and its thread a successor.
    fn give_up_on(&self, state: &mut State, id: TaskId, limit: Duration) {
        state.running.remove(&id);
        state.alive -= 1;
        let Some(task) = state.tasks.remove(id) else {
            return;
        };
        if self.start(state).is_err() {
            tracing::error!("no thread for the one that is lost to a task that ran too long");
        }
        // The sink of a future takes no lock of ours.
        task.sink
            .complete(task.index, Err(TaskError::TimedOut { limit }));
        self.done.notify_all();
    }
}

impl State {
    /// Begins the next pending task.
    fn begin(&mut self) -> Option<(TaskId, LocalCall)> {
        while let Some(id) = self.pending.pop() {
            let Some(task) = self.tasks.get_mut(id) else {
                continue;
            };
            if let Job::Local(call) = std::mem::replace(&mut task.job, Job::Sent) {
                self.running.insert(id, Instant::now());
                return Some((id, call));
            }
        }
        None
    }

    fn drain(&mut self) -> Vec<Task> {
        self.pending.clear();
        self.running.clear();
        self.tasks.drain()
    }

    /// Tasks that have run out of time, and when the next one does.
    fn late(&self, now: Instant) -> (Vec<(TaskId, Duration)>, Option<Instant>) {
        let mut next: Option<Instant> = None;
        let mut late = Vec::new();
        for (&id, &since) in &self.running {
            let Some(limit) = self.tasks.get(id).and_then(Task::timeout) else {
                continue;
            };
            match since.checked_add(limit) {
                Some(end) if end <= now => late.push((id, limit)),
                Some(end) => next = Some(next.map_or(end, |next| next.min(end))),
                None => {}
            }
        }
        (late, next)
    }
}

fn broken(tries: u32, error: &TaskError) -> super::Broken {
    let backtrace = match error {
        TaskError::Panicked { backtrace, .. } => backtrace.clone(),
        _ => String::new(),
    };
    super::Broken::Initializer {
        tries,
        message: error.to_string(),
        backtrace,
        detail: Vec::new(),
    }
}
