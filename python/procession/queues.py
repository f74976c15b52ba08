"""Queues that any number of processes put into and take from.

Items are in shared memory when `put` returns: there is no thread that feeds them into a pipe, nothing is lost when a process ends right after, and an object that cannot be
pickled is an error of `put`.
"""

import os
import threading
import weakref
from multiprocessing import queues as _stdlib
from queue import Empty, Full
from types import GenericAlias

from . import _procession
from .connection import _ConnectionBase
from .reduction import ForkingPickler

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

_ = (Empty, Full)


def __getattr__(name):
    """Find what this module does not define in that of `multiprocessing`: loky imports its `_sentinel`."""
    return getattr(_stdlib, name)


class _SideLock:
    """The lock of one side, for code that asks a queue for its `_rlock` or `_wlock`, as the pool of `multiprocessing` does.

    Our queues need none, and it stops nobody: that what `poll` announced is still there for `recv` is the reader's care.
    """

    def __init__(self, release=None):
        self._lock = threading.Lock()
        self._on_release = release
        self._holder = None

    def acquire(self, block=True, timeout=None):
        """Take the lock, among the threads of this process."""
        taken = self._lock.acquire(block, -1 if timeout is None or not block else max(timeout, 0))
        if taken:
            self._holder = threading.get_ident()
        return taken

    def release(self):
        """Let go of the lock."""
        if self._on_release is not None:
            self._on_release()
        self._holder = None
        self._lock.release()

    def is_mine(self):
        """Say whether this thread holds it."""
        return self._holder == threading.get_ident()

    def after_fork(self):
        """In a forked child: a thread that did not come along holds nothing."""
        if not self.is_mine():
            self._holder = None
            self._lock._at_fork_reinit()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *exc_info):
        self.release()


_ends = weakref.WeakSet()


def _after_fork():
    for end in _ends:
        end._after_fork()


os.register_at_fork(after_in_child=_after_fork)


class _End(_ConnectionBase):
    """One side of a queue as a connection, for code that asks a queue for its `_reader` or `_writer`."""

    def __init__(self, queue):
        self._queue = queue
        self._closed = False
        _ends.add(self)

    def _after_fork(self):
        self._lock.after_fork()

    @property
    def closed(self):
        """Whether it, or the queue, was closed."""
        return self._closed or self._queue._closed

    def close(self):
        """Let go of the queue."""
        self._closed = True

    def _check_closed(self):
        if self.closed:
            raise OSError("handle is closed")

    def fileno(self):
        """Return a descriptor that is readable while there are items."""
        self._check_closed()
        return self._queue._fileno()

    @property
    def _waitable(self):
        self._check_closed()
        return self._queue


class _Reader(_End):
    """The side that items are taken from.

    Where a thread holds the queue's `_rlock`, `poll` takes the item that it announces, and `recv` returns it: in `multiprocessing`, nobody else could take it in between.
    """

    readable, writable = True, False

    def __init__(self, queue):
        self._lock = _SideLock(self._put_back)
        self._announced = []
        super().__init__(queue)

    def _after_fork(self):
        super()._after_fork()
        # Taken by our parent, which has it still.
        self._announced.clear()

    def _put_back(self):
        while self._announced:
            self._queue._send(self._announced.pop())

    def poll(self, timeout=0.0):
        """Say whether there is an item, waiting at most `timeout` seconds; `None`: for ever."""
        self._check_closed()
        if not self._lock.is_mine():
            return self._queue._poll(timeout)
        if not self._announced and self._queue._poll(timeout):
            try:
                self._announced.append(_procession.Queue.get(self._queue, False))
            except Empty:
                return False
        return bool(self._announced)

    def recv(self):
        """Take an item."""
        self._check_closed()
        if self._announced and self._lock.is_mine():
            return self._announced.pop()
        return self._queue._recv()

    def recv_bytes(self, maxlength=None):
        """Take an item as bytes: its pickle."""
        self._check_closed()
        if self._announced and self._lock.is_mine():
            message = bytes(ForkingPickler.dumps(self._announced.pop()))
        else:
            message = self._queue._recv_bytes()
        if maxlength is not None and len(message) > maxlength:
            self.close()
            raise OSError("bad message length")
        return message

    def __reduce__(self):
        return _Reader, (self._queue,)


class _Writer(_End):
    readable, writable = False, True

    def __init__(self, queue):
        self._lock = _SideLock()
        super().__init__(queue)

    def send(self, obj):
        """Put an item."""
        self._check_closed()
        self._queue._send(obj)

    def send_bytes(self, buf, offset=0, size=None):
        """Put the item that bytes are the pickle of."""
        self._check_closed()
        with memoryview(buf) as view, view.cast("B") as content:
            end = len(content) if size is None else offset + size
            self._queue._send_bytes(content[offset:end])

    def __reduce__(self):
        return _Writer, (self._queue,)


class _Ended:
    """What the queues have in common in Python: their two sides."""

    @property
    def _reader(self):
        sides = self.__dict__
        return sides.get("reader") or sides.setdefault("reader", _Reader(self))

    # PyTorch's queues put a wrapper in the place of each side.
    @_reader.setter
    def _reader(self, side):
        self.__dict__["reader"] = side

    @property
    def _writer(self):
        sides = self.__dict__
        return sides.get("writer") or sides.setdefault("writer", _Writer(self))

    @_writer.setter
    def _writer(self, side):
        self.__dict__["writer"] = side

    @property
    def _rlock(self):
        return self._reader._lock

    @property
    def _wlock(self):
        return self._writer._lock

    __class_getitem__ = classmethod(GenericAlias)


class Queue(_Ended, _procession.Queue):
    """A first-in first-out queue.

    Args:
        maxsize: Most items at one time; `put` waits while there are so many. 0: no limit.
        ctx: The context that makes it.
    """

    def join_thread(self):
        """Do nothing: there is no thread. The queue must be closed, as in `multiprocessing`."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self):
        """Do nothing: there is no thread, and nothing is lost."""

    @staticmethod
    def _on_queue_feeder_error(e, obj):
        """Deal with an item that `put` could not pickle: raise the error. Subclasses may do otherwise."""
        raise e

    def _start_thread(self):
        """Do nothing: there is no thread."""

    def _terminate_broken(self):
        """Close the queue, in an executor whose workers died."""
        self._reader.close()
        self.close()


class JoinableQueue(_procession.JoinableQueue, Queue):
    """A queue whose items are reported as done."""


class SimpleQueue(_Ended, _procession.SimpleQueue):
    """A queue with the least of methods."""
