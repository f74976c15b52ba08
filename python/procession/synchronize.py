"""Locks and their kin, in shared memory: no names in the file system, no descriptors, and nothing that a killed process can leave locked.

A lock whose owner died goes to the next process that wants it; `recovered` says so then, and a `strict` lock raises `OwnerDied` instead. A waiter that was killed
takes no notification with it, a party that was killed breaks its barrier. Permits of a semaphore are nobody's: they are not given back for the dead.

Everything here can be sent in messages and as arguments of processes and tasks, whatever the start method.
"""

import threading

from . import _procession, process

__all__ = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"]  # noqa: RUF022 (the order of multiprocessing)

RECURSIVE_MUTEX, SEMAPHORE = range(2)
SEM_VALUE_MAX = 2**31 - 1


class OwnerDied(RuntimeError):
    """The last owner of a strict lock died in possession: what the lock guards may be half done.

    The lock is free and stays marked: set its `strict` to false to take it and to repair.
    """


class SemLock:
    """What locks and semaphores have in common."""

    @property
    def _semlock(self):
        return self


def _owner(lock):
    """Return who holds a lock, for its `repr`."""
    if lock._is_mine():
        name = process.current_process().name
        thread = threading.current_thread().name
        return name if thread == "MainThread" else f"{name}|{thread}"
    if lock._get_value() == 1:
        return "None"
    return "SomeOtherThread" if lock._count() > 0 else "SomeOtherProcess"


class Lock(_procession.Lock, SemLock):
    """A lock that is not recursive. Any thread of any process may release it.

    Attributes:
        recovered: Whether, when this object took the lock last, its owner had died in possession.
        strict: Whether to raise `OwnerDied` then, instead of taking the lock.
    """

    def __init__(self, *, ctx, strict=False):
        if strict:
            self.strict = True

    def __repr__(self):
        return f"<{self.__class__.__name__}(owner={_owner(self)})>"


class RLock(_procession.RLock, SemLock):
    """A lock that belongs to a thread, which may take it again and must release it as often.

    Attributes:
        recovered: Whether, when this object took the lock last, its owner had died in possession.
        strict: Whether to raise `OwnerDied` then, instead of taking the lock.
    """

    def __init__(self, *, ctx, strict=False):
        if strict:
            self.strict = True

    def __repr__(self):
        owner = _owner(self)
        count = self._count() if self._is_mine() else 0 if owner == "None" else "nonzero"
        return f"<{self.__class__.__name__}({owner}, {count})>"


class Semaphore(_procession.Semaphore, SemLock):
    """A count of permits."""

    def __init__(self, value=1, *, ctx):
        super().__init__(value)

    def __repr__(self):
        return f"<{self.__class__.__name__}(value={self.get_value()})>"


class BoundedSemaphore(Semaphore):
    """A count of permits that cannot rise above its first value."""

    def __init__(self, value=1, *, ctx):
        _procession.Semaphore.__init__(self, value, True)

    def __repr__(self):
        return f"<{self.__class__.__name__}(value={self.get_value()}, maxvalue={self.maxvalue})>"


class _Count:
    """A number that looks like a semaphore to those who ask for its value."""

    def __init__(self, value):
        self._value = value

    def get_value(self):
        return self._value

    _get_value = get_value

    @property
    def _semlock(self):
        return self


class Condition(_procession.Condition):
    """Something that may change, with a lock and a way to wait for the change."""

    def __init__(self, lock=None, *, ctx):
        super().__init__(lock or ctx.RLock())
        self._bind()

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls, *args, **kwargs)
        if args and isinstance(args[0], _procession.Parcel):
            self._bind()
        return self

    def _bind(self):
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __repr__(self):
        return f"<{self.__class__.__name__}({self._lock}, {self._waiting()})>"

    @property
    def _sleeping_count(self):
        return _Count(self._waiting())

    @property
    def _woken_count(self):
        return _Count(0)

    _wait_semaphore = _woken_count


class Event(_procession.Event):
    """A flag to wait for."""

    def __init__(self, *, ctx):
        pass

    def __repr__(self):
        state = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {state}>"


class Barrier(_procession.Barrier, threading.Barrier):
    """A meeting point for so many parties, round after round."""

    def __init__(self, parties, action=None, timeout=None, *, ctx):
        super().__init__(parties, action, timeout)
