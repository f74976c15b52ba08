"""Contexts: everything the package offers, bound to a start method.

Ours are contexts of `multiprocessing`, too (subclasses of its `BaseContext`): code that takes a `mp_context=` or `multiprocessing_context=` accepts them.
"""

import _signal
import importlib
import itertools
import sys
import threading
from multiprocessing import context as _stdlib
from multiprocessing.context import (
    AuthenticationError,
    BufferTooShort,
    ProcessError,
    TimeoutError,
    assert_spawning,
    get_spawning_popen,
    set_spawning_popen,
)

from . import _child, process

__all__ = ()

_ = (AuthenticationError, BufferTooShort, ProcessError, TimeoutError)
_ = (assert_spawning, get_spawning_popen, set_spawning_popen)


def __getattr__(name):
    # It takes long to import, and not every program needs it.
    if name == "reduction":
        return importlib.import_module("procession.reduction")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class BaseContext(_stdlib.BaseContext):
    """What all contexts have in common; see the functions of the package."""

    def cpu_count(self):
        """Return how many CPUs this process may use: affinity and control-group quota count."""
        from . import _procession

        return _procession.cpu_count()

    def Manager(self):
        """Return a manager with a running server process, whose methods make shared objects."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex=True):
        """Return the two ends of a pipe, as a pair of connections."""
        from .connection import Pipe

        return Pipe(duplex)

    def Lock(self, *, strict=False):
        """Return a lock that is not recursive; a strict one raises `OwnerDied` if its owner died in possession."""
        from .synchronize import Lock

        return Lock(ctx=self.get_context(), strict=strict)

    def RLock(self, *, strict=False):
        """Return a recursive lock; a strict one raises `OwnerDied` if its owner died in possession."""
        from .synchronize import RLock

        return RLock(ctx=self.get_context(), strict=strict)

    def Condition(self, lock=None):
        """Return a condition variable."""
        from .synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value=1):
        """Return a semaphore."""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value=1):
        """Return a semaphore that refuses to be released too often."""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self):
        """Return an event."""
        from .synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(self, parties, action=None, timeout=None):
        """Return a barrier for so many parties."""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize=0):
        """Return a queue."""
        from .queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize=0):
        """Return a queue whose items are reported as done."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self):
        """Return a queue with the least of methods."""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pool(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None):
        """Return a pool of worker processes."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def RawValue(self, typecode_or_type, *args):
        """Return a ctypes object in shared memory."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type, size_or_initializer):
        """Return a ctypes array in shared memory."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type, *args, lock=True):
        """Return a ctypes object in shared memory, with a lock."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type, size_or_initializer, *, lock=True):
        """Return a ctypes array in shared memory, with a lock."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def freeze_support(self):
        """Become the child that this frozen executable was started as, if it was."""
        if getattr(sys, "frozen", False):
            from .spawn import freeze_support

            freeze_support()

    def allow_connection_pickling(self):
        """Do nothing: connections can be pickled."""

    def set_executable(self, executable):
        """Set the interpreter that children run, instead of `sys.executable`."""
        from .spawn import set_executable

        set_executable(executable)

    def set_forkserver_preload(self, module_names):
        """Set the modules that the forkserver imports before it forks."""
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names)

    def get_context(self, method=None):
        """Return the context of a start method; without one, this context."""
        if method is None:
            return self
        try:
            context = _concrete_contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None
        if method != "fork":
            _others_than_fork.add(method)
        return context

    @property
    def reducer(self):
        """How objects are reduced to what can be sent."""
        return globals().get("reduction") or __getattr__("reduction")

    @reducer.setter
    def reducer(self, module):
        globals()["reduction"] = module


class BaseProcess(process.BaseProcess):
    """What the processes of all start methods have in common."""

    def interrupt(self):
        """Send the process SIGINT, which becomes `KeyboardInterrupt` there."""
        self._check_closed()
        self._popen.interrupt()

    def _bootstrap(self, parent_sentinel=None, mask=None):
        """Be the process: run, with a signal mask, tell what went wrong, end the threads; the exit code."""
        code = 1
        try:
            self._take_over(parent_sentinel)
            if mask is not None:
                _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
            self.run()
            code = 0
        except SystemExit as end:
            code = _child.exit_code(end)
        except KeyboardInterrupt:
            _child.say_interrupted()
        except BaseException:
            _child.say_failed()
        finally:
            threading._shutdown()
            _child.log(f"process exiting with exitcode {code}")
            _child.flush()
        return code

    @staticmethod
    def _after_fork():
        _child.forget_parents_affairs()

    def _take_over(self, parent_sentinel):
        """Make this the current process, which has a parent and no children."""
        if self._start_method is not None:
            _force_start_method(self._start_method)
        process._process_counter = itertools.count(1)
        process._children = set()
        if self._start_method != "forkserver":
            # The template has done it.
            _child.close_stdin()
        # What waits for the end of the old object must not do so before this process has forgotten what its parent wanted to be done.
        old = process._current_process
        process._current_process = self
        process._parent_process = process._ParentProcess(self._parent_name, self._parent_pid, parent_sentinel)
        threading.main_thread()._set_native_id()
        self._after_fork()
        del old
        _child.log("child process calling self.run()")


class Process(BaseProcess):
    """A process, started by the start method of the default context."""

    _start_method = None

    @staticmethod
    def _Popen(process_obj):
        return _default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork():
        return _default_context.get_context().Process._after_fork()


class DefaultContext(BaseContext):
    """The context behind the functions of the package; its start method can be set once."""

    Process = Process

    def __init__(self, context):
        self._default_context = context
        self._actual_context = None

    def get_context(self, method=None):
        """Return the context of a start method; without one, of the default method."""
        if method is not None:
            return super().get_context(method)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def set_start_method(self, method, force=False):
        """Set the start method, once for the program."""
        if self._actual_context is not None and not force:
            raise RuntimeError("context has already been set")
        if method is None and force:
            self._actual_context = None
            return
        self._actual_context = self.get_context(method)

    def get_start_method(self, allow_none=False):
        """Return the start method; `None`, if allowed and none was set."""
        if self._actual_context is None and allow_none:
            return None
        return self.get_context()._name

    def get_all_start_methods(self):
        """Return the names of the start methods, the default first."""
        return _stdlib._default_context.get_all_start_methods()


class ForkProcess(BaseProcess):
    """A process made by forking this one."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj):
        from .popen_fork import Popen

        return Popen(process_obj)


class SpawnProcess(BaseProcess):
    """A process made by starting a fresh interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj):
        from .popen_spawn_posix import Popen

        return Popen(process_obj)

    @staticmethod
    def _after_fork():
        pass


class ForkServerProcess(BaseProcess):
    """A process forked from a fresh interpreter that is kept for that."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj):
        from .popen_forkserver import Popen

        return Popen(process_obj)


class ForkContext(BaseContext):
    """Everything, with processes that are forked."""

    _name = "fork"
    Process = ForkProcess


class SpawnContext(BaseContext):
    """Everything, with processes that are spawned."""

    _name = "spawn"
    Process = SpawnProcess


class ForkServerContext(BaseContext):
    """Everything, with processes that a forkserver forks."""

    _name = "forkserver"
    Process = ForkServerProcess


_concrete_contexts = {context._name: context for context in (ForkContext(), SpawnContext(), ForkServerContext())}
_default_context = DefaultContext(_concrete_contexts[_stdlib._default_context._default_context._name])


# The start methods other than fork that this process, or one that forked it, has asked for.
_others_than_fork = set()


def only_forks():
    """Say whether all processes that this one knows of are forks."""
    default = _default_context._actual_context or _default_context._default_context
    return not _others_than_fork and default._name == "fork"


def _force_start_method(method):
    _default_context._actual_context = _default_context.get_context(method)
