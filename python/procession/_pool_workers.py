"""The worker processes of pools and executors: what they run, and how they are started.

Every worker has this module, and needs no other of the pool's: it imports little.
"""

import signal
import sys
from multiprocessing import process

from . import _procession, util


def in_words(exc):
    """Return an exception's type, text and traceback, as text; take the traceback's frames away from it."""
    import traceback

    kind = type(exc)
    lines = traceback.format_exception(kind, exc, exc.__traceback__)
    exc.__traceback__ = None
    try:
        text = str(exc)
    except Exception:
        text = "<no text>"
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."), text, "".join(lines)


class Preserved:
    """Is unpickled as the exception it was made of, without calling its class: one whose `__init__` takes other arguments than it hands on cannot be made by `type(exc)(*exc.args)`, which pickle tries."""

    def __init__(self, exc):
        self._exc = exc

    def __reduce__(self):
        return _preserve, (type(self._exc), self._exc.args, self._exc.__dict__)


def _preserve(kind, args, attributes):
    exc = kind.__new__(kind, *args)
    exc.args = args
    exc.__dict__.update(attributes)
    return exc


def _pass_over_interrupt(signum, frame):
    """Do nothing about the first Ctrl-C, which is the program's to handle; the second interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _initialize(initializer, initargs, log):
    if initializer is None:
        return
    try:
        initializer(*initargs)
    except BaseException:
        if log:
            from concurrent.futures import _base

            _base.LOGGER.critical("Exception in initializer:", exc_info=True)
        raise


def worker(boot, mask=(), initializer=None, initargs=(), log=False):
    """Be a worker: what its process runs.

    Args:
        boot: What the pool has it know.
        mask: The signals to be blocked: a worker may have been started by a thread that blocks all.
        initializer: Called first.
        initargs: Its arguments.
        log: Whether an exception of the initializer is logged, as `concurrent.futures` does.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _pass_over_interrupt)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    # It is ended with its pool, and so are pools of its own: it may have children.
    process.current_process()._config["daemon"] = False
    try:
        code = _procession.work(boot, lambda: _initialize(initializer, initargs, log))
    except ValueError as error:
        # The pool is gone already.
        util.debug("worker was not needed: %s", error)
        code = 0
    sys.exit(code)


class Staff:
    """Starts the worker processes of a pool, and lists them. Knows nothing of the pool, which can go while workers live."""

    #: What takes the place of "Process" in the names of workers.
    _name = "PoolWorker"

    def __init__(self, make, ctx, arguments):
        self._make = make
        self._ctx = ctx
        self._arguments = (signal.pthread_sigmask(signal.SIG_BLOCK, ()), *arguments)
        self.workers = []

    def hire(self, boot, name):
        """Start a worker; its pid."""
        w = self._make(self._ctx, target=worker, args=(boot, *self._arguments))
        w.name = w.name.replace("Process", self._name)
        w.daemon = True
        # Ctrl-C finds a worker that we know of, or none; and one that can pass over it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            w.start()
            self.workers.append(w)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        util.debug("added worker")
        return w.pid

    def part(self, pid):
        """Reap a worker that has ended; its exit code."""
        for w in self.workers:
            if w.pid == pid:
                util.debug("cleaning up worker %d", pid)
                w.join()
                self.workers.remove(w)
                return w.exitcode
        return None

    def dismiss(self):
        """End all workers, for a pool that did not come up."""
        for w in self.workers:
            if w.exitcode is None:
                w.terminate()
        for w in self.workers:
            w.join()

    def retire(self):
        """Start no more workers: forget the initializer, which may lead to the pool."""
        self._arguments = ()
