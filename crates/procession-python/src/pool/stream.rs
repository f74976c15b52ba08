//! Results of a map as they come.
//!
//! The items come from an iterator that the taker of results reads himself, as far as there is room ([`PyStream::next`]), or, where reading it may block or run for long, from a thread of
//! its own that pushes them ([`PyFeeder::push`]). Nothing waits while it holds a lock.
//!
//! A forked copy has the results that were there at the fork. It reads no more of the input, which its parent reads.

use super::call::{Call, Kind, Reply};
use super::crew::{Options, PyCrew, left, lock_unless_left, task_options};
use super::function::Shipped;
use super::map::Calls;
use super::outcome::{Manner, settle};
use super::worker::answer;
use crate::error::at_end_of_object;
use crate::wait::{Deadline, deadline_after, wait};
use procession::{Feed, FeedWaiter};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::import_exception;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyIterator, PyList};
use pyo3::{PyTraverseError, PyVisit};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

import_exception!(multiprocessing, TimeoutError);

/// Longest wait for a push before signals are looked after.
const SLICE: Duration = Duration::from_millis(20);

/// A lazy map of a crew. If it goes before anybody asked for a result, all items are dealt with all the same; after that, what no worker has begun is forgotten.
#[pyclass(
    frozen,
    subclass,
    weakref,
    module = "procession._procession",
    name = "Stream"
)]
pub(crate) struct PyStream {
    core: Arc<Core>,
    asked: AtomicBool,
}

/// Pushes the items of a stream, which may go before.
#[pyclass(frozen, module = "procession._procession", name = "Feeder")]
pub(crate) struct PyFeeder {
    core: Arc<Core>,
}

/// What the stream and its feeder share.
struct Core {
    crew: Py<PyCrew>,
    kind: Kind,
    manner: Manner,
    function: Py<PyAny>,
    shipped: Arc<Shipped>,
    waiter: FeedWaiter,
    /// Read by whoever takes results; `None` at its end, and if items are pushed.
    input: Mutex<Option<Py<PyIterator>>>,
    state: Mutex<State>,
    /// Something was pushed, taken, or is over.
    changed: Condvar,
}

struct State {
    feed: Option<Feed<Call, Reply>>,
    /// Results of the chunk that is being handed out.
    current: VecDeque<Py<PyAny>>,
    /// Items will be pushed.
    open: bool,
    /// Nobody will take results.
    unwanted: bool,
    /// Exceptions of items that could not be pickled, in order.
    unsent: VecDeque<PyErr>,
    /// The iterable's own, after all results.
    end: Option<PyErr>,
}

impl State {
    fn in_flight(&self) -> usize {
        self.feed.as_ref().map_or(0, Feed::in_flight)
    }

    fn room(&self) -> usize {
        self.feed.as_ref().map_or(0, Feed::room)
    }

    fn try_next(&mut self) -> Option<Result<Reply, procession::TaskError>> {
        self.feed.as_mut().and_then(Feed::try_next)
    }
}

thread_local! {
    /// The streams whose input this thread reads, innermost last.
    static READING: RefCell<Vec<*const Core>> = const { RefCell::new(Vec::new()) };
}

/// This thread reads the input of a stream.
///
/// Meanwhile code of the program runs, which may want the same: pickling of an item, a signal's handler that closes the pool.
struct Reading;

impl Reading {
    /// `None`: it does already.
    fn begin(core: &Core) -> Option<Self> {
        let core = std::ptr::from_ref(core);
        READING.with_borrow_mut(|streams| {
            if streams.contains(&core) {
                return None;
            }
            streams.push(core);
            Some(Self)
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.with_borrow_mut(Vec::pop);
    }
}

/// Takes what comes next, if it is there.
type Take = for<'py> fn(&Core, Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>>;

/// What a look for what comes next finds.
enum Look<'py> {
    Found(PyResult<Bound<'py, PyAny>>),
    /// Results are on their way.
    Wait,
    /// Nothing is, but something will be pushed.
    WaitForPush,
    End,
}

impl Core {
    fn is_ours(&self) -> bool {
        self.crew.get().is_ours()
    }

    fn state(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, State>> {
        lock_unless_left(py, &self.state, || self.is_ours()).ok_or_else(lost)
    }

    /// Looks for what `take` finds.
    fn look<'py>(&self, py: Python<'py>, take: Take) -> PyResult<Look<'py>> {
        if let Some(found) = take(self, py) {
            return Ok(Look::Found(found));
        }
        let filled = self.fill(py)?;
        if let Some(found) = take(self, py) {
            return Ok(Look::Found(found));
        }
        let mut state = self.state(py)?;
        if state.in_flight() > 0 {
            return Ok(Look::Wait);
        }
        if !filled {
            return Err(PyRuntimeError::new_err(
                "the items of this map are just being read",
            ));
        }
        if state.open {
            return Ok(Look::WaitForPush);
        }
        Ok(state
            .end
            .take()
            .map_or(Look::End, |error| Look::Found(Err(error))))
    }

    /// The next result, if it is there.
    fn take<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let next = self.state(py).map(|mut state| state.current.pop_front());
        if let Some(next) = next.transpose() {
            return Some(next.map(|result| result.into_bound(py)));
        }
        match self.take_answer(py)? {
            Ok(results) if self.kind.is_chunk() => self.open_chunk(&results),
            answer => Some(answer),
        }
    }

    /// The next answer, if it is there: a result, or the list of results of a chunk.
    fn take_answer<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let mut state = match self.state(py) {
            Ok(state) => state,
            Err(error) => return Some(Err(error)),
        };
        let outcome = state.try_next()?;
        if matches!(outcome, Ok(Reply::Absent)) {
            return Some(Err(state.unsent.pop_front().unwrap_or_else(lost)));
        }
        drop(state);
        self.changed.notify_all();
        Some(match settle(py, self.manner, &self.function, outcome) {
            Ok(answer) => Ok(answer.into_bound(py)),
            Err(error) => Err(PyErr::from_value(error.into_bound(py))),
        })
    }

    /// The first result of a chunk; the others are next.
    fn open_chunk<'py>(&self, results: &Bound<'py, PyAny>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let list = match results.cast::<PyList>() {
            Ok(list) => list,
            Err(error) => return Some(Err(error.into())),
        };
        let mut results = list.iter();
        let first = results.next();
        let rest = results.map(Bound::unbind);
        match self.state(list.py()) {
            Ok(mut state) => state.current.extend(rest),
            Err(error) => return Some(Err(error)),
        }
        first.map(Ok)
    }

    /// Reads and submits items while there is room. `false`: this thread does so already, and goes on when what interrupts it has returned.
    fn fill(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(_reading) = Reading::begin(self) else {
            return Ok(false);
        };
        if !self.is_ours() {
            return match self.input.try_lock().as_deref() {
                Ok(None) => Ok(true),
                _ => Err(lost()),
            };
        }
        let input = self.input.lock_py_attached(py);
        let mut input = input.unwrap_or_else(PoisonError::into_inner);
        while let Some(items) = &*input {
            let room = self.state(py)?.room();
            if room == 0 {
                break;
            }
            if !self.submit(py, items.bind(py).clone(), room)? {
                *input = None;
            }
        }
        Ok(true)
    }

    /// Submits up to `most` items; `false`: there are no more.
    fn submit(&self, py: Python<'_>, items: Bound<'_, PyIterator>, most: usize) -> PyResult<bool> {
        let mut calls = Calls {
            kind: self.kind,
            shipped: &self.shipped,
            items,
            errors: Vec::new(),
            end: None,
        };
        let batch: Vec<_> = calls.by_ref().take(most).collect();
        let more = batch.len() == most;
        let Calls { errors, end, .. } = calls;
        let mut state = self.state(py)?;
        state.unsent.extend(errors);
        state.end = end.or(state.end.take());
        let feed = state.feed.as_mut().ok_or_else(lost)?;
        if !batch.is_empty() {
            let pushed = feed.push(batch);
            pushed.map_err(|error| self.crew.get().refusal(py, error))?;
        }
        drop(state);
        self.changed.notify_all();
        Ok(more)
    }

    fn wait_for_change(&self, until: Instant) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.in_flight() == 0 && state.open {
            let slice = left(until).min(SLICE);
            drop(self.changed.wait_timeout(state, slice));
        }
    }

    fn wait(&self, py: Python<'_>, deadline: Deadline, for_push: bool) -> PyResult<bool> {
        if !self.is_ours() {
            return Err(lost());
        }
        let waited = wait(py, deadline, |until| {
            if for_push {
                self.wait_for_change(until);
                return (Instant::now() < until).then_some(());
            }
            self.waiter.wait_timeout(left(until)).then_some(())
        })?;
        Ok(waited.is_some())
    }
}

fn lost() -> PyErr {
    PyRuntimeError::new_err("the results of this map are gone")
}

impl Core {
    /// Reads as much of the input as there is room for, without waiting.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        self.fill(py)?;
        if let Some(feed) = &self.state(py)?.feed {
            feed.entrust();
        }
        Ok(())
    }

    /// Reads all of the input now, or has it pushed, without regard to whoever takes results.
    fn read_all(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(feed) = &mut self.state(py)?.feed {
            feed.set_look_ahead(usize::MAX);
        }
        self.changed.notify_all();
        self.start(py)
    }

    /// Takes no more items, and forgets what no worker has begun.
    fn give_up(&self, py: Python<'_>) {
        let Ok(mut state) = self.state(py) else {
            return;
        };
        state.open = false;
        let feed = state.feed.take();
        drop(state);
        self.changed.notify_all();
        py.detach(|| drop(feed));
    }

    /// Lets go of tasks whose results nobody wants, once all were submitted.
    fn let_go(&self, state: &mut State) {
        if state.unwanted
            && !state.open
            && let Some(feed) = state.feed.take()
        {
            let shipped = Arc::clone(&self.shipped);
            feed.let_run(move || drop(shipped));
        }
    }

    /// For the collector of cycles: the function of a map may lead to whoever has its results.
    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.crew)?;
        visit.call(&self.function)?;
        // What is locked is in use, and no garbage.
        if let Ok(input) = self.input.try_lock() {
            visit.call(&*input)?;
        }
        let Ok(state) = self.state.try_lock() else {
            return Ok(());
        };
        state
            .current
            .iter()
            .try_for_each(|result| visit.call(result))
    }

    /// Takes out of garbage what it refers to.
    fn clear(&self) {
        let input = self
            .input
            .try_lock()
            .ok()
            .and_then(|mut input| input.take());
        let state = self.state.try_lock();
        let results = state.map(|mut state| std::mem::take(&mut state.current));
        drop((input, results));
    }

    /// Nobody will take the results.
    fn let_run(&self, py: Python<'_>) {
        if !self.is_ours() {
            return;
        }
        // What cannot be read or submitted now is nobody's concern.
        let _ = self.read_all(py);
        if let Ok(mut state) = self.state(py) {
            state.unwanted = true;
            self.let_go(&mut state);
        }
    }
}

#[pymethods]
impl PyStream {
    /// Begin a map.
    ///
    /// Args:
    ///     crew: Whose.
    ///     kind: How items are to be taken.
    ///     function: What is called.
    ///     items: An iterator that can be read at any time, by whoever takes results; `None`: items will be pushed by a feeder.
    ///     ordered: Whether results come in the order of the items.
    ///     look_ahead: How many items may be ahead of the taker; `None`: as many as is sensible.
    ///     options: Time limit, retries, priority, name.
    #[new]
    #[pyo3(signature = (crew, kind, function, items, ordered, look_ahead = None, options = None))]
    fn new(
        crew: &Bound<'_, PyCrew>,
        kind: Kind,
        function: &Bound<'_, PyAny>,
        items: Option<&Bound<'_, PyAny>>,
        ordered: bool,
        look_ahead: Option<usize>,
        options: Option<Options>,
    ) -> PyResult<Self> {
        let of = crew.get();
        let mut feed = of.executor()?.feed(answer as fn(Call) -> Reply, ordered);
        if let Some(options) = options {
            feed = feed.options(task_options(options)?);
        }
        if let Some(look_ahead) = look_ahead {
            feed.set_look_ahead(look_ahead);
        }
        let input = items.map(|items| items.try_iter()).transpose()?;
        let core = Core {
            crew: crew.clone().unbind(),
            kind,
            manner: of.manner,
            function: function.clone().unbind(),
            shipped: of.functions.many(function)?,
            waiter: feed.waiter(),
            input: Mutex::new(input.map(Bound::unbind)),
            state: Mutex::new(State {
                feed: Some(feed),
                current: VecDeque::new(),
                open: items.is_none(),
                unwanted: false,
                unsent: VecDeque::new(),
                end: None,
            }),
            changed: Condvar::new(),
        };
        Ok(Self {
            core: Arc::new(core),
            asked: AtomicBool::new(false),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // What a feeder uses, too, is no garbage, and visited twice it would count twice.
        if Arc::strong_count(&self.core) > 1 {
            return Ok(());
        }
        self.core.visit(&visit)
    }

    fn __clear__(&self) {
        self.core.clear();
    }

    /// Return the next result; `StopIteration` at the end, `TimeoutError` of `multiprocessing` if it does not come in time.
    #[pyo3(signature = (timeout = None))]
    fn next<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        self.asked.store(true, Ordering::Relaxed);
        let deadline = deadline_after(timeout)?;
        loop {
            let for_push = match self.core.look(py, Core::take)? {
                Look::Found(result) => return result,
                Look::End => return Err(PyStopIteration::new_err(())),
                Look::Wait => false,
                Look::WaitForPush => true,
            };
            if !self.core.wait(py, deadline, for_push)? {
                return Err(TimeoutError::new_err(()));
            }
        }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.next(py, None)
    }

    /// Return all results that are left, in a list; at the first exception, wait for the others all the same, and raise it.
    fn collect<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.asked.store(true, Ordering::Relaxed);
        let begun = std::mem::take(&mut self.core.state(py)?.current);
        let results = PyList::new(py, begun)?;
        let mut first = None;
        loop {
            match self.core.look(py, Core::take_answer)? {
                Look::Found(Ok(answer)) => self.core.kind.add(&results, answer)?,
                Look::Found(Err(error)) => first = first.or(Some(error)),
                Look::End => break,
                Look::Wait => drop(self.core.wait(py, None, false)?),
                Look::WaitForPush => drop(self.core.wait(py, None, true)?),
            }
        }
        first.map_or(Ok(results), Err)
    }

    /// Read as much of the input as there is room for, without waiting.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        self.core.start(py)
    }

    /// Read all of the input now, and do not wait for whoever takes results.
    fn read_all(&self, py: Python<'_>) -> PyResult<()> {
        self.core.read_all(py)
    }

    /// Whether there may be more items than were submitted.
    fn is_open(&self, py: Python<'_>) -> bool {
        // While it is locked it is being read, maybe by this thread.
        let unread = self
            .core
            .input
            .try_lock()
            .map_or(true, |input| input.is_some());
        unread || self.core.state(py).is_ok_and(|state| state.open)
    }

    /// Return what pushes the items.
    fn feeder(&self) -> PyFeeder {
        PyFeeder {
            core: Arc::clone(&self.core),
        }
    }

    /// Take no more items, and forget what no worker has begun.
    fn give_up(&self, py: Python<'_>) {
        self.core.give_up(py);
    }
}

impl Drop for PyStream {
    fn drop(&mut self) {
        // Without an interpreter there is nothing to be read or run any more.
        at_end_of_object(|py| {
            if *self.asked.get_mut() {
                self.core.give_up(py);
            } else {
                self.core.let_run(py);
            }
        });
    }
}

#[pymethods]
impl PyFeeder {
    /// Wait until there is room, and return for how many items; 0: nobody wants any.
    fn wait_for_room(&self, py: Python<'_>) -> PyResult<usize> {
        let core = &self.core;
        if !core.is_ours() {
            return Ok(0);
        }
        let found = wait(py, None, |_| {
            let state = core.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.feed.is_none() || !state.open {
                return Some(0);
            }
            let room = state.room();
            if room > 0 {
                return Some(room);
            }
            drop(core.changed.wait_timeout(state, SLICE));
            None
        })?;
        Ok(found.unwrap_or(0))
    }

    /// Submit items.
    fn push(&self, py: Python<'_>, items: &Bound<'_, PyList>) -> PyResult<()> {
        self.core.submit(py, items.try_iter()?, items.len())?;
        if let Some(feed) = &self.core.state(py)?.feed {
            feed.entrust();
        }
        Ok(())
    }

    /// Say that nothing more will be pushed, and why not.
    #[pyo3(signature = (error = None))]
    fn finish(&self, py: Python<'_>, error: Option<Bound<'_, PyAny>>) {
        let Ok(mut state) = self.core.state(py) else {
            return;
        };
        state.open = false;
        if let Some(error) = error {
            state.end = Some(PyErr::from_value(error));
        }
        self.core.let_go(&mut state);
        drop(state);
        self.core.changed.notify_all();
    }
}
