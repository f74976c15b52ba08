"""Executors with the interface of `concurrent.futures`.

`ProcessPoolExecutor` and its `Future` are those of the standard library for whoever uses them: subclasses, accepted by `concurrent.futures.wait`, `as_completed`, `asyncio.wrap_future` and
`run_in_executor`. What differs: a worker that dies, of whatever, costs the call that it was running, which raises `WorkerDied` (a `BrokenProcessPool`); the executor goes on. A result is fetched
by the thread that asks for it; only futures at whose insides somebody looks, or that have callbacks, are completed by a thread of their own.
"""

import concurrent.futures
import multiprocessing
import operator
import os
import signal
import threading
import time
import weakref
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    InvalidStateError,
    ThreadPoolExecutor,
    TimeoutError,
    _base,
    as_completed,
    wait,
)
from concurrent.futures import process as _stdlib
from concurrent.futures.process import BrokenProcessPool

from . import _procession
from ._pool_workers import Staff
from .context import _concrete_contexts, _default_context
from .pool import (
    Pool,
    PoolTerminated,
    RemoteException,
    TaskTimeout,
    TransportError,
    WorkerDied,
    _chunks,
)

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "BrokenProcessPool",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "PoolTerminated",
    "ProcessPoolExecutor",
    "RemoteException",
    "TaskTimeout",
    "ThreadPoolExecutor",
    "TimeoutError",
    "TransportError",
    "WorkerDied",
    "as_completed",
    "wait",
]


def __getattr__(name):
    """Give what only newer Pythons have: `InterpreterPoolExecutor`, from 3.14 on."""
    if name in concurrent.futures.__all__:
        return getattr(concurrent.futures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Lazy:
    """An attribute of the standard library's futures, there as soon as somebody looks for it."""

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, future, owner=None):
        if future is None:
            return self
        future._come_up()
        return vars(future)[self._name]


_coming_up = threading.Lock()


class Future(_procession.Task, _base.Future):
    """The result of a call, that is there or will be."""

    _condition = _Lazy()
    _state = _Lazy()
    _result = _Lazy()
    _exception = _Lazy()
    _waiters = _Lazy()
    _done_callbacks = _Lazy()

    def __init__(self, *args):
        """Do nothing: the call was submitted when the object was made."""

    def _come_up(self):
        """Become a future like any other, with a state that is changed when the call is done."""
        with _coming_up:
            if "_condition" in vars(self):
                return
            _base.Future.__init__(self)
        if self.is_done():
            self._finish()
        else:
            self.when_done(Future._finish)

    def _is_watched(self):
        """Say whether others may be told of its end before us. In a forked child nobody tells anybody of its parent's."""
        return "_condition" in vars(self) and self.is_ours()

    def _finish(self):
        """Take over what came of the call; once."""
        me = object()
        if vars(self).setdefault("_finisher", me) is not me:
            return
        if self.is_revoked():
            with self._condition:
                self._state = _base.CANCELLED_AND_NOTIFIED
                for waiter in self._waiters:
                    waiter.add_cancelled(self)
                self._condition.notify_all()
            self._invoke_callbacks()
            return
        error = self.failure()
        if error is None:
            self.set_result(self.fetch())
        else:
            self.set_exception(error)

    def __repr__(self):
        where = f"{type(self).__name__} at {id(self):#x}"
        if not self.is_done():
            return f"<{where} state={'running' if self.is_running() else 'pending'}>"
        if self.is_revoked():
            return f"<{where} state=cancelled>"
        error = self.failure()
        if error is not None:
            return f"<{where} state=finished raised {type(error).__name__}>"
        return f"<{where} state=finished returned {type(self.fetch()).__name__}>"

    def cancel(self):
        """Cancel the call if no worker has begun it. Return whether it is cancelled."""
        return self._cancel(False)

    def abort(self):
        """Cancel the call even if it runs: its worker is killed and replaced. Return whether it is cancelled."""
        return self._cancel(True)

    def _cancel(self, running):
        if not self.is_done() and self.revoke(running) and "_condition" in vars(self):
            self._finish()
        return self.is_revoked()

    def cancelled(self):
        """Say whether the call was cancelled."""
        return self.is_revoked()

    def running(self):
        """Say whether a worker runs the call."""
        return self.is_running()

    def done(self):
        """Say whether the call is done, or was cancelled."""
        return self.is_done()

    def result(self, timeout=None):
        """Return the result when it is there, or raise the call's exception.

        Args:
            timeout: Longest wait in seconds; `None` waits for ever.

        Raises:
            TimeoutError: It is not there in time.
            CancelledError: The call was cancelled.
        """
        try:
            if self._is_watched():
                # Others watch it, too, and are told before us: a progress bar is not behind the results.
                return _base.Future.result(self, timeout)
            if not self.wait_done(timeout):
                raise TimeoutError
            return self.fetch()
        finally:
            # An exception's traceback leads here.
            self = None

    def exception(self, timeout=None):
        """Return the call's exception when it is done; `None` if it returned.

        Args:
            timeout: Longest wait in seconds; `None` waits for ever.

        Raises:
            TimeoutError: It is not done in time.
            CancelledError: The call was cancelled.
        """
        if self._is_watched():
            return _base.Future.exception(self, timeout)
        if not self.wait_done(timeout):
            raise TimeoutError
        if self.is_revoked():
            raise CancelledError
        return self.failure()


class _Results(_procession.Stream):
    """The results of a map, in order.

    Dropped before any result was asked for, the map goes on to its end; after that, what no worker has begun is cancelled.
    """

    def close(self):
        """Cancel what no worker has begun."""
        self.give_up()


def _until(results, timeout):
    """Yield results as long as there is time."""
    end = time.monotonic() + timeout
    while True:
        try:
            result = results.next(max(0.0, end - time.monotonic()))
        except StopIteration:
            return
        except multiprocessing.TimeoutError as error:
            if type(error) is not multiprocessing.TimeoutError:
                raise
            raise TimeoutError from None
        yield result


class _Submits(Executor):
    """Ways to submit calls to a crew."""

    _options = None

    def submit(self, fn, /, *args, **kwargs):
        """Have a worker call `fn(*args, **kwargs)`; return a `Future`."""
        crew = self._crew or self._start()
        if kwargs:
            return Future(crew, "apply", fn, (args, kwargs), self._options)
        return Future(crew, "star", fn, args, self._options)

    def map(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None):
        """Return an iterator over the results of `fn` for the items of the iterables, in order, as they come.

        Args:
            fn: What is called, with one item of each iterable.
            iterables: Where they come from.
            timeout: How many seconds all results may take, counted from now.
            chunksize: How many calls one worker takes at a time.
            buffersize: How many calls (chunks) may be ahead of the results that were taken; `None`: all are submitted now.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        items = zip(*iterables, strict=False)
        kind = "star" if chunksize == 1 else "stars"
        if chunksize > 1:
            items = _chunks(items, chunksize)
        results = _Results(self._crew or self._start(), kind, fn, items, True, buffersize, self._options)
        if buffersize is None:
            results.read_all()
        else:
            results.start()
        return results if timeout is None else _until(results, timeout)


class _WithOptions(_Submits):
    """An executor, with options for each call."""

    def __init__(self, executor, options):
        self._executor = executor
        self._options = options

    @property
    def _crew(self):
        return self._executor._crew

    def _start(self):
        return self._executor._start()

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Shut the executor down."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


class _Workers(Staff):
    """Starts the worker processes of an executor, and lists them by pid."""

    _name = "Process"

    def __init__(self, ctx, arguments):
        super().__init__(Pool.Process, ctx, arguments)
        self.processes = {}

    def hire(self, boot, name):
        """Start a worker; its pid."""
        pid = super().hire(boot, name)
        self.processes[pid] = self.workers[-1]
        return pid

    def part(self, pid):
        """Reap a worker that has ended; its exit code."""
        self.processes.pop(pid, None)
        return super().part(pid)


# Crews that may have something to do when the program ends; their staffs, and what happens to them when their executors are dropped.
_crews = {}
_exiting = False


def _forget_finished():
    for crew in [crew for crew in _crews if crew.is_finished()]:
        _crews.pop(crew, None)


def _at_exit():
    global _exiting
    _exiting = True
    for crew in list(_crews):
        crew.let_run()
    while _crews:
        crew, (staff, when_dropped) = _crews.popitem()
        crew.join()
        # An executor that is dropped from now on has nothing to be done; nothing but its users are to keep it.
        when_dropped.detach()
        staff.retire()


# All executors of this process.
_executors = weakref.WeakSet()


def _after_fork():
    """In a forked child: nothing is locked by threads that did not come along, and it waits for nobody's calls but its own."""
    _coming_up._at_fork_reinit()
    for executor in _executors:
        executor._lock._at_fork_reinit()
    _crews.clear()


os.register_at_fork(after_in_child=_after_fork)
# Before the threads that are no daemons are joined, as the standard library's executors.
threading._register_atexit(_at_exit)


class ProcessPoolExecutor(_Submits, _stdlib.ProcessPoolExecutor):
    """Worker processes that run calls.

    A subclass of the standard library's, for code that asks whether something is one; all methods are our own.

    Args:
        max_workers: How many; `None`: as many as there are CPUs for us (affinity and control-group quota count).
        mp_context: Where the processes come from.
        initializer: Called in each worker before anything else, with `initargs`. If it raises, the executor is broken.
        initargs: Its arguments.
        max_tasks_per_child: How many calls a worker runs before it is replaced; `None`: any number. Not with the start method fork.
    """

    def __init__(self, max_workers=None, mp_context=None, initializer=None, initargs=(), *, max_tasks_per_child=None):
        if max_workers is None:
            max_workers = _procession.cpu_count()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        max_workers = operator.index(max_workers)
        if mp_context is None and max_tasks_per_child is not None:
            mp_context = _concrete_contexts["spawn"]
        self._mp_context = mp_context or _default_context.get_context()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        _check_max_tasks(max_tasks_per_child, self._mp_context)
        self._max_workers = max_workers
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._staff = _Workers(self._mp_context, (initializer, initargs, True))
        self._processes = self._staff.processes
        self._lock = threading.Lock()
        self._over = False
        self._crew = None
        _executors.add(self)

    def _start(self):
        """Start the crew, when there is something to do."""
        with self._lock:
            if self._over:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if _exiting:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._crew is None:
                _forget_finished()
                self._crew = self._make_crew()
                self._when_dropped = weakref.finalize(self, self._crew.let_run)
                self._when_dropped.atexit = False
                _crews[self._crew] = self._staff, self._when_dropped
        return self._crew

    def _make_crew(self):
        try:
            return _procession.Crew(
                self._staff,
                self._max_workers,
                name="Worker",
                max_tasks=self._max_tasks_per_child or 0,
                # A process that has threads is not to be forked: those are all started here.
                on_demand=self._mp_context.get_start_method(allow_none=False) != "fork",
                executor=True,
            )
        except BaseException:
            self._staff.dismiss()
            raise

    def with_options(self, *, timeout=None, retries=0, priority=0, name=None):
        """Return this executor with options for each call (each chunk, where calls go in chunks).

        Args:
            timeout: How many seconds it may run; then its worker is replaced, and it raises `TaskTimeout`.
            retries: How many more times it is tried if it raises, runs out of time, or its worker dies.
            priority: Those of higher priority are begun first.
            name: For messages.
        """
        return _WithOptions(self, (timeout, retries, priority, name))

    def map(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None):
        """Return an iterator over the results of `fn` for the items of the iterables; the arguments are those of `concurrent.futures`."""
        if buffersize is None and getattr(self.submit, "__func__", None) is not _Submits.submit:
            # Somebody put another `submit` in the place of ours, and relies on its being called: tqdm's `process_map`, for one.
            return _stdlib.ProcessPoolExecutor.map(self, fn, *iterables, timeout=timeout, chunksize=chunksize)
        return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize, buffersize=buffersize)

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Take no more calls.

        Args:
            wait: Whether to wait until all are done and the workers have ended.
            cancel_futures: Whether to cancel those that no worker has begun.
        """
        with self._lock:
            self._over = True
            crew = self._crew
        if crew is None:
            return
        crew.let_run()
        if cancel_futures:
            crew.cancel_pending()
        # A forked child that leaves its parent's `with` block has nobody to wait for.
        if wait and crew.is_ours():
            crew.join()
            _crews.pop(crew, None)
            # What the crew kept open goes with it.
            self._when_dropped.detach()
            self._crew = None

    def terminate_workers(self):
        """Shut down at once: cancel what no worker has begun, and end the workers with SIGTERM."""
        self._end_workers(signal.SIGTERM)

    def kill_workers(self):
        """Shut down at once: cancel what no worker has begun, and kill the workers."""
        self._end_workers(signal.SIGKILL)

    def _end_workers(self, number):
        workers = list(self._processes.values())
        self.shutdown(wait=False, cancel_futures=True)
        for process in workers:
            if process.is_alive():
                process.kill() if number == signal.SIGKILL else process.terminate()


def _check_max_tasks(max_tasks, ctx):
    if max_tasks is None:
        return
    if not isinstance(max_tasks, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if max_tasks <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")
    if ctx.get_start_method(allow_none=False) == "fork":
        raise ValueError(
            "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method;"
            " supply a different mp_context."
        )
