//! The worker's side: takes one task at a time, runs it, puts the result.
//!
//! ```text
//! take a record (one commit) -> current = its id -> run -> put the result (one commit) -> current = 0 -> ring, perhaps
//! ```
//!
//! **Held.** Between the commit of the take and the commit of the put the worker holds one task, and no more: what it has not taken is in its lane, and what
//! it has put is in the other.
//!
//! **Rings.** A pool that sleeps costs a system call to wake. While there are more tasks in the lane, the bell is rung only once in [`RING_EVERY`], unless the
//! function that comes next is known to take long. A ring that is owed when the worker dies is made good for by the pool's supervisor, which hears of the death.
//!
//! **Forks.** A task may fork and come back twice; the copy is not this worker and ends at once.

use super::context::Context;
use super::lane::{Lane, PoolBell, SharedWorker};
use super::record::{DEFINE, HEAD, Packed, ResultHead, STOP, Tag, TaskHead};
use crate::atomic::Ordering;
use crate::channel::{
    Delivery, GetFault, INLINE_MAX, Parcel, PutFault, Sink, pack, pack_block, pack_hold,
};
use crate::family::Owner;
use crate::heap::{HeapError, Hold, Shared, ShortWait, myself};
use crate::process::embed::interruptible;
use crate::process::{PanicReport, ParentRef};
use crate::sync::raw::RawBell;
use crate::sys::call::{Call, Resolved};
use crate::sys::clock::monotonic_ns;
use crate::sys::fork::exit_now;
use crate::sys::limits::process_memory;
use crate::sys::scheduling::{be_nicer, pin};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// A sleeping pool is woken at most this often while there is more to do.
const RING_EVERY: u64 = 250_000;
/// A function that took longer than this the last time is not begun while a ring is owed.
const LONG: u32 = 1_000_000;
/// The worker looks at its memory at most this often.
const LOOK_EVERY: u64 = 10_000_000;

/// The longest wait for a task.
const LOOK_UP_EVERY: Duration = Duration::from_secs(3600);

/// Exit code of a worker whose initializer failed.
pub(super) const INITIALIZER_FAILED: i32 = 196;

/// What a worker must know: the argument of its process, or, if an embedder starts it, its [`Boot`](super::recruit).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) lane: Lane,
    pub(super) bell: PoolBell,
    pub(super) initializer: Option<Hook>,
    pub(super) finalizer: Option<Hook>,
    /// Tasks before it leaves; 0: no limit.
    pub(super) max_tasks: u64,
    /// Resident bytes after which it leaves; 0: no limit.
    pub(super) max_memory: u64,
    pub(super) cpu: Option<usize>,
    /// How much nicer it is than its pool's process.
    pub(super) nice: i32,
    /// With whom it dies, if whoever starts it does not see to that.
    pub(super) parent: Option<ParentRef>,
}

/// A function to be called in each worker, with its argument.
#[derive(Debug)]
pub(super) struct Hook {
    pub(super) call: Call,
    /// As in a record: an empty header, then the argument.
    pub(super) argument: Packed,
}

impl Clone for Hook {
    fn clone(&self) -> Self {
        let Packed { bytes, holds } = &self.argument;
        let argument = Packed {
            bytes: bytes.clone(),
            holds: holds.iter().map(Hold::again).collect(),
        };
        Self {
            call: self.call,
            argument,
        }
    }
}

impl Serialize for Hook {
    /// Inside a message only: the objects in the argument travel with it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        for hold in &self.argument.holds {
            pack_hold(|| hold.again());
        }
        (self.call, &self.argument.bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (call, bytes) = Deserialize::deserialize(deserializer)?;
        // The pool keeps the objects alive.
        let holds = Vec::new();
        Ok(Self {
            call,
            argument: Packed { bytes, holds },
        })
    }
}

thread_local! {
    /// The lanes of this worker, in the thread that runs its tasks.
    static SHARED: RefCell<Option<Shared<SharedWorker>>> = const { RefCell::new(None) };
}

/// Where panics abort: the task has panicked, says the worker before it ends.
pub(super) fn last_words(report: &PanicReport) {
    let Some(shared) = SHARED.with_borrow(Clone::clone) else {
        return;
    };
    let head = ResultHead {
        id: shared.current.load(Ordering::Relaxed),
        nanos: 0,
        tag: Tag::Panicked,
    };
    let mut bytes = head.to_bytes().to_vec();
    if pack(report, &mut bytes).is_ok() && bytes.len() <= INLINE_MAX {
        let _ = shared
            .results
            .try_put(shared.container(), &mut Parcel::Inline(&bytes));
    }
}

/// The lanes of the worker that runs the calling task.
#[cfg(test)]
pub(super) fn my_lanes() -> Option<Shared<SharedWorker>> {
    SHARED.with_borrow(Clone::clone)
}

/// The function of a worker's process.
pub(super) fn run(order: Order) {
    let code = serve(&order, &mut || true);
    if code != 0 {
        // In order, but not as if nothing had happened.
        std::process::exit(code);
    }
}

/// The life of a worker, in the thread that runs its tasks; the exit code that its process should have. After a signal, `signalled` says whether to go on.
pub(super) fn serve(order: &Order, signalled: &mut dyn FnMut() -> bool) -> i32 {
    let Some(me) = myself() else { return 0 };
    SHARED.set(Some(order.lane.shared.clone()));
    order.settle_in();
    let code = Worker::new(order, me).live(signalled);
    // Threads end before what they keep is dropped; a process that goes on must not be taken for a worker.
    SHARED.set(None);
    code
}

/// Says why a worker does not begin.
pub(super) fn resign(order: &Order, tag: Tag, report: PanicReport) {
    let Some(me) = myself() else { return };
    let mut worker = Worker::new(order, me);
    worker.context.clear();
    worker.context.report(report);
    worker.put(0, 0, tag);
    worker.ring(monotonic_ns());
}

impl Order {
    fn settle_in(&self) {
        if let Some(cpu) = self.cpu
            && let Err(error) = pin(cpu)
        {
            tracing::warn!(cpu, %error, "worker is not pinned");
        }
        if self.nice != 0
            && let Err(error) = be_nicer(self.nice)
        {
            tracing::warn!(%error, "worker is no nicer");
        }
    }
}

/// A function that the pool defined: how to call it, or why not; and how long it took the last time.
struct Function {
    call: Result<Resolved<Context>, String>,
    nanos: u32,
}

pub(super) struct Worker<'a> {
    me: Owner,
    shared: &'a Shared<SharedWorker>,
    bell: &'a RawBell,
    context: Context,
    functions: Vec<Function>,
    done: u64,
    /// When the bell was rung last.
    rung: u64,
    /// A result was put since.
    owed: bool,
    /// When memory was looked at last.
    looked: u64,
    /// The pool wants no more results.
    unwanted: Cell<bool>,
    /// When the last task ended, if nothing has taken time since: the next one begins then. A look at the clock is a good part of a tiny task.
    ended: Cell<Option<u64>>,
    order: &'a Order,
}

/// What came from the pool.
pub(super) enum Came {
    Task(TaskHead),
    Defined,
    /// A signal, where those end waits, or none for a long time.
    Nothing,
    Stop,
}

impl<'a> Worker<'a> {
    pub(super) fn new(order: &'a Order, me: Owner) -> Self {
        Self {
            me,
            shared: &order.lane.shared,
            bell: order.bell.bell(),
            context: Context::default(),
            functions: Vec::new(),
            done: 0,
            rung: 0,
            owed: false,
            looked: monotonic_ns(),
            unwanted: Cell::new(false),
            ended: Cell::new(None),
            order,
        }
    }

    fn live(mut self, signalled: &mut dyn FnMut() -> bool) -> i32 {
        if !self.initialize() {
            return INITIALIZER_FAILED;
        }
        while !self.unwanted.get() {
            match self.take() {
                Some(Came::Task(head)) => self.carry_out(head),
                Some(Came::Defined) => {}
                Some(Came::Nothing) if signalled() => {}
                Some(Came::Nothing) => self.shared.leaving.store(1, Ordering::SeqCst),
                Some(Came::Stop) | None => break,
            }
            // If the word says so already, a task overwrote it, and the pool gives us nothing more.
            if self.is_worn_out() || self.shared.leaving.load(Ordering::Relaxed) != 0 {
                self.shared.leaving.store(1, Ordering::SeqCst);
                break;
            }
        }
        if let Some(finalizer) = &self.order.finalizer
            && let Some(tag) = self
                .call_hook(finalizer)
                .filter(|tag| *tag != Tag::Returned)
        {
            tracing::error!(?tag, "finalizer of a worker failed");
        }
        self.ring(monotonic_ns());
        0
    }

    /// Runs the initializer and says that the worker is ready. `false`: it failed.
    fn initialize(&mut self) -> bool {
        let tag = self
            .order
            .initializer
            .as_ref()
            .and_then(|hook| self.call_hook(hook));
        match tag {
            None | Some(Tag::Returned) => {
                self.context.clear();
                self.put(0, 0, Tag::Ready);
                self.ring(monotonic_ns());
                true
            }
            Some(tag) => {
                let said = if tag == Tag::Panicked {
                    Tag::InitializerFailed
                } else {
                    tag
                };
                self.put(0, 0, said);
                self.ring(monotonic_ns());
                false
            }
        }
    }

    fn call_hook(&self, hook: &Hook) -> Option<Tag> {
        self.context.load(&hook.argument.bytes);
        Some(match hook.call.resolve::<Context>() {
            Ok(call) => self.context.call(&call),
            Err(error) => self.context.say(Tag::FunctionNotFound, &error.to_string()),
        })
    }

    /// Takes the next record; `None`: there will be none, or it cannot be read.
    pub(super) fn take(&mut self) -> Option<Came> {
        self.context.clear();
        let me = self.shared.container();
        let taken = self.shared.tasks.try_get(me, &mut Arrival(&self.context));
        if taken == Err(GetFault::Empty) {
            if self.owed {
                self.ring(monotonic_ns());
            }
            self.ended.set(None);
            let mut arrival = Arrival(&self.context);
            // Only a wait with a limit ends by a signal.
            let limit = Some(Instant::now() + LOOK_UP_EVERY);
            match interruptible(|| self.shared.tasks.get(me, &mut arrival, limit)) {
                Ok(()) => {}
                Err(GetFault::TimedOut) => return Some(Came::Nothing),
                Err(_) => return None,
            }
        } else {
            taken.ok()?;
        }
        let head = self.context.head()?;
        if head.flags & STOP != 0 {
            return Some(Came::Stop);
        }
        if head.flags & DEFINE != 0 {
            self.ended.set(None);
            self.define(head.function as usize);
            return Some(Came::Defined);
        }
        Some(Came::Task(head))
    }

    /// Notes a function. They come in order, each once.
    fn define(&mut self, number: usize) {
        let call = self
            .context
            .read::<Call>()
            .map_err(|error| error.to_string());
        let call = call.and_then(|call| call.resolve().map_err(|error| error.to_string()));
        if number == self.functions.len() {
            self.functions.push(Function { call, nanos: 0 });
        }
    }

    pub(super) fn carry_out(&mut self, head: TaskHead) {
        let number = head.function as usize;
        let begun = self.ended.take().unwrap_or_else(monotonic_ns);
        if self.owed
            && self
                .functions
                .get(number)
                .is_some_and(|function| function.nanos > LONG)
        {
            self.ring(begun);
        }
        self.shared.since.store(begun, Ordering::Relaxed);
        self.shared.current.store(head.id, Ordering::Release);
        let tag = match self.functions.get(number) {
            Some(Function { call: Ok(call), .. }) => {
                let span = tracing::trace_span!("task", id = head.id);
                let _entered = span.enter();
                self.context.call(call)
            }
            Some(Function { call: Err(why), .. }) => self.context.say(Tag::FunctionNotFound, why),
            None => self
                .context
                .say(Tag::FunctionNotFound, "it was never defined"),
        };
        self.leave_if_forked();
        let now = monotonic_ns();
        let nanos = u32::try_from(now.saturating_sub(begun)).unwrap_or(u32::MAX);
        if let Some(function) = self.functions.get_mut(number) {
            function.nanos = nanos;
        }
        self.ended.set(Some(now));
        self.put(head.id, nanos, tag);
        self.done += 1;
        self.shared.done.store(self.done, Ordering::Relaxed);
        self.shared.current.store(0, Ordering::Release);
        self.owed = true;
        if now.saturating_sub(self.rung) > RING_EVERY {
            self.ring(now);
        }
    }

    fn leave_if_forked(&self) {
        if myself() != Some(self.me) {
            exit_now(0);
        }
    }

    fn ring(&mut self, now: u64) {
        self.bell.ring(&ShortWait, 1);
        self.ended.set(None);
        (self.rung, self.owed) = (now, false);
    }

    /// Puts what is in the context as a result.
    fn put(&self, id: u64, nanos: u32, tag: Tag) {
        let sent = self.try_put(ResultHead { id, nanos, tag });
        if let Err(error) = sent {
            self.context.clear();
            self.context.say(
                Tag::UnencodableResult,
                &format!("no room for it in the family heap: {error}"),
            );
            let tag = Tag::UnencodableResult;
            let _ = self.try_put(ResultHead { id, nanos, tag });
        }
    }

    fn try_put(&self, head: ResultHead) -> Result<(), HeapError> {
        self.context.with_answer(|answer| {
            answer.bytes[..HEAD].copy_from_slice(&head.to_bytes());
            let mut parcel = if answer.holds.is_empty() && answer.bytes.len() <= INLINE_MAX {
                Parcel::Inline(&answer.bytes)
            } else {
                self.ended.set(None);
                Parcel::Block {
                    block: pack_block(&answer.bytes, &answer.holds)?,
                    len: answer.bytes.len() as u64,
                    envelope: !answer.holds.is_empty(),
                }
            };
            let lane = &self.shared.results;
            match lane.try_put(self.shared.container(), &mut parcel) {
                Ok(()) => return Ok(()),
                Err(PutFault::Heap(error)) => return Err(*error),
                // Full: the pool must take some first.
                Err(_) => self.bell.ring(&ShortWait, 1),
            }
            self.ended.set(None);
            match lane.put(self.shared.container(), &mut parcel, None) {
                Ok(()) => Ok(()),
                Err(PutFault::Heap(error)) => Err(*error),
                Err(_) => {
                    self.unwanted.set(true);
                    Ok(())
                }
            }
        })
    }

    /// Whether the worker has done, or grown, as much as it may.
    fn is_worn_out(&mut self) -> bool {
        let Order {
            max_tasks,
            max_memory,
            ..
        } = *self.order;
        if max_tasks != 0 && self.done >= max_tasks {
            return true;
        }
        if max_memory == 0 {
            return false;
        }
        let now = monotonic_ns();
        if now.saturating_sub(self.looked) < LOOK_EVERY {
            return false;
        }
        self.looked = now;
        self.ended.set(None);
        let grown = process_memory(std::process::id())
            .is_ok_and(|memory| memory.rss - memory.shared.min(memory.rss) > max_memory);
        if grown {
            tracing::info!(max_memory, "worker has grown too large and leaves");
        }
        grown
    }
}

/// Puts a record where the context wants it.
struct Arrival<'a>(&'a Context);

impl Sink for Arrival<'_> {
    fn take(&mut self, payload: &[u8]) {
        self.0.load(payload);
    }

    fn keep(&mut self, delivery: Delivery) {
        self.0.keep(delivery);
    }
}
