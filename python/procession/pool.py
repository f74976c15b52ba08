"""Pools: many calls of functions, spread over a few worker processes.

The interface is that of `multiprocessing.pool`, with the same results. What differs: a worker that dies, of whatever, costs the call that it was running, which raises `WorkerDied`, and
is replaced; nothing waits for ever. A result is unpickled by the thread that asks for it, and small calls travel in batches: there are no handler threads.

Calls have options of their own: `pool.with_options(timeout=5, retries=2).map(f, items)`.
"""

import _thread
import builtins
import collections
import itertools
import threading
import time
import types
import warnings
import weakref
from concurrent.futures import CancelledError
from multiprocessing import TimeoutError
from multiprocessing import pool as _stdlib
from multiprocessing.pool import (
    CLOSE,
    INIT,
    RUN,
    TERMINATE,
    ExceptionWithTraceback,
    MaybeEncodingError,
    RemoteTraceback,
    ThreadPool,
    job_counter,
    mapstar,
    rebuild_exc,
    starmapstar,
)

from . import _procession, util
from ._pool_workers import Staff
from ._pool_workers import worker as worker
from .context import _default_context

try:
    from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
except RuntimeError:
    # The main thread has ended, and others go on: whatever that module wants done before it ends comes too late.
    _register, threading._register_atexit = threading._register_atexit, lambda *args: None
    try:
        from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
    finally:
        threading._register_atexit = _register

__all__ = [
    "CLOSE",
    "INIT",
    "RUN",
    "TERMINATE",
    "ApplyResult",
    "AsyncResult",
    "ExceptionWithTraceback",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
    "PoolTerminated",
    "RemoteException",
    "RemoteTraceback",
    "TaskTimeout",
    "ThreadPool",
    "TransportError",
    "WorkerDied",
    "job_counter",
    "mapstar",
    "rebuild_exc",
    "starmapstar",
]


class WorkerDied(BrokenProcessPool):
    """A worker died while it ran the call. No other call was harmed, and the worker was replaced.

    A `BrokenProcessPool` for those who catch that; the pool itself is not broken.

    Attributes:
        worker: The worker's name.
        pid: Its pid.
        exitcode: Its exit code, or minus the signal's number; `None` if unknown.
        signal: The signal that killed it; `None` if none did.
        task: Which call it was.
        tries: Which try of the call this was, from 1.
        peak_memory: The most bytes that it ever had resident; `None` if unknown.
        likely_out_of_memory: Whether the system killed it for lack of memory, as far as can be told.
    """

    def __init__(self, message, details=()):
        super().__init__(message, details)
        vars(self).update(details)

    def __str__(self):
        return self.args[0]


class TaskTimeout(TimeoutError, builtins.TimeoutError):
    """The call ran longer than its `timeout=`; its worker was replaced.

    Attributes:
        limit: How long it was allowed to run, in seconds.
    """

    def __init__(self, message, limit):
        super().__init__(message, limit)
        self.limit = limit

    def __str__(self):
        return self.args[0]


class TransportError(BrokenProcessPool):
    """Function, arguments or result of the call could not be unpickled where they arrived. The pool goes on.

    A `BrokenProcessPool` for those who catch that; the pool itself is not broken.
    """


class PoolTerminated(BrokenProcessPool):
    """The pool was terminated before the call was done."""


class RemoteException(Exception):
    """Stands for an exception of the call that cannot be sent. Others arrive as they are, those included that pickle cannot rebuild from their `args`.

    Attributes:
        type_name: The type of the exception.
        text: What it said.
    """

    def __init__(self, type_name, text):
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self):
        return f"{self.type_name}: {self.text}"


# What the native half calls to make exceptions.


def _with_cause(exc, trace, executor=False):
    cause = _RemoteTraceback if executor else RemoteTraceback
    exc.__cause__ = cause(f'\n"""\n{trace}"""')
    return exc


def _raised(exc, trace, executor):
    return _with_cause(exc, trace, executor)


def _raised_opaque(type_name, text, trace, executor):
    return _with_cause(RemoteException(type_name, text), trace, executor)


def _unencodable(error, value):
    exc = MaybeEncodingError("", "")
    exc.exc, exc.value = error, value
    exc.args = (error, value)
    return exc


def _unreadable_there(what, type_name, text, trace):
    message = f"the {what} of the call cannot be unpickled in the worker: {type_name}: {text}"
    return _with_cause(TransportError(message), trace)


def _unreadable_here(error):
    exc = TransportError(f"what the worker sent cannot be unpickled: {type(error).__name__}: {error}")
    exc.__cause__ = error
    return exc


def _terminated(text):
    return PoolTerminated(text)


def _cancelled():
    return CancelledError()


def _worker_died(message, details):
    return WorkerDied(message, details)


def _broken(message):
    return BrokenProcessPool(message)


def _broken_initializer(message, cause, trace, executor):
    if cause is not None:
        _with_cause(cause, trace, executor)
        if not executor and isinstance(cause, Exception):
            return cause
    exc = BrokenProcessPool(message)
    if cause is None:
        return _with_cause(exc, trace, executor)
    exc.__cause__ = cause
    return exc


def _end(crew, staff):
    crew.terminate()
    staff.retire()


# Callbacks.


def _start_callbacks(callbacks):
    # Not of `threading`: it is nobody's concern that there is one.
    _thread.start_new_thread(_run_callbacks, (callbacks,))


def _run_callbacks(callbacks):
    """Call what there is to be called, as it comes; the body of a thread."""
    while (job := callbacks.take()) is not None:
        callback, argument = job
        try:
            callback(argument)
        except BaseException as error:
            callbacks.complain(callback, error)
        # Or they would live until the next comes.
        del job, callback, argument


# Results.


class _Result:
    """What the results of one call and of a map have in common.

    Callbacks run on a thread of their own; the result counts as ready once they have returned.
    """

    _told = None

    def ready(self):
        """Say whether it is done."""
        return self.is_done() and (self._told is None or self._told.is_set() or not self.is_ours())

    def successful(self):
        """Say whether it was done without an exception; it must be done."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self.failure() is None

    def wait(self, timeout=None):
        """Wait until it is done, at most so many seconds."""
        # In a forked child there is nobody who calls its parent's callbacks.
        if self._told is None or not self.is_ours():
            return self.wait_done(timeout)
        begun = time.monotonic()
        if not self.wait_done(timeout):
            return False
        if timeout is not None:
            timeout = max(0.0, timeout - (time.monotonic() - begun))
        return self._told.wait(timeout)

    def get(self, timeout=None):
        """Return the result when it is there, or raise the exception.

        Args:
            timeout: Longest wait in seconds; `None` waits for ever.

        Raises:
            multiprocessing.TimeoutError: It is not there in time.
        """
        if not self.wait(timeout):
            raise TimeoutError
        return self.fetch()

    def _tell(self, callback, error_callback):
        """Have the callbacks called when it is done."""
        if callback is None and error_callback is None:
            return
        self._told = threading.Event()

        def tell(self):
            try:
                error = self.failure()
                if error is not None:
                    if error_callback is not None:
                        error_callback(error)
                elif callback is not None:
                    callback(self.fetch())
            finally:
                self._told.set()

        self.when_done(tell)

    __class_getitem__ = classmethod(types.GenericAlias)


class ApplyResult(_Result, _procession.Task):
    """The result of one call, that is there or will be."""

    def cancel(self):
        """Cancel the call, even if it runs: its worker is then killed and replaced. Return whether it was cancelled."""
        return self.revoke(True)


AsyncResult = ApplyResult


class MapResult(_Result, _procession.MapTask):
    """The results of a map, that are there or will be."""


class IMapIterator(_procession.Stream):
    """The results of a map as they come, in the order of the items.

    Dropped before any result was asked for, the map goes on to its end; after that, what no worker has begun is forgotten.
    """


class IMapUnorderedIterator(IMapIterator):
    """The results of a map as they come."""


# What can be read at any time without waiting for anything: no code of the user's runs.
_PROMPT = {list, tuple, range, str, bytes, bytearray, dict, set, frozenset, collections.deque}
_PROMPT |= {type({}.keys()), type({}.values()), type({}.items())}

# Whose slices are chunks as good as any.
_SLICED = {list, tuple, range}

# The most items of a chunk whose size nobody has set. So many make the cost of a message small beside theirs, they fit into caches, and the next chunk is made while this one is worked on.
_MOST_IN_CHUNK = 2048


def _chunks(items, size):
    if type(items) in _SLICED:
        # Much cheaper, and a slice of a range is a range: it travels as three numbers.
        for start in range(0, len(items), size):
            yield items[start : start + size]
        return
    items = iter(items)
    while chunk := tuple(itertools.islice(items, size)):
        yield chunk


def _push_all(feeder, items):
    """Read an iterator to its end, as fast as there is room; the body of a thread."""
    error = None
    try:
        items = iter(items)
        while feeder.wait_for_room():
            # One by one: the next may be long in coming.
            batch = list(itertools.islice(items, 1))
            if not batch:
                break
            feeder.push(batch)
    except BaseException as exc:
        error = exc
    feeder.finish(error)


def _check_chunksize(chunksize):
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")


class _Calls:
    """Ways to call functions in the workers of a crew."""

    _options = None

    def with_options(self, *, timeout=None, retries=0, priority=0, name=None):
        """Return this pool with options for each call (each chunk, where items go in chunks).

        Args:
            timeout: How many seconds it may run; then its worker is replaced, and it raises `TaskTimeout`.
            retries: How many more times it is tried if it raises, runs out of time, or its worker dies.
            priority: Those of higher priority are begun first.
            name: For messages.
        """
        return _WithOptions(self, (timeout, retries, priority, name))

    def apply(self, func, args=(), kwds={}):  # noqa: B006
        """Call `func(*args, **kwds)` in a worker and return its result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None):  # noqa: B006
        """Have a worker call `func(*args, **kwds)`; return an `AsyncResult`."""
        self._check_running()
        if kwds:
            task = ApplyResult(self._crew, "apply", func, (tuple(args), dict(kwds)), self._options)
        else:
            task = ApplyResult(self._crew, "star", func, tuple(args), self._options)
        task._tell(callback, error_callback)
        return task

    def map(self, func, iterable, chunksize=None):
        """Call `func` with each item and return the results in a list."""
        return self._map(func, iterable, chunksize, "item")

    def map_async(self, func, iterable, chunksize=None, callback=None, error_callback=None):
        """Have `func` called with each item; return a `MapResult`."""
        return self._map_async(func, iterable, chunksize, "item", callback, error_callback)

    def starmap(self, func, iterable, chunksize=None):
        """Call `func(*item)` for each item and return the results in a list."""
        return self._map(func, iterable, chunksize, "star")

    def starmap_async(self, func, iterable, chunksize=None, callback=None, error_callback=None):
        """Have `func(*item)` called for each item; return a `MapResult`."""
        return self._map_async(func, iterable, chunksize, "star", callback, error_callback)

    def _map(self, func, iterable, chunksize, kind):
        iterable, kind = self._cut(iterable, chunksize, kind)
        return _procession.Stream(self._crew, kind, func, iterable, True, None, self._options).collect()

    def _map_async(self, func, iterable, chunksize, kind, callback=None, error_callback=None):
        iterable, kind = self._cut(iterable, chunksize, kind)
        task = MapResult(self._crew, kind, func, iterable, self._options)
        task._tell(callback, error_callback)
        return task

    def _cut(self, iterable, chunksize, kind):
        """Return the items, or chunks of them, and how those are to be taken."""
        self._check_running()
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        if chunksize is None:
            chunksize, extra = divmod(len(iterable), self._processes * 4)
            chunksize = min(chunksize + bool(extra), _MOST_IN_CHUNK)
        if chunksize > 1:
            return _chunks(iterable, chunksize), kind + "s"
        return iterable, kind

    def imap(self, func, iterable, chunksize=1, buffersize=None):
        """Return an iterator over the results of `func` for each item, in order, as they come.

        Args:
            func: What is called.
            iterable: The items; read as there is room.
            chunksize: How many items one worker takes at a time.
            buffersize: How many items (chunks) may be ahead of the results that were taken; `None`: as many as is sensible.
        """
        return self._stream(IMapIterator, True, func, iterable, chunksize, buffersize)

    def imap_unordered(self, func, iterable, chunksize=1, buffersize=None):
        """Return an iterator over the results of `func` for each item, as they are done; see `imap`."""
        return self._stream(IMapUnorderedIterator, False, func, iterable, chunksize, buffersize)

    def _stream(self, kind, ordered, func, iterable, chunksize, buffersize):
        self._check_running()
        _check_chunksize(chunksize)
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        prompt = type(iterable) in _PROMPT
        items = iterable if chunksize == 1 else _chunks(iterable, chunksize)
        how = "item" if chunksize == 1 else "items"
        stream = kind(self._crew, how, func, items if prompt else None, ordered, buffersize, self._options)
        if prompt:
            stream.start()
        else:
            thread = threading.Thread(target=_push_all, args=(stream.feeder(), items), name="pool-feeder", daemon=True)
            thread.start()
            self._feeders.add(thread)
        self._streams.add(stream)
        return stream


class _WithOptions(_Calls):
    """A pool, with options for each call."""

    def __init__(self, pool, options):
        self._pool = pool
        self._options = options

    def __getattr__(self, name):
        return getattr(self._pool, name)


class Pool(_Calls, _stdlib.Pool):
    """Worker processes that call functions.

    A subclass of `multiprocessing`'s pool, for code that asks whether something is one; all methods are our own.

    Args:
        processes: How many; `None`: as many as there are CPUs for us (affinity and control-group quota count).
        initializer: Called in each worker before anything else, with `initargs`. If it raises, so does every call.
        initargs: Its arguments.
        maxtasksperchild: How many calls (or chunks) a worker does before it is replaced; `None`: any number.
        context: Where the processes come from.
    """

    _wrap_exception = True

    @staticmethod
    def Process(ctx, *args, **kwds):
        """Return a process object of the context."""
        return ctx.Process(*args, **kwds)

    def __init__(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None):
        self._pool = []
        self._state = INIT
        self._ctx = context or _default_context.get_context()
        self._streams = weakref.WeakSet()
        self._feeders = weakref.WeakSet()
        if processes is None:
            processes = _procession.cpu_count()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = initargs
        staff = Staff(self.Process, self._ctx, (initializer, initargs))
        self._pool = staff.workers
        try:
            self._crew = _procession.Crew(staff, processes, name="PoolWorker", max_tasks=maxtasksperchild or 0)
        except BaseException:
            staff.dismiss()
            raise
        self._terminate = util.Finalize(self, _end, args=(self._crew, staff), exitpriority=15)
        self._state = RUN

    # Names as default arguments: they are there when the interpreter ends, too.
    def __del__(self, _warn=warnings.warn, RUN=RUN):
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self):
        cls = self.__class__
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def __reduce__(self):
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _check_running(self):
        if self._state != RUN:
            raise ValueError("Pool not running")

    def _repopulate_pool(self):
        """Do nothing: workers are replaced as soon as they end."""

    def _has_unread(self):
        """Say whether there are maps whose items were not all read. Those go on after `close`, and `join` reads them."""
        return any(stream.is_open() for stream in self._streams) or any(feeder.is_alive() for feeder in self._feeders)

    def close(self):
        """Take no more calls; what was submitted will be done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            if not self._has_unread():
                self._crew.close()

    def terminate(self):
        """End the workers at once. Calls that are not done raise `PoolTerminated`."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self):
        """Wait until everything is done and the workers have ended; after `close` or `terminate`."""
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        if self._crew is None:
            return
        if self._state == CLOSE:
            for stream in list(self._streams):
                stream.read_all()
            for feeder in list(self._feeders):
                feeder.join()
        self._crew.join()
        # Nothing is left to be ended; what the crew kept open goes with it.
        self._terminate()
        self._crew = None

    def __enter__(self):
        self._check_running()
        return self

    def __exit__(self, exc_type, exc_val, exc_tb):
        self.terminate()
